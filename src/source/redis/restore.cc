// Restores: into a folder that a server is started on, or into a running server.
//
// A folder is made so that it serves whatever the server's configuration says. A server with `appendonly yes`
// looks at its append-only files alone: with a dump.rdb beside none it starts empty, without a word (S17). So
// a private server loads the RDB, is told to go on with append-only files, and leaves both behind; for a
// snapshot of append-only files it is told to save. The folder is made beside its place and renamed when it
// is whole.
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>

#include "source/redis/copy_keys.h"
#include "source/redis/layout.h"
#include "source/redis/redis_source.h"

namespace kuramori::redis {
namespace {

constexpr Duration kRewriteLimit = std::chrono::hours(4);
constexpr Duration kPollStep = std::chrono::milliseconds(50);

bool is_url(std::string_view to) {
  return to.starts_with("redis://") || to.starts_with("rediss://") || to.starts_with("unix://");
}

// The process that works in this folder, if there is one: a Redis enters its `dir`.
std::optional<int> process_in(const std::string& folder) {
  struct stat wanted{}, there{};
  const auto processes = list_folder("/proc");
  if (::stat(folder.c_str(), &wanted) != 0 || !processes) return std::nullopt;
  for (const FolderEntry& entry : *processes) {
    int pid = 0;
    auto [end, failed] = std::from_chars(entry.name.data(), entry.name.data() + entry.name.size(), pid);
    if (failed != std::errc() || *end != '\0') continue;
    const std::string cwd = fmt::format("/proc/{}/cwd", pid);
    if (::stat(cwd.c_str(), &there) != 0 || there.st_ino != wanted.st_ino || there.st_dev != wanted.st_dev)
      continue;
    const Result<std::string> program = read_link(fmt::format("/proc/{}/exe", pid));
    if (program &&
        (program->find("redis") != std::string::npos || program->find("valkey") != std::string::npos))
      return pid;
  }
  return std::nullopt;
}

// Each database's keys are those of the file but what expires while it is loaded.
Result<void> expect_loaded(const Layout& layout, Connection& connection, std::vector<std::string>& notes) {
  if (layout.aof) return {};
  TRY_ASSIGN(auto found, count_keys(connection));
  uint64_t gone = 0;
  for (const auto& [database, counts] : layout.rdb.databases) {
    const uint64_t keys = found[database];
    const uint64_t may_go = counts.expiring + counts.perhaps_expired;
    if (keys > counts.keys || keys + may_go < counts.keys) {
      return fail(ErrorKind::kBrokenPromise, "the server did not load all of the snapshot",
                  fmt::format("database {}: {} keys of {}", database, keys, counts.keys));
    }
    gone += counts.keys - keys;
  }
  if (gone > 0) notes.push_back(fmt::format("{} keys had expired since the snapshot", gone));
  return {};
}

Result<void> loadable(const Layout& layout) {
  if (layout.rdb.module_data == 0) return {};
  return fail(ErrorKind::kRefused, "the snapshot holds data of modules",
              "servers are started here without any",
              "restore into a folder, and start a server with these modules on it");
}

// --- into a folder -----------------------------------------------------------------------------------------

class FolderRestore {
 public:
  FolderRestore(const RedisSettings& settings, const CapturedTree& tree, const SourceRestoreRequest& request,
                Reporter& reporter, std::stop_token stop)
      : settings_(settings),
        tree_(tree),
        request_(request),
        reporter_(reporter),
        stop_(std::move(stop)),
        staging_(request.to + ".kuramori-new") {}

  Result<SourceRestoreOutcome> run() {
    TRY(look_at_target());
    if (!in_place_) {
      TRY(remove_leftovers());
      TRY(make_folders(staging_));
    }
    Result<void> made = make();
    if (!made) {
      (void)remove_leftovers();
      return std::move(made).error();
    }
    if (!in_place_) TRY(put_in_place());
    return std::move(outcome_);
  }

 private:
  Result<void> look_at_target() {
    outcome_.target = request_.to;
    TRY_ASSIGN(there_, status_if_there(request_.to));
    if (!there_) return {};
    if (there_->type != FileType::kFolder)
      return fail(ErrorKind::kRefused, fmt::format("{} is no folder", request_.to), "", "name another --to");
    if (const std::optional<int> pid = process_in(request_.to)) {
      return fail(ErrorKind::kRefused, fmt::format("a server works in {}", request_.to),
                  fmt::format("process {}", *pid),
                  "stop it first, or restore into it: --to redis://HOST:PORT");
    }
    TRY_ASSIGN(const auto entries, list_folder(request_.to));
    is_full_ = !entries.empty();
    if (is_full_ && !request_.overwrite) {
      return fail(ErrorKind::kRefused, fmt::format("{} is not empty", request_.to),
                  "what is there would be replaced",
                  "name an empty folder, or say --overwrite: what is there is moved aside");
    }
    // What something is mounted on cannot be renamed (P45): it is filled as it stands.
    TRY_ASSIGN(const FileStatus above, status_of(folder_of(request_.to)));
    if (above.device == there_->device) return {};
    if (is_full_) {
      return fail(ErrorKind::kRefused,
                  fmt::format("{} is a mount point, so what is there cannot be moved aside", request_.to),
                  "it is not empty", "move aside what is in it, or name a folder below it");
    }
    in_place_ = true;
    staging_ = request_.to;
    return {};
  }

  // Of this restore or of one that was killed.
  Result<void> remove_leftovers() const {
    if (!in_place_) return remove_tree(staging_);
    TRY_ASSIGN(const auto entries, list_folder(staging_));
    for (const FolderEntry& entry : entries) TRY(remove_tree(join_path(staging_, entry.name)));
    return {};
  }

  Result<void> make() {
    reporter_.phase("writing", 0);
    TRY_ASSIGN(const Layout layout, lay_out(tree_, staging_, reporter_, stop_));
    outcome_.entries = layout.entries;
    outcome_.bytes = layout.bytes;
    const Result<ServerProgram> program = loader_of(layout);
    if (program) {
      TRY(complete(layout, *program));
    } else {
      outcome_.notes.push_back(fmt::format("{} ({}), so only {} written", program.error().what,
                                           program.error().why,
                                           layout.aof ? "the append-only files were" : "dump.rdb was"));
      if (!layout.aof) {
        outcome_.notes.emplace_back(
            "a server with appendonly yes would start empty on it: start it with --appendonly no, then type "
            "CONFIG "
            "SET appendonly yes, and wait for aof_rewrite_in_progress:0");
      }
    }
    const std::string config = fmt::format(
        "# Enough to start a server on this folder; include it in, or copy it to, the server's own "
        "configuration.\n"
        "dir {}\ndbfilename dump.rdb\nappendonly {}\nappenddirname \"{}\"\n",
        request_.to, program || layout.aof ? "yes" : "no", kAofFolder);
    TRY(write_new_file(join_path(staging_, "redis.conf"), as_bytes(config)));
    return give_to_owner(staging_);
  }

  Result<ServerProgram> loader_of(const Layout& layout) const {
    TRY(loadable(layout));
    return choose_program(find_server_programs(settings_.program_folders), layout.flavour,
                          layout.rdb_version);
  }

  // The half that is missing, by a server that has loaded the other.
  Result<void> complete(const Layout& layout, const ServerProgram& program) {
    reporter_.phase("loading", 0);
    TRY_ASSIGN(PrivateServer server, PrivateServer::start({.program = program,
                                                           .folder = staging_,
                                                           .append_only = layout.aof,
                                                           .more = {"--auto-aof-rewrite-percentage", "0"},
                                                           .stop = stop_}));
    TRY(expect_loaded(layout, server.connection(), outcome_.notes));
    if (layout.aof) {
      TRY(server.connection().call({"SAVE"}, kRewriteLimit));
    } else {
      TRY(server.connection().call({"CONFIG", "SET", "appendonly", "yes"}));
      TRY(await_rewrite(server.connection()));
    }
    TRY(server.stop());
    outcome_.notes.push_back(
        fmt::format("dump.rdb and the append-only files hold the same keys: the server may be "
                    "started with appendonly yes or no (written by {})",
                    program.describe()));
    if (!layout.aof && program.rdb_version() > layout.rdb_version) {
      outcome_.notes.push_back(
          fmt::format("its append-only files need a server of RDB version {} or newer, its "
                      "dump.rdb one of {}",
                      program.rdb_version(), layout.rdb_version));
    }
    return {};
  }

  Result<void> await_rewrite(Connection& connection) {
    const Duration begun = system_clock().steady();
    for (;;) {
      TRY_ASSIGN(const Info info, read_info(connection, "persistence"));
      const bool at_work =
          number_in(info, "aof_rewrite_in_progress") != 0 || number_in(info, "aof_rewrite_scheduled") != 0;
      if (!at_work) {
        if (text_in(info, "aof_last_bgrewrite_status") == "ok" && number_in(info, "aof_enabled") == 1)
          return {};
        return fail(
            ErrorKind::kFailed, "the append-only file could not be written",
            fmt::format("aof_last_bgrewrite_status is {}", text_in(info, "aof_last_bgrewrite_status")),
            "is there memory for the fork, and space on the disk?");
      }
      if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
      if (system_clock().steady() - begun > kRewriteLimit)
        return fail(ErrorKind::kUnknown, "the append-only file was not written in time");
      system_clock().sleep(kPollStep);
    }
  }

  // Whoever the folder belonged to; a new one belongs to us.
  Result<void> give_to_owner(const std::string& path) {
    if (!there_ || ::geteuid() != 0) return {};
    TRY_ASSIGN(const auto entries, list_folder(path));
    for (const FolderEntry& entry : entries) {
      const std::string below = join_path(path, entry.name);
      if (entry.type == FileType::kFolder) TRY(give_to_owner(below));
      if (::lchown(below.c_str(), there_->uid, there_->gid) != 0)
        return system_error("chown " + below, errno);
    }
    if (::lchown(path.c_str(), there_->uid, there_->gid) != 0 || ::chmod(path.c_str(), there_->mode) != 0)
      return system_error("chown " + path, errno);
    return {};
  }

  Result<void> put_in_place() {
    if (is_full_) {
      outcome_.moved_aside =
          fmt::format("{}.old-{}", request_.to, to_unix_ns(system_clock().now()) / 1'000'000'000);
      if (::rename(request_.to.c_str(), outcome_.moved_aside.c_str()) != 0)
        return system_error("move aside " + request_.to, errno);
    }
    if (::rename(staging_.c_str(), request_.to.c_str()) != 0)
      return system_error(fmt::format("rename {} to {}", staging_, request_.to), errno);
    return sync_folder(folder_of(request_.to));
  }

  const RedisSettings& settings_;
  const CapturedTree& tree_;
  const SourceRestoreRequest& request_;
  Reporter& reporter_;
  std::stop_token stop_;
  std::string staging_;  // beside the target; the target itself when something is mounted there
  std::optional<FileStatus> there_;
  bool is_full_ = false, in_place_ = false;
  SourceRestoreOutcome outcome_;
};

// --- into a server -----------------------------------------------------------------------------------------

// The credentials of the resource are for the resource's own server alone.
Result<Endpoint> target_of(const RedisSettings& settings, const std::string& to) {
  TRY_ASSIGN(Endpoint target, parse_url(to));
  const Result<Endpoint> own = endpoint_of(settings);
  const bool same = own && target.password.empty() && own->host == target.host && own->port == target.port &&
                    own->socket == target.socket && (target.user.empty() || target.user == own->user);
  return same ? *own : target;
}

Result<void> look_at_server(Connection& target, const SourceRestoreRequest& request) {
  TRY_ASSIGN(const Info info, read_info(target));
  const std::string name = target.endpoint().describe();
  if (text_in(info, "role") == "slave") {
    return fail(ErrorKind::kRefused, fmt::format("{} is a replica", name),
                "its master would take everything back",
                "restore into the master, or type: REPLICAOF NO ONE");
  }
  if (number_in(info, "cluster_enabled") == 1) {
    return fail(ErrorKind::kRefused, fmt::format("{} is a node of a cluster", name),
                "it takes its own slots alone",
                "restore into a folder, and import from there: redis-cli --cluster import");
  }
  if (number_in(info, "loading") == 1)
    return fail(ErrorKind::kRefused, fmt::format("{} is loading its data", name), "",
                "try again when it is ready");
  if (request.overwrite) return {};
  if (number_in(info, "connected_slaves") > 0) {
    return fail(ErrorKind::kRefused, fmt::format("{} has replicas", name), "they would get all of it too",
                "say --overwrite if that is meant");
  }
  uint64_t keys = 0;
  for (const auto& [database, count] : keys_in(info)) keys += count;
  if (keys > 0) {
    return fail(ErrorKind::kRefused, fmt::format("{} is not empty", name),
                fmt::format("it holds {} keys", keys),
                "restore into an empty server, or say --overwrite: all its keys go first");
  }
  return {};
}

Result<SourceRestoreOutcome> restore_to_server(const RedisSettings& settings, const CapturedTree& tree,
                                               const SourceRestoreRequest& request, Reporter& reporter,
                                               const std::stop_token& stop) {
  TRY_ASSIGN(const Endpoint endpoint, target_of(settings, request.to));
  TRY_ASSIGN(Connection target, Connection::open(endpoint, stop));
  TRY(look_at_server(target, request));
  TRY_ASSIGN(const TemporaryFolder folder, TemporaryFolder::make("kuramori-redis-restore"));
  reporter.phase("writing", 0);
  TRY_ASSIGN(const Layout layout, lay_out(tree, folder.path(), reporter, stop));
  TRY(loadable(layout));
  TRY_ASSIGN(const ServerProgram program, choose_program(find_server_programs(settings.program_folders),
                                                         layout.flavour, layout.rdb_version));
  reporter.phase("loading", 0);
  TRY_ASSIGN(PrivateServer source,
             PrivateServer::start(
                 {.program = program, .folder = folder.path(), .append_only = layout.aof, .stop = stop}));
  SourceRestoreOutcome outcome;
  TRY(expect_loaded(layout, source.connection(), outcome.notes));
  reporter.phase("copying", layout.bytes);
  TRY_ASSIGN(const CopiedKeys copied,
             copy_keys(source, target, request.overwrite ? What::kReplace : What::kFill, reporter, stop));
  TRY(source.stop());
  outcome.target = endpoint.describe();
  outcome.entries = layout.entries;
  outcome.bytes = layout.bytes;
  outcome.notes.insert(outcome.notes.begin(),
                       fmt::format("{} keys in {} databases", copied.keys, copied.databases));
  if (copied.expired > 0)
    outcome.notes.push_back(fmt::format("{} more expired while they were copied", copied.expired));
  return outcome;
}

}  // namespace

Result<SourceRestoreOutcome> restore_redis(const RedisSettings& settings, const CapturedTree& tree,
                                           const SourceRestoreRequest& request, Reporter& reporter,
                                           std::stop_token stop) {
  if (!request.only.empty()) {
    return fail(ErrorKind::kUsage, "a part of a Redis snapshot cannot be restored", "its file holds all keys",
                "restore it into an empty server, and take the keys from there");
  }
  if (is_url(request.to)) return restore_to_server(settings, tree, request, reporter, stop);
  if (!request.to.starts_with('/')) {
    return fail(ErrorKind::kUsage, fmt::format("cannot restore to \"{}\"", request.to),
                "it is neither an absolute path nor an address", "--to /path or --to redis://HOST:PORT");
  }
  SourceRestoreRequest plain = request;
  while (plain.to.size() > 1 && plain.to.ends_with('/')) plain.to.pop_back();
  return FolderRestore(settings, tree, plain, reporter, std::move(stop)).run();
}

}  // namespace kuramori::redis
