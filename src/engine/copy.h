// Copying a vault to another of the same key family: snapshots, their WAL and everything after it, holds and
// proofs. Nothing is opened: a keeper's key is enough. What stands there already is not sent again, so a copy
// that was stopped goes on where it was; what was sent is read back before anything relies on it.
//
// The order: signers and resources; snapshots, oldest first, each with the WAL it needs before its commit;
// the WAL that follows; what people and drills said of the snapshots. So whatever the replica shows can be
// restored there with the first vault gone.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "policy/promises.h"
#include "vault/vault.h"

namespace kuramori {

struct CopyRequest {
  std::string resource;  // "" — all
  CopyRules rules;       // of resources that are not in it, copies are kept as in the source
  enum class Mode { kCopy, kMeasure } mode = Mode::kCopy;
};

// What the replica lacks.
struct CopyLag {
  uint64_t snapshots = 0, wal_objects = 0;
  uint64_t bytes = 0;          // about: of snapshots what each one added
  std::optional<Time> oldest;  // since when the oldest of it exists
  bool none() const { return snapshots == 0 && wal_objects == 0; }
};

struct CopyOutcome {
  uint64_t snapshots = 0, wal_objects = 0;      // copied in this run
  uint64_t sent_objects = 0, sent_bytes = 0;    // with their WAL
  uint64_t found_objects = 0, found_bytes = 0;  // left by an earlier run, and read back
  std::vector<std::string> skipped;             // what could not be copied, and why: the caller exits 3
  std::set<SnapshotId> held;                    // whose holds, or releases, were copied
  CopyLag before, after;
  double seconds = 0;
};

// kRefused: the vaults are of different key families, or are one. kInterrupted: what was sent stays, and the
// next run goes on.
Result<CopyOutcome> copy_vault(Vault& source, Vault& replica, const CopyRequest& request, Reporter& reporter,
                               std::stop_token stop);

}  // namespace kuramori
