#include "base/time_text.h"

#include <date/tz.h>
#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <optional>

namespace kuramori {
namespace {

using std::chrono::seconds;
using LocalSeconds = date::local_time<seconds>;

constexpr size_t kTextShownMax = 60;  // characters of a bad value that an error repeats
constexpr int kYearMin = 1970;
constexpr int kYearMax = 2200;                  // Time ends in 2262
constexpr seconds kFarAway(1'000'000'000'000);  // 31,000 years: an offset can still be added
constexpr int kOffsetHoursMax = 15;             // no place on earth is further from UTC
constexpr std::string_view kExample =
    "\"2026-02-11 03:00:00+09:00\", \"2026-02-10T18:00:00Z\" or "
    "\"2026-02-11 03:00:00 Asia/Tokyo\"";

std::string shown(std::string_view text) {
  if (text.size() <= kTextShownMax) return std::string(text);
  return fmt::format("{}…", text.substr(0, kTextShownMax));
}

Error bad_time(std::string_view text, std::string why) {
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not a time", shown(text)), std::move(why),
              fmt::format("write it as {}", kExample));
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Reads the fields of a fixed layout front to back.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}
  std::string_view rest() const { return rest_; }
  bool at_digit() const { return !rest_.empty() && is_digit(rest_.front()); }
  bool eat(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // Exactly `count` digits, or nothing is taken.
  std::optional<int> number(size_t count) {
    if (rest_.size() < count) return std::nullopt;
    int value = 0;
    for (size_t i = 0; i < count; ++i) {
      if (!is_digit(rest_[i])) return std::nullopt;
      value = value * 10 + (rest_[i] - '0');
    }
    rest_.remove_prefix(count);
    return value;
  }

 private:
  std::string_view rest_;
};

// "+09:00", "+0900", "+09"; the whole of `text`.
std::optional<seconds> parse_offset(std::string_view text) {
  Scanner scan(text);
  int sign = scan.eat('-') ? -1 : +1;
  if (sign > 0 && !scan.eat('+')) return std::nullopt;
  auto hours = scan.number(2);
  if (!hours) return std::nullopt;
  int minutes = 0;
  if (!scan.rest().empty()) {
    scan.eat(':');
    auto read = scan.number(2);
    if (!read || !scan.rest().empty()) return std::nullopt;
    minutes = *read;
  }
  if (*hours > kOffsetHoursMax || minutes > 59) return std::nullopt;
  return seconds(sign * (*hours * 3600 + minutes * 60));
}

std::string format_offset(seconds offset) {
  auto minutes = std::chrono::duration_cast<std::chrono::minutes>(offset).count();
  auto size = minutes < 0 ? -minutes : minutes;
  return fmt::format("{}{:02}:{:02}", minutes < 0 ? '-' : '+', size / 60, size % 60);
}

// The library throws for a name it does not know and for a machine without a database.
const date::time_zone* find_zone(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find("..") != name.npos) return nullptr;
  try {
    return date::locate_zone(std::string(name));
  } catch (const std::exception&) {
    return nullptr;
  }
}

// Letters such as EST or IST name several zones; that some of them are also files proves nothing.
bool is_abbreviation(std::string_view name) {
  if (name == "UTC" || name == "GMT" || name.size() > 5) return false;
  for (char c : name)
    if (c < 'A' || c > 'Z') return false;
  return true;
}

// A zone that was named: fixed, or one whose offset depends on the moment.
struct Zone {
  std::string name;
  std::optional<seconds> fixed;
  const date::time_zone* zone = nullptr;
};

Result<Zone> resolve_zone(std::string_view name) {
  if (name == "Z" || name == "z" || name == "UTC" || name == "GMT") return Zone{"UTC", seconds(0), nullptr};
  if (auto offset = parse_offset(name)) return Zone{format_offset(*offset), *offset, nullptr};
  std::string what = fmt::format("\"{}\" is not a time zone", shown(name));
  std::string next = "write an offset such as +09:00, Z for UTC, or a name such as Asia/Tokyo";
  if (is_abbreviation(name))
    return fail(ErrorKind::kUsage, what, "abbreviations mean different zones in different places", next);
  const date::time_zone* zone = find_zone(name);
  if (!zone)
    return fail(ErrorKind::kUsage, what, "the system's time zone database (package tzdata) has no such name",
                next);
  return Zone{std::string(name), std::nullopt, zone};
}

seconds offset_at(const Zone& zone, std::chrono::sys_seconds when) {
  return zone.fixed ? *zone.fixed : zone.zone->get_info(when).offset;
}

Zone display_zone(std::string_view name) {
  static const std::string machine = machine_zone();  // once: a listing asks for each of its lines
  auto zone = resolve_zone(name.empty() ? std::string_view(machine) : name);
  return zone ? *zone : Zone{"UTC", seconds(0), nullptr};
}

// The moment of a local time; a time that clocks skipped or showed twice is not one moment.
Result<std::chrono::sys_seconds> resolve_local(std::string_view text, const Zone& zone, LocalSeconds local) {
  if (zone.fixed) return std::chrono::sys_seconds(local.time_since_epoch() - *zone.fixed);
  auto info = zone.zone->get_info(local);
  if (info.result == date::local_info::unique)
    return std::chrono::sys_seconds(local.time_since_epoch() - info.first.offset);
  std::string what = fmt::format("\"{}\" is not one moment in {}", shown(text), zone.name);
  std::string first = format_offset(info.first.offset);
  std::string second = format_offset(info.second.offset);
  if (info.result == date::local_info::nonexistent)
    return fail(
        ErrorKind::kUsage, what, "clocks were put forward over it: it never was",
        fmt::format("name the offset instead of the zone: {} before the change, {} after it", first, second));
  return fail(
      ErrorKind::kUsage, what, "clocks were put back: it was twice",
      fmt::format("name the offset instead of the zone: {} the first time, {} the second", first, second));
}

struct Fields {
  std::chrono::year_month_day date{};
  int hour = 0, minute = 0, second = 0;
  std::chrono::nanoseconds fraction{0};
  std::string_view rest;  // what follows: the zone
};

Result<Fields> parse_fields(std::string_view text) {
  Scanner scan(text);
  Fields out;
  auto year = scan.number(4);
  bool dashes = year && scan.eat('-');
  auto month = dashes ? scan.number(2) : std::nullopt;
  dashes = month && scan.eat('-');
  auto day = dashes ? scan.number(2) : std::nullopt;
  if (!day) return bad_time(text, "it does not start with a date, year first");
  out.date = std::chrono::year(*year) / std::chrono::month(static_cast<unsigned>(*month)) /
             std::chrono::day(static_cast<unsigned>(*day));
  if (!out.date.ok())
    return bad_time(text, fmt::format("there is no day {:04}-{:02}-{:02}", *year, *month, *day));
  if (*year < kYearMin || *year > kYearMax)
    return bad_time(text, fmt::format("the year must be {}–{}", kYearMin, kYearMax));
  if (scan.rest().empty()) return bad_time(text, "the time of day is missing");
  if (!scan.eat('T') && !scan.eat('t') && !scan.eat(' '))
    return bad_time(text, "the date must be followed by a space or T");
  auto hour = scan.number(2);
  auto minute = hour && scan.eat(':') ? scan.number(2) : std::nullopt;
  if (!minute) return bad_time(text, "the time of day must be HH:MM or HH:MM:SS, hours from 00 to 23");
  std::optional<int> second = 0;
  if (scan.eat(':')) {
    second = scan.number(2);
    if (!second) return bad_time(text, "the seconds must be two digits");
    if (scan.eat('.') || scan.eat(',')) {
      int64_t ns = 0, unit = 100'000'000;
      if (!scan.at_digit()) return bad_time(text, "the fraction of a second has no digits");
      while (scan.at_digit()) {
        if (unit == 0) return bad_time(text, "the fraction of a second has more than nine digits");
        ns += *scan.number(1) * unit;
        unit /= 10;
      }
      out.fraction = std::chrono::nanoseconds(ns);
    }
  }
  if (*hour > 23 || *minute > 59 || *second > 59)
    return bad_time(text, fmt::format("there is no time of day {:02}:{:02}:{:02}", *hour, *minute, *second));
  out.hour = *hour, out.minute = *minute, out.second = *second;
  out.rest = scan.rest();
  while (out.rest.starts_with(' ')) out.rest.remove_prefix(1);
  return out;
}

std::string format_fields(std::chrono::sys_time<std::chrono::nanoseconds> shifted, char separator) {
  auto day = std::chrono::floor<std::chrono::days>(shifted);
  std::chrono::year_month_day date{day};
  auto clock = shifted - day;
  auto in_day = std::chrono::duration_cast<seconds>(clock).count();
  auto ns = (clock % seconds(1)).count();
  // Years have four digits (kYearMax); a listing writes several of these a line.
  std::string text = "0000-00-00 00:00:00";
  auto write = [&](size_t last, int64_t number) {
    for (; number > 0; number /= 10) text[last--] = static_cast<char>('0' + number % 10);
  };
  write(3, static_cast<int>(date.year()));
  write(6, static_cast<unsigned>(date.month()));
  write(9, static_cast<unsigned>(date.day()));
  text[10] = separator;
  write(12, in_day / 3600);
  write(15, in_day / 60 % 60);
  write(18, in_day % 60);
  if (ns != 0) {
    std::string digits = fmt::format("{:09}", ns);
    digits.erase(digits.find_last_not_of('0') + 1);
    text += "." + digits;
  }
  return text;
}

// For people whole seconds are enough, unless it is the microsecond they asked for.
Time to_microseconds(Time time) {
  return std::chrono::floor<std::chrono::microseconds>(time);
}

}  // namespace

Result<Moment> parse_moment(std::string_view text, std::string_view default_zone) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  TRY_ASSIGN(Fields fields, parse_fields(text));
  bool assumed = fields.rest.empty();
  if (assumed && default_zone.empty())
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" has no time zone", shown(text)),
                "the same clock time is another moment in every zone, so none is guessed",
                fmt::format("add one: \"{}{}\", \"{}Z\" or \"{} Asia/Tokyo\"", text, "+09:00", text, text));
  if (!assumed && (fields.rest.front() >= 'a' && fields.rest.front() <= 'z') && fields.rest.size() <= 2 &&
      fields.rest != "z")
    return bad_time(text, "hours are written 00 to 23, without am or pm");
  auto zone = resolve_zone(assumed ? default_zone : fields.rest);
  if (!zone) return std::move(zone).error().within(fmt::format("\"{}\"", shown(text)));
  auto day = date::local_days(date::year(static_cast<int>(fields.date.year())) /
                              static_cast<int>(static_cast<unsigned>(fields.date.month())) /
                              static_cast<int>(static_cast<unsigned>(fields.date.day())));
  LocalSeconds local =
      day + std::chrono::hours(fields.hour) + std::chrono::minutes(fields.minute) + seconds(fields.second);
  TRY_ASSIGN(auto moment, resolve_local(text, *zone, local));
  return Moment{Time(moment) + fields.fraction, zone->name, assumed};
}

Result<void> check_zone(std::string_view zone) {
  TRY(resolve_zone(zone));
  return {};
}

std::string machine_zone() {
  if (const char* named = std::getenv("TZ")) {
    std::string_view name(named);
    if (name.starts_with(':')) name.remove_prefix(1);
    if (name.empty()) return "UTC";
    if (resolve_zone(name)) return std::string(name);
  }
  try {
    return date::current_zone()->name();
  } catch (const std::exception&) {
    return "UTC";
  }
}

std::string format_local(Time time, std::string_view name) {
  if (time == kForever) return "forever";
  Zone zone = display_zone(name);
  seconds offset = offset_at(zone, std::chrono::floor<seconds>(time));
  if (offset == seconds(0)) return format_fields(to_microseconds(time), ' ') + " UTC";
  return format_fields(to_microseconds(time) + offset, ' ') + " " + format_offset(offset);
}

std::string format_moment(Time time, std::string_view name) {
  std::string local = format_local(time, name);
  if (time == kForever || local.ends_with(" UTC")) return local;
  return fmt::format("{} ({} UTC)", local, format_fields(to_microseconds(time), ' '));
}

std::string format_utc(Time time) {
  if (time == kForever) return "forever";
  return format_fields(time, 'T') + "Z";
}

LocalDate local_date(Time time, std::string_view name) {
  Zone zone = display_zone(name.empty() ? std::string_view("UTC") : name);
  // kForever plus an offset would overflow: whole seconds do not.
  auto local = std::chrono::floor<seconds>(time);
  local += offset_at(zone, local);
  auto day = std::chrono::floor<std::chrono::days>(local);
  std::chrono::year_month_day date{day};
  return {static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
          static_cast<unsigned>(date.day()), static_cast<unsigned>((local - day) / std::chrono::hours(1)),
          day.time_since_epoch().count()};
}

ZoneSpan zone_span(std::chrono::sys_seconds time, std::string_view name) {
  Zone zone = display_zone(name.empty() ? std::string_view("UTC") : name);
  if (zone.fixed)
    return {std::chrono::sys_seconds(-kFarAway), std::chrono::sys_seconds(kFarAway), *zone.fixed};
  const auto info = zone.zone->get_info(time);
  return {info.begin, info.end, info.offset};
}

}  // namespace kuramori
