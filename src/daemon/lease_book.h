// What one daemon knows and decides of the leases in one vault (vault/leases.h): whether a run is its own to
// do, another's, or done. No thread; the lease keeper drives it, tests drive several on one store.
//
// No clock is trusted but the own one's passing. A lease is up for taking when its highest number has been
// *seen* unchanged for longer than its length, however old it says it is. Its holder stops earlier than that:
// it measures from before its last put, and the others from after it.
//
// What was done is believed of another daemon only as far as clocks agree: a run for a moment that lies more
// than kLeaseClockAllowance ahead of the own clock counts for nothing, since its maker's clock (or the own)
// is wrong. Then both run, and there are two snapshots.
//
// A run serves for every moment up to its own. So whatever is said of a run says which moment it was for: a
// run that may have succeeded unheard of answers for a later moment not at all, and for an earlier one with
// its own.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "policy/schedule.h"
#include "vault/leases.h"

namespace kuramori {

constexpr Duration kLeaseClockAllowance = std::chrono::hours(1);
constexpr Duration kLeaseMin = std::chrono::seconds(1), kLeaseMax = std::chrono::hours(1);
constexpr size_t kTriedRunsMax = 16;  // of a lease: those of before are forgotten
constexpr int kLeaseRacesMax = 4;     // numbers lost to others before it is theirs

// What follows from a lease's length.
constexpr Duration renew_every(Duration length) {
  return length / 4;
}
constexpr Duration give_up_after(Duration length) {
  return length * 2 / 3;
}  // without a renewal: it stops
constexpr Duration take_over_after(Duration length) {
  return length + length / 4;
}  // seen unchanged: another begins

// A job's run, as every daemon with the same configuration names it.
struct LeaseSlot {
  names::JobKey job;
  Time due;                     // the moment it is for
  std::optional<Period> apart;  // of a job that runs so long after its last run, and not by the clock
};

struct LeaseAnswer {
  enum class Kind {
    kMine,  // do it
    kHeld,  // somebody else is at it: ask again
    kDone,  // somebody else has done it
  } kind = Kind::kHeld;
  std::string by;                  // of kHeld and kDone: who, in words
  std::vector<std::string> tried;  // of kMine: runs that serve for it, should their snapshots stand
  Time done_due;                   // of kDone
  uint64_t number = 0;             // of kMine
};

enum class LeaseEnd { kDone, kReleased };

class LeaseBook {
 public:
  // `holder`: one word for this daemon, the same after it was killed. Borrows the protocol.
  LeaseBook(const Protocol& protocol, std::string holder, std::string host, Duration length)
      : protocol_(&protocol), holder_(std::move(holder)), host_(std::move(host)), length_(length) {}
  // From now on, in the same vault, opened anew.
  void use(const Protocol& protocol) { protocol_ = &protocol; }

  Result<LeaseAnswer> ask(const LeaseSlot& slot, const std::string& run);
  // False: it went to another.
  Result<bool> renew(const names::JobKey& job);
  // How long until the next renewal is due; nothing: none is held.
  std::optional<Duration> renewal_due() const;
  std::vector<names::JobKey> due_for_renewal() const;
  // When the put that stands began, by the steady clock.
  std::optional<Duration> renewed_at(const names::JobKey& job) const {
    const auto at = mine_.find(job);
    return at == mine_.end() ? std::nullopt : std::optional(at->second.began);
  }
  // It could not be renewed for so long that another may begin: whatever runs under it must stop now.
  bool is_overdue(const names::JobKey& job) const;
  // Says what became of it, if it is still held. `stood`: one of those that were tried had done it; else "".
  Result<void> end(const names::JobKey& job, LeaseEnd end, const std::string& stood = {});
  bool holds_any() const { return !mine_.empty(); }

 private:
  struct Mine {
    uint64_t number = 0;
    Duration began{0};     // by the steady clock, before the put that stands
    Duration renew_at{0};  // the next try
    LeaseRecord record;
  };
  struct Seen {
    uint64_t number = 0;
    Duration since{0};
    std::optional<LeaseRecord>
        own_end;  // it is the last word of a run of ours: what to build on, unless others came
  };
  Duration now() const { return protocol_->clock.steady(); }
  // Whether a run for that moment, had it succeeded, leaves nothing to do for the slot.
  bool serves(Time done, const LeaseSlot& slot) const;
  bool counts_as_done(const LeaseRecord& record, const LeaseSlot& slot) const;
  void note_done(LeaseRecord& record, const TriedRun& run) const;
  LeaseRecord next_of(const std::optional<LeaseRecord>& before, const LeaseSlot& slot,
                      const std::string& run) const;

  const Protocol* protocol_;
  const std::string holder_, host_;
  const Duration length_;
  std::map<names::JobKey, Mine> mine_;
  std::map<names::JobKey, Seen> seen_;
};

}  // namespace kuramori
