#include "source/redis/doctor.h"

#include <algorithm>

#include "source/redis/redis_for_tests.h"

namespace kuramori::redis {
namespace {

using Severity = SourceFinding::Severity;

const SourceFinding* about(const std::vector<SourceFinding>& findings, std::string_view what) {
  auto at = std::find_if(findings.begin(), findings.end(),
                         [&](const SourceFinding& one) { return one.about == what; });
  return at == findings.end() ? nullptr : &*at;
}

ServerLook sound() {
  ServerLook look;
  look.endpoint = *parse_url("unix:///run/redis.sock");
  look.info = {
      {"redis_version", "7.2.4"}, {"role", "master"}, {"aof_enabled", "1"}, {"rdb_last_bgsave_status", "ok"}};
  look.settings = {{"save", "3600 1"},
                   {"appendonly", "yes"},
                   {"appendfsync", "everysec"},
                   {"no-appendfsync-on-rewrite", "no"},
                   {"auto-aof-rewrite-percentage", "100"},
                   {"maxmemory-policy", "noeviction"},
                   {"repl-diskless-sync", "yes"},
                   {"repl-diskless-sync-delay", "0"},
                   {"rdbchecksum", "yes"},
                   {"requirepass", "set"}};
  look.programs = {{"/redis-server", parse_version(Flavour::kRedis, "8.0.2")}};
  return look;
}

TEST(RedisDoctor, finds_nothing_on_a_sound_server) {
  const auto findings = judge(sound());
  EXPECT_TRUE(findings.empty()) << findings.front().what;
}

TEST(RedisDoctor, names_each_trouble_with_its_fix_G2) {
  struct Row {
    const char* name;
    std::function<void(ServerLook&)> change;
    const char* about;
    Severity severity;
    const char* fix;
  };
  const Row rows[] = {
      {"too old", [](auto& l) { l.info["redis_version"] = "5.0.7"; }, "version", Severity::kProblem,
       "upgrade"},
      {"too new", [](auto& l) { l.info["valkey_version"] = "9.0.0"; }, "version", Severity::kProblem,
       "update kuramori"},
      {"no program", [](auto& l) { l.programs.clear(); }, "programs", Severity::kRisk,
       "apt-get install redis-server"},
      {"right", [](auto& l) { l.missing_rights = {"+psync"}; }, "rights", Severity::kProblem,
       "ACL SETUSER default +psync"},
      {"open to all", [](auto& l) { l.endpoint = *parse_url("rediss://cache.example.jp"); }, "requirepass",
       Severity::kRisk, "CONFIG SET requirepass"},
      {"not protected",
       [](auto& l) {
         l.settings["requirepass"] = "";
         l.settings["protected-mode"] = "no";
         l.settings["bind"] = "* -::*";
       },
       "protected-mode", Severity::kRisk, "CONFIG SET requirepass"},
      {"plain", [](auto& l) { l.endpoint = *parse_url("redis://:p@cache.example.jp"); }, "tls",
       Severity::kHint, "rediss://"},
      {"nothing kept",
       [](auto& l) {
         l.info["aof_enabled"] = "0";
         l.settings["save"] = "";
       },
       "save", Severity::kHint, "CONFIG SET appendonly yes"},
      {"save failed", [](auto& l) { l.info["rdb_last_bgsave_status"] = "err"; }, "rdb_last_bgsave_status",
       Severity::kProblem, "log"},
      {"evicts",
       [](auto& l) {
         l.info["maxmemory"] = "1000";
         l.settings["maxmemory-policy"] = "allkeys-lru";
       },
       "maxmemory-policy", Severity::kHint, "noeviction"},
      {"no checksum", [](auto& l) { l.settings["rdbchecksum"] = "no"; }, "rdbchecksum", Severity::kRisk,
       "rdbchecksum yes"},
      {"no sync", [](auto& l) { l.settings["appendfsync"] = "no"; }, "appendfsync", Severity::kRisk,
       "everysec"},
      {"no sync in rewrites", [](auto& l) { l.settings["no-appendfsync-on-rewrite"] = "yes"; },
       "no-appendfsync-on-rewrite", Severity::kRisk, "no-appendfsync-on-rewrite no"},
      {"late", [](auto& l) { l.settings["repl-diskless-sync-delay"] = "5"; }, "repl-diskless-sync-delay",
       Severity::kHint, "repl-diskless-sync-delay 0"},
      {"elsewhere",
       [](auto& l) {
         l.way = Way::kSave;
         l.data_dir = "/a";
         l.settings["dir"] = "/b";
       },
       "data_dir", Severity::kProblem, "data_dir: /b"},
      {"cluster", [](auto& l) { l.info["cluster_enabled"] = "1"; }, "cluster", Severity::kRisk,
       "each master"},
      {"lost master",
       [](auto& l) {
         l.info["role"] = "slave";
         l.info["master_link_status"] = "down";
       },
       "replication", Severity::kProblem, "master"},
  };
  for (const Row& row : rows) {
    ServerLook look = sound();
    row.change(look);
    const auto findings = judge(look);
    const SourceFinding* found = about(findings, row.about);
    ASSERT_NE(found, nullptr) << row.name;
    EXPECT_EQ(found->severity, row.severity) << row.name;
    EXPECT_NE(found->fix.find(row.fix), std::string::npos) << row.name << ": " << found->fix;
    EXPECT_FALSE(found->why.empty()) << row.name;
  }
}

class RedisDoctorOfServers : public testing::TestWithParam<std::string> {};

TEST_P(RedisDoctorOfServers, looks_at_a_real_one_and_at_one_that_is_away) {
  TestServer server(GetParam(), {"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "5"});
  RedisSettings settings{.connect = server.url(), .program_folders = {test_programs(GetParam())}};
  const auto found = examine_redis(settings);
  ASSERT_TRUE(found);
  EXPECT_NE(about(*found, "save"), nullptr);
  EXPECT_NE(about(*found, "repl-diskless-sync-delay"), nullptr);
  EXPECT_EQ(about(*found, "programs"), nullptr);
  EXPECT_EQ(about(*found, "rights"), nullptr);

  server.call({"ACL", "SETUSER", "weak", "on", ">p", "-@all", "+ping", "+acl|dryrun"});
  settings.connect += "?user=weak";
  settings.password = "p";
  const auto weak = examine_redis(settings);
  ASSERT_TRUE(weak);
  std::string fixes;
  for (const SourceFinding& finding : *weak) fixes += finding.fix + "\n";
  for (const char* right : {"+psync", "+replconf", "+info", "+config|get"}) {
    // Whether a PSYNC is allowed Redis 6 tells whoever begins one.
    if (GetParam() == "redis6" && std::string_view(right) == "+psync") continue;
    EXPECT_NE(fixes.find(std::string("ACL SETUSER weak ") + right), std::string::npos) << right << "\n"
                                                                                       << fixes;
  }

  settings.connect = "redis://127.0.0.1:" + std::to_string(free_port());
  const auto away = examine_redis(settings);
  ASSERT_TRUE(away);
  ASSERT_NE(about(*away, "connection"), nullptr);
  EXPECT_EQ(about(*away, "connection")->severity, Severity::kProblem);
}

INSTANTIATE_TEST_SUITE_P(Servers, RedisDoctorOfServers, testing::ValuesIn(test_server_names()),
                         [](const auto& of) { return of.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RedisDoctorOfServers);

}  // namespace
}  // namespace kuramori::redis
