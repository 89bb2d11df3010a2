#include "vault/collector.h"

#include <fmt/core.h>

#include <algorithm>

#include "vault/epochs.h"

namespace kuramori {
namespace {

bool has_name(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

bool is_reader(const ListedSession& session) {
  return session.record.kind == SessionKind::kRead;
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

bool Collector::Needed::contains(const std::string& name) const {
  if (auto wal = names::parse_wal(name)) {
    if (wal->kind == names::WalKind::kHistory) return true;
    auto floor = wal_floors.find(wal->resource);
    return floor == wal_floors.end() || wal->to > floor->second;
  }
  // By origin: of something needed, every incarnation stays.
  if (names.contains(names::origin_of(name))) return true;
  if (owners.empty()) return false;
  auto owner = names::owner_of(name);
  return owner && owners.contains(*owner);
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

Result<Collector::Needed> Collector::find_needed(const CommitListing& commits,
                                                 const SessionListing& sessions) {
  Needed needed;
  auto lower_floor = [&](const ResourceId& resource, uint64_t lsn) {
    uint64_t& floor = needed.wal_floors.try_emplace(resource, lsn).first->second;
    floor = std::min(floor, lsn);
  };
  auto need = [&](const VisibleCommit& commit) -> Result<void> {
    TRY_ASSIGN(const std::vector<std::string>* references, ledger_.references(commit));
    needed.names.insert(references->begin(), references->end());
    if (commit.record.wal) lower_floor(commit.key.resource, commit.record.wal->from);
    return {};
  };
  // A pruned snapshot that was swept is past keeping: a reader that came too late, or was refused and died.
  auto need_pruned = [&](const VisibleCommit& commit) -> Result<void> {
    const std::string& live = commit.record.live.name;
    auto first = std::lower_bound(swept_.begin(), swept_.end(), live);
    if (first == swept_.end() || names::origin_of(*first) != live) return need(commit);
    TRY_ASSIGN(std::vector<ObjectInfo> standing, ledger_.log().list(live));
    if (std::ranges::all_of(standing, [&](auto& object) { return has_name(swept_, object.name); })) return {};
    return need(commit);
  };
  for (const VisibleCommit* commit : commits.visible) TRY(need(*commit));
  // No hold stands on a pruned snapshot, unless a prune went wrong. Then its data stays.
  TRY_ASSIGN(std::set<SnapshotId> held, ledger_.read_held());
  if (!held.empty()) {
    for (const std::string& name : commits.pruned) {
      auto key = names::parse_commit(name);
      if (!key || !held.contains(key->snapshot)) continue;
      TRY_ASSIGN(const VisibleCommit* commit, ledger_.read_commit(name));
      TRY(need_pruned(*commit));
    }
  }
  for (const ListedSession& session : sessions.sessions) {
    if (session.decided) continue;
    if (is_reader(session)) {
      for (const std::string& name : session.record.parents) {
        Result<const VisibleCommit*> commit = ledger_.read_commit(name);
        if (commit) {
          TRY(need_pruned(**commit));
        } else if (commit.error().kind != ErrorKind::kNotFound &&
                   commit.error().kind != ErrorKind::kRefused) {
          return std::move(commit).error();
        }
      }
      continue;
    }
    needed.owners.insert(session.id);
    needed.names.insert(session.record.foreign.begin(), session.record.foreign.end());
    // Only lowers a floor that is there: with no visible base, no WAL goes anyway.
    if (session.record.wal_timeline == 0 || ledger_.protocol().bugs.has(PlantedBug::kWalIgnoresSessions))
      continue;
    auto floor = needed.wal_floors.find(session.record.resource);
    if (floor != needed.wal_floors.end()) floor->second = std::min(floor->second, session.record.wal_floor);
  }
  return needed;
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

Result<void> Collector::sweep(uint64_t n, const std::vector<std::string>& plan,
                              const SessionListing& sessions,
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
  TRY_ASSIGN(Needed needed, find_needed(commits, sessions));

  GcRecord record{.number = n, .at_ns = to_unix_ns(ledger_.protocol().clock.now())};
  uint64_t bytes_all = 0, bytes_swept = 0;
  for (const auto& [name, object] : stored.objects) bytes_all += object.size;
  for (const std::string& name : plan) {
    auto object = stored.objects.find(name);
    uint64_t size = object == stored.objects.end() ? 0 : object->second.size;
    auto owner = names::owner_of(name);
    bool unproven = owner && !is_decided(commits, *owner) && !bugs.has(PlantedBug::kFenceRemoved);
    if ((needed.contains(name) || unproven) && !bugs.has(PlantedBug::kNoRescue)) {
      ++report.rescued.objects;
      report.rescued.bytes += size;
      continue;
    }
    record.objects.push_back(name);
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
    record.reason = report.given_up;
  }
  if (bugs.has(PlantedBug::kDeleteBeforeSweep)) TRY(delete_swept(record.objects, stored, report));
  TRY_ASSIGN(PutResult put, ledger_.log().put(RecordType::kGcSweep, names::gc_sweep(n), {}, encode(record)));
  if (!put.ours() && bugs.has(PlantedBug::kLoserDeletesOwnList))
    return delete_swept(record.objects, stored, report);

  // What counts is what stands there, whoever put it: read again before the first delete.
  TRY_ASSIGN(std::vector<std::string> swept, ledger_.read_sweep(n));
  for (const std::string& name : swept) {
    if (!has_name(plan, name)) {
      return fail(ErrorKind::kDamaged, fmt::format("sweep {} names {}, which its plan does not", n, name),
                  "no collector writes such a sweep", "kuramori scrub");
    }
  }
  if (report.outcome != CollectReport::Outcome::kGivenUp || !swept.empty()) {
    report.outcome = CollectReport::Outcome::kSwept;
  }
  return delete_swept(swept, stored, report);
}

Result<void> Collector::delete_swept(const std::vector<std::string>& names, const Stored& stored,
                                     CollectReport& report) {
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
  if (bugs.has(PlantedBug::kGcRemoved) || bugs.has(PlantedBug::kParentsNotRead)) return remove(n);
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
  if (!dry) TRY(delete_swept(swept_, stored, report));
  for (const std::string& name : swept_) stored.objects.erase(name);

  // Plan: an unfinished collection is gone on with, and its plan is the stored one. A new one begins only
  // after the sweep before it stands.
  std::vector<std::string> plan;
  SessionListing sessions;
  if (!rounds.empty() && !rounds.back().swept) {
    report.number = rounds.back().number;
    report.resumed = true;
    plan = std::move(rounds.back().objects);
  } else {
    report.number = rounds.empty() ? 1 : rounds.back().number + 1;
    TRY_ASSIGN(sessions, ledger_.read_sessions());
    TRY(fence_dead(sessions, stored, options, report));
    TRY_ASSIGN(CommitListing commits, ledger_.read_commits());
    TRY(commits.must_be_whole());
    report.disowned = commits.disowned;
    TRY_ASSIGN(Needed needed, find_needed(commits, sessions));
    TRY_ASSIGN(plan, find_garbage(stored, commits, needed));
    if (plan.empty()) {
      report.number = 0;
      if (!dry) TRY(remove_decided(report));
      return report;
    }
    if (!dry) {
      GcRecord record{
          .number = report.number, .objects = plan, .at_ns = to_unix_ns(ledger_.protocol().clock.now())};
      TRY_ASSIGN(PutResult put,
                 ledger_.log().put(RecordType::kGcPlan, names::gc_plan(report.number), {}, encode(record)));
      if (!put.ours()) {
        report.resumed = true;
        TRY_ASSIGN(plan, ledger_.read_plan(report.number));
      }
    }
  }
  for (const std::string& name : plan) {
    auto object = stored.objects.find(name);
    if (object == stored.objects.end()) continue;
    ++report.planned.objects;
    report.planned.bytes += object->second.size;
  }
  if (dry) {
    report.outcome = CollectReport::Outcome::kWouldPlan;
    report.planned_names = std::move(plan);
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
