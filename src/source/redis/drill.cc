// A drill: the snapshot is loaded by a real server, which is then asked what it holds.
#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "source/redis/layout.h"
#include "source/redis/redis_source.h"

namespace kuramori::redis {
namespace {

constexpr int kSamples = 100;  // keys that are looked at in each database

class Drill {
 public:
  Drill(const RedisSettings& settings, const CapturedTree& tree, const std::string& sandbox,
        Reporter& reporter, std::stop_token stop)
      : settings_(settings), tree_(tree), sandbox_(sandbox), reporter_(reporter), stop_(std::move(stop)) {}

  Result<std::vector<CheckResult>> run() {
    reporter_.phase("reading", 0);
    Result<Layout> layout = lay_out(tree_, sandbox_, reporter_, stop_);
    if (!layout) {
      if (layout.error().kind != ErrorKind::kDamaged) return std::move(layout).error();
      tell("the file is whole", "failed", layout.error().what + ": " + layout.error().why);
      return std::move(checks_);
    }
    layout_ = std::move(*layout);
    judge_file();
    if (layout_.rdb.module_data > 0) {
      tell("a server loads it", "uncounted",
           "it holds data of modules, and servers are started without any; all else above was checked");
      return std::move(checks_);
    }
    reporter_.phase("loading", 0);
    TRY_ASSIGN(const ServerProgram program, choose_program(find_server_programs(settings_.program_folders),
                                                           layout_.flavour, layout_.rdb_version));
    const Duration begun = system_clock().steady();
    Result<PrivateServer> server = PrivateServer::start(
        {.program = program, .folder = sandbox_, .append_only = layout_.aof, .stop = stop_});
    if (!server) {
      if (server.error().kind != ErrorKind::kDamaged) return std::move(server).error();
      tell("a server loads it", "failed", server.error().what + ": " + server.error().why);
      return std::move(checks_);
    }
    tell("a server loads it", "passed",
         fmt::format("{} in {:.1f} s", program.describe(),
                     std::chrono::duration<double>(system_clock().steady() - begun).count()));
    TRY(look(server->connection()));
    TRY(server->stop());
    return std::move(checks_);
  }

 private:
  void tell(std::string name, std::string verdict, std::string detail) {
    checks_.push_back({std::move(name), std::move(verdict), std::move(detail)});
  }

  void judge_file() {
    const RdbSummary& rdb = layout_.rdb;
    if (layout_.rdb_version == 0) {
      tell("the file is whole", "bounded", "append-only files without an RDB carry no checksum");
    } else if (rdb.checksum == RdbSummary::Checksum::kVerified) {
      tell("the file is whole", "passed", fmt::format("{} bytes, checksum verified", rdb.bytes));
    } else {
      tell("the file is whole", "bounded",
           fmt::format("{} bytes; its structure is, but it was written without a checksum (rdbchecksum)",
                       rdb.bytes));
    }
    if (layout_.aof) return;
    std::map<uint64_t, uint64_t> keys;
    for (const auto& [database, counts] : rdb.databases) {
      if (counts.keys > 0) keys[database] = counts.keys;
    }
    const bool same = keys == captured_keys();
    tell("keys as captured", same ? "passed" : "failed",
         same ? fmt::format("{} in {} databases", rdb.keys(), keys.size())
              : fmt::format("the file holds {} keys, the snapshot says {}", rdb.keys(), fact("keys")));
  }

  Result<void> look(Connection& connection) {
    TRY_ASSIGN(const auto found, count_keys(connection));
    if (layout_.aof) {
      TRY(compare_with_count(connection, found));
    } else {
      TRY(compare_with_file(found));
    }
    return sample(connection, found);
  }

  // A server drops what has expired when it loads, so from the file follow a least and a most for each
  // database: what had expired before it started, and what has by now.
  Result<void> compare_with_file(std::map<uint64_t, uint64_t> found) {
    TRY_ASSIGN(const RdbSummary by_now, count_again(sandbox_, now_ms() + 1));
    uint64_t sum = 0, gone = 0, differing = 0;
    bool exact = true;
    std::string which;
    for (const auto& [database, counts] : layout_.rdb.databases) {
      const uint64_t keys = found[database];
      const DatabaseCounts& later = by_now.databases.at(database);
      const uint64_t most = counts.keys - counts.expired;
      const uint64_t dropped = later.expired + later.perhaps_expired;
      const uint64_t least = later.keys - std::min(later.keys, dropped);
      if (keys > most || keys < least) {
        ++differing;
        if (which.empty())
          which = fmt::format("database {}: {} keys, expected {} to {}", database, keys, least, most);
      }
      exact = exact && most == least;
      sum += keys;
      gone += counts.keys - std::min(counts.keys, keys);
    }
    const std::string expired =
        gone > 0 ? fmt::format("; {} had expired since the snapshot", gone) : std::string();
    if (differing > 0) {
      tell("keys per database", "failed", which);
    } else {
      tell("keys per database", exact ? "passed" : "bounded",
           fmt::format("{} keys in {} databases{}", sum, layout_.rdb.databases.size(), expired));
    }
    return {};
  }

  // Append-only files: what the server counted when they were copied, if it was not written to meanwhile.
  Result<void> compare_with_count(Connection& connection, const std::map<uint64_t, uint64_t>& found) {
    uint64_t sum = 0;
    for (const auto& [database, keys] : found) sum += keys;
    if (fact("counted") != "exactly") {
      tell("keys per database", "uncounted",
           fmt::format("{} keys; the server was written to during the snapshot and counted about {}", sum,
                       fact("keys")));
      return {};
    }
    const auto captured = captured_keys();
    if (found == captured) {
      tell("keys per database", "passed", fmt::format("{} keys in {} databases", sum, found.size()));
      return {};
    }
    TRY_ASSIGN(const Info stats, read_info(connection, "stats"));
    const bool fewer = std::all_of(found.begin(), found.end(), [&](const auto& one) {
      auto at = captured.find(one.first);
      return at != captured.end() && one.second <= at->second;
    });
    const bool expired = fewer && number_in(stats, "expired_keys") > 0;
    tell("keys per database", expired ? "bounded" : "failed",
         fmt::format("{} keys, {} when it was taken{}", sum, fact("keys"),
                     expired ? "; some have expired since" : ""));
    return {};
  }

  // Types that were counted in the file are what the server must call them.
  Result<void> sample(Connection& connection, const std::map<uint64_t, uint64_t>& found) {
    std::set<std::string> seen;
    uint64_t looked_at = 0, wrong = 0;
    for (const auto& [database, keys] : found) {
      TRY(connection.call({"SELECT", std::to_string(database)}));
      for (int i = 0; i < kSamples && keys > 0; ++i) {
        TRY_ASSIGN(const Reply key, connection.call({"RANDOMKEY"}));
        if (key.type != Reply::Type::kText) break;  // the last of them has expired
        TRY_ASSIGN(const Reply type, connection.call({"TYPE", key.text}));
        if (type.text == "none") continue;  // expired between the two questions
        ++looked_at;
        // A module names its types itself.
        const bool known =
            layout_.aof || layout_.rdb.types.contains(type.text) || layout_.rdb.types.contains("module");
        if (!known) ++wrong;
        seen.insert(type.text);
      }
    }
    std::string names;
    for (const std::string& name : seen) names += (names.empty() ? "" : ", ") + name;
    tell("types of keys", wrong > 0 ? "failed" : "passed",
         wrong > 0 ? fmt::format("{} of {} sampled keys are of a type that the file does not hold", wrong,
                                 looked_at)
                   : fmt::format("{} keys sampled: {}", looked_at, names.empty() ? "none" : names));
    return {};
  }

  std::string fact(const std::string& name) const {
    auto at = tree_.facts().find(name);
    return at == tree_.facts().end() ? std::string() : at->second;
  }
  std::map<uint64_t, uint64_t> captured_keys() const {
    Info as_info;  // the same reading as of a server's numbers
    for (const auto& [name, value] : tree_.facts()) {
      if (name.starts_with("keys.")) as_info[name.substr(5)] = "keys=" + value;
    }
    return keys_in(as_info);
  }

  const RedisSettings& settings_;
  const CapturedTree& tree_;
  const std::string& sandbox_;
  Reporter& reporter_;
  std::stop_token stop_;
  Layout layout_;
  std::vector<CheckResult> checks_;
};

}  // namespace

Result<std::vector<CheckResult>> drill_redis(const RedisSettings& settings, const CapturedTree& tree,
                                             const std::string& sandbox, Reporter& reporter,
                                             std::stop_token stop) {
  return Drill(settings, tree, sandbox, reporter, std::move(stop)).run();
}

}  // namespace kuramori::redis
