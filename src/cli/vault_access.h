// From the vault a command line chose to an opened one, and from what a person typed to a snapshot in it.
#pragma once
#include <memory>

#include "cli/context.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "engine/snapshots.h"

namespace kuramori {

// The passphrase, when the key is wrapped: from the configuration, else KURAMORI_PASSPHRASE_FILE, else
// systemd's credential kuramori.passphrase, else asked for on a terminal. Borrows both.
VaultAddress address_of(Context& context, const VaultChoice& choice);
Result<std::unique_ptr<Vault>> open_chosen(Context& context, const VaultChoice& choice);
// For its archive alone: the ledger is not asked for.
Result<std::unique_ptr<Vault>> open_for_wal(Context& context, const VaultChoice& choice);

// With --if-allowed and a key whose role may not do this: says so, and true. Whoever asked for it is done.
bool is_skipped(Context& context, const Vault& vault, Act act, const std::string& shown_vault);
// Says so: nothing was done, and that is right.
void say_skipped(Context& context, const std::string& why);

// "3f2a", "orders-db@latest", "orders-db@3f2a": one snapshot of this vault.
Result<FoundSnapshot> find_typed_snapshot(Vault& vault, const std::string& typed);

}  // namespace kuramori
