#include "daemon/shown_documents.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/time_text.h"

namespace kuramori {
namespace {

using Json = nlohmann::json;

// Fields of a document that somebody else may have sent: what is not there, or is something else, is empty.
std::string text_of(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

uint64_t count_of(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_number_unsigned() ? at->get<uint64_t>() : 0;
}

std::optional<double> number_of(const Json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number()) return std::nullopt;
  return at->get<double>();
}

std::optional<Time> time_of(const Json& object, const char* key) {
  const auto moment = parse_moment(text_of(object, key));
  if (!moment) return std::nullopt;
  return moment->time;
}

const Json* list_of(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_array() ? &*at : nullptr;
}

Result<Json> parse(std::string_view document, std::string_view schema) {
  Json root = Json::parse(document, nullptr, false);
  if (root.is_object() && text_of(root, "schema") == schema) return root;
  return fail(ErrorKind::kDamaged, fmt::format("the answer is no {}", schema),
              std::string(document.substr(0, 120)));
}

std::optional<ShownStatus::Proof> proof_of(const Json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_object()) return std::nullopt;
  const auto when = time_of(*at, "time");
  if (!when) return std::nullopt;
  const auto passed = at->find("passed");
  return ShownStatus::Proof{.at = *when,
                            .passed = passed != at->end() && passed->is_boolean() && passed->get<bool>(),
                            .vault = text_of(*at, "vault")};
}

ShownStatus::Place place_of(const Json& one) {
  return {.vault = text_of(one, "vault"),
          .site = text_of(one, "site"),
          .trouble = text_of(one, "trouble"),
          .snapshots = count_of(one, "snapshots"),
          .added_bytes = count_of(one, "added_bytes"),
          .wal_gaps = count_of(one, "wal_gaps"),
          .newest = time_of(one, "newest"),
          .oldest = time_of(one, "oldest"),
          .restorable_to = time_of(one, "restorable_to"),
          .behind_since = time_of(one, "behind_since"),
          .newest_wal = time_of(one, "newest_wal")};
}

ShownStatus::Resource resource_of(const Json& one) {
  ShownStatus::Resource resource{.name = text_of(one, "resource"),
                                 .kind = text_of(one, "kind"),
                                 .owner = text_of(one, "owner"),
                                 .criticality = text_of(one, "criticality"),
                                 .state = text_of(one, "state"),
                                 .rpo = text_of(one, "rpo"),
                                 .rto = text_of(one, "rto"),
                                 .rto_seconds = number_of(one, "rto_achieved_seconds"),
                                 .restorable_to = time_of(one, "restorable_to"),
                                 .next_run = time_of(one, "next_run"),
                                 .proof_due = time_of(one, "proof_due"),
                                 .proof = proof_of(one, "last_proof"),
                                 .passed = proof_of(one, "last_passed"),
                                 .places = {},
                                 .broken = {}};
  if (const Json* places = list_of(one, "places"))
    for (const Json& place : *places)
      if (place.is_object()) resource.places.push_back(place_of(place));
  if (const Json* broken = list_of(one, "broken"))
    for (const Json& sentence : *broken)
      if (sentence.is_string()) resource.broken.push_back(sentence.get<std::string>());
  return resource;
}

ShownAlerts alerts_of(const Json& root) {
  ShownAlerts alerts;
  if (const Json* listed = list_of(root, "alerts"))
    for (const Json& one : *listed) {
      if (!one.is_object() || text_of(one, "state") == "over") continue;
      const Json* told = list_of(one, "told");
      ShownAlerts::Alert alert{.id = static_cast<int64_t>(count_of(one, "id")),
                               .event = text_of(one, "event"),
                               .resource = text_of(one, "resource"),
                               .criticality = text_of(one, "criticality"),
                               .what = text_of(one, "what"),
                               .acknowledged_by = {},
                               .opened = time_of(one, "opened"),
                               .told = told != nullptr ? told->size() : 0};
      if (text_of(one, "state") == "acknowledged") alert.acknowledged_by = text_of(one, "acknowledged_by");
      alerts.alerts.push_back(std::move(alert));
    }
  if (const Json* listed = list_of(root, "undelivered"))
    for (const Json& one : *listed)
      if (one.is_object()) alerts.undelivered.push_back(text_of(one, "to"));
  return alerts;
}

}  // namespace

Result<ShownAlerts> read_alerts(std::string_view document) {
  TRY_ASSIGN(const Json root, parse(document, "kuramori/alerts/1"));
  return alerts_of(root);
}

Result<ShownStatus> read_status(std::string_view document) {
  TRY_ASSIGN(const Json root, parse(document, "kuramori/status/1"));
  ShownStatus status;
  const auto at = time_of(root, "time");
  if (!at) return fail(ErrorKind::kDamaged, "the answer does not say of when it is");
  status.at = *at;
  if (const Json* resources = list_of(root, "resources"))
    for (const Json& one : *resources)
      if (one.is_object()) status.resources.push_back(resource_of(one));
  if (const Json* vaults = list_of(root, "vaults"))
    for (const Json& one : *vaults) {
      if (!one.is_object()) continue;
      const std::string kit = text_of(one, "kit");
      status.vaults.push_back({.name = text_of(one, "vault"),
                               .family = text_of(one, "family"),
                               .created = time_of(one, "created"),
                               .kit_made = time_of(one, "kit_made"),
                               .is_kit_known = kit == "made" || kit == "none"});
    }
  status.alerts = alerts_of(root);
  if (const Json* pings = list_of(root, "pings"))
    for (const Json& one : *pings) {
      if (!one.is_object()) continue;
      const auto late = one.find("late");
      status.pings.push_back({.name = text_of(one, "name"),
                              .state = text_of(one, "state"),
                              .late = late != one.end() && late->is_boolean() && late->get<bool>(),
                              .done = time_of(one, "done")});
    }
  return status;
}

Result<std::vector<ShownJob>> read_jobs(std::string_view document) {
  TRY_ASSIGN(const Json root, parse(document, "kuramori/jobs/1"));
  std::vector<ShownJob> jobs;
  if (const Json* listed = list_of(root, "jobs"))
    for (const Json& one : *listed)
      if (one.is_object())
        jobs.push_back({.run = static_cast<int64_t>(count_of(one, "run")),
                        .job = text_of(one, "job"),
                        .state = text_of(one, "state"),
                        .why = text_of(one, "why"),
                        .progress = text_of(one, "progress"),
                        .due = time_of(one, "due"),
                        .started = time_of(one, "started"),
                        .ended = time_of(one, "ended")});
  return jobs;
}

std::optional<Error> read_error(std::string_view document) {
  const Json root = Json::parse(document, nullptr, false);
  if (!root.is_object() || text_of(root, "schema") != "kuramori/error/1") return std::nullopt;
  const auto at = root.find("error");
  if (at == root.end() || !at->is_object()) return std::nullopt;
  const std::string kind = text_of(*at, "kind");
  Error error = fail(ErrorKind::kFailed, text_of(*at, "what"), text_of(*at, "why"), text_of(*at, "next"));
  for (const ErrorKind one :
       {ErrorKind::kUsage, ErrorKind::kNotFound, ErrorKind::kRefused, ErrorKind::kDenied, ErrorKind::kPartial,
        ErrorKind::kBrokenPromise, ErrorKind::kDamaged, ErrorKind::kUnknown, ErrorKind::kNoSpace})
    if (kind == name_of(one)) error.kind = one;
  return error;
}

Result<JobWish> read_job_wish(std::string_view document) {
  const Json root = Json::parse(document, nullptr, false);
  const Error none = fail(ErrorKind::kUsage, "that asks for nothing", "",
                          R"(send {"start": "backup PLAN/RESOURCE"} or {"cancel": RUN})");
  if (!root.is_object() || root.size() != 1) return none;
  JobWish wish{.start = text_of(root, "start"), .cancel = {}};
  if (const uint64_t run = count_of(root, "cancel"); run > 0 && run <= INT64_MAX)
    wish.cancel = static_cast<int64_t>(run);
  if (wish.start.empty() && !wish.cancel) return none;
  return wish;
}

}  // namespace kuramori
