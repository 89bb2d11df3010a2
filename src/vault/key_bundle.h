// A key bundle: what one role of one key family holds, and how it is kept in a file.
//
// The file is text: a few plain lines, the body in base64, and a check line, so that a truncated or edited
// file is noticed before any of it is used. The body is plain (a file with mode 0600) or wrapped under a
// passphrase (Argon2id → XChaCha20-Poly1305). docs/vault-format.md, "Keys".
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "crypto/keys.h"

namespace kuramori {

enum class Role : uint8_t { kOwner = 1, kWriter = 2, kReader = 3, kKeeper = 4 };
std::string_view name_of(Role role);
std::optional<Role> role_of(std::string_view name);

struct KeyBundle {
  Role role = Role::kOwner;
  FamilyId family;
  std::string name;                   // for people: "tokyo.owner"
  PublicKey reader_public;            // packs are sealed to it
  std::optional<BoxKeyPair> reader;   // owner and reader
  Secret structure;                   // family structure key; resources' keys are derived from it
  Secret chunk;                       // content identity (chunk store); writers of one domain share it
  std::optional<SigningKey> signing;  // this bundle's own
  VerifyKey owner_verify;             // the root of trust

  static KeyBundle new_owner(std::string name, Random& random);
  // What a role of the owner's family holds, with a signing key of its own. The signing key counts nowhere
  // until the owner has granted it the role (vault/signers.h).
  static KeyBundle new_role(const KeyBundle& owner, Role role, std::string name, Random& random);
  KeyBundle clone() const;
};

// Asked only when the file is wrapped. An error stops the opening.
using PassphraseSource = std::function<Result<Secret>()>;

// `passphrase`: nothing — the body is plain.
Result<std::string> write_bundle(const KeyBundle& bundle, const Secret* passphrase,
                                 Argon2Parameters parameters, Random& random);
// kUsage: damaged, truncated, wrong passphrase.
Result<KeyBundle> read_bundle(std::string_view text, const PassphraseSource& passphrase);
Result<KeyBundle> read_bundle_file(const std::string& path, const PassphraseSource& passphrase);

}  // namespace kuramori
