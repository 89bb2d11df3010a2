#include "engine/vault_location.h"

#include <gtest/gtest.h>

#include "engine/open_vault.h"

namespace kuramori {
namespace {

ConfigWorld world() {
  return {.environment = [](const std::string&) { return std::optional<std::string>(); },
          .read_file = [](const std::string& path) -> Result<std::string> { return "of " + path + "\n"; },
          .run_command = [](const std::string& command) -> Result<std::string> {
            return "by " + command + "\n";
          }};
}

Result<VaultPlaces> places(const std::string& keys) {
  auto config =
      parse_config("vaults:\n  osaka:\n    key_file: /k\n" + keys, "/etc/kuramori/kuramori.yaml", world());
  if (!config) return std::move(config).error();
  return places_of(config->vaults.front(), world());
}

TEST(VaultLocationTest, everything_but_secrets_stands_in_one_line) {
  auto found = places(R"(    at: s3://kuramori-osaka/prod
    endpoint: https://s3.osaka.example.jp
    region: ap-northeast-3
    ca_file: /etc/ssl/private-ca.pem
    credentials: { profile: kuramori }
    lock: 14d
    lock_mode: compliance
    ledger: s3://kuramori-osaka-ledger/prod
    class: STANDARD_IA
    sse: { kms: alias/kuramori }
)");
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_EQ(
      found->objects,
      "s3://kuramori-osaka/prod?endpoint=https://s3.osaka.example.jp&region=ap-northeast-3&"
      "ca_file=/etc/ssl/private-ca.pem&profile=kuramori&class=STANDARD_IA&sse_kms=alias/kuramori&lock=14d");
  EXPECT_EQ(found->ledger,
            "s3://kuramori-osaka-ledger/prod?endpoint=https://s3.osaka.example.jp&region=ap-northeast-3&"
            "ca_file=/etc/ssl/private-ca.pem&profile=kuramori")
      << "what must be put exactly once is neither locked nor cold";
  EXPECT_EQ(found->keys, nullptr);
}

TEST(VaultLocationTest, credentials_are_pointed_to_where_that_can_be) {
  auto files = places("    at: s3://b-1/v\n    credentials: { access_key_file: a, secret_key_file: /s }\n");
  ASSERT_TRUE(files) << files.error().what;
  EXPECT_EQ(files->objects, "s3://b-1/v?access_key_file=/etc/kuramori/a&secret_key_file=/s");
  auto command =
      places("    at: s3://b-1/v\n    credentials: { access_key: AK, secret_key_command: pass }\n");
  ASSERT_TRUE(command) << command.error().what;
  EXPECT_EQ(command->objects, "s3://b-1/v");
  ASSERT_NE(command->keys, nullptr);
  EXPECT_EQ(command->keys->access_key, "AK");
  EXPECT_EQ(as_text(command->keys->secret_key.view()), "by pass");
  EXPECT_EQ(places("    at: s3://b-1/v\n    credentials: { env: true }\n")->objects,
            "s3://b-1/v?credentials=env");
  EXPECT_EQ(places("    at: s3://b-1/v\n    credentials: { instance: true }\n")->objects,
            "s3://b-1/v?credentials=instance");
}

TEST(VaultLocationTest, what_cannot_be_reached_is_refused_in_words) {
  for (std::string bad : {"    at: s3://b-1/v\n    credentials: { access_key_file: a }\n",
                          "    at: s3://b-1/v\n    endpoint: ftp://h\n", "    at: s3://b\n",
                          "    at: s3://b-1/v\n    credentials: { env: true, profile: p }\n",
                          "    at: s3://b-1/v\n    lock: forever\n"}) {
    auto found = places(bad);
    ASSERT_FALSE(found) << bad;
    EXPECT_EQ(found.error().kind, ErrorKind::kUsage) << bad;
    EXPECT_NE(found.error().what.find("osaka"), std::string::npos) << found.error().what;
  }
}

TEST(VaultLocationTest, a_folder_is_itself) {
  auto found = places("    at: file:///srv/kuramori\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->objects, "/srv/kuramori");
  EXPECT_FALSE(open_store("rclone:x"));
  EXPECT_FALSE(open_store("s3://b-1/v?endpint=x"));
}

}  // namespace
}  // namespace kuramori
