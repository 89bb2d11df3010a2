#include "cli/times.h"

#include "base/time_text.h"
#include "base/units.h"

namespace kuramori {

void write_time(JsonWriter& json, std::string_view name, const std::optional<Time>& time) {
  json.key(name);
  time ? json.value(format_utc(*time)) : json.null();
}

std::string shown_time(Time time) {
  return format_local(time == kForever ? time : Time(std::chrono::floor<std::chrono::seconds>(time)));
}

}  // namespace kuramori
