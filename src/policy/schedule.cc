#include "policy/schedule.h"

#include <fmt/core.h>

#include <bit>
#include <charconv>
#include <chrono>
#include <optional>
#include <span>
#include <vector>

#include "base/time_text.h"
#include "policy/config.h"

namespace kuramori {
namespace {

using std::string_view_literals::operator""sv;

struct Field {
  std::string_view name;
  int least, most;
  std::span<const std::string_view> words;  // the first means `first_word`
  int first_word = 0;
};

constexpr std::string_view kMonths[] = {"JAN"sv, "FEB"sv, "MAR"sv, "APR"sv, "MAY"sv, "JUN"sv,
                                        "JUL"sv, "AUG"sv, "SEP"sv, "OCT"sv, "NOV"sv, "DEC"sv};
constexpr std::string_view kDays[] = {"SUN"sv, "MON"sv, "TUE"sv, "WED"sv, "THU"sv, "FRI"sv, "SAT"sv};

constexpr Field kCronFields[] = {
    {"minute", 0, 59, {}},           {"hour", 0, 23, {}},
    {"day of month", 1, 31, {}},     {"month", 1, 12, kMonths, 1},
    {"day of week", 0, 7, kDays, 0},
};
constexpr Field kAwsFields[] = {
    {"minute", 0, 59, {}},           {"hour", 0, 23, {}},
    {"day of month", 1, 31, {}},     {"month", 1, 12, kMonths, 1},
    {"day of week", 1, 7, kDays, 1}, {"year", 1970, 2199, {}},
};

Error bad(std::string_view text, std::string why) {
  return fail(
      ErrorKind::kUsage, fmt::format("\"{}\" is not a schedule", text.substr(0, 60)), std::move(why),
      "write five fields, minute hour day month weekday: \"0 */3 * * *\", or AWS's cron(0 */3 * * ? *)");
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  for (;;) {
    size_t at = text.find(separator);
    out.push_back(text.substr(0, at));
    if (at == text.npos) return out;
    text.remove_prefix(at + 1);
  }
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::string_view word : split(text, ' '))
    if (!word.empty()) out.push_back(word);
  return out;
}

bool same_word(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if ((a[i] & ~0x20) != b[i]) return false;
  return true;
}

std::optional<int> value_of(std::string_view text, const Field& field) {
  for (size_t i = 0; i < field.words.size(); ++i)
    if (same_word(text, field.words[i])) return field.first_word + static_cast<int>(i);
  int number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || text.starts_with('-')) return std::nullopt;
  if (number < field.least || number > field.most) return std::nullopt;
  return number;
}

// One of a field's comma-separated parts: *, N, A-B, each with /STEP. `N/STEP` goes on from N to the end.
struct Part {
  int first, last, step;
};
std::optional<Part> parse_part(std::string_view text, const Field& field) {
  Part part{field.least, field.most, 1};
  size_t slash = text.find('/');
  std::string_view range = text.substr(0, slash);
  if (slash != text.npos) {
    std::string_view step = text.substr(slash + 1);
    auto [end, error] = std::from_chars(step.data(), step.data() + step.size(), part.step);
    if (error != std::errc{} || end != step.data() + step.size() || part.step < 1 || part.step > field.most)
      return std::nullopt;
  }
  if (range == "*") return part;
  size_t dash = range.find('-');
  auto first = value_of(range.substr(0, dash), field);
  if (!first) return std::nullopt;
  part.first = *first;
  if (dash == range.npos) {
    if (slash == text.npos) part.last = *first;
    return part;
  }
  auto last = value_of(range.substr(dash + 1), field);
  if (!last) return std::nullopt;
  part.last = *last;
  // A week that ends with Sunday: FRI-SUN.
  if (part.last == 0 && part.first > 0 && field.most == 7) part.last = 7;
  if (part.last < part.first) return std::nullopt;
  return part;
}

// What only AWS knows: L, LW, 15W in the day of month; L, 6L, 6#3 in the day of week. True: it was one of
// them.
bool take_aws_day_of_month(std::string_view part, const Field& field, Schedule& out) {
  if (part == "L") return out.last_day = true;
  if (part == "LW") return out.last_weekday = true;
  if (!part.ends_with('W')) return false;
  auto day = value_of(part.substr(0, part.size() - 1), field);
  if (!day) return false;
  out.nearest_weekdays |= uint32_t{1} << *day;
  return true;
}
bool take_aws_day_of_week(std::string_view part, const Field& field, Schedule& out) {
  if (part == "L") {  // of the week: Saturday
    out.weekdays |= 1 << 6;
    return true;
  }
  if (part.ends_with('L')) {
    auto day = value_of(part.substr(0, part.size() - 1), field);
    if (day) out.last_weekdays |= static_cast<uint8_t>(1 << (*day - 1));
    return day.has_value();
  }
  size_t hash = part.find('#');
  if (hash == part.npos) return false;
  auto day = value_of(part.substr(0, hash), field);
  std::string_view nth = part.substr(hash + 1);
  if (!day || nth.size() != 1 || nth[0] < '1' || nth[0] > '5') return false;
  out.numbered_weekdays[static_cast<size_t>(*day - 1)] |= static_cast<uint8_t>(1 << (nth[0] - '0'));
  return true;
}

enum FieldIndex : size_t { kMinute, kHour, kDayOfMonth, kMonth, kDayOfWeek, kYear };

void add(Schedule& out, size_t index, int value) {
  switch (index) {
    case kMinute:
      out.minutes |= uint64_t{1} << value;
      break;
    case kHour:
      out.hours |= uint32_t{1} << value;
      break;
    case kDayOfMonth:
      out.days |= uint32_t{1} << value;
      break;
    case kMonth:
      out.months = static_cast<uint16_t>(out.months | 1 << value);
      break;
    case kDayOfWeek:  // cron counts from Sunday 0, and calls it 7 too; AWS from Sunday 1
      out.weekdays |=
          static_cast<uint8_t>(1 << (out.dialect == Schedule::Dialect::kAws ? value - 1 : value % 7));
      break;
    default:
      out.years.set(static_cast<size_t>(value - kScheduleYearMin));
      break;
  }
}

Result<Schedule> read_fields(std::string_view text, std::string_view inside, std::span<const Field> fields,
                             Schedule::Dialect dialect) {
  Schedule out{.text = std::string(text), .dialect = dialect};
  const bool aws = dialect == Schedule::Dialect::kAws;
  std::vector<std::string_view> words = split_words(inside);
  if (words.size() != fields.size())
    return bad(text, fmt::format("it has {} fields instead of {}", words.size(), fields.size()));
  for (size_t i = 0; i < fields.size(); ++i) {
    const Field& field = fields[i];
    const bool is_day = i == kDayOfMonth || i == kDayOfWeek;
    const std::string_view word = aws && is_day && words[i] == "?" ? "*" : words[i];
    for (std::string_view item : split(word, ',')) {
      if (auto part = parse_part(item, field)) {
        for (int value = part->first; value <= part->last; value += part->step) add(out, i, value);
        continue;
      }
      if (aws && i == kDayOfMonth && take_aws_day_of_month(item, field, out)) continue;
      if (aws && i == kDayOfWeek && take_aws_day_of_week(item, field, out)) continue;
      return bad(text, fmt::format("the {} cannot be \"{}\": it is * or {}–{}, with ranges, lists and steps",
                                   field.name, item.substr(0, 20), field.least, field.most));
    }
  }
  if (aws && (words[kDayOfMonth] == "?") == (words[kDayOfWeek] == "?"))
    return bad(text, "exactly one of day of month and day of week must be ?");
  if (!aws) out.years.set();
  out.either_day = !aws && !words[kDayOfMonth].starts_with('*') && !words[kDayOfWeek].starts_with('*');
  return out;
}

// --- evaluation --------------------------------------------------------------------------------------

using std::chrono::days;
using std::chrono::local_days;
using std::chrono::seconds;
using std::chrono::sys_seconds;
using std::chrono::year_month_day;

constexpr int64_t kDaySeconds = 86400;
constexpr uint32_t kAllHours = (uint32_t{1} << 24) - 1;
constexpr sys_seconds kScheduleEnd =
    std::chrono::sys_days(std::chrono::year(kScheduleYearMax + 1) / std::chrono::January / 1);

unsigned last_day_of(const year_month_day& date) {
  return static_cast<unsigned>((date.year() / date.month() / std::chrono::last).day());
}

// Of the days of a month whose first is `first_weekday`: the weekday closest to `day`, never of another
// month.
unsigned nearest_weekday(unsigned day, unsigned first_weekday, unsigned last) {
  const unsigned weekday = (first_weekday + day - 1) % 7;
  if (weekday == 6) return day > 1 ? day - 1 : day + 2;
  if (weekday == 0) return day < last ? day + 1 : day - 2;
  return day;
}

bool has_day(const Schedule& schedule, local_days at, const year_month_day& date) {
  const unsigned day = static_cast<unsigned>(date.day());
  const unsigned weekday = std::chrono::weekday(at).c_encoding();
  const unsigned last = last_day_of(date);
  bool by_month = schedule.days >> day & 1;
  by_month |= schedule.last_day && day == last;
  if (!by_month && (schedule.nearest_weekdays != 0 || schedule.last_weekday)) {
    const unsigned first_weekday = (weekday + 35 - (day - 1)) % 7;
    by_month |= schedule.last_weekday && day == nearest_weekday(last, first_weekday, last);
    for (unsigned near = 1; near <= last; ++near)
      by_month |=
          (schedule.nearest_weekdays >> near & 1) && day == nearest_weekday(near, first_weekday, last);
  }
  bool by_week = schedule.weekdays >> weekday & 1;
  by_week |= (schedule.last_weekdays >> weekday & 1) && day + 7 > last;
  by_week |= schedule.numbered_weekdays[weekday] >> ((day - 1) / 7 + 1) & 1;
  return schedule.either_day ? by_month || by_week : by_month && by_week;
}

// The first minute of a day at or after `from` that has its turn.
std::optional<unsigned> minute_of_day(const Schedule& schedule, unsigned from) {
  for (unsigned hour = from / 60, minute = from % 60; hour < 24; ++hour, minute = 0) {
    const uint64_t left = schedule.hours >> hour & 1 ? schedule.minutes >> minute : 0;
    if (left != 0) return hour * 60 + minute + static_cast<unsigned>(std::countr_zero(left));
  }
  return std::nullopt;
}

// A reading of a zone's clock: seconds since its 1970-01-01 00:00.
using Local = int64_t;

// The first reading at or after `from` that the schedule names, whether that zone's clock ever shows it or
// not. What cannot be is jumped over: years, months, days, hours.
std::optional<Local> first_reading(const Schedule& schedule, Local from) {
  local_days day = std::chrono::floor<days>(std::chrono::local_seconds(seconds(from)));
  auto minute = static_cast<unsigned>((from - Local{day.time_since_epoch().count()} * kDaySeconds + 59) / 60);
  auto jump = [&](local_days to) {
    day = to;
    minute = 0;
  };
  for (;;) {
    const year_month_day date{day};
    const int year = static_cast<int>(date.year());
    if (year > kScheduleYearMax) return std::nullopt;
    if (year < kScheduleYearMin) {
      jump(local_days(std::chrono::year(kScheduleYearMin) / std::chrono::January / 1));
    } else if (!schedule.years[static_cast<size_t>(year - kScheduleYearMin)]) {
      jump(local_days((date.year() + std::chrono::years(1)) / std::chrono::January / 1));
    } else if (!(schedule.months >> static_cast<unsigned>(date.month()) & 1)) {
      jump(local_days((date.year() / date.month() + std::chrono::months(1)) / 1));
    } else if (auto found = has_day(schedule, day, date) ? minute_of_day(schedule, minute) : std::nullopt) {
      return Local{day.time_since_epoch().count()} * kDaySeconds + Local{*found} * 60;
    } else {
      jump(day + days(1));
    }
  }
}

// The first moment after `after` whose reading in `zone` `find` names. `by_elapsed_time`: what is repeated
// runs twice and what is skipped is not made up for.
template <class Find>
std::optional<Time> first_moment(std::string_view zone, Time after, bool by_elapsed_time, Find&& find) {
  const sys_seconds start = std::chrono::floor<seconds>(after) + seconds(1);
  if (start >= kScheduleEnd) return std::nullopt;
  ZoneSpan span = zone_span(start - seconds(1), zone);
  auto reading = [](sys_seconds at, seconds offset) {
    return Local{(at + offset).time_since_epoch().count()};
  };
  Local from = reading(start, span.offset);
  // What the clock showed before it was put back has had its turn.
  if (!by_elapsed_time && span.begin > sys_seconds{})
    from = std::max(from, reading(span.begin, zone_span(span.begin - seconds(1), zone).offset));
  for (;;) {
    const std::optional<Local> found = find(from);
    const Local end = reading(span.end, span.offset);
    if (found && *found < end) return Time(sys_seconds(seconds(*found) - span.offset));
    if (span.end >= kScheduleEnd) return std::nullopt;
    const ZoneSpan next = zone_span(span.end, zone);
    from = reading(span.end, next.offset);
    if (!by_elapsed_time) {
      if (!found) return std::nullopt;
      if (*found < from) return Time(span.end);  // skipped
      from = std::max(from, end);
    }
    span = next;
  }
}

}  // namespace

Result<Schedule> parse_schedule(std::string_view text) {
  if (text.starts_with("cron(") && text.ends_with(')'))
    return read_fields(text, text.substr(5, text.size() - 6), kAwsFields, Schedule::Dialect::kAws);
  return read_fields(text, text, kCronFields, Schedule::Dialect::kCron);
}

std::optional<Time> next_run(const Schedule& schedule, std::string_view zone, Time after) {
  if (schedule.dialect == Schedule::Dialect::kNone) return std::nullopt;
  return first_moment(zone, after, schedule.hours == kAllHours,
                      [&](Local from) { return first_reading(schedule, from); });
}

bool When::is_by_clock() const {
  if (schedule.dialect != Schedule::Dialect::kNone) return true;
  return every && every->is_exact() && !every->is_zero() && kDaySeconds % every->seconds == 0;
}

std::optional<Time> next_run(const When& when, Time after) {
  if (when.schedule.dialect != Schedule::Dialect::kNone) return next_run(when.schedule, when.timezone, after);
  if (!when.every || when.every->endless || when.every->is_zero()) return std::nullopt;
  if (!when.is_by_clock()) {
    const Time next = later(after, *when.every);
    return next < Time(kScheduleEnd) ? std::optional(next) : std::nullopt;
  }
  const int64_t step = when.every->seconds;
  return first_moment(when.timezone, after, step <= 3600, [&](Local from) -> std::optional<Local> {
    const Local beyond = (from % step + step) % step;
    return beyond == 0 ? from : from + step - beyond;
  });
}

std::optional<Time> next_run(const PlanConfig& plan, Time after) {
  if (plan.every_change) return std::nullopt;
  return next_run(When{plan.schedule, plan.every, plan.timezone}, after);
}

}  // namespace kuramori
