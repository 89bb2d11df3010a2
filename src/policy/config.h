// kuramori.yaml as typed values. Reading it checks everything that can be checked without touching a vault or
// a resource: keys, types, durations, schedules, zones and names that refer to each other. Every mistake is
// kUsage and names file, line, key and what was probably meant.
//
// What is not built yet is still read and kept (`kind: redis`, `notify:`), and refused where it is used.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "policy/resource_config.h"
#include "policy/retention.h"
#include "policy/schedule.h"
#include "policy/setting.h"
#include "policy/store_access.h"

namespace kuramori {

// What the daemon does for a vault that its plans use.
struct UpkeepConfig {
  Schedule prune, collect, scrub;  // without a dialect: never
  Duration scrub_budget = std::chrono::minutes(10);
  std::string timezone;
};

// How many jobs the daemon runs at once.
struct JobLimits {
  int jobs = 4;
  int jobs_per_vault = 4;
  int drills = 1;  // each starts a server
};

struct VaultConfig {
  std::string name;
  int line = 0;
  std::string at;  // "/absolute/path" or "s3://…"
  std::string site;
  std::string medium;    // "usb disk", "tape"; "": told by the place (see medium_of)
  std::string key_file;  // absolute
  Setting passphrase;    // wraps the key file, if set
  StoreAccess access;    // of an object store
  std::string copy_of;   // the name of another vault
  std::optional<Period> lock;
  std::string lock_mode;  // "compliance", "governance" or ""
  std::string ledger;
  std::string storage_class;
  std::string sse_kms_key;
  UpkeepConfig upkeep;
};

// On what a vault lies, unless it says so itself: "disk", "object store", "remote".
std::string medium_of(const VaultConfig& vault);

enum class WalMode { kNone, kArchive, kStream };

struct DrillCheck {
  std::string query;
  std::string expect;  // the only value of the only row, or "unchanged": what it was at the snapshot
};

struct DrillConfig {
  Schedule schedule;
  std::string vault;  // a name, "alternate", or "" for the plan's own
  enum class Counts { kAll, kTables, kBudget, kOff } counts = Counts::kBudget;
  std::vector<std::string> tables;             // for kTables
  Duration budget = std::chrono::seconds(30);  // for kBudget
  std::vector<DrillCheck> sql;
};

struct CopyConfig {
  std::string to;  // a vault's name
  KeepRules keep;
  std::optional<Period> window;
};

struct PlanConfig {
  std::string name;
  int line = 0;
  std::vector<std::string> resources;
  std::string vault;
  Schedule schedule;
  std::optional<Period> every;
  bool every_change = false;
  std::string timezone;  // "" when not given: then times need a zone of their own
  std::optional<Period> start_window, completion_window;
  WalMode wal = WalMode::kNone;
  std::optional<Period> flush;
  std::optional<Period> window;
  KeepRules keep;  // no rules: for ever
  std::vector<CopyConfig> copies;
  std::optional<DrillConfig> drill;
};

struct NotifyConfig {
  Setting to;
  std::vector<std::string> when;
};

struct Config {
  std::string path;                 // of the file; "" when there is none
  std::vector<VaultConfig> vaults;  // in the order of the file
  std::vector<ResourceConfig> resources;
  std::vector<PlanConfig> plans;
  std::vector<NotifyConfig> notify;
  JobLimits daemon;
  std::vector<std::string> remarks;  // what holds, but not as somebody may think: a sentence each

  // kUsage naming the nearest configured name.
  Result<const VaultConfig*> vault(std::string_view name) const;
  Result<const ResourceConfig*> resource(std::string_view name) const;
  Result<const PlanConfig*> plan(std::string_view name) const;
  // The plans that name the resource, in the order of the file.
  std::vector<const PlanConfig*> plans_of(std::string_view resource) const;
};

// `path` serves messages and relative paths.
Result<Config> parse_config(std::string_view text, const std::string& path, const ConfigWorld& world);
Result<Config> load_config(const std::string& path, const ConfigWorld& world);

// The known word closest to `word`, or "" if none is close.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known);

}  // namespace kuramori
