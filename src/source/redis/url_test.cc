#include "source/redis/url.h"

#include <gtest/gtest.h>

namespace kuramori::redis {
namespace {

TEST(RedisUrl, says_host_port_user_password_and_database) {
  Endpoint plain = *parse_url("redis://cache.example.jp");
  EXPECT_EQ(plain.host, "cache.example.jp");
  EXPECT_EQ(plain.port, 6379);
  EXPECT_FALSE(plain.tls);
  EXPECT_EQ(plain.user_name(), "default");

  Endpoint full = *parse_url("redis://backup:p%40ss:w@127.0.0.1:7000/3");
  EXPECT_EQ(full.user, "backup");
  EXPECT_EQ(full.password, "p@ss:w");
  EXPECT_EQ(full.port, 7000);
  EXPECT_EQ(full.database, 3);
  EXPECT_TRUE(full.is_local());
  EXPECT_EQ(full.describe(), "redis://backup@127.0.0.1:7000");

  EXPECT_EQ(parse_url("redis://:secret@h")->password, "secret");
  EXPECT_EQ(parse_url("redis://[::1]:6380")->describe(), "redis://[::1]:6380");
}

TEST(RedisUrl, of_tls_names_its_files_and_a_socket_its_path) {
  Endpoint tls = *parse_url("rediss://h:1?ca_file=/etc/ca.pem&cert_file=/c&key_file=/k");
  EXPECT_TRUE(tls.tls);
  EXPECT_EQ(tls.ca_file, "/etc/ca.pem");
  EXPECT_EQ(tls.cert_file, "/c");
  EXPECT_EQ(tls.key_file, "/k");
  Endpoint socket = *parse_url("unix:///run/redis/redis%20a.sock?user=backup");
  EXPECT_EQ(socket.socket, "/run/redis/redis a.sock");
  EXPECT_EQ(socket.user, "backup");
  EXPECT_TRUE(socket.is_local());
}

TEST(RedisUrl, that_cannot_be_meant_is_refused_without_repeating_a_password) {
  for (const char* text :
       {"", "127.0.0.1:6379", "http://h", "redis://", "redis://u:hush@", "redis://h:0", "redis://h:65536",
        "redis://h:x", "redis://h/minus", "redis://h/-1", "redis://h?ca_file=/a", "redis://[::1",
        "redis://[::1]7", "unix://relative", "redis://%zz", "rediss://u:hush@h?nothing=1"}) {
    Result<Endpoint> parsed = parse_url(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind, ErrorKind::kUsage) << text;
    EXPECT_FALSE(parsed.error().why.empty()) << text;
    EXPECT_EQ((parsed.error().what + parsed.error().why + parsed.error().next).find("hush"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace kuramori::redis
