// Leases: which of several daemons with the same key does a job's next run.
//
// `leases/<signer>/<job>/<n>`, put if absent, numbered: the highest counts. Whoever puts n+1 first has the
// job; it renews by putting the next, and says at its end what became of it. Lower ones are removed. So that
// a put which lands late, below the highest, is not taken for a lease, it counts only if a listing *after* it
// shows none higher: the highest is never removed.
//
// A lease saves work and is no safety: the protocol of sessions and commits is what keeps a vault whole. The
// worst that two daemons with one job can do is two snapshots.
#pragma once
#include <optional>
#include <string>

#include "vault/key_bundle.h"
#include "vault/names.h"
#include "vault/protocol.h"

namespace kuramori {

// Which job of the vault, without telling its name to the store.
names::JobKey job_key(const KeyBundle& keys, std::string_view job);

struct StandingLease {
  uint64_t number = 0;
  std::optional<LeaseRecord> record;  // nothing: what stands there cannot be read, or is not of this signer
};
// The highest of the protocol's own signer; number 0: there is none.
Result<StandingLease> newest_lease(const Protocol& protocol, const names::JobKey& job);

struct LeasePut {
  bool stands = false;                // ours is the highest
  bool is_passed = false;             // ours stands below the highest: it came late
  bool is_lost = false;               // the store took it, and has it not
  std::optional<LeaseRecord> theirs;  // what was at that number already, if it can be read
};
Result<LeasePut> put_lease(const Protocol& protocol, const names::JobKey& job, uint64_t number,
                           const LeaseRecord& record);
// Of a number below the highest. Where nothing may be removed it stays until a collection.
void remove_lease(const Protocol& protocol, const names::JobKey& job, uint64_t number);
// All that do not count any more, of every signer; returns how many there were.
Result<uint64_t> remove_old_leases(const Protocol& protocol);

// Given by the daemon to the job it starts: what it had when that began.
struct LeaseMark {
  names::JobKey job;
  uint64_t number = 0;
  std::string run;
  bool operator==(const LeaseMark&) const = default;
};
constexpr const char* kLeaseVariable = "KURAMORI_LEASE";  // of the environment
std::string text_of(const LeaseMark& mark);
std::optional<LeaseMark> parse_lease_mark(std::string_view text);
// Just before a commit. kFailed: another daemon has taken the run over meanwhile; this one was paused, or cut
// off. What cannot be asked is no reason to throw a snapshot away.
Result<void> must_still_hold(const Protocol& protocol, const LeaseMark& mark);

}  // namespace kuramori
