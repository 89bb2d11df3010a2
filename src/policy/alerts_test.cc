// Who is told what and when: by a simulated clock, and against an oracle that knows nothing of the book.
#include "policy/alerts.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/time_text.h"
#include "policy/troubles.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

Time moment(const std::string& text) {
  return parse_moment(text)->time;
}

Trouble failing(const std::string& resource = "db", const std::string& criticality = "high") {
  Trouble trouble;
  trouble.key = "failure backup p/" + resource;
  trouble.event = "failure";
  trouble.resource = resource;
  trouble.criticality = criticality;
  trouble.what = "backup p/" + resource + " failed";
  return trouble;
}

NotifyConfig entry(const std::string& name, std::vector<std::string> when = {"failure"}) {
  NotifyConfig one;
  one.name = name;
  one.when = std::move(when);
  return one;
}

// A book, a clock that is moved by hand, and all that was sent.
class Desk {
 public:
  explicit Desk(Time start = moment("2026-03-02T10:00:00Z")) : now{start, 1000h} {}

  void pass(Duration by) {
    now.wall += by;
    now.steady += by;
  }
  std::vector<TellMessage> look() {
    AlertBook::Seen seen{.troubles = troubles,
                         .happenings = std::exchange(happenings, {}),
                         .report = [] { return "the report"; },
                         .was_looked_at = looked_at};
    AlertStep step = book.step(seen, entries, now);
    sent.insert(sent.end(), step.messages.begin(), step.messages.end());
    return step.messages;
  }
  // Looks every `every` for so long.
  std::vector<TellMessage> watch(Duration length, Duration every = 1min) {
    std::vector<TellMessage> all;
    for (Duration passed{0}; passed < length; passed += every) {
      pass(every);
      for (TellMessage& message : look()) all.push_back(std::move(message));
    }
    return all;
  }
  // "ops opened, ops resolved"
  static std::string shown(const std::vector<TellMessage>& messages) {
    std::string out;
    for (const TellMessage& message : messages)
      out += fmt::format("{}{} {}", out.empty() ? "" : "; ", message.label, name_of(message.kind));
    return out;
  }

  Now now;
  std::vector<NotifyConfig> entries;
  std::vector<Trouble> troubles;
  std::vector<Happening> happenings;
  std::function<bool(const Trouble&)> looked_at;
  AlertBook book{AlertState{}};
  std::vector<TellMessage> sent;
};

TEST(Alerts, M2_M4_each_alert_is_told_once_when_it_opens_and_once_when_it_is_over) {
  Desk desk;
  desk.entries = {entry("ops"), entry("all", {"all"}), entry("other", {"late"})};
  desk.troubles = {failing()};
  EXPECT_EQ(desk.shown(desk.look()), "ops opened; all opened");
  desk.troubles.front().what = "backup p/db failed: for another reason";
  EXPECT_EQ(desk.shown(desk.watch(3h)), "");
  desk.troubles.clear();
  EXPECT_EQ(desk.shown(desk.look()), "ops resolved; all resolved");
  EXPECT_EQ(desk.shown(desk.watch(48h)).find("ops"), std::string::npos);
  EXPECT_TRUE(desk.book.state().alerts.empty());
}

TEST(Alerts, M5_an_alert_climbs_until_somebody_acknowledges_it) {
  Desk desk;
  desk.entries = {entry("ops")};
  for (const auto minutes : {15, 30, 60})
    desk.entries[0].escalate.push_back({Period::of_seconds(minutes * 60), {}});
  desk.troubles = {failing()};
  desk.look();
  EXPECT_EQ(desk.shown(desk.watch(14min)), "");
  EXPECT_EQ(desk.shown(desk.watch(1min)), "ops, step 1 escalated");
  EXPECT_EQ(desk.shown(desk.watch(15min)), "ops, step 2 escalated");
  EXPECT_TRUE(desk.book.acknowledge(1, "mori", desk.now.wall));
  EXPECT_FALSE(desk.book.acknowledge(2, "mori", desk.now.wall));
  EXPECT_EQ(desk.shown(desk.watch(49h)), "") << "neither a step nor again";
  desk.troubles.clear();
  EXPECT_EQ(desk.shown(desk.look()), "ops resolved; ops, step 1 resolved; ops, step 2 resolved");
  EXPECT_FALSE(desk.book.acknowledge(1, "mori", desk.now.wall));
}

TEST(Alerts, what_nobody_acknowledges_is_told_again) {
  Desk desk;
  desk.entries = {entry("ops"), entry("often")};
  desk.entries[1].again = Period::of_seconds(4 * 3600);
  desk.troubles = {failing()};
  desk.look();
  EXPECT_EQ(desk.shown(desk.watch(9h)), "often again; often again");
  EXPECT_EQ(desk.shown(desk.watch(15h)), "often again; often again; often again; ops again; often again");
}

TEST(Alerts, M5_a_clock_that_jumps_neither_hurries_nor_stops_the_escalation) {
  for (const Duration jump : {Duration(30h), Duration(-30h)}) {
    Desk desk;
    desk.entries = {entry("ops")};
    desk.entries[0].escalate.push_back({Period::of_seconds(900), {}});
    desk.troubles = {failing()};
    desk.look();
    desk.watch(5min);
    desk.now.wall += jump;
    EXPECT_EQ(desk.shown(desk.watch(9min)), "");
    EXPECT_EQ(desk.shown(desk.watch(1min)), "ops, step 1 escalated");
  }
}

TEST(Alerts, quiet_hours_hold_what_is_not_critical_and_lose_nothing) {
  Desk desk(moment("2026-03-02T23:00:00Z"));
  desk.entries = {entry("ops", {"failure", "success"})};
  desk.entries[0].quiet = QuietHours{22 * 60, 7 * 60, "UTC"};
  desk.troubles = {failing("db"), failing("heart", "critical"), failing("other")};
  const auto first = desk.look();
  ASSERT_EQ(desk.shown(first), "ops opened");
  EXPECT_EQ(first[0].items[0].resource, "heart");
  desk.troubles = {failing("db")};
  desk.happenings = {
      {.event = "success", .resource = "other", .criticality = "high", .what = "done", .at = desk.now.wall}};
  EXPECT_EQ(desk.shown(desk.watch(1min)), "ops resolved");
  EXPECT_EQ(desk.shown(desk.watch(7h + 58min)), "");
  const auto morning = desk.watch(1min);
  ASSERT_EQ(desk.shown(morning), "ops digest");
  std::multiset<std::string> items;
  for (const TellItem& item : morning[0].items)
    items.insert(fmt::format("{} {}", item.resource, name_of(item.kind)));
  EXPECT_EQ(items, (std::multiset<std::string>{"db opened", "other passed", "other success"}));
  desk.troubles.clear();
  EXPECT_EQ(desk.shown(desk.watch(1h)), "ops resolved") << "of db alone";
}

TEST(Alerts, quiet_hours_are_those_of_their_zone_also_when_clocks_change) {
  const QuietHours night{22 * 60, 7 * 60, "Europe/Berlin"};
  // 2026-03-29: the clock jumps from 02:00 to 03:00; the night has eight hours.
  EXPECT_FALSE(is_quiet(night, moment("2026-03-28T20:59:00Z")));
  EXPECT_TRUE(is_quiet(night, moment("2026-03-28T21:00:00Z")));
  EXPECT_TRUE(is_quiet(night, moment("2026-03-29T04:59:00Z")));
  EXPECT_FALSE(is_quiet(night, moment("2026-03-29T05:00:00Z")));
  // 2026-10-25: 02:30 comes twice, ten hours.
  EXPECT_TRUE(is_quiet(night, moment("2026-10-24T20:00:00Z")));
  EXPECT_TRUE(is_quiet(night, moment("2026-10-25T05:59:00Z")));
  EXPECT_FALSE(is_quiet(night, moment("2026-10-25T06:00:00Z")));
  const QuietHours lunch{12 * 60, 13 * 60, "Asia/Tokyo"};
  EXPECT_TRUE(is_quiet(lunch, moment("2026-03-02T03:00:00Z")));
  EXPECT_FALSE(is_quiet(lunch, moment("2026-03-02T04:00:00Z")));
}

TEST(Alerts, M1_the_daily_report_comes_once_a_day_by_its_zone_whatever_the_clock_does) {
  Desk desk(moment("2026-03-28T00:00:00Z"));
  desk.entries = {entry("ops", {"daily-report"})};
  desk.entries[0].report_at = 8 * 60 + 30;
  desk.entries[0].timezone = "Europe/Berlin";
  desk.look();
  std::vector<std::string> at;
  for (const TellMessage& message : desk.watch(72h)) at.push_back(format_utc(message.at));
  EXPECT_EQ(
      at, (std::vector<std::string>{"2026-03-28T07:30:00Z", "2026-03-29T06:30:00Z", "2026-03-30T06:30:00Z"}));
  EXPECT_EQ(desk.sent[0].items[0].what, "the report");
  desk.now.wall -= 20h;  // over a moment that had its report
  EXPECT_EQ(desk.shown(desk.watch(20h)), "");
  desk.now.wall += 24h * 9;  // nobody saw nine of them
  EXPECT_EQ(desk.shown(desk.watch(10min)), "ops report");
  EXPECT_EQ(desk.shown(desk.watch(1h)), "");
}

TEST(Alerts, M1_a_clock_that_was_ahead_and_is_put_right_silences_no_daily_report) {
  Desk desk(moment("2026-03-02T07:00:00Z"));
  desk.entries = {entry("ops", {"daily-report"})};
  desk.look();
  desk.now.wall += 24h * 365;
  EXPECT_EQ(desk.shown(desk.look()), "ops report");  // of the days that nobody saw
  desk.now.wall -= 24h * 365;
  EXPECT_EQ(desk.shown(desk.watch(24h * 3)), "ops report; ops report; ops report");
  // Also an entry that is new while the clock is ahead.
  desk.now.wall += 24h * 365;
  desk.entries[0].name = "boss";
  EXPECT_EQ(desk.shown(desk.look()), "");
  desk.now.wall -= 24h * 365;
  EXPECT_EQ(desk.shown(desk.watch(24h * 2)), "boss report; boss report");
}

TEST(Alerts, a_digest_tells_together_what_happened_within_it) {
  Desk desk;
  desk.entries = {entry("ops", {"all"})};
  desk.entries[0].digest = Period::of_seconds(3600);
  desk.troubles = {failing("a")};
  desk.watch(20min);
  desk.troubles.push_back(failing("b"));
  desk.watch(20min);
  desk.troubles = {failing("b")};
  EXPECT_TRUE(desk.sent.empty());
  desk.watch(21min);
  ASSERT_EQ(desk.shown(desk.sent), "ops digest");
  ASSERT_EQ(desk.sent[0].items.size(), 2U);
  EXPECT_EQ(desk.sent[0].items[0].kind, TellKind::kPassed);
  EXPECT_EQ(desk.sent[0].items[1].kind, TellKind::kOpened);
}

TEST(Alerts, what_comes_and_goes_is_told_anew_at_most_every_quarter_of_an_hour) {
  Desk desk;
  desk.entries = {entry("ops")};
  for (int i = 0; i < 120; ++i) {
    desk.troubles = i % 2 == 0 ? std::vector{failing()} : std::vector<Trouble>{};
    desk.pass(1min);
    desk.look();
  }
  EXPECT_LE(desk.sent.size(), 2U * (120 / 15 + 1)) << "an opening and an end";
  size_t openings = 0;
  desk.troubles.clear();
  desk.watch(1h);
  for (const TellMessage& message : desk.sent)
    for (const TellItem& item : message.items)
      openings += item.kind == TellKind::kOpened || item.kind == TellKind::kPassed;
  EXPECT_EQ(openings, 60U) << "none of them is lost";
}

TEST(Alerts, a_storm_is_one_message_and_what_sways_settles_first) {
  Desk desk;
  desk.entries = {entry("ops")};
  for (int i = 0; i < 300; ++i) desk.troubles.push_back(failing(fmt::format("db{}", i)));
  const auto sent = desk.look();
  ASSERT_EQ(desk.shown(sent), "ops digest");
  EXPECT_EQ(sent[0].items.size(), 300U);

  Desk swaying;
  swaying.entries = {entry("ops")};
  for (int i = 0; i < 30; ++i) {
    swaying.troubles = i % 2 == 0 ? std::vector{failing()} : std::vector<Trouble>{};
    for (Trouble& trouble : swaying.troubles) trouble.settles = 1min;
    swaying.pass(30s);
    swaying.look();
  }
  EXPECT_EQ(swaying.shown(swaying.sent), "ops opened");
}

TEST(Alerts, S20_what_nobody_could_look_at_is_not_over) {
  Desk desk;
  desk.entries = {entry("ops")};
  desk.troubles = {failing()};
  desk.look();
  desk.troubles.clear();
  desk.looked_at = [](const Trouble&) { return false; };
  EXPECT_EQ(desk.shown(desk.watch(1h)), "");
  desk.looked_at = nullptr;
  EXPECT_EQ(desk.shown(desk.look()), "ops resolved");
}

TEST(Alerts, entries_hear_what_they_ask_for) {
  NotifyConfig high = entry("high");
  high.least = "high";
  EXPECT_TRUE(hears(high, "failure", "", "db", "critical"));
  EXPECT_TRUE(hears(high, "failure", "", "db", "high"));
  EXPECT_FALSE(hears(high, "failure", "", "db", "medium"));
  EXPECT_FALSE(hears(high, "late", "", "db", "critical"));
  EXPECT_TRUE(hears(high, "unproven", "failure", "db", "high"));
  EXPECT_TRUE(hears(high, "failure", "", "", "")) << "a vault's";
  NotifyConfig one = entry("one");
  one.resources = {"db"};
  EXPECT_FALSE(hears(one, "failure", "", "other", "critical"));
}

TEST(Alerts, P70_whoever_cannot_be_told_is_told_of_to_the_others) {
  Desk desk;
  desk.entries = {entry("ops"), entry("boss")};
  Trouble trouble = failing();
  trouble.key = "undelivered ops, step 1";
  trouble.about_label = "ops, step 1";
  desk.troubles = {trouble};
  EXPECT_EQ(desk.shown(desk.look()), "boss opened");
}

TEST(Alerts, P70_whose_name_begins_as_the_dead_ones_does_is_told_of_it) {
  Desk desk;
  desk.entries = {entry("ops"), entry("ops-pager"), entry("ops, step"), entry("")};
  const auto told_of = [&](const std::string& label) {
    Trouble trouble = failing();
    trouble.key = "undelivered " + label;
    trouble.about_label = label;
    desk.troubles = {trouble};
    desk.book = AlertBook{AlertState{}};
    return desk.shown(desk.look());
  };
  EXPECT_EQ(told_of("ops-pager"), "ops opened; ops, step opened; notify 4 opened");
  EXPECT_EQ(told_of("ops, step 2"), "ops-pager opened; ops, step opened; notify 4 opened");
  EXPECT_EQ(told_of("ops"), "ops-pager opened; ops, step opened; notify 4 opened");
  EXPECT_EQ(told_of("notify 41"), "ops opened; ops-pager opened; ops, step opened; notify 4 opened");
}

TEST(Alerts, an_entry_that_is_new_hears_what_is_open_and_one_that_is_gone_nothing_more) {
  Desk desk;
  desk.entries = {entry("ops")};
  desk.troubles = {failing()};
  desk.look();
  desk.entries = {entry("boss")};
  EXPECT_EQ(desk.shown(desk.look()), "boss opened");
  desk.troubles.clear();
  EXPECT_EQ(desk.shown(desk.look()), "boss resolved");
  EXPECT_TRUE(desk.book.state().pending.empty());
}

// --- against an oracle -------------------------------------------------------------------------------

struct Interval {
  std::string key, resource, criticality;
  int64_t from, to, acknowledged;  // minutes; to: first without it; acknowledged: -1 never
};

// Troubles that come and go over a week, by the minute, no key twice within a quarter of an hour. The oracle
// is told what held when; of each it says what each entry must have been told, and when.
void compare_with_oracle(uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  const char* kWeights[] = {"critical", "high", "medium", "low"};
  constexpr int64_t kEnd = 5 * 24 * 60;
  // Ends long before, so that everything is settled.
  std::vector<Interval> intervals;
  for (int key = 0; key < 5; ++key) {
    int64_t at = below(600);
    const std::string weight = kWeights[below(4)];
    while (at < kEnd - 2 * 24 * 60) {
      const int64_t length = 1 + below(below(2) ? 30 : 900);
      intervals.push_back({fmt::format("failure {}", key), fmt::format("r{}", key), weight, at, at + length,
                           length > 1 && below(2) ? at + 1 + below(length - 1) : -1});
      at += length + 16 + below(800);
    }
  }
  Desk desk(moment("2026-03-27T00:00:00Z"));
  for (int i = 0; i < 3; ++i) {
    NotifyConfig one = entry(fmt::format("e{}", i));
    one.again = Period::forever();
    if (below(2)) one.least = kWeights[below(4)];
    if (below(2))
      one.quiet = QuietHours{static_cast<int>(below(1440)), static_cast<int>(below(1440)), "Europe/Berlin"};
    if (one.quiet && one.quiet->from == one.quiet->until) one.quiet.reset();
    if (below(2)) one.escalate = {{Period::of_seconds(60 * (1 + below(60))), {}}};
    desk.entries.push_back(one);
  }
  const Time begin = desk.now.wall;
  std::map<std::pair<std::string, std::string>, std::vector<std::pair<TellKind, int64_t>>>
      told;  // label, key
  std::map<int64_t, std::string> keys;
  for (int64_t minute = 0; minute < kEnd; ++minute) {
    desk.now.wall = begin + std::chrono::minutes(minute);
    desk.now.steady = 1000h + std::chrono::minutes(minute);
    for (const Interval& one : intervals)
      if (one.acknowledged == minute)
        for (const auto& [id, alert] : desk.book.state().alerts)
          if (alert.trouble.key == one.key && !alert.closed) {
            ASSERT_TRUE(desk.book.acknowledge(id, "x", desk.now.wall));
            break;
          }
    desk.troubles.clear();
    for (const Interval& one : intervals) {
      if (minute < one.from || minute >= one.to) continue;
      Trouble trouble = failing(one.resource, one.criticality);
      trouble.key = one.key;
      desk.troubles.push_back(trouble);
    }
    // A day late, the state is what was written down: what the book holds besides is nothing.
    if (minute % 1440 == 700) desk.book = AlertBook(desk.book.state());
    for (const TellMessage& message : desk.look())
      for (const TellItem& item : message.items)
        told[{message.label, item.key}].emplace_back(item.kind, minute);
  }
  for (size_t i = 0; i < desk.entries.size(); ++i) {
    const NotifyConfig& one = desk.entries[i];
    const auto rank = [&](std::string_view word) {
      for (int at = 0; at < 4; ++at)
        if (word == kWeights[at]) return 4 - at;
      return 0;
    };
    const auto may_speak = [&](const Interval& interval,
                               int64_t from) {  // the first minute that is not quiet
      while (one.quiet && interval.criticality != "critical") {
        const auto local = zone_span(
            std::chrono::floor<std::chrono::seconds>(begin) + std::chrono::minutes(from), "Europe/Berlin");
        const int64_t clock = (std::chrono::duration_cast<std::chrono::minutes>(
                                   (begin + std::chrono::minutes(from)).time_since_epoch())
                                   .count() +
                               std::chrono::duration_cast<std::chrono::minutes>(local.offset).count()) %
                              1440;
        const bool inside = one.quiet->from < one.quiet->until
                                ? clock >= one.quiet->from && clock < one.quiet->until
                                : clock >= one.quiet->from || clock < one.quiet->until;
        if (!inside) break;
        ++from;
      }
      return from;
    };
    std::map<std::pair<std::string, std::string>, std::vector<std::pair<TellKind, int64_t>>> due;
    std::map<std::string, int64_t> heard_at;
    for (const Interval& interval : intervals) {
      if (rank(interval.criticality) < rank(one.least)) continue;
      const std::string label = one.name, step = one.name + ", step 1";
      // Not so soon after the last time, unless it comes with that.
      int64_t opened = interval.from;
      for (int64_t before = -1; before != opened;) {
        before = opened;
        opened = may_speak(interval, opened);
        const auto last = heard_at.find(interval.key);
        if (last != heard_at.end() && opened > last->second && opened < last->second + 15)
          opened = last->second + 15;
      }
      const int64_t over = may_speak(interval, interval.to);
      auto& mine = due[{label, interval.key}];
      if (opened >= interval.to) {
        mine.emplace_back(TellKind::kPassed, opened);
        heard_at[interval.key] = opened;
        continue;
      }
      heard_at[interval.key] = over;
      mine.emplace_back(TellKind::kOpened, opened);
      mine.emplace_back(TellKind::kResolved, over);
      if (one.escalate.empty()) continue;
      const int64_t climbs = opened + one.escalate[0].after.seconds / 60;
      const int64_t heard = may_speak(interval, climbs);
      const bool is_stopped = interval.acknowledged >= 0 && interval.acknowledged <= heard;
      if (is_stopped || heard >= interval.to) continue;
      due[{step, interval.key}].emplace_back(TellKind::kEscalated, heard);
      due[{step, interval.key}].emplace_back(TellKind::kResolved, over);
    }
    for (const std::string& label : {one.name, one.name + ", step 1"}) {
      for (int key = 0; key < 5; ++key) {
        const std::pair at(label, fmt::format("failure {}", key));
        const auto &must = due[at], &was = told[at];
        ASSERT_EQ(must.size(), was.size()) << "seed " << seed << ", " << label << ", key " << key;
        for (size_t n = 0; n < must.size(); ++n) {
          EXPECT_EQ(name_of(must[n].first), name_of(was[n].first))
              << "seed " << seed << " " << label << " " << n;
          EXPECT_EQ(must[n].second, was[n].second) << "seed " << seed << " " << label << " " << n;
        }
      }
    }
  }
}

TEST(Alerts, M2_M5_against_an_oracle_none_is_missing_none_is_twice_none_was_not_due) {
  for (uint32_t seed = 1; seed <= 16; ++seed) {
    compare_with_oracle(seed);
    if (testing::Test::HasFatalFailure() || testing::Test::HasNonfatalFailure()) return;
  }
}

// --- what is wrong -----------------------------------------------------------------------------------

using JobRun = Run;  // a test has a Run() of its own

class TroublesTest : public testing::Test {
 protected:
  TroublesTest() {
    JobFacts job;
    job.job = {
        .id = "backup p/db", .kind = JobKind::kBackup, .plan = "p", .resource = "db", .vaults = {"here"}};
    job.job.when = {.schedule = *parse_schedule("0 */3 * * *"), .every = {}, .timezone = {}};
    job.criticality = "high";
    job.watched_from = now - 24h;
    facts.jobs = {job};
  }
  JobFacts& job() { return facts.jobs.front(); }
  JobRun run(RunState state, Duration ago, Duration took = 1min) {
    JobRun one;
    one.id = ++runs_;
    one.job = "backup p/db";
    one.due = one.created = now - ago - took;
    one.started = one.due;
    one.state = state;
    if (is_over(state)) one.ended = now - ago;
    one.why = state == RunState::kCompleted ? "" : "the disk is gone";
    one.attempt = 1;
    return one;
  }
  std::string found() {
    std::string out;
    for (const Trouble& trouble :
         find_troubles(facts, [&](const std::string& key) { return open.contains(key); }, now))
      out += (out.empty() ? "" : "; ") + trouble.key;
    return out;
  }

  Time now = moment("2026-03-02T10:00:00Z");
  AlertFacts facts;
  std::set<std::string> open;
  int64_t runs_ = 0;
};

TEST_F(TroublesTest, F3_S20_every_end_but_success_is_a_failure_until_a_real_success) {
  for (const RunState state :
       {RunState::kFailed, RunState::kExpired, RunState::kAborted, RunState::kPartial}) {
    job().ended = {run(state, 30min), run(RunState::kCompleted, 3h)};
    EXPECT_EQ(found(), "failure backup p/db") << name_of(state);
  }
  job().ended = {run(RunState::kCompleted, 30min), run(RunState::kFailed, 3h)};
  EXPECT_EQ(found(), "");
  EXPECT_TRUE(success_of(job(), job().ended[0]));
  EXPECT_FALSE(success_of(job(), job().ended[1]));
}

TEST_F(TroublesTest, M2_a_run_that_is_still_tried_is_told_of_after_its_second_failure) {
  job().ended = {run(RunState::kCompleted, 3h)};
  JobRun trying = run(RunState::kCreated, 1min);
  job().open = trying;
  EXPECT_EQ(found(), "");
  job().open->attempt = 2;
  EXPECT_EQ(found(), "failure backup p/db");
  job().open->state = RunState::kRunning;
  EXPECT_EQ(found(), "") << "the second try is under way";
  open = {"failure backup p/db"};
  EXPECT_EQ(found(), "failure backup p/db") << "what is told is over when it succeeded";
}

TEST_F(TroublesTest, M2_so_many_failures_in_so_long_and_only_a_success_ends_it) {
  job().thresholds.failures = 2;
  job().thresholds.failures_within = Period::of_seconds(3600);
  job().ended = {run(RunState::kFailed, 10min), run(RunState::kFailed, 2h)};
  EXPECT_EQ(found(), "");
  job().ended[1].ended = now - 50min;
  EXPECT_EQ(found(), "failure backup p/db");
  open = {"failure backup p/db"};
  job().ended[0].ended = now - 70min;
  EXPECT_EQ(found(), "failure backup p/db");
}

TEST_F(TroublesTest, M2_S19_what_does_not_begin_is_late) {
  now = moment("2026-03-02T09:59:00Z");
  job().ended = {run(RunState::kCompleted, 3h - 1min)};  // due at 07:00, so is 09:00
  job().ended[0].due = moment("2026-03-02T06:00:00Z");
  EXPECT_EQ(found(), "");
  now = moment("2026-03-02T10:01:00Z");
  EXPECT_EQ(found(), "late backup p/db");
  job().open = run(RunState::kPending, 0min);
  job().open->attempt = 0;
  job().open->since = moment("2026-03-02T09:00:00Z");
  EXPECT_EQ(found(), "late backup p/db");
  job().open->state = RunState::kRunning;
  EXPECT_EQ(found(), "");
}

TEST_F(TroublesTest, M2_a_clock_that_was_ahead_and_is_put_right_hides_no_lateness) {
  const Time right = now = moment("2026-03-02T09:59:00Z");
  // While it was a year ahead the daemon began, a run was made and the vault went away.
  now += 24h * 365;
  job().watched_from = facts.began = now;
  job().ended = {run(RunState::kCompleted, 1min)};
  facts.vaults = {{.name = "here"}};
  facts.vaults[0].is_seen = false;
  facts.vaults[0].trouble_since = facts.config_changed_at = now;
  now = right;
  forget_what_is_ahead(facts, now);
  EXPECT_EQ(found(), "");
  now += 4h;  // 12:00 passed
  forget_what_is_ahead(facts, now);
  EXPECT_EQ(found(), "late backup p/db; away here; drift");
  // One that waits since then is late, too.
  job().open = run(RunState::kPending, 0min);
  job().open->attempt = 0;
  job().open->since = right + 24h * 365;
  EXPECT_EQ(found(), "late backup p/db; away here; drift");
  facts.vaults.clear();
  facts.config_changed_at.reset();
  job().open.reset();
  job().ended.insert(job().ended.begin(), run(RunState::kCompleted, 1h));
  EXPECT_EQ(found(), "");
}

TEST_F(TroublesTest, M3_B5_ages_are_those_of_what_can_be_restored) {
  facts.jobs.clear();
  SeenResource db{.resource = "db", .criticality = "high", .as_of = now, .watched_from = now - 100h};
  db.age_max = Period::of_seconds(3600);
  db.restorable_to = now - 59min;
  facts.resources = {db};
  EXPECT_EQ(found(), "");
  facts.resources[0].wal_gap_max = Period::of_seconds(1800);
  EXPECT_EQ(found(), "gap db") << "before the hour has passed";
  facts.resources[0].restorable_to = now - 61min;
  EXPECT_EQ(found(), "age db; gap db");
  facts.resources[0].restorable_to.reset();
  EXPECT_EQ(found(), "age db");
  facts.resources[0].is_seen = false;
  EXPECT_EQ(found(), "") << "nobody knows";
  Trouble age;
  age.key = "age db";
  age.resource = "db";
  EXPECT_FALSE(was_looked_at(facts, age));
}

TEST_F(TroublesTest, H2_J1_P70_copies_that_lag_and_what_is_not_proven) {
  facts.jobs.clear();
  SeenResource db{.resource = "db", .criticality = "high", .as_of = now, .watched_from = now - 100h};
  db.restorable_to = now;
  db.oldest = now - 24h * 40;
  db.copies = {{"there", Period::of_seconds(900), now - 16min},
               {"far", Period::of_seconds(900), now - 14min}};
  facts.resources = {db};
  EXPECT_EQ(found(), "lag db there");
  facts.resources[0].copies.clear();
  facts.resources[0].drills = {{.schedule = *parse_schedule("0 5 1 * *"), .every = {}, .timezone = {}}};
  EXPECT_EQ(found(), "unproven db");
  facts.resources[0].last_passed = facts.resources[0].last_proof = now - 24h;
  EXPECT_EQ(found(), "");
  facts.resources[0].last_proof_failed = true;
  EXPECT_EQ(found(), "unproven db");
  facts.resources[0].last_proof_failed = false;
  facts.resources[0].unproven_max = Period::of_seconds(3600);
  EXPECT_EQ(found(), "unproven db");
}

TEST_F(TroublesTest, anomalies_are_judged_by_the_runs_before) {
  job().thresholds.duration = 1.0;
  job().ended = {run(RunState::kCompleted, 30min, 10min), run(RunState::kCompleted, 3h, 2min),
                 run(RunState::kCompleted, 6h, 3min), run(RunState::kCompleted, 9h, 2min)};
  EXPECT_EQ(found(), "slow backup p/db");
  job().ended[0].started = *job().ended[0].ended - 3min;
  EXPECT_EQ(found(), "");
  facts.jobs.clear();
  facts.resources = {{.resource = "db", .criticality = "high", .as_of = now, .watched_from = now - 100h}};
  facts.resources[0].size_max = 0.5;
  facts.resources[0].sizes = {40, 100, 101, 99};
  EXPECT_EQ(found(), "size db");
  facts.resources[0].sizes[0] = 60;
  EXPECT_EQ(found(), "");
}

TEST_F(TroublesTest, vaults_that_are_full_or_away_a_file_that_changed_and_who_cannot_be_told) {
  facts.jobs.clear();
  facts.vaults = {{.name = "here",
                   .criticality = "high",
                   .trouble = {},
                   .trouble_since = {},
                   .used = 91,
                   .capacity = 100}};
  EXPECT_EQ(found(), "full here");
  facts.vaults[0].full = 0.95;
  EXPECT_EQ(found(), "");
  facts.vaults[0].snapshots = 95;
  facts.vaults[0].snapshots_max = 100;
  EXPECT_EQ(found(), "quota here");
  facts.vaults = {{.name = "here",
                   .criticality = {},
                   .trouble = "no answer",
                   .trouble_since = now - 16min,
                   .used = {},
                   .capacity = {}}};
  EXPECT_EQ(found(), "away here");
  // A daemon that has just begun does not know that it is over.
  facts.vaults[0].trouble_since.reset();
  facts.vaults[0].is_seen = false;
  EXPECT_EQ(found(), "");
  Trouble away;
  away.key = "away here";
  EXPECT_FALSE(was_looked_at(facts, away));
  facts.vaults[0].is_seen = true;
  EXPECT_TRUE(was_looked_at(facts, away));
  facts.vaults.clear();
  facts.config_changed_at = now - 16min;
  facts.undelivered = {{"ops", "no answer"}};
  EXPECT_EQ(found(), "drift; undelivered ops");
}

struct EscrowTest : testing::Test {
  const Time now = from_unix_ns(1'772'445'600'000'000'000);
  AlertFacts facts;
  EscrowTest() {
    SeenVault tokyo{.name = "tokyo", .criticality = "normal", .trouble = {}, .trouble_since = {}};
    tokyo.origin = "tokyo";
    tokyo.family = "f1";
    tokyo.is_kit_known = true;
    tokyo.created = now - std::chrono::hours(25);
    SeenVault osaka = tokyo;
    osaka.name = "osaka";
    osaka.criticality = "high";
    facts.vaults = {tokyo, osaka};
  }
  SeenVault& tokyo() { return facts.vaults[0]; }
  SeenVault& osaka() { return facts.vaults[1]; }
  std::string found() {
    std::string keys;
    for (const Trouble& one : find_troubles(facts, [](const std::string&) { return false; }, now))
      keys += (keys.empty() ? "" : "; ") + one.key;
    return keys;
  }
  bool is_over_known() { return was_looked_at(facts, {.key = "unescrowed tokyo"}); }
};

TEST_F(EscrowTest, O1_a_key_without_a_recovery_kit_is_told_once_for_a_vault_and_its_copies) {
  const auto troubles = find_troubles(facts, [](const std::string&) { return false; }, now);
  ASSERT_EQ(troubles.size(), 1u);
  EXPECT_EQ(troubles[0].key, "unescrowed tokyo");
  EXPECT_EQ(troubles[0].event, "unescrowed");
  EXPECT_EQ(troubles[0].criticality, "high") << "of the most critical of them";
  EXPECT_NE(troubles[0].next.find("kuramori vault kit tokyo --to FILE"), std::string::npos);
  EXPECT_TRUE(is_over_known());
  // One kit is enough, whichever of them it was made of.
  for (SeenVault* vault : {&tokyo(), &osaka()}) {
    vault->kit_made = now - std::chrono::hours(1);
    EXPECT_EQ(found(), "") << vault->name;
    vault->kit_made.reset();
  }
}

TEST_F(EscrowTest, O1_whoever_has_just_made_a_vault_has_a_day_for_its_kit) {
  tokyo().created = now - std::chrono::hours(24);
  EXPECT_EQ(found(), "");
  tokyo().created = now + std::chrono::hours(1);  // a clock may be wrong
  EXPECT_EQ(found(), "");
}

TEST_F(EscrowTest, O1_a_copy_under_another_key_needs_a_kit_of_its_own) {
  osaka().family = "f2";
  tokyo().kit_made = now - std::chrono::hours(1);
  EXPECT_EQ(found(), "unescrowed osaka");
  tokyo().kit_made.reset();
  EXPECT_EQ(found(), "unescrowed tokyo; unescrowed osaka");
}

TEST_F(EscrowTest, what_could_not_be_looked_at_is_neither_missing_nor_made) {
  osaka().is_kit_known = false;
  EXPECT_EQ(found(), "") << "the kit may have been made of the copy";
  EXPECT_FALSE(is_over_known());
  osaka().is_kit_known = true;
  osaka().is_seen = false;
  EXPECT_EQ(found(), "");
  EXPECT_FALSE(is_over_known());
  osaka().origin = "osaka", osaka().family = "f2";
  EXPECT_EQ(found(), "unescrowed tokyo") << "another key";
  tokyo().is_kit_known = false;
  EXPECT_EQ(found(), "");
  facts.vaults.clear();
  EXPECT_TRUE(is_over_known()) << "no such vault is configured any more";
}

TEST_F(EscrowTest, a_vault_that_was_full_is_not_over_before_it_was_measured_again) {
  tokyo().capacity = 100;
  EXPECT_FALSE(was_looked_at(facts, {.key = "full tokyo"}));
  tokyo().used = 10;
  EXPECT_TRUE(was_looked_at(facts, {.key = "full tokyo"}));
  tokyo().used.reset(), tokyo().capacity.reset();
  EXPECT_TRUE(was_looked_at(facts, {.key = "full tokyo"})) << "nothing says any more how much fits";
}

TEST_F(TroublesTest, M1_the_report_names_what_is_wrong_first) {
  job().ended = {run(RunState::kFailed, 30min), run(RunState::kCompleted, 4h),
                 run(RunState::kCompleted, 30h)};
  facts.resources = {{.resource = "db", .criticality = "high", .as_of = now, .watched_from = now - 100h}};
  facts.resources[0].restorable_to = now - 1h;
  const auto troubles = find_troubles(facts, [](const std::string&) { return false; }, now);
  const std::string report = daily_report(facts, troubles, now);
  EXPECT_EQ(report,
            "1 thing is wrong:\n  - backup p/db failed: the disk is gone\n\nResources\n"
            "  - db: restorable to 1 h 00 m ago, never proven\n\nJobs of the last day\n"
            "  - backup p/db: 1 done, 1 failed\n");
}

TEST(Troubles, B11_AlabelledSnapshotThatWaitsForAReviewIsToldOnceForItsLabel) {
  const auto never = [](const std::string&) { return false; };
  const Time now = from_unix_ns(1'772'445'600'000'000'000);
  AlertFacts facts;
  EXPECT_TRUE(find_troubles(facts, never, now).empty());
  const Trouble waits{.key = "review here db pre-release"};
  EXPECT_FALSE(was_looked_at(facts, waits)) << "nobody could look: it is not over";
  facts.reviews_are_seen = true;
  EXPECT_TRUE(was_looked_at(facts, waits));
  const SeenReview one{.vault = "here",
                       .resource = "db",
                       .criticality = "high",
                       .id = "aa",
                       .label = "pre-release",
                       .taken = now - std::chrono::hours(2)};
  SeenReview newer = one;
  newer.id = "bb";
  newer.taken = now - std::chrono::hours(1);
  facts.reviews = {one};
  auto found = find_troubles(facts, never, now);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].key, waits.key);
  EXPECT_EQ(found[0].event, "review");
  EXPECT_EQ(found[0].criticality, "high");
  EXPECT_NE(found[0].next.find("kuramori review aa --vault here"), std::string::npos);
  facts.reviews = {newer, one};
  found = find_troubles(facts, never, now);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].key, waits.key);
  EXPECT_NE(found[0].what.find("2 snapshots \"pre-release\" of db in here wait for a review: aa"),
            std::string::npos)
      << found[0].what;
}

}  // namespace
}  // namespace kuramori
