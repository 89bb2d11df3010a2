#include <unistd.h>

#include <algorithm>
#include <thread>

#include "codec/crc64.h"
#include "source/redis/captured_for_tests.h"
#include "source/redis/layout.h"
#include "source/redis/redis_for_tests.h"

namespace kuramori::redis {
namespace {

std::unique_ptr<Source> source_of(TestServer& server, std::vector<std::string> programs) {
  return std::move(open_redis({.connect = server.url(), .program_folders = std::move(programs)})).value();
}

std::map<std::string, std::string> verdicts(const Result<std::vector<CheckResult>>& checks) {
  std::map<std::string, std::string> found;
  EXPECT_TRUE(checks) << (checks ? "" : checks.error().what + ": " + checks.error().why);
  if (checks) {
    for (const CheckResult& check : *checks) found[check.name] = check.verdict;
  }
  return found;
}

class RedisRestore : public testing::TestWithParam<std::string> {
 protected:
  std::vector<std::string> programs_ = {test_programs(GetParam())};
  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-redis-restore");
};

TEST_P(RedisRestore, into_a_folder_serves_a_server_with_append_only_files_on_or_off_S17_G3) {
  TestServer server(GetParam());
  fill_at_random(server, 31, 170);
  const auto source = source_of(server, programs_);
  const MemoryTree tree = captured(*source).value();
  // What S17 warns of: the plain file in the folder of a server with appendonly yes.
  ASSERT_TRUE(make_folders(folder_ / "naive"));
  ASSERT_TRUE(write_new_file(folder_ / "naive/dump.rdb", tree.entries[1].second));
  EXPECT_TRUE(TestServer(GetParam(), folder_ / "naive", {}, true).keys().empty());

  const std::string target = folder_ / "data";
  const auto restored = source->restore(tree, {.to = target}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  EXPECT_EQ(restored->entries, 2u);
  EXPECT_EQ(restored->bytes, tree.entries[1].second.size());
  EXPECT_EQ(read_file(target + "/dump.rdb").value(), tree.entries[1].second);
  const auto expected = contents(server);
  for (bool append_only : {true, false}) {
    TestServer again(GetParam(), target, {}, append_only);
    EXPECT_EQ(again.keys(), server.keys()) << append_only;
    EXPECT_TRUE(contents(again) == expected) << append_only;
  }
  // Its own note starts a server too.
  const std::string config = std::string(as_text(read_file(target + "/redis.conf").value()));
  EXPECT_NE(config.find("dir " + target + "\n"), std::string::npos);
  EXPECT_FALSE(*status_if_there(target + ".kuramori-new"));
}

TEST_P(RedisRestore, into_a_folder_that_is_full_or_at_work_is_refused) {
  TestServer server(GetParam());
  server.call({"SET", "a", "1"});
  const auto source = source_of(server, programs_);
  const MemoryTree tree = captured(*source).value();
  ASSERT_TRUE(make_folders(folder_ / "data"));
  ASSERT_TRUE(write_new_file(folder_ / "data/precious", as_bytes("x")));
  const auto refused = source->restore(tree, {.to = folder_ / "data"}, silent_reporter(), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(list_folder(folder_ / "data")->size(), 1u);

  const auto replaced =
      source->restore(tree, {.to = folder_ / "data", .overwrite = true}, silent_reporter(), {});
  ASSERT_TRUE(replaced) << replaced.error().what;
  EXPECT_TRUE(*status_if_there(replaced->moved_aside + "/precious"));
  EXPECT_EQ(TestServer(GetParam(), folder_ / "data", {}, true).keys(), server.keys());

  const auto at_work =
      source->restore(tree, {.to = server.folder(), .overwrite = true}, silent_reporter(), {});
  ASSERT_FALSE(at_work);
  EXPECT_EQ(at_work.error().kind, ErrorKind::kRefused);
  for (const char* to : {"relative", "redis://", "/proc/self/status"})
    EXPECT_FALSE(source->restore(tree, {.to = to}, silent_reporter(), {})) << to;
  EXPECT_FALSE(source->restore(tree, {.to = folder_ / "b", .only = {"dump.rdb"}}, silent_reporter(), {}));
}

TEST_P(RedisRestore, into_a_mount_point_fills_it_as_it_stands_P45) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root mounts";
  TestServer server(GetParam());
  server.call({"SET", "a", "1"});
  const auto source = source_of(server, programs_);
  const MemoryTree tree = captured(*source).value();
  const std::string volume = folder_ / "volume";
  ASSERT_TRUE(make_folders(volume));
  if (!run_checked({.argv = {"mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", volume}}))
    GTEST_SKIP() << "this machine mounts nothing";
  MemoryTree damaged = tree;
  damaged.content("dump.rdb").pop_back();
  const auto refused = source->restore(damaged, {.to = volume}, silent_reporter(), {});
  const bool left_empty = list_folder(volume)->empty();
  const auto restored = source->restore(tree, {.to = volume}, silent_reporter(), {});
  std::map<uint64_t, uint64_t> keys;
  if (restored) keys = TestServer(GetParam(), volume, {}, true).keys();
  const auto again = source->restore(tree, {.to = volume, .overwrite = true}, silent_reporter(), {});
  ASSERT_TRUE(run_checked({.argv = {"umount", volume}}));
  EXPECT_FALSE(refused);
  EXPECT_TRUE(left_empty);
  ASSERT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  EXPECT_EQ(keys, server.keys());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kRefused);
}

TEST_P(RedisRestore, of_modules_data_gives_back_the_file_and_says_what_it_needs) {
  using namespace std::string_view_literals;
  TestServer server(GetParam());
  const auto source = source_of(server, programs_);
  MemoryTree tree = captured(*source).value();
  Bytes& rdb = tree.content("dump.rdb");
  rdb = to_bytes(as_bytes("REDIS0009\xfe\x00\x07\x01m\x81\x01\x02\x03\x04\x05\x06\x07\x08\x00\xff"sv));
  append_le<uint64_t>(rdb, crc64(rdb));
  tree.its_facts["keys.db0"] = tree.its_facts["keys"] = "1";
  const auto restored = source->restore(tree, {.to = folder_ / "data"}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  EXPECT_EQ(read_file(folder_ / "data/dump.rdb").value(), rdb);
  EXPECT_NE(restored->notes.front().find("modules"), std::string::npos);
  const auto refused = source->restore(tree, {.to = server.url()}, silent_reporter(), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  const TemporaryFolder sandbox = *TemporaryFolder::make("kuramori-redis-drill");
  EXPECT_EQ(verdicts(source->drill(tree, sandbox.path(), silent_reporter(), {})),
            (std::map<std::string, std::string>{{"the file is whole", "passed"},
                                                {"keys as captured", "passed"},
                                                {"a server loads it", "uncounted"}}));
}

TEST_P(RedisRestore, into_a_server_that_cannot_take_it_leaves_what_it_holds) {
  TestServer server(GetParam());
  fill_at_random(server, 36, 5);  // also in database 15
  const auto source = source_of(server, programs_);
  const MemoryTree tree = captured(*source).value();
  TestServer few(GetParam(), {"--databases", "4"});
  few.call({"SET", "precious", "x"});
  std::vector<TestServer*> targets = {&few};
  std::unique_ptr<TestServer> old;
  if (server.server().program().rdb_version() > 10 && !test_programs("redis7").empty()) {
    old = std::make_unique<TestServer>("redis7");
    old->call({"SET", "precious", "x"});
    targets.push_back(old.get());
  }
  for (TestServer* target : targets) {
    const auto restored =
        source->restore(tree, {.to = target->url(), .overwrite = true}, silent_reporter(), {});
    ASSERT_FALSE(restored);
    EXPECT_FALSE(restored.error().next.empty());
    EXPECT_EQ(target->call({"SELECT", "0"}).text, "OK");
    EXPECT_EQ(target->call({"EXISTS", "precious"}).integer, 1);
  }
}

TEST_P(RedisRestore, of_a_damaged_snapshot_leaves_no_folder) {
  TestServer server(GetParam());
  fill_at_random(server, 32, 20);
  const auto source = source_of(server, programs_);
  MemoryTree tree = captured(*source).value();
  tree.content("dump.rdb")[tree.content("dump.rdb").size() / 2] ^= 4;
  const auto restored = source->restore(tree, {.to = folder_ / "data"}, silent_reporter(), {});
  ASSERT_FALSE(restored);
  EXPECT_TRUE(restored.error().kind == ErrorKind::kDamaged || restored.error().kind == ErrorKind::kRefused);
  EXPECT_TRUE(list_folder(folder_.path())->empty());
}

TEST_P(RedisRestore, without_a_server_program_writes_the_file_and_says_what_to_do) {
  TestServer server(GetParam());
  server.call({"SET", "a", "1"});
  const MemoryTree tree = captured(*source_of(server, programs_)).value();
  const char* as_it_is = std::getenv("PATH");
  const std::string path = as_it_is != nullptr ? as_it_is : "";
  ::setenv("PATH", "/nowhere", 1);
  const auto restored = source_of(server, {})->restore(tree, {.to = folder_ / "data"}, silent_reporter(), {});
  const TemporaryFolder sandbox = *TemporaryFolder::make("kuramori-redis-drill");
  const auto drilled = source_of(server, {})->drill(tree, sandbox.path(), silent_reporter(), {});
  ::setenv("PATH", path.c_str(), 1);
  ASSERT_TRUE(restored) << restored.error().what;
  EXPECT_TRUE(*status_if_there(folder_ / "data/dump.rdb"));
  EXPECT_FALSE(*status_if_there(folder_ / "data/appendonlydir"));
  std::string notes;
  for (const std::string& note : restored->notes) notes += note + "\n";
  EXPECT_NE(notes.find("CONFIG SET appendonly yes"), std::string::npos) << notes;
  ASSERT_FALSE(drilled);
  EXPECT_EQ(drilled.error().kind, ErrorKind::kNotFound);
}

TEST_P(RedisRestore, into_a_running_empty_server_brings_every_key_with_its_time_to_live_G3) {
  TestServer server(GetParam());
  fill_at_random(server, 33, 150);
  server.call({"SELECT", "0"});
  const auto source = source_of(server, programs_);
  const MemoryTree tree = captured(*source).value();
  const std::string port = std::to_string(free_port());
  TestServer target(GetParam(), {"--port", port, "--bind", "127.0.0.1"}, true);
  target.call({"CONFIG", "SET", "requirepass", "pass"});
  const std::string url = "redis://:pass@127.0.0.1:" + port;
  const auto restored = source->restore(tree, {.to = url}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  EXPECT_EQ(restored->notes.front(),
            fmt::format("{} keys in {} databases", tree.number("keys"), server.keys().size()));
  EXPECT_EQ(restored->target.find("pass"), std::string::npos);
  EXPECT_EQ(target.keys(), server.keys());
  EXPECT_TRUE(contents(target) == contents(server));
  if (!is_redis6(server)) {
    EXPECT_EQ(target.call({"FUNCTION", "LIST"}).elements.size(),
              server.call({"FUNCTION", "LIST"}).elements.size());
  }

  // Now it holds keys.
  target.call({"SET", "other", "x"});
  const auto again = source->restore(tree, {.to = url}, silent_reporter(), {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(target.call({"EXISTS", "other"}).integer, 1);
  const auto over = source->restore(tree, {.to = url, .overwrite = true}, silent_reporter(), {});
  ASSERT_TRUE(over) << over.error().what << ": " << over.error().why;
  EXPECT_EQ(target.call({"EXISTS", "other"}).integer, 0);
  EXPECT_EQ(target.keys(), server.keys());
}

TEST_P(RedisRestore, into_a_server_with_replicas_or_a_replica_is_refused) {
  TestServer server(GetParam());
  server.call({"SET", "a", "1"});
  const auto source = source_of(server, programs_);
  const MemoryTree tree = captured(*source).value();
  const std::string port = std::to_string(free_port());
  TestServer master(GetParam(), {"--port", port, "--bind", "127.0.0.1"});
  TestServer replica(GetParam());
  replica.call({"REPLICAOF", "127.0.0.1", port});
  for (int i = 0; i < 200; ++i) {
    if (text_in(*read_info(replica.connection(), "replication"), "master_link_status") == "up") break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  for (TestServer* target : {&master, &replica}) {
    const auto refused = source->restore(tree, {.to = target->url()}, silent_reporter(), {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  }
  EXPECT_TRUE(master.keys().empty());
  EXPECT_TRUE(source->restore(tree, {.to = master.url(), .overwrite = true}, silent_reporter(), {}));
  EXPECT_EQ(master.keys(), server.keys());
}

TEST_P(RedisRestore, of_append_only_files_serves_a_server_without_them_too_G2) {
  TestServer server(GetParam(), {}, true);
  if (is_redis6(server)) GTEST_SKIP() << "its append-only file is refused in words";
  fill_at_random(server, 34, 30);
  // While the disk is slow the server holds back what it has not written yet, for two seconds at most.
  for (int i = 0; i < 600; ++i) {
    const auto info = *read_info(server.connection(), "persistence");
    if (text_in(info, "aof_buffer_length") == "0" && text_in(info, "aof_pending_bio_fsync") == "0") break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  const auto source = std::move(open_redis({.connect = server.url(),
                                            .data_dir = server.folder(),
                                            .aof = true,
                                            .program_folders = programs_}))
                          .value();
  const MemoryTree tree = captured(*source).value();
  const auto restored = source->restore(tree, {.to = folder_ / "data"}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << ": " << restored.error().why;
  const auto expected = contents(server);
  for (bool append_only : {true, false}) {
    TestServer again(GetParam(), folder_ / "data", {}, append_only);
    const auto found = contents(again);
    EXPECT_EQ(found.size(), expected.size());
    for (const auto& [key, value] : expected) EXPECT_EQ(found.at(key), value) << key;
  }
}

// --- drills
// ---------------------------------------------------------------------------------------------------

TEST_P(RedisRestore, drill_loads_and_counts_and_notices_what_is_missing) {
  TestServer server(GetParam());
  fill_at_random(server, 35, 60);
  const auto source = source_of(server, programs_);
  MemoryTree tree = captured(*source).value();
  const auto drilled = [&] {
    const TemporaryFolder sandbox = *TemporaryFolder::make("kuramori-redis-drill");
    return source->drill(tree, sandbox.path(), silent_reporter(), {});
  };
  const auto checks = drilled();
  // A hash with field expiry may go any time, so the count is bounded by those; it says so only when one is
  // due.
  EXPECT_EQ(verdicts(checks), (std::map<std::string, std::string>{{"the file is whole", "passed"},
                                                                  {"keys as captured", "passed"},
                                                                  {"a server loads it", "passed"},
                                                                  {"keys per database", "passed"},
                                                                  {"types of keys", "passed"}}));
  for (const CheckResult& check : *checks) EXPECT_EQ(check.detail.find("key:"), std::string::npos);

  // Another snapshot's file under this one's facts: whole, and not what was captured.
  MemoryTree other = tree;
  server.call({"DEL", "key:35:1", "key:35:2"});
  const MemoryTree later = captured(*source).value();
  tree.content("dump.rdb") = later.entries[1].second;
  EXPECT_EQ(verdicts(drilled()).at("keys as captured"), "failed");

  tree = other;
  tree.content("dump.rdb").back() ^= 1;
  EXPECT_EQ(verdicts(drilled()), (std::map<std::string, std::string>{{"the file is whole", "failed"}}));
}

TEST_P(RedisRestore, drill_allows_for_what_expired_since_and_no_more) {
  TestServer server(GetParam());
  for (int i = 0; i < 50; ++i) server.call({"SET", "k" + std::to_string(i), "v"});
  for (int i = 0; i < 20; ++i) server.call({"SET", "soon" + std::to_string(i), "v", "PX", "300"});
  const auto source = source_of(server, programs_);
  const MemoryTree tree = captured(*source).value();
  EXPECT_EQ(tree.number("keys"), 70u);
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  const TemporaryFolder sandbox = *TemporaryFolder::make("kuramori-redis-drill");
  const auto checks = source->drill(tree, sandbox.path(), silent_reporter(), {});
  EXPECT_EQ(verdicts(checks).at("keys per database"), "passed");
  bool said = false;
  for (const CheckResult& check : *checks)
    said = said || check.detail.find("20 had expired") != std::string::npos;
  EXPECT_TRUE(said);
}

INSTANTIATE_TEST_SUITE_P(Servers, RedisRestore, testing::ValuesIn(test_server_names()),
                         [](const auto& of) { return of.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RedisRestore);

}  // namespace
}  // namespace kuramori::redis
