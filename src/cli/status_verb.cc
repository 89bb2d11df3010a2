// `status`: what is protected at this moment, beside what the configuration promises.
#include <fmt/core.h>

#include <algorithm>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/alerts_shown.h"
#include "cli/promising.h"
#include "cli/times.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "daemon/alert_facts.h"
#include "engine/applied.h"
#include "engine/protection.h"

namespace kuramori {

std::vector<ProtectionPromise> promises_of(const Config& config, const std::string& wanted) {
  std::vector<ProtectionPromise> promises;
  for (const ResourceConfig* resource : config.by_criticality()) {
    if (!wanted.empty() && resource->name != wanted) continue;
    ProtectionPromise promise{.resource = resource->name,
                              .kind = std::string(name_of(resource->kind)),
                              .owner = resource->owner,
                              .criticality = resource->criticality,
                              .rpo = resource->rpo,
                              .rto = resource->rto};
    const auto add = [&](const std::string& vault) {
      if (std::ranges::count(promise.vaults, vault) == 0) promise.vaults.push_back(vault);
    };
    const std::vector<const PlanConfig*> plans = config.plans_of(resource->name);
    for (const PlanConfig* plan : plans) add(plan->vault);
    for (const PlanConfig* plan : plans) {
      const When runs{plan->schedule, plan->every, plan->timezone};
      if (!plan->every_change && !runs.never()) promise.runs.push_back(runs);
      for (const CopyConfig& copy : plan->copies) add(copy.to);
      if (plan->drill)
        promise.drills.push_back({.schedule = plan->drill->schedule, .timezone = plan->timezone});
    }
    promise.is_planned = !plans.empty();
    promises.push_back(std::move(promise));
  }
  return promises;
}

namespace {

std::string_view name_of(Protection::State state) {
  switch (state) {
    case Protection::State::kProtected:
      return "protected";
    case Protection::State::kAtRisk:
      return "at risk";
    case Protection::State::kUnprotected:
      return "unprotected";
  }
  return "unprotected";
}

void write_period(JsonWriter& json, std::string_view name, const std::optional<Period>& period) {
  json.key(name);
  period ? json.value(format_period(*period)) : json.null();
}
double seconds_since(Time since, Time now) {
  return std::max(0.0, std::chrono::duration<double>(now - since).count());
}

void write_proof(JsonWriter& json, std::string_view name, const std::optional<LastProof>& proof) {
  json.key(name);
  if (!proof) {
    json.null();
    return;
  }
  json.begin_object().field("time", format_utc(proof->at)).field("passed", proof->passed);
  json.field("vault", proof->vault).field("snapshot", proof->snapshot.hex());
  json.field("seconds_to_open", proof->seconds_to_open).field("seconds_total", proof->seconds_total);
  json.end_object();
}

void write_protection(JsonWriter& json, const Protection& one, Time now) {
  json.begin_object().field("resource", one.promise.resource).field("kind", one.promise.kind);
  json.field("owner", one.promise.owner).field("criticality", one.promise.criticality);
  json.field("state", name_of(one.state));
  write_period(json, "rpo", one.promise.rpo);
  json.key("rpo_achieved_seconds");
  one.restorable_to ? json.value(seconds_since(*one.restorable_to, now)) : json.null();
  write_period(json, "rto", one.promise.rto);
  json.key("rto_achieved_seconds");
  one.passed ? json.value(one.passed->seconds_to_open) : json.null();
  write_time(json, "restorable_to", one.restorable_to);
  json.field("from", one.best).key("places").begin_array();
  for (const Protection::Place& place : one.places) {
    json.begin_object().field("vault", place.vault).field("site", place.site);
    json.field("snapshots", place.snapshots).field("added_bytes", place.added_bytes);
    write_time(json, "oldest", place.oldest);
    write_time(json, "newest", place.newest);
    write_time(json, "restorable_to", place.restorable_to);
    write_time(json, "behind_since", place.behind_since);
    write_time(json, "newest_wal", place.newest_wal);
    json.field("wal_gaps", place.wal_gaps);
    json.field("trouble", place.trouble).end_object();
  }
  json.end_array();
  write_proof(json, "last_proof", one.proof);
  write_proof(json, "last_passed", one.passed);
  write_time(json, "proof_due", one.proof_due);
  write_time(json, "next_run", one.next_run);
  json.key("next_to_go");
  if (one.next_to_go)
    json.begin_object()
        .field("vault", one.next_to_go->vault)
        .field("snapshot", one.next_to_go->snapshot)
        .field("time", format_utc(one.next_to_go->at))
        .end_object();
  else
    json.null();
  json.key("broken").begin_array();
  for (const std::string& broken : one.broken) json.value(broken);
  json.end_array().end_object();
}

void write_vaults(JsonWriter& json, const std::vector<VaultHoldings>& vaults) {
  json.key("vaults").begin_array();
  for (const VaultHoldings& one : vaults) {
    json.begin_object().field("vault", one.held.vault).field("site", one.held.site);
    json.field("trouble", one.trouble ? one.trouble->what : "").field("family", one.family);
    write_time(json, "created", one.trouble ? std::nullopt : std::optional(one.created));
    json.field("kit", !one.is_kit_known ? "not known" : one.kit_made ? "made" : "none");
    write_time(json, "kit_made", one.kit_made);
    json.end_object();
  }
  json.end_array();
}

std::string age(const std::optional<Time>& since, Time now) {
  if (!since) return "never";
  if (now - *since < std::chrono::seconds(1)) return "just now";
  return format_duration(std::chrono::floor<std::chrono::seconds>(now - *since)) + " ago";
}
std::string shown(const std::optional<Period>& period) {
  return period ? format_period(*period) : "";
}
std::string took(double seconds) {
  return format_duration(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}
std::string shown_proof(const Protection& one, Time now) {
  if (!one.proof) return "never";
  return (one.proof->passed ? "" : "FAILED ") + age(one.proof->at, now);
}
std::string shown_places(const Protection& one) {
  std::string out;
  for (const Protection::Place& place : one.places) {
    const std::string what = !place.trouble.empty() ? "?" : std::to_string(place.snapshots);
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", place.vault, what);
  }
  return out;
}
std::string shown_going(const Protection& one, Time now) {
  if (!one.next_to_go) return "";
  const Duration left = std::chrono::floor<std::chrono::seconds>(one.next_to_go->at - now);
  return left <= Duration(0) ? "is due" : "in " + format_duration(left);
}

std::string shown(const std::vector<Protection>& all, Time now) {
  Table table({{"resource"},
               {"now"},
               {"restorable to"},
               {"rpo"},
               {"proven"},
               {"opens in"},
               {"rto"},
               {"snapshots"},
               {"next to go"}});
  std::string broken;
  for (const Protection& one : all) {
    table.add({one.promise.resource, std::string(name_of(one.state)),
               one.restorable_to ? age(one.restorable_to, now) : "nothing", shown(one.promise.rpo),
               shown_proof(one, now), one.passed ? took(one.passed->seconds_to_open) : "",
               shown(one.promise.rto), shown_places(one), shown_going(one, now)});
    for (const std::string& sentence : one.broken)
      broken += fmt::format("  {}: {}\n", one.promise.resource, sentence);
  }
  return table.text() + (broken.empty() ? "" : "\nPromises that do not hold\n" + broken);
}

void note_drift(Context& context, Vault& vault, const Config& config, const std::string& name) {
  const auto drift = drift_in(vault, config);
  if (drift && *drift)
    context.console().note(fmt::format("{} is not what was applied to {}: {} change{}; kuramori plan",
                                       config.path, name, (*drift)->changes.size(),
                                       (*drift)->changes.size() == 1 ? "" : "s"));
}

VaultHoldings look_at(Context& context, const VaultChoice& choice, const Config* config,
                      const std::string& site, const Promises& promises) {
  const std::string name = choice.shown();
  auto holdings = [&]() -> Result<VaultHoldings> {
    TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, choice));
    if (config != nullptr && !choice.name.empty()) note_drift(context, *vault, *config, name);
    return what_vault_holds(*vault, name, site, promises);
  }();
  if (holdings) return std::move(*holdings);
  VaultHoldings nothing{.trouble = holdings.error()};
  nothing.held.vault = name;
  nothing.held.site = site;
  return nothing;
}

}  // namespace

Result<int> run_status(Context& context) {
  const std::string wanted = context.line().argument(0);
  TRY_ASSIGN(const Config* config, context.config_if_any());
  TRY_ASSIGN(const std::vector<VaultChoice> choices, context.choose_vaults());
  std::vector<VaultHoldings> vaults;
  for (const VaultChoice& choice : choices) {
    std::string site;
    if (config != nullptr && !choice.name.empty()) {
      TRY_ASSIGN(const VaultConfig* vault, config->vault(choice.name));
      site = vault->site;
    }
    const Promises promises = config ? promises_in(*config, choice.name, context.clock().now()) : Promises{};
    vaults.push_back(look_at(context, choice, config, site, promises));
    // Of one vault alone nothing can be said when it does not open.
    if (choices.size() == 1 && vaults.back().trouble) return *vaults.back().trouble;
  }
  std::vector<ProtectionPromise> promises;
  if (config != nullptr) promises = promises_of(*config, wanted);
  for (ProtectionPromise& promise : promises) {  // --vault: of that one alone
    std::erase_if(promise.vaults, [&](const std::string& vault) {
      return std::ranges::none_of(vaults, [&](const VaultHoldings& one) { return one.held.vault == vault; });
    });
  }
  const Time now = context.clock().now();
  std::vector<Protection> all = judge_protection(promises, vaults, now);
  if (!wanted.empty()) {
    std::erase_if(all, [&](const Protection& one) { return one.promise.resource != wanted; });
    if (all.empty())
      return fail(ErrorKind::kUsage, fmt::format("nobody knows a resource \"{}\"", wanted), "",
                  "kuramori status lists all there are");
  }
  OpenAlerts alerts = open_alerts(config);
  if (!wanted.empty())
    std::erase_if(alerts.alerts, [&](const auto& one) { return one.alert.trouble.resource != wanted; });
  std::vector<PingFacts> pings;
  if (config != nullptr) pings = pings_of(*config, now);
  for (PingFacts& ping : pings)
    if (const auto at = alerts.calls.find(ping.name); at != alerts.calls.end()) ping.calls = at->second;
  if (!wanted.empty()) std::erase_if(pings, [&](const PingFacts& one) { return one.resource != wanted; });
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/status/1").field("time", format_utc(now));
    json.key("resources").begin_array();
    for (const Protection& one : all) write_protection(json, one, now);
    json.end_array();
    write_vaults(json, vaults);
    write_alerts(json, alerts.alerts, alerts.undelivered);
    write_pings(json, pings, now);
    json.end_object();
    context.console().print_document(json);
  } else {
    if (all.empty())
      context.console().note("nothing is protected yet: there are no resources");
    else
      context.console().print(shown(all, now));
    if (const std::string scripts = shown_pings(pings, now); !scripts.empty())
      context.console().print("\nScripts that call when they are done\n" + scripts);
    const std::string open = shown_alerts(alerts.alerts, alerts.undelivered, now);
    if (!open.empty()) context.console().print("\nWho has been told of what is wrong\n" + open);
  }
  const bool is_broken =
      std::ranges::any_of(all, [](const Protection& one) { return !one.broken.empty(); }) ||
      is_any_bad(pings, now);
  return context.line().has("check") && is_broken ? exit_code(ErrorKind::kBrokenPromise) : 0;
}

}  // namespace kuramori
