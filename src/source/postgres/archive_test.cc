#include "source/postgres/archive.h"

#include <gtest/gtest.h>

#include "source/postgres/archive_get.h"

namespace kuramori::postgres {
namespace {

constexpr uint32_t kMiB = 1u << 20;

// An archive written down by hand. Positions are in segments, so that the same story is told at every segment
// size.
struct Story {
  explicit Story(uint32_t bytes = 16 * kMiB) : segment_bytes(bytes) {}
  uint32_t segment_bytes;
  std::vector<Piece> pieces;
  std::map<Timeline, std::string> histories;

  Lsn at(double segments) const { return static_cast<Lsn>(segments * segment_bytes); }
  void add(PieceKind kind, Timeline timeline, double from, double to, std::string digest = "d") {
    pieces.push_back(
        {timeline, at(from), at(to), kind, "object-" + std::to_string(pieces.size()), digest, 0});
  }
  void segments(Timeline timeline, uint64_t first, uint64_t last) {
    for (uint64_t i = first; i <= last; ++i) {
      add(PieceKind::kSegment, timeline, static_cast<double>(i), static_cast<double>(i + 1));
    }
  }
  // `timeline` branched off `parents` (oldest first) at the given positions.
  void history(Timeline timeline, std::vector<std::pair<Timeline, double>> parents) {
    std::string text;
    for (auto [parent, where] : parents)
      text += std::to_string(parent) + "\t" + format_lsn(at(where)) + "\tno recovery target\n";
    histories[timeline] = text;
    pieces.push_back({timeline, 0, 0, PieceKind::kHistory, history_name(timeline), "h", text.size()});
  }
  Archive archive() const {
    auto made = Archive::make(pieces, segment_bytes, histories);
    if (!made) ADD_FAILURE() << made.error().what << ": " << made.error().why;
    return std::move(*made);
  }
  std::string name(Timeline timeline, double where) const {
    return segment_name(timeline, at(where), segment_bytes);
  }
  GetDecision get(Timeline timeline, double where, std::optional<RecoveryPromise> promise = {}) const {
    return decide_get(Result<Archive>(archive()), name(timeline, where), promise);
  }
};

class EverySegmentSize : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(P35, EverySegmentSize, testing::Values(kMiB, 16 * kMiB, 64 * kMiB, 1024 * kMiB));

TEST_P(EverySegmentSize, P35_a_hole_is_told_with_its_exact_range_and_segment_names) {
  Story story(GetParam());
  story.segments(1, 2, 4);
  story.segments(1, 7, 9);
  auto gaps = story.archive().gaps(1);
  ASSERT_EQ(gaps.size(), 1u);
  EXPECT_EQ(gaps[0].where, (Stretch{1, story.at(5), story.at(7)}));
  EXPECT_EQ(gaps[0].segments, (std::vector{story.name(1, 5), story.name(1, 6)}));
  EXPECT_EQ(gaps[0].segment_count, 2u);
  EXPECT_NE(describe(gaps[0]).find(story.name(1, 6)), std::string::npos);
}

TEST_P(EverySegmentSize, P35_parts_join_to_one_stretch_and_a_hole_inside_a_segment_is_one) {
  Story story(GetParam());
  story.add(PieceKind::kPart, 1, 2, 2.25);
  story.add(PieceKind::kPart, 1, 2.25, 2.5);
  story.add(PieceKind::kPart, 1, 2.75, 3);
  auto archive = story.archive();
  EXPECT_EQ(archive.stretches(1).size(), 2u);
  ASSERT_EQ(archive.gaps(1).size(), 1u);
  EXPECT_EQ(archive.gaps(1)[0].segments, std::vector{story.name(1, 2)});
  auto source = archive.segment(1, story.at(2));
  ASSERT_TRUE(source && *source);
  EXPECT_EQ((*source)->covered_to, story.at(2.5));
  EXPECT_EQ((*source)->pieces.size(), 2u);
}

TEST(Archive, a_long_hole_names_the_first_segments_and_counts_the_rest) {
  Story story;
  story.segments(1, 0, 0);
  story.segments(1, 100, 100);
  auto gap = story.archive().gaps(1).at(0);
  EXPECT_EQ(gap.segments.size(), kGapNamesMax);
  EXPECT_EQ(gap.segment_count, 99u);
  EXPECT_NE(describe(gap).find("83 more"), std::string::npos);
}

TEST(Archive, P31_two_contents_of_one_segment_are_a_conflict_and_the_same_content_twice_is_none) {
  Story story;
  story.segments(1, 1, 3);
  story.add(PieceKind::kSegment, 1, 1, 2, "d");
  EXPECT_TRUE(story.archive().conflicts().empty());
  EXPECT_EQ(story.get(1, 1).answer, Get::kFound);
  story.add(PieceKind::kSegment, 1, 2, 3, "other");
  auto conflicts = story.archive().conflicts();
  ASSERT_EQ(conflicts.size(), 1u);
  EXPECT_EQ(conflicts[0].objects.size(), 2u);
  EXPECT_EQ(story.get(1, 2).answer, Get::kStopServer);
}

TEST(Archive, P32_two_promotions_may_leave_a_partial_of_the_same_name_but_none_is_then_taken) {
  Story story;
  story.segments(1, 1, 1);
  story.add(PieceKind::kPartial, 1, 2, 3, "one");
  EXPECT_TRUE(story.get(1, 2).segment->from_partial);
  story.add(PieceKind::kPartial, 1, 2, 3, "two");
  EXPECT_TRUE(story.archive().conflicts().empty());
  EXPECT_EQ(story.get(1, 2).answer, Get::kStopServer);
}

TEST(Archive, P33_a_missing_history_is_named_and_not_silently_an_older_timeline) {
  Story story;
  story.segments(1, 1, 5);
  story.segments(2, 5, 8);
  auto archive = story.archive();
  EXPECT_EQ(archive.missing_histories(), std::vector<Timeline>{2});
  auto lineage = archive.lineage(2);
  ASSERT_FALSE(lineage);
  EXPECT_EQ(lineage.error().kind, ErrorKind::kRefused);
  EXPECT_NE(lineage.error().what.find("00000002.history"), std::string::npos);
  // The server probing for the newest timeline must not take the hole for the end.
  auto decision = decide_get(Result<Archive>(story.archive()), "00000002.history");
  EXPECT_EQ(decision.exit_status(), kGetStopServer);
}

TEST(Archive, P34_timelines_above_nine_are_hex_in_names) {
  Story story;
  story.history(10, {{1, 2.5}});
  story.segments(10, 2, 3);
  EXPECT_EQ(story.name(10, 2).substr(0, 8), "0000000A");
  EXPECT_EQ(story.get(10, 2).answer, Get::kFound);
  EXPECT_EQ(decide_get(Result<Archive>(story.archive()), "0000000A.history").answer, Get::kFound);
  EXPECT_EQ(decide_get(Result<Archive>(story.archive()), "0000000B.history").answer, Get::kBeyondEnd);
  // 9 is below a timeline that exists: a hole in the numbers proves nothing.
  EXPECT_EQ(decide_get(Result<Archive>(story.archive()), "00000009.history").answer, Get::kStopServer);
}

TEST(Archive, P52_the_segment_of_a_switch_is_taken_from_the_child) {
  Story story;
  story.segments(1, 1, 6);  // the old primary went on: another history from 4.5 on
  story.history(2, {{1, 4.5}});
  story.segments(2, 4, 7);
  auto archive = story.archive();
  auto reach = archive.reach(*archive.lineage(2), story.at(2.2));
  EXPECT_EQ(reach.why, ReachEnd::kEndOfArchive);
  EXPECT_EQ(reach.to, story.at(8));
  ASSERT_EQ(reach.segments.size(), 6u);
  EXPECT_EQ(reach.segments[1].timeline, 1u);  // 3
  EXPECT_EQ(reach.segments[2].timeline, 2u);  // 4, of the switch
  EXPECT_EQ(reach.segments[5].timeline, 2u);
}

TEST(Archive, the_parents_partial_carries_the_switch_until_the_child_archives_its_own) {
  Story story;
  story.segments(1, 1, 3);
  story.history(2, {{1, 4.5}});
  story.add(PieceKind::kPartial, 1, 4, 5);
  auto archive = story.archive();
  auto reach = archive.reach(*archive.lineage(2), story.at(2));
  EXPECT_EQ(reach.to, story.at(4.5));  // what comes after the switch in the parent's file is another history
  EXPECT_TRUE(reach.segments.back().from_partial);
}

TEST(Archive, windows_follow_ancestors_and_stop_at_holes) {
  Story story;
  story.segments(1, 1, 6);
  story.history(2, {{1, 4.5}});
  story.segments(2, 4, 7);
  story.segments(2, 9, 9);
  std::vector<Base> bases = {
      {.id = "a", .timeline = 1, .start_lsn = story.at(2), .stop_lsn = story.at(2.5)},
      {.id = "b", .timeline = 1, .start_lsn = story.at(5), .stop_lsn = story.at(5.2)},
      {.id = "c", .timeline = 2, .start_lsn = story.at(8.1), .stop_lsn = story.at(8.2)}};
  auto windows = story.archive().windows(bases);
  ASSERT_EQ(windows.windows.size(), 3u);
  EXPECT_EQ(windows.windows[0].timeline, 1u);
  EXPECT_EQ(windows.windows[0].to, story.at(7));
  EXPECT_EQ(windows.windows[1].timeline, 2u);
  EXPECT_EQ(windows.windows[1].to, story.at(8));
  EXPECT_EQ(windows.windows[1].why, ReachEnd::kGap);
  EXPECT_EQ(windows.windows[1].gap->segments, std::vector{story.name(2, 8)});
  // Taken on timeline 1 after 2 had left it: it belongs to 1 alone (P50).
  EXPECT_EQ(windows.windows[2].base, 1u);
  EXPECT_EQ(windows.windows[2].timeline, 1u);
  ASSERT_EQ(windows.stranded.size(), 1u);
  EXPECT_EQ(windows.stranded[0].base, 2u);
  EXPECT_NE(windows.stranded[0].why.find(story.name(2, 8)), std::string::npos);
}

TEST(Archive, P59_lineage_decides_and_not_the_number_of_the_timeline) {
  // 3 branched off 1 before 2 did: it knows nothing of 2.
  Story story;
  story.segments(1, 1, 6);
  story.history(2, {{1, 4.5}});
  story.segments(2, 4, 7);
  story.history(3, {{1, 2.5}});
  story.segments(3, 2, 9);
  auto archive = story.archive();
  Base on_two{.timeline = 2, .start_lsn = story.at(5), .stop_lsn = story.at(5.5)};
  EXPECT_TRUE(is_on(*archive.lineage(2), on_two));
  EXPECT_FALSE(is_on(*archive.lineage(3), on_two));
  Base late_on_one{.timeline = 1, .start_lsn = story.at(3), .stop_lsn = story.at(3.5)};
  EXPECT_TRUE(is_on(*archive.lineage(2), late_on_one));
  EXPECT_FALSE(is_on(*archive.lineage(3), late_on_one));
}

TEST(Archive, pieces_that_cannot_be_are_damage) {
  Story story;
  story.add(PieceKind::kSegment, 1, 1, 1.5);
  EXPECT_EQ(Archive::make(story.pieces, story.segment_bytes, {}).error().kind, ErrorKind::kDamaged);
  Story over;
  over.add(PieceKind::kPart, 1, 1.5, 2.5);
  EXPECT_EQ(Archive::make(over.pieces, over.segment_bytes, {}).error().kind, ErrorKind::kDamaged);
}

TEST(WalGet, P44_one_only_when_it_is_proven_that_nothing_follows) {
  Story story;
  story.segments(1, 2, 5);
  story.segments(1, 7, 8);
  EXPECT_EQ(story.get(1, 3).exit_status(), 0);
  EXPECT_EQ(story.get(1, 6).exit_status(), 200);  // a hole
  EXPECT_EQ(story.get(1, 1).exit_status(), 200);  // older than what is kept: not the end either
  EXPECT_EQ(story.get(1, 9).exit_status(), 1);
}

TEST(WalGet, P44_an_unreadable_listing_or_a_damaged_object_stops_the_server) {
  Result<Archive> unreadable = fail(ErrorKind::kUnknown, "cannot list wal/", "connection refused");
  auto decision = decide_get(unreadable, "000000010000000000000003");
  EXPECT_EQ(decision.exit_status(), 200);
  EXPECT_NE(decision.why.find("connection refused"), std::string::npos);
  EXPECT_EQ(decide_get(unreadable, "00000002.history").exit_status(), 200);
  EXPECT_EQ(stop_server(fail(ErrorKind::kDamaged, "frame 3 does not open")).exit_status(), 200);
  Story story;
  EXPECT_EQ(decide_get(Result<Archive>(story.archive()), "what is this").exit_status(), 200);
  EXPECT_EQ(decide_get(Result<Archive>(story.archive()), "").exit_status(), 200);
}

TEST(WalGet, P44_a_stretch_is_filled_with_zeros_only_at_the_very_end) {
  Story story;
  story.segments(1, 2, 2);
  story.add(PieceKind::kPart, 1, 3, 3.5);
  auto decision = story.get(1, 3);
  ASSERT_EQ(decision.answer, Get::kFound);
  EXPECT_EQ(decision.segment->covered_to, story.at(3.5));
  story.add(PieceKind::kPart, 1, 3.75, 4);
  EXPECT_EQ(story.get(1, 3).answer, Get::kStopServer);
  EXPECT_EQ(story.get(1, 4).answer, Get::kBeyondEnd);
}

TEST(WalGet, P44_before_a_timelines_switch_point_it_has_no_file) {
  Story story;
  story.segments(1, 1, 6);
  story.history(2, {{1, 4.5}});
  story.segments(2, 4, 7);
  EXPECT_EQ(story.get(2, 3).answer, Get::kBeyondEnd);
  EXPECT_EQ(story.get(2, 4).answer, Get::kFound);
}

TEST(WalGet, P44_a_promised_segment_that_is_gone_is_no_end) {
  Story story;
  story.segments(1, 1, 6);
  RecoveryPromise promise{.lineage = {{.timeline = 1}}, .until = story.at(8.5)};
  EXPECT_EQ(story.get(1, 7, promise).answer, Get::kStopServer);
  EXPECT_EQ(story.get(1, 8, promise).answer, Get::kStopServer);
  EXPECT_EQ(story.get(1, 9, promise).answer, Get::kBeyondEnd);  // past the target
  EXPECT_EQ(story.get(1, 7).answer, Get::kBeyondEnd);           // nobody promised anything
}

TEST(WalGet, P44_a_promised_stretch_that_got_shorter_is_no_end) {
  Story story;
  story.segments(1, 1, 1);
  story.add(PieceKind::kPart, 1, 2, 2.25);
  RecoveryPromise promise{.lineage = {{.timeline = 1}}, .until = story.at(2.5)};
  EXPECT_EQ(story.get(1, 2, promise).answer, Get::kStopServer);
  promise.until = story.at(2.25);
  EXPECT_EQ(story.get(1, 2, promise).answer, Get::kFound);
}

TEST(WalGet, a_parents_file_past_the_switch_is_never_given_to_a_recovery_of_the_child) {
  Story story;
  story.segments(1, 1, 9);
  story.history(2, {{1, 4.5}});
  story.segments(2, 4, 5);
  RecoveryPromise promise{.lineage = *story.archive().lineage(2), .until = story.at(6)};
  EXPECT_EQ(story.get(1, 3, promise).answer, Get::kFound);
  EXPECT_EQ(story.get(1, 6, promise).answer, Get::kBeyondEnd);  // timeline 1 has it, but as another history
  EXPECT_EQ(story.get(3, 5, promise).answer, Get::kStopServer);
}

TEST(WalGet, a_child_that_has_not_archived_the_switch_sends_the_server_to_the_parents_partial) {
  Story story;
  story.segments(1, 1, 3);
  story.add(PieceKind::kPartial, 1, 4, 5);
  story.history(2, {{1, 4.5}});
  RecoveryPromise promise{.lineage = *story.archive().lineage(2), .until = story.at(4.5)};
  EXPECT_EQ(story.get(2, 4, promise).answer, Get::kBeyondEnd);
  EXPECT_EQ(story.get(1, 4, promise).answer, Get::kFound);
}

TEST(WalGet, histories_beyond_the_highest_are_the_end) {
  Story story;
  story.segments(1, 1, 3);
  story.history(2, {{1, 2.5}});
  auto ask = [&](const char* name) {
    return decide_get(Result<Archive>(story.archive()), name).exit_status();
  };
  EXPECT_EQ(ask("00000002.history"), 0);
  EXPECT_EQ(ask("00000003.history"), 1);
  story.segments(4, 3, 3);
  EXPECT_EQ(ask("00000003.history"), 200);
}

TEST(WalGet, a_promise_survives_being_written_down) {
  RecoveryPromise promise{
      .lineage = {{1, 0, 0x5000000}, {3, 0x5000000, 0x1700000028}, {10, 0x1700000028, kLsnMax}},
      .until = 0x2000000000};
  auto read = parse_promise(format_promise(promise));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->until, promise.until);
  ASSERT_EQ(read->lineage.size(), 3u);
  EXPECT_EQ(read->lineage[1].end, promise.lineage[1].end);
  EXPECT_EQ(read->timeline(), 10u);
  for (const char* bad : {"", "0/0", "x,1:0/0", "0/1,0:0/0", "0/1,1:0/5,2:0/3", "0/1,1"}) {
    EXPECT_FALSE(parse_promise(bad)) << bad;
  }
}

}  // namespace
}  // namespace kuramori::postgres
