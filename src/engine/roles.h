// What each role may do: one table, asked before anything is begun. The vault's records are held to the same
// by their signatures (vault/signers.h) and the store by its policy (engine/policy.h); this one refuses in
// words.
#pragma once
#include <string>

#include "vault/vault.h"

namespace kuramori {

enum class Act : uint8_t {
  kAddSnapshots,  // backup
  kArchive,       // wal push
  kReadContent,   // restore, window, wal get
  kProve,         // drill
  kPrune,
  kCopy,  // into it: copy, heal
  kCollect,
  kExtend,
  kHold,
  kRelease,
  kScrub,
  kDisown,
  kApply,       // a configuration
  kManageKeys,  // key new, revoke, policy, kit
};

// kRefused, in words: the key in use has a role that may not; its grant is not in this vault, or was taken
// back.
Result<void> must_be_allowed(Vault& vault, Act act);
// The same for a vault that has been open for long: a grant that was taken back meanwhile is seen.
Result<void> must_be_allowed_still(Vault& vault, Act act);
// What a role may, for people: "backup, wal push".
std::string_view verbs_of(Role role);
// The role alone decides; nothing is asked of the store.
bool role_may(Role role, Act act);

}  // namespace kuramori
