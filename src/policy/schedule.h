// When a plan runs: five cron fields, or AWS's cron(…) with six. Reading one checks it and keeps what it
// means as sets; next_run() evaluates them by the wall clock of a zone.
//
// Day of month and day of week together mean what cron means: where both are restricted either suffices,
// where one of them begins with a star both must hold. AWS's `?` leaves the choice to the other field.
//
// Clock changes: a local time that is skipped runs once, at the moment of the change; one that is repeated
// runs the first time alone. A schedule for every hour of the day follows elapsed time instead, as cron does:
// else an hourly backup would pause for two hours each autumn, and nobody's RPO knows about summer time.
#pragma once
#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/units.h"
#include "base/world.h"

namespace kuramori {

constexpr int kScheduleYearMin = 1970, kScheduleYearMax = 2199;

struct Schedule {
  enum class Dialect { kNone, kCron, kAws };
  std::string text;  // as written: "0 */3 * * *", "cron(0 */3 * * ? *)"
  Dialect dialect = Dialect::kNone;

  // What it means; bit n is value n. Weekdays: 0 is Sunday.
  uint64_t minutes = 0;
  uint32_t hours = 0;
  uint16_t months = 0;
  std::bitset<kScheduleYearMax - kScheduleYearMin + 1> years;  // bit 0 is kScheduleYearMin
  uint32_t days = 0;                                           // of the month
  uint32_t nearest_weekdays = 0;                               // 15W
  bool last_day = false, last_weekday = false;                 // L, LW
  uint8_t weekdays = 0;
  uint8_t last_weekdays = 0;                   // 6L: the last such weekday of the month
  std::array<uint8_t, 7> numbered_weekdays{};  // 6#3: of each weekday, bit n is the n-th of the month
  bool either_day = false;                     // day of month or day of week, else both
};

// kUsage names the field that cannot be and what it may hold.
Result<Schedule> parse_schedule(std::string_view text);

// The first moment strictly after `after`, by the wall clock of `zone` ("" is UTC; an unknown zone counts as
// UTC: it is checked where it is read). nullopt: never again (30 February, a year that is over), or no
// schedule.
std::optional<Time> next_run(const Schedule& schedule, std::string_view zone, Time after);

// A schedule or a period, in a zone.
struct When {
  Schedule schedule;
  std::optional<Period> every;
  std::string timezone;

  bool never() const { return schedule.dialect == Schedule::Dialect::kNone && !every; }
  // Its moments are those of a clock: not so many hours after the last run.
  bool is_by_clock() const;
  bool operator==(const When& other) const {
    return schedule.text == other.schedule.text && every == other.every && timezone == other.timezone;
  }
};
// A period that divides a day runs at its multiples since midnight; any other since the last run, for which
// `after` is then taken.
std::optional<Time> next_run(const When& when, Time after);

struct PlanConfig;
// The same of a plan. nullopt also for `every: change` and for one that says nothing.
std::optional<Time> next_run(const PlanConfig& plan, Time after);

}  // namespace kuramori
