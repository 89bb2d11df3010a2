#include "cli/planning.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/bytes.h"
#include "base/text.h"
#include "base/time_text.h"
#include "cli/linting.h"
#include "cli/times.h"
#include "cli/vault_access.h"
#include "crypto/digest.h"
#include "engine/applied.h"
#include "engine/maintenance.h"
#include "engine/probe_vault.h"
#include "os/file.h"
#include "policy/yaml_tree.h"

namespace kuramori {
namespace {

constexpr size_t kSavedPlanBytesMax = size_t{16} << 20;

std::string digest_of(std::string_view text) {
  return sha256(as_bytes(text)).hex();
}

// True only when the place answered and nothing stands there. Nothing is made.
bool is_missing(const VaultChoice& choice) {
  const TwoLocations places = split_location(choice.location);
  auto store = open_store(places.objects, choice.store_keys.get());
  if (!store) return store.error().kind == ErrorKind::kNotFound;
  const auto taken = is_taken(**store);
  return taken && !*taken;
}

PlannedVault look_at(Context& context, const Config& config, const VaultConfig& vault) {
  PlannedVault out{.look = {.vault = vault.name}, .id = {}, .applied = {}};
  const auto trouble = [&](Error error) {
    out.look.state = VaultLook::State::kUnknown;
    out.look.trouble = std::move(error);
  };
  auto choice = context.choose_vault(vault.name);
  if (!choice) return trouble(std::move(choice).error()), out;
  auto looked = [&]() -> Result<void> {
    TRY_ASSIGN(const std::unique_ptr<Vault> opened, open_chosen(context, *choice));
    out.id = opened->info().id.hex();
    TRY_ASSIGN(out.applied, last_applied(*opened, config.name));
    TRY_ASSIGN(PruneFacts facts, prune_facts(*opened, {}));
    out.look.held = std::move(facts.questions);
    return {};
  }();
  if (looked) return out;
  if (out.id.empty() && is_missing(*choice))
    out.look.state = VaultLook::State::kMissing;
  else
    trouble(std::move(looked).error());
  return out;
}

// What was applied last, as a configuration again.
void read_before(Context& context, Planned& planned) {
  if (!planned.applied) return;
  auto before = parse_config(planned.applied->text, planned.config->path, context.world());
  if (before)
    planned.before = std::move(*before);
  else
    planned.before_trouble = before.error().what;
}

void state_basis(Planned& planned) {
  planned.basis.push_back("configuration " + digest_of(planned.text));
  for (const PlannedVault& vault : planned.vaults) {
    const std::string& name = vault.look.vault;
    const bool there = vault.look.state == VaultLook::State::kThere;
    const std::string state = there                                            ? "is " + vault.id
                              : vault.look.state == VaultLook::State::kMissing ? "is to be made"
                                                                               : "did not answer";
    planned.basis.push_back(fmt::format("vault {} {}", name, state));
    if (vault.applied)
      planned.basis.push_back(fmt::format("vault {} has number {} {}", name, vault.applied->number,
                                          digest_of(vault.applied->text)));
  }
  for (const Going& going : planned.plan.going)
    if (going.by_change)
      planned.basis.push_back(
          fmt::format("snapshot {} of {} in {} goes", going.line.id.hex(), going.resource, going.vault));
}

std::string_view name_of(VaultLook::State state) {
  switch (state) {
    case VaultLook::State::kThere:
      return "there";
    case VaultLook::State::kMissing:
      return "missing";
    case VaultLook::State::kUnknown:
      return "unknown";
  }
  return "unknown";
}

void write_words(JsonWriter& json, std::string_view name, const std::vector<std::string>& words) {
  json.key(name).begin_array();
  for (const std::string& word : words) json.value(word);
  json.end_array();
}

}  // namespace

bool Planned::anything_to_do() const {
  return !changes.empty() || !behind.empty() || std::ranges::any_of(vaults, [](const PlannedVault& vault) {
    return vault.look.state == VaultLook::State::kMissing;
  });
}

bool Planned::is_partial() const {
  return std::ranges::any_of(
      vaults, [](const PlannedVault& vault) { return vault.look.state == VaultLook::State::kUnknown; });
}

Result<Planned> make_plan(Context& context) {
  Planned planned;
  TRY_ASSIGN(planned.config, context.config());
  const Config& config = *planned.config;
  TRY_ASSIGN(planned.text, canonical_text_of(config.path));
  std::vector<VaultLook> looks;
  for (const VaultConfig& vault : config.vaults) {
    planned.vaults.push_back(look_at(context, config, vault));
    PlannedVault& looked = planned.vaults.back();
    looks.push_back(looked.look);
    looked.look.held.clear();  // of many snapshots one copy is enough
    if (looked.applied && (!planned.applied || looked.applied->number > planned.applied->number))
      planned.applied = looked.applied;
  }
  for (const PlannedVault& vault : planned.vaults)
    if (vault.look.state == VaultLook::State::kThere && vault.applied != planned.applied)
      planned.behind.push_back(vault.look.vault);
  if (!planned.applied)  // nowhere: then all of them are
    for (const PlannedVault& vault : planned.vaults)
      if (vault.look.state == VaultLook::State::kThere) planned.behind.push_back(vault.look.vault);
  read_before(context, planned);
  TRY_ASSIGN(const auto lines, lines_of_config(planned.text));
  std::vector<ConfigLine> lines_before;
  if (planned.applied) {
    TRY_ASSIGN(lines_before, lines_of_config(planned.applied->text));
  }
  planned.changes = changes_between(lines_before, lines);
  planned.plan =
      judge_change(planned.before ? &*planned.before : nullptr, config, looks, context.clock().now());
  planned.lint = lint_here(context, config);
  state_basis(planned);
  return planned;
}

Result<std::vector<ConfigChange>> changes_against(Context& context, const std::string& other) {
  TRY_ASSIGN(const Config* config, context.config());
  TRY_ASSIGN(const Config against, load_config(other, context.world()));
  TRY_ASSIGN(const std::string text, canonical_text_of(config->path));
  TRY_ASSIGN(const std::string text_there, canonical_text_of(against.path));
  TRY_ASSIGN(const auto lines, lines_of_config(text));
  TRY_ASSIGN(const auto lines_there, lines_of_config(text_there));
  return changes_between(lines_there, lines);
}

Result<void> must_still_hold(const std::string& path, const Planned& planned) {
  TRY_ASSIGN(const Bytes bytes, read_file(path, kSavedPlanBytesMax));
  TRY_ASSIGN(const YamlNode saved,
             parse_yaml({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path));
  const auto member = [&](std::string_view key) -> const YamlNode* {
    const auto at = std::ranges::find(saved.keys, key);
    return at == saved.keys.end() ? nullptr : &saved.items[static_cast<size_t>(at - saved.keys.begin())];
  };
  const YamlNode* schema = member("schema");
  const YamlNode* basis = member("basis");
  if (schema == nullptr || schema->text != "kuramori/plan/1" || basis == nullptr)
    return fail(ErrorKind::kUsage, fmt::format("{} is no saved plan", path), "",
                "make one: kuramori plan --out FILE");
  std::set<std::string> then, now(planned.basis.begin(), planned.basis.end());
  for (const YamlNode& line : basis->items) then.insert(line.text);
  if (then == now) return {};
  std::string moved;
  for (const std::string& line : planned.basis)
    if (!then.contains(line)) moved += fmt::format("{}now: {}", moved.empty() ? "" : "; ", line);
  for (const std::string& line : then)
    if (!now.contains(line)) moved += fmt::format("{}then: {}", moved.empty() ? "" : "; ", line);
  return fail(ErrorKind::kRefused, fmt::format("the world moved since {} was made", path), moved,
              fmt::format("look again: kuramori plan --out {}", path));
}

std::string shown_applied(const AppliedRecord& applied) {
  return fmt::format("number {}, {} by {}@{}", applied.number, format_moment(from_unix_ns(applied.at_ns)),
                     applied.user, applied.host);
}

void write_changes(JsonWriter& json, const std::vector<ConfigChange>& changes) {
  json.key("changes").begin_array();
  for (const ConfigChange& change : changes) {
    json.begin_object().field("key", change.key).key("before");
    change.before ? json.value(*change.before) : json.null();
    json.key("after");
    change.after ? json.value(*change.after) : json.null();
    json.end_object();
  }
  json.end_array();
}

std::string shown_changes(const std::vector<ConfigChange>& changes) {
  std::string out;
  for (const ConfigChange& change : changes) {
    if (!change.before)
      out += fmt::format("  + {}: {}\n", change.key, *change.after);
    else if (!change.after)
      out += fmt::format("  - {}: {}\n", change.key, *change.before);
    else
      out += fmt::format("  ~ {}: {} -> {}\n", change.key, *change.before, *change.after);
  }
  return out;
}

void write_plan(JsonWriter& json, const Planned& planned) {
  const Config& config = *planned.config;
  json.begin_object().field("schema", "kuramori/plan/1").key("configuration").begin_object();
  json.field("file", config.path).field("name", config.name).field("digest", digest_of(planned.text));
  json.end_object().key("applied");
  if (planned.applied)
    json.begin_object()
        .field("number", planned.applied->number)
        .field("time", format_utc(from_unix_ns(planned.applied->at_ns)))
        .field("user", planned.applied->user)
        .field("host", planned.applied->host)
        .end_object();
  else
    json.null();
  json.field("anything_to_do", planned.anything_to_do()).field("loses", planned.plan.loses());
  write_changes(json, planned.changes);
  json.key("vaults").begin_array();
  for (const PlannedVault& vault : planned.vaults) {
    json.begin_object().field("vault", vault.look.vault).field("state", name_of(vault.look.state));
    json.field("trouble", vault.look.trouble.what).key("applied");
    vault.applied ? json.value(vault.applied->number) : json.null();
    json.end_object();
  }
  json.end_array().key("targets").begin_array();
  for (const PlanTarget& target : planned.plan.targets) {
    json.begin_object().field("resource", target.resource).field("kind", target.kind);
    json.field("criticality", target.criticality).field("stage", target.stage);
    write_words(json, "plans", target.plans);
    write_words(json, "vaults", target.vaults);
    json.end_object();
  }
  json.end_array().key("consequences").begin_array();
  for (const Consequence& one : planned.plan.consequences)
    json.begin_object()
        .field("id", one.id)
        .field("about", one.about)
        .field("what", one.what)
        .field("loses", one.loses)
        .end_object();
  json.end_array().key("going").begin_array();
  for (const Going& going : planned.plan.going)
    json.begin_object()
        .field("vault", going.vault)
        .field("resource", going.resource)
        .field("id", going.line.id.hex())
        .field("time", format_utc(going.line.time))
        .field("reason", going.line.reason)
        .field("by_change", going.by_change)
        .end_object();
  json.end_array().key("next").begin_array();
  for (const NextRun& run : planned.plan.next) {
    json.begin_object().field("plan", run.plan).field("what", run.what);
    write_time(json, "time", run.at);
    json.field("zone", run.zone).field("local", run.at ? format_local(*run.at, run.zone) : "");
    json.field("instead", run.instead).end_object();
  }
  json.end_array();
  write_findings(json, config, planned.lint);
  write_words(json, "basis", planned.basis);
  json.end_object();
}

std::string shown_plan(const Planned& planned) {
  std::string out;
  if (!planned.applied)
    out += "nothing was applied yet: all of it is new\n";
  else if (planned.changes.empty())
    out += fmt::format("as it was applied ({}): 0 changes\n", shown_applied(*planned.applied));
  else
    out += fmt::format("{} change{} since what was applied ({})\n", planned.changes.size(),
                       planned.changes.size() == 1 ? "" : "s", shown_applied(*planned.applied));
  // Of what is all new the file itself is the better reading.
  if (planned.applied) out += shown_changes(planned.changes);
  if (!planned.before_trouble.empty())
    out += fmt::format("  what was applied cannot be read any more ({}): what it promised is not compared\n",
                       planned.before_trouble);
  for (const std::string& vault : planned.behind)
    if (planned.applied) out += fmt::format("  vault \"{}\" has not what was applied last\n", vault);

  Table targets({{"protected"}, {"kind"}, {"criticality"}, {"plans"}, {"kept in"}});
  for (const PlanTarget& target : planned.plan.targets)
    targets.add({target.resource, target.kind, target.criticality,
                 target.plans.empty() ? "none" : joined(target.plans), joined(target.vaults)});
  out += fmt::format("\n{} target{}\n{}", planned.plan.targets.size(),
                     planned.plan.targets.size() == 1 ? "" : "s", targets.empty() ? "" : targets.text());

  if (!planned.plan.consequences.empty()) out += "\nwhat follows\n";
  for (const Consequence& one : planned.plan.consequences)
    out += fmt::format("  {}{}: {}\n", one.loses ? "! " : "  ", one.about, one.what);
  for (const Going& going : planned.plan.going)
    out +=
        fmt::format("    {} {} of {} in {}, made {}: {}\n", going.by_change ? "!" : "-", going.line.id.hex(),
                    going.resource, going.vault, format_local(going.line.time), going.line.reason);

  Table next({{"plan"}, {""}, {"next, in its zone and in UTC"}});
  for (const NextRun& run : planned.plan.next)
    next.add({run.plan, run.what, run.at ? format_moment(*run.at, run.zone) : run.instead});
  if (!next.empty()) out += "\n" + next.text();
  const std::string findings = shown_findings(*planned.config, planned.lint);
  if (!findings.empty()) out += "\n" + findings;
  return out;
}

}  // namespace kuramori
