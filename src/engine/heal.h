// Healing: what a scrub found damaged or missing comes back from another vault of the family that has it
// whole.
//
// Packs, maps and live records come as new incarnations (vault/healer.h says in which order, and why that
// loses nothing). WAL keeps its name, and a name can only be put where nothing stands: the damaged object is
// removed first, and only once a copy is known to hold it whole. Killed in between, that stretch is missing
// here instead of damaged: useless before, useless now, and the next run brings it back, as it brings back
// any WAL that is missing here between what stands.
#pragma once
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "vault/scrub.h"
#include "vault/vault.h"

namespace kuramori {

// Another vault to take from, the likeliest first.
struct HealCopy {
  std::string name;  // for messages
  Vault* vault;
};

struct HealOutcome {
  struct Healed {
    std::string object, note;  // "" or what is worth knowing of it
  };
  std::vector<Healed> healed;
  struct Left {
    std::string object, why;
  };
  std::vector<Left> left;  // damage that could not be mended
  uint64_t bytes = 0;      // sent
};

// kRefused, in words: the key in use may not.
Result<void> may_heal(Vault& vault);
// `found`: of a scrub just done; afterwards the structure is looked at again, so that what only then shows
// (the packs of a live record that was damaged) is healed too, and nothing is told as healed that is not.
// kInterrupted: what was healed stays so, the next run goes on.
Result<HealOutcome> heal_vault(Vault& vault, const std::vector<HealCopy>& copies, const ScrubResult& found,
                               Reporter& reporter, std::stop_token stop);

}  // namespace kuramori
