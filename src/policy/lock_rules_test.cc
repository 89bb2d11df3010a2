#include "policy/lock_rules.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

Config config_of(Period lock, KeepRules keep, std::optional<Period> window = {}) {
  Config config;
  config.vaults.push_back({.name = "osaka", .at = "s3://osaka/prod", .lock = lock});
  config.vaults.push_back({.name = "plain", .at = "s3://plain/prod"});
  PlanConfig plan;
  plan.name = "orders";
  plan.vault = "osaka";
  plan.keep = keep;
  plan.window = window;
  config.plans.push_back(plan);
  return config;
}
Period days(int64_t count) {
  return Period::of_seconds(count * 86'400);
}

TEST(LockRules, a_lock_as_long_as_what_is_kept_needs_no_word) {
  EXPECT_TRUE(lock_remarks(config_of(days(14), {.all = days(14)}, days(14))).empty());
}

TEST(LockRules, what_the_lock_cannot_serve_is_named_V22) {
  const auto longer = lock_remarks(config_of(days(14), {.all = days(14), .monthly = Period{.months = 84}}));
  ASSERT_EQ(longer.size(), 1u);
  EXPECT_NE(longer[0].find("7y"), std::string::npos) << longer[0];
  EXPECT_NE(longer[0].find("every 7 d"), std::string::npos) << longer[0];
  const auto endless = lock_remarks(config_of(days(14), {}));
  ASSERT_EQ(endless.size(), 1u);
  EXPECT_NE(endless[0].find("for ever"), std::string::npos);
  EXPECT_EQ(lock_remarks(config_of(days(14), {.all = days(14)}, days(30))).size(), 1u) << "a window";
}

TEST(LockRules, a_lock_that_outlives_what_is_kept_is_named) {
  const auto remarks = lock_remarks(config_of(days(14), {.all = days(7)}));
  ASSERT_EQ(remarks.size(), 1u);
  EXPECT_NE(remarks[0].find("outlives"), std::string::npos);
}

TEST(LockRules, copies_are_promises_too) {
  Config config = config_of(days(14), {.all = days(14)});
  config.plans[0].vault = "plain";
  EXPECT_TRUE(lock_remarks(config).empty());
  config.plans[0].copies.push_back({.to = "osaka", .keep = {.all = days(30)}});
  EXPECT_EQ(lock_remarks(config).size(), 1u);
  // Without rules of its own it is kept as long as the original, not for ever.
  config.plans[0].copies[0].keep = {};
  EXPECT_TRUE(lock_remarks(config).empty());
}

TEST(LockRules, nothing_is_locked_further_ahead_than_a_plan_promises_V20) {
  const Time now = from_unix_ns(1'790'000'000'000'000'000);
  const Config config = config_of(days(14), {.all = days(30)});
  EXPECT_EQ(locked_ahead_max(&config, "osaka", days(14), now), later(now, days(30)));
  EXPECT_EQ(locked_ahead_max(&config, "elsewhere", days(14), now), later(now, days(14)));
  EXPECT_EQ(locked_ahead_max(nullptr, "osaka", days(14), now), later(now, days(14)));
  const Config endless = config_of(days(14), {});
  EXPECT_EQ(locked_ahead_max(&endless, "osaka", days(14), now), later(now, days(14)));
}

}  // namespace
}  // namespace kuramori
