// The simulation is not blind: each planted mistake is found by search. And it is the product's own code: it
// runs with the real codec too, and through every schedule of a small scenario with few preemptions.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "testing/simulation.h"
#include "vault/envelope.h"

namespace kuramori::testing {
namespace {

#if defined(KURAMORI_SANITIZED_THREAD)
constexpr uint64_t kSanitizerFactor = 100;  // the driver is one thread: there is little for it to find
#elif defined(KURAMORI_SANITIZED)
constexpr uint64_t kSanitizerFactor = 10;  // slower by about as much
#else
constexpr uint64_t kSanitizerFactor = 1;
#endif

// What the writer, the collector and the pruner of the exhaustive walk do: here the writer builds on a
// snapshot that the pruner takes.
constexpr uint64_t kExhaustiveSeed = 3;

#if defined(KURAMORI_SANITIZED)
constexpr bool kWalksExhaustively = false;
#else
constexpr bool kWalksExhaustively = true;
#endif
constexpr uint64_t kSanitizedBudgetMax =
    5'000;  // under a sanitizer the short searches; all of them run without it

struct Mistake {
  PlantedBug bug;
  const char* name;
  std::vector<std::string> caught_by;  // one of these invariants
  uint64_t budget;                     // schedules
  std::optional<Scenario> scenario = {};
  // What the mistake breaks at once is passed over where the loss that follows is what must be found.
  std::vector<std::string> muted = {};
};

void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.name;
}

const Mistake kMistakes[] = {
    {PlantedBug::kChecksBeforeSession, "checks_before_session", {"I1", "I7"}, 30'000},
    {PlantedBug::kNoRescue, "no_rescue", {"I1", "I7"}, 5'000},
    {PlantedBug::kNeitherWaitNorFence, "neither_wait_nor_fence", {"I1", "I7"}, 20'000, {}, {"I6", "I12"}},
    {PlantedBug::kCommitsBeforeSessions, "commits_before_sessions", {"I1", "I7"}, 40'000},
    {PlantedBug::kRescueOpenOnly, "rescue_open_only", {"I1", "I7"}, 5'000},
    {PlantedBug::kDeleteBeforeSweep, "delete_before_sweep", {"I1", "I7"}, 150'000, Scenario::kRescue, {"I5"}},
    {PlantedBug::kLoserDeletesOwnList,
     "loser_deletes_own_list",
     {"I1", "I7"},
     150'000,
     Scenario::kRescue,
     {"I5"}},
    {PlantedBug::kAbandonRemovesPlan,
     "abandon_removes_plan",
     {"I1", "I7"},
     200'000,
     Scenario::kRescue,
     {"I9", "I12", "I6", "I5"}},
    {PlantedBug::kPruneRemovesCommit, "prune_removes_commit", {"I2"}, 10'000},
    {PlantedBug::kFenceRemoved, "fence_removed", {"I2"}, 20'000, {}, {"I6", "I12"}},
    {PlantedBug::kGcRemoved,
     "gc_removed",
     {"I1", "I7"},
     200'000,
     Scenario::kRescue,
     {"I9", "I12", "I6", "I5"}},
    {PlantedBug::kGcRemovedCarefully, "gc_removed_carefully", {"I9"}, 20'000, Scenario::kRescue, {"I12"}},
    {PlantedBug::kIndexCachedBefore,
     "index_cached_before",
     {"I1", "I7"},
     60'000,
     {},
     {"I9", "I12", "I6", "I5"}},
    {PlantedBug::kParentsNotRead, "parents_not_read", {"I1", "I7"}, 30'000, {}, {"I9", "I12", "I6", "I5"}},
    {PlantedBug::kOpenSessionExempt, "open_session_exempt", {"I1", "I7"}, 20'000, {}, {"I6", "I12"}},
    {PlantedBug::kAnyRefusalIsSuccess, "any_refusal_is_success", {"I4"}, 20'000},
    {PlantedBug::kTimeoutIsSuccess, "timeout_is_success", {"I1"}, 5'000},
    {PlantedBug::kCopyWithoutSession, "copy_without_session", {"I1", "I7"}, 5'000, Scenario::kReplica},
    // Its objects carry a session of the other vault, of which nobody here can say that it is decided.
    {PlantedBug::kCopyKeepsNames, "copy_keeps_names", {"I12"}, 5'000, Scenario::kReplica},
    {PlantedBug::kCopyFencedForEver,
     "copy_fenced_for_ever",
     {"C5"},
     30'000,
     Scenario::kReplica,
     {"I8", "I12"}},
    {PlantedBug::kAckBeforeMirror, "ack_before_mirror", {"I4"}, 5'000, Scenario::kTwoPlaces},
    {PlantedBug::kWriterSkipsEpoch, "writer_skips_epoch", {"I4"}, 5'000, Scenario::kTwoPlaces},
    {PlantedBug::kCollectorSkipsEpoch, "collector_skips_epoch", {"I1"}, 5'000, Scenario::kTwoPlaces, {"I5"}},
    {PlantedBug::kTombstoneNotMirrored, "tombstone_not_mirrored", {"I1"}, 5'000, Scenario::kTwoPlaces},
    {PlantedBug::kSweepNotMirrored, "sweep_not_mirrored", {"I5"}, 5'000, Scenario::kTwoPlaces},
    {PlantedBug::kRebuildListsFirst, "rebuild_lists_first", {"I4"}, 5'000, Scenario::kTwoPlaces},
    {PlantedBug::kNoSeal, "no_seal", {"I13"}, 5'000, Scenario::kTwoPlaces},
    {PlantedBug::kPruneUnnumbered, "prune_unnumbered", {"I10"}, 30'000, {}, {"I11", "I12"}},
    {PlantedBug::kHoldsReadFirst, "holds_read_first", {"I11"}, 40'000},
    {PlantedBug::kCondemnedCounts, "condemned_counts", {"I1", "I7"}, 20'000, Scenario::kThin},
    {PlantedBug::kFramesOnlyCounted, "frames_only_counted", {"I1", "I7"}, 60'000, Scenario::kThin},
    {PlantedBug::kReaderChecksFirst, "reader_checks_first", {"I1"}, 40'000, Scenario::kReaders},
    {PlantedBug::kWalIgnoresSessions, "wal_ignores_sessions", {"I1"}, 60'000, Scenario::kWal},
    {PlantedBug::kClonesNotCompared, "clones_not_compared", {"I1", "I4"}, 5'000},
    {PlantedBug::kUnreadableIsAbsent, "unreadable_is_absent", {"I1", "I7"}, 40'000, Scenario::kGarbled},
    {PlantedBug::kListTruncated, "list_truncated", {"I1", "I7"}, 20'000, {}, {"I4", "I6", "I9", "I12"}},
    {PlantedBug::kRetryDiffers, "retry_differs", {"I8"}, 5'000},
    {PlantedBug::kHealRemovesFirst, "heal_removes_first", {"I1", "I5"}, 5'000, Scenario::kRot},
    {PlantedBug::kHealTrustsSent, "heal_trusts_sent", {"I1", "I5", "I14"}, 5'000, Scenario::kRot},
};

class PlantedBugs : public ::testing::TestWithParam<Mistake> {};

TEST_P(PlantedBugs, is_caught) {
  const Mistake& mistake = GetParam();
  // The long searches find the same seeds under a sanitizer, many times slower.
  if (kSanitizerFactor > 1 && mistake.budget > kSanitizedBudgetMax) GTEST_SKIP();
  Simulation simulation({.bug = mistake.bug, .only = mistake.scenario, .muted = mistake.muted});
  for (uint64_t seed = 1; seed <= mistake.budget; ++seed) {
    ScheduleResult result = simulation.run(seed);
    if (!result.violation) continue;
    const auto& expected = mistake.caught_by;
    EXPECT_TRUE(std::ranges::count(expected, result.violation->invariant))
        << "seed " << seed << ": " << result.violation->invariant << ": " << result.violation->text;
    // A seed is a schedule: it gives the same again, in a world that has run others before, and in a fresh
    // one.
    EXPECT_EQ(simulation.run(seed).violation->text, result.violation->text);
    Simulation fresh({.bug = mistake.bug, .only = mistake.scenario, .muted = mistake.muted});
    EXPECT_EQ(fresh.run(seed).violation->text, result.violation->text);
    return;
  }
  FAIL() << "not caught in " << mistake.budget << " schedules";
}

INSTANTIATE_TEST_SUITE_P(All, PlantedBugs, ::testing::ValuesIn(kMistakes),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ProtocolSimulation, every_schedule_with_one_preemption_is_safe) {
  if (!kWalksExhaustively) GTEST_SKIP();
  ExhaustiveResult result = run_preemptions({}, kExhaustiveSeed, 1);
  EXPECT_GT(result.schedules, 500u);
  EXPECT_FALSE(result.violation) << result.violation->invariant << ": " << result.violation->text;
}

TEST(ProtocolSimulation, every_schedule_with_two_preemptions_is_safe) {
  if (!kWalksExhaustively) GTEST_SKIP();
  ExhaustiveResult result = run_preemptions({}, kExhaustiveSeed, 2, 2 * kSanitizerFactor + 1);
  EXPECT_GT(result.schedules, 1000u);
  EXPECT_FALSE(result.violation) << result.violation->invariant << ": " << result.violation->text;
  fmt::print("{} schedules\n", result.schedules);
}

// The walk over few preemptions sees something too: two of them are enough to lose what is not rescued.
TEST(ProtocolSimulation, two_preemptions_find_a_missing_rescue) {
  if (!kWalksExhaustively) GTEST_SKIP();
  EXPECT_TRUE(run_preemptions({.bug = PlantedBug::kNoRescue}, kExhaustiveSeed, 2).violation);
}

class SeededRandom : public Random {
 public:
  void fill(MutableByteView out) override {
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(dice_.next());
  }

 private:
  Dice dice_{1};
};

TEST(ProtocolSimulation, holds_with_the_real_codec) {
  SeededRandom random;
  KeyBundle keys = KeyBundle::new_owner("simulated", random);
  SealedRecordCodec codec(keys, random);
  Simulation simulation({.codec = &codec, .signer = signer_id(keys.signing->verify_key())});
  uint64_t commits = 0, sweeps = 0;
  for (uint64_t seed = 1; seed <= 600 / kSanitizerFactor; ++seed) {
    ScheduleResult result = simulation.run(seed);
    ASSERT_FALSE(result.violation) << "seed " << seed << ": " << result.violation->invariant << ": "
                                   << result.violation->text;
    commits += result.commits;
    sweeps += result.sweeps;
  }
  EXPECT_GT(commits, 0u);
  EXPECT_GT(sweeps, 0u);
}

TEST(ProtocolSimulation, no_schedule_is_cut_off) {
  Simulation simulation({});
  for (uint64_t seed = 1; seed <= 5000 / kSanitizerFactor; ++seed) {
    ScheduleResult result = simulation.run(seed);
    ASSERT_FALSE(result.endless) << "seed " << seed;
    ASSERT_FALSE(result.violation) << "seed " << seed << ": " << result.violation->text;
  }
}

}  // namespace
}  // namespace kuramori::testing
