// A vault's keys: made for a role, listed, taken back. Only the owner makes and revokes.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "vault/vault.h"

namespace kuramori {

struct KeyEntry {
  SignerId id;
  Role role = Role::kOwner;
  std::string name;
  int64_t granted_ns = 0;  // 0: the owner's, which needs no grant
  std::optional<int64_t> revoked_ns;
  std::string revoked_reason;
  bool in_use = false;  // it is the one this program was given
  std::string defect;   // why its grant cannot be believed
};
// The owner first, then by role and name.
Result<std::vector<KeyEntry>> list_keys(Vault& vault);
// By name, or by the beginning of the id (≥ 4 characters). kUsage: none, or several.
Result<KeyEntry> find_key(Vault& vault, const std::string& wanted);

struct NewKeyRequest {
  Role role = Role::kWriter;
  std::string name;  // "" — role and host
  std::string to;    // the file, which must not exist; "" is kUsage
  const Secret* passphrase = nullptr;
  // All 40 digits of an OpenPGP key that gpg knows: the file is then encrypted to it, and nothing lies in
  // clear.
  std::string gpg_fingerprint;
};
// The file is durable before the grant stands: a key without a grant is nothing, a grant whose key got lost
// is only clutter.
Result<KeyEntry> new_key(Vault& vault, const NewKeyRequest& request);

struct RevokeOutcome {
  KeyEntry key;
  size_t counted = 0;  // signed objects that stood, and go on counting
  size_t wal = 0;      // WAL objects that stood
};
// kRefused: the owner's own key, or revoked already. Reads every small object of the vault.
Result<RevokeOutcome> revoke_key(Vault& vault, const KeyEntry& key, const std::string& reason,
                                 Reporter& reporter);

// Puts the next audit record: what was done and leaves no other trace in the vault.
Result<void> put_audit(Vault& vault, const std::string& action, const std::string& object,
                       const std::string& detail);

}  // namespace kuramori
