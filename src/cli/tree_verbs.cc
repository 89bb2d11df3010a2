#include "cli/tree_verbs.h"

#include <fmt/core.h>

#include <filesystem>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/approving.h"
#include "cli/limiting.h"
#include "net/url.h"
#include "os/heap.h"

namespace kuramori {
namespace {

constexpr size_t kDefectsShownMax = 20;

Duration seconds(double count) {
  return Duration(static_cast<int64_t>(count * 1e9));
}

// What a resource of this kind cannot be asked for is refused, not taken and forgotten.
Result<void> check_options(const Invocation& line, std::string_view kind) {
  for (const char* option : {"at", "lsn", "xid", "name", "latest", "exclusive", "timeline", "action", "start",
                             "port", "standby", "continue", "tablespace", "salvage-wal"}) {
    const bool has_history = kind == name_of(ResourceKind::kBucket) && std::string_view(option) == "at";
    if (line.has(option) && !has_history) {
      return fail(ErrorKind::kUsage,
                  fmt::format("--{} is of PostgreSQL clusters, and this is of kind {}", option, kind),
                  "it is restored as a snapshot has it",
                  "name one: RESOURCE@SNAPSHOT; kuramori snapshots lists them");
    }
  }
  return {};
}

// A path of the tree as people type it: without slashes at its ends.
std::string tree_path(std::string path) {
  while (path.starts_with("./")) path.erase(0, 2);
  while (path.starts_with('/')) path.erase(0, 1);
  while (path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace

Result<TreeBackupOutcome> back_up_tree(Context& context, Vault& vault, const ResourceConfig& resource,
                                       const SnapshotWishes& wishes, const Limits& limits) {
  give_back_large_blocks();
  // A program that prints less than it did is suspected of having failed in silence.
  std::optional<uint64_t> bytes_before;
  if (resource.kind == ResourceKind::kCommand) {
    if (auto list = list_snapshots_of(vault, resource.name); list && !list->snapshots.empty())
      bytes_before = list->snapshots.back().commit.size_bytes;
  }
  TRY_ASSIGN(OpenedSource opened, open_source(resource, context.world(), bytes_before));
  TreeBackupRequest request;
  static_cast<SnapshotWishes&>(request) = wishes;
  request.kind = std::string(name_of(resource.kind));
  request.origin = std::move(opened.origin);
  if (resource.processes) request.workers = static_cast<unsigned>(*resource.processes);
  request.read_bytes_per_second = limits.read.value_or(0);
  return backup_tree(vault, *opened.source, request, context.console(), context.stop());
}

void write_tree_backup(JsonWriter& json, const std::string& vault, const std::string& resource,
                       const TreeBackupOutcome& outcome, const Limits& limits) {
  const CommitRecord& commit = outcome.commit;
  json.field("id", commit.snapshot.hex()).field("resource", resource).field("vault", vault);
  json.field("time", format_utc(from_unix_ns(commit.started_ns))).field("size_bytes", commit.size_bytes);
  json.field("added_bytes", commit.added_bytes)
      .field("keep_until", format_utc(from_unix_ns(commit.keep_until_ns)))
      .field("keep_reason", outcome.keep_reason);
  json.field("base", outcome.base)
      .field("why_full", outcome.why_full)
      .field("bytes_read", outcome.bytes_read);
  json.field("entries", outcome.entries).field("files", outcome.files);
  json.field("files_as_before", outcome.files_as_before).field("bytes_known", outcome.bytes_known);
  json.field("seconds", outcome.seconds).key("defects").begin_array();
  for (const Defect& defect : outcome.defects)
    json.begin_object().field("path", defect.path).field("why", defect.why).end_object();
  json.end_array().key("held").begin_array().end_array();
  write_limits(json, limits, ReadUse{outcome.bytes_read, outcome.read_waited});
}

void print_tree_backup(Context& context, const std::string& vault, const std::string& resource,
                       const TreeBackupOutcome& outcome, const Limits& limits) {
  const CommitRecord& commit = outcome.commit;
  std::string out = fmt::format("snapshot {} of {} in {}\n", commit.snapshot.hex(), resource, vault);
  out += fmt::format("  {} entries, {}, added {}, read {} in {}\n", outcome.entries,
                     format_size(commit.size_bytes), format_size(commit.added_bytes),
                     format_size(outcome.bytes_read), format_duration(seconds(outcome.seconds)));
  if (!outcome.base.empty())
    out +=
        fmt::format("  built on {}: {} of {} files as before, {} of what was read was there\n", outcome.base,
                    outcome.files_as_before, outcome.files, format_size(outcome.bytes_known));
  else
    out += fmt::format("  a full one{}\n", outcome.why_full.empty() ? "" : ": " + outcome.why_full);
  out += fmt::format("  kept until {} ({})\n", format_moment(from_unix_ns(commit.keep_until_ns)),
                     outcome.keep_reason);
  out += shown_limits(limits, ReadUse{outcome.bytes_read, outcome.read_waited});
  context.console().print(out);
  for (size_t i = 0; i < std::min(outcome.defects.size(), kDefectsShownMax); ++i)
    context.console().warning(
        fmt::format("{}: {}", outcome.defects[i].path.empty() ? "the tree" : outcome.defects[i].path,
                    outcome.defects[i].why));
  if (outcome.defects.size() > kDefectsShownMax)
    context.console().warning(
        fmt::format("and {} more: --json lists them all", outcome.defects.size() - kDefectsShownMax));
}

Result<OpenedSource> source_of(Context& context, const ResourceRecord& resource) {
  TRY_ASSIGN(const Config* config, context.config_if_any());
  if (config != nullptr) {
    for (const ResourceConfig& configured : config->resources) {
      if (configured.name == resource.name && name_of(configured.kind) == resource.kind)
        return open_source(configured, context.world());
    }
  }
  ResourceConfig bare{.name = resource.name};
  TRY_ASSIGN(bare.kind, kind_named(resource.kind));
  return open_source(bare, context.world());
}

Result<int> restore_named_tree(Context& context, const VaultChoice& choice, Vault& vault,
                               const ResourceRecord& resource, const std::string& snapshot,
                               const Limits& limits) {
  const Invocation& line = context.line();
  TRY(check_options(line, resource.kind));
  TRY_ASSIGN(const OpenedSource opened, source_of(context, resource));
  TreeRestoreRequest request;
  request.resource = resource.name;
  request.snapshot = snapshot;
  request.to = line.value("to");
  const bool is_path = request.to.find("://") == std::string::npos && !request.to.ends_with(':');
  if (is_path) {
    std::error_code ignored;
    request.to = std::filesystem::absolute(request.to, ignored).lexically_normal().string();
    while (request.to.size() > 1 && request.to.ends_with('/')) request.to.pop_back();
  }
  for (const std::string& path : line.values("only")) request.only.push_back(tree_path(path));
  request.overwrite = line.has("overwrite");
  request.delta = line.has("delta");
  request.estimate = line.has("estimate");
  if (line.has("at")) {
    TRY_ASSIGN(const Moment moment, parse_moment(line.value("at")));
    request.at = moment.time;
  }
  request.may_replace = [&](const Snapshot& base) {
    return replacing_must_be_approved(context, choice, vault, resource.name, base, masked_url(request.to),
                                      request.at ? format_utc(*request.at) : "");
  };
  TRY_ASSIGN(const TreeRestoreOutcome outcome,
             restore_tree(vault, *opened.source, request, context.console(), context.stop()));
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/restore/1").key("restore").begin_object();
    json.field("resource", resource.name).field("snapshot", outcome.base.commit.snapshot.hex());
    json.field("target", outcome.target)
        .field("estimate", request.estimate)
        .field("entries", outcome.entries);
    json.field("files", outcome.files).field("bytes", outcome.bytes);
    json.field("bytes_written", outcome.bytes_written).field("bytes_compared", outcome.bytes_compared);
    json.field("bytes_fetched", outcome.bytes_fetched).field("removed", outcome.removed);
    json.field("estimated_bytes", outcome.estimated_bytes)
        .field("estimated_requests", outcome.estimated_requests);
    json.field("moved_aside", outcome.moved_aside).field("seconds_files", outcome.seconds);
    json.key("notes").begin_array();
    for (const std::string& note : outcome.notes) json.value(note);
    json.end_array();
    write_limits(json, limits);
    json.end_object().end_object();
    context.console().print_document(json);
    return 0;
  }
  std::string out;
  if (request.estimate) {
    out =
        fmt::format("would restore {} from snapshot {} into {}: {} out of the vault\n", resource.name,
                    outcome.base.commit.snapshot.hex(), outcome.target, format_size(outcome.estimated_bytes));
  } else {
    out = fmt::format("restored {} from snapshot {} into {}: {} entries, {}, {} written in {}\n",
                      resource.name, outcome.base.commit.snapshot.hex(), outcome.target, outcome.entries,
                      format_size(outcome.bytes), format_size(outcome.bytes_written),
                      format_duration(seconds(outcome.seconds)));
  }
  if (!outcome.moved_aside.empty()) out += "  what was there is now " + outcome.moved_aside + "\n";
  if (outcome.removed > 0)
    out += fmt::format("  removed {} that the snapshot does not have\n", outcome.removed);
  context.console().print(out + shown_limits(limits));
  for (const std::string& note : outcome.notes) context.console().note(note);
  return 0;
}

void print_proof(Context& context, const std::string& resource, const ProofRecord& proof,
                 const std::string& proof_name) {
  if (context.console().json()) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/drill/1")
        .key("proof")
        .begin_object()
        .field("resource", resource);
    json.field("snapshot", proof.snapshot.hex()).field("vault", proof.vault).field("target", proof.target);
    json.field("time", format_utc(from_unix_ns(proof.started_ns))).field("passed", proof.passed);
    json.field("seconds_to_open", proof.seconds_to_open).field("seconds_total", proof.seconds_total);
    json.field("bytes_restored", proof.bytes_restored).field("name", proof_name).key("checks").begin_array();
    for (const ProofCheck& check : proof.checks)
      json.begin_object()
          .field("name", check.name)
          .field("verdict", check.verdict)
          .field("detail", check.detail)
          .end_object();
    json.end_array().end_object().end_object();
    context.console().print_document(json);
    return;
  }
  Table table({{"check"}, {"verdict"}, {"detail"}});
  for (const ProofCheck& check : proof.checks) table.add({check.name, check.verdict, check.detail});
  context.console().print(table.text() +
                          fmt::format("{}: snapshot {} of {}, open after {}, done after {}, {} restored\n",
                                      proof.passed ? "PROVEN" : "NOT PROVEN", proof.snapshot.hex(), resource,
                                      format_duration(seconds(proof.seconds_to_open)),
                                      format_duration(seconds(proof.seconds_total)),
                                      format_size(proof.bytes_restored)));
}

Result<int> drill_named_tree(Context& context, Vault& vault, const ResourceRecord& resource,
                             const std::string& snapshot, const std::string& vault_text) {
  TRY(check_options(context.line(), resource.kind));
  TRY_ASSIGN(const OpenedSource opened, source_of(context, resource));
  const char* temporary = getenv("TMPDIR");
  TRY_ASSIGN(const TreeDrillOutcome outcome,
             drill_tree(vault, *opened.source,
                        {.resource = resource.name,
                         .snapshot = snapshot,
                         .state_folder = temporary != nullptr && *temporary != '\0' ? temporary : "/var/tmp",
                         .vault_text = vault_text},
                        context.console(), context.stop()));
  print_proof(context, resource.name, outcome.proof, outcome.proof_name);
  return outcome.proof.passed ? 0 : exit_code(ErrorKind::kBrokenPromise);
}

}  // namespace kuramori
