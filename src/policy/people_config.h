// Who is told, who answers, who must agree: the parts of kuramori.yaml about people.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "policy/key_lines.h"
#include "policy/setting.h"

namespace kuramori {

class MapReader;

// `contacts: { db-lead: { mail: … } }`: whom reports and alerts name.
struct ContactConfig {
  std::string name;
  KeyLines lines;
  std::string role, mail, phone, slack;
};

// When one is not woken; what is critical is told all the same.
struct QuietHours {
  int from = 0, until = 0;  // minutes of the day; until <= from: over midnight
  std::string timezone;     // "": UTC
};

struct EscalationStep {
  Period after;  // since the alert; nobody acknowledged it
  Setting to;
};

// How the place is reached that a message goes to.
struct ChannelAccess {
  std::string user, from;  // of mail; from: "": kuramori@HOST
  Setting password;
  enum class Tls {
    kAuto,
    kRequired,
    kOff
  } tls = Tls::kAuto;   // of smtp://; kAuto: required but for this machine
  std::string ca_file;  // absolute
  Setting endpoint;     // of PagerDuty; not set: its own
};

struct NotifyConfig {
  std::string name;  // "": none was given
  KeyLines lines;
  Setting to;
  std::vector<std::string> when;       // of notify_events()
  std::vector<std::string> resources;  // none: all
  std::string least;                   // only what is at least so critical
  std::optional<QuietHours> quiet;
  std::optional<Period> digest;  // what happens within it is told together
  std::string template_file;     // absolute: the body of a webhook or a mail
  std::vector<EscalationStep> escalate;
  std::optional<Period> again;   // while it is open and nobody acknowledged it
  std::optional<int> report_at;  // minutes of the day
  std::string timezone;          // of report_at; "": that of the quiet hours, else UTC
  ChannelAccess access;          // of `to`, and of the steps
};

// `heartbeat: { to: https://…, every: 5m }`: called while the daemon is well, so that its silence is noticed.
struct HeartbeatConfig {
  Setting to;
  Duration every = std::chrono::minutes(5);
  std::string ca_file;
};

// What a destructive act needs before it is done.
struct ApprovalsConfig {
  KeyLines lines;
  int people = 2;                 // who ask, counted in
  std::vector<std::string> acts;  // of approved_acts()
  std::vector<std::string> by;    // contacts; none: any other owner
  std::optional<Period> valid_for;
};

// What `when:` may hold, and what may need an approval.
std::span<const std::string_view> notify_events();
std::span<const std::string_view> approved_acts();

// "22:00", as minutes of the day.
Result<int> parse_time_of_day(std::string_view text);

ContactConfig read_contact(const std::string& name, MapReader& map);
std::vector<NotifyConfig> read_notify(MapReader& top);
std::optional<HeartbeatConfig> read_heartbeat(MapReader& daemon);
std::optional<ApprovalsConfig> read_approvals(MapReader& top);

}  // namespace kuramori
