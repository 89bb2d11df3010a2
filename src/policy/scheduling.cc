#include "policy/scheduling.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/check.h"

namespace kuramori {
namespace {

constexpr std::string_view kKinds[] = {"backup", "copy", "drill", "prune", "collect", "scrub"};
constexpr std::string_view kStates[] = {"CREATED", "PENDING", "RUNNING", "COMPLETED", "PARTIAL",
                                        "FAILED",  "EXPIRED", "ABORTED", "CANCELLED"};

constexpr int kImportanceUnsaid = 2;  // as of medium

int importance_of(const ResourceConfig& resource) {
  const int rank = criticality_rank(resource);
  return rank < kCriticalities ? rank : kImportanceUnsaid;
}

std::optional<Duration> length_of(const std::optional<Period>& period) {
  if (!period || !period->is_exact()) return std::nullopt;
  return std::chrono::seconds(period->seconds);
}

// How much earlier another job may have been due and still wait behind this one. Everything comes to its
// turn: what waits long enough is first, whatever it is.
Duration handicap(const Job& job) {
  using std::chrono::minutes;
  const Duration by_importance = minutes(10) * std::clamp(job.importance, 0, kCriticalities - 1);
  switch (job.kind) {
    case JobKind::kBackup:
      return by_importance;
    case JobKind::kCopy:
      return by_importance + minutes(2);
    case JobKind::kDrill:
      return by_importance + minutes(30);
    default:
      return by_importance + minutes(60);
  }
}

// The latest moment at or before `now`; `first` is one. Looks back from `now` in doubling strides, so that
// years of downtime cost no more than an hour's.
Time last_moment(const When& when, Time first, Time now) {
  Time at = first;
  for (Duration back = std::chrono::minutes(1); now - back > first; back *= 2) {
    auto next = next_run(when, now - back);
    if (!next || *next > now) continue;
    at = *next;
    break;
  }
  for (auto next = next_run(when, at); next && *next <= now; next = next_run(when, at)) at = *next;
  return at;
}

Duration pause_after(int attempts) {
  Duration pause = kJobPauseFirst;
  for (int i = 1; i < attempts && pause < kJobPauseMost; ++i) pause *= 2;
  return std::min(pause, kJobPauseMost);
}

enum class Verdict { kCompleted, kPartial, kFinal, kTransient };

// What an exit status of the command line says of another try (docs/interface.md): a wrong configuration, a
// broken promise and a refusal stay what they are until somebody acts; a failure or a kill may pass.
Verdict verdict_of(JobKind kind, const Ending& ending) {
  if (ending.signal != 0) return Verdict::kTransient;
  switch (ending.code) {
    case 0:
      return Verdict::kCompleted;
    case 3:  // a scrub's budget ended: the next goes on
      return kind == JobKind::kScrub ? Verdict::kCompleted : Verdict::kPartial;
    case 2:
    case 4:
    case 5:
      return Verdict::kFinal;
    default:
      return Verdict::kTransient;
  }
}

void add_plan(const Config& config, const PlanConfig& plan, std::vector<Job>& jobs) {
  const bool has_time = !plan.every_change && !When{plan.schedule, plan.every, {}}.never();
  for (const std::string& resource : plan.resources) {
    auto found = config.resource(resource);
    Job base;
    base.plan = plan.name;
    base.resource = resource;
    base.vaults = {plan.vault};
    base.importance = found ? importance_of(**found) : kImportanceUnsaid;
    const std::string where = fmt::format("{}/{}", plan.name, resource);
    Job backup = base;
    backup.id = "backup " + where;
    backup.when = {plan.schedule, plan.every, plan.timezone};
    backup.start_window = length_of(plan.start_window);
    backup.completion_window = length_of(plan.completion_window);
    backup.lane = "source " + resource;
    if (has_time) jobs.push_back(backup);
    for (const CopyConfig& copy : plan.copies) {
      if (copy.to == plan.vault || !has_time) continue;
      Job job = base;
      job.kind = JobKind::kCopy;
      job.id = fmt::format("copy {} to {}", where, copy.to);
      job.to = copy.to;
      job.after = backup.id;
      job.lane = fmt::format("copy {} to {}", resource, copy.to);
      jobs.push_back(std::move(job));
    }
    if (!plan.drill || plan.drill->schedule.dialect == Schedule::Dialect::kNone) continue;
    Job drill = base;
    drill.kind = JobKind::kDrill;
    drill.id = "drill " + where;
    drill.when = {plan.drill->schedule, std::nullopt, plan.timezone};
    drill.lane = "drill " + resource;
    if (plan.drill->vault == "alternate") {
      for (const CopyConfig& copy : plan.copies)
        if (std::ranges::find(drill.vaults, copy.to) == drill.vaults.end()) drill.vaults.push_back(copy.to);
    } else if (!plan.drill->vault.empty()) {
      drill.vaults = {plan.drill->vault};
    }
    jobs.push_back(std::move(drill));
  }
}

void add_upkeep(const VaultConfig& vault, std::vector<Job>& jobs) {
  auto add = [&](JobKind kind, const Schedule& schedule, bool unasked) {
    if (schedule.dialect == Schedule::Dialect::kNone) return;
    Job job;
    job.unasked = unasked;
    job.kind = kind;
    job.id = fmt::format("{} {}", name_of(kind), vault.name);
    job.vaults = {vault.name};
    job.when = {schedule, std::nullopt, vault.upkeep.timezone};
    job.importance = kCriticalities - 1;
    job.lane = "upkeep " + vault.name;
    if (kind == JobKind::kScrub) job.budget = vault.upkeep.scrub_budget;
    jobs.push_back(std::move(job));
  };
  add(JobKind::kPrune, vault.upkeep.prune, vault.upkeep.prune_unasked);
  add(JobKind::kCollect, vault.upkeep.collect, vault.upkeep.collect_unasked);
  add(JobKind::kScrub, vault.upkeep.scrub, vault.upkeep.scrub_unasked);
}

}  // namespace

std::string_view name_of(JobKind kind) {
  return kKinds[static_cast<size_t>(kind)];
}
std::string_view name_of(RunState state) {
  return kStates[static_cast<size_t>(state)];
}
std::optional<RunState> run_state_of(std::string_view name) {
  for (size_t i = 0; i < std::size(kStates); ++i)
    if (kStates[i] == name) return static_cast<RunState>(i);
  return std::nullopt;
}

std::string text_of(const When& when) {
  return fmt::format("{}|{}|{}", when.schedule.text, when.every ? format_period(*when.every) : "",
                     when.timezone);
}

std::vector<Job> jobs_of(const Config& config) {
  std::vector<Job> jobs;
  for (const PlanConfig& plan : config.plans) add_plan(config, plan, jobs);
  std::set<std::string> used;
  for (const Job& job : jobs) {
    used.insert(job.vaults.begin(), job.vaults.end());
    if (!job.to.empty()) used.insert(job.to);
  }
  for (const VaultConfig& vault : config.vaults)
    if (used.contains(vault.name)) add_upkeep(vault, jobs);
  return jobs;
}

// --- jobs come and go --------------------------------------------------------------------------------

void Scheduler::set_jobs(std::vector<Job> jobs, const JobLimits& limits,
                         const std::map<std::string, JobMemory>& memory, Now now) {
  limits_ = limits;
  followers_.clear();
  for (auto& [id, state] : states_) state.gone = true;
  for (Job& job : jobs) {
    if (!job.after.empty()) followers_[job.after].push_back(job.id);
    auto [at, is_new] = states_.try_emplace(job.id);
    State& state = at->second;
    const bool same_time = !is_new && state.job.when == job.when;
    state.job = std::move(job);
    state.gone = false;
    auto known = memory.find(state.job.id);
    if (is_new && known != memory.end()) {
      state.last_vault = known->second.last_vault;
      state.had_run.assign(known->second.had_run.begin(), known->second.had_run.end());
      // What the clock says now counts: it may have been ahead when that was written.
      if (known->second.when == text_of(state.job.when))
        state.watched_until = std::min(known->second.watched_until, now.wall);
      else
        state.watched_until = now.wall;
    } else if (!same_time) {
      state.watched_until = now.wall;
    }
    if (!same_time) remember(state);
    find_next(state);
  }
  std::vector<std::string> gone;
  for (auto& [id, state] : states_)
    if (state.gone) gone.push_back(id);
  for (const std::string& id : gone) {
    State& state = states_.find(id)->second;
    if (state.waiting) {
      Run run = std::move(state.waiting->run);
      state.waiting.reset();
      close(std::move(run), RunState::kCancelled, "the configuration no longer asks for it", now);
    }
    find_next(state);
    set_timer(state);
    set_ready(state);
    forget_gone(id);
  }
}

void Scheduler::forget_gone(const std::string& id) {
  auto at = states_.find(id);
  if (at != states_.end() && at->second.gone && !at->second.waiting && !at->second.running) states_.erase(at);
}

void Scheduler::take_up(Run run, Now now) {
  auto at = states_.find(run.job);
  if (at == states_.end() || at->second.gone)
    return close(std::move(run), RunState::kCancelled, "the configuration no longer asks for it", now);
  State& state = at->second;
  // One worked while the next waited. The next stands for both: the snapshot of the one that worked may
  // stand, and the moment that came after it would have none. Numbers say which is the later, whatever a
  // clock did.
  if (state.waiting) {
    Run later = std::move(state.waiting->run);
    state.waiting.reset();
    if (later.id < run.id) std::swap(later, run);
    std::string why = run.why + (run.why.empty() ? "" : "; ") + "the next run was due by then";
    close(std::move(run), RunState::kCancelled, std::move(why), now);
    run = std::move(later);
  }
  wait_for_start(state, std::move(run), now);
}

// --- moments -----------------------------------------------------------------------------------------

void Scheduler::find_next(State& state) {
  if (state.next) due_.erase({*state.next, &state});
  state.next.reset();
  if (state.gone || state.job.when.never()) return;
  state.next = next_run(state.job.when, state.watched_until);
  if (state.next) due_.insert({*state.next, &state});
}

void Scheduler::notice_moments(State& state, Now now) {
  const When& when = state.job.when;
  const Time first = *state.next;
  const Time last = when.is_by_clock() ? last_moment(when, first, now.wall) : first;
  // So many hours after the last run: after this one, late as it is.
  state.watched_until = when.is_by_clock() ? last : now.wall;
  // The clock was put back, and this moment had its run.
  auto had = [&](Time moment) { return std::ranges::find(state.had_run, moment) != state.had_run.end(); };
  if (!had(last))
    make_due(state, last, first, now);
  else if (!had(first))
    make_due(state, first, first, now);
  remember(state);
  find_next(state);
}

void Scheduler::make_due(State& state, Time due, Time since, Now now) {
  if (state.waiting && state.waiting->elsewhere) {
    // That daemon's run may not be this moment's. Should it never end, one run here is for both: a new one,
    // for what was tried of the old one says nothing of this moment.
    Run before = std::move(state.waiting->run);
    state.waiting.reset();
    std::string why = before.why + "; the next run was due by then";
    close(std::move(before), RunState::kCancelled, std::move(why), now);
  }
  if (!state.waiting) {
    Run run;
    run.id = next_id_++;
    run.job = state.job.id;
    run.due = due;
    run.since = since;
    run.vault = pick_vault(state);
    run.created = now.wall;
    if (state.running) run.why = "an earlier run of it still works";
    state.had_run.push_back(due);
    if (state.had_run.size() > kMomentsRemembered) state.had_run.pop_front();
    wait_for_start(state, std::move(run), now);
    return;
  }
  if (!state.waiting->try_at) return;
  // It pauses after a failure: this moment would try, so it does.
  state.waiting->try_at.reset();
  state.waiting->run.state = RunState::kPending;
  changed(state.waiting->run);
  set_timer(state);
  set_ready(state);
}

void Scheduler::wait_for_start(State& state, Run run, Now now) {
  run.state = RunState::kPending;
  by_run_[run.id] = &state;
  changed(run);
  Waiting waiting{.run = std::move(run), .try_at = {}, .start_by = {}, .complete_by = {}};
  if (state.job.start_window && waiting.run.attempt == 0)
    waiting.start_by = now.steady + *state.job.start_window;
  state.waiting = std::move(waiting);
  set_timer(state);
  set_ready(state);
}

// For the moment of what they follow: each daemon with these plans names their runs alike.
void Scheduler::start_followers(const State& state, Time due, Now now) {
  auto followers = followers_.find(state.job.id);
  if (followers == followers_.end()) return;
  for (const std::string& id : followers->second) {
    auto at = states_.find(id);
    if (at != states_.end() && !at->second.gone) make_due(at->second, due, due, now);
  }
}

std::string Scheduler::pick_vault(const State& state) const {
  const std::vector<std::string>& vaults = state.job.vaults;
  if (vaults.empty()) return {};
  auto last = std::ranges::find(vaults, state.last_vault);
  if (last == vaults.end() || ++last == vaults.end()) return vaults.front();
  return *last;
}

// --- what waits, and for what --------------------------------------------------------------------------

void Scheduler::set_timer(State& state) {
  if (state.timer) timers_.erase({*state.timer, &state});
  state.timer.reset();
  auto consider = [&](const std::optional<Duration>& at) {
    if (at && (!state.timer || *at < *state.timer)) state.timer = at;
  };
  if (state.waiting) {
    consider(state.waiting->try_at);
    consider(state.waiting->start_by);
    consider(state.waiting->complete_by);
  }
  if (state.running) consider(state.running->complete_by);
  if (state.timer) timers_.insert({*state.timer, &state});
}

void Scheduler::set_ready(State& state) {
  if (state.rank) ready_.erase({*state.rank, &state});
  state.rank.reset();
  if (!state.waiting || state.waiting->try_at) return;
  state.rank = state.waiting->run.since + handicap(state.job);
  ready_.insert({*state.rank, &state});
}

void Scheduler::expire(State& state, Now now) {
  auto is_past = [&](const std::optional<Duration>& at) { return at && now.steady >= *at; };
  if (state.running && is_past(state.running->complete_by)) {
    state.running->complete_by.reset();
    if (state.running->stopped == Stopped::kNo) {
      state.running->stopped = Stopped::kAborted;
      pending_.stop.push_back(state.running->run.id);
    }
  }
  if (state.waiting && (is_past(state.waiting->start_by) || is_past(state.waiting->complete_by))) {
    const bool never_started = is_past(state.waiting->start_by);
    Run run = std::move(state.waiting->run);
    state.waiting.reset();
    if (never_started) {
      std::string why = fmt::format("it did not start within {}",
                                    format_duration(state.job.start_window.value_or(Duration(0))));
      if (lanes_.contains(state.job.lane)) why += ": an earlier run had not ended";
      close(std::move(run), RunState::kExpired, std::move(why), now);
    } else {
      std::string why = fmt::format("it was not done within {}, after {} tries{}{}",
                                    format_duration(state.job.completion_window.value_or(Duration(0))),
                                    run.attempt, run.why.empty() ? "" : "; the last: ", run.why);
      close(std::move(run), RunState::kAborted, std::move(why), now);
    }
  } else if (state.waiting && is_past(state.waiting->try_at)) {
    state.waiting->try_at.reset();
    state.waiting->elsewhere = false;
    state.waiting->run.state = RunState::kPending;
    changed(state.waiting->run);
  }
  set_timer(state);
  set_ready(state);
}

bool Scheduler::has_room(const State& state) const {
  if (lanes_.contains(state.job.lane)) return false;
  if (state.job.kind == JobKind::kDrill && drilling_ >= static_cast<size_t>(limits_.drills)) return false;
  auto is_full = [&](const std::string& vault) {
    auto at = at_vault_.find(vault);
    return at != at_vault_.end() && at->second >= static_cast<size_t>(limits_.jobs_per_vault);
  };
  return !is_full(state.waiting->run.vault) && (state.job.to.empty() || !is_full(state.job.to));
}

void Scheduler::start(State& state, Now now) {
  Waiting waiting = std::move(*state.waiting);
  state.waiting.reset();
  Run& run = waiting.run;
  run.state = RunState::kRunning;
  run.attempt += 1;
  run.why.clear();
  if (!run.started || run.attempt == 1) run.started = now.wall;
  Running running{.run = run, .complete_by = waiting.complete_by};
  if (!running.complete_by && state.job.completion_window)
    running.complete_by = now.steady + *state.job.completion_window;
  state.running = std::move(running);
  lanes_.insert(state.job.lane);
  at_vault_[run.vault] += 1;
  if (!state.job.to.empty()) at_vault_[state.job.to] += 1;
  running_ += 1;
  drilling_ += state.job.kind == JobKind::kDrill;
  changed(run);
  pending_.start.push_back(run);
  set_timer(state);
  set_ready(state);
}

// --- what happens --------------------------------------------------------------------------------------

Step Scheduler::step(Now now) {
  if (last_wall_ && now.wall < *last_wall_) {
    // The clock was put back. Moments that lie ahead again are looked at again; those that had their run have
    // had it.
    for (auto& [id, state] : states_) {
      if (state.watched_until <= now.wall) continue;
      state.watched_until = now.wall;
      find_next(state);
    }
  }
  last_wall_ = now.wall;
  if (!stopping_) {
    while (!due_.empty() && due_.begin()->first <= now.wall) notice_moments(*due_.begin()->second, now);
    while (!timers_.empty() && timers_.begin()->first <= now.steady) expire(*timers_.begin()->second, now);
    for (auto at = ready_.begin(); at != ready_.end() && running_ < static_cast<size_t>(limits_.jobs);) {
      State& state = *(at++)->second;
      if (has_room(state)) start(state, now);
    }
  }
  return std::exchange(pending_, {});
}

std::optional<Duration> Scheduler::wait(Now now) const {
  if (!pending_.changed.empty() || !pending_.stop.empty() || !pending_.remembered.empty()) return Duration(0);
  if (stopping_) return std::nullopt;
  std::optional<Duration> wait;
  if (!due_.empty()) wait = due_.begin()->first - now.wall;
  if (!timers_.empty() && (!wait || timers_.begin()->first - now.steady < *wait))
    wait = timers_.begin()->first - now.steady;
  if (wait) wait = std::max(*wait, Duration(0));
  return wait;
}

Scheduler::Running Scheduler::leave(State& state) {
  Running running = std::move(*state.running);
  state.running.reset();
  lanes_.erase(state.job.lane);
  at_vault_[running.run.vault] -= 1;
  if (!state.job.to.empty()) at_vault_[state.job.to] -= 1;
  running_ -= 1;
  drilling_ -= state.job.kind == JobKind::kDrill;
  return running;
}

void Scheduler::held_elsewhere(int64_t id, Duration again, const std::string& by, Now now) {
  auto at = by_run_.find(id);
  CHECK(at != by_run_.end() && at->second->running && at->second->running->run.id == id);
  State& state = *at->second;
  const std::string id_of_job = state.job.id;
  Running running = leave(state);
  Run& run = running.run;
  if (running.stopped == Stopped::kCancelled) {
    close(std::move(run), RunState::kCancelled, "somebody asked for it", now);
  } else if (state.gone) {
    close(std::move(run), RunState::kCancelled, "the configuration no longer asks for it", now);
  } else if (state.waiting) {
    close(std::move(run), RunState::kCancelled, fmt::format("{} is at it; the next run was due by then", by),
          now);
  } else {
    // It was not tried here. Its windows are those of the daemon that is at it.
    run.attempt -= 1;
    if (run.attempt == 0) run.started.reset();
    run.state = RunState::kCreated;
    run.why = fmt::format("{} is at it", by);
    changed(run);
    if (stopping_) {
      by_run_.erase(run.id);
    } else {
      state.waiting = Waiting{.run = std::move(run),
                              .try_at = now.steady + again,
                              .start_by = {},
                              .complete_by = {},
                              .elsewhere = true};
    }
  }
  set_timer(state);
  set_ready(state);
  forget_gone(id_of_job);
}

void Scheduler::done_elsewhere(int64_t id, Time due, const std::string& by, Now now) {
  auto at = by_run_.find(id);
  CHECK(at != by_run_.end() && at->second->running && at->second->running->run.id == id);
  State& state = *at->second;
  const std::string id_of_job = state.job.id;
  Running running = leave(state);
  const Time moment = running.run.due;
  close(std::move(running.run), RunState::kCompleted, fmt::format("done by {}", by), now);
  if (!state.job.when.never() && !state.job.when.is_by_clock() && due < now.wall) {
    // So many hours after the last run: after that one.
    state.watched_until = due;
    remember(state);
    find_next(state);
  }
  start_followers(state, moment, now);
  set_timer(state);
  set_ready(state);
  forget_gone(id_of_job);
}

void Scheduler::ended(int64_t id, const Ending& ending, Now now) {
  auto at = by_run_.find(id);
  CHECK(at != by_run_.end() && at->second->running && at->second->running->run.id == id);
  State& state = *at->second;
  Running running = leave(state);

  Run& run = running.run;
  const std::string id_of_job = run.job;
  const Time due = run.due;
  const Verdict verdict = verdict_of(state.job.kind, ending);
  const bool success = verdict == Verdict::kCompleted || verdict == Verdict::kPartial;
  if (state.job.kind == JobKind::kDrill && (success || verdict == Verdict::kFinal)) {
    state.last_vault = run.vault;
    remember(state);
  }
  if (success) {
    close(std::move(run), verdict == Verdict::kCompleted ? RunState::kCompleted : RunState::kPartial,
          ending.why, now);
    start_followers(state, due, now);
  } else if (running.stopped == Stopped::kAborted) {
    const Duration window = state.job.completion_window.value_or(Duration(0));
    close(std::move(run), RunState::kAborted,
          fmt::format("it was not done within {}", format_duration(window)), now);
  } else if (running.stopped == Stopped::kCancelled) {
    close(std::move(run), RunState::kCancelled, "somebody asked for it", now);
  } else if (verdict == Verdict::kFinal) {
    close(std::move(run), RunState::kFailed, ending.why, now);
  } else if (state.gone) {
    close(std::move(run), RunState::kCancelled, "the configuration no longer asks for it", now);
  } else if (state.waiting) {
    close(std::move(run), RunState::kFailed, ending.why + "; the next run was due by then", now);
  } else if (stopping_) {
    // The next daemon starts it.
    run.state = RunState::kCreated;
    run.why = "interrupted: the daemon stopped";
    changed(run);
    by_run_.erase(run.id);
  } else if (run.attempt >= kJobTriesMax) {
    close(std::move(run), RunState::kFailed, fmt::format("{} (tried {} times)", ending.why, kJobTriesMax),
          now);
  } else {
    run.state = RunState::kCreated;
    run.why = ending.why;
    changed(run);
    const Duration again = now.steady + pause_after(run.attempt);
    state.waiting =
        Waiting{.run = std::move(run), .try_at = again, .start_by = {}, .complete_by = running.complete_by};
  }
  set_timer(state);
  set_ready(state);
  forget_gone(id_of_job);
}

bool Scheduler::cancel(int64_t id, Now now) {
  auto at = by_run_.find(id);
  if (at == by_run_.end()) return false;
  State& state = *at->second;
  if (state.running && state.running->run.id == id) {
    if (state.running->stopped != Stopped::kNo) return true;
    state.running->stopped = Stopped::kCancelled;
    pending_.stop.push_back(id);
    return true;
  }
  Run run = std::move(state.waiting->run);
  state.waiting.reset();
  close(std::move(run), RunState::kCancelled, "somebody asked for it", now);
  set_timer(state);
  set_ready(state);
  return true;
}

bool Scheduler::run_now(std::string_view job, Now now) {
  auto at = states_.find(job);
  if (at == states_.end() || at->second.gone) return false;
  make_due(at->second, now.wall, now.wall, now);
  return true;
}

void Scheduler::close(Run run, RunState end, std::string why, Now now) {
  by_run_.erase(run.id);
  run.state = end;
  run.ended = now.wall;
  run.why = std::move(why);
  changed(run);
}

void Scheduler::changed(const Run& run) {
  pending_.changed.push_back(run);
}

void Scheduler::remember(const State& state) {
  pending_.remembered[state.job.id] = {.watched_until = state.watched_until,
                                       .had_run = {},
                                       .last_vault = state.last_vault,
                                       .when = text_of(state.job.when)};
}

std::vector<Run> Scheduler::open_runs() const {
  std::vector<Run> runs;
  for (const auto& [id, state] : states_) {
    if (state.running) runs.push_back(state.running->run);
    if (state.waiting) runs.push_back(state.waiting->run);
  }
  return runs;
}

const Job* Scheduler::find_job(std::string_view id) const {
  auto at = states_.find(id);
  return at == states_.end() ? nullptr : &at->second.job;
}

}  // namespace kuramori
