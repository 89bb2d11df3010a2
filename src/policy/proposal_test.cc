#include "policy/proposal.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/time_text.h"
#include "policy/config.h"
#include "policy/lint.h"

namespace kuramori {
namespace {

const ConfigWorld kNothing{
    .environment = [](const std::string&) { return std::optional<std::string>(); },
    .read_file = [](const std::string& path) -> Result<std::string> { return path; },
    .run_command = [](const std::string& command) -> Result<std::string> { return command; },
};
const Time kNow = parse_moment("2026-11-22 00:00:00Z")->time;
const ProposalPlace kPlace{.vault = "/srv/me/vault",
                           .key_file = "/srv/me/owner.key",
                           .password_file = "",
                           .site = "desk",
                           .zone = "Asia/Tokyo"};

Surroundings everything() {
  Surroundings found{
      .folder = "/srv/me/shop", .repository = "/srv/me/shop", .remote = "https://git.example/shop.git"};
  found.postgres.push_back({.connect = "host=/var/run/postgresql port=5432",
                            .from = "the socket",
                            .database = "shop",
                            .version = "15.20",
                            .system_id = "7412",
                            .data_folder = "/var/lib/postgresql/15/main",
                            .databases = {{"postgres", 7 << 20, 0}, {"shop", 1 << 20, 3}}});
  found.postgres.push_back({.connect = "host=db.example user=it's",
                            .from = "DATABASE_URL in .env",
                            .database = "shop",
                            .has_password = true,
                            .version = "17.6",
                            .system_id = "99",
                            .databases = {{"shop", 1 << 20, 0}}});
  found.redis.push_back(
      {.url = "redis://127.0.0.1:6379", .from = "port 6379", .version = "7.0.15", .keys = 3});
  found.env_files = {"/srv/me/shop/.env", "/srv/me/shop/we\"ird ${x}/.env"};
  found.volumes = {{"web", "/srv/me/shop/uploads", "/uploads", false},
                   {"db", "pgdata", "/var/lib/postgresql/data", true}};
  found.buckets = {{"shop-assets", "https://s3.example", "ap-northeast-1", "ASSETS_BUCKET in .env"}};
  return found;
}

Config read(const std::string& text) {
  auto config = parse_config(text, "/srv/me/shop/kuramori.yaml", kNothing);
  EXPECT_TRUE(config) << config.error().what << " " << config.error().why << "\n" << text;
  return config ? std::move(*config) : Config{};
}

TEST(Proposal, reads_as_a_configuration_whose_promises_hold) {
  const std::string text = propose_config(everything(), kPlace, kNow);
  const Config config = read(text);
  EXPECT_EQ(config.resources.size(), 7u) << text;
  for (const ResourceConfig& resource : config.resources)
    EXPECT_EQ(config.plans_of(resource.name).size(), 1u) << resource.name;
  const LintReport report = lint(config, {.now = kNow});
  for (const LintFinding& one : report.findings)
    EXPECT_NE(one.level, LintLevel::kError) << one.about << ": " << one.what;
  // A server whose files are at hand is kept whole, one elsewhere by dumps.
  EXPECT_EQ(config.resources[0].kind, ResourceKind::kPostgres);
  EXPECT_EQ(config.resources[1].kind, ResourceKind::kDump);
  for (const ResourceConfig& resource : config.resources)
    if (resource.kind == ResourceKind::kSecret) {
      EXPECT_EQ(resource.secret.paths, everything().env_files);
    }
}

TEST(Proposal, A5_names_version_and_system_and_what_is_possibly_not_the_live_database) {
  const std::string text = propose_config(everything(), kPlace, kNow);
  EXPECT_NE(text.find("PostgreSQL 15.20, system 7412, database shop (1.0 MiB, 3 clients)"), text.npos)
      << text;
  EXPECT_NE(text.find("DECIDE: nobody else is connected to it: possibly not the live database"), text.npos)
      << text;
  const Surroundings found = everything();
  EXPECT_FALSE(found.postgres[0].is_perhaps_not_live());
  EXPECT_TRUE(found.postgres[1].is_perhaps_not_live());
}

TEST(Proposal, C4_a_developers_machine_dumps_every_three_hours_and_keeps_fourteen_days) {
  ProposalPlace place = kPlace;
  place.password_file = "/srv/me/.config/kuramori/shop.password";
  const Config config = read(propose_dev_config(everything().postgres[1], place, kNow));
  ASSERT_EQ(config.plans.size(), 1u);
  EXPECT_EQ(config.plans[0].schedule.text, "0 */3 * * *");
  EXPECT_EQ(format_period(*config.plans[0].keep.all), "14d");
  ASSERT_EQ(config.resources.size(), 1u);
  EXPECT_EQ(config.resources[0].name, kDevResource);
  EXPECT_EQ(format_period(*config.resources[0].rpo), "1d");
  EXPECT_EQ(format_period(*config.resources[0].rto), "15m");
  EXPECT_FALSE(lint(config, {.now = kNow}).has_errors());
}

TEST(Proposal, of_nothing_is_nothing) {
  EXPECT_TRUE(Surroundings{}.empty());
  EXPECT_FALSE(everything().empty());
}

}  // namespace
}  // namespace kuramori
