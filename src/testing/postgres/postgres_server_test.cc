#include "testing/postgres_server.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace kuramori {
namespace {

TEST(PostgresServer, starts_answers_stops_and_starts_again) {
  auto server = PostgresServer::create();
  ASSERT_TRUE(server) << server.error().what << "\n" << server.error().why;
  EXPECT_EQ((*server)->sql("SELECT 6 * 7").value(), "42");
  EXPECT_FALSE((*server)->sql("SELECT 1/0"));
  ASSERT_TRUE((*server)->stop());
  EXPECT_FALSE((*server)->sql("SELECT 1"));
  ASSERT_TRUE((*server)->start());
  EXPECT_EQ((*server)->sql("SHOW data_checksums").value(), "on");
}

TEST(PostgresServer, leaves_nothing_behind) {
  std::string folder;
  pid_t pid = 0;
  {
    auto server = PostgresServer::create();
    ASSERT_TRUE(server) << server.error().why;
    folder = (*server)->folder();
    pid = (*server)->pid();
  }
  EXPECT_NE(::access(folder.c_str(), F_OK), 0);
  EXPECT_NE(::kill(pid, 0), 0);
}

}  // namespace
}  // namespace kuramori
