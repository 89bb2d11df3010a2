// Alerts as `alerts` and `status` show them.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json_writer.h"
#include "daemon/alert_store.h"

namespace kuramori {

using Undelivered = std::vector<std::pair<std::string, std::string>>;  // who cannot be told, and why

// The fields "alerts" and "undelivered" of an open object.
void write_alerts(JsonWriter& json, const std::vector<AlertStore::Listed>& alerts,
                  const Undelivered& undelivered);
std::string shown_alerts(const std::vector<AlertStore::Listed>& alerts, const Undelivered& undelivered,
                         Time now);

// The field "pings" of an open object.
void write_pings(JsonWriter& json, const std::vector<PingFacts>& pings, Time now);
std::string shown_pings(const std::vector<PingFacts>& pings, Time now);
// Those that failed or are late come to nothing.
bool is_any_bad(const std::vector<PingFacts>& pings, Time now);

// What stands open in the state folder of this machine's daemon; nothing where there is none, or it cannot be
// read.
struct OpenAlerts {
  std::vector<AlertStore::Listed> alerts;
  Undelivered undelivered;
  std::map<std::string, PingCalls> calls;  // of other people's scripts
};
// `config`: null where there is none; who is in it no longer is not shown as one that cannot be told.
OpenAlerts open_alerts(const Config* config);
void keep_configured(Undelivered& undelivered, const Config* config);

}  // namespace kuramori
