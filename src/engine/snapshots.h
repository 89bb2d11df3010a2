// Which snapshots a vault has, with everything a person or a decision needs to know of each.
#pragma once
#include <set>
#include <vector>

#include "vault/ledger.h"
#include "vault/vault.h"

namespace kuramori {

struct SnapshotList {
  std::vector<ResourceRecord> resources;
  std::vector<Snapshot> snapshots;         // oldest first
  std::vector<Unverifiable> unverifiable;  // commits that cannot be read or believed: shown, never hidden
  // Holds and proofs that cannot be read: shown too. Such a hold holds; such a proof proves nothing, but its
  // snapshot is not pruned either. Neither keeps anybody from restoring.
  std::vector<Unverifiable> unreadable;
  std::set<SnapshotId> unreadable_proofs;
};
// `resource`: only this one's; nothing — all. A summary does not hold what a snapshot was built on either.
// Costs a few requests where a catalog stands (vault/overview.h),
// one more for each record since; what this machine opened before (vault/opened_memory.h) is not read again.
Result<SnapshotList> list_snapshots(Vault& vault, const std::optional<ResourceId>& resource,
                                    Detail detail = Detail::kWhole);
// The same of the resource of this name; kUsage when there is none.
struct ResourceSnapshots : SnapshotList {
  ResourceRecord resource;
};
Result<ResourceSnapshots> list_snapshots_of(Vault& vault, std::string_view resource);

// One snapshot among all, or of the resource of this name, and that one alone with every particular; errors
// are those of find_snapshot and find_resource.
struct FoundSnapshot {
  Snapshot snapshot;
  std::string resource;  // its name
};
Result<FoundSnapshot> find_snapshot_in(Vault& vault, const std::optional<std::string>& resource,
                                       std::string_view wanted);

// "latest", or a prefix (≥ 4 characters) of an id that only one snapshot has; kUsage in words otherwise.
Result<const Snapshot*> find_snapshot(const std::vector<Snapshot>& snapshots, std::string_view wanted);

// A fact of a commit; kDamaged when a snapshot of its kind must have it.
Result<std::string> fact(const CommitRecord& commit, const std::string& name);
Result<uint64_t> number_fact(const CommitRecord& commit, const std::string& name);

}  // namespace kuramori
