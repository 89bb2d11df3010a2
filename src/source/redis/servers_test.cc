// The servers of redis_for_tests.h, and what PrivateServer promises.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>

#include "os/process.h"
#include "source/redis/redis_for_tests.h"

namespace kuramori::redis {

std::string test_programs(const std::string& name) {
  static std::map<std::string, std::string> known;
  auto at = known.find(name);
  if (at != known.end()) return at->second;
  const Result<std::string> said = run_checked(
      {.argv = {KURAMORI_ROOT "/tools/test_redis.sh", "bin", name}, .timeout = std::chrono::minutes(5)});
  std::string folder = said ? *said : "";
  while (!folder.empty() && folder.back() == '\n') folder.pop_back();
  return known[name] = folder;
}

const std::vector<std::string>& test_server_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found, wanted = {"redis7", "redis8", "valkey8", "redis6"};
    // What differs between them is theirs: one of each flavour is enough for a sanitizer, which looks at us.
    if (std::getenv("KURAMORI_TEST_SANITIZED") != nullptr) wanted = {"redis7", "valkey8"};
    for (const std::string& name : wanted) {
      if (!test_programs(name).empty())
        found.emplace_back(name);
      else
        std::printf("no %s here: tools/test_redis.sh bin %s says why; its tests are left out\n", name.c_str(),
                    name.c_str());
    }
    return found;
  }();
  return names;
}

std::vector<std::string> all_test_programs() {
  std::vector<std::string> folders;
  for (const std::string& name : test_server_names()) folders.push_back(test_programs(name));
  return folders;
}

TestServer::TestServer(const std::string& name, std::vector<std::string> more, bool append_only)
    : own_(std::make_unique<TemporaryFolder>(*TemporaryFolder::make("kuramori-redis-data"))),
      folder_(own_->path()) {
  start(name, std::move(more), append_only);
}

TestServer::TestServer(const std::string& name, const std::string& folder, std::vector<std::string> more,
                       bool append_only)
    : folder_(folder) {
  start(name, std::move(more), append_only);
}

void TestServer::start(const std::string& name, std::vector<std::string> more, bool append_only) {
  const Flavour flavour = name.starts_with("valkey") ? Flavour::kValkey : Flavour::kRedis;
  for (ServerProgram& program : find_server_programs({test_programs(name)})) {
    if (program.version.flavour != flavour || !program.path.starts_with(test_programs(name))) continue;
    // Snapshots in a test are not to wait for more replicas to come.
    std::vector<std::string> arguments{"--repl-diskless-sync-delay", "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    auto started = PrivateServer::start(
        {.program = program, .folder = folder_, .append_only = append_only, .more = arguments});
    if (!started) throw std::runtime_error(started.error().what + ": " + started.error().why);
    server_ = std::make_unique<PrivateServer>(std::move(*started));
    return;
  }
  throw std::runtime_error("no program for " + name);
}

Reply TestServer::call(const Arguments& arguments) {
  Result<Reply> reply = connection().call(arguments);
  if (!reply) {
    ADD_FAILURE() << arguments.front() << ": " << reply.error().what << ": " << reply.error().why;
    return {};
  }
  return *reply;
}

int free_port() {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (!fd.valid() || ::bind(fd.get(), any, size) != 0 || ::getsockname(fd.get(), any, &size) != 0)
    throw std::runtime_error("no free port");
  return ntohs(address.sin_port);
}

namespace {

class Filler {
 public:
  Filler(TestServer& server, uint32_t seed) : server_(server), seed_(seed), random_(seed) {}

  void run(int keys) {
    has_functions_ = version().major >= 7;
    has_field_expiry_ = version().flavour == Flavour::kRedis && rdb_version_of(version()) >= 12;
    for (int database : {0, 3, 15}) {
      server_.call({"SELECT", std::to_string(database)});
      for (int i = 0; i < keys; ++i) add(fmt::format("key:{}:{}", seed_, i));
    }
    server_.call({"SELECT", "0"});
    if (has_functions_ && pick(2) == 0) {
      server_.call({"FUNCTION", "LOAD", "REPLACE",
                    "#!lua name=lib\nredis.register_function('f', function() return 1 end)"});
    }
  }

 private:
  ServerVersion version() { return server_.server().program().version; }
  uint32_t pick(uint32_t below) { return std::uniform_int_distribution<uint32_t>(0, below - 1)(random_); }

  // Short, long, compressible, a number, or bytes.
  std::string text() {
    switch (pick(6)) {
      case 0:
        return std::to_string(static_cast<int32_t>(random_()));
      case 1:
        return std::to_string(pick(200));
      case 2:
        return std::string(100 + pick(pick(40) == 0 ? 30000 : 300), 'z');
      case 3: {
        std::string bytes(pick(pick(40) == 0 ? 20000 : 200), ' ');
        for (char& c : bytes) c = static_cast<char>(random_());
        return bytes;
      }
      default:
        return "text " + std::to_string(random_());
    }
  }
  std::string small() { return std::to_string(pick(1000000)); }
  // Few stay packed, many do not.
  uint32_t many() { return pick(3) == 0 ? 150 + pick(600) : 1 + pick(20); }

  void add(const std::string& key) {
    Arguments command;
    switch (pick(7)) {
      case 0:
        command = {"SET", key, text()};
        break;
      case 1:
        command = {"RPUSH", key};
        for (uint32_t i = many(); i > 0; --i) command.push_back(text());
        break;
      case 2: {
        command = {"SADD", key};
        const bool numbers = pick(2) == 0;
        for (uint32_t i = many(); i > 0; --i) command.push_back(numbers ? small() : text());
        break;
      }
      case 3:
        command = {"ZADD", key};
        for (uint32_t i = many(); i > 0; --i) {
          command.push_back(pick(50) == 0 ? "-inf" : std::to_string(pick(100000)) + ".25");
          command.push_back(pick(3) == 0 ? text() : small());
        }
        break;
      case 4:
        command = {"HSET", key};
        for (uint32_t i = many(); i > 0; --i) {
          command.push_back("f" + std::to_string(i));
          command.push_back(text());
        }
        break;
      case 5:
        add_stream(key);
        return;
      default:
        command = {"PFADD", key, small(), small()};
    }
    server_.call(command);
    if (command[0] == "HSET" && has_field_expiry_ && pick(2) == 0)
      server_.call({"HPEXPIRE", key, "3600000", "FIELDS", "1", "f1"});
    if (pick(3) == 0) server_.call({"PEXPIRE", key, std::to_string(3600000 + pick(1000))});
  }

  void add_stream(const std::string& key) {
    for (uint32_t i = many(); i > 0; --i) server_.call({"XADD", key, "*", "field", small(), "other", text()});
    if (pick(2) == 0) {
      server_.call({"XGROUP", "CREATE", key, "group", "0"});
      server_.call({"XREADGROUP", "GROUP", "group", "one", "COUNT", "7", "STREAMS", key, ">"});
      server_.call({"XREADGROUP", "GROUP", "group", "two", "COUNT", "3", "STREAMS", key, ">"});
    }
  }

  TestServer& server_;
  const uint32_t seed_;
  std::mt19937 random_;
  bool has_functions_ = false, has_field_expiry_ = false;
};

}  // namespace

void fill_at_random(TestServer& server, uint32_t seed, int keys) {
  Filler(server, seed).run(keys);
}

namespace {

void flatten(const Reply& reply, std::vector<std::string>& into) {
  if (reply.elements.empty()) into.push_back(reply.text + std::to_string(reply.integer));
  for (const Reply& element : reply.elements) flatten(element, into);
}

// What the server answers when it is asked for a key's value.
std::string value_of(TestServer& server, const std::string& key, const std::string& type) {
  const std::map<std::string, Arguments> questions = {
      {"string", {"GET", key}},   {"list", {"LRANGE", key, "0", "-1"}},
      {"set", {"SMEMBERS", key}}, {"zset", {"ZRANGE", key, "0", "-1", "WITHSCORES"}},
      {"hash", {"HGETALL", key}}, {"stream", {"XRANGE", key, "-", "+"}},
  };
  std::vector<std::string> parts;
  flatten(server.call(questions.at(type)), parts);
  if (type == "stream") {
    // Its name, how much is pending, what was delivered last. Consumers with nothing pending and how many
    // entries were read in all are what the server itself does not keep in its append-only files.
    Reply groups = server.call({"XINFO", "GROUPS", key});
    for (Reply& group : groups.elements) {
      group.elements.resize(8);
      group.elements.erase(group.elements.begin() + 2, group.elements.begin() + 4);
    }
    flatten(groups, parts);
  }
  // Sets and hashes come in another order from another process.
  if (type == "set") std::sort(parts.begin(), parts.end());
  if (type == "hash") {
    std::vector<std::string> pairs;
    for (size_t i = 0; i < parts.size(); i += 2) pairs.push_back(parts[i] + "=" + parts[i + 1]);
    std::sort(pairs.begin(), pairs.end());
    parts = pairs;
  }
  std::string value;
  for (const std::string& part : parts) value += part + ";";
  return value;
}

// When a key expires. Redis 6 tells how long it has left, and each moment something else: only whether it
// does is compared then, on all servers from there on, since a snapshot of one may be loaded by another.
std::string until(TestServer& server, const std::string& key) {
  static bool has_met_redis6 = false;
  has_met_redis6 = has_met_redis6 || is_redis6(server);
  if (has_met_redis6) return server.call({"PTTL", key}).integer < 0 ? "ever" : "some time";
  return std::to_string(server.call({"PEXPIRETIME", key}).integer);
}

}  // namespace

bool is_redis6(TestServer& server) {
  const ServerVersion& version = server.server().program().version;
  return version.flavour == Flavour::kRedis && version.major < 7;
}

std::map<std::string, std::string> contents(TestServer& server) {
  std::map<std::string, std::string> found;
  for (const auto& [database, keys] : server.keys()) {
    server.call({"SELECT", std::to_string(database)});
    std::string cursor = "0";
    do {
      const Reply page = server.call({"SCAN", cursor, "COUNT", "500"});
      cursor = page.elements[0].text;
      for (const Reply& key : page.elements[1].elements) {
        const std::string type = server.call({"TYPE", key.text}).text;
        found[std::to_string(database) + ":" + key.text] =
            fmt::format("{} until {}: {}", type, until(server, key.text), value_of(server, key.text, type));
      }
    } while (cursor != "0");
  }
  server.call({"SELECT", "0"});
  return found;
}

namespace {

TEST(RedisServers, of_every_kind_start_without_a_port_and_stop) {
  for (const std::string& name : test_server_names()) {
    TestServer server(name);
    EXPECT_EQ(server.call({"PING"}).text, "PONG") << name;
    const Info info = *read_info(server.connection(), "server");
    EXPECT_EQ(text_in(info, "tcp_port"), "0");
    EXPECT_EQ(version_in(info).text, server.server().program().version.text);
    const pid_t pid = server.server().pid();
    EXPECT_TRUE(server.server().stop());
    EXPECT_FALSE(*status_if_there("/proc/" + std::to_string(pid))) << name;
  }
}

TEST(RedisServers, that_read_an_rdb_are_chosen_by_flavour_and_age) {
  const auto program = [](Flavour flavour, const char* version) {
    return ServerProgram{std::string("/") + version, parse_version(flavour, version)};
  };
  const std::vector<ServerProgram> all = {program(Flavour::kRedis, "8.0.2"),
                                          program(Flavour::kRedis, "7.0.15"),
                                          program(Flavour::kValkey, "8.1.1")};
  EXPECT_EQ(choose_program(all, Flavour::kRedis, 9)->version.text, "7.0.15");
  EXPECT_EQ(choose_program(all, Flavour::kRedis, 11)->version.text, "8.0.2");
  EXPECT_EQ(choose_program(all, Flavour::kValkey, 11)->version.text, "8.1.1");
  EXPECT_EQ(choose_program({all[2]}, Flavour::kRedis, 11)->version.text, "8.1.1");
  const Result<ServerProgram> none = choose_program({all[1], all[2]}, Flavour::kRedis, 12);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(none.error().why.find("redis-server 7.0.15, valkey-server 8.1.1"), std::string::npos);
  EXPECT_EQ(none.error().next, "apt-get install redis-server");
}

TEST(RedisServers, that_cannot_read_their_data_say_so_with_their_log) {
  for (const std::string& name : test_server_names()) {
    TemporaryFolder folder = *TemporaryFolder::make("kuramori-redis-test");
    ASSERT_TRUE(write_new_file(folder / "dump.rdb", as_bytes("REDIS0009 but nothing after")));
    for (const ServerProgram& program : find_server_programs({test_programs(name)})) {
      const Result<PrivateServer> started =
          PrivateServer::start({.program = program, .folder = folder.path()});
      ASSERT_FALSE(started) << name;
      EXPECT_FALSE(started.error().why.empty());
    }
  }
}

}  // namespace
}  // namespace kuramori::redis
