#include "policy/simulate.h"

#include <gtest/gtest.h>

#include "base/sanitized.h"
#include "base/time_text.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

Time at(std::string_view text) {
  return parse_moment(text)->time;
}
Period period(std::string_view text) {
  return *parse_period(text);
}
SnapshotId id_of(uint8_t number) {
  SnapshotId id;
  id.raw[0] = number;
  return id;
}

Config config_of(const std::string& plans, const std::string& limits = "") {
  const ConfigWorld world{
      .environment = [](const std::string&) { return std::optional<std::string>(); },
      .read_file = [](const std::string&) { return Result<std::string>(fail(ErrorKind::kNotFound, "no")); },
      .run_command = [](const std::string&) { return Result<std::string>(fail(ErrorKind::kFailed, "no")); }};
  auto config = parse_config(
      "vaults:\n  here: { at: /srv/here }\n  away: { at: /srv/away }\n"
      "resources:\n  db: { kind: postgres" +
          limits + " }\nplans:\n" + plans,
      "/etc/kuramori.yaml", world);
  EXPECT_TRUE(config) << config.error().what;
  return std::move(*config);
}

Simulation play(const Config& config, std::string_view from, std::string_view length) {
  SimulationRequest request{.from = at(from), .until = later(at(from), period(length)), .prune_every = 24h};
  auto simulation = simulate(config, request);
  EXPECT_TRUE(simulation) << simulation.error().what;
  return std::move(*simulation);
}

// Those that were there at a moment.
size_t there_at(const SimulatedPlace& place, Time when) {
  return static_cast<size_t>(std::ranges::count_if(place.snapshots, [&](const SimulatedSnapshot& snapshot) {
    return snapshot.time <= when && (!snapshot.dropped_at || *snapshot.dropped_at > when);
  }));
}

TEST(Simulate, EightYearsOfAPlanLeaveWhatItsRulesSay_B7) {
  const Config config = config_of(
      "  p: { resources: [db], vault: here, schedule: \"0 */3 * * *\", keep: { all: 14d, monthly: 7y } }\n");
  const Simulation simulation = play(config, "2026-01-01 00:00:00Z", "8y");
  ASSERT_EQ(simulation.places.size(), 1u);
  const SimulatedPlace& place = simulation.places[0];
  EXPECT_EQ(place.made, size_t{(365 * 8 + 2) * 8 + 1});  // the last moment is played too
  const CountAt& end = place.over_time.back();
  EXPECT_EQ(end.at, at("2034-01-01 00:00:00Z"));
  // 14 days of eight a day, of which the newest is January 2034's first; of months the seven years to it.
  EXPECT_EQ(end.by_rule.at("all"), 14u * 8 - 1);
  EXPECT_EQ(end.by_rule.at("monthly"), 84u);
  EXPECT_EQ(place.over_time.size(), 8u);
  EXPECT_EQ(*place.first_drop, at("2026-01-15 00:00:00Z") + 24h);
  EXPECT_EQ(place.longest_wait->length(), 3h);
  EXPECT_EQ(place.made - place.dropped, end.count);
  EXPECT_EQ(there_at(place, simulation.until), end.count);
}

TEST(Simulate, ALineOfEachSaysWhyItStaysOrWent) {
  const Config config = config_of(
      "  p: { resources: [db], vault: here, schedule: \"0 3 * * *\", keep: { all: 2d, last: 4 } }\n");
  const Simulation simulation = play(config, "2026-03-01 00:00:00Z", "10d");
  const SimulatedPlace& place = simulation.places[0];
  ASSERT_EQ(place.snapshots.size(), 10u);
  EXPECT_EQ(place.snapshots[0].reason, "all 2d");
  EXPECT_EQ(place.snapshots[0].dropped_at, at("2026-03-06 00:00:00Z"));  // four newer stand by then
  EXPECT_EQ(place.snapshots[0].end_reason, "was kept until 2026-03-03 03:00:00 UTC");
  EXPECT_EQ(place.snapshots[6].end_reason, "among the last 4");
  EXPECT_EQ(place.snapshots[9].end_reason, "kept until 2026-03-12 03:00:00 UTC");
  EXPECT_EQ(place.peak, 5u);
}

TEST(Simulate, ACopyHasItsOwnRetention_P58_J1) {
  const Config config = config_of(
      "  p: { resources: [db], vault: here, schedule: \"0 3 * * *\", keep: 3d, copies: "
      "[ { to: away, keep: { monthly: 12mo } } ] }\n");
  const Simulation simulation = play(config, "2026-01-10 00:00:00Z", "2y");
  ASSERT_EQ(simulation.places.size(), 2u);
  const SimulatedPlace &first = simulation.places[0], &second = simulation.places[1];
  EXPECT_TRUE(second.is_copy);
  EXPECT_EQ(first.over_time.back().count, 3u);
  EXPECT_EQ(second.made, 25u);  // one a month, January 2026 to January 2028
  EXPECT_EQ(second.over_time.back().count, 12u);
  EXPECT_EQ(second.over_time.back().by_rule.at("monthly"), 12u);
}

TEST(Simulate, ABudgetThatIsTooSmallShowsLongBeforeItHurts) {
  const Config config =
      config_of("  p: { resources: [db], vault: here, schedule: \"0 * * * *\", keep: { all: 1d } }\n",
                ", limits: { delete: 3 }");
  const Simulation simulation = play(config, "2026-01-01 00:00:00Z", "7d");
  const SimulatedPlace& place = simulation.places[0];
  EXPECT_EQ(place.dropped, 1u);  // the one at midnight; from the next day on 24 would go at once
  EXPECT_EQ(place.refused, 6u);
  EXPECT_NE(place.refused_why.find("limits: delete: 3 allows 3 at once"), std::string::npos)
      << place.refused_why;
}

TEST(Simulate, TheBaseOfTheWindowAndTheLastProvenStay_B8) {
  const Config config = config_of(
      "  p: { resources: [db], vault: here, schedule: \"0 0 * * 0\", keep: { all: 14d }, window: 14d, drill: "
      "{ "
      "schedule: \"0 1 1 * *\" } }\n");
  const Simulation simulation = play(config, "2026-01-01 00:00:00Z", "3mo");
  const SimulatedPlace& place = simulation.places[0];
  std::map<std::string, std::string> stays;
  for (const SimulatedSnapshot& snapshot : place.snapshots)
    if (!snapshot.dropped_at) stays[format_utc(snapshot.time).substr(0, 10)] = snapshot.end_reason;
  // 2026-04-01 00:00: the window begins on 18 March, its base is of the 15th; drilled were the newest of the
  // first of February and March.
  ASSERT_TRUE(stays.contains("2026-03-15")) << stays.size();
  EXPECT_EQ(stays["2026-03-15"].substr(0, 23), "base of the window of 1");
  EXPECT_EQ(stays["2026-03-01"], "the last proven snapshot of db");
  EXPECT_EQ(stays["2026-03-22"].substr(0, 10), "kept until");
  EXPECT_EQ(stays.size(), 4u);
}

TEST(Simulate, WhatIsThereAtTheStartIsPlayedOn) {
  const Config config =
      config_of("  p: { resources: [db], vault: here, schedule: \"0 3 * * *\", keep: 2d }\n");
  SimulationRequest request{
      .from = at("2026-03-01 00:00:00Z"), .until = at("2026-03-05 00:00:00Z"), .prune_every = 24h};
  for (uint8_t number = 1; number <= 3; ++number) {
    SnapshotFacts facts{.id = id_of(number), .time = request.from - number * 24h, .holds = {}};
    facts.stop = facts.time;
    facts.keep_until = facts.time + 48h;
    if (number == 3) facts.holds = {"audit"};
    request.existing[{"here", "db"}].push_back(facts);
  }
  auto simulation = simulate(config, request);
  ASSERT_TRUE(simulation);
  const SimulatedPlace& place = simulation->places[0];
  EXPECT_EQ(place.made, 4u);
  EXPECT_EQ(place.snapshots[0].rule, "there");
  EXPECT_EQ(place.snapshots[0].dropped_at, at("2026-03-02 00:00:00Z"));
  EXPECT_EQ(place.snapshots[2].dropped_at, std::nullopt);
  EXPECT_EQ(place.snapshots[2].end_reason, "held by audit");
}

TEST(Simulate, PruneRunsWhenTheVaultSaysSo) {
  Config config = config_of("  p: { resources: [db], vault: here, schedule: \"0 3 * * *\", keep: 2d }\n");
  config.vaults[0].upkeep.prune = *parse_schedule("30 12 * * 0");
  config.vaults[0].upkeep.timezone = "Asia/Tokyo";
  auto simulation =
      simulate(config, {.from = at("2026-03-01 00:00:00Z"), .until = at("2026-04-01 00:00:00Z")});
  ASSERT_TRUE(simulation);
  const SimulatedPlace& place = simulation->places[0];
  EXPECT_EQ(place.first_drop, at("2026-03-08 03:30:00Z"));  // the first Sunday on which anything is due
  EXPECT_EQ(place.last_drop, at("2026-03-29 03:30:00Z"));
  EXPECT_EQ(place.peak, 9u);
}

TEST(Simulate, TooManyRunsAreRefusedInWords) {
  if (kIsSanitized) GTEST_SKIP() << "one thread's arithmetic";
  const Config config =
      config_of("  p: { resources: [db], vault: here, schedule: \"* * * * *\", keep: 1d }\n");
  SimulationRequest request{.from = at("2026-01-01 00:00:00Z"), .until = at("2066-01-01 00:00:00Z")};
  auto simulation = simulate(config, request);
  ASSERT_FALSE(simulation);
  EXPECT_EQ(simulation.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(simulate(config, {.from = request.from, .until = request.from, .plan = "q"}).error().kind,
            ErrorKind::kUsage);
}

// P61: a clock that went ahead and came back drops nothing while it cannot be believed.
TEST(KeptHistory, P61_AClockThatCameBackDropsNothing) {
  KeptHistory history("db", {});
  const KeepRules rules{.all = period("2d")};
  const Time start = at("2026-03-01 00:00:00Z");
  history.back_up(id_of(1), rules, "UTC", start, start);
  history.back_up(id_of(2), rules, "UTC", start + 24h * 30, start + 1h);  // a month ahead
  auto refused = history.prune(start + 72h, start + 72h);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  // The store's word alone does not make it due either.
  EXPECT_FALSE(history.prune(start + 24h * 40, start + 72h));
  auto lines = history.prune(start + 24h * 40, start + 24h * 40);
  ASSERT_TRUE(lines);
  EXPECT_EQ(lines->size(), 1u);
}

TEST(Labels, ALabelledSnapshotStaysUntilTheNextOfItsLabelIsProven_B10) {
  KeptHistory history("db", {});
  const KeepRules rules{.all = period("1d")};
  const Time start = at("2026-03-01 00:00:00Z");
  auto drops = [&](Time now) {
    std::string out;
    const auto lines = history.prune(now, now);
    for (const PruneLine& line : *lines) {
      out += std::to_string(line.id.raw[0]) + " ";
      EXPECT_EQ(line.reviewed_hold, line.id == id_of(1) ? "label:pre-release" : "");
    }
    return out;
  };
  history.back_up(id_of(1), rules, "UTC", start, start);
  history.label(id_of(1), "pre-release");
  for (uint8_t number = 2; number <= 4; ++number)
    history.back_up(id_of(number), rules, "UTC", start + number * 1h, start + number * 1h);
  EXPECT_EQ(drops(start + 24h * 100), "2 3 ");
  // Another label's proof says nothing; nor does the next of its own, as long as nobody proved it.
  history.back_up(id_of(5), rules, "UTC", start + 24h * 101, start + 24h * 101);
  history.label(id_of(5), "other");
  history.prove_newest(start + 24h * 101);
  EXPECT_EQ(drops(start + 24h * 103), "4 ");
  history.back_up(id_of(6), rules, "UTC", start + 24h * 104, start + 24h * 104);
  history.label(id_of(6), "pre-release");
  EXPECT_EQ(drops(start + 24h * 200), "");
  auto why = history.explain(start + 24h * 200);
  ASSERT_TRUE(why);
  EXPECT_EQ((*why)[0].reason, "held by label:pre-release");
  history.prove_newest(start + 24h * 200);
  EXPECT_EQ(drops(start + 24h * 201), "1 ");
}

TEST(Labels, AHoldBySomebodyElseStaysBesideIt) {
  KeptHistory history("db", {});
  const Time start = at("2026-03-01 00:00:00Z");
  for (uint8_t number = 1; number <= 2; ++number) {
    history.back_up(id_of(number), {.last = 1}, "UTC", start + number * 1h, start + number * 1h);
    history.label(id_of(number), "pre-release");
  }
  history.hold(id_of(1), "audit");
  history.prove_newest(start + 3h);
  EXPECT_TRUE(history.prune(start + 24h, start + 24h)->empty());
  const auto why = history.explain(start + 24h);
  EXPECT_EQ((*why)[0].reason, "held by audit");
}

TEST(DeleteBudget, SharesAndCounts) {
  EXPECT_EQ(parse_delete_budget("20%")->of(100), 20u);
  EXPECT_EQ(parse_delete_budget("20%")->of(4), 1u);  // never none: a vault must be able to shrink
  EXPECT_EQ(parse_delete_budget("50")->of(10), 50u);
  EXPECT_EQ(format_delete_budget(*parse_delete_budget("20%")), "20%");
  EXPECT_EQ(format_delete_budget(*parse_delete_budget("50")), "50");
  for (const char* bad : {"", "%", "0", "0%", "101%", "-1", "1.5", "many", "50 %"})
    EXPECT_FALSE(parse_delete_budget(bad)) << bad;
  EXPECT_FALSE(over_budget(parse_delete_budget("3").value(), "db", 3, 10));
  auto refused = over_budget(parse_delete_budget("20%").value(), "db", 3, 10);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, ErrorKind::kRefused);
  EXPECT_EQ(refused->why, "3 of its 10 snapshots would go, and limits: delete: 20% allows 2 at once");
}

}  // namespace
}  // namespace kuramori
