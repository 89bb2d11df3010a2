// Object Lock over a vault's life (S3 Object Lock; `lock:` of a vault).
//
// The store locks every object for the lock's length when it is put. That is as long as nobody looks; whoever
// keeps the vault looks at every prune and collection:
//   - what a visible snapshot needs is locked to that snapshot's `keep_until` (V22);
//   - what has no end of its own — the vault's identity, keys, commits, holds, the WAL of the window,
//   snapshots that are
//     kept for ever, held or overdue — is locked for the whole length again when half of it has passed.
// Nothing is locked further ahead than `ahead_max`: a writer's word alone shall not lock bytes for a century.
// A writer builds on a snapshot only if all it needs is locked past the next time somebody must have looked;
// else it stores anew. What is locked is found through live records: no key to the content is needed.
#pragma once
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "base/units.h"
#include "engine/snapshots.h"

namespace kuramori {

// The lock that a location asks for; nothing where it asks for none.
Result<std::optional<Period>> lock_of(const std::string& location);

struct LockReport {
  uint64_t looked_at = 0;  // objects
  uint64_t extended = 0;
  uint64_t denied = 0;  // the key may not, or the store would not
  std::string first_denied;
  uint64_t unread = 0;              // snapshots of which nobody can tell what they need
  std::vector<std::string> beyond;  // snapshots kept past `ahead_max`, in words
};
struct LockOptions {
  Period lock;
  Time ahead_max;
  std::stop_token stop;
};
// kRefused: the store locks nothing there.
Result<LockReport> extend_locks(Vault& vault, const LockOptions& options, Reporter& reporter);

// Whether all that the snapshot needs is locked at least until `until`. Why not, in words; empty: it is.
Result<std::string> why_not_locked(Vault& vault, const Snapshot& snapshot, Time until, std::stop_token stop);

// Half of the lock from now: whoever keeps the vault must have looked again by then.
Time next_look(Period lock, Time now);

// Puts the store's legal hold on all that the snapshot needs, or takes it off — but not off what another
// snapshot that is held needs too. A store that holds nothing is left alone: the hold in the vault stands all
// the same. Returns the number of objects; kDenied when these credentials may not, kPartial when only some
// could be reached.
Result<uint64_t> hold_in_store(Vault& vault, const Snapshot& snapshot, bool on);

}  // namespace kuramori
