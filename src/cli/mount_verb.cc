// `mount`: until somebody ends it.
#include <fmt/core.h>
#include <unistd.h>

#include <filesystem>

#include "base/time_text.h"
#include "cli/limiting.h"
#include "cli/recovery_target.h"
#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/mount.h"
#include "os/heap.h"

namespace kuramori {
namespace {

// As it will be looked for among the mounts: whole, and without links on the way where it is there.
std::string whole_path(const std::string& typed) {
  std::error_code none;
  std::filesystem::path path = std::filesystem::absolute(typed, none).lexically_normal();
  const auto above = std::filesystem::weakly_canonical(path.parent_path(), none);
  if (!none && path.has_filename()) path = above / path.filename();
  std::string text = path.string();
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

// The folder of a vault that lies in one; "" for others.
std::string folder_of_vault(const std::string& location) {
  constexpr std::string_view kFile = "file://";
  std::string path = split_location(location).objects;
  if (path.starts_with(kFile)) path.erase(0, kFile.size());
  return path.find("://") == std::string::npos && path.starts_with('/') ? whole_path(path) : std::string();
}

void tell(Context& context, const MountRequest& request, const MountOutcome& outcome) {
  Console& console = context.console();
  if (!outcome.removed_dead.empty())
    console.note(
        fmt::format("took away the mount that a killed process had left at {}", outcome.removed_dead));
  if (!outcome.is_protected)
    console.note("this key may not announce a reader: what is mounted is not kept from being collected");
  if (console.json()) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/mount/1").key("mount").begin_object();
    json.field("resource", request.resource).field("path", request.path).key("snapshot");
    if (outcome.snapshot)
      json.value(outcome.snapshot->commit.snapshot.hex());
    else
      json.null();
    json.field("snapshots", static_cast<uint64_t>(outcome.snapshots))
        .field("pid", static_cast<uint64_t>(::getpid()));
    json.end_object().end_object();
    console.print_document(json);
  } else if (outcome.snapshot) {
    const CommitRecord& commit = outcome.snapshot->commit;
    console.print(fmt::format("mounted snapshot {} of {}, of {}, read-only at {}\n", commit.snapshot.hex(),
                              request.resource, format_moment(from_unix_ns(commit.started_ns)),
                              request.path));
  } else {
    console.print(fmt::format("mounted {} snapshots of {} read-only at {}; the newest is {}/latest\n",
                              outcome.snapshots, request.resource, request.path, request.path));
  }
  if (!console.json())
    console.print(fmt::format("  Ctrl-C here ends it, or elsewhere: fusermount3 -u {}\n", request.path));
  std::fflush(stdout);  // whoever started it waits for this
}

}  // namespace

Result<int> run_mount(Context& context) {
  const Invocation& line = context.line();
  TRY_ASSIGN(const Limits limits, limits_given(context, {}));
  TRY(keep_to(limits, Reads::kVault));
  give_back_large_blocks_of_two_arenas();
  TRY_ASSIGN(ResourceAtSnapshot named, parse_resource_at_snapshot(line.argument(0)));
  MountRequest request{
      .resource = named.resource, .snapshot = named.snapshot, .path = whole_path(line.argument(1))};
  if (line.has("at")) {
    if (!named.snapshot.empty())
      return fail(ErrorKind::kUsage, "--at and @SNAPSHOT both say which one", "", "keep one of them");
    TRY_ASSIGN(const TypedTarget target, read_target(context, named.resource));
    request.at = target.request.time_ns;
  }
  request.for_others = line.has("allow-other");
  TRY_ASSIGN(VaultChoice choice, context.choose_vault({}, named.resource));
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  request.vault_text = choice.name.empty() ? choice.location : choice.name;
  request.vault_folder = folder_of_vault(choice.location);
  TRY(mount_snapshots(*vault, request, context.console(), context.stop(),
                      [&](const MountOutcome& outcome) { tell(context, request, outcome); }));
  context.console().note(fmt::format("{} is unmounted", request.path));
  return 0;
}

}  // namespace kuramori
