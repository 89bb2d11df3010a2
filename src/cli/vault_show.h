// What a vault is: the document of `vault init` and `vault show`.
#pragma once
#include "cli/vault_access.h"

namespace kuramori {

enum class Around {
  kNothing,  // the vault alone
  kOthers,   // and the other configured vaults: copies, and what would be lost with each site
};
// How much is stored in a vault, by a listing of everything: older versions that a bucket keeps are not in
// it.
struct StoredAmount {
  uint64_t objects = 0, bytes = 0;
};
Result<StoredAmount> measure_stored(Vault& vault);

// `key_was_made`: "" or what to say of it behind the key file's role.
Result<int> print_vault(Context& context, const VaultChoice& choice, Vault& vault,
                        std::string_view key_was_made, Around around,
                        const std::optional<StoredAmount>& stored = {});

}  // namespace kuramori
