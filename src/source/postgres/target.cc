#include "source/postgres/target.h"

#include <fmt/format.h>

#include <algorithm>

namespace kuramori::postgres {
namespace {

// Commits take their time before their place in the WAL, so neighbours may be out of order, and clocks are
// set back a little. The search by halves looks this many segments further back before it trusts what it
// found.
constexpr size_t kSkewSegments = 2;

bool is_after(const Moment& moment, int64_t time_ns, bool exclusive) {
  return moment.time_ns != 0 && (exclusive ? moment.time_ns >= time_ns : moment.time_ns > time_ns);
}

}  // namespace

Result<Timeline> RestorePlanner::choose_timeline(const TargetRequest& request) const {
  if (request.timeline) {
    const auto known = archive_.timelines();
    const bool has_base =
        std::ranges::any_of(bases_, [&](const Base& b) { return b.timeline == *request.timeline; });
    if (std::ranges::count(known, *request.timeline) == 0 && !has_base) {
      std::string list;
      for (Timeline timeline : known) list += fmt::format("{}{}", list.empty() ? "" : ", ", timeline);
      return fail(ErrorKind::kRefused,
                  fmt::format("there is no timeline {} in the archive", *request.timeline),
                  list.empty() ? "it holds no WAL at all" : "it holds " + list,
                  "choose one of them with --timeline, or see: kuramori wal show");
    }
    return *request.timeline;
  }
  if (request.base && request.kind == TargetKind::kSnapshot) return bases_[*request.base].timeline;
  Timeline newest = 0;
  for (Timeline timeline : archive_.timelines()) newest = std::max(newest, timeline);
  if (request.base) {
    // The newest that the chosen snapshot belongs to; a lineage that cannot be read is no reason to take an
    // older one.
    const Base& base = bases_[*request.base];
    for (auto known = archive_.timelines(); !known.empty(); known.pop_back()) {
      TRY_ASSIGN(Lineage lineage, archive_.lineage(known.back()));
      if (is_on(lineage, base)) return known.back();
    }
    return base.timeline;
  }
  for (const Base& base : bases_) newest = std::max(newest, base.timeline);
  return newest;
}

std::vector<size_t> RestorePlanner::bases_on(const Lineage& lineage, const TargetRequest& request) const {
  std::vector<size_t> fitting;
  for (size_t i = 0; i < bases_.size(); ++i) {
    if (request.base && *request.base != i) continue;
    if (is_on(lineage, bases_[i])) fitting.push_back(i);
  }
  std::ranges::sort(fitting, [&](size_t a, size_t b) { return bases_[a].stop_lsn > bases_[b].stop_lsn; });
  return fitting;
}

RestorePlanner::Run RestorePlanner::run_of(const Lineage& lineage, size_t base) const {
  Run run{.base = base, .reach = archive_.reach(lineage, bases_[base].start_lsn)};
  const auto& segments = run.reach.segments;
  while (run.first + 1 < segments.size() && segments[run.first + 1].start <= bases_[base].stop_lsn)
    ++run.first;
  return run;
}

Result<const SegmentScan*> RestorePlanner::scan(const Run& run, size_t index) {
  const SegmentSource& source = run.reach.segments[index];
  const std::pair<Timeline, Lsn> key{source.timeline, source.start};
  auto found = scanned_.find(key);
  if (found == scanned_.end()) {
    auto scanned = scan_(run.reach.segments, index);
    if (!scanned) {
      return std::move(scanned).error().within(
          "reading " + segment_name(source.timeline, source.start, archive_.segment_bytes()));
    }
    ++segments_read_;
    found = scanned_.emplace(key, std::move(*scanned)).first;
  }
  return &found->second;
}

Result<size_t> RestorePlanner::first_after(const Run& run, int64_t time_ns, bool exclusive) {
  const size_t count = run.reach.segments.size();
  auto holds_later =
      [&](size_t index) -> Result<std::optional<bool>> {  // nullopt: nothing there tells a time
    TRY_ASSIGN(const SegmentScan* scanned, scan(run, index));
    std::optional<bool> answer;
    for (const auto& moment : scanned->moments) {
      if (moment.time_ns == 0) continue;
      answer = answer.value_or(false) || is_after(moment, time_ns, exclusive);
    }
    return answer;
  };
  size_t found = count;
  for (size_t low = run.first, high = count; low < high;) {
    const size_t middle = low + (high - low) / 2;
    size_t told = middle;
    std::optional<bool> later;
    for (; told < high && !later; ++told) {
      TRY_ASSIGN(later, holds_later(told));
    }
    if (!later || *later) {
      if (later) found = told - 1;
      high = middle;  // from middle to there nothing tells a time
    } else {
      low = told;
    }
  }
  for (size_t looked = 0, i = found; looked < kSkewSegments && i-- > run.first; ++looked) {
    TRY_ASSIGN(auto later, holds_later(i));
    if (later && *later) {
      found = i;
      looked = 0;
    }
  }
  return found;
}

Result<std::optional<Moment>> RestorePlanner::commit_before(const Run& run, size_t from, Lsn before) {
  for (size_t i = std::min(from + 1, run.reach.segments.size()); i-- > run.first;) {
    TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
    for (auto moment = scanned->moments.rbegin(); moment != scanned->moments.rend(); ++moment) {
      if (moment->kind != MomentKind::kCommit || moment->lsn >= before) continue;
      if (moment->lsn < bases_[run.base].stop_lsn) return std::optional<Moment>();
      return std::optional(*moment);
    }
  }
  return std::optional<Moment>();
}

Result<int64_t> RestorePlanner::proven_until(const Run& run) {
  int64_t proven = bases_[run.base].stop_ns;
  for (const Base& base : bases_) {
    // Whatever happened before a snapshot ended is in the WAL before its end.
    if (base.timeline != bases_[run.base].timeline) continue;
    if (base.stop_lsn <= run.reach.to && base.stop_lsn >= bases_[run.base].stop_lsn) {
      proven = std::max(proven, base.stop_ns);
    }
  }
  for (size_t i = run.reach.segments.size(); i-- > run.first;) {
    TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
    int64_t latest = 0;
    for (const auto& moment : scanned->moments) latest = std::max(latest, moment.time_ns);
    if (latest == 0) continue;
    proven = std::max(proven, latest);
    break;
  }
  if (run.reach.why == ReachEnd::kEndOfArchive) proven = std::max(proven, known_until_ns_);
  return proven;
}

Result<std::vector<TimeWindow>> RestorePlanner::windows(Timeline timeline) {
  auto way = archive_.lineage(timeline);
  if (!way) return std::move(way).error();
  std::vector<TimeWindow> list;
  auto fitting = bases_on(*way, {});
  for (auto base = fitting.rbegin(); base != fitting.rend(); ++base) {  // oldest first
    Run run = run_of(*way, *base);
    if (run.reach.to < bases_[*base].stop_lsn) {
      if (bases_[*base].has_own_wal) continue;
      run.reach.to = bases_[*base].stop_lsn;
    }
    if (!list.empty() && list.back().to >= run.reach.to) continue;  // the older snapshot reaches as far
    TRY_ASSIGN(int64_t until, proven_until(run));
    list.push_back(
        {timeline, *base, bases_[*base].stop_lsn, run.reach.to, bases_[*base].stop_ns, until, run.reach.gap});
  }
  return list;
}

Error RestorePlanner::refuse(std::string what, std::string why_first, Timeline timeline) {
  std::string why = std::move(why_first);
  std::string next = "choose a time inside the window, or --latest";
  auto possible = windows(timeline);
  if (!possible) {
    why += (why.empty() ? "" : "; ") + possible.error().what;
  } else if (possible->empty()) {
    why += fmt::format("{}no snapshot of timeline {} has all the WAL it needs", why.empty() ? "" : "; ",
                       timeline);
    next = "take a snapshot, or look at what is missing: kuramori wal show";
  } else {
    for (const auto& window : *possible) {
      why += fmt::format("{}timeline {} can be restored from {} to {} ({} to {})", why.empty() ? "" : "; ",
                         timeline, format_time_(window.from_ns), format_time_(window.to_ns),
                         format_lsn(window.from), format_lsn(window.to));
      if (window.gap) why += fmt::format(", then {}", describe(*window.gap));
    }
  }
  return fail(ErrorKind::kRefused, std::move(what), std::move(why), std::move(next));
}

Result<RecoveryPlan> RestorePlanner::make_plan(const Lineage& lineage, const Run& run, Lsn until) const {
  const Base& base = bases_[run.base];
  until = std::max(until, base.stop_lsn);
  RecoveryPlan plan{.base = run.base, .timeline = lineage.back().timeline, .lineage = lineage};
  plan.reached = until;
  for (const auto& segment : run.reach.segments) {
    if (segment.start < until) plan.segments.push_back(segment);
  }
  plan.promise = {.lineage = lineage, .until = until};
  return plan;
}

Result<RecoveryPlan> RestorePlanner::find(const TargetRequest& request) {
  if (request.base && *request.base >= bases_.size())
    return fail(ErrorKind::kUsage, "there is no such snapshot");
  if (bases_.empty()) {
    return fail(ErrorKind::kRefused, "there is no snapshot to begin with", "",
                "take one first: kuramori backup");
  }
  TRY_ASSIGN(Timeline timeline, choose_timeline(request));
  auto way = archive_.lineage(timeline);
  // A snapshot alone needs no lineage: it stays on its own timeline.
  if (!way && request.kind == TargetKind::kSnapshot && request.base &&
      bases_[*request.base].timeline == timeline) {
    way = Lineage{{.timeline = timeline}};
  }
  if (!way) return std::move(way).error();
  if (request.base && !is_on(*way, bases_[*request.base])) {
    const Base& base = bases_[*request.base];
    return refuse(fmt::format("snapshot {} is not on the way to timeline {}", base.id, timeline),
                  fmt::format("it covers {} to {} of timeline {}", format_lsn(base.start_lsn),
                              format_lsn(base.stop_lsn), base.timeline),
                  timeline);
  }
  switch (request.kind) {
    case TargetKind::kSnapshot:
      return find_snapshot(request, *way);
    case TargetKind::kTime:
      return find_time(request, *way);
    case TargetKind::kLsn:
      return find_lsn(request, *way);
    case TargetKind::kXid:
    case TargetKind::kName:
      return find_named(request, *way);
    case TargetKind::kLatest:
      return find_latest(request, *way);
  }
  return fail(ErrorKind::kUsage, "an unknown kind of target");
}

Result<RecoveryPlan> RestorePlanner::find_snapshot(const TargetRequest& request, const Lineage& lineage) {
  auto fitting = bases_on(lineage, request);
  if (fitting.empty()) return refuse("no snapshot fits", "", lineage.back().timeline);
  const Base& base = bases_[fitting[0]];
  Run run = run_of(lineage, fitting[0]);
  if (base.has_own_wal && run.reach.to < base.stop_lsn) {
    return refuse(fmt::format("snapshot {} cannot be restored: it lacks WAL", base.id),
                  run.reach.gap ? describe(*run.reach.gap)
                                : fmt::format("the archive ends at {}, before the snapshot's end {}",
                                              format_lsn(run.reach.to), format_lsn(base.stop_lsn)),
                  lineage.back().timeline);
  }
  TRY_ASSIGN(RecoveryPlan plan, make_plan(lineage, run, base.stop_lsn));
  plan.immediate = true;
  plan.explanation = fmt::format("the snapshot's own state, of {}", format_time_(base.stop_ns));
  return plan;
}

Result<RecoveryPlan> RestorePlanner::find_time(const TargetRequest& request, const Lineage& lineage) {
  const Timeline timeline = lineage.back().timeline;
  const int64_t wanted = request.time_ns;
  const std::string told = format_time_(wanted);
  auto fitting = bases_on(lineage, request);
  std::erase_if(fitting, [&](size_t i) { return bases_[i].stop_ns > wanted; });
  if (fitting.empty()) {
    return refuse(fmt::format("{} cannot be restored", told), "no snapshot ended before it", timeline);
  }
  // Only the newest: an older one would have to come past the same WAL.
  Run run = run_of(lineage, fitting[0]);
  const Base& base = bases_[run.base];
  auto cannot = [&](std::string reason) {
    if (run.reach.gap) reason += "; " + describe(*run.reach.gap);
    if (run.reach.why == ReachEnd::kConflict) {
      reason +=
          fmt::format("; after {} the archive holds two contents of the same WAL", format_lsn(run.reach.to));
    }
    return refuse(fmt::format("{} cannot be restored", told), std::move(reason), timeline);
  };
  if (base.has_own_wal && run.reach.to < base.stop_lsn) return cannot("the snapshot before it lacks WAL");

  TRY_ASSIGN(size_t later, first_after(run, wanted, request.exclusive));
  const auto& segments = run.reach.segments;
  if (later == segments.size()) {
    TRY_ASSIGN(int64_t proven, proven_until(run));
    if (proven < wanted) return cannot("the archived WAL ends before it");
  }
  // What ends recovery is the first commit that is too late; a checkpoint only proves that the time had come.
  Lsn stop_before = kLsnMax;
  size_t from = segments.empty() ? 0 : segments.size() - 1;
  for (size_t i = later; i < segments.size() && i <= later + kSkewSegments && stop_before == kLsnMax; ++i) {
    TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
    from = i;
    for (const auto& moment : scanned->moments) {
      if (moment.kind != MomentKind::kCommit || !is_after(moment, wanted, request.exclusive)) continue;
      if (moment.lsn < base.stop_lsn) continue;
      stop_before = moment.lsn;
      break;
    }
  }
  TRY_ASSIGN(std::optional<Moment> last, commit_before(run, from, stop_before));
  TRY_ASSIGN(RecoveryPlan plan, make_plan(lineage, run, last ? last->end : base.stop_lsn));
  plan.last_commit = last;
  if (!last) {
    plan.immediate = true;
    plan.explanation =
        fmt::format("nothing was committed between the snapshot's end ({}) and {}: the snapshot's own state",
                    format_time_(base.stop_ns), told);
    return plan;
  }
  plan.target_lsn = last->lsn;
  plan.explanation =
      fmt::format("the last commit {} {}: transaction {} at {}, {}", request.exclusive ? "before" : "up to",
                  told, last->xid, format_lsn(last->lsn), format_time_(last->time_ns));
  return plan;
}

Result<RecoveryPlan> RestorePlanner::find_lsn(const TargetRequest& request, const Lineage& lineage) {
  const Timeline timeline = lineage.back().timeline;
  const std::string told = format_lsn(request.lsn);
  auto fitting = bases_on(lineage, request);
  std::erase_if(fitting, [&](size_t i) { return bases_[i].stop_lsn > request.lsn; });
  if (fitting.empty()) {
    return refuse(fmt::format("{} cannot be restored", told), "no snapshot ended at or before it", timeline);
  }
  Run run = run_of(lineage, fitting[0]);
  const auto& segments = run.reach.segments;
  const std::string hole =
      run.reach.gap ? describe(*run.reach.gap) : std::string("the archived WAL ends before it");
  if (run.reach.to < request.lsn) return refuse(fmt::format("{} cannot be restored", told), hole, timeline);
  const Base& base = bases_[run.base];
  auto own_state = [&]() -> Result<RecoveryPlan> {
    TRY_ASSIGN(RecoveryPlan plan, make_plan(lineage, run, base.stop_lsn));
    plan.immediate = true;
    plan.explanation =
        fmt::format("no record follows the snapshot's end {}: its own state", format_lsn(base.stop_lsn));
    return plan;
  };
  if (segments.empty()) return own_state();
  // The server stops at the first record that begins at or after the position: it must be there.
  size_t at = 0;
  while (at + 1 < segments.size() && segments[at + 1].start <= request.lsn) ++at;
  bool found = false;
  Lsn last_record = 0, end = 0;
  for (size_t i = at; i < segments.size() && !found; ++i) {
    TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
    if (scanned->last_record == 0) continue;
    last_record = scanned->last_record;
    end = scanned->end;
    found = last_record >= request.lsn;
  }
  for (size_t i = at; end == 0 && i-- > 0;) {  // no record begins there: the position is after the last one
    TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
    last_record = scanned->last_record;
    end = scanned->end;
  }
  // A record that spans segments, or the headers between them: up to one page may lie between two records.
  constexpr Lsn kBetweenRecordsMax = 8192;
  const bool at_end =
      !found && end != 0 && request.lsn <= end + kBetweenRecordsMax && request.lsn >= last_record;
  if (!found && !at_end) return refuse(fmt::format("{} cannot be restored", told), hole, timeline);

  const bool beyond_all = at_end && last_record < request.lsn;
  if (beyond_all && last_record < base.stop_lsn) return own_state();
  TRY_ASSIGN(RecoveryPlan plan,
             make_plan(lineage, run, found ? std::max(request.lsn + 1, segments[at].start) : end));
  if (found) {
    // The record may begin in a later segment (after a switch): promise that one too.
    for (size_t i = at; i < segments.size(); ++i) {
      TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
      if (scanned->last_record < request.lsn) continue;
      const Lsn needed = std::max(request.lsn, scanned->first_record);
      TRY_ASSIGN(plan, make_plan(lineage, run, needed + 1));
      break;
    }
  }
  plan.target_lsn = beyond_all ? last_record : request.lsn;
  plan.inclusive = beyond_all || !request.exclusive;
  TRY_ASSIGN(plan.last_commit,
             commit_before(run, at, request.exclusive && !beyond_all ? request.lsn : request.lsn + 1));
  plan.explanation = fmt::format("{} {}", request.exclusive ? "everything before" : "everything up to", told);
  if (plan.last_commit) {
    plan.explanation += fmt::format(": the last commit is of {}", format_time_(plan.last_commit->time_ns));
  }
  return plan;
}

Result<RecoveryPlan> RestorePlanner::find_named(const TargetRequest& request, const Lineage& lineage) {
  const Timeline timeline = lineage.back().timeline;
  const bool by_xid = request.kind == TargetKind::kXid;
  const std::string told =
      by_xid ? fmt::format("transaction {}", request.xid) : fmt::format("restore point \"{}\"", request.name);
  auto matches = [&](const Moment& moment) {
    if (!by_xid) return moment.kind == MomentKind::kRestorePoint && moment.name == request.name;
    return (moment.kind == MomentKind::kCommit || moment.kind == MomentKind::kAbort) &&
           moment.xid == request.xid;
  };
  // From the newest end backward; each snapshot adds only WAL that the newer ones did not reach.
  const auto fitting = bases_on(lineage, request);
  std::string before_all;
  for (size_t base : fitting) {
    Run run = run_of(lineage, base);
    for (size_t i = run.reach.segments.size(); i-- > run.first;) {
      TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
      for (auto moment = scanned->moments.rbegin(); moment != scanned->moments.rend(); ++moment) {
        if (!matches(*moment)) continue;
        if (moment->lsn < bases_[base].stop_lsn) {
          before_all = fmt::format("it is at {}, before the end of the oldest snapshot that could begin",
                                   format_lsn(moment->lsn));
          continue;
        }
        if (by_xid && moment->kind == MomentKind::kAbort) {
          return refuse(fmt::format("{} cannot be restored to", told),
                        fmt::format("it was rolled back, at {}", format_lsn(moment->lsn)), timeline);
        }
        TRY_ASSIGN(RecoveryPlan plan, make_plan(lineage, run, moment->end));
        plan.target_lsn = moment->lsn;
        plan.inclusive = !request.exclusive || !by_xid;
        TRY_ASSIGN(plan.last_commit, commit_before(run, i, plan.inclusive ? moment->lsn + 1 : moment->lsn));
        plan.explanation = fmt::format("{} {} at {}, {}", plan.inclusive ? "up to" : "just before", told,
                                       format_lsn(moment->lsn), format_time_(moment->time_ns));
        return plan;
      }
    }
  }
  return refuse(fmt::format("{} is not in the archived WAL", told), before_all, timeline);
}

Result<RecoveryPlan> RestorePlanner::find_latest(const TargetRequest& request, const Lineage& lineage) {
  const Timeline timeline = lineage.back().timeline;
  auto fitting = bases_on(lineage, request);
  if (fitting.empty()) {
    return refuse(fmt::format("nothing can be restored on timeline {}", timeline),
                  "no snapshot is on the way to it", timeline);
  }
  Run run = run_of(lineage, fitting[0]);
  const Base& base = bases_[run.base];
  if (run.reach.why == ReachEnd::kConflict) {
    return refuse(
        "the latest state cannot be restored",
        fmt::format("after {} the archive holds two contents of the same WAL", format_lsn(run.reach.to)),
        timeline);
  }
  if (run.reach.gap || (base.has_own_wal && run.reach.to < base.stop_lsn)) {
    // Stopping at the hole would be a loss that nobody was told of (P33).
    return refuse("the latest state cannot be restored",
                  run.reach.gap ? describe(*run.reach.gap)
                                : fmt::format("the archive ends at {}, before the snapshot's end",
                                              format_lsn(run.reach.to)),
                  timeline);
  }
  TRY_ASSIGN(RecoveryPlan plan, make_plan(lineage, run, run.reach.to));
  if (!run.reach.segments.empty()) {
    TRY_ASSIGN(plan.last_commit, commit_before(run, run.reach.segments.size() - 1, kLsnMax));
  }
  // The last segment may end in zeros: recovery ends with the last record.
  for (size_t i = run.reach.segments.size(); i-- > 0;) {
    TRY_ASSIGN(const SegmentScan* scanned, scan(run, i));
    if (scanned->end == 0) continue;
    plan.reached = std::max(scanned->end, base.stop_lsn);
    break;
  }
  plan.explanation = fmt::format("the end of the archive at {}", format_lsn(plan.reached));
  plan.explanation += plan.last_commit
                          ? fmt::format(": the last commit is of {}", format_time_(plan.last_commit->time_ns))
                          : std::string(": nothing was committed since the snapshot");
  return plan;
}

}  // namespace kuramori::postgres
