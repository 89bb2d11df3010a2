#include "source/redis/aof.h"

#include <atomic>
#include <thread>

#include "source/redis/captured_for_tests.h"
#include "source/redis/redis_for_tests.h"

namespace kuramori::redis {
namespace {

TEST(AofManifest, is_read_and_written_without_history) {
  const auto files = parse_manifest(
      "file appendonly.aof.2.base.rdb seq 2 type b\n"
      "file appendonly.aof.1.incr.aof seq 1 type h\n# a remark\n"
      "file appendonly.aof.2.incr.aof seq 2 type i startoffset 12\n");
  ASSERT_TRUE(files);
  ASSERT_EQ(files->size(), 3u);
  EXPECT_TRUE((*files)[0].is_rdb());
  EXPECT_EQ((*files)[1].part, AofPart::kHistory);
  EXPECT_EQ(write_manifest(*files),
            "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n");
  for (const char* text :
       {"", "file a seq x type b\n", "file ../a seq 1 type b\n", "file a seq 1 type z\n", "seq 1 type b\n"})
    EXPECT_FALSE(parse_manifest(text)) << text;
}

TEST(AofCommands, end_where_the_last_whole_one_does_and_never_inside_a_transaction) {
  const std::string set = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n", multi = "*1\r\n$5\r\nMULTI\r\n",
                    exec = "*1\r\n$4\r\nexec\r\n", note = "#TS:1700000000\r\n";
  const std::string all = note + set + multi + set + set + exec + set;
  const std::vector<size_t> ends = {0, note.size(), note.size() + set.size(), all.size() - set.size(),
                                    all.size()};
  for (size_t size = 0; size <= all.size(); ++size) {
    for (size_t step : {size_t{1}, size_t{3}, all.size()}) {
      CommandReader reader;
      for (size_t at = 0; at < size; at += step)
        ASSERT_TRUE(reader.push(as_bytes(std::string_view(all).substr(at, std::min(step, size - at)))));
      EXPECT_EQ(reader.whole(), *(std::upper_bound(ends.begin(), ends.end(), size) - 1)) << size;
    }
  }
  for (const char* text : {"x", "*x\r\n", "*0\r\n", "*1\r\nx", "*1\r\n$1\r\nabc", "*1\r\n$\r\n", "*1\n"}) {
    CommandReader reader;
    EXPECT_FALSE(reader.push(as_bytes(text))) << text;
  }
}

class RedisAof : public testing::TestWithParam<std::string> {};

TEST_P(RedisAof, of_a_quiet_server_is_copied_by_its_manifest_and_drilled_G2) {
  TestServer server(GetParam(), {}, true);
  fill_at_random(server, 21, 40);
  server.call({"BGREWRITEAOF"});
  fill_at_random(server, 22, 45);
  const auto source = std::move(open_redis({.connect = server.url(),
                                            .data_dir = server.folder(),
                                            .aof = true,
                                            .program_folders = {test_programs(GetParam())}}))
                          .value();
  while (number_in(*read_info(server.connection(), "persistence"), "aof_rewrite_in_progress") != 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Result<MemoryTree> tree = captured(*source);
  if (is_redis6(server)) {
    ASSERT_FALSE(tree);
    EXPECT_NE(tree.error().what.find("is a single one"), std::string::npos) << tree.error().what;
    return;
  }
  ASSERT_TRUE(tree) << tree.error().what << ": " << tree.error().why;
  EXPECT_EQ(tree->its_facts.at("counted"), "exactly");
  const TemporaryFolder sandbox = *TemporaryFolder::make("kuramori-redis-drill");
  const auto checks = source->drill(*tree, sandbox.path(), silent_reporter(), {});
  ASSERT_TRUE(checks) << checks.error().what << ": " << checks.error().why;
  for (const CheckResult& check : *checks)
    EXPECT_EQ(check.verdict, "passed") << check.name << ": " << check.detail;
  EXPECT_EQ(checks->size(), 4u);
}

TEST_P(RedisAof, copied_under_writes_and_rewrites_starts_with_what_was_acknowledged_before_G2) {
  TestServer server(GetParam(), {"--auto-aof-rewrite-percentage", "0", "--appendfsync", "always"}, true);
  if (is_redis6(server)) GTEST_SKIP() << "its append-only file is refused in words";
  std::atomic<bool> done = false;
  std::atomic<uint64_t> acknowledged = 0;
  std::thread writer([&] {
    Connection connection = Connection::open(server.endpoint()).value();
    for (uint64_t i = 0; !done; ++i) {
      // A pair that must never be seen apart.
      for (const Arguments& command : {Arguments{"MULTI"}, Arguments{"SET", "left", std::to_string(i)},
                                       Arguments{"SET", "right", std::to_string(i)}, Arguments{"EXEC"}})
        connection.send(command).value();
      for (int k = 0; k < 4; ++k) (void)connection.receive().value();
      acknowledged = i;
    }
  });
  std::thread rewriter([&] {
    Connection connection = Connection::open(server.endpoint()).value();
    while (!done) {
      (void)connection.ask({"BGREWRITEAOF"});
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
  });
  const auto source =
      std::move(open_redis({.connect = server.url(), .data_dir = server.folder(), .aof = true})).value();
  std::vector<std::pair<uint64_t, MemoryTree>> taken;
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    const uint64_t before = acknowledged;
    Result<MemoryTree> tree = captured(*source);
    EXPECT_TRUE(tree) << (tree ? "" : tree.error().what + ": " + tree.error().why);
    if (tree) taken.emplace_back(before, std::move(*tree));
  }
  done = true;
  writer.join();
  rewriter.join();
  ASSERT_EQ(taken.size(), 6u);
  for (const auto& [before, tree] : taken) {
    const TemporaryFolder folder = *TemporaryFolder::make("kuramori-redis-aof");
    ASSERT_TRUE(make_folders(folder / "appendonlydir"));
    for (const auto& [entry, bytes] : tree.entries) {
      ASSERT_TRUE(entry.type != EntryType::kFile || write_new_file(folder / entry.path, bytes));
    }
    TestServer restored(GetParam(), folder.path(), {"--aof-load-truncated", "no"}, true);
    const std::string left = restored.call({"GET", "left"}).text,
                      right = restored.call({"GET", "right"}).text;
    EXPECT_EQ(left, right);
    EXPECT_GE(std::stoull(left), before);
  }
}

TEST_P(RedisAof, of_a_server_without_it_is_refused_in_words) {
  TestServer server(GetParam());
  const auto source =
      std::move(open_redis({.connect = server.url(), .data_dir = server.folder(), .aof = true})).value();
  const auto tree = captured(*source);
  ASSERT_FALSE(tree);
  EXPECT_NE(tree.error().next.find("CONFIG SET appendonly yes"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Servers, RedisAof, testing::ValuesIn(test_server_names()),
                         [](const auto& of) { return of.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RedisAof);

}  // namespace
}  // namespace kuramori::redis
