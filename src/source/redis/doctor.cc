#include "source/redis/doctor.h"

#include <fmt/core.h>

#include <algorithm>

#include "os/file.h"
#include "source/redis/rdb.h"
#include "source/redis/save.h"

namespace kuramori::redis {
namespace {

using Severity = SourceFinding::Severity;

// The settings that are looked at.
constexpr const char* kSettings[] = {"save",
                                     "appendonly",
                                     "appendfsync",
                                     "no-appendfsync-on-rewrite",
                                     "auto-aof-rewrite-percentage",
                                     "auto-aof-rewrite-min-size",
                                     "maxmemory",
                                     "maxmemory-policy",
                                     "repl-diskless-sync",
                                     "repl-diskless-sync-delay",
                                     "protected-mode",
                                     "bind",
                                     "requirepass",
                                     "rdbchecksum",
                                     "dir"};

bool is_loopback_only(std::string_view bind) {
  while (!bind.empty()) {
    std::string_view one = bind.substr(0, bind.find(' '));
    bind.remove_prefix(std::min(one.size() + 1, bind.size()));
    if (one.starts_with('-')) one.remove_prefix(1);  // "if it is there"
    if (!one.empty() && !one.starts_with("127.") && one != "::1" && one != "localhost") return false;
  }
  return true;
}

class Judge {
 public:
  explicit Judge(const ServerLook& look) : look_(look), version_(version_in(look.info)) {}

  std::vector<SourceFinding> run() {
    version();
    rights();
    access();
    persistence();
    append_only_profile();
    snapshots();
    topology();
    std::stable_sort(findings_.begin(), findings_.end(),
                     [](const SourceFinding& a, const SourceFinding& b) { return a.severity < b.severity; });
    return std::move(findings_);
  }

 private:
  void tell(Severity severity, std::string about, std::string what, std::string why, std::string fix) {
    findings_.push_back({severity, std::move(about), std::move(what), std::move(why), std::move(fix)});
  }
  std::string setting(const std::string& name) const {
    auto at = look_.settings.find(name);
    return at == look_.settings.end() ? std::string() : at->second;
  }
  bool known(const std::string& name) const { return look_.settings.contains(name); }

  void version() {
    if (version_.text.empty()) return;
    const int rdb = rdb_version_of(version_);
    const std::string name = fmt::format("{} {}", name_of(version_.flavour), version_.text);
    if (version_.major < 6) {
      tell(Severity::kProblem, "version", name + " is too old", "6 and newer can be captured",
           "upgrade the server");
    } else if (rdb > kNewestRdbVersion) {
      tell(Severity::kProblem, "version", name + " is newer than this program",
           fmt::format("it writes RDB version {}; {} is the newest that is known", rdb, kNewestRdbVersion),
           "update kuramori");
    } else if (const auto program = choose_program(look_.programs, version_.flavour, rdb); !program) {
      tell(Severity::kRisk, "programs", program.error().what,
           "a drill loads the snapshot in one, and a restore prepares the append-only files with it (" +
               program.error().why + ")",
           program.error().next);
    }
  }

  void rights() {
    for (const std::string& right : look_.missing_rights) {
      const bool needed = right == "+psync" || right == "+replconf" || right == "+bgsave";
      tell(needed ? Severity::kProblem : Severity::kHint, "rights",
           fmt::format("user {} lacks {}", look_.endpoint.user_name(), right),
           needed ? "a snapshot needs it" : "without it less can be looked at here",
           fmt::format("ACL SETUSER {} {}", look_.endpoint.user_name(), right));
    }
  }

  void access() {
    const bool no_password = look_.endpoint.password.empty();
    if (!look_.endpoint.is_local() && no_password) {
      tell(Severity::kRisk, "requirepass", "the server answers from elsewhere without a password",
           "whoever reaches its port reads, changes and deletes everything", "CONFIG SET requirepass …");
    } else if (known("requirepass") && setting("requirepass").empty() && setting("protected-mode") == "no" &&
               !is_loopback_only(setting("bind"))) {
      tell(Severity::kRisk, "protected-mode",
           "protected-mode is no, no password is set, and it listens to the network",
           "whoever reaches its port reads, changes and deletes everything", "CONFIG SET requirepass …");
    }
    if (!look_.endpoint.is_local() && !look_.endpoint.tls) {
      tell(Severity::kHint, "tls", "the connection is not encrypted",
           "a snapshot and the password pass in clear",
           "set tls-port on the server, and write the address as rediss://…");
    }
  }

  void persistence() {
    if (known("save") && setting("save").empty() && number_in(look_.info, "aof_enabled") == 0) {
      tell(Severity::kHint, "save", "the server keeps nothing on disk: save is empty, appendonly is no",
           "when it restarts, what came after the last snapshot is gone", "CONFIG SET appendonly yes");
    }
    if (text_in(look_.info, "rdb_last_bgsave_status") == "err") {
      tell(Severity::kProblem, "rdb_last_bgsave_status", "the server's last save failed",
           "what it cannot write it can often not send either: no memory for a fork, or a full disk",
           "look at its log; often: sysctl vm.overcommit_memory=1");
    }
    if (text_in(look_.info, "aof_last_write_status") == "err" ||
        text_in(look_.info, "aof_last_bgrewrite_status") == "err")
      tell(Severity::kProblem, "aof_last_write_status", "the server could not write its append-only file",
           "a restart loses what is missing in it", "look at its log and at the space on its disk");
    const std::string policy = setting("maxmemory-policy");
    if (number_in(look_.info, "maxmemory") > 0 && !policy.empty() && policy != "noeviction") {
      tell(Severity::kHint, "maxmemory-policy", fmt::format("maxmemory-policy is {}", policy),
           "the server drops keys by itself: a snapshot holds what it had, not what was written",
           "if it is no cache: CONFIG SET maxmemory-policy noeviction");
    }
    if (setting("rdbchecksum") == "no") {
      tell(Severity::kRisk, "rdbchecksum", "rdbchecksum is no",
           "a flipped bit in a value cannot be noticed in a snapshot",
           "set \"rdbchecksum yes\" in its configuration");
    }
  }

  // What append-only files should be set to where they are relied on (G2).
  void append_only_profile() {
    if (number_in(look_.info, "aof_enabled") != 1) {
      if (look_.aof)
        tell(Severity::kProblem, "appendonly", "appendonly is no, and aof: true is asked for",
             "there are no append-only files", "CONFIG SET appendonly yes");
      return;
    }
    if (setting("appendfsync") == "no") {
      tell(Severity::kRisk, "appendfsync", "appendfsync is no",
           "a power cut loses what the system had not written yet, half a minute or so",
           "CONFIG SET appendfsync everysec");
    }
    if (setting("no-appendfsync-on-rewrite") == "yes") {
      tell(Severity::kRisk, "no-appendfsync-on-rewrite", "no-appendfsync-on-rewrite is yes",
           "while the file is rewritten nothing is synced: a power cut then loses all of that time",
           "CONFIG SET no-appendfsync-on-rewrite no");
    }
    if (setting("auto-aof-rewrite-percentage") == "0") {
      tell(Severity::kHint, "auto-aof-rewrite-percentage",
           "the append-only file is never rewritten by itself",
           "it grows without end, and a restart takes ever longer",
           "CONFIG SET auto-aof-rewrite-percentage 100");
    }
  }

  void snapshots() {
    if (setting("repl-diskless-sync") == "yes" && setting("repl-diskless-sync-delay") != "0" &&
        look_.way != Way::kSave && !look_.aof) {
      tell(Severity::kHint, "repl-diskless-sync-delay",
           fmt::format("every snapshot begins {} s late", setting("repl-diskless-sync-delay")),
           "the server waits for more replicas to come", "CONFIG SET repl-diskless-sync-delay 0");
    }
    const std::string dir = setting("dir");
    if (!look_.data_dir.empty() && !dir.empty() && dir != look_.data_dir) {
      tell(look_.way == Way::kSave || look_.aof ? Severity::kProblem : Severity::kHint, "data_dir",
           fmt::format("data_dir is {}, the server's is {}", look_.data_dir, dir),
           "unless it is the same folder by another name, the files are not there", "data_dir: " + dir);
    }
  }

  void topology() {
    if (number_in(look_.info, "cluster_enabled") == 1) {
      tell(Severity::kRisk, "cluster", "it is one node of a cluster",
           "its snapshot holds its own slots alone", "declare each master as a resource of its own");
    }
    if (text_in(look_.info, "role") == "slave" && text_in(look_.info, "master_link_status") != "up") {
      tell(Severity::kProblem, "replication", "it is a replica that has lost its master",
           "it gives no snapshot over the wire until it is back, and falls behind", "look at the master");
    }
  }

  const ServerLook& look_;
  const ServerVersion version_;
  std::vector<SourceFinding> findings_;
};

bool is_denied(const Result<Reply>& reply) {
  return reply && reply->error_code() == "NOPERM";
}

// PSYNC cannot be tried without a snapshot beginning; ACL DRYRUN knows, where it may be asked.
void look_at_rights(Connection& connection, ServerLook& look) {
  const bool saves = look.way == Way::kSave || look.aof;
  const std::string user(look.endpoint.user_name());
  const auto dry_run = [&](const Arguments& command, const std::string& right) {
    Arguments arguments{"ACL", "DRYRUN", user};
    arguments.insert(arguments.end(), command.begin(), command.end());
    const Result<Reply> reply = connection.ask(arguments);
    if (reply && !reply->is_error() && reply->text != "OK") look.missing_rights.push_back(right);
  };
  if (saves) {
    if (!look.aof) dry_run({"BGSAVE"}, "+bgsave");
  } else {
    if (is_denied(connection.ask({"REPLCONF", "capa", "eof"}))) look.missing_rights.emplace_back("+replconf");
    dry_run({"PSYNC", "?", "-1"}, "+psync");
  }
  if (is_denied(connection.ask({"CONFIG", "GET", "dir"}))) look.missing_rights.emplace_back("+config|get");
}

}  // namespace

std::vector<SourceFinding> judge(const ServerLook& look) {
  return Judge(look).run();
}

Result<std::vector<SourceFinding>> examine_redis(const RedisSettings& settings) {
  ServerLook look{.way = settings.way, .data_dir = settings.data_dir, .aof = settings.aof};
  TRY_ASSIGN(look.endpoint, endpoint_of(settings));
  Result<Connection> connection = Connection::open(look.endpoint);
  // A server that is away is the finding, not the end of looking.
  const auto away = [](const Error& error) {
    return std::vector<SourceFinding>{{Severity::kProblem, "connection", error.what, error.why, error.next}};
  };
  if (!connection) return away(connection.error());
  Result<Info> info = read_info(*connection);
  if (info) {
    look.info = std::move(*info);
  } else if (info.error().kind == ErrorKind::kDenied && info.error().next.starts_with("ACL")) {
    look.missing_rights.emplace_back("+info");
  } else {
    return away(info.error());
  }
  look_at_rights(*connection, look);
  for (const char* name : kSettings) {
    const Result<Reply> reply = connection->ask({"CONFIG", "GET", name});
    if (reply && reply->elements.size() == 2) look.settings[name] = reply->elements[1].text;
  }
  look.programs = find_server_programs(settings.program_folders);
  return judge(look);
}

std::vector<SourceClient> needed_clients(const RedisSettings& settings) {
  const std::vector<ServerProgram> here = find_server_programs(settings.program_folders);
  SourceClient client{.program = "redis-server or valkey-server", .purpose = "drills and restores"};
  const auto shown = [](const ServerProgram& one) {
    return fmt::format("{} at {}", one.describe(), one.path);
  };
  const auto ask = [&]() -> Result<ServerVersion> {
    TRY_ASSIGN(const Endpoint endpoint, endpoint_of(settings));
    TRY_ASSIGN(Connection connection, Connection::open(endpoint));
    TRY_ASSIGN(const Info info, read_info(connection));
    return version_in(info);
  };
  const auto version = ask();
  if (!version || version->text.empty()) {
    client.needed = "one that reads what the server writes, which does not answer";
    client.fits = !here.empty();
    if (client.fits) client.found = shown(here.front());
    return {client};
  }
  client.needed = fmt::format("one that reads what {} {} writes", name_of(version->flavour), version->text);
  const auto chosen = choose_program(here, version->flavour, rdb_version_of(*version));
  client.fits = chosen.has_value();
  if (chosen)
    client.found = shown(*chosen);
  else if (!here.empty())
    client.found = shown(here.front());
  return {client};
}

}  // namespace kuramori::redis
