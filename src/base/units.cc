#include "base/units.h"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>

namespace kuramori {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr size_t kTextShownMax = 40;  // characters of a bad value that an error repeats

std::string shown(std::string_view text) {
  if (text.size() <= kTextShownMax) return std::string(text);
  return fmt::format("{}…", text.substr(0, kTextShownMax));
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

Error bad_period(std::string_view text, std::string why) {
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not a duration", shown(text)), std::move(why),
              "write it as 90s 15m 3h 14d 6w 12mo 7y or forever");
}

struct PeriodUnit {
  std::string_view suffix;
  int64_t seconds;
  int32_t months;
};
// Largest first, so that format_period finds the shortest text.
constexpr std::array<PeriodUnit, 7> kPeriodUnits{{
    {"y", 0, 12},
    {"mo", 0, 1},
    {"w", 7 * 86400, 0},
    {"d", 86400, 0},
    {"h", 3600, 0},
    {"m", 60, 0},
    {"s", 1, 0},
}};

constexpr int64_t kPeriodSecondsMax = int64_t{kPeriodYearsMax} * 366 * 86400;
constexpr int64_t kPeriodMonthsMax = int64_t{kPeriodYearsMax} * 12;

std::chrono::sys_days move_months(std::chrono::sys_days day, int months) {
  std::chrono::year_month_day date{day};
  date += std::chrono::months(months);
  if (!date.ok()) date = date.year() / date.month() / std::chrono::last;
  return date;
}

// Nanoseconds since the epoch are counted in 128 bits here: the sum may pass the end of Time.
Time move(Time from, Period period, int sign) {
  if (period.endless) return sign > 0 ? kForever : Time::min();
  if (from == kForever) return kForever;
  auto day = std::chrono::floor<std::chrono::days>(from);
  auto clock = from - day;
  auto moved = move_months(day, sign * period.months);
  __int128 ns = __int128{moved.time_since_epoch().count()} * 86400 * kNsPerSecond + clock.count() +
                __int128{sign} * period.seconds * kNsPerSecond;
  if (ns >= INT64_MAX) return kForever;
  if (ns <= INT64_MIN) return Time::min();
  return from_unix_ns(static_cast<int64_t>(ns));
}

struct SizeUnit {
  std::string_view suffix;
  double bytes;
};
constexpr std::array<SizeUnit, 12> kSizeUnits{{
    {"KiB", 0x1p10},
    {"MiB", 0x1p20},
    {"GiB", 0x1p30},
    {"TiB", 0x1p40},
    {"PiB", 0x1p50},
    {"kB", 1e3},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"PB", 1e15},
    {"B", 1},
}};
constexpr double kSizeMax = 0x1p60;  // bytes

Error bad_size(std::string_view text, std::string why) {
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not a size", shown(text)), std::move(why),
              "write it as 512MiB, 1.5GiB or 10MB");
}

}  // namespace

Result<Period> parse_period(std::string_view text) {
  std::string_view trimmed = trim(text);
  if (trimmed == "forever") return Period::forever();
  int64_t count = 0;
  auto [end, error] = std::from_chars(trimmed.data(), trimmed.data() + trimmed.size(), count);
  if (end == trimmed.data()) return bad_period(text, "it does not start with a whole number");
  if (error != std::errc{})
    return bad_period(text, fmt::format("it is longer than {} years", kPeriodYearsMax));
  if (count <= 0) return bad_period(text, "it must be longer than nothing");
  std::string_view suffix = trim(trimmed.substr(static_cast<size_t>(end - trimmed.data())));
  if (suffix.empty()) return bad_period(text, "it has no unit");
  for (const PeriodUnit& unit : kPeriodUnits) {
    if (suffix != unit.suffix) continue;
    int64_t limit = unit.months ? kPeriodMonthsMax / unit.months : kPeriodSecondsMax / unit.seconds;
    if (count > limit) return bad_period(text, fmt::format("it is longer than {} years", kPeriodYearsMax));
    return Period{.months = static_cast<int32_t>(count * unit.months), .seconds = count * unit.seconds};
  }
  std::string why = fmt::format("\"{}\" is not a unit of time", shown(suffix));
  if (suffix == "M") why += " (m is minutes, mo is months)";
  return bad_period(text, std::move(why));
}

std::string format_period(Period period) {
  if (period.endless) return "forever";
  std::string text;
  for (const PeriodUnit& unit : kPeriodUnits) {
    if (unit.months != 0 && period.months != 0 && period.months % unit.months == 0 && period.seconds == 0)
      return fmt::format("{}{}", period.months / unit.months, unit.suffix);
    if (unit.suffix == "w") continue;  // whoever wrote 14d reads 14d
    if (unit.seconds != 0 && period.seconds != 0 && period.seconds % unit.seconds == 0 && period.months == 0)
      return fmt::format("{}{}", period.seconds / unit.seconds, unit.suffix);
  }
  return fmt::format("{}mo {}s", period.months, period.seconds);
}

Result<Duration> parse_duration(std::string_view text) {
  TRY_ASSIGN(Period period, parse_period(text));
  if (!period.is_exact())
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" has no fixed length", shown(text)),
                "a month or a year is not always the same number of days",
                "write it in seconds, minutes, hours, days or weeks: 90s 15m 3h 14d 6w");
  return Duration(period.seconds * kNsPerSecond);
}

Time later(Time from, Period period) {
  return move(from, period, +1);
}
Time earlier(Time from, Period period) {
  return move(from, period, -1);
}

Result<uint64_t> parse_size(std::string_view text) {
  std::string_view trimmed = trim(text);
  double count = 0;
  auto [end, error] =
      std::from_chars(trimmed.data(), trimmed.data() + trimmed.size(), count, std::chars_format::fixed);
  if (error != std::errc{}) return bad_size(text, "it does not start with a number");
  if (!(count >= 0)) return bad_size(text, "it is less than nothing");
  std::string_view suffix = trim(trimmed.substr(static_cast<size_t>(end - trimmed.data())));
  double unit_bytes = suffix.empty() ? 1 : 0;
  for (const SizeUnit& unit : kSizeUnits)
    if (suffix == unit.suffix) unit_bytes = unit.bytes;
  if (unit_bytes == 0) return bad_size(text, fmt::format("\"{}\" is not a unit of size", shown(suffix)));
  double bytes = count * unit_bytes;
  if (bytes > kSizeMax) return bad_size(text, "it is larger than 1024 PiB");
  return static_cast<uint64_t>(std::llround(bytes));
}

Result<uint64_t> parse_rate(std::string_view text) {
  std::string_view size = trim(text);
  if (size.ends_with("/s")) size.remove_suffix(2);
  auto bytes = parse_size(size);
  if (bytes && *bytes > 0) return *bytes;
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not a rate", shown(text)),
              bytes ? "it must be more than nothing" : bytes.error().why, "write it as 200MiB/s");
}

std::string format_size(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr std::array<std::string_view, 6> kNames{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // 1023.95 would be rounded to "1024.0": it is one of the next unit.
  while (value >= 1023.95 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return value < 99.95 ? fmt::format("{:.1f} {}", value, kNames[unit])
                       : fmt::format("{:.0f} {}", value, kNames[unit]);
}

std::string format_rate(double bytes_per_second) {
  if (!(bytes_per_second > 0)) return "0 B/s";
  return format_size(static_cast<uint64_t>(std::min(bytes_per_second, kSizeMax))) + "/s";
}

std::string format_duration(Duration duration) {
  double seconds = static_cast<double>(duration.count()) / kNsPerSecond;
  if (seconds < 0) return "-" + format_duration(-duration);
  if (seconds < 0.0995) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} m {:02} s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{} h {:02} m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

}  // namespace kuramori
