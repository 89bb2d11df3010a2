#include "engine/new_snapshot.h"

#include "vault/holds.h"
#include "vault/signers.h"

namespace kuramori {

const Snapshot* newest_to_build_on(const Vault& vault, const SnapshotList& list) {
  const SignerId self = signer_id(vault.keys().signing->verify_key());
  const Snapshot* newest = nullptr;
  for (const Snapshot& snapshot : list.snapshots) {
    if (snapshot.signer == self || snapshot.signer == signer_id(vault.keys().owner_verify))
      newest = &snapshot;
  }
  return newest;
}

std::string complete_commit(CommitRecord& commit, const SnapshotWishes& wishes, const SnapshotList& list,
                            Time now) {
  commit.plan = wishes.plan;
  commit.label = wishes.label;
  commit.tags = wishes.tags;
  if (!list.snapshots.empty()) {
    const Snapshot& previous = list.snapshots.back();
    commit.previous = previous.commit_name;
    commit.previous_digest = previous.commit_digest;
  }
  if (wishes.keep) {
    commit.keep_until_ns = to_unix_ns(later(now, *wishes.keep));
    return "as told by --keep";
  }
  std::vector<ExistingSnapshot> existing;
  for (const Snapshot& snapshot : list.snapshots)
    existing.push_back({from_unix_ns(snapshot.commit.started_ns), from_unix_ns(snapshot.keep_until_ns)});
  const KeepDecision keep = decide_keep_until(wishes.rules, wishes.timezone, existing, now);
  commit.keep_until_ns = to_unix_ns(keep.until);
  return keep.reason;
}

Result<void> still_wanted(const Protocol& protocol, const SnapshotWishes& wishes) {
  return wishes.lease ? must_still_hold(protocol, *wishes.lease) : Result<void>{};
}

Result<void> hold_until_reviewed(const Protocol& protocol, const SnapshotId& snapshot,
                                 const SnapshotWishes& wishes) {
  if (!wishes.until_reviewed || wishes.label.empty()) return {};
  TRY(place_hold(protocol, snapshot, label_hold(wishes.label), "kept until it is reviewed"));
  return {};
}

}  // namespace kuramori
