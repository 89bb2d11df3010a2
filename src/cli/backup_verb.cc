#include <fmt/core.h>

#include <functional>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/auditing.h"
#include "cli/copying.h"
#include "cli/limiting.h"
#include "cli/lock_keeping.h"
#include "cli/tags.h"
#include "cli/tree_verbs.h"
#include "cli/verbs.h"
#include "conc/wait_out.h"
#include "engine/backup.h"
#include "engine/local_state.h"
#include "engine/locks.h"
#include "engine/settling.h"

namespace kuramori {
namespace {

constexpr int kSettleLongest = 5;  // a tree that never rests is captured after so many times `--settle`
constexpr Duration kRetryFirst = std::chrono::seconds(5), kRetryMost = std::chrono::minutes(5);

// The plan that --plan names, or the only one of the resource; null if it has none.
Result<const PlanConfig*> choose_plan(const Context& context, const Config& config,
                                      const std::string& resource) {
  std::vector<const PlanConfig*> plans = config.plans_of(resource);
  std::string wanted = context.line().value("plan");
  if (!wanted.empty()) {
    TRY_ASSIGN(const PlanConfig* plan, config.plan(wanted));
    if (std::ranges::find(plans, plan) != plans.end()) return plan;
    return fail(ErrorKind::kUsage, fmt::format("plan \"{}\" does not cover \"{}\"", wanted, resource), "",
                fmt::format("add it to the plan's resources: [{}]", resource));
  }
  if (plans.size() > 1)
    return fail(ErrorKind::kUsage, fmt::format("{} plans cover \"{}\"", plans.size(), resource), "",
                "choose one with --plan NAME");
  return plans.empty() ? nullptr : plans.front();
}

postgres::CountsOptions counts_of(const PlanConfig* plan) {
  postgres::CountsOptions counts;
  if (!plan || !plan->drill) return counts;
  const DrillConfig& drill = *plan->drill;
  counts.tables = drill.tables;
  counts.budget = drill.budget;
  switch (drill.counts) {
    case DrillConfig::Counts::kAll:
      counts.mode = postgres::CountsMode::kAll;
      break;
    case DrillConfig::Counts::kTables:
      counts.mode = postgres::CountsMode::kTables;
      break;
    case DrillConfig::Counts::kBudget:
      counts.mode = postgres::CountsMode::kBudget;
      break;
    case DrillConfig::Counts::kOff:
      counts.mode = postgres::CountsMode::kOff;
      break;
  }
  return counts;
}

// One of the plan's `copies:` after the snapshot.
struct MadeCopy {
  std::string to;
  Result<CopyOutcome> outcome;
  bool whole() const { return outcome && is_whole(*outcome); }
};

// The snapshot, and all that an earlier run could not bring there, into every vault of the plan's `copies:`.
// What reads is the vault: the server is read once. A vault that is not there waits until the next run, and
// must not keep the others from theirs.
std::vector<MadeCopy> make_copies(Context& context, Vault& source, const VaultChoice& from,
                                  const PlanConfig& plan, const std::string& resource) {
  std::vector<MadeCopy> made;
  for (const CopyConfig& copy : plan.copies) {
    if (copy.to == from.name) continue;
    auto copied = [&]() -> Result<CopyOutcome> {
      if (context.stop().stop_requested()) {
        return fail(ErrorKind::kInterrupted, fmt::format("the copy to {} was not begun", copy.to),
                    "the run was interrupted", fmt::format("kuramori copy {} --to {}", resource, copy.to));
      }
      TRY_ASSIGN(const VaultChoice to, context.choose_vault(copy.to));
      return copy_into(context, source, to, resource, CopyRequest::Mode::kCopy);
    }();
    if (!copied) {
      const Error& error = copied.error();
      context.console().warning(fmt::format("not copied to {}: {}{}{}; the next run catches up", copy.to,
                                            error.what, error.why.empty() ? "" : ": ", error.why));
    }
    made.push_back({copy.to, std::move(copied)});
  }
  return made;
}

void write_copies(JsonWriter& json, const std::vector<MadeCopy>& copies, Time now) {
  json.key("copies").begin_array();
  for (const MadeCopy& copy : copies) {
    json.begin_object().field("to", copy.to).field("whole", copy.whole());
    if (copy.outcome) {
      write_copy(json, *copy.outcome, now);
    } else {
      const Error& error = copy.outcome.error();
      json.key("error").begin_object().field("kind", name_of(error.kind)).field("what", error.what);
      json.field("why", error.why).field("next", error.next).end_object();
    }
    json.end_object();
  }
  json.end_array();
}

void write_backup(JsonWriter& json, const BackupRequest& request, const std::string& vault,
                  const BackupOutcome& outcome, const Limits& limits) {
  const CommitRecord& commit = outcome.commit;
  json.field("id", commit.snapshot.hex()).field("resource", request.resource).field("vault", vault);
  json.field("time", format_utc(from_unix_ns(commit.started_ns))).field("size_bytes", commit.size_bytes);
  json.field("added_bytes", commit.added_bytes)
      .field("keep_until", format_utc(from_unix_ns(commit.keep_until_ns)));
  json.field("keep_reason", outcome.keep_reason)
      .field("base", outcome.base)
      .field("why_full", outcome.why_full);
  json.field("over_replication", outcome.over_replication).field("sent", outcome.sent);
  json.field("changes", outcome.changes).field("changes_contradicted", outcome.changes_contradicted);
  json.field("pages_sampled", outcome.pages_sampled).field("bytes_read", outcome.bytes_read);
  json.field("relation_bytes_read", outcome.relation_bytes_read).field("pages_stored", outcome.pages_stored);
  json.field("pages_unchanged", outcome.pages_unchanged);
  json.field("wal_segments_added", outcome.wal_segments_added).field("seconds", outcome.seconds);
  json.key("broken_pages").begin_array();
  for (const postgres::BrokenPage& page : outcome.broken_pages)
    json.begin_object().field("path", page.path).field("page", page.page).field("why", page.why).end_object();
  json.end_array().key("held").begin_array();
  for (const std::string& held : outcome.held) json.value(held);
  json.end_array();
  write_limits(json, limits, ReadUse{outcome.bytes_read, outcome.read_waited});
}

void print_document(Context& context, const std::function<void(JsonWriter&)>& write_snapshot,
                    const std::vector<MadeCopy>* copies) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/backup/1").key("snapshot").begin_object();
  write_snapshot(json);
  json.end_object();
  if (copies) write_copies(json, *copies, context.clock().now());
  json.end_object();
  context.console().print_document(json);
}

void print_outcome(Context& context, const BackupRequest& request, const std::string& vault,
                   const BackupOutcome& outcome, const Limits& limits) {
  const CommitRecord& commit = outcome.commit;
  std::string out = fmt::format("snapshot {} of {} in {}\n", commit.snapshot.hex(), request.resource, vault);
  out += fmt::format("  {}, added {}, read {} in {}\n", format_size(commit.size_bytes),
                     format_size(commit.added_bytes), format_size(outcome.bytes_read),
                     format_duration(Duration(static_cast<int64_t>(outcome.seconds * 1e9))));
  if (!outcome.base.empty())
    out += fmt::format("  built on {}: {} pages unchanged, by {}\n", outcome.base, outcome.pages_unchanged,
                       outcome.changes == "wal" ? "what the WAL says" : outcome.changes);
  else
    out += fmt::format("  a full one{}\n", outcome.why_full.empty() ? "" : ": " + outcome.why_full);
  if (!outcome.sent.empty()) out += fmt::format("  over the replication protocol, {}\n", outcome.sent);
  out += fmt::format("  kept until {} ({})\n", format_moment(from_unix_ns(commit.keep_until_ns)),
                     outcome.keep_reason);
  out += shown_limits(limits, ReadUse{outcome.bytes_read, outcome.read_waited});
  context.console().print(out);
  for (const postgres::BrokenPage& page : outcome.broken_pages)
    context.console().warning(
        fmt::format("page {} of {} is broken at the source: {}", page.page, page.path, page.why));
  for (const std::string& held : outcome.held)
    context.console().warning(fmt::format("snapshot {} is held because of it", held));
}

void print_copies(Context& context, const std::vector<MadeCopy>& copies) {
  for (const MadeCopy& copy : copies) {
    if (copy.outcome)
      context.console().print(
          fmt::format("  {}: {}\n", copy.to, shown_copy(*copy.outcome, context.clock().now())));
  }
}

// What a snapshot is taken of and how, as the configuration and the command line say.
struct Prepared {
  const ResourceConfig* resource = nullptr;
  const PlanConfig* plan = nullptr;  // null: none covers it
  BackupRequest request;
  Limits limits;
  VaultChoice choice;
  bool copies_wanted = false;
  bool is_tree() const { return resource->kind != ResourceKind::kPostgres; }
};

// The limits hold for the process from here on.
Result<Prepared> prepare(Context& context) {
  const Invocation& line = context.line();
  Prepared out;
  BackupRequest& request = out.request;
  request.resource = line.argument(0);
  TRY_ASSIGN(const Config* config, context.config());
  TRY_ASSIGN(out.resource, config->resource(request.resource));
  TRY(check_supported(*out.resource));
  TRY_ASSIGN(out.plan, choose_plan(context, *config, request.resource));
  const PlanConfig* plan = out.plan;
  if (!out.is_tree()) {
    TRY_ASSIGN(request.connect, out.resource->connect.fetch(context.world()));
  }
  if (plan) {
    request.plan = plan->name;
    request.rules = plan->keep;
    request.timezone = plan->timezone;
    if (plan->drill)
      for (const DrillCheck& check : plan->drill->sql)
        if (check.expect == "unchanged") request.unchanged_queries.push_back(check.query);
  }
  request.counts = counts_of(plan);
  request.label = line.value("label");
  TRY_ASSIGN(request.tags, parse_tags(line.values("tag")));
  if (line.has("keep")) {
    TRY_ASSIGN(request.keep, parse_period(line.value("keep")));
  }
  // Made by hand, with a name and without an end: it stays until somebody reviews it at the next of its name.
  // What `watch` makes is made by nobody.
  request.until_reviewed = line.operation->verb == "backup" && !request.label.empty() && !request.keep;
  request.full = line.has("full");
  if (const char* lease = std::getenv(kLeaseVariable)) request.lease = parse_lease_mark(lease);
  out.copies_wanted = line.has("copy");
  if (out.copies_wanted && (!plan || plan->copies.empty()))
    return fail(ErrorKind::kUsage, fmt::format("no plan says where copies of \"{}\" go", request.resource),
                "", "add copies: [ { to: VAULT } ] to its plan, or copy later: kuramori copy --to VAULT");
  request.way = capture_way(*out.resource);
  if (out.resource->processes) request.workers = static_cast<unsigned>(*out.resource->processes);
  TRY_ASSIGN(out.limits, limits_given(context, out.resource->limits));
  TRY(keep_to(out.limits, Reads::kSource));
  request.read_bytes_per_second = out.limits.read.value_or(0);
  TRY_ASSIGN(out.choice, context.choose_vault({}, request.resource));
  TRY_ASSIGN(request.lock, lock_of(out.choice.location));
  return out;
}

// The store's own hold follows the label's; and whoever makes the next of a label is reminded of those
// before.
void say_label(Context& context, Vault& vault, const SnapshotList& seen, const SnapshotId& made,
               const BackupRequest& request) {
  const std::string hold = label_hold(request.label);
  Console& console = context.console();
  for (const Snapshot& snapshot : seen.snapshots) {
    const bool is_held = std::ranges::count(snapshot.holds, hold, &HoldRecord::name) != 0;
    if (!is_held || snapshot.commit.label != request.label) continue;
    const std::string id = snapshot.commit.snapshot.hex();
    if (snapshot.commit.snapshot == made) {
      if (auto followed = follow_hold(context, vault, snapshot, hold, /*on=*/true); !followed)
        console.warning(fmt::format("{}: {}", followed.error().what, followed.error().why));
      if (!console.json())
        console.print(fmt::format("  and until it is reviewed at the next \"{}\"\n", request.label));
    } else {
      console.note(fmt::format(
          "snapshot {} of {} is \"{}\" too: it stays until {} is proven (kuramori drill {}), or reviewed: "
          "kuramori review {}",
          id, format_local(from_unix_ns(snapshot.commit.started_ns)), request.label, made.hex(),
          request.resource, id));
    }
  }
}

// One snapshot, its copies where they are wanted, and what people are told of it: the exit status.
Result<int> take_snapshot(Context& context, const Prepared& prepared) {
  const BackupRequest& request = prepared.request;
  const Limits& limits = prepared.limits;
  const VaultChoice& choice = prepared.choice;
  const bool is_tree = prepared.is_tree(), copies_wanted = prepared.copies_wanted;
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  const std::string name = choice.shown();
  const bool json = context.console().json();
  BackupOutcome outcome;
  TreeBackupOutcome tree;
  if (is_tree) {
    TRY_ASSIGN(tree, back_up_tree(context, *vault, *prepared.resource, request, limits));
    if (!json) print_tree_backup(context, name, request.resource, tree, limits);
  } else {
    TRY_ASSIGN(outcome, backup_postgres(*vault, request, context.console(), context.stop()));
    if (!json) print_outcome(context, request, name, outcome, limits);
  }
  // What this machine has seen must still be there at the next scrub.
  TRY_ASSIGN(SnapshotList seen,
             list_snapshots(*vault, is_tree ? tree.commit.resource : outcome.commit.resource));
  remember_heads(*vault, seen, context.console());
  context.set_act_object((is_tree ? tree.commit.snapshot : outcome.commit.snapshot).hex());
  if (request.until_reviewed)
    say_label(context, *vault, seen, is_tree ? tree.commit.snapshot : outcome.commit.snapshot, request);
  std::vector<MadeCopy> copies;
  if (copies_wanted) copies = make_copies(context, *vault, choice, *prepared.plan, request.resource);
  if (json) {
    print_document(
        context,
        [&](JsonWriter& document) {
          if (is_tree)
            write_tree_backup(document, name, request.resource, tree, limits);
          else
            write_backup(document, request, name, outcome, limits);
        },
        copies_wanted ? &copies : nullptr);
  }
  if (!json) print_copies(context, copies);
  const bool whole =
      outcome.broken_pages.empty() && tree.defects.empty() && std::ranges::all_of(copies, &MadeCopy::whole);
  return whole ? 0 : exit_code(ErrorKind::kPartial);
}

}  // namespace

Result<int> run_backup(Context& context) {
  TRY_ASSIGN(const Prepared prepared, prepare(context));
  return take_snapshot(context, prepared);
}

Result<int> run_watch(Context& context) {
  TRY_ASSIGN(const Prepared prepared, prepare(context));
  const std::string& name = prepared.request.resource;
  if (!prepared.is_tree())
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is a PostgreSQL cluster", name),
                "what changes in it goes through its WAL", fmt::format("kuramori wal stream {}", name));
  Settling settling;
  if (context.line().has("settle")) {
    TRY_ASSIGN(settling.quiet, parse_duration(context.line().value("settle")));
    settling.longest = std::max(settling.longest, settling.quiet * kSettleLongest);
  }
  TRY_ASSIGN(const OpenedSource opened, open_source(*prepared.resource, context.world()));
  TRY_ASSIGN(const std::unique_ptr<Watch> watch, opened.source->watch());
  Console& console = context.console();
  if (!console.json()) console.print(fmt::format("watching {}: {}\n", name, watch->how()));
  Duration pause = kRetryFirst;
  // The first one has what happened while nobody watched.
  for (bool due = true; due;) {
    const auto taken = take_snapshot(context, prepared);
    const bool is_over = context.stop().stop_requested();
    // Each as if it had been made by hand; of tries that fail one after the other the first.
    if (taken || (!is_over && pause == kRetryFirst)) record_run(context, taken);
    context.set_act_object("");
    if (is_over) break;
    if (taken) {
      pause = kRetryFirst;
      TRY_ASSIGN(due, wait_for_change(*watch, settling, context.clock(), context.stop()));
      continue;
    }
    const Error& error = taken.error();
    console.warning(fmt::format("{}{}{}; tried again in {}", error.what, error.why.empty() ? "" : ": ",
                                error.why, format_duration(pause)));
    due = wait_out(pause, context.stop());
    pause = std::min(pause * 2, kRetryMost);
  }
  return 0;
}

}  // namespace kuramori
