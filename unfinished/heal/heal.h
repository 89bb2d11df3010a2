// Healing: what a scrub found damaged or missing comes back from another vault of the family that has it
// whole.
//
// Packs, maps and live records come as new incarnations, under a session, and are read back; only then does
// the damaged object go, so that readers find the whole one. That is the one removal that no sweep decides:
// another incarnation of the same bytes stands by then, and collectors keep every incarnation of what
// something needs. WAL keeps its name: the damaged object is removed first, and the removal must be
// confirmed.
#pragma once
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "vault/scrub.h"
#include "vault/vault.h"

namespace kuramori {

struct HealOutcome {
  std::vector<std::string> healed;  // objects
  struct Left {
    std::string object, why;
  };
  std::vector<Left> left;  // damage that no copy could mend
  uint64_t bytes = 0;      // sent
};
// `copies`: other vaults of the family, the likeliest first. Findings that are no damage are passed over.
Result<HealOutcome> heal_vault(Vault& vault, const std::vector<Vault*>& copies,
                               const std::vector<ScrubFinding>& findings, Reporter& reporter,
                               std::stop_token stop);

}  // namespace kuramori
