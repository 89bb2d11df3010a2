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
#include "policy/duties_config.h"
#include "policy/key_lines.h"
#include "policy/listen_config.h"
#include "policy/people_config.h"
#include "policy/ping_config.h"
#include "policy/resource_config.h"
#include "policy/retention.h"
#include "policy/schedule.h"
#include "policy/setting.h"
#include "policy/shape.h"
#include "policy/store_access.h"

namespace kuramori {

// What the daemon does for a vault that its plans use.
struct UpkeepConfig {
  Schedule prune, collect, scrub;  // without a dialect: never
  // Nobody asked for it in so many words: then a key that may not do it leaves it to others.
  bool prune_unasked = true, collect_unasked = true, scrub_unasked = true;
  Duration scrub_budget = std::chrono::minutes(10);
  std::string timezone;
};

// How many jobs the daemon runs at once.
struct JobLimits {
  int jobs = 4;
  int jobs_per_vault = 4;
  int drills = 1;  // each starts a server
  // How long another daemon with the same plans waits for this one; zero: each runs them all.
  Duration lease = std::chrono::minutes(1);
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
  std::optional<uint64_t> capacity;  // bytes that fit
  std::optional<double> full;        // the share of it from which on it is told of
  std::optional<int> snapshots_max;  // more are not taken there
  KeyLines lines;
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
  std::string owner;  // who looks at a failed one
  KeyLines lines;
};

struct CopyConfig {
  std::string to;  // a vault's name
  KeepRules keep;
  std::optional<Period> window;
  std::optional<Period> within;  // of the snapshot, it is there too
  KeyLines lines;
};

// From when on something is told of. What is not set has a default of the daemon's.
struct Thresholds {
  std::optional<Period> age;              // of the newest snapshot; "": the resources' rpo
  std::optional<Period> copy_lag;         // of any copy; "": its `within`
  std::optional<Period> wal_gap;          // since the newest WAL that arrived
  std::optional<Period> unproven;         // since the last proof
  std::optional<double> size;             // the share by which a snapshot differs from those before: 0.5
  std::optional<double> duration;         // the same of the time it took: 2 is three times as long
  std::optional<int> failures;            // that many failed runs …
  std::optional<Period> failures_within;  // … in so long
};

struct PlanConfig {
  std::string name;
  int line = 0;
  std::vector<std::string> resources;
  std::string vault;
  Schedule schedule;
  std::optional<Period> every;
  bool every_change = false;
  bool manual = false;   // schedule: manual, when somebody asks for it alone
  std::string timezone;  // "" when not given: then times need a zone of their own
  std::optional<Period> start_window, completion_window;
  WalMode wal = WalMode::kNone;
  std::optional<Period> flush;
  std::optional<Period> window;
  KeepRules keep;  // no rules: for ever
  std::vector<CopyConfig> copies;
  std::optional<DrillConfig> drill;
  Thresholds thresholds;
  KeyLines lines;
};

struct Config {
  std::string path;                 // of the file; "" when there is none
  std::string name;                 // where several configurations share a vault; "": the only one
  std::vector<VaultConfig> vaults;  // in the order of the file
  std::vector<ResourceConfig> resources;
  std::vector<PlanConfig> plans;
  std::vector<ServiceConfig> services;
  std::vector<ScenarioConfig> scenarios;
  std::vector<ExerciseConfig> exercises;
  std::vector<ComplianceConfig> compliance;
  std::vector<ContactConfig> contacts;
  std::vector<NotifyConfig> notify;
  std::vector<PingConfig> pings;
  JobLimits daemon;
  std::optional<ListenConfig> listen;
  std::optional<HeartbeatConfig> heartbeat;
  std::optional<ApprovalsConfig> approvals;
  std::optional<AuditConfig> audit;
  std::vector<std::string> remarks;  // what holds, but not as somebody may think: a sentence each

  // kUsage naming the nearest configured name.
  Result<const VaultConfig*> vault(std::string_view name) const;
  Result<const ResourceConfig*> resource(std::string_view name) const;
  Result<const PlanConfig*> plan(std::string_view name) const;
  // The most critical first, then as in the file (A1).
  std::vector<const ResourceConfig*> by_criticality() const;
  // The plans that name the resource, in the order of the file.
  std::vector<const PlanConfig*> plans_of(std::string_view resource) const;
};

// `path` serves messages and relative paths.
Result<Config> parse_config(std::string_view text, const std::string& path, const ConfigWorld& world);
Result<Config> load_config(const std::string& path, const ConfigWorld& world);

// What kuramori.yaml may hold, as the code that reads it asks for it.
Shape describe_config();

// The known word closest to `word`, or "" if none is close.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known);

}  // namespace kuramori
