// Moments as people write and read them. A time without a zone is no moment: it is refused unless the caller
// has a zone to offer, and then the result says that this zone was taken (P49).
//
// Time zones come from the system's database by name; "Z", "UTC" and offsets work without one.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/units.h"
#include "base/world.h"

namespace kuramori {

struct Moment {
  Time time;
  std::string zone;               // "Asia/Tokyo", "+09:00" or "UTC"
  bool zone_was_assumed = false;  // the text named none, the default was taken: tell the user
};

// "2026-02-11 03:00:00+09:00", "2026-02-10T18:00:00.123456Z", "2026-02-11 03:00 Asia/Tokyo".
// kUsage for what is no time ("13am", "2026-02-30"), for a time without a zone when `default_zone` is empty,
// for a local time that a change of clocks skipped or repeated, and for a zone nobody knows.
Result<Moment> parse_moment(std::string_view text, std::string_view default_zone = {});

// kUsage unless `zone` is "UTC", an offset, or a name in the system's database.
Result<void> check_zone(std::string_view zone);
// The machine's own: TZ, else /etc/localtime, else UTC.
std::string machine_zone();

// For people: "2026-02-11 03:00:00 +09:00 (2026-02-10 18:00:00 UTC)"; kForever is "forever".
// An empty `zone` is the machine's.
std::string format_moment(Time time, std::string_view zone = {});
// For people, where space is short: "2026-02-11 03:00:00 +09:00".
std::string format_local(Time time, std::string_view zone = {});
// For programs: "2026-02-10T18:00:00Z", with as many digits of a second as are needed; kForever is "forever".
std::string format_utc(Time time);

// The calendar at `zone`, for "the first of each month". An unknown zone counts as UTC: check it where it is
// read.
struct LocalDate {
  int year = 0;
  unsigned month = 0;      // 1–12
  unsigned day = 0;        // 1–31
  unsigned hour = 0;       // 0–23
  int64_t day_number = 0;  // days since 1970-01-01, a Thursday
};
LocalDate local_date(Time time, std::string_view zone);

// A stretch of time over which the clock of a zone keeps one distance from UTC: half open. The first begins
// and the last ends beyond what Time can hold, so the ends are counted in seconds.
struct ZoneSpan {
  std::chrono::sys_seconds begin, end;
  std::chrono::seconds offset;  // local minus UTC
};
// The one that holds `time`. "" and unknown zones are UTC.
ZoneSpan zone_span(std::chrono::sys_seconds time, std::string_view zone);

}  // namespace kuramori
