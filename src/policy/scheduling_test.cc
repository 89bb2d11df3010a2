#include "policy/scheduling.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <random>
#include <set>

#include "base/time_text.h"

namespace kuramori {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr auto kBegin = "2026-01-01 00:00:00Z";

Time at(std::string_view text) {
  auto moment = parse_moment(text);
  EXPECT_TRUE(moment) << text;
  return moment ? moment->time : Time{};
}

Config config_of(const std::string& text) {
  ConfigWorld world{
      .environment = [](const std::string&) { return std::optional<std::string>(); },
      .read_file = [](const std::string& path) -> Result<std::string> { return path; },
      .run_command = [](const std::string& command) -> Result<std::string> { return command; },
  };
  auto config = parse_config(text, "/etc/kuramori/kuramori.yaml", world);
  EXPECT_TRUE(config) << (config ? "" : config.error().what);
  return config ? *config : Config{};
}

const std::string kVaults =
    "vaults:\n"
    "  tokyo: { at: /srv/tokyo, key_file: /k, upkeep: { prune: off, collect: off, scrub: off } }\n"
    "  osaka: { at: /srv/osaka, key_file: /k, upkeep: { prune: off, collect: off, scrub: off } }\n"
    "resources:\n"
    "  a: { kind: files, paths: [/a] }\n"
    "  b: { kind: files, paths: [/b], criticality: critical }\n"
    "  c: { kind: files, paths: [/c], criticality: low }\n";

Config with_plans(const std::string& plans, const std::string& more = "") {
  return config_of(kVaults + "plans:\n" + plans + more);
}

using JobRun = Run;  // a test has a Run() of its own

// A world in which jobs take time and end as it is told, and whose journal outlives the scheduler.
class World {
 public:
  explicit World(Config config, Time begin = at(kBegin)) : wall(begin), config_(std::move(config)) {
    restart();
  }

  // How a job goes: its length and its end.
  std::function<std::pair<Duration, Ending>(const JobRun&)> work = [](const JobRun&) {
    return std::pair(Duration(seconds(5)), Ending{});
  };

  Time wall;
  Duration steady{0};
  std::map<int64_t, JobRun> journal;
  std::vector<std::pair<Time, JobRun>> starts;  // in order
  std::optional<Scheduler> scheduler;

  Now now() const { return {wall, steady}; }

  void use(Config config) {
    config_ = std::move(config);
    scheduler->set_jobs(jobs_of(config_), config_.daemon, {}, now());
    settle();
  }

  // What happens by itself until then.
  void run_for(Duration length) {
    const Duration end = steady + length;
    for (;;) {
      settle();
      Duration next = end;
      if (auto wait = scheduler->wait(now()); wait && steady + *wait < next) next = steady + *wait;
      if (!working_.empty() && working_.begin()->first < next) next = working_.begin()->first;
      wall += next - steady;
      steady = next;
      bool ended = false;
      while (!working_.empty() && working_.begin()->first <= steady) {
        const auto [id, ending] = working_.begin()->second;
        working_.erase(working_.begin());
        scheduler->ended(id, ending, now());
        ended = true;
      }
      if (steady >= end && !ended) break;
    }
    settle();
  }

  // The daemon is killed, and with it what it ran; of that, `unnoticed` says which had succeeded. It is back
  // after `away`.
  void kill_for(
      Duration away,
      const std::function<bool(const JobRun&)>& unnoticed = [](const JobRun&) { return false; }) {
    working_.clear();
    wall += away;
    steady += away;
    restart(unnoticed);
  }

  std::vector<JobRun> runs(const std::string& job) const {
    std::vector<JobRun> out;
    for (const auto& [id, run] : journal)
      if (run.job == job) out.push_back(run);
    return out;
  }
  std::vector<std::string> dues(const std::string& job) const {
    std::vector<std::string> out;
    for (const JobRun& run : runs(job)) out.push_back(format_utc(run.due));
    return out;
  }
  std::vector<RunState> states(const std::string& job) const {
    std::vector<RunState> out;
    for (const JobRun& run : runs(job)) out.push_back(run.state);
    return out;
  }

  void settle() {
    Step step = scheduler->step(now());
    for (const JobRun& run : step.changed) journal[run.id] = run;
    for (const auto& [job, memory] : step.remembered) memory_[job] = memory;
    for (const JobRun& run : step.start) {
      starts.emplace_back(wall, run);
      if (succeeded_.erase(run.id) != 0) {  // found in the vault: it is not done again
        working_.insert({steady, {run.id, Ending{}}});
        continue;
      }
      EXPECT_EQ(journal[run.id].state, RunState::kRunning) << "started before it was written down";
      const auto [length, ending] = work(run);
      working_.insert({steady + length, {run.id, ending}});
      check_room();
    }
    for (int64_t id : step.stop) {
      std::erase_if(working_, [&](const auto& one) { return one.second.first == id; });
      working_.insert({steady + seconds(1), {id, Ending{.signal = 15}}});
    }
  }

 private:
  void restart(const std::function<bool(const JobRun&)>& unnoticed = {}) {
    int64_t next_id = journal.empty() ? 1 : journal.rbegin()->first + 1;
    std::map<std::string, JobMemory> memory = memory_;
    for (const auto& [id, run] : journal)
      if (memory.contains(run.job)) memory[run.job].had_run.push_back(run.due);
    scheduler.emplace(next_id);
    scheduler->set_jobs(jobs_of(config_), config_.daemon, memory, now());
    for (const auto& [id, run] : std::map(journal)) {
      if (is_over(run.state)) continue;
      if (run.state == RunState::kRunning && unnoticed && unnoticed(run)) succeeded_.insert(id);
      scheduler->take_up(run, now());
    }
    settle();
  }

  void check_room() {
    std::set<std::string> lanes;
    std::map<std::string, int> at_vault;
    int drills = 0, all = 0;
    for (const JobRun& run : scheduler->open_runs()) {
      if (run.state != RunState::kRunning) continue;
      const Job* job = scheduler->find_job(run.job);
      ASSERT_NE(job, nullptr);
      EXPECT_TRUE(lanes.insert(job->lane).second) << "two at a time: " << job->lane;
      at_vault[run.vault] += 1;
      if (!job->to.empty()) at_vault[job->to] += 1;
      drills += job->kind == JobKind::kDrill;
      ++all;
    }
    EXPECT_LE(all, config_.daemon.jobs);
    EXPECT_LE(drills, config_.daemon.drills);
    for (const auto& [vault, count] : at_vault) EXPECT_LE(count, config_.daemon.jobs_per_vault) << vault;
  }

  Config config_;
  std::map<std::string, JobMemory> memory_;
  std::multimap<Duration, std::pair<int64_t, Ending>> working_;
  std::set<int64_t> succeeded_;  // before the daemon died, which had not heard of it
};

using States = std::vector<RunState>;
using Texts = std::vector<std::string>;

const std::string kHourly = "  p: { resources: [a], vault: tokyo, schedule: \"0 * * * *\" }\n";

TEST(Scheduling, B4_EightYearsOfTheSeedsPlansLeaveExactlyTheRunsTheyAskFor) {
  World world(config_of(
      "vaults:\n"
      "  tokyo: { at: /srv/tokyo, key_file: /k, upkeep: { scrub: off } }\n"
      "  osaka: { at: /srv/osaka, key_file: /k, upkeep: { prune: off, collect: off, scrub: off } }\n"
      "resources:\n"
      "  rds: { kind: files, paths: [/rds] }\n"
      "  efs: { kind: files, paths: [/efs] }\n"
      "  cache: { kind: files, paths: [/cache] }\n"
      "  dumps: { kind: files, paths: [/dumps] }\n"
      "plans:\n"
      "  agentkey: { resources: [rds], vault: tokyo, schedule: \"cron(0 */3 * * ? *)\", copies: [ { to: "
      "osaka } ], drill: "
      "{ schedule: \"0 5 1 * *\", vault: alternate } }\n"
      "  kaigo: { resources: [efs], vault: tokyo, schedule: \"cron(0 19 * * ? *)\", start_window: 60m, "
      "completion_window: 8h }\n"
      "  peoplebooster: { resources: [cache], vault: tokyo, schedule: \"0 3 * * *\", timezone: Asia/Tokyo }\n"
      "  tonebridge: { resources: [dumps], vault: tokyo, schedule: \"30 2 * * MON-FRI\", timezone: "
      "Europe/Berlin }\n"));
  const Time begin = world.wall;
  const int64_t all_days = (at("2034-01-01 00:00:00Z") - begin) / days(1);
  world.run_for(days(all_days) - minutes(1));

  // Day by day, by nothing but the day's number.
  std::map<int64_t, std::vector<int64_t>> rds;  // by day: hours
  for (const JobRun& run : world.runs("backup agentkey/rds"))
    rds[(run.due - begin) / days(1)].push_back((run.due - begin) % days(1) / minutes(1));
  std::map<int64_t, int> copies;
  for (const JobRun& run : world.runs("copy agentkey/rds to osaka")) copies[(run.due - begin) / days(1)] += 1;
  std::map<int64_t, int> efs, cache, dumps;
  for (const JobRun& run : world.runs("backup kaigo/efs")) {
    efs[(run.due - begin) / days(1)] += 1;
    EXPECT_EQ((run.due - begin) % days(1), hours(19));
  }
  for (const JobRun& run : world.runs("backup peoplebooster/cache")) {
    cache[(run.due - begin) / days(1)] += 1;
    EXPECT_EQ((run.due - begin) % days(1), hours(18));
  }
  for (const JobRun& run : world.runs("backup tonebridge/dumps")) dumps[(run.due - begin) / days(1)] += 1;
  for (int64_t day = 0; day < all_days; ++day) {
    std::vector<int64_t> expected{0, 180, 360, 540, 720, 900, 1080, 1260};
    if (day == 0) expected.erase(expected.begin());  // the first is strictly after the beginning
    ASSERT_EQ(rds[day], expected) << day;
    ASSERT_EQ(copies[day], static_cast<int>(expected.size())) << day;
    ASSERT_EQ(efs[day], 1) << day;
    ASSERT_EQ(cache[day], 1) << day;
    ASSERT_EQ(dumps[day], (day + 4) % 7 >= 1 && (day + 4) % 7 <= 5 ? 1 : 0) << day;  // it began on a Thursday
  }
  EXPECT_EQ(world.runs("prune tokyo").size(), static_cast<size_t>(all_days));
  // L1: a drill a month, in turn from every vault that has it.
  const std::vector<JobRun> drills = world.runs("drill agentkey/rds");
  ASSERT_EQ(drills.size(), 96U);
  for (size_t i = 0; i < drills.size(); ++i) EXPECT_EQ(drills[i].vault, i % 2 == 0 ? "tokyo" : "osaka");
  for (const auto& [id, run] : world.journal) {
    ASSERT_EQ(run.state, RunState::kCompleted) << run.job;
    ASSERT_EQ(run.due, run.since) << run.job;
    ASSERT_LE(*run.started - run.due, minutes(1)) << run.job;
  }
}

TEST(Scheduling, B11_DowntimeAcrossTwoMomentsIsOneCatchUp) {
  World world(with_plans(kHourly));
  world.run_for(minutes(90));
  world.kill_for(hours(2) + minutes(15));
  world.run_for(minutes(30));
  EXPECT_EQ(world.dues("backup p/a"),
            (Texts{"2026-01-01T01:00:00Z", "2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z"}));
  EXPECT_EQ(format_utc(world.runs("backup p/a")[1].since), "2026-01-01T02:00:00Z");
}

TEST(Scheduling, B11_YearsOfDowntimeAreOneCatchUpToo) {
  World world(with_plans("  p: { resources: [a], vault: tokyo, every: 1m }\n"));
  world.run_for(seconds(90));
  world.kill_for(days(2000));
  world.run_for(seconds(10));
  EXPECT_EQ(world.runs("backup p/a").size(), 2U);
}

TEST(Scheduling, B11_WhatRanWhenTheDaemonDiedRunsAgainUnlessItHadSucceeded) {
  for (const bool had_succeeded : {false, true}) {
    World world(with_plans(
        "  p: { resources: [a], vault: tokyo, schedule: \"0 * * * *\", copies: [ { to: osaka } ] }\n"));
    int done = 0;
    world.work = [&](const JobRun& run) {
      done += run.job == "backup p/a";
      return std::pair(Duration(minutes(20)), Ending{});
    };
    world.run_for(minutes(70));
    world.kill_for(seconds(3), [&](const JobRun&) { return had_succeeded; });
    world.run_for(minutes(45));
    EXPECT_EQ(world.dues("backup p/a"), (Texts{"2026-01-01T01:00:00Z"}));
    EXPECT_EQ(world.states("backup p/a"), (States{RunState::kCompleted}));
    EXPECT_EQ(done, had_succeeded ? 1 : 2);
    EXPECT_EQ(world.states("copy p/a to osaka"), (States{RunState::kCompleted}));
  }
}

TEST(Scheduling, B11_the_later_moment_is_made_whatever_became_of_the_run_that_the_daemon_died_in) {
  for (const bool had_succeeded : {false, true}) {
    for (const bool is_asked_for : {false, true}) {
      World world(with_plans(is_asked_for ? "  p: { resources: [a], vault: tokyo, schedule: \"0 1 * * *\" }\n"
                                          : kHourly));
      std::map<int64_t, int> done;
      world.work = [&](const JobRun& run) {
        ++done[run.id];
        return std::pair(Duration(run.id == 1 ? minutes(90) : minutes(1)), Ending{});
      };
      world.run_for(hours(2) + minutes(1));
      if (is_asked_for) {
        EXPECT_TRUE(world.scheduler->run_now("backup p/a", world.now()));
        world.settle();
      }
      ASSERT_EQ(world.states("backup p/a"), (States{RunState::kRunning, RunState::kPending}));
      world.kill_for(seconds(3), [&](const JobRun&) { return had_succeeded; });
      world.run_for(minutes(10));
      EXPECT_EQ(world.states("backup p/a"), (States{RunState::kCancelled, RunState::kCompleted}));
      EXPECT_EQ(world.runs("backup p/a")[0].why, "the next run was due by then");
      EXPECT_EQ(done, (std::map<int64_t, int>{{1, 1}, {2, 1}}));
      EXPECT_EQ(world.scheduler->open_runs().size(), 0u);
    }
  }
}

TEST(Scheduling, B11_of_two_that_were_not_over_the_later_stands_in_whatever_order_they_come) {
  World world(with_plans(kHourly));
  JobRun first{
      .id = 7, .job = "backup p/a", .due = at("2026-01-01 02:00:00Z"), .since = {}, .vault = "tokyo"};
  first.attempt = 1, first.state = RunState::kCreated, first.why = "it failed";
  JobRun second = first;
  // The clock was put back between them.
  second.id = 8, second.due = at("2026-01-01 01:00:00Z"), second.attempt = 0, second.why.clear();
  for (const bool is_swapped : {false, true}) {
    Scheduler scheduler(9);
    scheduler.set_jobs(jobs_of(with_plans(kHourly)), {}, {}, world.now());
    scheduler.take_up(is_swapped ? second : first, world.now());
    scheduler.take_up(is_swapped ? first : second, world.now());
    const Step step = scheduler.step(world.now());
    ASSERT_EQ(step.start.size(), 1u);
    EXPECT_EQ(step.start[0].id, 8);
    const auto over =
        std::ranges::find_if(step.changed, [](const JobRun& run) { return is_over(run.state); });
    ASSERT_NE(over, step.changed.end());
    EXPECT_EQ(over->id, 7);
    EXPECT_EQ(over->why, "it failed; the next run was due by then");
    EXPECT_FALSE(scheduler.cancel(7, world.now()));
  }
}

TEST(Scheduling, B3_WhatCannotStartInItsWindowExpires) {
  World world(
      with_plans("  p: { resources: [a], vault: tokyo, schedule: \"0 0 * * *\", start_window: 60m }\n"
                 "  q: { resources: [a], vault: tokyo, schedule: \"30 23 * * *\" }\n"));
  world.work = [](const JobRun& run) {
    return std::pair(Duration(run.job == "backup q/a" ? hours(3) : minutes(1)), Ending{});
  };
  world.run_for(days(1) + hours(5));
  EXPECT_EQ(world.states("backup p/a"), (States{RunState::kExpired}));
  EXPECT_EQ(world.runs("backup p/a")[0].why,
            "it did not start within 1 h 00 m: an earlier run had not ended");
  EXPECT_EQ(world.states("backup q/a"), (States{RunState::kCompleted}));
}

TEST(Scheduling, B3_WhatIsNotDoneInItsWindowIsAborted) {
  World world(with_plans(
      "  p: { resources: [a], vault: tokyo, schedule: \"0 0 * * *\", completion_window: 480m }\n"));
  world.work = [](const JobRun&) { return std::pair(Duration(hours(9)), Ending{}); };
  world.run_for(days(1) + hours(12));
  ASSERT_EQ(world.states("backup p/a"), (States{RunState::kAborted}));
  const JobRun run = world.runs("backup p/a")[0];
  EXPECT_EQ(*run.ended - *run.started, hours(8) + seconds(1));
}

TEST(Scheduling, B3_TriesThatFailEndWithTheCompletionWindow) {
  World world(
      with_plans("  p: { resources: [a], vault: tokyo, schedule: \"0 0 * * *\", completion_window: 5m }\n"));
  world.work = [](const JobRun&) {
    return std::pair(Duration(seconds(1)), Ending{.code = 1, .why = "busy"});
  };
  world.run_for(days(1) + hours(1));
  ASSERT_EQ(world.states("backup p/a"), (States{RunState::kAborted}));
  EXPECT_NE(world.runs("backup p/a")[0].why.find("the last: busy"), std::string::npos);
}

TEST(Scheduling, B11_WhatMayPassIsTriedAgainAndTheRestIsNot) {
  const std::string daily = "  p: { resources: [a], vault: tokyo, schedule: \"0 0 * * *\" }\n";
  for (int code : {0, 1, 2, 3, 4, 5, 130}) {
    World world(with_plans(daily));
    int tries = 0;
    world.work = [&](const JobRun&) {
      ++tries;
      return std::pair(Duration(seconds(1)), Ending{.code = tries < 3 ? code : 0});
    };
    world.run_for(days(1) + hours(2));
    const bool passes = code == 1 || code == 130;
    EXPECT_EQ(tries, passes ? 3 : 1) << code;
    EXPECT_EQ(world.states("backup p/a"), (States{code == 0 || passes ? RunState::kCompleted
                                                  : code == 3         ? RunState::kPartial
                                                                      : RunState::kFailed}))
        << code;
  }
  World killed(with_plans(daily));
  int tries = 0;
  killed.work = [&](const JobRun&) {
    return std::pair(Duration(seconds(1)), Ending{.signal = ++tries == 1 ? 9 : 0});
  };
  killed.run_for(days(1) + hours(2));
  EXPECT_EQ(killed.states("backup p/a"), (States{RunState::kCompleted}));
  EXPECT_EQ(killed.runs("backup p/a")[0].attempt, 2);
}

TEST(Scheduling, PausesDoubleAndEnd) {
  World world(with_plans("  p: { resources: [a], vault: tokyo, schedule: \"0 0 * * *\" }\n"));
  world.work = [](const JobRun&) { return std::pair(Duration(0), Ending{.code = 1, .why = "down"}); };
  world.run_for(days(1) + hours(12));
  ASSERT_EQ(world.starts.size(), static_cast<size_t>(kJobTriesMax));
  for (size_t i = 1; i < world.starts.size(); ++i) {
    const Duration pause = world.starts[i].first - world.starts[i - 1].first;
    EXPECT_EQ(pause, std::min<Duration>(seconds(20) * (1 << (i - 1)), kJobPauseMost)) << i;
  }
  EXPECT_EQ(world.states("backup p/a"), (States{RunState::kFailed}));
  EXPECT_EQ(world.runs("backup p/a")[0].why, "down (tried 8 times)");
}

TEST(Scheduling, B11_ARunThatOverrunsTheNextMomentIsFollowedByOne) {
  World world(with_plans(kHourly));
  world.work = [](const JobRun&) { return std::pair(Duration(minutes(150)), Ending{}); };
  world.run_for(minutes(239));
  // 01:00 ran until 03:30; 02:00 waited, 03:00 found it waiting.
  EXPECT_EQ(world.dues("backup p/a"), (Texts{"2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"}));
  EXPECT_EQ(world.starts[1].first, at("2026-01-01 03:30:00Z"));
  EXPECT_EQ(world.starts[1].second.why, "");
  world.run_for(minutes(90));  // P69: that a job is stuck is said before its end
  EXPECT_EQ(world.runs("backup p/a").back().why, "an earlier run of it still works");
}

TEST(Scheduling, B11_what_another_daemon_does_is_waited_for_and_counts_as_done) {
  const Config config = with_plans(kHourly);
  const Time begin = at("2026-01-01 00:30:00Z");
  auto after = [&](Duration passed) { return Now{begin + passed, passed}; };
  Scheduler scheduler(1);
  scheduler.set_jobs(jobs_of(config), config.daemon, {}, after({}));
  Step step = scheduler.step(after(minutes(30)));
  ASSERT_EQ(step.start.size(), 1u);
  const int64_t first = step.start[0].id;
  scheduler.held_elsewhere(first, seconds(20), "daemon b on there", after(minutes(30)));
  EXPECT_TRUE(scheduler.step(after(minutes(30) + seconds(19))).start.empty());
  step = scheduler.step(after(minutes(30) + seconds(20)));
  ASSERT_EQ(step.start.size(), 1u);
  EXPECT_EQ(step.start[0].id, first);
  EXPECT_EQ(step.start[0].attempt, 1);  // it was not tried here
  scheduler.done_elsewhere(first, begin + minutes(30), "daemon b", after(minutes(31)));
  step = scheduler.step(after(minutes(31)));
  ASSERT_EQ(step.changed.size(), 1u);
  EXPECT_EQ(step.changed[0].state, RunState::kCompleted);
  EXPECT_EQ(step.changed[0].why, "done by daemon b");
  // The next moment comes while another is at the last: it is a run of its own, for what the old one tried
  // says nothing of it.
  step = scheduler.step(after(minutes(90)));
  ASSERT_EQ(step.start.size(), 1u);
  const int64_t second = step.start[0].id;
  scheduler.held_elsewhere(second, hours(2), "daemon b on there", after(minutes(90)));
  step = scheduler.step(after(minutes(150)));
  ASSERT_EQ(step.start.size(), 1u);
  EXPECT_NE(step.start[0].id, second);
  EXPECT_EQ(format_utc(step.start[0].due), "2026-01-01T03:00:00Z");
  const auto ended = std::ranges::find_if(
      step.changed, [&](const JobRun& run) { return run.id == second && is_over(run.state); });
  ASSERT_NE(ended, step.changed.end());
  EXPECT_EQ(ended->state, RunState::kCancelled);
  EXPECT_EQ(ended->why, "daemon b on there is at it; the next run was due by then");
}

TEST(Scheduling, LatenessAndImportanceDecideWhoIsFirst) {
  World world(with_plans("  x: { resources: [a, c, b], vault: tokyo, schedule: \"0 * * * *\" }\n"
                         "  y: { resources: [c], vault: osaka, schedule: \"20 0 * * *\" }\n",
                         "daemon: { jobs: 1 }\n"),
              at("2026-01-01 00:10:00Z"));
  world.work = [](const JobRun& run) {
    return std::pair(Duration(run.job == "backup y/c" ? hours(1) : minutes(1)), Ending{});
  };
  world.run_for(hours(2));
  Texts order;
  for (const auto& [when, run] : world.starts) order.push_back(run.job);
  EXPECT_EQ(order, (Texts{"backup y/c", "backup x/b", "backup x/a", "backup x/c", "backup x/b", "backup x/a",
                          "backup x/c"}));
}

TEST(Scheduling, ClockPutBackRunsNoMomentTwiceAndForgetsNone) {
  World world(with_plans(kHourly));
  world.run_for(hours(5) + minutes(30));
  world.wall -= hours(3);  // 02:30
  world.run_for(hours(6));
  const Texts dues = world.dues("backup p/a");
  EXPECT_EQ(std::set<std::string>(dues.begin(), dues.end()).size(), dues.size());
  EXPECT_EQ(dues.back(), "2026-01-01T08:00:00Z");
  EXPECT_EQ(dues.size(), 8U);
}

TEST(Scheduling, ClockThatWasYearsAheadForAMinuteStopsNothing) {
  World world(with_plans(kHourly));
  world.run_for(hours(2) + minutes(30));
  world.wall += days(1500);
  world.run_for(minutes(1));  // one catch-up
  world.wall -= days(1500);
  world.run_for(hours(3));
  Texts dues = world.dues("backup p/a");
  ASSERT_EQ(dues.size(), 6U);
  dues.erase(dues.begin() + 2);
  EXPECT_EQ(dues, (Texts{"2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z",
                         "2026-01-01T04:00:00Z", "2026-01-01T05:00:00Z"}));
  // The same when the daemon was killed in between.
  world.wall += days(1500);
  world.run_for(minutes(1));
  world.wall -= days(1500);
  world.kill_for(seconds(1));
  world.run_for(hours(2));
  EXPECT_EQ(world.dues("backup p/a").back(), "2026-01-01T07:00:00Z");
}

TEST(Scheduling, AJumpOfTheClockEndsNoWindow) {
  World world(
      with_plans("  p: { resources: [a], vault: tokyo, schedule: \"0 * * * *\", completion_window: 2h }\n"));
  world.work = [](const JobRun&) { return std::pair(Duration(hours(1)), Ending{}); };
  world.run_for(hours(1) + minutes(1));
  world.wall += days(1);
  world.run_for(minutes(58));
  EXPECT_EQ(world.states("backup p/a")[0], RunState::kRunning);
  world.run_for(minutes(10));
  EXPECT_EQ(world.states("backup p/a")[0], RunState::kCompleted);
}

TEST(Scheduling, CancellingEndsWhatRunsAndWhatWaits) {
  World world(with_plans(kHourly));
  world.work = [](const JobRun&) { return std::pair(Duration(hours(9)), Ending{}); };
  world.run_for(hours(2) + minutes(1));
  ASSERT_EQ(world.states("backup p/a"), (States{RunState::kRunning, RunState::kPending}));
  const std::vector<JobRun> runs = world.runs("backup p/a");
  EXPECT_TRUE(world.scheduler->cancel(runs[1].id, world.now()));
  EXPECT_TRUE(world.scheduler->cancel(runs[0].id, world.now()));
  world.run_for(seconds(5));
  EXPECT_EQ(world.states("backup p/a"), (States{RunState::kCancelled, RunState::kCancelled}));
  EXPECT_FALSE(world.scheduler->cancel(runs[0].id, world.now()));
}

TEST(Scheduling, AStopStartsNothingAndTheNextDaemonGoesOn) {
  World world(with_plans(kHourly));
  world.work = [](const JobRun&) { return std::pair(Duration(minutes(30)), Ending{.code = 130}); };
  world.run_for(hours(1) + minutes(1));
  world.scheduler->stop();
  world.run_for(hours(3));
  EXPECT_EQ(world.states("backup p/a"), (States{RunState::kCreated}));
  EXPECT_EQ(world.starts.size(), 1U);
  world.work = [](const JobRun&) { return std::pair(Duration(minutes(1)), Ending{}); };
  world.kill_for(minutes(1));
  world.run_for(minutes(5));
  // The interrupted one; the moments that passed are its too.
  EXPECT_EQ(world.states("backup p/a"), (States{RunState::kCompleted}));
}

TEST(Scheduling, ANewConfigurationKeepsWhatIsKnown) {
  World world(with_plans(kHourly + "  q: { resources: [b], vault: tokyo, schedule: \"0 0 1 * *\" }\n"));
  world.work = [](const JobRun&) { return std::pair(Duration(minutes(10)), Ending{}); };
  world.run_for(hours(1) + minutes(5));
  // p runs, q would have been due each hour under its new schedule, r is new.
  world.use(with_plans(kHourly + "  q: { resources: [b], vault: tokyo, schedule: \"15 * * * *\" }\n"
                                 "  r: { resources: [c], vault: tokyo, schedule: \"30 * * * *\" }\n"));
  world.run_for(minutes(40));
  EXPECT_EQ(world.dues("backup p/a"), (Texts{"2026-01-01T01:00:00Z"}));
  EXPECT_EQ(world.dues("backup q/b"), (Texts{"2026-01-01T01:15:00Z"}));
  EXPECT_EQ(world.dues("backup r/c"), (Texts{"2026-01-01T01:30:00Z"}));
  // Gone while it runs, and gone while it waits.
  world.run_for(minutes(16));
  ASSERT_EQ(world.states("backup p/a"), (States{RunState::kCompleted, RunState::kRunning}));
  world.use(with_plans("  q: { resources: [b], vault: tokyo, schedule: \"15 * * * *\" }\n"));
  world.run_for(hours(3));
  EXPECT_EQ(world.states("backup p/a"), (States{RunState::kCompleted, RunState::kCompleted}));
}

// B11, P69, P72: random lengths, failures, kills, downtimes and jumps of the clock, against what may never
// happen.
TEST(Scheduling, B11_WhateverHappensNoMomentRunsTwiceAndNoneIsForgotten) {
  EXPECT_TRUE(rc::check("every moment is some run's, and no moment is two's", [] {
    std::mt19937_64 random(*rc::gen::arbitrary<uint64_t>());
    auto pick = [&](int64_t least, int64_t most) {
      return std::uniform_int_distribution<int64_t>(least, most)(random);
    };
    World world(with_plans(
        "  p: { resources: [a, b], vault: tokyo, schedule: \"*/20 * * * *\", copies: [ { to: osaka } ] }\n"
        "  q: { resources: [b, c], vault: osaka, schedule: \"5 */2 * * *\", timezone: Europe/Berlin, "
        "start_window: 40m, "
        "completion_window: 30m }\n"
        "  r: { resources: [a], vault: tokyo, every: 7h, drill: { schedule: \"0 4 * * *\", vault: alternate "
        "} }\n",
        fmt::format("daemon: {{ jobs: {}, jobs_per_vault: {} }}\n", pick(1, 4), pick(1, 3))));
    world.work = [&](const JobRun&) {
      const int64_t kind = pick(0, 9);
      return std::pair(Duration(seconds(pick(0, 1500))), kind == 0   ? Ending{.code = 1}
                                                         : kind == 1 ? Ending{.code = 5}
                                                         : kind == 2 ? Ending{.signal = 9}
                                                                     : Ending{});
    };
    for (int i = 0; i < 25; ++i) {
      world.run_for(minutes(pick(1, 400)));
      switch (pick(0, 3)) {
        case 0:
          world.kill_for(seconds(pick(0, 20'000)), [&](const JobRun&) { return pick(0, 1) == 0; });
          break;
        case 1:
          world.wall += minutes(pick(0, 600));
          break;
        case 2:
          world.wall -= minutes(pick(0, 600));
          break;
        default:
          break;
      }
    }
    world.work = [](const JobRun&) { return std::pair(Duration(seconds(1)), Ending{}); };
    world.run_for(days(2));

    std::map<int64_t, Time> last_start;
    for (const auto& [when, run] : world.starts) last_start[run.id] = when;
    std::set<std::pair<std::string, Time>> seen;
    for (const auto& [id, run] : world.journal) {
      if (!run.job.starts_with("copy")) {
        RC_ASSERT(seen.insert({run.job, run.due}).second);
      }
      // All that was begun came to an end, but for what the last seconds brought.
      if (world.wall - run.due > hours(1) && run.due <= world.wall) RC_ASSERT(is_over(run.state));
    }
    // The last two days were quiet: every moment of theirs had its run, at its time.
    const Schedule often = *parse_schedule("*/20 * * * *");
    const Time quiet = world.wall - days(1);
    for (auto moment = next_run(often, "", quiet); moment && *moment < world.wall - minutes(10);
         moment = next_run(often, "", *moment)) {
      for (const char* job : {"backup p/a", "backup p/b"}) {
        // After a clock that was ahead was put back, a moment may have had its run then.
        RC_ASSERT(seen.contains({job, *moment}));
      }
    }
  }));
}

TEST(Scheduling, P69_AThousandPlansCostNothingWhileNothingIsDue) {
  std::string text = "vaults:\n  v: { at: /srv/v, key_file: /k }\nresources:\n";
  for (int i = 0; i < 300; ++i) text += fmt::format("  r{}: {{ kind: files, paths: [/d{}] }}\n", i, i);
  text += "plans:\n";
  for (int i = 0; i < 1000; ++i)
    text += fmt::format("  p{}: {{ resources: [r{}], vault: v, schedule: \"{} {} * * *\" }}\n", i, i % 300,
                        i % 60, i % 24);
  World world(config_of(text + "daemon: { jobs: 16, jobs_per_vault: 16 }\n"));
  size_t late = 0;
  world.work = [](const JobRun&) { return std::pair(Duration(std::chrono::milliseconds(20)), Ending{}); };
  world.run_for(days(3));
  for (const auto& [when, run] : world.starts) late += when - run.due > seconds(1);
  EXPECT_EQ(late, 0U);
  EXPECT_GE(world.starts.size(), 3000U);
}

TEST(Scheduling, what_somebody_asks_for_runs_at_once_and_is_one_run) {
  World world(with_plans(
      "  p: { resources: [a], vault: tokyo, schedule: \"0 3 * * *\", copies: [ { to: osaka } ] }\n"));
  Scheduler& scheduler = *world.scheduler;
  EXPECT_FALSE(scheduler.run_now("backup p/nothing", world.now()));
  EXPECT_TRUE(scheduler.run_now("backup p/a", world.now()));
  EXPECT_TRUE(scheduler.run_now("backup p/a", world.now()));  // it waits already
  const Step step = scheduler.step(world.now());
  ASSERT_EQ(step.start.size(), 1u);
  EXPECT_EQ(step.start[0].job, "backup p/a");
  EXPECT_TRUE(scheduler.run_now("backup p/a", world.now()));  // while it runs: one more, afterwards
  EXPECT_TRUE(scheduler.step(world.now()).start.empty());
  scheduler.ended(step.start[0].id, {}, world.now());
  std::set<std::string> followed;
  for (const JobRun& run : scheduler.step(world.now()).start) followed.insert(run.job);
  EXPECT_EQ(followed, (std::set<std::string>{"backup p/a", "copy p/a to osaka"}));
}

}  // namespace
}  // namespace kuramori
