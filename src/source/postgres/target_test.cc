#include "source/postgres/target.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace kuramori::postgres {
namespace {

constexpr uint32_t kSegment = 16u << 20;
constexpr int64_t kSecond = 1'000'000'000;

// A cluster's life written down by hand: commits at a position (in segments) and a time (in seconds).
struct Life {
  std::vector<Piece> pieces;
  std::map<Timeline, std::string> histories;
  std::vector<Base> bases;
  std::map<std::pair<Timeline, uint64_t>, std::vector<Moment>> moments;
  int64_t known_until = 0;
  uint64_t segments_read = 0;

  static Lsn at(double segments) { return static_cast<Lsn>(segments * kSegment); }
  void segments(Timeline timeline, uint64_t first, uint64_t last) {
    for (uint64_t i = first; i <= last; ++i) {
      pieces.push_back({timeline, i * kSegment, (i + 1) * kSegment, PieceKind::kSegment, "o", "d", 0});
    }
  }
  void base(Timeline timeline, double start, double stop, int64_t seconds) {
    bases.push_back({.id = fmt::format("base{}", bases.size()),
                     .timeline = timeline,
                     .start_lsn = at(start),
                     .stop_lsn = at(stop),
                     .stop_ns = seconds * kSecond});
  }
  void moment(MomentKind kind, Timeline timeline, double where, int64_t seconds, uint32_t xid = 0,
              std::string name = {}) {
    moments[{timeline, static_cast<uint64_t>(where)}].push_back(
        {kind, at(where), at(where) + 64, seconds * kSecond, xid, std::move(name)});
  }
  void commit(Timeline timeline, double where, int64_t seconds, uint32_t xid = 0) {
    moment(MomentKind::kCommit, timeline, where, seconds, xid);
  }
  Result<RecoveryPlan> find(const TargetRequest& request) {
    auto archive = Archive::make(pieces, kSegment, histories);
    if (!archive) return std::move(archive).error();
    RestorePlanner finder(
        *archive, bases,
        [&](const std::vector<SegmentSource>& run, size_t index) -> Result<SegmentScan> {
          SegmentScan scan;
          scan.moments = moments[{run[index].timeline, run[index].start / kSegment}];
          scan.first_record = run[index].start + 40;
          scan.last_record = run[index].start + kSegment * 9 / 10;
          if (!scan.moments.empty()) scan.last_record = std::max(scan.last_record, scan.moments.back().lsn);
          scan.end = scan.last_record + 64;
          return scan;
        },
        [](int64_t ns) { return fmt::format("t{}", ns / kSecond); }, known_until);
    auto plan = finder.find(request);
    segments_read = finder.segments_read();
    return plan;
  }
  Result<RecoveryPlan> at_time(int64_t seconds, bool exclusive = false) {
    return find({.kind = TargetKind::kTime, .time_ns = seconds * kSecond, .exclusive = exclusive});
  }
};

// One base, a commit a second from t100 (segment 2.1) to t189, ten a segment.
Life busy() {
  Life life;
  life.base(1, 1.5, 2.0, 99);
  life.segments(1, 1, 11);
  for (int i = 0; i < 90; ++i) life.commit(1, 2.05 + i / 10.0, 100 + i, 1000 + static_cast<uint32_t>(i));
  return life;
}

TEST(Target, P49_a_time_becomes_the_lsn_of_the_last_commit_up_to_it) {
  Life life = busy();
  auto plan = life.at_time(142);
  ASSERT_TRUE(plan) << plan.error().what << plan.error().why;
  EXPECT_EQ(plan->target_lsn, Life::at(2.05 + 42 / 10.0));
  EXPECT_TRUE(plan->inclusive);
  EXPECT_EQ(plan->last_commit->xid, 1042u);
  EXPECT_EQ(plan->timeline, 1u);
  EXPECT_EQ(plan->segments.front().start, Life::at(1));
  EXPECT_EQ(plan->segments.back().start, Life::at(6));
  EXPECT_EQ(plan->promise.until, plan->last_commit->end);
  EXPECT_NE(plan->explanation.find("t142"), std::string::npos);
}

TEST(Target, P49_exclusive_leaves_out_what_was_committed_at_that_very_moment) {
  Life life = busy();
  EXPECT_EQ(life.at_time(142, true)->last_commit->xid, 1041u);
  EXPECT_EQ(life.at_time(142, false)->last_commit->xid, 1042u);
}

TEST(Target, every_second_is_found_and_few_segments_are_read) {
  Life life = busy();
  for (int i = 0; i < 90; ++i) {
    auto plan = life.at_time(100 + i);
    ASSERT_TRUE(plan) << i << plan.error().why;
    EXPECT_EQ(plan->last_commit->xid, 1000u + static_cast<uint32_t>(i));
  }
  Life day;
  day.base(1, 1.5, 2.0, 0);
  day.segments(1, 1, 5000);
  for (int i = 0; i < 4990; ++i) day.commit(1, 2.05 + i, 10 * i);
  ASSERT_TRUE(day.at_time(31234));
  EXPECT_LE(day.segments_read, 24u);
}

TEST(Target, S5_P49_a_time_beyond_the_archive_is_refused_with_the_window) {
  Life life = busy();
  auto plan = life.at_time(4000000);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().kind, ErrorKind::kRefused);
  EXPECT_NE(plan.error().why.find("from t99 to t189"), std::string::npos) << plan.error().why;
}

TEST(Target, S5_P49_a_time_before_the_first_snapshot_ended_is_refused_with_the_window) {
  auto plan = busy().at_time(98);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().kind, ErrorKind::kRefused);
  EXPECT_NE(plan.error().why.find("from t99 to t189"), std::string::npos);
}

TEST(Target, a_quiet_database_is_restorable_to_a_time_after_its_last_commit) {
  Life life = busy();
  life.segments(1, 12, 12);
  life.moment(MomentKind::kCheckpoint, 1, 12.5, 500);
  auto plan = life.at_time(450);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->last_commit->xid, 1089u);
  EXPECT_FALSE(life.at_time(501));
  life.known_until = 600 * kSecond;
  EXPECT_TRUE(life.at_time(550));
}

TEST(Target, a_time_with_no_commit_since_the_snapshot_is_the_snapshots_own_state) {
  Life life;
  life.base(1, 1.5, 2.0, 100);
  life.segments(1, 1, 3);
  life.commit(1, 3.5, 300);
  auto plan = life.at_time(200);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->immediate);
  EXPECT_FALSE(plan->target_lsn);
  EXPECT_EQ(plan->promise.until, Life::at(2.0));
}

TEST(Target, a_time_whose_way_has_a_hole_is_refused_and_the_segment_named) {
  Life life = busy();
  std::erase_if(life.pieces, [](const Piece& piece) { return piece.from == Life::at(5); });
  EXPECT_TRUE(life.at_time(120));
  auto plan = life.at_time(150);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().kind, ErrorKind::kRefused);
  EXPECT_NE(plan.error().why.find("000000010000000000000005"), std::string::npos) << plan.error().why;
  auto latest = life.find({.kind = TargetKind::kLatest});
  ASSERT_FALSE(latest);
  EXPECT_NE(latest.error().why.find("000000010000000000000005"), std::string::npos);
}

TEST(Target, commits_slightly_out_of_order_stop_before_the_first_that_is_too_late) {
  Life life;
  life.base(1, 1.5, 2.0, 50);
  life.segments(1, 1, 6);
  life.commit(1, 2.1, 100, 1);
  life.commit(1, 3.9, 130, 2);  // took its time early, its place late: and the other way round
  life.commit(1, 4.1, 120, 3);
  life.commit(1, 5.1, 200, 4);
  EXPECT_EQ(life.at_time(125)->last_commit->xid, 1u);
  EXPECT_EQ(life.at_time(130)->last_commit->xid, 3u);
}

TEST(Target, P50_the_newest_snapshot_that_ended_before_the_target_is_taken) {
  Life life = busy();
  life.base(1, 5.0, 5.5, 134);
  life.base(1, 8.0, 8.5, 164);
  EXPECT_EQ(life.at_time(133)->base, 0u);
  EXPECT_EQ(life.at_time(140)->base, 1u);
  EXPECT_EQ(life.at_time(140)->segments.front().start, Life::at(5));
  EXPECT_EQ(life.at_time(170)->base, 2u);
  EXPECT_EQ(life.find({.kind = TargetKind::kLatest})->base, 2u);
  EXPECT_EQ(life.find({.kind = TargetKind::kLsn, .lsn = Life::at(7)})->base, 1u);
  EXPECT_EQ(life.find({.kind = TargetKind::kXid, .xid = 1015})->base, 0u);
}

// Timeline 2 left 1 at 5.5 (t135); 1 went on.
Life branched() {
  Life life = busy();
  std::erase_if(life.moments, [](const auto& item) { return item.first.second > 11; });
  life.histories[2] = "1\t" + format_lsn(Life::at(5.5)) + "\tno recovery target specified\n";
  life.pieces.push_back({2, 0, 0, PieceKind::kHistory, "h", "h", 0});
  life.segments(2, 5, 9);
  for (int i = 0; i < 30; ++i) life.commit(2, 5.6 + i / 10.0, 140 + i, 2000 + static_cast<uint32_t>(i));
  for (auto& moment : life.moments[{1, 5}]) {
    if (moment.lsn < Life::at(5.5)) life.moments[{2, 5}].insert(life.moments[{2, 5}].begin(), moment);
  }
  std::ranges::sort(life.moments[{2, 5}], {}, &Moment::lsn);
  return life;
}

TEST(Target, P49_P50_the_timeline_is_the_newest_unless_told_and_its_ancestors_are_followed) {
  Life life = branched();
  auto before = life.at_time(120);
  ASSERT_TRUE(before) << before.error().why;
  EXPECT_EQ(before->timeline, 2u);
  EXPECT_EQ(before->last_commit->xid, 1020u);
  auto after = life.at_time(150);
  ASSERT_TRUE(after);
  EXPECT_EQ(after->last_commit->xid, 2010u);
  EXPECT_EQ(after->segments[4].timeline, 2u);  // segment 5, of the switch (P52)
  EXPECT_EQ(after->segments[3].timeline, 1u);
  auto old_way = life.find({.kind = TargetKind::kTime, .time_ns = 150 * kSecond, .timeline = 1});
  ASSERT_TRUE(old_way);
  EXPECT_EQ(old_way->last_commit->xid, 1050u);
  EXPECT_EQ(old_way->timeline, 1u);
}

TEST(Target, P50_a_snapshot_taken_on_the_abandoned_branch_is_not_used_for_the_other) {
  Life life = branched();
  life.base(1, 6.0, 6.5, 144);
  EXPECT_EQ(life.at_time(150)->base, 0u);
  EXPECT_EQ(life.find({.kind = TargetKind::kTime, .time_ns = 150 * kSecond, .timeline = 1})->base, 1u);
  auto named = life.find({.kind = TargetKind::kTime, .time_ns = 150 * kSecond, .timeline = 2, .base = 1});
  ASSERT_FALSE(named);
  EXPECT_NE(named.error().what.find("not on the way to timeline 2"), std::string::npos);
  // Named without a timeline, it is brought along its own.
  EXPECT_EQ(life.find({.kind = TargetKind::kTime, .time_ns = 150 * kSecond, .base = 1})->timeline, 1u);
}

TEST(Target, P33_a_lost_history_file_refuses_instead_of_restoring_the_older_timeline) {
  Life life = branched();
  life.histories.clear();
  std::erase_if(life.pieces, [](const Piece& piece) { return piece.kind == PieceKind::kHistory; });
  for (auto kind : {TargetKind::kLatest, TargetKind::kTime}) {
    auto plan = life.find({.kind = kind, .time_ns = 120 * kSecond});
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().kind, ErrorKind::kRefused);
    EXPECT_NE(plan.error().what.find("00000002.history"), std::string::npos);
  }
  EXPECT_TRUE(life.find({.kind = TargetKind::kTime, .time_ns = 120 * kSecond, .timeline = 1}));
}

TEST(Target, P49_a_timeline_that_does_not_exist_is_refused_with_those_that_do) {
  auto plan = branched().find({.kind = TargetKind::kLatest, .timeline = 7});
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().why.find("1, 2"), std::string::npos);
}

TEST(Target, an_lsn_must_be_followed_by_a_record_or_be_the_very_end) {
  Life life = busy();
  EXPECT_EQ(life.find({.kind = TargetKind::kLsn, .lsn = Life::at(7)})->target_lsn, Life::at(7));
  EXPECT_FALSE(life.find({.kind = TargetKind::kLsn, .lsn = Life::at(7), .exclusive = true})->inclusive);
  const Lsn last = Life::at(2.05 + 89 / 10.0);
  auto end = life.find({.kind = TargetKind::kLsn, .lsn = std::max(last, Life::at(11.9)) + 64});
  ASSERT_TRUE(end) << end.error().why;
  EXPECT_EQ(end->target_lsn, Life::at(11.9));
  EXPECT_TRUE(end->inclusive);
  auto beyond = life.find({.kind = TargetKind::kLsn, .lsn = Life::at(13)});
  ASSERT_FALSE(beyond);
  EXPECT_NE(beyond.error().why.find(format_lsn(Life::at(12))), std::string::npos) << beyond.error().why;
  EXPECT_FALSE(life.find({.kind = TargetKind::kLsn, .lsn = Life::at(1.9)}));  // before the snapshot's end
}

TEST(Target, a_transaction_is_found_or_said_not_to_be_there) {
  Life life = busy();
  auto plan = life.find({.kind = TargetKind::kXid, .xid = 1033});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->target_lsn, Life::at(2.05 + 3.3));
  auto exclusive = life.find({.kind = TargetKind::kXid, .xid = 1033, .exclusive = true});
  EXPECT_FALSE(exclusive->inclusive);
  EXPECT_EQ(exclusive->last_commit->xid, 1032u);
  EXPECT_FALSE(life.find({.kind = TargetKind::kXid, .xid = 77}));
  life.moment(MomentKind::kAbort, 1, 11.5, 190, 3000);
  auto aborted = life.find({.kind = TargetKind::kXid, .xid = 3000});
  ASSERT_FALSE(aborted);
  EXPECT_NE(aborted.error().why.find("rolled back"), std::string::npos);
}

TEST(Target, the_newest_restore_point_of_a_name_is_taken) {
  Life life = busy();
  life.moment(MomentKind::kRestorePoint, 1, 3.99, 119, 0, "before");
  life.moment(MomentKind::kRestorePoint, 1, 9.99, 179, 0, "before");
  auto plan = life.find({.kind = TargetKind::kName, .name = "before"});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->target_lsn, Life::at(9.99));
  EXPECT_FALSE(life.find({.kind = TargetKind::kName, .name = "after"}));
}

TEST(Target, the_snapshot_alone_stops_where_it_is_consistent) {
  Life life = busy();
  auto plan = life.find({.kind = TargetKind::kSnapshot, .base = 0});
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->immediate);
  EXPECT_EQ(plan->segments.size(), 1u);
  std::erase_if(life.pieces, [](const Piece& piece) { return piece.from == Life::at(1); });
  auto refused = life.find({.kind = TargetKind::kSnapshot, .base = 0});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().why.find("000000010000000000000001"), std::string::npos) << refused.error().why;
}

}  // namespace
}  // namespace kuramori::postgres
