#include "policy/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "base/time_text.h"
#include "policy/config_reader.h"
#include "policy/lock_rules.h"

namespace kuramori {
namespace {

constexpr int kLastMax = 10'000;  // snapshots a `last` rule may name
constexpr size_t kNameMax = 63;   // characters of a vault's, resource's or plan's name

// Names stand in commands (`orders-db@latest`) and messages.
void check_name(ReadState& state, const std::string& name, int line, std::string_view noun) {
  bool good = !name.empty() && name.size() <= kNameMax && name.front() != '-' && name.front() != '.' &&
              name.front() != '/' && std::ranges::all_of(name, [](char c) {
                return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '/';
              });
  if (!good)
    state.fail_at(line, fmt::format("\"{}\" cannot name a {}", name.substr(0, kNameMax), noun),
                  fmt::format("a name has 1–{} letters, digits, and - _ . / inside", kNameMax));
}

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

Schedule read_schedule(MapReader& map, std::string_view key = "schedule") {
  const YamlNode* node = map.find(key);
  if (!node) return {};
  std::string text = map.scalar(*node, key);
  if (map.state().error) return {};
  auto schedule = parse_schedule(text);
  if (schedule) return *schedule;
  map.state().fail_at(node->line, fmt::format("{} of {}: {}", key, map.where(), schedule.error().what),
                      schedule.error().why, schedule.error().next);
  return {};
}

std::string read_timezone(MapReader& map) {
  std::string zone = map.text("timezone");
  if (zone.empty() || map.state().error) return zone;
  if (auto known = check_zone(zone); !known)
    map.state().fail_at(map.find("timezone") ? map.find("timezone")->line : map.line(),
                        fmt::format("timezone of {}: {}", map.where(), known.error().what), known.error().why,
                        known.error().next);
  return zone;
}

// In the morning, when the night's backups are done: what is due goes, space returns, and what was stored is
// read again for a while.
constexpr std::string_view kPruneUsually = "0 6 * * *", kCollectUsually = "30 6 * * *",
                           kScrubUsually = "0 7 * * *";

UpkeepConfig read_upkeep(MapReader* map) {
  UpkeepConfig upkeep;
  auto schedule = [&](std::string_view key, std::string_view usually) -> Schedule {
    const YamlNode* node = map ? map->find(key) : nullptr;
    if (!node) return *parse_schedule(usually);
    return node->text == "off" ? Schedule{} : read_schedule(*map, key);
  };
  upkeep.prune = schedule("prune", kPruneUsually);
  upkeep.collect = schedule("collect", kCollectUsually);
  upkeep.scrub = schedule("scrub", kScrubUsually);
  if (!map) return upkeep;
  if (auto budget = map->period("scrub_budget")) {
    if (!budget->is_exact())
      map->state().fail_at(map->line(),
                           fmt::format("scrub_budget of {} must have a fixed length", map->where()), {},
                           "write scrub_budget: 10m");
    upkeep.scrub_budget = std::chrono::seconds(std::min<int64_t>(budget->seconds, 7 * 86400));
  }
  upkeep.timezone = read_timezone(*map);
  map->done();
  return upkeep;
}

JobLimits read_job_limits(MapReader& top) {
  constexpr int kAtOnceMax = 256;
  JobLimits limits;
  if (auto map = top.map("daemon")) {
    limits.jobs = map->count("jobs", 1, kAtOnceMax).value_or(limits.jobs);
    limits.jobs_per_vault = map->count("jobs_per_vault", 1, kAtOnceMax).value_or(limits.jobs);
    limits.drills = map->count("drills", 1, kAtOnceMax).value_or(limits.drills);
    map->done();
  }
  return limits;
}

VaultConfig read_vault(ReadState& state, const std::string& name, const YamlNode& node) {
  MapReader map(state, node, fmt::format("vault \"{}\"", name));
  VaultConfig vault;
  vault.name = name;
  vault.line = node.line;
  vault.at = read_location(map, "at");
  if (vault.at.empty())
    state.fail_at(node.line, fmt::format("vault \"{}\" has no place", name), {},
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
  auto upkeep = map.map("upkeep");
  vault.upkeep = read_upkeep(upkeep ? &*upkeep : nullptr);
  map.done();
  return vault;
}

// `keep: 14d` is short for `keep: { all: 14d }`.
KeepRules read_keep(MapReader& map) {
  KeepRules keep;
  const YamlNode* node = map.find("keep");
  if (!node) return keep;
  if (node->kind == YamlNode::Kind::kText) {
    keep.all = map.period("keep");
    return keep;
  }
  MapReader rules(map.state(), *node, fmt::format("keep of {}", map.where()));
  keep.all = rules.period("all");
  keep.last = rules.count("last", 1, kLastMax).value_or(0);
  keep.hourly = rules.period("hourly");
  keep.daily = rules.period("daily");
  keep.weekly = rules.period("weekly");
  keep.monthly = rules.period("monthly");
  keep.yearly = rules.period("yearly");
  rules.done();
  return keep;
}

void read_counts(MapReader& map, DrillConfig& drill) {
  const YamlNode* node = map.find("counts");
  if (!node) return;
  if (node->kind == YamlNode::Kind::kList) {
    drill.counts = DrillConfig::Counts::kTables;
    drill.tables = map.words("counts");
  } else if (node->kind == YamlNode::Kind::kMap) {
    MapReader inside(map.state(), *node, fmt::format("counts of {}", map.where()));
    auto budget = inside.period("budget");
    if (budget && !budget->is_exact())
      map.state().fail_at(node->line, "the budget of counts must have a fixed length", {},
                          "write budget: 30s");
    if (budget) drill.budget = std::chrono::seconds(std::min<int64_t>(budget->seconds, 86400));
    inside.done();
  } else {
    drill.counts =
        map.choice("counts", {"all", "off"}) == "off" ? DrillConfig::Counts::kOff : DrillConfig::Counts::kAll;
  }
}

DrillConfig read_drill(MapReader& map) {
  DrillConfig drill;
  drill.schedule = read_schedule(map);
  drill.vault = map.text("vault");
  read_counts(map, drill);
  if (const YamlNode* checks = map.find("sql")) {
    if (checks->kind != YamlNode::Kind::kList)
      map.state().fail_at(checks->line, fmt::format("sql of {} must be a list", map.where()), {},
                          "write - { query: \"select …\", expect: \"…\" }");
    for (const YamlNode& item : checks->items) {
      MapReader check(map.state(), item, fmt::format("a check of {}", map.where()));
      drill.sql.push_back({check.text("query"), check.text("expect")});
      if (!check.has("query") || !check.has("expect"))
        map.state().fail_at(item.line, fmt::format("a check of {} needs query and expect", map.where()));
      check.done();
    }
  }
  map.done();
  return drill;
}

std::vector<CopyConfig> read_copies(MapReader& map) {
  std::vector<CopyConfig> copies;
  const YamlNode* list = map.find("copies");
  if (!list) return copies;
  if (list->kind != YamlNode::Kind::kList)
    map.state().fail_at(list->line, fmt::format("copies of {} must be a list", map.where()), {},
                        "write - { to: VAULT, keep: 14d }");
  for (const YamlNode& item : list->items) {
    MapReader copy(map.state(), item, fmt::format("a copy of {}", map.where()));
    CopyConfig one;
    one.to = copy.text("to");
    one.keep = read_keep(copy);
    one.window = copy.period("window");
    copy.done();
    copies.push_back(std::move(one));
  }
  return copies;
}

PlanConfig read_plan(ReadState& state, const std::string& name, const YamlNode& node) {
  MapReader map(state, node, fmt::format("plan \"{}\"", name));
  PlanConfig plan;
  plan.name = name;
  plan.line = node.line;
  plan.resources = map.words("resources");
  plan.vault = map.text("vault");
  plan.schedule = read_schedule(map);
  if (const YamlNode* every = map.find("every")) {
    plan.every_change = every->text == "change";
    if (!plan.every_change) plan.every = map.period("every");
    if (plan.schedule.dialect != Schedule::Dialect::kNone)
      state.fail_at(every->line, fmt::format("plan \"{}\" has a schedule and an every", name), {},
                    "keep one of the two");
  }
  plan.timezone = read_timezone(map);
  plan.start_window = map.period("start_window");
  plan.completion_window = map.period("completion_window");
  std::string wal = map.choice("wal", {"stream", "archive", "none"});
  plan.wal = wal == "stream" ? WalMode::kStream : wal == "archive" ? WalMode::kArchive : WalMode::kNone;
  plan.flush = map.period("flush");
  plan.window = map.period("window");
  plan.keep = read_keep(map);
  plan.copies = read_copies(map);
  if (auto drill = map.map("drill")) plan.drill = read_drill(*drill);
  map.done();
  return plan;
}

// Reads each entry of a top-level map of named things.
template <class Read>
void read_named(MapReader& top, std::string_view key, std::string_view noun, Read&& read) {
  const YamlNode* node = top.find(key);
  if (!node || node->kind == YamlNode::Kind::kNull) return;
  if (node->kind != YamlNode::Kind::kMap) {
    top.state().fail_at(node->line, fmt::format("{} must be a map of names", key));
    return;
  }
  for (size_t i = 0; i < node->keys.size() && i < node->items.size(); ++i) {
    check_name(top.state(), node->keys[i], node->key_lines[i], noun);
    read(node->keys[i], node->items[i]);
    if (top.state().error) return;
  }
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

// Every name that refers to something must be there.
void check_references(ReadState& state, const Config& config) {
  auto check = [&](int line, const std::string& where, auto found) {
    if (found) return;
    state.fail_at(line, where + ": " + found.error().what, found.error().why, found.error().next);
  };
  for (const VaultConfig& vault : config.vaults)
    if (!vault.copy_of.empty())
      check(vault.line, fmt::format("vault \"{}\"", vault.name), config.vault(vault.copy_of));
  for (const PlanConfig& plan : config.plans) {
    std::string where = fmt::format("plan \"{}\"", plan.name);
    if (plan.resources.empty())
      state.fail_at(plan.line, where + " has no resources", {}, "add resources: [NAME]");
    if (plan.vault.empty()) state.fail_at(plan.line, where + " has no vault", {}, "add vault: NAME");
    for (const std::string& resource : plan.resources) check(plan.line, where, config.resource(resource));
    check(plan.line, where, config.vault(plan.vault));
    for (const CopyConfig& copy : plan.copies) check(plan.line, where, config.vault(copy.to));
    if (plan.drill && !plan.drill->vault.empty() && plan.drill->vault != "alternate")
      check(plan.line, where, config.vault(plan.drill->vault));
  }
}

std::vector<NotifyConfig> read_notify(MapReader& top) {
  std::vector<NotifyConfig> out;
  const YamlNode* list = top.find("notify");
  if (!list || list->kind == YamlNode::Kind::kNull) return out;
  if (list->kind != YamlNode::Kind::kList) {
    top.state().fail_at(list->line, "notify must be a list", {},
                        "write - { to: \"slack:https://…\", when: [failure] }");
    return out;
  }
  for (const YamlNode& item : list->items) {
    MapReader map(top.state(), item, "an entry of notify");
    NotifyConfig one;
    one.to = map.setting("to");
    one.when = map.words("when");
    map.done();
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace

std::string medium_of(const VaultConfig& vault) {
  if (!vault.medium.empty()) return vault.medium;
  if (vault.at.starts_with("s3:")) return "object store";
  return vault.at.starts_with("rclone:") ? "remote" : "disk";
}

Result<const VaultConfig*> Config::vault(std::string_view name) const {
  if (const VaultConfig* found = find_named(vaults, name)) return found;
  return no_such(vaults, "vault", name);
}
Result<const ResourceConfig*> Config::resource(std::string_view name) const {
  if (const ResourceConfig* found = find_named(resources, name)) return found;
  return no_such(resources, "resource", name);
}
Result<const PlanConfig*> Config::plan(std::string_view name) const {
  if (const PlanConfig* found = find_named(plans, name)) return found;
  return no_such(plans, "plan", name);
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
  read_named(top, "vaults", "vault", [&](const std::string& name, const YamlNode& node) {
    config.vaults.push_back(read_vault(state, name, node));
  });
  read_named(top, "resources", "resource", [&](const std::string& name, const YamlNode& node) {
    config.resources.push_back(read_resource(state, name, node));
  });
  read_named(top, "plans", "plan", [&](const std::string& name, const YamlNode& node) {
    config.plans.push_back(read_plan(state, name, node));
  });
  config.notify = read_notify(top);
  config.daemon = read_job_limits(top);
  config.remarks = lock_remarks(config);
  top.done();
  if (!state.error) check_references(state, config);
  if (state.error) return std::move(*state.error);
  return config;
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
