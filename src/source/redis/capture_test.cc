#include <atomic>
#include <thread>

#include "base/sanitized.h"
#include "source/redis/captured_for_tests.h"
#include "source/redis/rdb.h"
#include "source/redis/redis_for_tests.h"
#include "source/redis/save.h"

namespace kuramori::redis {
namespace {

std::unique_ptr<Source> source_of(RedisSettings settings) {
  return std::move(open_redis(std::move(settings))).value();
}

std::map<uint64_t, uint64_t> keys_in_facts(const MemoryTree& tree) {
  std::map<uint64_t, uint64_t> keys;
  for (const auto& [name, value] : tree.its_facts) {
    if (name.starts_with("keys.db")) keys[std::stoull(name.substr(7))] = std::stoull(value);
  }
  return keys;
}

class RedisCapture : public testing::TestWithParam<std::string> {};

TEST_P(RedisCapture, over_the_wire_holds_what_the_server_holds_G1) {
  for (const char* diskless : {"yes", "no"}) {
    TestServer server(GetParam(), {"--repl-diskless-sync", diskless});
    fill_at_random(server, 11, 80);
    const Result<MemoryTree> tree = captured(*source_of({.connect = server.url()}));
    ASSERT_TRUE(tree) << tree.error().what << ": " << tree.error().why;
    ASSERT_EQ(tree->entries.size(), 2u);
    EXPECT_EQ(tree->entries[0].first.path, "");
    EXPECT_EQ(tree->entries[1].first.path, "dump.rdb");
    EXPECT_EQ(keys_in_facts(*tree), server.keys()) << "diskless " << diskless;
    EXPECT_EQ(tree->its_facts.at("checksum"), "verified");
    EXPECT_EQ(tree->its_facts.at("way"), "replication");
    EXPECT_EQ(tree->its_facts.at("server_version"), server.server().program().version.text);
    EXPECT_EQ(tree->its_facts.at("flavour"), name_of(server.server().program().version.flavour));
    const Info info = *read_info(server.connection(), "replication");
    EXPECT_EQ(tree->its_facts.at("replication_id"), text_in(info, "master_replid"));
    // The program that comes with the server takes the bytes for whole.
    ASSERT_TRUE(write_new_file(server.file("captured.rdb"), tree->entries[1].second));
    const std::string checker = server.server().program().path;
    const std::string check = checker.substr(0, checker.rfind("-server")) + "-check-rdb";
    EXPECT_TRUE(run_checked({.argv = {check, server.file("captured.rdb")}}));
    // No name of a key is a fact.
    for (const auto& [name, value] : tree->its_facts)
      EXPECT_EQ((name + value).find("key:"), std::string::npos);
  }
}

TEST_P(RedisCapture, needs_four_rights_and_names_those_that_are_missing) {
  TestServer server(GetParam());
  fill_at_random(server, 12, 10);
  server.call(
      {"ACL", "SETUSER", "kuramori", "on", ">s3cret", "-@all", "+psync", "+replconf", "+ping", "+info"});
  if (!is_redis6(server)) server.call({"ACL", "SETUSER", "kuramori", "resetchannels"});
  RedisSettings settings{.connect = server.url() + "?user=kuramori", .password = "s3cret"};
  const Result<MemoryTree> tree = captured(*source_of(settings));
  ASSERT_TRUE(tree) << tree.error().what << ": " << tree.error().why;
  EXPECT_EQ(keys_in_facts(*tree), server.keys());

  // INFO is a comfort: the RDB says the version itself.
  server.call({"ACL", "SETUSER", "kuramori", "-info"});
  const Result<MemoryTree> less = captured(*source_of(settings));
  ASSERT_TRUE(less) << less.error().what << ": " << less.error().why;
  EXPECT_EQ(less->its_facts.at("server_version"), server.server().program().version.text);
  EXPECT_EQ(less->its_facts.at("flavour"), tree->its_facts.at("flavour"));

  for (const char* right : {"psync", "replconf"}) {
    server.call({"ACL", "SETUSER", "kuramori", std::string("-") + right});
    const Result<MemoryTree> none = captured(*source_of(settings));
    ASSERT_FALSE(none) << right;
    EXPECT_EQ(none.error().kind, ErrorKind::kDenied);
    EXPECT_EQ(none.error().next, "ACL SETUSER kuramori +psync +replconf");
    server.call({"ACL", "SETUSER", "kuramori", std::string("+") + right});
  }
  settings.password = "wrong";
  const Result<MemoryTree> wrong = captured(*source_of(settings));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().kind, ErrorKind::kDenied);
  EXPECT_EQ((wrong.error().what + wrong.error().why + wrong.error().next).find("wrong\""), std::string::npos);
}

TEST_P(RedisCapture, over_TLS_believes_the_right_authority_alone) {
  TemporaryFolder keys = *TemporaryFolder::make("kuramori-redis-tls");
  const auto openssl = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    ASSERT_TRUE(run_checked({.argv = arguments, .folder = keys.path()}));
  };
  openssl({"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days",
           "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"});
  const std::string port = std::to_string(free_port());
  TestServer server(GetParam(), {"--tls-port", port, "--bind", "127.0.0.1", "--tls-cert-file",
                                 keys / "cert.pem", "--tls-key-file", keys / "key.pem", "--tls-ca-cert-file",
                                 keys / "cert.pem", "--tls-auth-clients", "optional"});
  fill_at_random(server, 13, 60);
  for (const char* host : {"localhost", "127.0.0.1"}) {
    const Result<MemoryTree> tree = captured(
        *source_of({.connect = fmt::format("rediss://{}:{}", host, port), .ca_file = keys / "cert.pem"}));
    ASSERT_TRUE(tree) << tree.error().what << ": " << tree.error().why;
    EXPECT_EQ(keys_in_facts(*tree), server.keys());
  }
  const Result<MemoryTree> foreign = captured(*source_of({.connect = "rediss://127.0.0.1:" + port}));
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().kind, ErrorKind::kDenied);
  const Result<MemoryTree> plain = captured(*source_of({.connect = "redis://127.0.0.1:" + port}));
  ASSERT_FALSE(plain);
  EXPECT_FALSE(plain.error().next.empty());
}

TEST_P(RedisCapture, by_BGSAVE_waits_for_that_very_save_S16) {
  TestServer server(GetParam());
  fill_at_random(server, 14, 40);
  RedisSettings settings{.connect = server.url(), .way = Way::kSave, .data_dir = server.folder()};
  // Three in the same second: LASTSAVE stands still.
  for (int i = 0; i < 3; ++i) {
    server.call({"SET", "new:" + std::to_string(i), "x"});
    const Result<MemoryTree> tree = captured(*source_of(settings));
    ASSERT_TRUE(tree) << tree.error().what << ": " << tree.error().why;
    EXPECT_EQ(tree->its_facts.at("way"), "save");
    EXPECT_EQ(keys_in_facts(*tree), server.keys());
  }
  settings.data_dir = "/tmp";
  const Result<MemoryTree> elsewhere = captured(*source_of(settings));
  ASSERT_FALSE(elsewhere);
}

TEST_P(RedisCapture, by_BGSAVE_lets_other_children_of_the_server_end_first_S16) {
  TestServer server(GetParam(), {"--rdb-key-save-delay", "300", "--appendonly", "yes"});
  for (int i = 0; i < 2000; ++i) server.call({"SET", "k" + std::to_string(i), "x"});
  const RedisSettings settings{.connect = server.url(), .way = Way::kSave, .data_dir = server.folder()};
  server.call({"BGSAVE"});
  server.call({"SET", "later", "than that save"});
  const Result<MemoryTree> after_save = captured(*source_of(settings));
  ASSERT_TRUE(after_save) << after_save.error().what << ": " << after_save.error().why;
  EXPECT_EQ(after_save->number("keys"), 2001u);
  server.call({"BGREWRITEAOF"});
  server.call({"SET", "later still", "x"});
  const Result<MemoryTree> after_rewrite = captured(*source_of(settings));
  ASSERT_TRUE(after_rewrite) << after_rewrite.error().what << ": " << after_rewrite.error().why;
  EXPECT_EQ(after_rewrite->number("keys"), 2002u);
}

TEST_P(RedisCapture, takes_the_saved_file_where_PSYNC_is_forbidden_and_says_so) {
  TestServer server(GetParam());
  fill_at_random(server, 15, 10);
  server.call({"ACL", "SETUSER", "kuramori", "on", ">p", "-@all", "+bgsave", "+info", "+config|get"});
  NotingReporter said;
  const Result<MemoryTree> tree = captured(
      *source_of({.connect = server.url() + "?user=kuramori", .password = "p", .data_dir = server.folder()}),
      said);
  ASSERT_TRUE(tree) << tree.error().what << ": " << tree.error().why;
  EXPECT_EQ(tree->its_facts.at("way"), "save");
  EXPECT_EQ(keys_in_facts(*tree), server.keys());
  EXPECT_NE(said.said.find("dump.rdb"), std::string::npos);
}

TEST_P(RedisCapture, that_a_save_fails_is_an_error_and_no_snapshot_S16) {
  TestServer server(GetParam(), {"--rdb-key-save-delay", "100000"});
  for (int i = 0; i < 100; ++i) server.call({"SET", "k" + std::to_string(i), "x"});
  std::atomic<bool> done = false;
  std::thread killer([&] {
    // The server's child, which is the only one it has.
    const std::string children = fmt::format("/proc/{0}/task/{0}/children", server.server().pid());
    while (!done) {
      const Bytes text = read_file(children).value();
      if (!text.empty()) ::kill(std::stoi(std::string(as_text(text))), SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  const Result<MemoryTree> saved =
      captured(*source_of({.connect = server.url(), .way = Way::kSave, .data_dir = server.folder()}));
  const Result<MemoryTree> streamed = captured(*source_of({.connect = server.url()}));
  done = true;
  killer.join();
  ASSERT_FALSE(saved);
  EXPECT_NE(saved.error().what.find("could not save"), std::string::npos) << saved.error().what;
  ASSERT_FALSE(streamed);
  EXPECT_FALSE(streamed.error().why.empty());
}

TEST_P(RedisCapture, waits_for_a_server_that_is_loading_and_says_so) {
  if (GetParam() == std::string("redis6")) GTEST_SKIP() << "it cannot be told to load slowly";
  TestServer server(GetParam(), {"--key-load-delay", "2000", "--loading-process-events-interval-bytes",
                                 "1024", "--enable-debug-command", "local"});
  for (int i = 0; i < 1500; ++i) server.call({"SET", "k" + std::to_string(i), std::string(100, 'x')});
  std::thread reloading([&] { server.call({"DEBUG", "RELOAD"}); });
  Connection watcher = Connection::open(server.endpoint()).value();
  while (number_in(*read_info(watcher, "persistence"), "loading") == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  NotingReporter said;
  const Result<MemoryTree> tree = captured(*source_of({.connect = server.url()}), said);
  reloading.join();
  ASSERT_TRUE(tree) << tree.error().what << ": " << tree.error().why;
  EXPECT_EQ(tree->number("keys"), 1500u);
  EXPECT_NE(said.said.find("LOADING"), std::string::npos) << said.said;
}

TEST_P(RedisCapture, of_a_server_that_stands_still_stops_when_it_is_asked_to) {
  TestServer server(GetParam());
  fill_at_random(server, 16, 10);
  const std::unique_ptr<Source> source = source_of({.connect = server.url()});
  std::stop_source stop;
  const std::unique_ptr<TreeCapture> capture = source->capture(silent_reporter(), stop.get_token()).value();
  (void)capture->next().value();
  CaptureItem item = *capture->next().value();
  ::kill(server.server().pid(), SIGSTOP);
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    stop.request_stop();
  });
  const Duration begun = system_clock().steady();
  MemorySink sink;
  const Result<void> read = capture->read(item, sink);
  const Duration took = system_clock().steady() - begun;
  stopper.join();
  ::kill(server.server().pid(), SIGCONT);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kInterrupted);
  EXPECT_LT(took, std::chrono::seconds(5));
  EXPECT_FALSE(capture->finish());
}

TEST_P(RedisCapture, of_a_server_that_is_away_or_no_server_says_so) {
  const Result<MemoryTree> away =
      captured(*source_of({.connect = "redis://127.0.0.1:" + std::to_string(free_port())}));
  ASSERT_FALSE(away);
  EXPECT_FALSE(away.error().next.empty());
  const Result<MemoryTree> no_socket = captured(*source_of({.connect = "unix:///nowhere/sock"}));
  ASSERT_FALSE(no_socket);
  for (const RedisSettings& settings :
       {RedisSettings{.connect = "redis://h", .way = Way::kSave},
        RedisSettings{.connect = "redis://h", .aof = true},
        RedisSettings{.connect = "redis://h", .ca_file = "/x"}, RedisSettings{.connect = "h"},
        RedisSettings{.connect = "redis://h", .way = Way::kReplication, .data_dir = "/x", .aof = true}}) {
    const Result<std::unique_ptr<Source>> opened = open_redis(settings);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().kind, ErrorKind::kUsage);
  }
}

// --- the promise
// ----------------------------------------------------------------------------------------------

uint64_t peak_memory_kib() {
  const Bytes bytes = read_file("/proc/self/status").value();
  const std::string_view text = as_text(bytes);
  return std::stoull(std::string(text.substr(text.find("VmHWM:") + 6, 20)));
}

// Takes nothing but the count: the sink of a store that is as fast as we are.
class CountingSink : public ContentSink {
 public:
  Result<void> add(ByteView bytes) override {
    taken += bytes.size();
    return {};
  }
  Result<void> add_hole(uint64_t) override { return {}; }
  Result<void> restart() override { return {}; }
  uint64_t taken = 0;
};

TEST_P(RedisCapture, of_a_million_keys_under_writes_counts_them_at_the_offset_in_little_memory_G1) {
  // The RDB is of one moment; the writer notes how many keys there were at which offset, and the two are
  // compared.
  TestServer server(GetParam(), {"--repl-diskless-sync", "yes", "--appendonly", "no"});
  constexpr int kKeys = kIsSanitized ? 100000 : 1000000, kBatch = 10000;
  for (int i = 0; i < kKeys;) {
    for (int k = 0; k < kBatch; ++k, ++i)
      ASSERT_TRUE(server.connection().send(
          Arguments{"SET", "key:" + std::to_string(i), "value of " + std::to_string(i)}));
    for (int k = 0; k < kBatch; ++k) ASSERT_TRUE(server.connection().receive());
  }
  ASSERT_TRUE(write_full(*open_file("/proc/self/clear_refs", O_WRONLY), as_bytes("5"),
                         "clear_refs"));  // the peak begins

  // (replication offset, keys) after every change, by the only one who writes.
  std::vector<std::pair<uint64_t, uint64_t>> noted;
  std::atomic<bool> done = false;
  std::thread writer([&] {
    Connection connection = Connection::open(server.endpoint()).value();
    for (int i = 0; !done; ++i) {
      for (const Arguments& command :
           {Arguments{"MULTI"}, Arguments{"SET", "more:" + std::to_string(i), "x"},
            Arguments{"SET", "and more:" + std::to_string(i), std::string(200, 'y')},
            Arguments{"DEL", "key:" + std::to_string(i * 3)}, Arguments{"SET", "key:1", std::to_string(i)},
            Arguments{"EXEC"}, Arguments{"DBSIZE"}, Arguments{"INFO", "replication"}})
        connection.send(command).value();
      Reply size;
      for (int k = 0; k < 6; ++k) (void)connection.receive().value();
      size = connection.receive().value();
      const std::string info = connection.receive().value().text;
      const size_t at = info.find("master_repl_offset:");
      noted.emplace_back(std::stoull(info.substr(at + 19)), static_cast<uint64_t>(size.integer));
    }
  });
  const std::unique_ptr<Source> source = source_of({.connect = server.url()});
  for (int round = 0; round < 2; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const std::unique_ptr<TreeCapture> capture = source->capture(silent_reporter(), {}).value();
    (void)capture->next().value();
    CaptureItem item = *capture->next().value();
    CountingSink sink;
    const Result<void> read = capture->read(item, sink);
    ASSERT_TRUE(read) << read.error().what << ": " << read.error().why;
    ASSERT_TRUE(capture->finish());
    if (round == 0) continue;  // before the first replica comes, no version counts an offset
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    done = true;
    writer.join();
    const auto facts = capture->facts();
    const uint64_t offset = std::stoull(facts.at("replication_offset")), keys = std::stoull(facts.at("keys"));
    EXPECT_GT(keys, kKeys / 10 * 9u);
    EXPECT_EQ(facts.at("checksum"), "verified");
    uint64_t expected = 0;
    size_t after = 0;
    for (const auto& [position, count] : noted) {
      if (position <= offset)
        expected = count;
      else
        ++after;
    }
    EXPECT_EQ(keys, expected) << "at offset " << offset;
    EXPECT_GT(after, 0u) << "the server was written to while it was read";
    EXPECT_EQ(sink.taken, std::stoull(facts.at("bytes")));
  }
  const uint64_t peak = peak_memory_kib();
  std::printf("%s: peak memory %llu KiB, %zu transactions noted\n", GetParam().c_str(),
              static_cast<unsigned long long>(peak), noted.size());
#if !defined(KURAMORI_SANITIZED)  // what the sanitizers themselves take is several times that
  EXPECT_LT(peak, 128u << 10);
#endif
}

INSTANTIATE_TEST_SUITE_P(Servers, RedisCapture, testing::ValuesIn(test_server_names()),
                         [](const auto& of) { return of.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RedisCapture);

}  // namespace
}  // namespace kuramori::redis
