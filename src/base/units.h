// Sizes, rates and durations as people write and read them: "1.2 GiB", "200MiB/s", "14d", "7y", "forever".
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/world.h"

namespace kuramori {

// The moment that never comes: the keep_until of what is kept for ever.
constexpr Time kForever = Time::max();

// A length of time that may be counted in months: a month and a year have no fixed number of seconds.
struct Period {
  int32_t months = 0;    // calendar months; a year is twelve
  int64_t seconds = 0;   // added after the months
  bool endless = false;  // "forever"

  static constexpr Period forever() { return {.endless = true}; }
  static constexpr Period of_seconds(int64_t count) { return {.seconds = count}; }
  bool is_zero() const { return months == 0 && seconds == 0 && !endless; }
  // True if it has a fixed length, whatever day it starts on.
  bool is_exact() const { return months == 0 && !endless; }
  bool operator==(const Period&) const = default;
};

constexpr int32_t kPeriodYearsMax = 200;  // years; longer is `forever`

// "90s", "15m", "3h", "14d", "6w", "12mo", "7y", "forever". One number and one unit; zero is refused.
Result<Period> parse_period(std::string_view text);
std::string format_period(Period period);  // the shortest text that parse_period reads back

// A period of fixed length ("10s", "14d"), for limits and intervals: months, years and forever are refused.
Result<Duration> parse_duration(std::string_view text);

// `from` moved by `period` in UTC: the day of the month is kept, or is the month's last if there is no such
// day. What lies past the end of Time, and `forever`, is kForever (before its start: the start).
Time later(Time from, Period period);
Time earlier(Time from, Period period);

// "512", "512B", "64KiB", "1.5 GiB", "10MB": binary units are powers of 1024, decimal ones of 1000.
Result<uint64_t> parse_size(std::string_view text);  // bytes
// "200MiB/s"; the "/s" may be missing.
Result<uint64_t> parse_rate(std::string_view text);  // bytes a second

std::string format_size(uint64_t bytes);           // "1.2 GiB", "512 B"
std::string format_rate(double bytes_per_second);  // "210 MiB/s"
std::string format_duration(Duration duration);    // "0.8 s", "42 s", "3 m 05 s", "2 h 10 m", "14 d 3 h"

}  // namespace kuramori
