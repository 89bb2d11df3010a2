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
#include "policy/retention.h"
#include "vault/vault.h"

namespace kuramori {

// How long copies of a resource are kept in the replica. A snapshot that would not be kept is not copied.
struct CopyRule {
  KeepRules keep;                // none: as long as in the source
  std::optional<Period> window;  // the base of the window stays too
  std::string timezone;
  // Weekly, monthly or yearly points alone: nothing else is brought, not even the newest snapshot or the WAL
  // that follows. Every other rule is of a vault that is to stay close to the first.
  bool is_archive() const {
    return (keep.weekly || keep.monthly || keep.yearly) && !keep.all && !keep.hourly && !keep.daily &&
           keep.last == 0 && !window;
  }
};

struct CopyRequest {
  std::string resource;                   // "" — all
  std::map<std::string, CopyRule> rules;  // by resource; those not here are kept as in the source
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

// Until when the second vault would keep a snapshot; nothing: it would not. `all_started_ns`: when each of
// the first vault's began.
std::optional<int64_t> copy_kept_until(const CopyRule& rule, int64_t started_ns, int64_t source_until_ns,
                                       const std::vector<int64_t>& all_started_ns,
                                       const std::vector<ExistingSnapshot>& existing, Time now);

// kRefused: the vaults are of different key families, or are one. kInterrupted: what was sent stays, and the
// next run goes on.
Result<CopyOutcome> copy_vault(Vault& source, Vault& replica, const CopyRequest& request, Reporter& reporter,
                               std::stop_token stop);

}  // namespace kuramori
