#include "policy/people_config.h"

#include <fmt/core.h>

#include "policy/config_reader.h"
#include "policy/resource_config.h"

namespace kuramori {
namespace {

constexpr int kPeopleMax = 9;

constexpr std::string_view kEvents[] = {
    "all",     "failure", "success", "late",       "age",   "gap",          "lag",    "unproven",
    "anomaly", "full",    "damage",  "unescrowed", "drift", "daily-report", "review", "quota",
};
constexpr std::string_view kActs[] = {
    "restore-in-place", "prune",      "collect",    "hold-remove",       "apply",    "disown",
    "key-revoke",       "ledger-new", "bucket-fix", "replicate-deletes", "failover",
};

std::vector<std::string_view> listed(std::span<const std::string_view> words) {
  return {words.begin(), words.end()};
}

NotifyConfig read_one(MapReader& map) {
  NotifyConfig one;
  one.lines = map.lines();
  one.name = map.text("name");
  one.to = map.setting("to");
  if (!one.to.is_set())
    map.state().fail_at(map.line(), fmt::format("{} tells nobody", map.where()), {},
                        "add to: slack:https://…, webhook:https://…, smtp://host/address or pagerduty:KEY");
  one.when = map.choices("when", listed(notify_events()));
  one.resources = map.words("resources");
  one.least = map.choice("least", criticality_words());
  if (auto quiet = map.map("quiet")) {
    const auto from = quiet->read_as("from", parse_time_of_day);
    const auto until = quiet->read_as("until", parse_time_of_day);
    one.quiet = QuietHours{from.value_or(0), until.value_or(0), quiet->zone("timezone")};
    if (!from || !until)
      map.state().fail_at(quiet->line(), fmt::format("{} needs from and until", quiet->where()), {},
                          "write quiet: { from: \"22:00\", until: \"07:00\", timezone: Asia/Tokyo }");
    quiet->done();
  }
  one.digest = map.period("digest");
  one.template_file = map.path("template_file");
  map.each("escalate", "a step", "{ after: 15m, to: … }", [&](MapReader& step) {
    const auto after = step.period("after");
    one.escalate.push_back({after.value_or(Period{}), step.setting("to")});
    if (!after || !one.escalate.back().to.is_set())
      map.state().fail_at(step.line(), fmt::format("{} needs after and to", step.where()), {},
                          "write - { after: 15m, to: \"smtp://host/address\" }");
  });
  one.again = map.period("again");
  one.report_at = map.read_as("report_at", parse_time_of_day);
  one.timezone = map.zone("timezone");
  one.access.user = map.text("user");
  one.access.password = map.setting("password");
  one.access.from = map.text("from");
  const std::string tls = map.choice("tls", {"required", "off"});
  one.access.tls = tls == "required" ? ChannelAccess::Tls::kRequired
                   : tls == "off"    ? ChannelAccess::Tls::kOff
                                     : ChannelAccess::Tls::kAuto;
  one.access.ca_file = map.path("ca_file");
  one.access.endpoint = map.setting("endpoint");
  return one;
}

}  // namespace

std::span<const std::string_view> notify_events() {
  return kEvents;
}

std::span<const std::string_view> approved_acts() {
  return kActs;
}

Result<int> parse_time_of_day(std::string_view text) {
  const auto digit = [&](size_t at) { return text[at] >= '0' && text[at] <= '9' ? text[at] - '0' : 99; };
  if (text.size() == 5 && text[2] == ':') {
    const int hour = digit(0) * 10 + digit(1), minute = digit(3) * 10 + digit(4);
    if (hour < 24 && minute < 60) return hour * 60 + minute;
  }
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no time of day", text.substr(0, 20)), "",
              "write hours and minutes in quotes: \"22:00\"");
}

ContactConfig read_contact(const std::string& name, MapReader& map) {
  ContactConfig contact;
  contact.name = name;
  contact.lines = map.lines();
  contact.role = map.text("role");
  contact.mail = map.text("mail");
  contact.phone = map.text("phone");
  contact.slack = map.text("slack");
  map.done();
  return contact;
}

std::vector<NotifyConfig> read_notify(MapReader& top) {
  std::vector<NotifyConfig> out;
  top.each("notify", "an entry of notify", "{ to: \"slack:https://…\", when: [failure] }",
           [&](MapReader& map) { out.push_back(read_one(map)); });
  return out;
}

std::optional<HeartbeatConfig> read_heartbeat(MapReader& daemon) {
  auto map = daemon.map("heartbeat");
  if (!map) return {};
  HeartbeatConfig heartbeat;
  heartbeat.to = map->setting("to");
  if (auto every = map->read_as("every", parse_duration)) heartbeat.every = *every;
  heartbeat.ca_file = map->path("ca_file");
  map->done();
  if (!heartbeat.to.is_set())
    map->state().fail_at(map->line(), "the heartbeat goes nowhere", {}, "add to: https://…");
  return heartbeat;
}

std::optional<ApprovalsConfig> read_approvals(MapReader& top) {
  auto map = top.map("approvals");
  if (!map) return {};
  ApprovalsConfig approvals;
  approvals.lines = map->lines();
  approvals.people = map->count("people", 1, kPeopleMax).value_or(2);
  approvals.acts = map->choices("for", listed(approved_acts()));
  approvals.by = map->words("by");
  approvals.valid_for = map->period("valid_for");
  map->done();
  return approvals;
}

}  // namespace kuramori
