// A probe of the places a vault stands on, or is to stand on.
#pragma once
#include <optional>
#include <string>

#include "engine/open_vault.h"
#include "engine/probe.h"

namespace kuramori {

struct PlacesProbe {
  ProbeReport objects;
  std::optional<ProbeReport> ledger;
  std::optional<Error> refused;  // why no vault can stand there

  std::string in_words() const;
};
// Each place as anybody would meet it: what the configuration asks to be locked is not locked while it is
// tried, or the trials would stay as long. `through`: another gateway of the same store, what one confirmed
// the other must show; "" — none.
Result<PlacesProbe> probe_places(const VaultAddress& address, ProbeOptions options, Reporter& reporter,
                                 const std::string& through = {});

// Whether `address.ledger` can be the ledger of a vault; kRefused in words otherwise.
Result<void> probe_ledger(const VaultAddress& address, ProbeOptions options, Reporter& reporter);

struct VaultProbe {
  PlacesProbe places;
  std::string recorded;  // the record of it in the vault; empty: there is no vault yet
};
// Records what it found where a vault stands that the key opens.
Result<VaultProbe> probe_vault(const VaultAddress& address, ProbeOptions options, Reporter& reporter,
                               const std::string& through = {});

// Whether anything but a probe's trials stands there.
Result<bool> is_taken(Store& store);

// What the store was last found to do: by a later probe, else when the vault was made.
Result<std::string> latest_probe_words(Vault& vault);

}  // namespace kuramori
