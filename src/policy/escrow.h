// Whether a vault's owner's key is known to lie anywhere but with those who use it. The control
// (compliance.h) and the alarm (troubles.h) both ask here, of what the vaults themselves say
// (vault/audit_log.h). Pure.
#pragma once
#include <optional>

#include "base/units.h"

namespace kuramori {

// So long after it was made a vault may be without a recovery kit before anybody is told.
constexpr Duration kKitWithin = std::chrono::hours(24);

// When the last kit with this vault's key was made. Vaults of one family have one owner's key, so a kit of
// any of them is a kit of all; of a vault whose family is not known ("") only its own counts.
template <typename Vaults, typename Vault>
std::optional<Time> last_kit(const Vaults& all, const Vault& vault) {
  std::optional<Time> last = vault.kit_made;
  for (const auto& other : all) {
    if (vault.family.empty() || other.family != vault.family || !other.kit_made) continue;
    if (!last || *other.kit_made > *last) last = other.kit_made;
  }
  return last;
}

}  // namespace kuramori
