// What a vault remembers of configurations that were applied: who looks next, on whatever machine, sees what
// changed since (docs/adr/0021). The vault is the one place that all who share a configuration share.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "policy/config.h"
#include "policy/config_text.h"
#include "vault/vault.h"

namespace kuramori {

// The one that was applied last under this name; nothing: none was. kDamaged: what stands there cannot be
// believed.
Result<std::optional<AppliedRecord>> last_applied(Vault& vault, const std::string& configuration);
// Puts it, reads it back and compares. kRefused: somebody else applied something at the same moment, or the
// key's role may not.
Result<void> record_applied(Vault& vault, const AppliedRecord& record);

// The text of the file at `path`, without secrets.
Result<std::string> canonical_text_of(const std::string& path);

// The file is not what was applied.
struct Drift {
  AppliedRecord applied;
  std::vector<ConfigChange> changes;
};
// Nothing: it is, or nothing was ever applied to this vault.
Result<std::optional<Drift>> drift_in(Vault& vault, const Config& config);

}  // namespace kuramori
