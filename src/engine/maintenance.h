// Keeping a vault in order: prune what is due, collect what nothing refers to, hold, extend, disown.
#pragma once
#include <algorithm>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/snapshots.h"
#include "policy/promises.h"
#include "policy/retention.h"
#include "vault/collector.h"
#include "vault/compactor.h"
#include "vault/pruner.h"

namespace kuramori {

// What a prune of the vault would decide upon, a resource each, as it stands now.
struct PruneFacts {
  std::vector<PruneQuestion> questions;
  std::map<SnapshotId, std::string> commit_names;
  std::map<SnapshotId, Snapshot> labelled;  // those with the hold of their label
  // By resource: named by a prune that is not finished, and by none of the above.
  std::map<std::string, std::vector<Snapshot>> going;
};
Result<PruneFacts> prune_facts(Vault& vault, const Promises& promises);
// The same of one resource, as far as a listing tells: not what the store says of their age.
PruneQuestion prune_question(const SnapshotList& list, const ResourceRecord& resource, const Promise& promise,
                             Time now);

struct PruneOutcome {
  struct Resource {
    std::string name;
    std::vector<PruneLine> lines;  // oldest first, each with its reason
    std::optional<Error> refused;  // more would go than its budget allows: nothing of it did
  };
  std::vector<Resource> resources;
  PruneReport report;  // what really happened; in a dry run nothing
  // Their label's hold was taken back, because a newer one of the label is proven.
  std::vector<Snapshot> reviewed;
};
enum class Budgets { kKept, kOverridden };  // overridden: somebody said yes to what goes beyond
// kRefused when the clocks cannot be believed; then nothing is pruned.
Result<PruneOutcome> prune_vault(Vault& vault, const Promises& promises, Pruner::Mode mode,
                                 Budgets budgets = Budgets::kKept);

struct CollectRequest {
  bool dry_run = false;
  // A session that did nothing for so long is taken for dead and fenced.
  Duration dead_after = std::chrono::hours(72);
  double sweep_share_max = kSweepShareMaxDefault;
  // Packs of which little is needed are thinned, as long as the breaker allows it.
  bool compact = true;
  std::stop_token stop = {};
};
struct CollectOutcome {
  CollectReport collected;  // of all that was done
  CompactReport compacted;
  // Of the packs that were thinned, what still stands whole beside the thin ones: until the sessions are over
  // that the collection waits for, a lock ends, or the next collection.
  uint64_t pending_bytes() const {
    const uint64_t gone = std::min(collected.replaced.bytes, compacted.stored_bytes);
    return compacted.stored_bytes - gone;
  }
};
Result<CollectOutcome> collect_vault(Vault& vault, const CollectRequest& request);

// Returns the hold's id.
Result<std::string> add_hold(Vault& vault, const Snapshot& snapshot, const std::string& name,
                             const std::string& reason);
// Releases every hold of that name; kUsage when there is none.
Result<void> remove_hold(Vault& vault, const Snapshot& snapshot, const std::string& name,
                         const std::string& reason = "removed by hand");

// A labelled snapshot that waits for its review: which newer one of its label there is, and whether that is
// proven (then the next prune needs no review).
struct AwaitedReview {
  Snapshot snapshot;
  std::string resource;
  std::optional<Snapshot> newer;  // the newest that stays for the label's sake, if that is another
  bool newer_is_proven = false;
};
// Of the resource of this name, "" of all; oldest first.
Result<std::vector<AwaitedReview>> awaited_reviews(Vault& vault, const std::string& resource);
// Somebody looked at it: it is kept no longer for its label's sake. kRefused for the newest of its label,
// kUsage for one that waits for no review.
Result<void> review_snapshot(Vault& vault, const SnapshotId& snapshot);
// Keeps the snapshot until `keep_until`; kRefused when that is sooner than it is kept now.
Result<void> extend_snapshot(Vault& vault, const Snapshot& snapshot, Time keep_until);
// The owner's word that a commit which cannot be verified may be passed by.
Result<void> disown_commit(Vault& vault, const std::string& commit_name, const std::string& reason);

}  // namespace kuramori
