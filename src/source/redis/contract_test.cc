// The kind `redis` keeps the contract of sources, on a real server.
#include <set>

#include "os/file.h"
#include "source/redis/redis_for_tests.h"
#include "source/redis/redis_source.h"
#include "testing/source_contract.h"

namespace kuramori::redis {
namespace {

class RedisFixture : public SourceFixture {
 public:
  explicit RedisFixture(const std::string& name) : name_(name), server_(name) {
    // In one step each, so that every state there ever was is known.
    run_at_once({{"SET", "salary of Sato", "9000000"},
                 {"SET", "short lived", "x", "PX", "3600000"},
                 {"RPUSH", "queue", "first", "second"},
                 {"SADD", "members", "a", "b"},
                 {"ZADD", "ranks", "1.5", "a", "2", "b"},
                 {"HSET", "user:1", "name", "Sato", "mail", "sato@example.jp"},
                 {"XADD", "events", "1-1", "kind", "login"}});
    for (const char* folder : {"targets", "outside", "sandbox"}) make_folders(ground_ / folder).value();
    write_new_file(ground_ / "outside/precious", as_bytes("not to be touched")).value();
    source_ =
        std::move(open_redis({.connect = server_.url(), .program_folders = {test_programs(name)}})).value();
  }

  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override {
    return std::move(open_redis({.connect = "unix://" + (ground_ / "no such socket")})).value();
  }

  void change() override {
    ++generation_;
    const std::string number = std::to_string(generation_);
    run_at_once({{"SET", "salary of Sato", number},
                 {"SET", "new " + number, "x"},
                 {"DEL", "new " + std::to_string(generation_ - 1)},
                 {"RPUSH", "queue", number},
                 {"HSET", "user:1", "mail", number}});
  }
  bool was_ever(const TreeEntry&, std::string_view content) override {
    return states_.contains(state_of(content));
  }

  // When it was taken, how much memory the server used then, in which order it came by its keys.
  void settle(TreeEntry& entry, std::string& content) override {
    entry.mtime_ns = 0;
    if (entry.content != ContentKind::kBytes) return;
    entry.size = 0;
    content = state_of(content);
  }

  std::string new_target() override { return ground_ / fmt::format("targets/{}", ++targets_); }
  std::string occupied_target() override {
    const std::string target = new_target();
    make_folders(target).value();
    write_new_file(target + "/dump.rdb", as_bytes("of another server")).value();
    return target;
  }
  std::vector<std::string> differences(const std::string& target) override {
    std::vector<std::string> found;
    for (const bool append_only : {true, false}) {
      TestServer restored(name_, target, {}, append_only);
      if (contents(restored) != contents(server_))
        found.push_back(fmt::format("with appendonly {} its keys are others", append_only ? "yes" : "no"));
    }
    return found;
  }
  std::string surroundings(const std::string& target) override {
    std::string all = state(server_);
    list(ground_.path(), target, all);
    return all;
  }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override { return ground_ / "sandbox"; }
  std::vector<std::string> secrets() override {
    return {"salary", "Sato", "9000000", "queue", "members", "user:1"};
  }

 private:
  void run_at_once(const std::vector<Arguments>& commands) {
    server_.call({"MULTI"});
    for (const Arguments& command : commands) server_.call(command);
    server_.call({"EXEC"});
    states_.insert(state(server_));
  }
  static std::string state(TestServer& server) {
    std::string all;
    for (const auto& [key, value] : contents(server)) all.append(key).append(" ").append(value).append("\n");
    return all;
  }
  // What a server holds that starts with this file.
  std::string state_of(std::string_view rdb) const {
    const TemporaryFolder folder = *TemporaryFolder::make("kuramori-redis-state");
    write_new_file(folder / "dump.rdb", as_bytes(rdb)).value();
    TestServer loaded(name_, folder.path(), {}, false);
    return state(loaded);
  }
  static void list(const std::string& folder, const std::string& without, std::string& into) {
    const std::vector<FolderEntry> entries = list_folder(folder).value();
    for (const FolderEntry& entry : entries) {
      const std::string path = join_path(folder, entry.name);
      if (path == without) continue;
      into += path + "\n";
      if (entry.type == FileType::kFolder) list(path, without, into);
      if (entry.type == FileType::kFile) into += as_text(read_file(path).value());
    }
  }

  const std::string name_;
  TemporaryFolder ground_ = *TemporaryFolder::make("kuramori-redis-contract");
  TestServer server_;
  std::unique_ptr<Source> source_;
  std::set<std::string> states_;
  int generation_ = 0, targets_ = 0;
};

TEST(RedisContract, redis_keeps_the_contract_of_sources_V27) {
  for (const std::string& name : test_server_names()) {
    EXPECT_EQ(check_source_contract([&] { return std::make_unique<RedisFixture>(name); }),
              std::vector<std::string>{})
        << name;
  }
}

}  // namespace
}  // namespace kuramori::redis
