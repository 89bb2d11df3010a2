#include "engine/protection.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

constexpr uint64_t kSegment = 1 << 20;
using State = Protection::State;

Time at(int64_t minutes) {
  return from_unix_ns(minutes * 60'000'000'000);
}

// A vault with snapshots of "db" finished at these minutes; the n-th is consistent at segment 10 × (n + 1).
VaultHoldings vault(const std::string& name, const std::vector<int64_t>& minutes) {
  VaultHoldings out;
  out.held.vault = out.held.site = name;
  VaultHoldings::Resource& resource = out.resources["db"];
  resource.kind = "postgres";
  for (size_t i = 0; i < minutes.size(); ++i) {
    const std::string id = name + std::to_string(i);
    out.held.resources["db"].snapshots.push_back(
        {id, at(minutes[i]), 10 * (i + 1) * kSegment, 1, at(minutes[i])});
  }
  if (!minutes.empty()) resource.next_to_go = {name + "0", at(minutes[0] + 10'000)};
  return out;
}
// One segment a minute, stored at its minute.
void archive(VaultHoldings& vault, uint64_t first, uint64_t last, int64_t minutes, uint32_t timeline = 1) {
  for (uint64_t n = first; n < last; ++n, ++minutes)
    vault.held.resources["db"].wal.push_back({timeline, n * kSegment, (n + 1) * kSegment, at(minutes)});
}
ProtectionPromise promise(std::vector<std::string> vaults) {
  return {.resource = "db", .kind = "postgres", .rpo = Period::of_seconds(3600), .vaults = std::move(vaults)};
}
Protection judged(const ProtectionPromise& promise, const std::vector<VaultHoldings>& vaults, int64_t now) {
  auto all = judge_protection({promise}, vaults, at(now));
  EXPECT_EQ(all.size(), 1u);
  return all.at(0);
}
std::string joined(const Protection& one) {
  std::string out;
  for (const std::string& sentence : one.broken) out += sentence + "\n";
  return out;
}

TEST(Protection, the_achieved_rpo_grows_while_nothing_comes_B5) {
  const std::vector<VaultHoldings> vaults = {vault("tokyo", {100, 400})};
  const Protection in_time = judged(promise({"tokyo"}), vaults, 459);
  EXPECT_EQ(in_time.state, State::kProtected) << joined(in_time);
  EXPECT_EQ(in_time.restorable_to, at(400));
  const Protection late = judged(promise({"tokyo"}), vaults, 462);
  EXPECT_EQ(late.state, State::kAtRisk);
  EXPECT_EQ(joined(late), "what is newer than 1 h 02 m cannot be restored, promised: 1h\n");
}

TEST(Protection, what_no_wal_makes_whole_is_as_old_as_its_beginning) {
  VaultHoldings tokyo = vault("tokyo", {400});
  HeldSnapshot& snapshot = tokyo.held.resources["db"].snapshots[0];
  snapshot.wal_end = 0;
  snapshot.as_of = at(330);
  EXPECT_EQ(judged(promise({"tokyo"}), {tokyo}, 400).state, State::kAtRisk);
}

TEST(Protection, wal_that_follows_counts_up_to_its_first_gap_B5) {
  VaultHoldings tokyo = vault("tokyo", {100});
  archive(tokyo, 9, 30, 99);  // its first holds what the snapshot is consistent with
  EXPECT_EQ(judged(promise({"tokyo"}), {tokyo}, 130).restorable_to, at(119));
  archive(tokyo, 31, 60, 121);
  EXPECT_EQ(judged(promise({"tokyo"}), {tokyo}, 160).restorable_to, at(119));
  archive(tokyo, 30, 31, 155);  // the gap is filled
  EXPECT_EQ(judged(promise({"tokyo"}), {tokyo}, 160).restorable_to, at(155));
}

TEST(Protection, a_timeline_is_followed_to_the_next_and_never_back) {
  VaultHoldings tokyo = vault("tokyo", {100});
  archive(tokyo, 10, 20, 101, 1);
  archive(tokyo, 19, 25, 130, 2);  // promoted within segment 19
  EXPECT_EQ(judged(promise({"tokyo"}), {tokyo}, 160).restorable_to, at(135));
  // The old server that goes on leads nowhere for a snapshot of the new one.
  VaultHoldings after = vault("tokyo", {140});
  after.held.resources["db"].snapshots[0].timeline = 2;
  archive(after, 10, 90, 141, 1);
  EXPECT_EQ(judged(promise({"tokyo"}), {after}, 200).restorable_to, at(140));
}

TEST(Protection, a_copy_is_as_old_as_what_it_copied) {
  VaultHoldings tokyo = vault("tokyo", {100}), osaka = vault("osaka", {100});
  archive(tokyo, 10, 20, 101);
  archive(osaka, 10, 15, 500);  // copied much later
  const Protection one = judged(promise({"tokyo", "osaka"}), {tokyo, osaka}, 510);
  ASSERT_EQ(one.places.size(), 2u);
  EXPECT_EQ(one.places[0].restorable_to, at(110));
  EXPECT_EQ(one.places[1].restorable_to, at(105));
  EXPECT_EQ(one.best, "tokyo");
}

TEST(Protection, what_is_promised_and_is_not_there_is_named) {
  VaultHoldings away;
  away.held.vault = "osaka";
  away.trouble = fail(ErrorKind::kFailed, "no route to osaka");
  EXPECT_EQ(joined(judged(promise({"tokyo", "osaka"}), {vault("tokyo", {100}), away}, 101)),
            "osaka cannot be looked at: no route to osaka\n");
  EXPECT_EQ(joined(judged(promise({"tokyo", "osaka"}), {vault("tokyo", {100}), vault("osaka", {})}, 101)),
            "osaka has no snapshot of it\n");
  const Protection nothing = judged(promise({"tokyo"}), {vault("tokyo", {})}, 101);
  EXPECT_EQ(nothing.state, State::kUnprotected);
  EXPECT_EQ(joined(nothing), "tokyo has no snapshot of it\n");
  ProtectionPromise unplanned = promise({});
  unplanned.is_planned = false;
  EXPECT_EQ(joined(judged(unplanned, {}, 101)), "no plan protects it\n");
}

TEST(Protection, a_failed_proof_and_a_slow_one_break_promises) {
  VaultHoldings tokyo = vault("tokyo", {100});
  auto& proofs = tokyo.resources["db"].proofs;
  proofs.push_back({.vault = "tokyo", .at = at(110), .passed = true, .seconds_to_open = 7300});
  ProtectionPromise wanted = promise({"tokyo"});
  wanted.rto = Period::of_seconds(7200);
  EXPECT_EQ(joined(judged(wanted, {tokyo}, 120)),
            "it took 2 h 01 m to open when it was last proven, promised: 2h\n");
  wanted.rto = Period::of_seconds(7400);
  EXPECT_EQ(judged(wanted, {tokyo}, 120).state, State::kProtected);
  proofs.push_back({.vault = "tokyo", .at = at(115), .passed = false});
  const Protection failed = judged(wanted, {tokyo}, 120);
  EXPECT_EQ(joined(failed), "its last proof failed, 5 m 00 s ago\n");
  EXPECT_EQ(failed.passed->at, at(110));
}

TEST(Protection, a_drill_that_did_not_come_is_missed) {
  constexpr int64_t kDay = 24 * 60;
  VaultHoldings tokyo = vault("tokyo", {100, 10 * kDay});
  ProtectionPromise wanted = promise({"tokyo"});
  wanted.rpo.reset();
  wanted.drills = {{.schedule = parse_schedule("0 5 2 * *").value(), .timezone = "UTC"}};  // 1970-01-02 05:00
  EXPECT_EQ(joined(judged(wanted, {tokyo}, kDay + 10 * 60)), "");  // due at 05:00, six hours of grace
  EXPECT_EQ(joined(judged(wanted, {tokyo}, kDay + 12 * 60)),
            "it was never proven, and a drill was due 7 h 00 m ago\n");
  tokyo.resources["db"].proofs.push_back({.vault = "tokyo", .at = at(kDay + 13 * 60), .passed = true});
  EXPECT_EQ(joined(judged(wanted, {tokyo}, 31 * kDay)), "");
  EXPECT_EQ(joined(judged(wanted, {tokyo}, 33 * kDay)),
            "its last proof is 31 d 11 h old, and a drill was due 19 h 00 m ago\n");
}

TEST(Protection, what_goes_next_is_the_first_of_all_vaults) {
  VaultHoldings tokyo = vault("tokyo", {100, 200, 300}), osaka = vault("osaka", {100});
  tokyo.resources["db"].next_to_go = {"tokyo1", at(3000)};
  osaka.resources["db"].next_to_go = {"osaka0", at(2000)};
  const Protection one = judged(promise({"tokyo"}), {tokyo, osaka}, 310);
  ASSERT_TRUE(one.next_to_go);
  EXPECT_EQ(one.next_to_go->snapshot, "osaka0");
  EXPECT_EQ(one.next_to_go->at, at(2000));
}

TEST(Protection, what_nobody_speaks_of_any_more_is_shown_too) {
  const auto all = judge_protection({}, {vault("tokyo", {100})}, at(101));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].promise.resource, "db");
  EXPECT_EQ(all[0].promise.kind, "postgres");
  EXPECT_EQ(all[0].state, State::kProtected);
}

TEST(Protection, a_copy_is_behind_since_the_oldest_snapshot_it_lacks_M1) {
  const std::vector<VaultHoldings> vaults = {vault("tokyo", {100, 200, 300}), vault("osaka", {100})};
  const Protection behind = judged(promise({"tokyo", "osaka"}), vaults, 320);
  ASSERT_EQ(behind.places.size(), 2u);
  EXPECT_EQ(behind.places[0].behind_since, std::nullopt);
  EXPECT_EQ(behind.places[1].behind_since, at(200));
  const std::vector<VaultHoldings> even = {vault("tokyo", {100}), vault("osaka", {100})};
  EXPECT_EQ(judged(promise({"tokyo", "osaka"}), even, 320).places[1].behind_since, std::nullopt);
}

TEST(Protection, holes_in_the_wal_are_counted_from_the_oldest_snapshot_on_D5) {
  std::vector<VaultHoldings> vaults = {vault("tokyo", {100})};  // consistent at segment 10
  archive(vaults[0], 2, 4, 50);
  archive(vaults[0], 6, 12, 60);  // the hole before 6 lies before the snapshot
  EXPECT_EQ(judged(promise({"tokyo"}), vaults, 120).places[0].wal_gaps, 0u);
  archive(vaults[0], 13, 20, 110);
  archive(vaults[0], 25, 30, 120, 2);
  archive(vaults[0], 31, 32, 130, 2);
  const Protection judged_now = judged(promise({"tokyo"}), vaults, 140);
  EXPECT_EQ(judged_now.places[0].wal_gaps, 2u);
  EXPECT_EQ(judged_now.places[0].newest_wal, at(130));
}

TEST(Protection, it_says_when_the_next_run_and_the_next_proof_are_due) {
  ProtectionPromise daily = promise({"tokyo"});
  daily.runs = {{.schedule = *parse_schedule("0 3 * * *"), .every = {}, .timezone = {}},
                {.schedule = {}, .every = Period::of_seconds(5 * 3600), .timezone = {}}};
  daily.drills = {{.schedule = *parse_schedule("0 5 * * *"), .every = {}, .timezone = {}}};
  const Protection one = judged(daily, {vault("tokyo", {0})}, 10);
  EXPECT_EQ(one.next_run, at(180));  // 03:00 comes before five hours after the snapshot
  EXPECT_EQ(one.proof_due, at(300));
  EXPECT_EQ(judged(daily, {vault("tokyo", {0})}, 190).next_run, at(300));
  EXPECT_EQ(judged(daily, {vault("tokyo", {0})}, 2000).next_run, at(2000));  // it is overdue: now
}

}  // namespace
}  // namespace kuramori
