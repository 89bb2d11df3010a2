#include "cli/alerts_shown.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/console.h"
#include "cli/times.h"
#include "engine/local_state.h"
#include "os/file.h"

namespace kuramori {
namespace {

std::string state_of(const Alert& alert) {
  return alert.closed ? "over" : alert.acknowledged ? "acknowledged" : "open";
}

}  // namespace

void write_alerts(JsonWriter& json, const std::vector<AlertStore::Listed>& alerts,
                  const Undelivered& undelivered) {
  json.key("alerts").begin_array();
  for (const auto& [alert, deliveries] : alerts) {
    const Trouble& trouble = alert.trouble;
    json.begin_object().field("id", alert.id).field("state", state_of(alert)).field("event", trouble.event);
    json.field("resource", trouble.resource).field("criticality", trouble.criticality);
    json.field("what", trouble.what).field("next", trouble.next);
    write_time(json, "opened", alert.opened);
    write_time(json, "closed", alert.closed);
    write_time(json, "acknowledged", alert.acknowledged);
    json.field("acknowledged_by", alert.acknowledged_by).key("told").begin_array();
    for (const Told& told : alert.told) {
      json.begin_object().field("to", told.label).field("times", told.times);
      write_time(json, "time", told.at);
      std::string delivery;
      for (const auto& [label, state] : deliveries)
        if (label == told.label) delivery = state;
      json.field("delivery", delivery).end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().key("undelivered").begin_array();
  for (const auto& [label, why] : undelivered)
    json.begin_object().field("to", label).field("why", why).end_object();
  json.end_array();
}

std::string shown_alerts(const std::vector<AlertStore::Listed>& alerts, const Undelivered& undelivered,
                         Time now) {
  std::string out;
  if (!alerts.empty()) {
    Table table({{"alert", Table::Align::kRight}, {"state"}, {"since"}, {"told"}, {"what"}});
    for (const auto& [alert, deliveries] : alerts) {
      std::string told;
      for (const Told& one : alert.told) {
        std::string state;
        for (const auto& [label, delivery] : deliveries)
          if (label == one.label && delivery != "sent") state = fmt::format(" ({})", delivery);
        told += fmt::format("{}{}{}", told.empty() ? "" : ", ", one.label, state);
      }
      const Duration since =
          std::max<Duration>(Duration(0), std::chrono::floor<std::chrono::seconds>(now - alert.opened));
      table.add(
          {std::to_string(alert.id),
           alert.acknowledged && !alert.closed ? "acknowledged by " + alert.acknowledged_by : state_of(alert),
           format_duration(since) + " ago", told.empty() ? "nobody" : told, alert.trouble.what});
    }
    out = table.text();
  }
  for (const auto& [label, why] : undelivered) out += fmt::format("\"{}\" cannot be told: {}\n", label, why);
  return out;
}

void write_pings(JsonWriter& json, const std::vector<PingFacts>& pings, Time now) {
  json.key("pings").begin_array();
  for (const PingFacts& ping : pings) {
    json.begin_object().field("name", ping.name).field("resource", ping.resource);
    json.field("criticality", ping.criticality).field("state", name_of(state_of(ping, now)));
    json.field("late", is_late(ping, now));
    write_time(json, "started", ping.calls.started);
    write_time(json, "done", ping.calls.done);
    write_time(json, "failed", ping.calls.failed);
    write_time(json, "due", due_of(ping));
    json.end_object();
  }
  json.end_array();
}

std::string shown_pings(const std::vector<PingFacts>& pings, Time now) {
  if (pings.empty()) return {};
  Table table({{"script"}, {"state"}, {"last done"}, {"due"}});
  const auto round = [](Duration length) {
    return format_duration(std::chrono::floor<std::chrono::seconds>(length));
  };
  for (const PingFacts& ping : pings) {
    const auto due = due_of(ping);
    table.add({ping.name, std::string(name_of(state_of(ping, now))),
               ping.calls.done ? round(std::max(Duration(0), now - *ping.calls.done)) + " ago" : "never",
               !due          ? ""
               : *due >= now ? "in " + round(*due - now)
                             : round(now - *due) + " ago"});
  }
  return table.text();
}

bool is_any_bad(const std::vector<PingFacts>& pings, Time now) {
  return std::ranges::any_of(pings, [&](const PingFacts& ping) {
    return is_late(ping, now) || state_of(ping, now) == PingState::kFailed;
  });
}

void keep_configured(Undelivered& undelivered, const Config* config) {
  if (config != nullptr)
    std::erase_if(undelivered, [&](const auto& one) { return !is_label_of(config->notify, one.first); });
}

OpenAlerts open_alerts(const Config* config) {
  OpenAlerts open;
  const std::string path = join_path(state_folder(), kAlertStoreFile);
  auto there = status_if_there(path);
  if (!there || !*there) return open;
  auto store = AlertStore::open(path);
  if (!store) return open;
  if (auto listed = (*store)->list(0)) open.alerts = std::move(*listed);
  if (auto undelivered = (*store)->undelivered()) open.undelivered = std::move(*undelivered);
  keep_configured(open.undelivered, config);
  if (auto calls = (*store)->pings()) open.calls = std::move(*calls);
  return open;
}

}  // namespace kuramori
