#include "daemon/lease_book.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori {

bool LeaseBook::serves(Time done, const LeaseSlot& slot) const {
  if (done > protocol_->clock.now() + kLeaseClockAllowance) return false;
  if (slot.due <= done) return true;
  return slot.apart && later(done, *slot.apart) > slot.due;
}

bool LeaseBook::counts_as_done(const LeaseRecord& record, const LeaseSlot& slot) const {
  // What this daemon did itself its journal knows better, and after its clock was put back too.
  if (record.done_by.empty() || record.done_by == holder_) return false;
  return serves(from_unix_ns(record.done_due_ns), slot);
}

// The latest moment counts, unless it is one that nobody can believe.
void LeaseBook::note_done(LeaseRecord& record, const TriedRun& run) const {
  const bool is_known = !record.done_by.empty() && record.done_due_ns >= run.due_ns &&
                        from_unix_ns(record.done_due_ns) <= protocol_->clock.now() + kLeaseClockAllowance;
  if (!is_known) {
    record.done_by = run.holder;
    record.done_due_ns = run.due_ns;
  }
  // What was tried for a moment that is done needs no answer any more.
  std::erase_if(record.tried, [&](const TriedRun& one) { return one.due_ns <= record.done_due_ns; });
}

LeaseRecord LeaseBook::next_of(const std::optional<LeaseRecord>& before, const LeaseSlot& slot,
                               const std::string& run) const {
  LeaseRecord next{.state = LeaseRecord::State::kWorking,
                   .holder = holder_,
                   .host = host_,
                   .run = run,
                   .due_ns = to_unix_ns(slot.due),
                   .length_ns = length_.count(),
                   .done_by = {},
                   .done_due_ns = 0,
                   .tried = {},
                   .at_ns = to_unix_ns(protocol_->clock.now())};
  if (!before) return next;
  next.done_by = before->done_by;
  next.done_due_ns = before->done_due_ns;
  next.tried = before->tried;
  if (before->state != LeaseRecord::State::kDone) {
    std::erase_if(next.tried, [&](const TriedRun& one) { return one.run == before->run; });
    next.tried.push_back({.run = before->run, .holder = before->holder, .due_ns = before->due_ns});
  }
  // Of its own run the journal knows that it was tried.
  std::erase_if(next.tried, [&](const TriedRun& one) { return one.run == run; });
  if (next.tried.size() > kTriedRunsMax)
    next.tried.erase(next.tried.begin(), next.tried.end() - static_cast<ptrdiff_t>(kTriedRunsMax));
  return next;
}

Result<LeaseAnswer> LeaseBook::ask(const LeaseSlot& slot, const std::string& run) {
  LeaseAnswer held;
  for (int race = 0; race < kLeaseRacesMax; ++race) {
    Seen& seen = seen_[slot.job];
    StandingLease newest{.number = seen.number, .record = std::exchange(seen.own_end, std::nullopt)};
    // Whether it is still the newest the put finds out. A daemon alone needs no other look.
    if (!newest.record) {
      TRY_ASSIGN(newest, newest_lease(*protocol_, slot.job));
    }
    if (seen.number != newest.number) seen = {.number = newest.number, .since = now(), .own_end = {}};
    if (newest.record) {
      const LeaseRecord& record = *newest.record;
      if (counts_as_done(record, slot)) {
        return LeaseAnswer{.kind = LeaseAnswer::Kind::kDone,
                           .by = fmt::format("daemon {}", record.done_by),
                           .tried = {},
                           .done_due = from_unix_ns(record.done_due_ns)};
      }
      held.by = fmt::format("daemon {} on {}", record.holder, record.host);
      const Duration length = std::clamp(Duration(record.length_ns), kLeaseMin, kLeaseMax);
      const bool is_anothers = record.state == LeaseRecord::State::kWorking && record.holder != holder_;
      if (is_anothers && now() - seen.since < take_over_after(length)) return held;
    }
    const uint64_t number = newest.number + 1;
    Mine mine{.number = number, .began = now(), .renew_at = {}, .record = next_of(newest.record, slot, run)};
    mine.renew_at = mine.began + renew_every(length_);
    TRY_ASSIGN(const LeasePut put, put_lease(*protocol_, slot.job, number, mine.record));
    if (put.is_passed) remove_lease(*protocol_, slot.job, number);
    if (!put.stands) continue;  // somebody was faster
    remove_lease(*protocol_, slot.job, newest.number);
    LeaseAnswer answer{
        .kind = LeaseAnswer::Kind::kMine, .by = {}, .tried = {}, .done_due = {}, .number = number};
    // What became of its own runs the journal finds out, each for itself. They serve for no other: after the
    // clock was put back a moment has a snapshot of its own.
    for (const TriedRun& one : mine.record.tried)
      if (one.holder != holder_ && serves(from_unix_ns(one.due_ns), slot)) answer.tried.push_back(one.run);
    mine_.insert_or_assign(slot.job, std::move(mine));
    return answer;
  }
  return held;
}

Result<bool> LeaseBook::renew(const names::JobKey& job) {
  const auto at = mine_.find(job);
  if (at == mine_.end()) return false;
  Mine& mine = at->second;
  const Duration began = now();
  mine.renew_at = began + renew_every(length_);
  LeaseRecord record = mine.record;
  record.at_ns = to_unix_ns(protocol_->clock.now());
  TRY_ASSIGN(const LeasePut put, put_lease(*protocol_, job, mine.number + 1, record));
  // An earlier renewal of ours, of which no answer came: it counts from when it was sent, which is not known
  // better.
  const bool was_ours = put.theirs && put.theirs->holder == holder_ && put.theirs->run == record.run;
  if (put.is_lost) return true;  // the last one stands still; the next try is soon enough
  if (!put.stands && !was_ours) {
    if (put.is_passed) remove_lease(*protocol_, job, mine.number + 1);
    mine_.erase(at);
    return false;
  }
  if (put.stands) mine.began = began;
  if (was_ours) mine.renew_at = began;  // once more, at once
  remove_lease(*protocol_, job, mine.number);
  mine.number += 1;
  return true;
}

std::optional<Duration> LeaseBook::renewal_due() const {
  std::optional<Duration> due;
  for (const auto& [job, mine] : mine_) {
    const Duration left = std::max(Duration(0), mine.renew_at - now());
    if (!due || left < *due) due = left;
  }
  return due;
}

std::vector<names::JobKey> LeaseBook::due_for_renewal() const {
  std::vector<names::JobKey> due;
  for (const auto& [job, mine] : mine_)
    if (now() >= mine.renew_at) due.push_back(job);
  return due;
}

bool LeaseBook::is_overdue(const names::JobKey& job) const {
  const auto at = mine_.find(job);
  return at != mine_.end() && now() - at->second.began >= give_up_after(length_);
}

Result<void> LeaseBook::end(const names::JobKey& job, LeaseEnd end, const std::string& stood) {
  const auto at = mine_.find(job);
  if (at == mine_.end()) return {};
  Mine mine = std::move(at->second);
  mine_.erase(at);
  LeaseRecord& record = mine.record;
  record.at_ns = to_unix_ns(protocol_->clock.now());
  record.state = end == LeaseEnd::kDone ? LeaseRecord::State::kDone : LeaseRecord::State::kReleased;
  if (end == LeaseEnd::kDone) {
    TriedRun done{.run = record.run, .holder = holder_, .due_ns = record.due_ns};
    for (const TriedRun& one : record.tried)
      if (one.run == stood) done = one;
    note_done(record, done);
  }
  for (int race = 0; race < kLeaseRacesMax; ++race) {
    // What was before goes only when this is known to stand: were there none left, nothing would be known of
    // the job.
    TRY_ASSIGN(const LeasePut put, put_lease(*protocol_, job, mine.number + 1, record));
    if (put.stands) {
      remove_lease(*protocol_, job, mine.number);
      seen_[job] = {.number = mine.number + 1, .since = now(), .own_end = std::move(record)};
      return {};
    }
    if (put.is_passed) remove_lease(*protocol_, job, mine.number + 1);
    if (put.is_lost) continue;
    if (!put.theirs || put.theirs->holder != holder_ || put.theirs->run != record.run)
      return {};  // it went to another
    mine.number += 1;
  }
  return {};
}

}  // namespace kuramori
