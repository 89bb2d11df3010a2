#include "policy/duties_config.h"

#include <fmt/core.h>

#include "policy/config_reader.h"
#include "policy/resource_config.h"

namespace kuramori {
namespace {

constexpr int kCopiesMax = 20;

}  // namespace

ServiceConfig read_service(const std::string& name, MapReader& map) {
  ServiceConfig service;
  service.name = name;
  service.lines = map.lines();
  service.owner = map.text("owner");
  service.criticality = map.choice("criticality", criticality_words());
  service.within = map.period("within");
  service.takes = map.period("takes");
  service.needs = map.words("needs");
  service.resources = map.words("resources");
  service.watches = map.words("watches");
  map.done();
  return service;
}

ScenarioConfig read_scenario(const std::string& name, MapReader& map) {
  ScenarioConfig scenario;
  scenario.name = name;
  scenario.lines = map.lines();
  scenario.lost = map.text("lost");
  scenario.from = map.text("from");
  scenario.resources = map.words("resources");
  if (scenario.lost.empty() || scenario.from.empty())
    map.state().fail_at(map.line(), fmt::format("{} needs lost and from", map.where()), {},
                        "write lost: SITE, from: VAULT");
  map.done();
  return scenario;
}

ExerciseConfig read_exercise(const std::string& name, MapReader& map) {
  ExerciseConfig exercise;
  exercise.name = name;
  exercise.lines = map.lines();
  exercise.schedule = map.read_as("schedule", parse_schedule).value_or(Schedule{});
  exercise.timezone = map.zone("timezone");
  exercise.owner = map.text("owner");
  exercise.scenarios = map.words("scenarios");
  if (exercise.schedule.dialect == Schedule::Dialect::kNone)
    map.state().fail_at(map.line(), fmt::format("{} has no schedule", map.where()), {},
                        "add schedule: \"0 10 1 9 *\"");
  map.done();
  return exercise;
}

ComplianceConfig read_compliance(const std::string& name, MapReader& map) {
  ComplianceConfig demands;
  demands.name = name;
  demands.lines = map.lines();
  demands.resources = map.words("resources");
  demands.keep = map.period("keep");
  demands.locked = map.period("locked");
  demands.proof = map.period("proof");
  demands.exercise = map.period("exercise");
  demands.copies = map.count("copies", 1, kCopiesMax);
  demands.sites = map.count("sites", 1, kCopiesMax);
  if (auto audit = map.map("audit")) {
    demands.audit_online = audit->period("online");
    demands.audit_archive = audit->period("archive");
    audit->done();
  }
  demands.escrow = map.is_yes("escrow");
  demands.split_roles = map.is_yes("split_roles");
  map.done();
  return demands;
}

std::optional<AuditConfig> read_audit(MapReader& top) {
  auto map = top.map("audit");
  if (!map) return {};
  AuditConfig audit;
  audit.lines = map->lines();
  audit.online = map->period("online");
  audit.archive = map->period("archive");
  map->done();
  return audit;
}

}  // namespace kuramori
