#include "policy/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "base/time_text.h"
#include "policy/config_reader.h"
#include "policy/lock_rules.h"

namespace kuramori {
namespace {

constexpr int kLastMax = 10'000;            // snapshots a `last` rule may name
constexpr int kSnapshotsMax = 100'000'000;  // a vault may be said to take
constexpr int kFailuresMax = 1000;

std::string read_location(MapReader& map, std::string_view key) {
  std::string at = map.text(key);
  if (at.starts_with("file://")) at = at.substr(7);
  if (at.starts_with("rclone:")) return at;
  if (at.find("://") != at.npos && !at.starts_with("s3://"))
    map.state().fail_at(map.line(),
                        fmt::format("{} is at \"{}\", which is no place for a vault", map.where(), at), {},
                        "write a path, file:///path, s3://bucket/prefix or rclone:remote:path");
  return at.empty() || at.starts_with("s3://") ? at : map.state().absolute(at);
}

// What rclone reaches promises too little to hold everything: nothing is put exactly once there, nothing
// locked.
void check_rclone_places(MapReader& map, const VaultConfig& vault) {
  if (vault.ledger.starts_with("rclone:"))
    map.state().fail_at(map.line(), fmt::format("the ledger of {} cannot be behind rclone", map.where()),
                        "nothing can be put exactly once there", "give ledger: a folder on this machine");
  if (!vault.at.starts_with("rclone:")) return;
  if (vault.ledger.empty())
    map.state().fail_at(map.line(), fmt::format("{} is behind rclone and has no ledger", map.where()),
                        "nothing can be put exactly once there: a second, small place has to",
                        "add ledger: /a/folder/on/this/machine");
  if (vault.lock)
    map.state().fail_at(map.line(), fmt::format("lock: of {} cannot be kept behind rclone", map.where()), {},
                        "take it out, or reach the store as s3://bucket/prefix");
}

// In the morning, when the night's backups are done: what is due goes, space returns, and what was stored is
// read again for a while.
constexpr std::string_view kPruneUsually = "0 6 * * *", kCollectUsually = "30 6 * * *",
                           kScrubUsually = "0 7 * * *";

UpkeepConfig read_upkeep(MapReader& vault) {
  UpkeepConfig upkeep{.prune = *parse_schedule(kPruneUsually),
                      .collect = *parse_schedule(kCollectUsually),
                      .scrub = *parse_schedule(kScrubUsually)};
  auto map = vault.map("upkeep");
  if (!map) return upkeep;
  auto read = [&](std::string_view key, Schedule& schedule, bool& unasked) {
    if (map->is_word(key, "off")) {
      schedule = {};
    } else if (auto given = map->read_as(key, parse_schedule)) {
      schedule = *given;
      unasked = false;
    }
  };
  read("prune", upkeep.prune, upkeep.prune_unasked);
  read("collect", upkeep.collect, upkeep.collect_unasked);
  read("scrub", upkeep.scrub, upkeep.scrub_unasked);
  if (auto budget = map->period("scrub_budget")) {
    if (!budget->is_exact())
      map->state().fail_at(map->line(),
                           fmt::format("scrub_budget of {} must have a fixed length", map->where()), {},
                           "write scrub_budget: 10m");
    upkeep.scrub_budget = std::chrono::seconds(std::min<int64_t>(budget->seconds, 7 * 86400));
  }
  upkeep.timezone = map->zone("timezone");
  map->done();
  return upkeep;
}

JobLimits read_daemon(MapReader& top, std::optional<HeartbeatConfig>& heartbeat) {
  constexpr int kAtOnceMax = 256;
  JobLimits limits;
  if (auto map = top.map("daemon")) {
    limits.jobs = map->count("jobs", 1, kAtOnceMax).value_or(limits.jobs);
    limits.jobs_per_vault = map->count("jobs_per_vault", 1, kAtOnceMax).value_or(limits.jobs);
    limits.drills = map->count("drills", 1, kAtOnceMax).value_or(limits.drills);
    heartbeat = read_heartbeat(*map);
    constexpr int64_t kLeaseSecondsMax = 3600;
    if (map->is_word("lease", "off")) {
      limits.lease = Duration(0);
    } else if (auto lease = map->period("lease")) {
      if (!lease->is_exact() || lease->seconds < 1 || lease->seconds > kLeaseSecondsMax)
        map->state().fail_at(map->line(), "lease of daemon must be between 1s and 1h", {},
                             "write lease: 1m, or lease: off");
      limits.lease = std::chrono::seconds(lease->seconds);
    }
    map->done();
  }
  return limits;
}

VaultConfig read_vault(const std::string& name, MapReader& map) {
  VaultConfig vault;
  vault.name = name;
  vault.line = map.line();
  vault.lines = map.lines();
  vault.at = read_location(map, "at");
  if (vault.at.empty())
    map.state().fail_at(map.line(), fmt::format("vault \"{}\" has no place", name), {},
                        "add at: file:///path, s3://bucket/prefix or rclone:remote:path");
  vault.site = map.text("site");
  vault.medium = map.text("medium");
  vault.key_file = map.path("key_file");
  vault.passphrase = map.setting("passphrase");
  vault.access = read_store_access(map);
  vault.copy_of = map.text("copy_of");
  vault.lock = map.period("lock");
  vault.lock_mode = map.choice("lock_mode", {"compliance", "governance"});
  vault.ledger = read_location(map, "ledger");
  check_rclone_places(map, vault);
  vault.storage_class = map.text("class");
  if (auto sse = map.map("sse")) {
    vault.sse_kms_key = sse->text("kms");
    sse->done();
  }
  vault.upkeep = read_upkeep(map);
  vault.capacity = map.read_as("capacity", parse_size);
  vault.full = map.read_as("full", parse_share);
  vault.snapshots_max = map.count("snapshots_max", 1, kSnapshotsMax);
  map.done();
  return vault;
}

// `keep: 14d` is short for `keep: { all: 14d }`.
KeepRules read_keep(MapReader& map) {
  KeepRules keep;
  if (map.holds("keep", YamlNode::Kind::kText)) keep.all = map.period("keep");
  if (map.holds("keep", YamlNode::Kind::kText) && !map.describing()) return keep;
  auto rules = map.map("keep");
  if (!rules) return keep;
  keep.all = rules->period("all");
  keep.last = rules->count("last", 1, kLastMax).value_or(0);
  keep.hourly = rules->period("hourly");
  keep.daily = rules->period("daily");
  keep.weekly = rules->period("weekly");
  keep.monthly = rules->period("monthly");
  keep.yearly = rules->period("yearly");
  rules->done();
  return keep;
}

void read_counts(MapReader& map, DrillConfig& drill) {
  using Counts = DrillConfig::Counts;
  if (!map.has("counts") && !map.describing()) return;
  const bool is_list = map.holds("counts", YamlNode::Kind::kList);
  const bool is_map = map.holds("counts", YamlNode::Kind::kMap);
  if (is_list) {
    drill.counts = Counts::kTables;
    drill.tables = map.words("counts");
  }
  if (is_map) {
    auto inside = map.map("counts");
    auto budget = inside->period("budget");
    if (budget && !budget->is_exact())
      map.state().fail_at(inside->line(), "the budget of counts must have a fixed length", {},
                          "write budget: 30s");
    if (budget) drill.budget = std::chrono::seconds(std::min<int64_t>(budget->seconds, 86400));
    inside->done();
  }
  if ((!is_list && !is_map) || map.describing())
    drill.counts = map.choice("counts", {"all", "off"}) == "off" ? Counts::kOff : Counts::kAll;
}

DrillConfig read_drill(MapReader& map) {
  DrillConfig drill;
  drill.lines = map.lines();
  drill.schedule = map.read_as("schedule", parse_schedule).value_or(Schedule{});
  drill.vault = map.text("vault");
  drill.owner = map.text("owner");
  read_counts(map, drill);
  map.each("sql", "a check", "{ query: \"select …\", expect: \"…\" }", [&](MapReader& check) {
    drill.sql.push_back({check.text("query"), check.text("expect")});
    if (!check.has("query") || !check.has("expect"))
      map.state().fail_at(check.line(), fmt::format("{} needs query and expect", check.where()));
  });
  map.done();
  return drill;
}

std::vector<CopyConfig> read_copies(MapReader& map) {
  std::vector<CopyConfig> copies;
  map.each("copies", "a copy", "{ to: VAULT, keep: 14d }", [&](MapReader& copy) {
    CopyConfig one;
    one.lines = copy.lines();
    one.to = copy.text("to");
    one.keep = read_keep(copy);
    one.window = copy.period("window");
    one.within = copy.period("within");
    copies.push_back(std::move(one));
  });
  return copies;
}

Thresholds read_thresholds(MapReader& plan) {
  Thresholds out;
  auto map = plan.map("thresholds");
  if (!map) return out;
  out.age = map->period("age");
  out.copy_lag = map->period("copy_lag");
  out.wal_gap = map->period("wal_gap");
  out.unproven = map->period("unproven");
  out.size = map->read_as("size", parse_growth);
  out.duration = map->read_as("duration", parse_growth);
  out.failures = map->count("failures", 1, kFailuresMax);
  out.failures_within = map->period("failures_within");
  map->done();
  return out;
}

// When it runs: schedule, or every.
void read_runs(MapReader& map, PlanConfig& plan) {
  plan.manual = map.is_word("schedule", "manual");
  if (!plan.manual) plan.schedule = map.read_as("schedule", parse_schedule).value_or(Schedule{});
  plan.every_change = map.is_word("every", "change");
  if (!plan.every_change) plan.every = map.period("every");
  if (map.has("every") && map.has("schedule"))
    map.state().fail_at(map.find("every")->line, fmt::format("{} has a schedule and an every", map.where()),
                        {}, "keep one of the two");
  plan.timezone = map.zone("timezone");
  plan.start_window = map.period("start_window");
  plan.completion_window = map.period("completion_window");
}

PlanConfig read_plan(const std::string& name, MapReader& map) {
  PlanConfig plan;
  plan.name = name;
  plan.line = map.line();
  plan.lines = map.lines();
  plan.resources = map.words("resources");
  plan.vault = map.text("vault");
  read_runs(map, plan);
  std::string wal = map.choice("wal", {"stream", "archive", "none"});
  plan.wal = wal == "stream" ? WalMode::kStream : wal == "archive" ? WalMode::kArchive : WalMode::kNone;
  plan.flush = map.period("flush");
  plan.window = map.period("window");
  plan.keep = read_keep(map);
  plan.copies = read_copies(map);
  if (auto drill = map.map("drill")) plan.drill = read_drill(*drill);
  plan.thresholds = read_thresholds(map);
  map.done();
  return plan;
}

// The whole file, section by section.
void read_sections(MapReader& top, Config& config) {
  config.name = top.text("name");
  top.named("vaults", "vault",
            [&](const std::string& name, MapReader& map) { config.vaults.push_back(read_vault(name, map)); });
  top.named("resources", "resource", [&](const std::string& name, MapReader& map) {
    config.resources.push_back(read_resource(name, map));
  });
  top.named("plans", "plan",
            [&](const std::string& name, MapReader& map) { config.plans.push_back(read_plan(name, map)); });
  top.named("services", "service", [&](const std::string& name, MapReader& map) {
    config.services.push_back(read_service(name, map));
  });
  top.named("scenarios", "scenario", [&](const std::string& name, MapReader& map) {
    config.scenarios.push_back(read_scenario(name, map));
  });
  top.named("exercises", "exercise", [&](const std::string& name, MapReader& map) {
    config.exercises.push_back(read_exercise(name, map));
  });
  top.named("compliance", "compliance rule", [&](const std::string& name, MapReader& map) {
    config.compliance.push_back(read_compliance(name, map));
  });
  top.named("contacts", "contact", [&](const std::string& name, MapReader& map) {
    config.contacts.push_back(read_contact(name, map));
  });
  config.notify = read_notify(top);
  top.named("pings", "ping",
            [&](const std::string& name, MapReader& map) { config.pings.push_back(read_ping(name, map)); });
  config.approvals = read_approvals(top);
  config.audit = read_audit(top);
  if (auto listen = top.map("listen")) config.listen = read_listen(*listen);
  config.daemon = read_daemon(top, config.heartbeat);
  top.done();
}

template <class Thing>
const Thing* find_named(const std::vector<Thing>& things, std::string_view name) {
  for (const Thing& thing : things)
    if (thing.name == name) return &thing;
  return nullptr;
}

template <class Thing>
Error no_such(const std::vector<Thing>& things, std::string_view noun, std::string_view name) {
  std::vector<std::string_view> names;
  std::string list;
  for (const Thing& thing : things) {
    names.push_back(thing.name);
    list += (list.empty() ? "" : ", ") + thing.name;
  }
  std::string_view meant = nearest(name, names);
  return fail(ErrorKind::kUsage, fmt::format("there is no {} \"{}\"", noun, name),
              list.empty() ? fmt::format("no {} is configured", noun) : "configured: " + list,
              meant.empty() ? "" : fmt::format("did you mean \"{}\"?", meant));
}

// A site is named by the vaults and resources that stand there.
std::vector<std::string_view> sites_of(const Config& config) {
  std::vector<std::string_view> sites;
  for (const VaultConfig& vault : config.vaults)
    sites.push_back(vault.site.empty() ? vault.name : vault.site);
  for (const ResourceConfig& resource : config.resources)
    if (!resource.site.empty()) sites.push_back(resource.site);
  return sites;
}

// Every name that refers to something must be there.
class References {
 public:
  References(ReadState& state, const Config& config) : state_(state), config_(config) {}

  void check_all() {
    for (const VaultConfig& vault : config_.vaults)
      if (!vault.copy_of.empty())
        check(vault.line, fmt::format("vault \"{}\"", vault.name), config_.vault(vault.copy_of));
    for (const PlanConfig& plan : config_.plans) check_plan(plan);
    for (const ResourceConfig& resource : config_.resources)
      check_resources(resource.lines.of("depends_on"), fmt::format("resource \"{}\"", resource.name),
                      resource.depends_on);
    for (const ServiceConfig& service : config_.services) check_service(service);
    for (const ScenarioConfig& scenario : config_.scenarios) {
      const std::string where = fmt::format("scenario \"{}\"", scenario.name);
      check(scenario.lines.of("from"), where, config_.vault(scenario.from));
      check_site(scenario, where);
      check_resources(scenario.lines.of("resources"), where, scenario.resources);
    }
    for (const ExerciseConfig& exercise : config_.exercises)
      for (const std::string& name : exercise.scenarios)
        check_name(exercise.lines.of("scenarios"), fmt::format("exercise \"{}\"", exercise.name),
                   config_.scenarios, "scenario", name);
    for (const ComplianceConfig& demands : config_.compliance)
      check_resources(demands.lines.of("resources"), fmt::format("compliance rule \"{}\"", demands.name),
                      demands.resources);
    for (const NotifyConfig& notify : config_.notify)
      check_resources(notify.lines.of("resources"), "an entry of notify", notify.resources);
    if (!config_.pings.empty() && !config_.listen)
      state_.fail_at(config_.pings.front().lines.own,
                     fmt::format("ping \"{}\" cannot be called", config_.pings.front().name),
                     "the daemon listens nowhere", "add listen: { address: \"127.0.0.1:9847\" }");
    for (const PingConfig& ping : config_.pings)
      if (!ping.resource.empty())
        check(ping.lines.of("resource"), fmt::format("ping \"{}\"", ping.name),
              config_.resource(ping.resource));
    if (config_.approvals)
      for (const std::string& name : config_.approvals->by)
        check_name(config_.approvals->lines.of("by"), "approvals", config_.contacts, "contact", name);
  }

 private:
  template <class Found>
  void check(int line, const std::string& where, Found found) {
    if (found) return;
    state_.fail_at(line, where + ": " + found.error().what, found.error().why, found.error().next);
  }
  template <class Thing>
  void check_name(int line, const std::string& where, const std::vector<Thing>& things, std::string_view noun,
                  const std::string& name) {
    if (find_named(things, name)) return;
    const Error error = no_such(things, noun, name);
    state_.fail_at(line, where + ": " + error.what, error.why, error.next);
  }
  void check_resources(int line, const std::string& where, const std::vector<std::string>& names) {
    for (const std::string& name : names) check(line, where, config_.resource(name));
  }
  void check_plan(const PlanConfig& plan) {
    std::string where = fmt::format("plan \"{}\"", plan.name);
    if (plan.resources.empty())
      state_.fail_at(plan.line, where + " has no resources", {}, "add resources: [NAME]");
    if (plan.vault.empty()) state_.fail_at(plan.line, where + " has no vault", {}, "add vault: NAME");
    check_resources(plan.line, where, plan.resources);
    check(plan.line, where, config_.vault(plan.vault));
    for (const CopyConfig& copy : plan.copies) check(plan.line, where, config_.vault(copy.to));
    if (plan.drill && !plan.drill->vault.empty() && plan.drill->vault != "alternate")
      check(plan.line, where, config_.vault(plan.drill->vault));
  }
  void check_service(const ServiceConfig& service) {
    const std::string where = fmt::format("service \"{}\"", service.name);
    check_resources(service.lines.of("resources"), where, service.resources);
    for (const std::string& name : service.needs)
      check_name(service.lines.of("needs"), where, config_.services, "service", name);
    for (const std::string& name : service.watches)
      if (name != "all") check_name(service.lines.of("watches"), where, config_.services, "service", name);
  }
  void check_site(const ScenarioConfig& scenario, const std::string& where) {
    const std::vector<std::string_view> sites = sites_of(config_);
    if (std::ranges::find(sites, scenario.lost) != sites.end()) return;
    const std::string_view meant = nearest(scenario.lost, sites);
    state_.fail_at(scenario.lines.of("lost"),
                   fmt::format("{}: nothing stands at site \"{}\"", where, scenario.lost),
                   "sites are named by site: of vaults and resources",
                   meant.empty() ? "" : fmt::format("did you mean \"{}\"?", meant));
  }

  ReadState& state_;
  const Config& config_;
};

}  // namespace

std::string medium_of(const VaultConfig& vault) {
  if (!vault.medium.empty()) return vault.medium;
  if (vault.at.starts_with("s3:")) return "object store";
  return vault.at.starts_with("rclone:") ? "remote" : "disk";
}

Result<const VaultConfig*> Config::vault(std::string_view wanted) const {
  if (const VaultConfig* found = find_named(vaults, wanted)) return found;
  return no_such(vaults, "vault", wanted);
}
Result<const ResourceConfig*> Config::resource(std::string_view wanted) const {
  if (const ResourceConfig* found = find_named(resources, wanted)) return found;
  return no_such(resources, "resource", wanted);
}
Result<const PlanConfig*> Config::plan(std::string_view wanted) const {
  if (const PlanConfig* found = find_named(plans, wanted)) return found;
  return no_such(plans, "plan", wanted);
}

std::vector<const ResourceConfig*> Config::by_criticality() const {
  std::vector<const ResourceConfig*> sorted;
  for (const ResourceConfig& one : resources) sorted.push_back(&one);
  std::ranges::stable_sort(sorted, {}, [](const ResourceConfig* one) { return criticality_rank(*one); });
  return sorted;
}

std::vector<const PlanConfig*> Config::plans_of(std::string_view resource) const {
  std::vector<const PlanConfig*> out;
  for (const PlanConfig& plan : plans)
    if (std::ranges::find(plan.resources, resource) != plan.resources.end()) out.push_back(&plan);
  return out;
}

Result<Config> parse_config(std::string_view text, const std::string& path, const ConfigWorld& world) {
  if (text.size() > kConfigBytesMax)
    return fail(ErrorKind::kUsage, fmt::format("{} is larger than {}", path, format_size(kConfigBytesMax)));
  TRY_ASSIGN(YamlNode root, parse_yaml(text, path));
  ReadState state{&world, path, std::filesystem::path(path).parent_path().string(), std::nullopt};
  MapReader top(state, root, "the configuration");
  Config config;
  config.path = path;
  read_sections(top, config);
  if (!state.error) References(state, config).check_all();
  if (state.error) return std::move(*state.error);
  config.remarks = lock_remarks(config);
  return config;
}

Shape describe_config() {
  const ConfigWorld nothing;
  ReadState state{&nothing, {}, {}, std::nullopt, true};
  Shape shape;
  MapReader top(state, shape);
  Config ignored;
  read_sections(top, ignored);
  return shape;
}

Result<Config> load_config(const std::string& path, const ConfigWorld& world) {
  std::error_code ignored;
  std::string full = std::filesystem::absolute(path, ignored).lexically_normal().string();
  auto text = world.read_file(full);
  if (!text) {
    Error error = std::move(text).error();
    error.kind = ErrorKind::kUsage;
    if (error.next.empty()) error.next = "name another file with --config FILE";
    return error;
  }
  return parse_config(*text, full, world);
}

}  // namespace kuramori
