// `guard`: a snapshot of everything that a release may break, then the release; what it broke is brought
// back.
//
// Each step is what a person would type, run as a program of its own: what guard does can be done by hand at
// any point, and is when it is killed. A snapshot carries its label's hold from before it exists, so at no
// moment is there one that a prune could take or `kuramori review` would not list.
#include "cli/guard_verb.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/approving.h"
#include "cli/vault_access.h"
#include "conc/wait_out.h"
#include "os/foreground.h"
#include "source/postgres/connection.h"

namespace kuramori {
namespace {

constexpr const char* kGuardTag = "kuramori-guard";  // of a snapshot: which guard took it
constexpr int kSnapshotTriesMax = 2;                 // N7: snapshot OK? else retry
constexpr Duration kWalWithin = std::chrono::minutes(2);
constexpr Duration kWalAskEvery = std::chrono::seconds(1);
constexpr Duration kLookAroundEvery = std::chrono::milliseconds(200);
constexpr const char* kSafetyLabel = "before-rollback";

// As timeout(1), env(1) and shells have them, so that they are not taken for COMMAND's own.
constexpr int kNotRolledBack = 124, kNotRun = 125, kCannotRun = 126, kNoSuchProgram = 127, kSignalBase = 128;

// One resource under guard.
struct Ward {
  const ResourceConfig* resource = nullptr;
  const PlanConfig* plan = nullptr;
  VaultChoice vault;
  std::string target;         // where a rollback restores it
  std::string live;           // where it lives, if that is known; "" otherwise
  std::string snapshot;       // taken now
  std::string restore_point;  // of PostgreSQL: the moment before COMMAND; "": the snapshot's own
  bool is_back = false;

  const std::string& name() const { return resource->name; }
};

struct Guard {
  std::string id, label;
  bool in_place = false;
  Duration wal_limit = kWalWithin;
  std::vector<Ward> wards;
  std::vector<std::string> command;
};

std::string quoted(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@=,+";
  if (!text.empty() && text.find_first_not_of(kPlain) == text.npos) return text;
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// --- what is typed -----------------------------------------------------------------------------------

std::vector<std::string> with_globals(Context& context, std::vector<std::string> words) {
  const Invocation& line = context.line();
  for (const char* option : {"config", "key-file"})
    if (line.has(option)) words.insert(words.end(), {fmt::format("--{}", option), line.value(option)});
  for (const char* flag : {"quiet", "verbose", "yes"})
    if (line.has(flag)) words.push_back(fmt::format("--{}", flag));
  return words;
}

std::vector<std::string> backup_words(Context& context, const Guard& guard, const Ward& ward,
                                      const std::string& label) {
  std::vector<std::string> words{"backup", ward.name(), "--label", label, "--vault", ward.vault.shown()};
  if (ward.plan != nullptr) words.insert(words.end(), {"--plan", ward.plan->name});
  for (const std::string& tag : context.line().values("tag")) words.insert(words.end(), {"--tag", tag});
  words.insert(words.end(), {"--tag", fmt::format("{}={}", kGuardTag, guard.id)});
  return with_globals(context, std::move(words));
}

std::vector<std::string> restore_words(Context& context, const Ward& ward, const std::string& to) {
  std::vector<std::string> words{
      "restore", fmt::format("{}@{}", ward.name(), ward.snapshot), "--to", to, "--vault", ward.vault.shown()};
  if (!ward.restore_point.empty()) words.insert(words.end(), {"--name", ward.restore_point});
  return with_globals(context, std::move(words));
}

std::string typed(const std::vector<std::string>& words) {
  std::string out = "kuramori";
  for (const std::string& word : words) out += " " + quoted(word);
  return out;
}

// --- running ourselves -------------------------------------------------------------------------------

Result<Fd> our_errors() {
  const int raw = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  if (raw < 0) return system_error("use standard error", errno);
  return Fd(raw);
}

// What it says is shown; standard output is COMMAND's, so all of it goes to standard error.
Result<Exit> run_shown(Context& context, Command command) {
  TRY_ASSIGN(Fd output, our_errors());
  TRY_ASSIGN(Fd errors, our_errors());
  command.umask = 0077;
  TRY_ASSIGN(Child child,
             Child::start(command, {.input = {}, .output = std::move(output), .errors = std::move(errors)}));
  for (;;) {
    TRY_ASSIGN(const std::optional<Exit> ended, child.wait_for(kLookAroundEvery));
    if (ended) return *ended;
    if (context.stop().stop_requested()) return child.terminate(std::chrono::seconds(20));
  }
}

Result<Exit> run_shown(Context& context, const std::vector<std::string>& words) {
  Command command{.argv = {this_program()}};
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.die_with_us = true;
  return run_shown(context, std::move(command));
}

// --- before ------------------------------------------------------------------------------------------

// `TARGET` of `RESOURCE=TARGET`, or all of it where there is one resource alone.
Result<std::map<std::string, std::string>> parse_targets(const std::vector<std::string>& given,
                                                         const std::vector<Ward>& wards) {
  std::map<std::string, std::string> targets;
  for (const std::string& one : given) {
    const size_t equals = one.find('=');
    const std::string name = one.substr(0, equals == one.npos ? 0 : equals);
    const bool is_named = std::ranges::any_of(wards, [&](const Ward& ward) { return ward.name() == name; });
    if (!is_named && wards.size() != 1)
      return fail(ErrorKind::kUsage,
                  fmt::format("--rollback-to {} does not say of which resource", one.substr(0, 60)),
                  fmt::format("{} resources are guarded", wards.size()),
                  "write --rollback-to RESOURCE=TARGET for each");
    const std::string of = is_named ? name : wards.front().name();
    const std::string target = is_named ? one.substr(equals + 1) : one;
    if (target.empty() || !targets.emplace(of, target).second)
      return fail(
          ErrorKind::kUsage,
          fmt::format("--rollback-to names {} for \"{}\"", target.empty() ? "nothing" : "two targets", of),
          "", "write --rollback-to RESOURCE=TARGET once for each");
  }
  return targets;
}

Result<Ward> ward_of(Context& context, const Config& config, const ResourceConfig& resource) {
  Ward ward{.resource = &resource};
  const auto plans = config.plans_of(resource.name);
  if (plans.size() > 1 && !context.line().has("plan"))
    return fail(ErrorKind::kUsage, fmt::format("{} plans cover \"{}\"", plans.size(), resource.name), "",
                "choose one with --plan NAME");
  for (const PlanConfig* plan : plans)
    if (!context.line().has("plan") || plan->name == context.line().value("plan")) ward.plan = plan;
  const bool vault_is_given = context.line().has("vault") || ward.plan == nullptr;
  TRY_ASSIGN(ward.vault,
             context.choose_vault(vault_is_given ? std::string() : ward.plan->vault, resource.name));
  if (resource.kind == ResourceKind::kFiles && resource.files.paths.size() == 1)
    ward.live = resource.files.paths.front();
  return ward;
}

std::string absolute(const std::string& target) {
  if (target.find("://") != target.npos || target.ends_with(':')) return target;
  std::error_code ignored;
  return std::filesystem::absolute(target, ignored).lexically_normal().string();
}

Result<Guard> read_line(Context& context) {
  const Invocation& line = context.line();
  TRY_ASSIGN(const Config* config, context.config());
  Guard guard{.id = {}, .label = line.value("label"), .wards = {}, .command = line.arguments};
  guard.id = system_random().id<Id<8, struct GuardTag>>().hex();
  guard.in_place = line.has("in-place");
  if (line.has("wal-within")) {
    TRY_ASSIGN(guard.wal_limit, parse_duration(line.value("wal-within")));
  }
  std::vector<const ResourceConfig*> resources;
  for (const std::string& name : line.values("resource")) {
    TRY_ASSIGN(const ResourceConfig* resource, config->resource(name));
    if (std::ranges::find(resources, resource) == resources.end()) resources.push_back(resource);
  }
  // The most critical first: the longer it waits for the others, the more of it a rollback loses.
  if (resources.empty())
    for (const ResourceConfig* resource : config->by_criticality())
      if (!config->plans_of(resource->name).empty()) resources.push_back(resource);
  if (resources.empty())
    return fail(ErrorKind::kUsage, "no plan covers any resource: there is nothing to guard", "",
                "name them: kuramori guard --resource NAME … -- COMMAND");
  for (const ResourceConfig* resource : resources) {
    TRY_ASSIGN(Ward ward, ward_of(context, *config, *resource));
    guard.wards.push_back(std::move(ward));
  }
  TRY_ASSIGN(const auto targets, parse_targets(line.values("rollback-to"), guard.wards));
  for (Ward& ward : guard.wards) {
    const auto found = targets.find(ward.name());
    if (found != targets.end()) {
      ward.target = absolute(found->second);
    } else if (guard.in_place) {
      return fail(ErrorKind::kUsage, fmt::format("--in-place needs to know where \"{}\" lives", ward.name()),
                  "what a rollback replaces is named by whoever asks for it",
                  fmt::format("add --rollback-to {}=TARGET", ward.name()));
    } else {
      ward.target = absolute(fmt::format("kuramori-rollback-{}/{}", guard.id, ward.name()));
    }
  }
  if (guard.in_place) {
    TRY_ASSIGN(const bool asks, wants_approval(context, "restore-in-place"));
    if (asks)
      return fail(ErrorKind::kRefused, "a rollback in place would wait for another person's word",
                  "approvals: has restore-in-place, and what a failed command left would run until then",
                  "leave --in-place out: it is brought back beside, and kuramori restore --overwrite asks");
  }
  if (!guard.in_place && (line.has("stop") || line.has("start")))
    return fail(ErrorKind::kUsage, "--stop and --start are of a rollback in place",
                "beside what runs, nothing has to be stopped", "add --in-place, or leave them out");
  return guard;
}

// The one that this guard took; read anew from the store, its signature verified.
Result<std::string> find_taken(Context& context, const Guard& guard, const Ward& ward) {
  TRY_ASSIGN(const std::unique_ptr<Vault> vault, open_chosen(context, ward.vault));
  TRY_ASSIGN(const ResourceSnapshots list, list_snapshots_of(*vault, ward.name()));
  for (auto at = list.snapshots.rbegin(); at != list.snapshots.rend(); ++at) {
    const auto tag = at->commit.tags.find(kGuardTag);
    if (tag != at->commit.tags.end() && tag->second == guard.id && at->commit.label == guard.label)
      return at->commit.snapshot.hex();
  }
  return fail(ErrorKind::kFailed,
              fmt::format("the snapshot of {} is not in {}", ward.name(), ward.vault.shown()),
              "its backup said that it was");
}

Result<void> take_snapshot(Context& context, const Guard& guard, Ward& ward) {
  const std::vector<std::string> words = backup_words(context, guard, ward, guard.label);
  for (int attempt = 1;; ++attempt) {
    TRY_ASSIGN(const Exit exit, run_shown(context, words));
    if (exit.ok()) break;
    const bool may_pass = exit.signal != 0 || exit.code == 1 || exit.code == 3;
    if (context.stop().stop_requested())
      return fail(ErrorKind::kInterrupted, fmt::format("no snapshot of {} was taken", ward.name()));
    if (!may_pass || attempt >= kSnapshotTriesMax)
      return fail(ErrorKind::kFailed,
                  fmt::format("there is no whole snapshot of {}: {}", ward.name(), exit.describe()),
                  "what is said above is why", typed(words));
    context.console().warning(
        fmt::format("the snapshot of {} failed ({}); tried once more", ward.name(), exit.describe()));
  }
  TRY_ASSIGN(ward.snapshot, find_taken(context, guard, ward));
  return {};
}

// A name in the server's WAL: the moment before COMMAND, to the transaction. Where that cannot be, a rollback
// goes to the snapshot itself, and that is said.
void mark_moment(Context& context, const Guard& guard, Ward& ward) {
  auto marked = [&]() -> Result<std::string> {
    TRY_ASSIGN(const std::string connect, ward.resource->connect.fetch(context.world()));
    TRY_ASSIGN(postgres::Connection server, postgres::Connection::open(connect));
    TRY_ASSIGN(const std::string folder, server.value("SELECT current_setting('data_directory')"));
    ward.live = folder;
    if (ward.plan == nullptr || ward.plan->wal == WalMode::kNone)
      return fail(ErrorKind::kUsage, "its plan keeps no WAL");
    const std::string name = fmt::format("{}-{}", kGuardTag, guard.id);
    TRY(server.value("SELECT pg_catalog.pg_create_restore_point($1)", {name}));
    // The segment is full enough, so that an archiver takes it.
    if (auto switched = server.value("SELECT pg_catalog.pg_switch_wal()"); !switched)
      context.console().detail(
          fmt::format("{}: no new WAL segment was begun: {}", ward.name(), switched.error().what));
    return name;
  }();
  if (marked) {
    ward.restore_point = *marked;
    return;
  }
  context.console().note(fmt::format(
      "{}: a rollback goes to its snapshot, not to the last commit before the command: {}{}{}", ward.name(),
      marked.error().what, marked.error().why.empty() ? "" : ": ", marked.error().why));
}

// Everything a rollback needs is in the vault: the restore's own pre-flight says so, which writes nothing.
Result<void> await_restorable(Context& context, const Guard& guard, const Ward& ward) {
  const std::string nowhere = absolute(fmt::format("kuramori-rollback-{}/{}", guard.id, ward.name()));
  std::vector<std::string> words = restore_words(context, ward, nowhere);
  words.insert(words.end(), {"--estimate", "--quiet"});
  Command command{.argv = {this_program()}};
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.die_with_us = true;
  command.stop = context.stop();
  const Duration until = context.clock().steady() + guard.wal_limit;
  for (bool told = false;;) {
    TRY_ASSIGN(const Finished done, run(command));
    if (done.exit.ok()) return {};
    std::string said = done.errors;
    while (said.ends_with('\n')) said.pop_back();
    std::ranges::replace(said, '\n', ' ');
    if (ward.restore_point.empty() || context.clock().steady() >= until)
      return fail(ErrorKind::kRefused,
                  fmt::format("{} could not be brought back to this moment", ward.name()),
                  ward.restore_point.empty() ? said
                                             : fmt::format("its WAL did not reach the vault within {}: {}",
                                                           format_duration(guard.wal_limit), said),
                  fmt::format("kuramori wal show {}", ward.name()));
    if (!std::exchange(told, true))
      context.console().note(fmt::format("waiting until the WAL of {} is in the vault", ward.name()));
    if (!wait_out(kWalAskEvery, context.stop()))
      return fail(ErrorKind::kInterrupted, "the guard was interrupted");
  }
}

Result<void> protect(Context& context, Guard& guard) {
  for (Ward& ward : guard.wards) TRY(take_snapshot(context, guard, ward));
  for (Ward& ward : guard.wards)
    if (ward.resource->kind == ResourceKind::kPostgres) mark_moment(context, guard, ward);
  for (const Ward& ward : guard.wards) TRY(await_restorable(context, guard, ward));
  return {};
}

// --- afterwards --------------------------------------------------------------------------------------

// What puts the old state in the place of what runs.
std::string switch_command(Context& context, const Ward& ward) {
  std::vector<std::string> words = restore_words(context, ward, ward.live.empty() ? "TARGET" : ward.live);
  words.emplace_back("--overwrite");
  return typed(words);
}

Result<void> run_hook(Context& context, const char* option) {
  if (!context.line().has(option)) return {};
  const std::string script = context.line().value(option);
  context.console().note(fmt::format("--{}: {}", option, script));
  Command command{.argv = {"/bin/sh", "-c", script}};
  TRY_ASSIGN(const Exit exit, run_shown(context, std::move(command)));
  if (exit.ok()) return {};
  return fail(ErrorKind::kFailed, fmt::format("--{} failed: {}", option, exit.describe()), script);
}

Result<void> bring_back(Context& context, const Guard& guard, Ward& ward) {
  std::vector<std::string> words = restore_words(context, ward, ward.target);
  if (guard.in_place) words.emplace_back("--overwrite");
  // The folder of a rollback beside: of ours alone.
  if (!guard.in_place && ward.target.find("://") == ward.target.npos && !ward.target.ends_with(':'))
    TRY(make_folders(std::filesystem::path(ward.target).parent_path().string(), 0755));
  TRY_ASSIGN(const Exit exit, run_shown(context, words));
  if (exit.ok()) {
    ward.is_back = true;
    return {};
  }
  return fail(ErrorKind::kFailed, fmt::format("{} is not brought back: {}", ward.name(), exit.describe()),
              "what is said above is why", typed(words));
}

// In place: what is to be replaced is kept twice, as a snapshot if it can be taken and beside as .old-TIME.
// All that can be brought back is, whatever becomes of the others.
bool roll_back(Context& context, Guard& guard) {
  Console& console = context.console();
  bool all = true;
  auto must = [&](const Result<void>& done) {
    if (done) return true;
    const Error& error = done.error();
    console.warning(fmt::format("{}{}{}{}{}", error.what, error.why.empty() ? "" : ": ", error.why,
                                error.next.empty() ? "" : "; next: ", error.next));
    all = false;
    return false;
  };
  if (guard.in_place) {
    for (const Ward& ward : guard.wards) {
      const auto saved = run_shown(context, backup_words(context, guard, ward, kSafetyLabel));
      if (!saved || !saved->ok())
        console.warning(fmt::format(
            "{} was not saved as it is now: what is there is kept beside, and nowhere else", ward.name()));
    }
    if (!must(run_hook(context, "stop"))) return false;
  }
  for (Ward& ward : guard.wards) (void)must(bring_back(context, guard, ward));
  // What could not be brought back must not be started on half of it.
  if (guard.in_place && all) (void)must(run_hook(context, "start"));
  return all;
}

void print_document(Context& context, const Guard& guard, std::string_view outcome,
                    const std::optional<Exit>& exit) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/guard/1").key("guard").begin_object();
  json.field("id", guard.id)
      .field("label", guard.label)
      .field("outcome", outcome)
      .key("command")
      .begin_array();
  for (const std::string& word : guard.command) json.value(word);
  json.end_array().key("status");
  exit ? json.value(static_cast<int64_t>(exit->code)) : json.null();
  json.key("signal");
  exit ? json.value(static_cast<int64_t>(exit->signal)) : json.null();
  json.key("resources").begin_array();
  for (const Ward& ward : guard.wards) {
    json.begin_object().field("resource", ward.name()).field("vault", ward.vault.shown());
    json.field("snapshot", ward.snapshot).field("restore_point", ward.restore_point);
    json.field("brought_back_to", ward.is_back ? ward.target : std::string()).end_object();
  }
  json.end_array().end_object().end_object();
  context.console().print_document(json);
}

}  // namespace

Result<int> run_guard(Context& context) {
  TRY_ASSIGN(Guard guard, read_line(context));
  Console& console = context.console();
  const bool json = console.json();

  // 1. What must be there to go back to.
  if (auto protected_now = protect(context, guard); !protected_now) {
    console.report(protected_now.error());
    console.note("the command was not run");
    return kNotRun;
  }
  for (const Ward& ward : guard.wards)
    console.note(fmt::format("{} can be brought back: snapshot {} in {}", ward.name(), ward.snapshot,
                             ward.vault.shown()));

  // 2. The command. Standard output is its own, unless a document is wanted there.
  Fd output;
  if (json) {
    TRY_ASSIGN(output, our_errors());
  }
  const auto ran = run_in_foreground(guard.command, std::move(output));
  if (!ran) {
    console.report(ran.error());
    console.note("the command was not run, so there is nothing to bring back");
    return ran.error().kind == ErrorKind::kNotFound ? kNoSuchProgram : kCannotRun;
  }

  // 3. Kept, or brought back.
  if (ran->ok()) {
    for (const Ward& ward : guard.wards)
      console.note(fmt::format("snapshot {} of {} stays until it is reviewed: kuramori review {}",
                               ward.snapshot, ward.name(), ward.snapshot));
    if (json) print_document(context, guard, "kept", *ran);
    return 0;
  }
  console.warning(
      fmt::format("the command failed ({}): bringing back what it may have changed", ran->describe()));
  const bool is_back = roll_back(context, guard);
  for (const Ward& ward : guard.wards) {
    if (!ward.is_back)
      console.note(fmt::format("{} is as the command left it; its snapshot {} stays: {}", ward.name(),
                               ward.snapshot, switch_command(context, ward)));
    else if (guard.in_place)
      console.note(fmt::format("{} is as it was before, in {}", ward.name(), ward.target));
    else
      console.note(fmt::format(
          "{} as it was before is in {}; nothing runs on it yet. To put it in the place of what runs{}: {}",
          ward.name(), ward.target,
          ward.resource->kind == ResourceKind::kPostgres ? ", once the server is stopped" : "",
          switch_command(context, ward)));
  }
  if (json) print_document(context, guard, is_back ? "brought_back" : "not_brought_back", *ran);
  if (!is_back) return kNotRolledBack;
  return ran->signal != 0 ? kSignalBase + ran->signal : ran->code;
}

}  // namespace kuramori
