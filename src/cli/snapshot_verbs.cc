#include <fmt/core.h>

#include <algorithm>
#include <unordered_map>

#include "base/text.h"
#include "base/time_text.h"
#include "base/units.h"
#include "cli/approving.h"
#include "cli/lock_keeping.h"
#include "cli/tags.h"
#include "cli/times.h"
#include "cli/verbs.h"
#include "engine/maintenance.h"

namespace kuramori {
namespace {

std::vector<std::string> hold_names(const Snapshot& snapshot) {
  std::vector<std::string> names;
  for (const HoldRecord& hold : snapshot.holds) names.push_back(hold.name);
  return names;
}

using ResourceNames = std::unordered_map<ResourceId, std::string>;

ResourceNames names_of(const std::vector<ResourceRecord>& resources) {
  ResourceNames names;
  for (const ResourceRecord& resource : resources) names.try_emplace(resource.id, resource.name);
  return names;
}

void write_proof(JsonWriter& json, const std::optional<ProofRecord>& proof) {
  json.key("proof");
  if (!proof) {
    json.null();
    return;
  }
  json.begin_object()
      .field("time", format_utc(from_unix_ns(proof->started_ns)))
      .field("passed", proof->passed);
  json.field("vault", proof->vault).field("target", proof->target);
  json.field("seconds_to_open", proof->seconds_to_open).field("seconds_total", proof->seconds_total);
  json.key("checks").begin_array();
  for (const ProofCheck& check : proof->checks)
    json.begin_object()
        .field("name", check.name)
        .field("verdict", check.verdict)
        .field("detail", check.detail)
        .end_object();
  json.end_array().end_object();
}

// The fields of kuramori/snapshots/1; the object stays open for more.
void write_snapshot(JsonWriter& json, const Snapshot& snapshot, const std::string& resource,
                    const std::string& vault) {
  json.begin_object()
      .field("id", snapshot.commit.snapshot.hex())
      .field("resource", resource)
      .field("vault", vault);
  json.field("time", format_utc(from_unix_ns(snapshot.commit.started_ns)));
  json.field("size_bytes", snapshot.commit.size_bytes).field("added_bytes", snapshot.commit.added_bytes);
  json.field("keep_until", format_utc(from_unix_ns(snapshot.keep_until_ns)));
  json.key("holds").begin_array();
  for (const std::string& name : hold_names(snapshot)) json.value(name);
  json.end_array();
  write_proof(json, snapshot.proof);
  json.field("label", snapshot.commit.label);
  json.key("tags").begin_object();
  for (const auto& [key, value] : snapshot.commit.tags) json.field(key, value);
  json.end_object();
}

std::string shown_proof(const std::optional<ProofRecord>& proof) {
  if (!proof) return "never";
  return (proof->passed ? "" : "FAILED ") + shown_time(from_unix_ns(proof->started_ns));
}

Result<int> say_done(Context& context, std::string_view action, const Snapshot& snapshot,
                     const std::string& text) {
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/done/1").field("action", action);
    json.field("object", snapshot.commit.snapshot.hex()).end_object();
    context.console().print_document(json);
  } else {
    context.console().print(text + "\n");
  }
  return 0;
}

// What a prune would let go beyond its budget is another person's to agree to as well.
Result<void> approved_beyond_budget(Context& context, const VaultChoice& choice, Vault& vault,
                                    const Promises& promises) {
  TRY_ASSIGN(const bool wanted, wants_approval(context, "prune"));
  if (!wanted) return {};
  TRY_ASSIGN(const PruneOutcome would, prune_vault(vault, promises, Pruner::Mode::kDryRun, Budgets::kKept));
  PlannedAct planned{.act = "prune"};
  for (const PruneOutcome::Resource& resource : would.resources) {
    if (!resource.refused) continue;
    for (const PruneLine& line : resource.lines)
      if (line.drop)
        planned.lines.push_back(
            fmt::format("let go {} of {}, of {}", line.id.hex(), resource.name, format_utc(line.time)));
  }
  if (planned.lines.empty()) return {};  // it is within the budgets
  return must_be_approved(context, choice, vault, planned);
}

}  // namespace

Result<int> run_snapshots(Context& context) {
  Console& console = context.console();
  std::string wanted = context.line().argument(0);
  TRY_ASSIGN(const auto tags, parse_tag_choices(context.line().values("tag")));
  const auto has_tags = [&](const CommitRecord& commit) {
    return std::ranges::all_of(tags, [&](const auto& tag) {
      auto found = commit.tags.find(tag.first);
      return found != commit.tags.end() && tag.second.contains(found->second);
    });
  };
  TRY_ASSIGN(std::vector<VaultChoice> choices, context.choose_vaults());
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/snapshots/1").key("snapshots").begin_array();
  Table table({{"id"},
               {"resource"},
               {"vault"},
               {"time"},
               {"size", Table::Align::kRight},
               {"added", Table::Align::kRight},
               {"kept until"},
               {"holds"},
               {"proven"},
               {"label"}});
  bool known = wanted.empty();
  size_t unverifiable = 0;
  for (const VaultChoice& choice : choices) {
    TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
    TRY_ASSIGN(SnapshotList list, list_snapshots(*vault, std::nullopt, Detail::kSummary));
    for (const ResourceRecord& resource : list.resources) known |= resource.name == wanted;
    ResourceNames names = names_of(list.resources);
    for (const Snapshot& s : list.snapshots) {
      const std::string& resource =
          names.try_emplace(s.commit.resource, s.commit.resource.hex()).first->second;
      if (!wanted.empty() && resource != wanted) continue;
      if (!has_tags(s.commit)) continue;
      // One of the two: of a hundred thousand each takes its time and memory.
      if (console.json()) {
        write_snapshot(json, s, resource, choice.shown());
        json.end_object();
        continue;
      }
      table.add({s.commit.snapshot.hex(), resource, choice.shown(),
                 shown_time(from_unix_ns(s.commit.started_ns)), format_size(s.commit.size_bytes),
                 format_size(s.commit.added_bytes), shown_time(from_unix_ns(s.keep_until_ns)),
                 joined(hold_names(s)), shown_proof(s.proof), s.commit.label});
    }
    for (const Unverifiable& bad : list.unverifiable)
      console.warning(
          fmt::format("{} in {} cannot be verified: {}", bad.name, choice.shown(), bad.error.what));
    for (const Unverifiable& bad : list.unreadable)
      console.warning(fmt::format("{} in {} cannot be read: {}", bad.name, choice.shown(), bad.error.what));
    unverifiable += list.unverifiable.size() + list.unreadable.size();
  }
  json.end_array().end_object();
  if (!known)
    return fail(ErrorKind::kUsage, fmt::format("no vault knows a resource \"{}\"", wanted), "",
                "kuramori snapshots lists all there are");
  if (console.json())
    console.print_document(json);
  else if (table.empty())
    console.note("there are no snapshots");
  else
    console.print(table.text());
  return unverifiable == 0 ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

Result<int> run_show(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const FoundSnapshot found, find_typed_snapshot(*vault, context.line().argument(0)));
  const auto& [snapshot, resource] = found;
  const CommitRecord& commit = snapshot.commit;
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/snapshot/1").key("snapshot");
    write_snapshot(json, snapshot, resource, choice.shown());
    json.field("commit", snapshot.commit_name).field("kind", commit.kind).field("plan", commit.plan);
    json.field("finished", format_utc(from_unix_ns(commit.finished_ns)));
    json.key("facts").begin_object();
    for (const auto& [key, value] : commit.facts) json.field(key, value);
    json.end_object().key("parents").begin_array();
    for (const std::string& parent : commit.parents) json.value(parent);
    json.end_array().key("defects").begin_array();
    for (const std::string& defect : commit.defects) json.value(defect);
    json.end_array().end_object().end_object();
    context.console().print_document(json);
    return 0;
  }
  std::string out;
  auto line = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) out += fmt::format("{:<12} {}\n", name, value);
  };
  line("id", commit.snapshot.hex());
  line("resource", fmt::format("{} ({})", resource, commit.kind));
  line("vault", choice.shown());
  line("began", format_moment(from_unix_ns(commit.started_ns)));
  line("finished", format_moment(from_unix_ns(commit.finished_ns)));
  line("size", format_size(commit.size_bytes));
  line("added", format_size(commit.added_bytes));
  line("kept until", format_moment(from_unix_ns(snapshot.keep_until_ns)));
  line("holds", joined(hold_names(snapshot)));
  line("proven", shown_proof(snapshot.proof));
  line("plan", commit.plan);
  line("label", commit.label);
  for (const auto& [key, value] : commit.tags) line("tag", key + "=" + value);
  line("built on", joined(commit.parents));
  for (const auto& [key, value] : commit.facts) line("fact", key + " = " + value);
  for (const std::string& defect : commit.defects) line("DEFECT", defect);
  context.console().print(out);
  return 0;
}

Result<int> run_prune(Context& context) {
  Console& console = context.console();
  Pruner::Mode mode = context.line().has("dry-run") ? Pruner::Mode::kDryRun : Pruner::Mode::kPrune;
  const Budgets budgets = context.line().has("yes") ? Budgets::kOverridden : Budgets::kKept;
  TRY_ASSIGN(const Config* config, context.config_if_any());
  TRY_ASSIGN(std::vector<VaultChoice> choices, context.choose_vaults());
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/prune/1").field("dry_run", mode == Pruner::Mode::kDryRun);
  json.key("vaults").begin_array();
  int status = 0;
  for (const VaultChoice& choice : choices) {
    const Promises promises = config ? promises_in(*config, choice.name, context.clock().now()) : Promises{};
    TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
    if (choices.size() == 1 && is_skipped(context, *vault, Act::kPrune, choice.shown())) return 0;
    if (mode == Pruner::Mode::kPrune && budgets == Budgets::kOverridden)
      TRY(approved_beyond_budget(context, choice, *vault, promises));
    TRY_ASSIGN(PruneOutcome outcome, prune_vault(*vault, promises, mode, budgets));
    if (mode == Pruner::Mode::kPrune) {
      for (const Snapshot& reviewed : outcome.reviewed)
        TRY(follow_hold(context, *vault, reviewed, label_hold(reviewed.commit.label), /*on=*/false));
      TRY_ASSIGN(const int locked, keep_locked(context, choice, *vault));
      status = std::max(status, locked);
    }
    json.begin_object().field("vault", choice.shown()).key("snapshots").begin_array();
    Table table({{""}, {"id"}, {"resource"}, {"time"}, {"why"}});
    size_t dropped = 0;
    for (const PruneOutcome::Resource& resource : outcome.resources) {
      for (const PruneLine& line : resource.lines) {
        dropped += line.drop && !resource.refused;
        json.begin_object()
            .field("id", line.id.hex())
            .field("resource", resource.name)
            .field("time", format_utc(line.time));
        json.field("keep_until", format_utc(line.keep_until))
            .field("drop", line.drop)
            .field("reason", line.reason)
            .end_object();
        table.add(
            {line.drop ? "drop" : "keep", line.id.hex(), resource.name, shown_time(line.time), line.reason});
      }
    }
    json.end_array().field("pruned", outcome.report.pruned.size()).key("kept_after_all").begin_array();
    for (const KeptSnapshot& kept : outcome.report.kept)
      json.begin_object().field("commit", kept.commit).field("reason", kept.reason).end_object();
    json.end_array().key("refused").begin_array();
    for (const PruneOutcome::Resource& resource : outcome.resources) {
      if (!resource.refused) continue;
      status = exit_code(ErrorKind::kRefused);
      const Error& error = *resource.refused;
      json.begin_object().field("resource", resource.name).field("what", error.what);
      json.field("why", error.why).field("next", error.next).end_object();
    }
    json.end_array().end_object();
    if (console.json()) continue;
    if (!table.empty()) console.print(table.text());
    for (const PruneOutcome::Resource& resource : outcome.resources) {
      if (!resource.refused) continue;
      const Error& error = *resource.refused;
      console.warning(fmt::format("{}: {}; {}", error.what, error.why, error.next));
    }
    for (const KeptSnapshot& kept : outcome.report.kept)
      console.note(fmt::format("{} stays after all: {}", kept.commit, kept.reason));
    console.note(mode == Pruner::Mode::kDryRun
                     ? fmt::format("{}: {} would be pruned; nothing was changed", choice.shown(), dropped)
                     : fmt::format("{}: {} pruned; space returns with kuramori vault collect {}",
                                   choice.shown(), outcome.report.pruned.size(), choice.shown()));
  }
  json.end_array().end_object();
  if (console.json()) console.print_document(json);
  return status;
}

Result<int> run_hold_add(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const FoundSnapshot found, find_typed_snapshot(*vault, context.line().argument(0)));
  const Snapshot& snapshot = found.snapshot;
  std::string name = context.line().value("name");
  TRY(add_hold(*vault, snapshot, name, "by hand"));
  TRY(follow_hold(context, *vault, snapshot, name, /*on=*/true));
  return say_done(context, "hold add", snapshot,
                  fmt::format("snapshot {} is held by {}", snapshot.commit.snapshot.hex(), name));
}

Result<int> run_hold_remove(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const FoundSnapshot found, find_typed_snapshot(*vault, context.line().argument(0)));
  const Snapshot& snapshot = found.snapshot;
  std::string name = context.line().value("name");
  if (std::ranges::count(snapshot.holds, name, &HoldRecord::name) != 0)
    TRY(must_be_approved(context, choice, *vault, taking_hold_off(found, name)));
  TRY(remove_hold(*vault, snapshot, name));
  TRY(follow_hold(context, *vault, snapshot, name, /*on=*/false));
  return say_done(context, "hold remove", snapshot,
                  fmt::format("snapshot {} is no longer held by {}", snapshot.commit.snapshot.hex(), name));
}

Result<int> run_extend(Context& context) {
  TRY_ASSIGN(Period keep, parse_period(context.line().value("keep")));
  TRY_ASSIGN(VaultChoice choice, context.choose_vault());
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY_ASSIGN(const FoundSnapshot found, find_typed_snapshot(*vault, context.line().argument(0)));
  const Snapshot& snapshot = found.snapshot;
  Time until = later(context.clock().now(), keep);
  TRY(extend_snapshot(*vault, snapshot, until));
  return say_done(
      context, "extend", snapshot,
      fmt::format("snapshot {} is kept until {}", snapshot.commit.snapshot.hex(), format_moment(until)));
}

}  // namespace kuramori
