#include "policy/change_plan.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/time_text.h"

namespace kuramori {
namespace {

const ConfigWorld kNothing{
    .environment = [](const std::string&) { return std::optional<std::string>(); },
    .read_file = [](const std::string& path) -> Result<std::string> { return path; },
    .run_command = [](const std::string& command) -> Result<std::string> { return command; },
};

Time at(const char* text) {
  return parse_moment(text)->time;
}
const Time kNow = at("2026-11-22 00:00:00Z");

constexpr const char* kUsual =
    "resources: [db], vault: near, schedule: \"0 3 * * *\", timezone: Asia/Tokyo, wal: archive, "
    "window: 14d, keep: { all: 14d, last: 3 }, copies: [ { to: far, keep: 7d } ], "
    "drill: { schedule: \"0 5 1 * *\" }";

Config config_of(const std::string& plan, const std::string& lock = "lock: 14d",
                 const std::string& objectives = "rpo: 1d") {
  const std::string text = fmt::format(
      "vaults:\n  near: {{ at: /vault/near, {} }}\n  far: {{ at: /vault/far, copy_of: near }}\n"
      "resources:\n  db: {{ kind: postgres, connect: \"host=db\", criticality: high, objectives: {{ {} }} "
      "}}\n"
      "  docs: {{ kind: files, paths: [/docs], criticality: critical }}\nplans:\n  p: {{ {} }}\n",
      lock, objectives, plan);
  auto config = parse_config(text, "/etc/kuramori/kuramori.yaml", kNothing);
  EXPECT_TRUE(config) << config.error().what << " " << config.error().why;
  return config ? std::move(*config) : Config{};
}

// The same vaults and resources, with these plans.
Config config_with(const std::string& plans, const std::string& rest = "") {
  const std::string text = fmt::format(
      "vaults:\n  near: {{ at: /vault/near }}\n  far: {{ at: /vault/far, copy_of: near }}\n"
      "contacts: {{ lead: {{ mail: lead@example.org }}, cto: {{ mail: cto@example.org }} }}\n"
      "resources:\n  db: {{ kind: postgres, connect: \"host=db\" }}\n"
      "  docs: {{ kind: files, paths: [/docs] }}\nplans:\n{}{}\n",
      plans, rest);
  auto config = parse_config(text, "/etc/kuramori/kuramori.yaml", kNothing);
  EXPECT_TRUE(config) << config.error().what << " " << config.error().why;
  return config ? std::move(*config) : Config{};
}

// Of near, nightly.
std::string plan_of(const char* name, const char* resources, const char* rest) {
  return fmt::format("  {}: {{ resources: [{}], vault: near, schedule: \"0 3 * * *\", {} }}\n", name,
                     resources, rest);
}

// Snapshots of db in near, one a day up to now, each kept until `until`.
VaultLook held(int count, Time until) {
  VaultLook look{.vault = "near"};
  PruneQuestion question{.resource = "db"};
  for (int i = 0; i < count; ++i) {
    SnapshotFacts facts{.id = {},
                        .lineage = "1",
                        .time = kNow - std::chrono::hours(24 * (count - i)),
                        .stop = {},
                        .keep_until = until};
    facts.id.raw[7] = static_cast<uint8_t>(i + 1);
    facts.stop = facts.time + std::chrono::minutes(1);
    question.snapshots.push_back(facts);
  }
  look.held.push_back(question);
  return look;
}

std::string told(const ChangePlan& plan) {
  std::string out;
  for (const Consequence& one : plan.consequences)
    out += fmt::format("{}{} {}: {}\n", one.loses ? "! " : "", one.id, one.about, one.what);
  return out;
}
bool says(const ChangePlan& plan, std::string_view part) {
  return told(plan).find(part) != std::string::npos;
}

TEST(ChangePlan, what_did_not_change_gives_nothing_up) {
  const Config config = config_of(kUsual);
  const ChangePlan plan = judge_change(&config, config, {held(5, kForever)}, kNow);
  EXPECT_FALSE(plan.loses()) << told(plan);
  EXPECT_TRUE(plan.going.empty());
}

TEST(ChangePlan, targets_are_named_the_most_critical_first_and_what_no_plan_has_is_said) {
  const ChangePlan plan = judge_change(nullptr, config_of(kUsual), {}, kNow);
  ASSERT_EQ(plan.targets.size(), 2u);
  EXPECT_EQ(plan.targets[0].resource, "docs");
  EXPECT_TRUE(plan.targets[0].plans.empty());
  EXPECT_EQ(plan.targets[1].vaults, (std::vector<std::string>{"near", "far"}));
  EXPECT_TRUE(says(plan, "unprotected resource \"docs\": no plan has it")) << told(plan);
}

TEST(ChangePlan, B2_the_next_run_is_told_in_the_zone_of_the_plan) {
  const ChangePlan plan = judge_change(nullptr, config_of(kUsual), {}, kNow);
  ASSERT_EQ(plan.next.size(), 2u);
  EXPECT_EQ(format_moment(*plan.next[0].at, plan.next[0].zone),
            "2026-11-23 03:00:00 +09:00 (2026-11-22 18:00:00 UTC)");
  EXPECT_EQ(plan.next[1].what, "drill");
}

TEST(ChangePlan, S15_a_shorter_keep_takes_nothing_that_is_there_and_says_what_it_comes_to) {
  const Config before = config_of(kUsual);
  const Config after = config_of(
      "resources: [db], vault: near, schedule: \"0 3 * * *\", timezone: Asia/Tokyo, wal: archive, window: "
      "14d, "
      "keep: { all: 7d, last: 3 }, copies: [ { to: far, keep: 7d } ], drill: { schedule: \"0 5 1 * *\" }");
  const ChangePlan plan = judge_change(&before, after, {held(5, kNow + std::chrono::hours(48))}, kNow);
  EXPECT_TRUE(plan.going.empty()) << told(plan);
  EXPECT_TRUE(says(plan, "keeps db in near: in a year there will be")) << told(plan);
}

TEST(ChangePlan, what_stayed_for_a_promise_goes_when_the_promise_does) {
  const Config before =
      config_of("resources: [db], vault: near, schedule: \"0 3 * * *\", keep: { all: 1d, last: 4 }");
  const Config after =
      config_of("resources: [db], vault: near, schedule: \"0 3 * * *\", keep: { all: 1d, last: 2 }");
  // All are due; the last four stay, then the last two.
  const ChangePlan plan = judge_change(&before, after, {held(6, kNow - std::chrono::hours(1))}, kNow);
  std::vector<int> by_change, due;
  for (const Going& going : plan.going) (going.by_change ? by_change : due).push_back(going.line.id.raw[7]);
  EXPECT_EQ(due, (std::vector<int>{1, 2}));
  EXPECT_EQ(by_change, (std::vector<int>{3, 4}));
  EXPECT_TRUE(plan.loses());
  EXPECT_TRUE(says(plan,
                   "! goes db in near: 2 snapshots that would have stayed go at the next prune, "
                   "2026-11-22 06:00:00"))
      << told(plan);
  EXPECT_TRUE(says(plan, "due db in near: 2 snapshots are due whatever this changes")) << told(plan);
}

TEST(ChangePlan, every_promise_that_is_given_up_is_named) {
  const Config before = config_of(kUsual);
  const ChangePlan plan = judge_change(
      &before,
      config_of("resources: [db], vault: near, schedule: \"0 3 * * *\", timezone: Asia/Tokyo, wal: none, "
                "keep: { all: 14d, last: 3 }",
                "lock: 7d", "rpo: 7d"),
      {held(2, kForever)}, kNow);
  EXPECT_TRUE(says(plan, "! lock vault \"near\": what is put from now on is locked for 7d instead of 14d"))
      << told(plan);
  EXPECT_TRUE(says(plan, "! promise resource \"db\": rpo 1d is promised no longer: 7d is")) << told(plan);
  EXPECT_TRUE(says(plan, "! place db in far: nothing of it is put there any more")) << told(plan);
  EXPECT_TRUE(says(plan, "! window db in near: any second of the last 14d is promised no longer: none is"))
      << told(plan);
  EXPECT_TRUE(says(plan, "! window resource \"db\": its WAL is kept no longer")) << told(plan);
  EXPECT_TRUE(says(plan, "! unproven resource \"db\"")) << told(plan);
}

TEST(ChangePlan, a_resource_that_loses_its_plan_is_unprotected_and_its_snapshots_stay) {
  const Config before = config_of(kUsual);
  const Config after = config_of("resources: [docs], vault: near, schedule: \"0 3 * * *\", keep: 14d");
  const ChangePlan plan = judge_change(&before, after, {held(2, at("2026-12-01 00:00:00Z"))}, kNow);
  EXPECT_TRUE(says(plan,
                   "! unprotected resource \"db\": is protected no longer: no new snapshots are made; 2 "
                   "snapshots there are kept until"))
      << told(plan);
  EXPECT_TRUE(plan.loses());
}

TEST(ChangePlan, vaults_that_are_not_there_are_made_and_those_that_do_not_answer_are_named) {
  VaultLook missing{.vault = "near", .state = VaultLook::State::kMissing};
  VaultLook silent{.vault = "far",
                   .state = VaultLook::State::kUnknown,
                   .trouble = fail(ErrorKind::kUnknown, "no answer", "time-out")};
  const ChangePlan plan = judge_change(nullptr, config_of(kUsual), {missing, silent}, kNow);
  EXPECT_TRUE(says(plan, "made vault \"near\": is made at /vault/near")) << told(plan);
  EXPECT_TRUE(says(plan, "unknown vault \"far\": cannot be looked at: no answer: time-out")) << told(plan);
  EXPECT_FALSE(plan.loses());
}

TEST(ChangePlan, a_budget_of_deletion_that_allows_more_is_given_up) {
  const auto judged = [](const char* was, const char* is) {
    Config before = config_of(kUsual), after = before;
    before.resources[0].delete_budget = *parse_delete_budget(was);
    if (is != nullptr) after.resources[0].delete_budget = *parse_delete_budget(is);
    return judge_change(&before, after, {held(2, kForever)}, kNow);
  };
  EXPECT_TRUE(says(judged("10%", "20%"),
                   "! deletes resource \"db\": one prune may let go 20% of its snapshots without anybody's "
                   "yes, instead of 10%"));
  EXPECT_TRUE(says(judged("10%", nullptr), "! deletes resource \"db\": one prune may let go all of its"));
  EXPECT_TRUE(judged("5", "6").loses());
  EXPECT_TRUE(judged("50", "20%").loses()) << "of a thousand that is more";
  EXPECT_TRUE(judged("20%", "50").loses()) << "of a hundred that is more";
  EXPECT_FALSE(judged("20%", "10%").loses());
  EXPECT_FALSE(judged("20%", "20%").loses());
  EXPECT_FALSE(judged("6", "5").loses());
}

TEST(ChangePlan, what_a_rule_comes_to_is_told_without_the_prunes_that_a_budget_refuses) {
  const Config before =
      config_of("resources: [db], vault: near, schedule: \"0 3 * * *\", keep: { all: 14d }");
  Config after = config_of("resources: [db], vault: near, schedule: \"0 3 * * *\", keep: { all: 7d }");
  const auto judged = [&] { return judge_change(&before, after, {held(2, kForever)}, kNow); };
  const ChangePlan plain = judged();
  ASSERT_TRUE(says(plain, "keeps db in near: in a year there will be 7 snapshots instead of 14"))
      << told(plain);
  EXPECT_FALSE(says(plain, "budget db in near"));
  // A prune a week, of which a budget allows one: it is refused each time, and they become more and more.
  after.vaults[0].upkeep.prune = *parse_schedule("0 6 * * 1");
  after.resources[0].delete_budget = *parse_delete_budget("1");
  const ChangePlan refused = judged();
  EXPECT_TRUE(says(refused, "instead of 14; what is there now")) << told(refused);
  EXPECT_TRUE(says(refused, "budget db in near: 51 prunes of a year would be refused, the first "))
      << told(refused);
}

TEST(ChangePlan, a_budget_of_deletion_stands_in_its_way_too) {
  std::string plan_text = "resources: [db], vault: near, schedule: \"0 3 * * *\", keep: { all: 1d }";
  Config config = config_of(plan_text);
  config.resources[0].delete_budget = *parse_delete_budget("20%");
  const ChangePlan plan = judge_change(&config, config, {held(10, kNow - std::chrono::hours(1))}, kNow);
  EXPECT_TRUE(plan.going.empty());
  EXPECT_TRUE(says(plan, "prune refuses until somebody says --yes")) << told(plan);
}

TEST(ChangePlan, a_plan_by_another_name_does_not_hide_that_it_keeps_less) {
  const Config before = config_with(plan_of("p", "db", "keep: { all: 30d, monthly: 7y, last: 3 }"));
  const auto judged = [&](const std::string& plans) {
    const Config after = config_with(plans);
    return judge_change(&before, after, {}, kNow);
  };
  for (const char* keep :
       {"keep: 1d", "keep: { all: 30d, monthly: 7y }", "keep: { all: 30d, monthly: 6y, last: 3 }"}) {
    const ChangePlan plan = judged(plan_of("q", "db", keep));
    EXPECT_TRUE(says(plan, "shorter db in near: what is made from now on is kept for less time"))
        << keep << told(plan);
    EXPECT_TRUE(plan.promises_less());
    EXPECT_FALSE(plan.loses());
  }
  // The name alone, and a rule that keeps more.
  for (const char* keep : {"keep: { all: 30d, monthly: 7y, last: 3 }",
                           "keep: { all: 31d, daily: 60d, monthly: 84mo, last: 4 }", "timezone: UTC"}) {
    const ChangePlan plan = judged(plan_of("q", "db", keep));
    EXPECT_FALSE(plan.promises_less()) << keep << told(plan);
  }
  // One that keeps for ever beside it says nothing of what is made by this one.
  const Config beside = config_with(plan_of("p", "db", "keep: 30d") + plan_of("hand", "db", "timezone: UTC"));
  const Config renamed = config_with(plan_of("q", "db", "keep: 1d") + plan_of("hand", "db", "timezone: UTC"));
  EXPECT_TRUE(judge_change(&beside, renamed, {}, kNow).promises_less());
}

TEST(ChangePlan, resources_that_change_places_between_two_plans_keep_less_where_they_do) {
  const auto with = [](const char* of_long, const char* of_short) {
    return config_with(plan_of("long", of_long, "keep: { all: 30d, monthly: 7y }, copies: [ { to: far } ]") +
                       plan_of("short", of_short, "keep: 1d, copies: [ { to: far, keep: 30d } ]"));
  };
  const Config before = with("db", "docs"), after = with("docs", "db");
  const ChangePlan plan = judge_change(&before, after, {}, kNow);
  EXPECT_TRUE(says(plan, "shorter db in near")) << told(plan);
  EXPECT_TRUE(says(plan, "shorter db in far")) << "its copies were kept as long as the first: " << told(plan);
  EXPECT_FALSE(says(plan, "shorter docs")) << told(plan);
  EXPECT_FALSE(says(plan, "shorter plan")) << told(plan);
  EXPECT_TRUE(plan.promises_less());
  // To a plan that keeps it no less: nothing to say.
  const Config both = config_with(plan_of("p", "db", "keep: 30d") + plan_of("q", "docs", "keep: 30d"));
  const Config other = config_with(plan_of("p", "docs", "keep: 30d") + plan_of("q", "db", "keep: 30d"));
  EXPECT_FALSE(judge_change(&both, other, {}, kNow).promises_less());
}

TEST(ChangePlan, a_shorter_keep_of_a_plan_that_keeps_its_name_is_said_once) {
  const Config before = config_with(plan_of("p", "db, docs", "keep: 30d, copies: [ { to: far } ]"));
  const Config after = config_with(plan_of("p", "db, docs", "keep: 7d, copies: [ { to: far } ]"));
  const ChangePlan plan = judge_change(&before, after, {}, kNow);
  EXPECT_TRUE(says(plan, "shorter plan \"p\"")) << told(plan);
  EXPECT_EQ(std::ranges::count(plan.consequences, "shorter", &Consequence::id), 1) << told(plan);
}

TEST(ChangePlan, approvals_that_more_can_give_or_that_hold_for_longer_are_given_up) {
  const std::string plans = plan_of("p", "db", "keep: 30d");
  const auto judged = [&](const char* was, const char* is) {
    const auto with = [&](const char* words) {
      return config_with(plans, fmt::format("approvals: {{ people: 2, for: [apply]{} }}", words));
    };
    const Config before = with(was), after = with(is);
    return judge_change(&before, after, {}, kNow);
  };
  EXPECT_TRUE(says(judged(", by: [lead]", ", by: [lead, cto]"),
                   "! approvals approvals: cto may agree as well, who could not before"));
  EXPECT_TRUE(
      says(judged(", by: [lead]", ""), "! approvals approvals: whoever owns may agree, not lead alone"));
  EXPECT_TRUE(
      says(judged("", ", valid_for: 2d"), "! approvals approvals: a word holds for 2d instead of 1d"));
  EXPECT_TRUE(judged(", valid_for: 1h", "").promises_less());
  for (const auto& [was, is] :
       std::initializer_list<std::pair<const char*, const char*>>{{", by: [lead, cto]", ", by: [cto]"},
                                                                  {", by: [lead, cto]", ", by: [cto, lead]"},
                                                                  {"", ", by: [cto]"},
                                                                  {"", ", valid_for: 24h"},
                                                                  {", valid_for: 2d", ""}})
    EXPECT_FALSE(judged(was, is).promises_less()) << was << " " << is << told(judged(was, is));
}

}  // namespace
}  // namespace kuramori
