// A probe of the places a vault stands on, or is to stand on.
#pragma once
#include <optional>
#include <string>

#include "engine/open_vault.h"
#include "engine/probe.h"

namespace kuramori {

struct VaultProbe {
  ProbeReport objects;
  std::optional<ProbeReport> ledger;
  std::optional<Error> refused;  // why no vault can stand there
  std::string recorded;          // the record of it in the vault; empty: there is no vault yet
};
// Records what it found where a vault stands that the key opens.
Result<VaultProbe> probe_vault(const VaultAddress& address, std::stop_token stop, Reporter& reporter);

// What the store was last found to do: by a later probe, else when the vault was made.
Result<std::string> latest_probe_words(Vault& vault);

}  // namespace kuramori
