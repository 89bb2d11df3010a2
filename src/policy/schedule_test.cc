#include "policy/schedule.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "base/sanitized.h"
#include "base/time_text.h"
#include "policy/config.h"

namespace kuramori {
namespace {

Time at(std::string_view text) {
  auto moment = parse_moment(text);
  EXPECT_TRUE(moment) << text;
  return moment ? moment->time : Time{};
}

Schedule schedule(std::string_view text) {
  auto parsed = parse_schedule(text);
  EXPECT_TRUE(parsed) << text;
  return parsed ? *parsed : Schedule{};
}

std::vector<std::string> next_runs(std::string_view text, std::string_view zone, std::string_view after,
                                   size_t count = 10) {
  std::vector<std::string> out;
  const Schedule parsed = schedule(text);
  Time now = at(after);
  while (out.size() < count) {
    auto next = next_run(parsed, zone, now);
    if (!next) break;
    out.push_back(format_utc(*next));
    now = *next;
  }
  return out;
}

using Runs = std::vector<std::string>;

TEST(Schedule, B1_TheSchedulesOfTheSeedDocuments) {
  const Runs every_three_hours{"2026-02-27T21:00:00Z", "2026-02-28T00:00:00Z", "2026-02-28T03:00:00Z",
                               "2026-02-28T06:00:00Z", "2026-02-28T09:00:00Z", "2026-02-28T12:00:00Z",
                               "2026-02-28T15:00:00Z", "2026-02-28T18:00:00Z", "2026-02-28T21:00:00Z",
                               "2026-03-01T00:00:00Z"};
  EXPECT_EQ(next_runs("cron(0 */3 * * ? *)", "", "2026-02-27 20:00:00Z"), every_three_hours);
  EXPECT_EQ(next_runs("0 */3 * * *", "", "2026-02-27 20:00:00Z"), every_three_hours);
  EXPECT_EQ(
      next_runs("*/5 * * * *", "", "2026-12-31 23:44:00Z", 4),
      (Runs{"2026-12-31T23:45:00Z", "2026-12-31T23:50:00Z", "2026-12-31T23:55:00Z", "2027-01-01T00:00:00Z"}));
  EXPECT_EQ(next_runs("cron(0 19 * * ? *)", "UTC", "2026-02-27 19:00:00Z", 3),
            (Runs{"2026-02-28T19:00:00Z", "2026-03-01T19:00:00Z", "2026-03-02T19:00:00Z"}));
}

TEST(Schedule, B2_ThreeInTheMorningInTokyoIsTheEveningBeforeInUtc) {
  EXPECT_EQ(next_runs("0 3 * * *", "Asia/Tokyo", "2026-02-10 00:00:00Z", 2),
            (Runs{"2026-02-10T18:00:00Z", "2026-02-11T18:00:00Z"}));
  EXPECT_EQ(next_runs("0 4 * * *", "+09:00", "2026-02-10 19:00:00Z", 1), (Runs{"2026-02-11T19:00:00Z"}));
}

TEST(Schedule, B2_ASkippedTimeRunsAtTheChangeAndARepeatedOneOnce) {
  // Berlin: 02:00 becomes 03:00 on 29 March, 03:00 becomes 02:00 on 25 October.
  EXPECT_EQ(next_runs("30 2 * * *", "Europe/Berlin", "2026-03-28 00:00:00Z", 3),
            (Runs{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}));
  EXPECT_EQ(next_runs("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00:00Z", 2),
            (Runs{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}));
  // Several skipped ones are one run.
  EXPECT_EQ(next_runs("0,20,40 2 * * *", "Europe/Berlin", "2026-03-28 23:00:00Z", 2),
            (Runs{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}));
  // A whole day that never was: Samoa went from 29 to 31 December 2011.
  EXPECT_EQ(next_runs("0 3 30 12 *", "Pacific/Apia", "2011-12-01 00:00:00Z", 1),
            (Runs{"2011-12-30T10:00:00Z"}));
}

TEST(Schedule, B2_EveryHourGoesOnThroughAChangeOfClocks) {
  EXPECT_EQ(
      next_runs("15 * * * *", "Europe/Berlin", "2026-10-24 23:30:00Z", 4),
      (Runs{"2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z", "2026-10-25T02:15:00Z", "2026-10-25T03:15:00Z"}));
  EXPECT_EQ(next_runs("15 * * * *", "Europe/Berlin", "2026-03-28 23:30:00Z", 3),
            (Runs{"2026-03-29T00:15:00Z", "2026-03-29T01:15:00Z", "2026-03-29T02:15:00Z"}));
}

TEST(Schedule, CronTakesEitherDayWhereBothAreRestricted) {
  EXPECT_EQ(next_runs("0 0 13 * FRI", "", "2026-02-01 00:00:00Z", 5),
            (Runs{"2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z",
                  "2026-02-27T00:00:00Z", "2026-03-06T00:00:00Z"}));
  // One of them begins with a star: both must hold.
  EXPECT_EQ(next_runs("0 0 */2 * FRI", "", "2026-02-01 00:00:00Z", 2),
            (Runs{"2026-02-13T00:00:00Z", "2026-02-27T00:00:00Z"}));
  EXPECT_EQ(next_runs("0 0 * * 7", "", "2026-02-02 00:00:00Z", 1), (Runs{"2026-02-08T00:00:00Z"}));
  EXPECT_EQ(
      next_runs("0 0 * * FRI-SUN", "", "2026-02-02 00:00:00Z", 4),
      (Runs{"2026-02-06T00:00:00Z", "2026-02-07T00:00:00Z", "2026-02-08T00:00:00Z", "2026-02-13T00:00:00Z"}));
  EXPECT_EQ(next_runs("50/5 23 * * *", "", "2026-02-02 00:00:00Z", 3),
            (Runs{"2026-02-02T23:50:00Z", "2026-02-02T23:55:00Z", "2026-02-03T23:50:00Z"}));
}

TEST(Schedule, AwsKnowsLastNearestAndNumberedDays) {
  EXPECT_EQ(next_runs("cron(0 5 L * ? *)", "", "2028-01-31 06:00:00Z", 3),
            (Runs{"2028-02-29T05:00:00Z", "2028-03-31T05:00:00Z", "2028-04-30T05:00:00Z"}));
  EXPECT_EQ(next_runs("cron(0 5 LW * ? *)", "", "2026-01-01 00:00:00Z", 3),  // 31 January is a Saturday
            (Runs{"2026-01-30T05:00:00Z", "2026-02-27T05:00:00Z", "2026-03-31T05:00:00Z"}));
  // 1 August is a Saturday: the nearest weekday of that month is Monday the 3rd. 1 November is a Sunday.
  EXPECT_EQ(next_runs("cron(0 5 1W * ? 2026)", "", "2026-07-15 00:00:00Z"),
            (Runs{"2026-08-03T05:00:00Z", "2026-09-01T05:00:00Z", "2026-10-01T05:00:00Z",
                  "2026-11-02T05:00:00Z", "2026-12-01T05:00:00Z"}));
  // 31 May is a Sunday, and the last of its month.
  EXPECT_EQ(next_runs("cron(0 5 31W 5 ? *)", "", "2026-05-01 00:00:00Z", 1), (Runs{"2026-05-29T05:00:00Z"}));
  EXPECT_EQ(next_runs("cron(0 5 ? * 6#3 *)", "", "2026-02-01 00:00:00Z", 2),  // the third Friday
            (Runs{"2026-02-20T05:00:00Z", "2026-03-20T05:00:00Z"}));
  EXPECT_EQ(next_runs("cron(0 5 ? * FRIL *)", "", "2026-02-01 00:00:00Z", 2),
            (Runs{"2026-02-27T05:00:00Z", "2026-03-27T05:00:00Z"}));
  EXPECT_EQ(next_runs("cron(0 5 ? * L *)", "", "2026-02-01 00:00:00Z", 1), (Runs{"2026-02-07T05:00:00Z"}));
  EXPECT_EQ(next_runs("cron(0 5 ? * 1#5 *)", "", "2026-02-01 00:00:00Z", 2),  // a fifth Sunday
            (Runs{"2026-03-29T05:00:00Z", "2026-05-31T05:00:00Z"}));
}

TEST(Schedule, WhatNeverComesAgainIsSaid) {
  EXPECT_EQ(next_runs("0 0 30 2 *", "", "2026-01-01 00:00:00Z"), Runs{});
  EXPECT_EQ(next_runs("0 0 31 4,6,9,11 *", "Europe/Berlin", "2026-01-01 00:00:00Z"), Runs{});
  EXPECT_EQ(next_runs("cron(0 5 * * ? 2020-2025)", "", "2026-01-01 00:00:00Z"), Runs{});
  EXPECT_EQ(next_runs("cron(0 5 1 1 ? 2199)", "", "2026-01-01 00:00:00Z"), (Runs{"2199-01-01T05:00:00Z"}));
  EXPECT_EQ(next_runs("0 0 29 2 *", "", "2096-03-01 00:00:00Z", 1), (Runs{"2104-02-29T00:00:00Z"}));
  EXPECT_FALSE(next_run(schedule("* * * * *"), "", kForever));
  EXPECT_EQ(next_run(schedule("* * * * *"), "", Time::min()), Time{});
}

// --- an oracle: every minute of years, by the C library's idea of time zones ------------------------------

struct LocalMinute {
  int year, month, day, weekday, last;  // weekday: 0 is Sunday; last: day of the month
  bool operator==(const LocalMinute&) const = default;
};

struct Case {
  const char* text;
  std::function<bool(const LocalMinute&)> day;
  std::function<bool(int hour, int minute)> time;
  bool every_hour = false;
};

const std::vector<Case>& cases() {
  static const auto any_day = [](const LocalMinute&) { return true; };
  static const std::vector<Case> all{
      {"0 */3 * * *", any_day, [](int h, int m) { return m == 0 && h % 3 == 0; }},
      {"30 2 * * *", any_day, [](int h, int m) { return m == 30 && h == 2; }},
      {"0 0 * * *", any_day, [](int h, int m) { return m == 0 && h == 0; }},
      {"*/7 1,2 * * 0", [](const LocalMinute& d) { return d.weekday == 0; },
       [](int h, int m) { return m % 7 == 0 && (h == 1 || h == 2); }},
      {"15,45 0-23/2 1,15 * *", [](const LocalMinute& d) { return d.day == 1 || d.day == 15; },
       [](int h, int m) { return (m == 15 || m == 45) && h % 2 == 0; }},
      {"5 4 13 * 5", [](const LocalMinute& d) { return d.day == 13 || d.weekday == 5; },
       [](int h, int m) { return m == 5 && h == 4; }},
      {"*/20 * * * *", any_day, [](int, int m) { return m % 20 == 0; }, true},
      {"30 * * MAR,OCT *", [](const LocalMinute& d) { return d.month == 3 || d.month == 10; },
       [](int, int m) { return m == 30; }, true},
      {"cron(0 1 L * ? *)", [](const LocalMinute& d) { return d.day == d.last; },
       [](int h, int m) { return m == 0 && h == 1; }},
      {"cron(0/30 23 ? * 2#1 *)", [](const LocalMinute& d) { return d.weekday == 1 && d.day <= 7; },
       [](int h, int m) { return m % 30 == 0 && h == 23; }},
      {"cron(10 0 LW 2-11 ? *)",
       [](const LocalMinute& d) {
         const int of_last = (d.weekday + d.last - d.day) % 7;
         const int wanted = of_last == 6 ? d.last - 1 : of_last == 0 ? d.last - 2 : d.last;
         return d.month >= 2 && d.month <= 11 && d.day == wanted;
       },
       [](int h, int m) { return m == 10 && h == 0; }},
      {"cron(59 23 15W * ? 2012-2030/2)",
       [](const LocalMinute& d) {
         if (d.year < 2012 || d.year > 2030 || d.year % 2 != 0) return false;
         const int of_15 = (d.weekday + 35 + 15 - d.day) % 7;
         return d.day == (of_15 == 6 ? 14 : of_15 == 0 ? 16 : 15);
       },
       [](int h, int m) { return m == 59 && h == 23; }},
  };
  return all;
}

// The clock of a zone over years: for each UTC minute what it shows, as minutes since its 1970-01-01 00:00.
std::vector<int64_t> clock_of(const char* zone, int64_t first_minute, int64_t minutes) {
  const char* before = getenv("TZ");
  const std::string kept = before ? before : "";
  setenv("TZ", zone, 1);
  tzset();
  std::vector<int64_t> shown;
  shown.reserve(static_cast<size_t>(minutes));
  // Clocks change at quarters of an hour; Newfoundland's did at a minute past.
  const int64_t stride = std::string_view(zone) == "America/St_Johns" ? 1 : 15;
  int64_t offset = 0;
  for (int64_t minute = first_minute; minute < first_minute + minutes; ++minute) {
    if (minute % stride == 0) {
      const time_t now = minute * 60;
      tm local{};
      localtime_r(&now, &local);
      offset = local.tm_gmtoff / 60;
    }
    shown.push_back(minute + offset);
  }
  if (before) setenv("TZ", kept.c_str(), 1);
  if (!before) unsetenv("TZ");
  tzset();
  return shown;
}

std::vector<LocalMinute> days_of(int64_t first_minute, int64_t last_minute) {
  std::vector<LocalMinute> out;
  for (int64_t day = first_minute / 1440; day <= last_minute / 1440; ++day) {
    const time_t noon = day * 86400;
    const time_t next_month = noon;
    tm date{};
    gmtime_r(&next_month, &date);
    tm last{};
    last.tm_year = date.tm_year, last.tm_mon = date.tm_mon + 1, last.tm_mday = 0;
    const time_t end = timegm(&last);
    tm end_date{};
    gmtime_r(&end, &end_date);
    out.push_back({date.tm_year + 1900, date.tm_mon + 1, date.tm_mday, date.tm_wday, end_date.tm_mday});
  }
  return out;
}

class ScheduleYears : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(ScheduleYears, B2_B4_EightYearsAgainstAClockWatchedMinuteByMinute) {
  const auto [zone, first_year] = GetParam();
  if (kIsSanitized && zone != std::string_view("America/St_Johns")) GTEST_SKIP() << "one thread's arithmetic";
  const Time begin = at(fmt::format("{}-01-01 00:00:00Z", first_year));
  const int64_t first = to_unix_ns(begin) / 60'000'000'000;
  const int64_t count = int64_t{8} * 365 * 1440 + 2 * 1440;
  const std::vector<int64_t> shown = clock_of(zone, first, count);
  const int64_t first_day = (shown.front() - 2 * 1440) / 1440;
  const std::vector<LocalMinute> days = days_of(first_day * 1440, shown.back() + 2 * 1440);
  for (const Case& one : cases()) {
    std::vector<bool> times, on_days;
    for (int minute = 0; minute < 1440; ++minute) times.push_back(one.time(minute / 60, minute % 60));
    for (const LocalMinute& day : days) on_days.push_back(one.day(day));
    auto due = [&](int64_t local) {
      return times[static_cast<size_t>(local % 1440)] &&
             on_days[static_cast<size_t>(local / 1440 - first_day)];
    };
    std::vector<int64_t> expected;
    int64_t furthest = shown.front() - 1;  // the latest reading so far
    for (int64_t i = 0; i < count; ++i) {
      const int64_t local = shown[static_cast<size_t>(i)];
      bool runs = due(local) && (one.every_hour || local > furthest);
      if (!one.every_hour)
        for (int64_t skipped = furthest + 1; skipped < local && !runs; ++skipped) runs = due(skipped);
      furthest = std::max(furthest, local);
      if (runs && i > 0) expected.push_back(first + i);
    }
    const Schedule parsed = schedule(one.text);
    Time now = begin;
    size_t index = 0;
    for (; index < expected.size(); ++index) {
      auto next = next_run(parsed, zone, now);
      ASSERT_TRUE(next) << one.text << " in " << zone << " after " << format_utc(now);
      ASSERT_EQ(format_utc(*next), format_utc(from_unix_ns(expected[index] * 60'000'000'000)))
          << one.text << " in " << zone << " after " << format_utc(now);
      now = *next;
    }
    EXPECT_GT(index, 20U) << one.text << " in " << zone;
    auto beyond = next_run(parsed, zone, now);
    if (beyond) {
      EXPECT_GE(to_unix_ns(*beyond) / 60'000'000'000, first + count) << one.text;
    }
  }
}

// Zones whose clocks do odd things: half an hour of summer time, changes at midnight, a day that is left out,
// a summer time that was given up, a winter time in Ramadan, no whole hours at all.
INSTANTIATE_TEST_SUITE_P(
    Zones, ScheduleYears,
    testing::Values(std::pair("UTC", 2026), std::pair("Asia/Tokyo", 2026), std::pair("Europe/Berlin", 2026),
                    std::pair("America/New_York", 2026), std::pair("Australia/Lord_Howe", 2026),
                    std::pair("Asia/Tehran", 2016), std::pair("America/Sao_Paulo", 2012),
                    std::pair("Pacific/Apia", 2008), std::pair("Asia/Kolkata", 2026),
                    std::pair("Africa/Casablanca", 2024), std::pair("Asia/Kathmandu", 2026),
                    std::pair("America/St_Johns", 2009)),
    [](const auto& test) {
      std::string name = test.param.first;
      std::ranges::replace(name, '/', '_');
      return name;
    });

TEST(Schedule, AnyScheduleIsStrictlyLaterAndSkipsNothing) {
  EXPECT_TRUE(rc::check("next_run is the least of its own", [] {
    auto field = [](int least, int most) {
      const int first = *rc::gen::inRange(least, most + 1);
      switch (*rc::gen::inRange(0, 4)) {
        case 0:
          return std::string("*");
        case 1:
          return std::to_string(first);
        case 2:
          return fmt::format("{}-{}", first, *rc::gen::inRange(first, most + 1));
        default:
          return fmt::format("*/{}", std::max(1, *rc::gen::inRange(1, most)));
      }
    };
    const std::string text =
        fmt::format("{} {} {} {} {}", field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6));
    const std::string zone = *rc::gen::element<std::string>("", "Europe/Berlin", "Australia/Lord_Howe",
                                                            "America/Sao_Paulo", "Asia/Kolkata", "-03:30");
    const Time after = from_unix_ns(*rc::gen::inRange<int64_t>(0, int64_t{2'000'000'000} * 1'000'000'000));
    const auto next = next_run(*parse_schedule(text), zone, after);
    RC_ASSERT(next.has_value());
    RC_ASSERT(*next > after);
    // From anywhere between, it is the same: nothing lies in between, whatever was asked before.
    const int64_t gap = (*next - after).count();
    const Time between = after + Duration(*rc::gen::inRange<int64_t>(0, gap));
    RC_ASSERT(next_run(*parse_schedule(text), zone, between) == next);
  }));
}

PlanConfig every(std::string_view period, std::string zone = {}) {
  PlanConfig plan;
  plan.every = *parse_period(period);
  plan.timezone = std::move(zone);
  return plan;
}

int runs_in_thirty_days(const PlanConfig& plan) {
  Time now = at("2026-03-01 00:00:00Z");
  const Time end = now + std::chrono::days(30);
  int count = 0;
  for (auto next = next_run(plan, now); next && *next <= end; next = next_run(plan, *next)) ++count;
  return count;
}

TEST(PlanSchedule, B4_EveryFrequencyOfTheSeedsRunsAsOftenAsItSays) {
  EXPECT_EQ(runs_in_thirty_days(every("3h")), 240);
  EXPECT_EQ(runs_in_thirty_days(every("2h")), 360);
  EXPECT_EQ(runs_in_thirty_days(every("1h")), 720);
  EXPECT_EQ(runs_in_thirty_days(every("15m")), 2880);
  EXPECT_EQ(runs_in_thirty_days(every("5m")), 8640);
  EXPECT_EQ(runs_in_thirty_days(every("1d")), 30);
  EXPECT_EQ(runs_in_thirty_days(every("1w")), 4);
  EXPECT_EQ(runs_in_thirty_days(every("7h")), 30 * 24 / 7);
  EXPECT_EQ(runs_in_thirty_days(every("1mo")), 0);  // April the first is a day too far
  PlanConfig nightly;
  nightly.schedule = schedule("0 3 * * MON-FRI");
  EXPECT_EQ(runs_in_thirty_days(nightly), 21);
  PlanConfig change;
  change.every_change = true;
  EXPECT_EQ(runs_in_thirty_days(change), 0);
  EXPECT_FALSE(next_run(PlanConfig{}, at("2026-03-01 00:00:00Z")));
  EXPECT_FALSE(next_run(every("forever"), at("2026-03-01 00:00:00Z")));
}

TEST(PlanSchedule, EveryCountsFromMidnightOfTheZoneWhereItDividesTheDay) {
  EXPECT_EQ(next_run(every("1d", "Asia/Tokyo"), at("2026-03-01 00:00:00Z")), at("2026-03-01 15:00:00Z"));
  EXPECT_EQ(next_run(every("3h", "Asia/Kolkata"), at("2026-03-01 00:00:00Z")), at("2026-03-01 00:30:00Z"));
  EXPECT_EQ(next_run(every("7h"), at("2026-03-01 01:02:03Z")), at("2026-03-01 08:02:03Z"));
  EXPECT_EQ(next_run(every("1mo"), at("2026-01-31 01:00:00Z")), at("2026-02-28 01:00:00Z"));
  EXPECT_EQ(next_run(every("2s"), at("2026-03-01 01:02:03.5Z")), at("2026-03-01 01:02:04Z"));
}

TEST(PlanSchedule, B2_EveryThreeHoursAcrossAChangeOfClocks) {
  // Berlin, 29 March: 00:00 +1, 03:00 +2 (two hours later), 06:00 +2.
  const PlanConfig plan = every("3h", "Europe/Berlin");
  EXPECT_EQ(next_run(plan, at("2026-03-28 22:30:00Z")), at("2026-03-28 23:00:00Z"));
  EXPECT_EQ(next_run(plan, at("2026-03-28 23:00:00Z")), at("2026-03-29 01:00:00Z"));
  EXPECT_EQ(next_run(plan, at("2026-03-29 01:00:00Z")), at("2026-03-29 04:00:00Z"));
  // 25 October: an hour more between midnight and three.
  EXPECT_EQ(next_run(plan, at("2026-10-24 22:00:00Z")), at("2026-10-25 02:00:00Z"));
  // Every half hour goes on.
  EXPECT_EQ(next_run(every("30m", "Europe/Berlin"), at("2026-10-25 00:30:00Z")), at("2026-10-25 01:00:00Z"));
}

}  // namespace
}  // namespace kuramori
