// Prune: snapshots are no longer visible. Nothing is deleted here; collection follows.
//
// Numbered and in two phases. The number (put if absent) makes prunes follow one another, so that two pruners
// who each see two snapshots cannot remove one each. The intent stands before the holds and proofs are read,
// so that a hold is either seen here, or its holder sees the intent. A commit key is never removed: the final
// stands beside it for ever.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "vault/ledger.h"

namespace kuramori {

struct PruneProposal {
  std::string commit;
  std::string reason;
};
// What should go, of these visible snapshots. Policy is the caller's; what may not go is decided here.
using PrunePolicy = std::function<Result<std::vector<PruneProposal>>(const CommitListing&)>;

struct KeptSnapshot {
  std::string commit;
  std::string reason;  // "held", "the only snapshot of its resource", "the last proven", "retained until …"
};

struct PruneReport {
  uint64_t number = 0;              // of the last prune finished; 0: nothing was to be done
  int finished_others = 0;          // prunes of others that were found unfinished, and finished
  std::vector<std::string> pruned;  // by this run
  std::vector<KeptSnapshot> kept;   // proposed and not pruned
};

constexpr int kPruneRoundsMax = 16;  // times a pruner starts over because another was first

class Pruner {
 public:
  explicit Pruner(const Protocol& protocol) : ledger_(protocol) {}
  enum class Mode { kPrune, kDryRun };
  // kDamaged: something cannot be verified; nothing is pruned.
  Result<PruneReport> run(const PrunePolicy& policy, Mode mode = Mode::kPrune);

 private:
  // Why each of these proposed commits must stay, by holds, proofs and retention as they are now.
  Result<std::vector<KeptSnapshot>> read_protected(const std::vector<std::string>& intent,
                                                   const CommitListing& commits);
  // P3, P4 for an intent that stands: returns what the stored final says.
  Result<std::vector<std::string>> finish(uint64_t n, PruneReport& report);
  // Two places: a final counts once the objects hold it and no newer ledger was begun.
  Result<void> make_certain();
  Result<void> remove_keys(const std::vector<std::string>& commits);  // a planted bug

  Ledger ledger_;
};

}  // namespace kuramori
