// What must be true beyond single plans: what comes back when (services), after what is lost (scenarios),
// what is rehearsed (exercises) and what laws and contracts demand (compliance). Here it is only read; `lint`
// holds the plans against it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "policy/key_lines.h"
#include "policy/schedule.h"

namespace kuramori {

class MapReader;

// What people see and wait for. Its place in the recovery is `needs` and `within`.
struct ServiceConfig {
  std::string name;
  KeyLines lines;
  std::string owner, criticality;
  std::optional<Period> within;        // of the disaster, it runs again
  std::optional<Period> takes;         // once all that it needs is there
  std::vector<std::string> needs;      // services
  std::vector<std::string> resources;  // what it cannot run without
  std::vector<std::string> watches;    // services it watches, "all": every other
};

// `scenarios: { region-loss: { lost: tokyo, from: osaka } }`: what is recovered from, when a site is lost.
struct ScenarioConfig {
  std::string name;
  KeyLines lines;
  std::string lost;                    // a site
  std::vector<std::string> resources;  // none: all
  std::string from;                    // a vault
};

struct ExerciseConfig {
  std::string name;
  KeyLines lines;
  Schedule schedule;
  std::string timezone;
  std::string owner;
  std::vector<std::string> scenarios;
};

// `compliance: { accounting: { keep: 7y, … } }`: demands on some resources, or on all.
struct ComplianceConfig {
  std::string name;
  KeyLines lines;
  std::vector<std::string> resources;  // none: all
  std::optional<Period> keep;          // something of every month (or denser) for so long
  std::optional<Period> locked;        // so long that nobody can delete it
  std::optional<Period> proof;         // restored and checked at least so often
  std::optional<Period> exercise;      // the whole recovery rehearsed so often
  std::optional<int> copies, sites;    // the original counted in
  std::optional<Period> audit_online, audit_archive;
  bool escrow = false;       // its key lies somewhere else too
  bool split_roles = false;  // who writes cannot delete
};

// How long it stays on record who did what.
struct AuditConfig {
  KeyLines lines;
  std::optional<Period> online, archive;
};

ServiceConfig read_service(const std::string& name, MapReader& map);
ScenarioConfig read_scenario(const std::string& name, MapReader& map);
ExerciseConfig read_exercise(const std::string& name, MapReader& map);
ComplianceConfig read_compliance(const std::string& name, MapReader& map);
std::optional<AuditConfig> read_audit(MapReader& top);

}  // namespace kuramori
