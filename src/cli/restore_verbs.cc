#include <fmt/core.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/approving.h"
#include "cli/limiting.h"
#include "cli/recovery_target.h"
#include "cli/tree_verbs.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/drill.h"
#include "engine/restore.h"

namespace kuramori {
namespace {

std::string absolute(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::absolute(path, ignored).lexically_normal().string();
}

std::string this_program() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).string();
}

// For a shell, and for PostgreSQL, which gives its commands to sh after it has replaced %f, %p and %%.
std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text)
    out += c == '\'' ? std::string("'\\''") : c == '%' ? std::string("%%") : std::string(1, c);
  return out + "'";
}

std::string wal_command(std::string_view verb, const VaultChoice& choice, const std::string& resource) {
  return fmt::format("{} wal {} --vault {} --key-file {} --resource {}", shell_quoted(this_program()), verb,
                     shell_quoted(choice.location), shell_quoted(absolute(choice.key_file)),
                     shell_quoted(resource));
}

Duration seconds(double count) {
  return Duration(static_cast<int64_t>(count * 1e9));
}

Result<std::vector<std::pair<std::string, std::string>>> parse_tablespaces(
    const std::vector<std::string>& given) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const std::string& one : given) {
    size_t equals = one.find('=');
    if (equals == one.npos || equals == 0 || equals + 1 == one.size())
      return fail(ErrorKind::kUsage, fmt::format("\"{}\" maps no tablespace", one.substr(0, 60)), "",
                  "write --tablespace OLD=NEW");
    out.emplace_back(one.substr(0, equals), absolute(one.substr(equals + 1)));
  }
  return out;
}

Result<int> parse_port(const std::string& text) {
  int port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error == std::errc{} && end == text.data() + text.size() && port >= 1 && port <= 65535) return port;
  return fail(ErrorKind::kUsage, fmt::format("--port cannot be \"{}\"", text.substr(0, 20)),
              "it is a number from 1 to 65535", "write --port 5433");
}

void print_restore(Context& context, const RestoreRequest& request, const RestoreOutcome& outcome,
                   const Limits& limits) {
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/restore/1")
        .key("restore")
        .begin_object()
        .field("resource", request.resource);
    json.field("snapshot", outcome.base.commit.snapshot.hex())
        .field("target", outcome.target)
        .field("estimate", request.estimate);
    json.field("explanation", outcome.plan.explanation)
        .field("timeline", outcome.plan.timeline)
        .key("last_commit");
    if (outcome.plan.last_commit && outcome.plan.last_commit->time_ns != 0)
      json.value(format_utc(from_unix_ns(outcome.plan.last_commit->time_ns)));
    else
      json.null();
    json.field("segments", outcome.plan.segments.size())
        .field("files", outcome.files.files)
        .field("bytes", outcome.files.bytes);
    json.field("bytes_written", outcome.files.bytes_written)
        .field("bytes_resumed", outcome.files.bytes_resumed);
    json.field("bytes_compared", outcome.files.bytes_compared)
        .field("bytes_fetched", outcome.files.bytes_fetched);
    json.field("estimated_bytes", outcome.estimated_bytes)
        .field("estimated_requests", outcome.estimated_requests)
        .field("estimated_seconds", outcome.estimated_seconds)
        .field("moved_aside", outcome.moved_aside);
    json.field("segments_salvaged", outcome.segments_salvaged).field("seconds_files", outcome.seconds_files);
    json.field("started", outcome.started)
        .field("seconds_to_open", outcome.seconds_to_open)
        .field("new_timeline", outcome.new_timeline);
    json.key("notes").begin_array();
    for (const std::string& note : outcome.notes) json.value(note);
    json.end_array();
    write_limits(json, limits);
    json.end_object().end_object();
    context.console().print_document(json);
    return;
  }
  std::string out;
  if (request.estimate)
    out = fmt::format(
        "would restore {} from snapshot {} into {}: {} out of the vault, {} WAL segments{}{}\n",
        request.resource, outcome.base.commit.snapshot.hex(), request.to,
        format_size(outcome.estimated_bytes), outcome.plan.segments.size(),
        outcome.far ? fmt::format(", about {} requests", outcome.estimated_requests) : "",
        outcome.estimated_seconds > 0
            ? fmt::format(", about {} for the files", format_duration(seconds(outcome.estimated_seconds)))
            : "");
  else
    out =
        fmt::format("restored {} from snapshot {} into {}: {} files, {}, {} written in {}\n",
                    request.resource, outcome.base.commit.snapshot.hex(), outcome.target, outcome.files.files,
                    format_size(outcome.files.bytes), format_size(outcome.files.bytes_written),
                    format_duration(seconds(outcome.seconds_files)));
  if (!outcome.plan.explanation.empty()) out += "  " + outcome.plan.explanation + "\n";
  if (!outcome.moved_aside.empty()) out += "  what was there is now " + outcome.moved_aside + "\n";
  if (outcome.started)
    out += fmt::format("  started; open after {}, timeline {}\n",
                       format_duration(seconds(outcome.seconds_to_open)), outcome.new_timeline);
  context.console().print(out + shown_limits(limits));
  for (const std::string& note : outcome.notes) context.console().note(note);
}

}  // namespace

// What would be taken and then have no effect is refused: a server that was to pause must not be promoted.
Result<void> check_together(const Invocation& line) {
  auto refuse = [](std::string what, std::string why, std::string next) {
    return fail(ErrorKind::kUsage, std::move(what), std::move(why), std::move(next));
  };
  if (line.has("delta") && line.has("overwrite"))
    return refuse("--delta and --overwrite exclude each other",
                  "one changes the old copy in place, the other moves it aside", "keep one of them");
  if (line.has("latest") && line.has("action") && line.value("action") != "promote")
    return refuse(fmt::format("--latest cannot {} at its target", line.value("action")),
                  "the end of the archive is no position that a server stops at",
                  "name a target: --lsn or --at");
  if (line.has("exclusive") && !line.has("at") && !line.has("lsn") && !line.has("xid"))
    return refuse("--exclusive needs a target that can be stopped before", "", "add --at, --lsn or --xid");
  if (line.has("port") && !line.has("start"))
    return refuse("--port is of the server that --start starts", "without --start nothing listens",
                  "add --start");
  if (line.has("estimate") && line.has("salvage-wal"))
    return refuse("--estimate writes nothing, --salvage-wal does", "", "leave one of them out");
  if (line.has("start") && (line.has("nice") || line.has("io")))
    return refuse(
        fmt::format("--{} would hold for the server that --start starts", line.has("nice") ? "nice" : "io"),
        "a program has the priority of what started it, and only root may raise it again",
        "leave --start out and start the server yourself");
  if (line.has("estimate") && line.has("start"))
    return refuse("--estimate starts nothing", "", "leave --start out");
  return {};
}

Result<int> run_restore(Context& context) {
  const Invocation& line = context.line();
  if (line.has("undelete") || line.has("version") || line.has("in-bucket"))
    return run_restore_in_bucket(context);
  if (!line.has("to"))
    return fail(ErrorKind::kUsage, "kuramori restore needs --to", {}, "kuramori restore --help");
  TRY(check_together(line));
  TRY_ASSIGN(const Limits limits, limits_given(context, {}));
  TRY(keep_to(limits, Reads::kVault));
  TRY_ASSIGN(ResourceAtSnapshot named, parse_resource_at_snapshot(line.argument(0)));
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, named.resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  // What it is, the vault says: nothing else is needed to bring it back.
  if (const auto resource = vault->resource(named.resource); resource && resource->kind != "postgres")
    return restore_named_tree(context, choice, *vault, *resource, named.snapshot, limits);
  if (line.has("only"))
    return fail(ErrorKind::kUsage, "--only is of trees of files, and this is a PostgreSQL cluster");
  TRY_ASSIGN(TypedTarget target, read_target(context, named.resource));
  RestoreRequest request;
  request.resource = named.resource;
  request.snapshot = named.snapshot;
  request.target = target.request;
  request.to = absolute(line.value("to"));
  request.use = line.has("delta")       ? postgres::TargetUse::kDelta
                : line.has("overwrite") ? postgres::TargetUse::kOverwrite
                                        : postgres::TargetUse::kNew;
  std::string action = line.value("action");
  request.action = action == "pause"      ? postgres::AtTarget::kPause
                   : action == "shutdown" ? postgres::AtTarget::kShutdown
                                          : postgres::AtTarget::kPromote;
  request.standby = line.has("standby");
  request.continue_archiving = line.has("continue");
  TRY_ASSIGN(request.tablespaces, parse_tablespaces(line.values("tablespace")));
  if (line.has("salvage-wal")) request.salvage = absolute(line.value("salvage-wal"));
  request.start = line.has("start");
  if (line.has("port")) {
    TRY_ASSIGN(request.port, parse_port(line.value("port")));
  }
  request.estimate = line.has("estimate");
  request.program = this_program();
  // All WAL is fetched now, so that the server, which runs as another user, needs no key; a standby goes on
  // asking.
  request.spool_wal = !request.standby;

  request.wal_get = wal_command("get", choice, named.resource);
  request.archive_command = wal_command("push", choice, named.resource) + " %p";
  request.may_replace = [&](const Snapshot& base) {
    return replacing_must_be_approved(context, choice, *vault, named.resource, base, request.to, target.text);
  };
  TRY_ASSIGN(RestoreOutcome outcome, restore_postgres(*vault, request, context.console(), context.stop()));
  print_restore(context, request, outcome, limits);
  return 0;
}

Result<int> run_drill(Context& context) {
  const Invocation& line = context.line();
  TRY_ASSIGN(ResourceAtSnapshot named, parse_resource_at_snapshot(line.argument(0)));
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, named.resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  const std::string vault_text = choice.shown();
  if (const auto resource = vault->resource(named.resource); resource && resource->kind != "postgres")
    return drill_named_tree(context, *vault, *resource, named.snapshot, vault_text);
  TRY_ASSIGN(TypedTarget target, read_target(context, named.resource));
  DrillRequest request;
  request.resource = named.resource;
  request.snapshot = named.snapshot;
  if (!target.text.empty()) request.target = target.request;
  request.target_text = target.text;
  request.program = this_program();
  TRY_ASSIGN(const Config* config, context.config_if_any());
  if (config) {
    for (const PlanConfig* plan : config->plans_of(named.resource)) {
      if (!plan->drill) continue;
      request.count_budget = plan->drill->budget;
      for (const DrillCheck& check : plan->drill->sql)
        request.sql.push_back({.query = check.query, .expect = check.expect});
      break;
    }
  }
  request.vault_text = vault_text;
  TRY_ASSIGN(DrillOutcome outcome, drill_postgres(*vault, request, context.console(), context.stop()));
  const ProofRecord& proof = outcome.proof;
  for (const std::string& left : outcome.swept)
    context.console().note("removed what a killed drill had left: " + left);
  print_proof(context, named.resource, proof, outcome.proof_name);
  if (!outcome.partial.empty()) {
    context.console().warning(outcome.partial);
    return exit_code(ErrorKind::kPartial);
  }
  return proof.passed ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

}  // namespace kuramori
