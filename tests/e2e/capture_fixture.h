// What tests of captures share: a server, what was said, and the check that a rebuilt copy is whole.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <mutex>
#include <sstream>
#include <string>

#include "rebuilt_cluster.h"
#include "source/postgres/capture.h"
#include "testing/postgres_server.h"

namespace kuramori::postgres {

#define ASSERT_OK(expression)                                                                    \
  do {                                                                                           \
    auto&& ok_ = (expression);                                                                   \
    ASSERT_TRUE(ok_) << ok_.error().what << "\n" << ok_.error().why << "\n" << ok_.error().next; \
  } while (0)

// What a capture said, for tests that expect words.
class Listener final : public Reporter {
 public:
  void phase(std::string_view, uint64_t) override {}
  void advance(uint64_t) override {}
  void note(std::string_view text) override { add(text); }
  void warning(std::string_view text) override { add(text); }
  std::string heard() {
    const std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  void add(std::string_view text) {
    const std::lock_guard lock(mutex_);
    all_ += std::string(text) + "\n";
  }
  std::mutex mutex_;
  std::string all_;
};

class PostgresCapture : public ::testing::Test {
 protected:
  void start_server(PostgresServerOptions options = {}) {
    auto made = PostgresServer::create(options);
    ASSERT_OK(made);
    server_ = std::move(*made);
  }
  std::string sql(const std::string& query) {
    auto result = server_->sql(query);
    EXPECT_TRUE(result) << query << "\n" << result.error().why;
    return result ? *result : "";
  }
  CaptureOptions options() const {
    CaptureOptions result;
    result.connect = server_->connect();
    result.label = "test";
    return result;
  }
  Result<std::unique_ptr<Capture>> begin() { return Capture::begin(options(), system_clock(), listener_); }
  std::string place(const std::string& name) const { return server_->folder() + "/" + name; }
  // Starts on what was rebuilt; amcheck over every index and heap.
  void check_rebuilt(RebuiltCluster& rebuilt, std::vector<std::string> settings = {"archive_mode=off"}) {
    auto restored = PostgresServer::adopt(rebuilt.folder(), server_->major(), std::move(settings));
    ASSERT_OK(restored);
    restored_ = std::move(*restored);
    ASSERT_OK(restored_->sql("CREATE EXTENSION IF NOT EXISTS amcheck"));
    ASSERT_OK(restored_->sql(
        "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
        " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND "
        "i.indisvalid"));
    if (server_->major() >= 14) {
      auto broken = restored_->sql(
          "SELECT c.relname, v.* FROM pg_class c, LATERAL verify_heapam(c.oid) v"
          " WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'");
      ASSERT_OK(broken);
      EXPECT_EQ(*broken, "");
    }
  }
  std::string restored_sql(const std::string& query) {
    auto result = restored_->sql(query);
    EXPECT_TRUE(result) << query << "\n" << result.error().why;
    return result ? *result : "";
  }

  Listener listener_;
  std::unique_ptr<PostgresServer> server_, restored_;
};

// 15, and those of KURAMORI_TEST_MAJORS ("13 17").
inline std::vector<int> majors_to_test() {
  std::vector<int> majors = {15};
  if (const char* more = std::getenv("KURAMORI_TEST_MAJORS")) {
    std::istringstream words(more);
    for (int major; words >> major;) {
      if (major != 15) majors.push_back(major);
    }
  }
  return majors;
}
}  // namespace kuramori::postgres
