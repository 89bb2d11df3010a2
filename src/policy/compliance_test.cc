#include "policy/compliance.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kuramori {
namespace {

constexpr Duration kDay = std::chrono::hours(24);
const Time kNow = from_unix_ns(1'800'000'000'000'000'000);  // 2027-01-15

// Everything as it should be: each test breaks one thing of it and sees exactly that control turn red.
struct ComplianceTest : testing::Test {
  ComplianceFacts facts;
  ResourceFacts& db() { return facts.resources[0]; }
  VaultFacts& tokyo() { return facts.vaults[0]; }
  ComplianceConfig& demand() { return facts.demands[0]; }

  void SetUp() override {
    facts.vaults = {{.vault = "tokyo", .site = "tokyo"}, {.vault = "osaka", .site = "osaka"}};
    for (VaultFacts& vault : facts.vaults) {
      vault.kit_made = kNow - 100 * kDay;
      vault.has_writer = vault.has_keeper = true;
      vault.audit_records = 12;
    }
    ResourceFacts db{.resource = "db",
                     .is_planned = true,
                     .plans = {"db"},
                     .rpo = *parse_period("1h"),
                     .rto = *parse_period("4h"),
                     .site = "tokyo",
                     .restorable_to = kNow - std::chrono::minutes(20),
                     .restorable_from = "tokyo"};
    for (int month = 0; month < 5; ++month) {
      const Time made = earlier(kNow, {.months = month}) - kDay;
      for (const char* vault : {"tokyo", "osaka"})
        db.snapshots.push_back({"3f2a", vault, made, later(made, {.months = 84})});
    }
    for (const char* vault : {"tokyo", "osaka"}) {
      db.proofs.push_back({vault, "3f2a", kNow - 30 * kDay, true, 600});
      db.made_by.push_back({vault, "db1.writer", false});
    }
    db.locked.push_back({"osaka", kNow + 20 * kDay});
    facts.resources.push_back(db);
    facts.demands.push_back({.name = "accounting",
                             .keep = parse_period("7y").value(),
                             .locked = parse_period("14d").value(),
                             .proof = parse_period("3mo").value(),
                             .exercise = parse_period("1y").value(),
                             .copies = 3,
                             .sites = 2,
                             .audit_online = parse_period("90d").value(),
                             .audit_archive = parse_period("3y").value(),
                             .escrow = true,
                             .split_roles = true});
    rehearse();
  }
  void rehearse() { facts.exercises = {find_exercise("region-loss", "osaka", {&facts.resources[0]})}; }
  std::vector<std::string> red() {
    std::vector<std::string> ids;
    for (const Control& control : judge_compliance(facts, kNow))
      if (control.verdict == Verdict::kFail) ids.push_back(control.id + " " + control.about);
    return ids;
  }
  void expect_red(const std::string& only) { EXPECT_EQ(red(), std::vector<std::string>{only}); }
  Control control(const std::string& id) {
    for (const Control& one : judge_compliance(facts, kNow))
      if (one.id == id) return one;
    return {};
  }
};

TEST_F(ComplianceTest, all_eleven_controls_pass_with_evidence_O5) {
  const std::vector<Control> all = judge_compliance(facts, kNow);
  EXPECT_EQ(all.size(), 13u) << "eight of the resource, two of each vault, one exercise";
  for (const Control& one : all) {
    EXPECT_EQ(one.verdict, Verdict::kPass) << one.id << ": " << one.measured;
    EXPECT_FALSE(one.measured.empty()) << one.id;
    EXPECT_FALSE(one.demanded.empty()) << one.id;
  }
  std::vector<std::string> ids;
  for (const Control& one : all)
    if (ids.empty() || ids.back() != one.id) ids.push_back(one.id);
  EXPECT_EQ(ids, control_ids());
}

TEST_F(ComplianceTest, rpo_is_red_when_what_is_newer_is_lost_N1) {
  db().restorable_to = kNow - std::chrono::minutes(61);
  expect_red("rpo db");
  db().restorable_to.reset();
  expect_red("rpo db");
}
TEST_F(ComplianceTest, rto_is_red_when_the_last_restore_took_longer_and_unmeasured_without_one_N1) {
  for (ProofFact& proof : db().proofs) proof.seconds = 4 * 3600 + 1;
  expect_red("rto db");
  for (ProofFact& proof : db().proofs) proof.seconds = 4 * 3600;
  EXPECT_TRUE(red().empty());
  db().proofs.clear();
  EXPECT_EQ(control("rto").verdict, Verdict::kNotMeasured);
}
TEST_F(ComplianceTest, a_resource_in_no_plan_is_red) {
  db().is_planned = false;
  expect_red("plan db");
}
TEST_F(ComplianceTest, one_site_alone_is_red_J1) {
  tokyo().site = facts.vaults[1].site = "tokyo";
  expect_red("offsite db");
  tokyo().site = "osaka";
  EXPECT_TRUE(red().empty()) << "the original stands in tokyo";
  demand().copies = 4;
  expect_red("offsite db");
}
TEST_F(ComplianceTest, what_is_not_locked_for_so_long_is_red_O3) {
  db().locked[0].until = kNow + 5 * kDay;
  expect_red("immutable db");
  db().locked.clear();
  expect_red("immutable db");
}
TEST_F(ComplianceTest, a_vault_without_a_recovery_kit_is_red_O1) {
  tokyo().kit_made.reset();
  expect_red("escrow tokyo");
}
TEST_F(ComplianceTest, a_kit_of_one_vault_is_a_kit_of_all_that_have_its_key_O1) {
  tokyo().kit_made.reset();
  for (VaultFacts& vault : facts.vaults) vault.family = "f1";
  EXPECT_TRUE(red().empty());
  tokyo().family = "f2";
  expect_red("escrow tokyo");
}
TEST_F(ComplianceTest, snapshots_of_the_owners_key_and_vaults_without_a_keeper_are_red_O2) {
  db().made_by[0].is_owner = true;
  expect_red("roles db");
  db().made_by[0].is_owner = false;
  tokyo().has_keeper = false;
  expect_red("roles db");
}
TEST_F(ComplianceTest, a_month_of_which_nothing_is_kept_for_seven_years_is_red_O4) {
  auto& snapshots = db().snapshots;
  const std::vector<SnapshotFact> whole = snapshots;
  snapshots[4].keep_until = snapshots[5].keep_until = kNow + 14 * kDay;
  expect_red("retention db");
  EXPECT_NE(control("retention").measured.find("2026-11"), std::string::npos)
      << control("retention").measured;
  snapshots[4].is_held = true;
  EXPECT_TRUE(red().empty()) << "a hold keeps it";
  snapshots = whole;
  snapshots.erase(snapshots.begin() + 2, snapshots.begin() + 4);
  expect_red("retention db");
  snapshots.clear();
  EXPECT_EQ(control("retention").verdict, Verdict::kFail);
}
TEST_F(ComplianceTest, an_audit_log_that_is_cut_or_kept_too_shortly_is_red_O4) {
  tokyo().audit_findings = {"audit/…/0000000003: missing"};
  expect_red("audit tokyo");
  tokyo().audit_findings.clear();
  facts.audit_online = *parse_period("30d");
  EXPECT_EQ(red(), (std::vector<std::string>{"audit tokyo", "audit osaka"}));
  facts.audit_online = *parse_period("90d");
  facts.audit_archive = *parse_period("1y");
  EXPECT_EQ(red().size(), 2u);
  facts.audit_archive = *parse_period("3y");
  tokyo().audit_records = 0;
  expect_red("audit tokyo");
}
TEST_F(ComplianceTest, an_old_proof_is_red_L4) {
  for (ProofFact& proof : db().proofs) proof.at = kNow - 100 * kDay;
  expect_red("proof db");
  for (ProofFact& proof : db().proofs) proof.passed = false;
  EXPECT_EQ(control("proof").verdict, Verdict::kFail);
}
TEST_F(ComplianceTest, an_exercise_is_everything_proven_from_the_scenarios_vault_within_a_week_L6) {
  db().proofs[1].at = kNow - 400 * kDay;
  rehearse();
  expect_red("exercise region-loss");
  db().proofs[1].vault = "tokyo";
  rehearse();
  expect_red("exercise region-loss");
  EXPECT_EQ(control("exercise").evidence, "never proven: db");
  // Two resources, whose proofs lie more than a week apart, are no rehearsal.
  ResourceFacts other = db();
  other.resource = "files";
  other.proofs = {{"osaka", "77aa", kNow - 10 * kDay, true, 5}};
  db().proofs.push_back({"osaka", "3f2a", kNow - 20 * kDay, true, 5});
  EXPECT_FALSE(find_exercise("region-loss", "osaka", {&db(), &other}).last);
  db().proofs.back().at = kNow - 12 * kDay;
  EXPECT_EQ(find_exercise("region-loss", "osaka", {&db(), &other}).last, kNow - 10 * kDay);
  facts.exercises.clear();
  expect_red("exercise all");
}
TEST_F(ComplianceTest, what_nobody_demands_is_never_red) {
  facts.demands.clear();
  tokyo().kit_made.reset();
  db().locked.clear();
  db().snapshots.clear();
  facts.exercises.clear();
  EXPECT_TRUE(red().empty());
  EXPECT_EQ(control("escrow").verdict, Verdict::kNotMeasured);
  EXPECT_EQ(control("escrow").demanded, "");
}
TEST_F(ComplianceTest, a_demand_on_some_resources_leaves_others_alone) {
  demand().resources = {"other"};
  db().snapshots.clear();
  db().locked.clear();
  EXPECT_EQ(control("retention").verdict, Verdict::kNotMeasured);
  EXPECT_EQ(control("immutable").verdict, Verdict::kNotMeasured);
}

}  // namespace
}  // namespace kuramori
