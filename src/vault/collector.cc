#include "vault/collector.h"

#include <fmt/core.h>

#include <algorithm>

#include "vault/epochs.h"

namespace kuramori {
namespace {

bool has_name(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

// What says that a thin pack cannot be relied on now: it is no such thing, gone, or in a class that must be
// thawed.
bool is_unreadable(const Error& error) {
  return error.kind == ErrorKind::kDamaged || error.kind == ErrorKind::kNotFound ||
         error.kind == ErrorKind::kRefused;
}

bool is_reader(const ListedSession& session) {
  return session.record.kind == SessionKind::kRead;
}

// Nothing where the object is garbage and no other stands in for it.
const ReplacedObject* find_replacement(const GcRecord& record, std::string_view object) {
  auto at = std::ranges::lower_bound(record.replaced, object, {}, &ReplacedObject::object);
  return at == record.replaced.end() || at->object != object ? nullptr : &*at;
}

// A session that must be decided before a plan it may not have seen can be swept.
bool must_be_waited_for(const ListedSession& session, const ProtocolBugs& bugs) {
  if (session.decided || is_reader(session) || session.record.closed) return false;
  return !bugs.has(PlantedBug::kNeitherWaitNorFence) && !bugs.has(PlantedBug::kOpenSessionExempt);
}

}  // namespace

DeadSessionPolicy dead_after(Duration silence, Time now) {
  return [=](const OpenSession& open) { return open.last_seen && now - *open.last_seen > silence; };
}

Result<Collector::Stored> Collector::list_stored(CollectReport& report) {
  Stored stored;
  for (std::string_view prefix : {names::kLive, names::kMaps, names::kPacks, names::kWal}) {
    TRY_ASSIGN(std::vector<ObjectInfo> listed, ledger_.log().list(prefix));
    for (ObjectInfo& object : listed) {
      if (!names::owner_of(object.name) && !names::parse_wal(object.name)) {
        report.unknown.push_back(std::move(object.name));
        continue;
      }
      std::string name = object.name;
      stored.objects.emplace_hint(stored.objects.end(), std::move(name), std::move(object));
    }
  }
  return stored;
}

bool Collector::holds(const FrameRanges& kept, const FrameRanges& wanted) const {
  if (ledger_.protocol().bugs.has(PlantedBug::kFramesOnlyCounted))
    return frames_in(kept) >= frames_in(wanted);
  return covers(kept, wanted);
}

WhichPacks Collector::standing_twice(const Stored& stored) const {
  if (thin_ == nullptr) return {};
  return [&stored](const std::string& origin) {
    auto at = stored.objects.lower_bound(origin);
    if (at == stored.objects.end() || names::origin_of(at->first) != origin) return false;
    ++at;
    // Between a pack and its incarnations no other name sorts: '.' comes before every digit.
    return at != stored.objects.end() && names::origin_of(at->first) == origin;
  };
}

bool Collector::stands_thin_too(const Stored& stored, const Needed& needed) {
  return std::ranges::any_of(needed.packs, [&](const auto& pack) {
    const auto& [origin, need] = pack;
    if (need.contradicted || needed.declared.contains(origin)) return false;
    auto at = stored.objects.lower_bound(origin);
    for (; at != stored.objects.end() && names::origin_of(at->first) == origin; ++at) {
      if (at->second.size < need.pack.size) return true;
    }
    return false;
  });
}

Result<std::vector<ReplacedObject>> Collector::find_replaced(const Stored& stored,
                                                             const CommitListing& commits,
                                                             const Needed& needed,
                                                             const CollectOptions& options) {
  const ProtocolBugs& bugs = ledger_.protocol().bugs;
  std::vector<ReplacedObject> all;
  uint64_t bytes_all = 0, bytes = 0;
  for (const auto& [name, object] : stored.objects) bytes_all += object.size;
  for (const auto& [origin, need] : needed.packs) {
    // Which frames an open session refers to is not known before it commits.
    if (need.contradicted || needed.declared.contains(origin)) continue;
    const ObjectInfo* whole = nullptr;
    std::vector<std::pair<const ObjectInfo*, FrameRanges>> thin;
    auto at = stored.objects.lower_bound(origin);
    for (; at != stored.objects.end() && names::origin_of(at->first) == origin; ++at) {
      const ObjectInfo& object = at->second;
      if (has_name(swept_, object.name) && !bugs.has(PlantedBug::kCondemnedCounts)) continue;
      auto owner = names::owner_of(object.name);
      if (!owner || !is_decided(commits, *owner)) continue;
      if (object.size == need.pack.size) {
        if (whole == nullptr) whole = &object;
        continue;
      }
      Result<FrameRanges> kept = thin_->kept(need.pack, object.name, ThinPacks::Look::kTable);
      if (kept) {
        thin.emplace_back(&object, std::move(*kept));
      } else if (!is_unreadable(kept.error())) {
        return std::move(kept).error();
      }
    }
    if (thin.empty()) continue;
    // The smallest that holds everything; none does: what is whole stays, and thin ones are of no use beside
    // it.
    const std::pair<const ObjectInfo*, FrameRanges>* chosen = nullptr;
    for (const auto& one : thin) {
      if (bugs.has(PlantedBug::kCondemnedCounts) && whole != nullptr && has_name(swept_, whole->name)) break;
      if (holds(one.second, need.pack.frames) && (chosen == nullptr || one.first->size < chosen->first->size))
        chosen = &one;
    }
    if (chosen == nullptr && whole == nullptr) continue;
    const ObjectInfo& stays = chosen ? *chosen->first : *whole;
    for (auto other = stored.objects.lower_bound(origin); other != at; ++other) {
      const ObjectInfo& object = other->second;
      auto owner = names::owner_of(object.name);
      if (object.name == stays.name || has_name(swept_, object.name) || !owner ||
          !is_decided(commits, *owner))
        continue;
      // Beside a whole one only what is thin goes.
      if (!chosen && std::ranges::none_of(thin, [&](auto& one) { return one.first->name == object.name; }))
        continue;
      bytes += object.size;
      all.push_back({object.name, stays.name, chosen ? chosen->second : FrameRanges{}});
    }
    // As much as the breaker lets through; the next collection goes on.
    if (bytes > options.sweep_share_max * bytes_all) {
      while (!all.empty() && names::origin_of(all.back().object) == origin) all.pop_back();
      break;
    }
  }
  std::ranges::sort(all, {}, &ReplacedObject::object);
  return all;
}

// Everything anew, on what is listed now.
Result<bool> Collector::is_replaced(const ReplacedObject& one, const GcRecord& plan, const Stored& stored,
                                    const Needed& needed) {
  if (thin_ == nullptr) return false;
  const std::string origin(names::origin_of(one.object));
  if (one.by == one.object || names::origin_of(one.by) != origin) return false;
  auto need = needed.packs.find(origin);
  if (need == needed.packs.end() || need->second.contradicted || needed.declared.contains(origin))
    return false;
  const bool condemned = has_name(swept_, one.by) || has_name(plan.objects, one.by);
  if (condemned && !ledger_.protocol().bugs.has(PlantedBug::kCondemnedCounts)) return false;
  if (one.frames.empty()) {
    auto whole = stored.objects.find(one.by);
    if (ledger_.protocol().bugs.has(PlantedBug::kCondemnedCounts)) return true;
    if (whole == stored.objects.end() || whole->second.size != need->second.pack.size) return false;
    // The thin one may be all that is left of some frames.
    Result<void> sound = thin_->verify_whole(need->second.pack, one.by);
    if (sound || is_unreadable(sound.error())) return sound.has_value();
    return std::move(sound).error();
  }
  if (!stored.objects.contains(one.by) || !holds(one.frames, need->second.pack.frames)) return false;
  Result<FrameRanges> kept = thin_->kept(need->second.pack, one.by, ThinPacks::Look::kEveryByte);
  if (kept) return *kept == one.frames;
  if (is_unreadable(kept.error())) return false;
  return std::move(kept).error();
}

Result<void> Collector::fence_dead(SessionListing& sessions, const Stored& stored,
                                   const CollectOptions& options, CollectReport& report) {
  if (!options.is_dead || options.mode == CollectOptions::Mode::kDryRun) return {};
  std::map<SessionId, Time> last_seen;
  for (const auto& [name, object] : stored.objects) {
    if (!object.stored_at) continue;
    auto owner = names::owner_of(name);
    if (!owner) continue;
    Time& seen = last_seen.try_emplace(*owner, *object.stored_at).first->second;
    seen = std::max(seen, *object.stored_at);
  }
  for (ListedSession& session : sessions.sessions) {
    if (session.decided) continue;
    OpenSession open{session, session.stored_at};
    auto seen = last_seen.find(session.id);
    if (seen != last_seen.end() && open.last_seen) open.last_seen = std::max(*open.last_seen, seen->second);
    if (!options.is_dead(open)) continue;
    TRY(ledger_.fence(session, "no sign of life"));
    session.decided = true;
    report.fenced.push_back(session.id.hex());
  }
  return {};
}

bool Collector::is_decided(const CommitListing& commits, const SessionId& sid) const {
  return commits.decided.contains(sid) || ledger_.is_of_older_epoch(sid);
}

Result<std::vector<std::string>> Collector::find_garbage(const Stored& stored, const CommitListing& commits,
                                                         const Needed& needed) const {
  std::vector<std::string> garbage;
  for (const auto& [name, object] : stored.objects) {
    if (needed.contains(name) || has_name(swept_, name)) continue;
    // Positive proof: whoever put it is decided, so nothing will come that needs it as its own.
    auto owner = names::owner_of(name);
    if (owner && !is_decided(commits, *owner)) continue;
    garbage.push_back(name);
  }
  return garbage;
}

Result<Collector::Settled> Collector::settle(uint64_t n, const Stored& stored, const CollectOptions& options,
                                             SessionListing& sessions, CollectReport& report) {
  const ProtocolBugs& bugs = ledger_.protocol().bugs;
  TRY_ASSIGN(sessions, ledger_.read_sessions());
  for (const ListedSession& session : sessions.sessions) {
    if (!session.decided) seen_open_.insert(session.id);
  }
  TRY(fence_dead(sessions, stored, options, report));
  auto undecided = [&] {
    std::vector<std::string> names;
    for (const ListedSession& session : sessions.sessions) {
      if (must_be_waited_for(session, bugs)) names.push_back(session.name);
    }
    return names;
  };
  std::vector<std::string> open = undecided();
  TRY_ASSIGN(auto waits, ledger_.read_waits(n));
  if (!waits) {
    if (open.empty()) return Settled::kYes;
    // Which sessions count is settled once, by a listing that began after the plan stood: a session not in it
    // either is decided, or stood later and so saw the plan. Without this, a busy vault would never end a
    // wait.
    GcRecord record{.number = n, .objects = open, .at_ns = to_unix_ns(ledger_.protocol().clock.now())};
    TRY(ledger_.log().put(RecordType::kGcPlan, names::gc_waits(n), {}, encode(record)));
    TRY_ASSIGN(waits, ledger_.read_waits(n));
  }
  waits_ = std::move(*waits);
  bool all_decided = true;
  for (const ListedSession& session : sessions.sessions) {
    if (!must_be_waited_for(session, bugs) || !has_name(waits_, session.name)) continue;
    all_decided = false;
    report.waiting_for.push_back({session, session.stored_at});
  }
  return all_decided ? Settled::kYes : Settled::kWaiting;
}

Result<void> Collector::sweep(uint64_t n, const GcRecord& plan, const SessionListing& sessions,
                              const std::optional<CommitListing>& commits_read_early, const Stored& stored,
                              const CollectOptions& options, CollectReport& report) {
  const ProtocolBugs& bugs = ledger_.protocol().bugs;
  // All sessions that could refer to planned objects are decided; so *all* commits are listed now, not only
  // those of sessions seen: a decided session's object may be gone by now.
  CommitListing commits;
  if (commits_read_early) {
    commits = *commits_read_early;
  } else {
    TRY_ASSIGN(commits, ledger_.read_commits());
  }
  TRY(commits.must_be_whole());
  report.disowned = commits.disowned;
  if (!bugs.has(PlantedBug::kNeitherWaitNorFence) && !bugs.has(PlantedBug::kOpenSessionExempt) &&
      !bugs.has(PlantedBug::kCommitsBeforeSessions) && !bugs.has(PlantedBug::kFenceRemoved)) {
    // A session that was open and is listed no more must have left a decision: else the listing is not whole.
    auto must_be_decided = [&](const SessionId& id) -> Result<void> {
      if (commits.decided.contains(id)) return {};
      return fail(ErrorKind::kUnknown, fmt::format("session {} is gone without a decision", id.hex()),
                  "the store's listing is not whole, or a reader's session was cleaned up meanwhile",
                  "run the command again");
    };
    for (const std::string& name : waits_) {
      if (auto id = names::parse_session(name)) TRY(must_be_decided(*id));
    }
    for (const SessionId& id : sessions.vanished) TRY(must_be_decided(id));
  }
  if (bugs.has(PlantedBug::kRescueOpenOnly)) {
    std::erase_if(commits.visible,
                  [&](const VisibleCommit* c) { return !seen_open_.contains(c->key.session); });
  }
  TRY_ASSIGN(Needed needed, find_needed(ledger_, commits, sessions, swept_, standing_twice(stored)));

  GcRecord record{.number = n, .at_ns = to_unix_ns(ledger_.protocol().clock.now())};
  uint64_t bytes_all = 0, bytes_swept = 0;
  for (const auto& [name, object] : stored.objects) bytes_all += object.size;
  for (const std::string& name : plan.objects) {
    auto object = stored.objects.find(name);
    uint64_t size = object == stored.objects.end() ? 0 : object->second.size;
    auto owner = names::owner_of(name);
    bool unproven = owner && !is_decided(commits, *owner) && !bugs.has(PlantedBug::kFenceRemoved);
    bool rescued = needed.contains(name) || unproven;
    const ReplacedObject* replaced = find_replacement(plan, name);
    if (rescued && !unproven && replaced != nullptr) {
      TRY_ASSIGN(const bool goes, is_replaced(*replaced, plan, stored, needed));
      rescued = !goes;
    }
    if (rescued && !bugs.has(PlantedBug::kNoRescue)) {
      ++report.rescued.objects;
      report.rescued.bytes += size;
      continue;
    }
    record.objects.push_back(name);
    if (replaced != nullptr) record.replaced.push_back(*replaced);
    bytes_swept += size;
  }
  if (bytes_swept > options.sweep_share_max * bytes_all) {
    report.outcome = CollectReport::Outcome::kGivenUp;
    report.given_up = fmt::format("it would remove {} of {} bytes, more than the set share of {:.0f} %",
                                  bytes_swept, bytes_all, options.sweep_share_max * 100);
    if (bugs.has(PlantedBug::kAbandonRemovesPlan)) return ledger_.log().remove(names::gc_plan(n));
    // To give up is to store an empty sweep: another collector may be about to store a full one, and one
    // wins.
    record.objects.clear();
    record.replaced.clear();
    record.reason = report.given_up;
  }
  if (bugs.has(PlantedBug::kDeleteBeforeSweep)) TRY(delete_swept(record, stored, report));
  TRY_ASSIGN(PutResult put, ledger_.log().put(RecordType::kGcSweep, names::gc_sweep(n), {}, encode(record)));
  if (!put.ours() && bugs.has(PlantedBug::kLoserDeletesOwnList)) return delete_swept(record, stored, report);

  // What counts is what stands there, whoever put it: read again before the first delete.
  TRY_ASSIGN(GcRecord swept, ledger_.read_sweep(n));
  for (const std::string& name : swept.objects) {
    if (!has_name(plan.objects, name)) {
      return fail(ErrorKind::kDamaged, fmt::format("sweep {} names {}, which its plan does not", n, name),
                  "no collector writes such a sweep", "kuramori scrub");
    }
  }
  if (report.outcome != CollectReport::Outcome::kGivenUp || !swept.objects.empty()) {
    report.outcome = CollectReport::Outcome::kSwept;
  }
  return delete_swept(swept, stored, report);
}

Result<void> Collector::delete_swept(const GcRecord& sweep, const Stored& stored, CollectReport& report) {
  const std::vector<std::string>& names = sweep.objects;
  std::set<std::string, std::less<>> standing_in;
  const bool any = std::ranges::any_of(names, [&](auto& name) { return stored.objects.contains(name); });
  if (!any) return {};
  // Two places: a rebuilt ledger must know the sweep. It does if the objects hold it and no rebuild has
  // begun.
  TRY(ledger_.mirror_decided());
  if (!ledger_.protocol().bugs.has(PlantedBug::kCollectorSkipsEpoch)) TRY(must_be_in_force(ledger_.log()));
  for (const std::string& name : names) {
    auto object = stored.objects.find(name);
    if (object == stored.objects.end()) continue;  // gone already; should it come late, the next run finds it
    Amount* amount = &report.deleted;
    Result<void> removed = ledger_.log().remove(name);
    if (!removed) {
      ErrorKind kind = removed.error().kind;
      if (kind == ErrorKind::kInterrupted) return removed;
      amount = kind == ErrorKind::kDenied ? &report.retained : &report.left;
      if (kind == ErrorKind::kDenied && report.retained.objects == 0)
        report.retained_why = removed.error().why;
      if (amount == &report.left && report.warnings.empty()) report.warnings.push_back(removed.error().what);
    }
    ++amount->objects;
    amount->bytes += object->second.size;
    const ReplacedObject* replaced = find_replacement(sweep, name);
    if (amount != &report.deleted || replaced == nullptr) continue;
    ++report.replaced.objects;
    report.replaced.bytes += object->second.size;
    auto by = stored.objects.find(replaced->by);
    if (by != stored.objects.end() && standing_in.insert(replaced->by).second)
      report.standing_in += by->second.size;
  }
  return {};
}

Result<void> Collector::remove_decided(CollectReport& report) {
  TRY_ASSIGN(SessionListing sessions, ledger_.read_sessions());
  report.unknown.insert(report.unknown.end(), sessions.unknown.begin(), sessions.unknown.end());
  // Nothing depends on a decided session's object; its decision stays for ever at the commit key.
  for (const ListedSession& session : sessions.sessions) {
    if (!session.decided) continue;
    if (ledger_.protocol().bugs.has(PlantedBug::kFenceRemoved) && !is_reader(session)) {
      Result<const VisibleCommit*> commit = ledger_.read_commit(session.record.commit_key);
      if (!commit && commit.error().kind == ErrorKind::kRefused)
        TRY(ledger_.log().remove(session.record.commit_key));
    }
    Result<void> removed = ledger_.log().remove(session.name);
    if (!removed && removed.error().kind == ErrorKind::kDenied) continue;  // under a lock; it does no harm
    TRY(std::move(removed));
    ++report.sessions_removed;
    // The end goes after its session: the other way round, a crash between would open the session again.
    if (!is_reader(session)) continue;
    Result<void> end = ledger_.log().remove(names::session_end(session.id));
    if (!end && end.error().kind != ErrorKind::kDenied) return end;
  }
  for (const std::string& end : sessions.stale_ends) {
    auto sid = names::parse_session_end(end);
    Result<Bytes> session = ledger_.log().read_bytes(names::session(*sid));
    if (session || session.error().kind != ErrorKind::kNotFound) continue;
    Result<void> removed = ledger_.log().remove(end);
    if (!removed && removed.error().kind != ErrorKind::kDenied) return removed;
  }
  return {};
}

Result<void> Collector::remove_rounds(const std::vector<GcRound>& rounds, uint64_t n) {
  const ProtocolBugs& bugs = ledger_.protocol().bugs;
  auto remove = [&](uint64_t number) -> Result<void> {
    TRY(ledger_.log().remove(names::gc_plan(number)));
    return ledger_.log().remove(names::gc_sweep(number));
  };
  if (bugs.has(PlantedBug::kGcRemoved) || bugs.has(PlantedBug::kParentsNotRead) ||
      bugs.has(PlantedBug::kIndexCachedBefore))
    return remove(n);
  if (!bugs.has(PlantedBug::kGcRemovedCarefully)) return {};
  TRY_ASSIGN(SessionListing sessions, ledger_.read_sessions());
  if (std::ranges::any_of(sessions.sessions, [](const ListedSession& s) { return !s.decided; })) return {};
  for (const GcRound& round : rounds) {
    if (round.swept && round.number < n) TRY(remove(round.number));
  }
  return {};
}

Result<CollectReport> Collector::run(const CollectOptions& options) {
  const bool dry = options.mode == CollectOptions::Mode::kDryRun;
  const ProtocolBugs& bugs = ledger_.protocol().bugs;
  CollectReport report;
  waits_.clear();
  seen_open_.clear();

  if (!dry) TRY(ledger_.mirror_decided());
  // What earlier sweeps left (a crash, a lock, a late upload): dead for ever, so it goes without a new plan.
  TRY_ASSIGN(std::vector<GcRound> rounds, ledger_.read_gc());
  TRY_ASSIGN(Stored stored, list_stored(report));
  swept_.clear();
  for (const GcRound& round : rounds) {
    if (round.swept) swept_.insert(swept_.end(), round.objects.begin(), round.objects.end());
  }
  std::sort(swept_.begin(), swept_.end());
  if (!dry) TRY(delete_swept({.objects = swept_}, stored, report));
  if (!bugs.has(PlantedBug::kCondemnedCounts)) {
    for (const std::string& name : swept_) stored.objects.erase(name);
  }

  // Plan: an unfinished collection is gone on with, and its plan is the stored one. A new one begins only
  // after the sweep before it stands.
  GcRecord plan;
  SessionListing sessions;
  if (!rounds.empty() && !rounds.back().swept) {
    report.number = rounds.back().number;
    report.resumed = true;
    plan.objects = std::move(rounds.back().objects);
    plan.replaced = std::move(rounds.back().replaced);
  } else {
    report.number = rounds.empty() ? 1 : rounds.back().number + 1;
    TRY_ASSIGN(sessions, ledger_.read_sessions());
    TRY(fence_dead(sessions, stored, options, report));
    TRY_ASSIGN(CommitListing commits, ledger_.read_commits());
    TRY(commits.must_be_whole());
    report.disowned = commits.disowned;
    TRY_ASSIGN(Needed needed, find_needed(ledger_, commits, sessions, swept_, standing_twice(stored)));
    TRY_ASSIGN(plan.objects, find_garbage(stored, commits, needed));
    // One after the other: what is merely moved shall not make the breaker keep what is garbage.
    report.more = !plan.objects.empty() && stands_thin_too(stored, needed);
    if (plan.objects.empty() && thin_ != nullptr) {
      TRY_ASSIGN(plan.replaced, find_replaced(stored, commits, needed, options));
      for (const ReplacedObject& one : plan.replaced) plan.objects.push_back(one.object);
    }
    if (plan.objects.empty()) {
      report.number = 0;
      if (!dry) TRY(remove_decided(report));
      return report;
    }
    if (!dry) {
      plan.number = report.number;
      plan.at_ns = to_unix_ns(ledger_.protocol().clock.now());
      TRY_ASSIGN(PutResult put,
                 ledger_.log().put(RecordType::kGcPlan, names::gc_plan(report.number), {}, encode(plan)));
      if (!put.ours()) {
        report.resumed = true;
        TRY_ASSIGN(plan, ledger_.read_plan(report.number));
      }
    }
  }
  for (const std::string& name : plan.objects) {
    auto object = stored.objects.find(name);
    if (object == stored.objects.end()) continue;
    ++report.planned.objects;
    report.planned.bytes += object->second.size;
  }
  if (dry) {
    report.outcome = CollectReport::Outcome::kWouldPlan;
    report.planned_names = std::move(plan.objects);
    return report;
  }

  std::optional<CommitListing> commits_read_early;
  if (bugs.has(PlantedBug::kCommitsBeforeSessions)) {
    TRY_ASSIGN(commits_read_early, ledger_.read_commits());
  }
  TRY_ASSIGN(Settled settled, settle(report.number, stored, options, sessions, report));
  if (settled == Settled::kWaiting) {
    report.outcome = CollectReport::Outcome::kWaiting;
    TRY(remove_decided(report));
    return report;
  }
  TRY(sweep(report.number, plan, sessions, commits_read_early, stored, options, report));
  TRY(remove_rounds(rounds, report.number));
  TRY(remove_decided(report));
  return report;
}

}  // namespace kuramori
