#include "daemon/ack_link.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "os/file.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

TEST(AckLink, M5_it_is_of_one_alert_and_one_time_and_no_byte_of_it_can_be_changed) {
  const TemporaryFolder folder = *TemporaryFolder::make("ack");
  const Secret key = *make_ack_key(folder.path());
  const Time now = from_unix_ns(1'772'445'600'000'000'000);
  const std::string token = ack_token(key, "s", 17, now + 1h);
  auto alert = alert_of_token(key, "s", token, now);
  ASSERT_TRUE(alert) << alert.error().what;
  EXPECT_EQ(*alert, 17);
  EXPECT_EQ(*alert_of_token(key, "s", token, now + 1h - 1s), 17);
  const auto late = alert_of_token(key, "s", token, now + 1h);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kRefused);
  EXPECT_NE(late.error().next.find("kuramori ack 17"), std::string::npos);
  for (size_t i = 0; i < token.size(); ++i)
    for (const char other : {'0', '1', 'f', '.', ' '}) {
      std::string changed = token;
      if (changed[i] == other) continue;
      changed[i] = other;
      const auto read = alert_of_token(key, "s", changed, now);
      ASSERT_FALSE(read) << changed;
      EXPECT_EQ(read.error().kind, ErrorKind::kDenied) << changed;
    }
  for (size_t size = 0; size < token.size(); ++size)
    EXPECT_FALSE(alert_of_token(key, "s", token.substr(0, size), now)) << size;
  EXPECT_FALSE(alert_of_token(key, "s", token + "0", now));
  EXPECT_EQ(alert_of_token(key, "t", token, now).error().kind, ErrorKind::kDenied)
      << "another store's alert 17";
  EXPECT_FALSE(alert_of_token(key, "s", std::string(100'000, '.'), now));
}

TEST(AckLink, Its_key_is_kept_for_its_owner_alone_and_another_state_has_another) {
  const TemporaryFolder one = *TemporaryFolder::make("ack"), other = *TemporaryFolder::make("ack");
  EXPECT_EQ(read_ack_key(one.path()).error().kind, ErrorKind::kNotFound) << "to look makes none";
  const Secret key = *make_ack_key(one.path()), again = *read_ack_key(one.path());
  const Secret foreign = *make_ack_key(other.path());
  EXPECT_TRUE(equal(make_ack_key(one.path())->view(), key.view()));
  EXPECT_TRUE(equal(key.view(), again.view()));
  struct stat status{};
  ASSERT_EQ(::stat((one / kAckKeyFile).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const Time now = from_unix_ns(1'772'445'600'000'000'000);
  EXPECT_FALSE(alert_of_token(foreign, "s", ack_token(key, "s", 1, now + 1h), now));
  ASSERT_TRUE(write_file_durably(one / kAckKeyFile, as_bytes("abcd\n")));
  const auto damaged = read_ack_key(one.path());
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().kind, ErrorKind::kDamaged);
}

}  // namespace
}  // namespace kuramori
