// What verbs that keep a vault do for its locks.
#pragma once
#include "cli/vault_access.h"

namespace kuramori {

// Extends the locks of what the vault still needs, where the vault has `lock:`. The exit status: 3 when some
// could not be extended.
Result<int> keep_locked(Context& context, const VaultChoice& choice, Vault& vault);

// The hold `name` was put on the snapshot in the vault, or taken off: the store's own follows, where the
// store has one and these credentials may. The vault's keeps keepers from pruning, the store's keeps
// everybody from deleting.
Result<void> follow_hold(Context& context, Vault& vault, const Snapshot& snapshot, const std::string& name,
                         bool on);

// What the configuration promises otherwise than somebody may think, as notes.
Result<void> say_remarks(Context& context);

}  // namespace kuramori
