// Who may sign what in a vault.
//
// The owner's public key is the root of trust; every other key counts because a record signed by the owner
// says so (signers/<id>/grant), for one role. A grant is taken back by a second record
// (signers/<id>/revoked). That one lists what the signer had made and stood when the owner looked: this goes
// on counting, everything else of the signer does not, whatever times it claims. docs/vault-format.md,
// "Grants"; docs/keys.md for people.
#pragma once
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "crypto/keys.h"
#include "store/store.h"
#include "vault/key_bundle.h"
#include "vault/records.h"

namespace kuramori {

// Whether a role's signature under a record of this type is worth anything. Types this program does not know
// yet are for the code that reads them to judge.
bool may_sign(Role role, RecordType type);
// Whether WAL objects, which no commit binds, are believed of this role.
bool may_archive(Role role);

struct Revocation {
  std::string reason;
  int64_t at_ns = 0;
  std::unordered_set<Digest> counted;   // digests of objects
  std::unordered_set<std::string> wal;  // names
};

struct Signer {
  SignerId id;
  VerifyKey key;
  Role role = Role::kOwner;
  std::string name;
  int64_t granted_ns = 0;
  std::optional<Revocation> revoked;

  // Whether what it signed still counts: an object with this digest; a WAL object of this name.
  bool counts(const Digest& object) const { return !revoked || revoked->counted.contains(object); }
  bool counts_wal(const std::string& object) const { return !revoked || revoked->wal.contains(object); }
};

// Looks a signer up when it is first met, and remembers it as long as the vault is open: a grant or a
// revocation made meanwhile is seen by the next program. Any number of threads.
class Signers {
 public:
  // Borrows the bundle. Until look_in() only its owner is known.
  explicit Signers(const KeyBundle& keys);
  // Borrows the store, where grants stand.
  void look_in(Store& store) { store_ = &store; }

  // Looks this one up in `store`, a view of the same records that may have them at hand. What goes wrong is
  // find()'s to tell, when the signer is needed.
  void meet(const SignerId& id, Store& store) const;

  // kDamaged: the owner granted it nothing. kRefused, kUnknown and so on: it could not be found out. The
  // signer stays where it is as long as this object.
  Result<const Signer*> find(const SignerId& id) const;
  // find(), and what it says of this object: kDamaged when its signature does not fit `message`.
  Result<const Signer*> verified(const SignerId& id, ByteView message, const Signature& signature) const;

 private:
  Result<Signer> read(const SignerId& id, Store* store) const;

  const KeyBundle& keys_;
  Store* store_ = nullptr;
  mutable std::mutex mutex_;
  mutable std::map<SignerId, Signer> known_;
};

}  // namespace kuramori
