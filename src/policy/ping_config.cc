#include "policy/ping_config.h"

#include <fmt/core.h>

#include "policy/config_reader.h"
#include "policy/resource_config.h"

namespace kuramori {

PingConfig read_ping(const std::string& name, MapReader& map) {
  PingConfig ping;
  ping.name = name;
  ping.lines = map.lines();
  ping.when.schedule = map.read_as("schedule", parse_schedule).value_or(Schedule{});
  ping.when.every = map.period("every");
  ping.when.timezone = map.zone("timezone");
  if (auto grace = map.read_as("grace", parse_duration)) ping.grace = *grace;
  ping.resource = map.text("resource");
  ping.criticality = map.choice("criticality", criticality_words());
  ping.token.name = name;
  ping.token.lines = map.lines();
  ping.token.token = map.setting("token");
  ping.token.hash = map.text("hash");
  map.done();
  if (map.describing()) return ping;
  ReadState& state = map.state();
  const bool has_schedule = ping.when.schedule.dialect != Schedule::Dialect::kNone;
  if (has_schedule == ping.when.every.has_value())
    state.fail_at(map.line(), fmt::format("{} needs one of schedule and every", map.where()), {},
                  "write schedule: \"0 3 * * *\", or every: 1h");
  if (ping.when.every &&
      (ping.when.every->endless || (ping.when.every->months == 0 && ping.when.every->seconds <= 0)))
    state.fail_at(map.line(), fmt::format("{}: that is no every", map.where()), {}, "write every: 1h");
  if (name.find('/') != name.npos)
    state.fail_at(map.line(), fmt::format("\"{}\" cannot be called", name),
                  "a / ends the name in /ping/NAME/start", "write - instead");
  check_token_given(state, ping.token, fmt::format("the token of {}", map.where()));
  return ping;
}

}  // namespace kuramori
