#include "source/postgres/stream_start.h"

#include <gtest/gtest.h>

namespace kuramori::postgres {
namespace {

constexpr Lsn kSegment = 16u << 20;

// A server on timeline 3: 1 was left in segment 4, 2 in segment 6.
StreamFacts facts(std::vector<Stretch> archived) {
  StreamFacts facts{
      .resource = "db", .archived = std::move(archived), .timeline = 3, .flushed = 9 * kSegment};
  facts.history = {.timeline = 3,
                   .entries = {{1, 4 * kSegment + 100, "promoted"}, {2, 6 * kSegment + 200, "promoted"}}};
  return facts;
}

TEST(StreamStart, begins_with_the_segment_of_the_byte_behind_what_is_archived_P38) {
  const auto start = decide_stream_start(facts({{3, 6 * kSegment, 8 * kSegment + 77}}));
  ASSERT_TRUE(start);
  EXPECT_EQ(start->timeline, 3u);
  EXPECT_EQ(start->from, 8 * kSegment);
  EXPECT_EQ(start->durable, 8 * kSegment + 77);
  EXPECT_FALSE(start->leaves_hole);
}

TEST(StreamStart, a_slot_above_the_frontier_moves_nothing_P38) {
  // Also at an exact boundary: the byte that is asked for is the one behind what is archived.
  auto asked = facts({{3, 6 * kSegment, 8 * kSegment}});
  asked.slot_lsn = 8 * kSegment + 500;
  EXPECT_EQ(decide_stream_start(asked)->durable, 8 * kSegment);
  asked.slot_lsn = 9 * kSegment;
  EXPECT_EQ(decide_stream_start(asked)->durable, 8 * kSegment);
  asked.from_here = true;
  const auto told = decide_stream_start(asked);
  EXPECT_EQ(told->durable, 9 * kSegment);
  EXPECT_TRUE(told->leaves_hole);
}

TEST(StreamStart, nothing_archived_begins_with_the_slot) {
  auto asked = facts({});
  asked.slot_lsn = 5 * kSegment + 9;
  const auto start = decide_stream_start(asked);
  EXPECT_EQ(start->timeline, 2u);  // whose WAL it is at that place
  EXPECT_EQ(start->from, 5 * kSegment);
  EXPECT_EQ(start->durable, 5 * kSegment);
}

TEST(StreamStart, a_hole_that_the_slot_still_holds_is_filled) {
  auto asked = facts({{3, 6 * kSegment, 7 * kSegment}, {3, 8 * kSegment, 9 * kSegment}});
  asked.slot_lsn = 7 * kSegment;
  EXPECT_EQ(decide_stream_start(asked)->durable, 7 * kSegment);
  // One that was left behind long ago is not come back to.
  asked.slot_lsn = 8 * kSegment + 5;
  EXPECT_EQ(decide_stream_start(asked)->durable, 9 * kSegment);
}

TEST(StreamStart, follows_an_ancestor_to_where_it_was_left_and_then_its_child_P52) {
  const auto parent = decide_stream_start(facts({{1, kSegment, 3 * kSegment}}));
  EXPECT_EQ(parent->timeline, 1u);
  EXPECT_EQ(parent->durable, 3 * kSegment);
  // The child from the segment's begin: its file holds the parent's bytes.
  const auto child = decide_stream_start(facts({{1, kSegment, 4 * kSegment + 100}}));
  EXPECT_EQ(child->timeline, 2u);
  EXPECT_EQ(child->from, 4 * kSegment);
  EXPECT_EQ(child->durable, 4 * kSegment);
  const auto grandchild = decide_stream_start(facts({{2, 4 * kSegment, 6 * kSegment + 200}}));
  EXPECT_EQ(grandchild->timeline, 3u);
  EXPECT_EQ(grandchild->from, 6 * kSegment);
}

TEST(StreamStart, a_history_that_left_the_archived_timeline_earlier_is_refused) {
  auto asked = facts({{2, 4 * kSegment, 6 * kSegment + 201}});
  const auto start = decide_stream_start(asked);
  ASSERT_FALSE(start);
  EXPECT_EQ(start.error().kind, ErrorKind::kRefused);
  EXPECT_NE(start.error().next.find("--timeline 2"), std::string::npos) << start.error().next;
  asked.from_here = true;
  EXPECT_EQ(decide_stream_start(asked)->timeline, 3u);
  EXPECT_EQ(decide_stream_start(asked)->durable, 6 * kSegment);
}

TEST(StreamStart, what_the_vault_promised_to_nobody_does_not_stop_a_failover_P36) {
  auto asked = facts({{2, 4 * kSegment, 6 * kSegment + 1000}});
  asked.promised = 6 * kSegment + 200;
  const auto start = decide_stream_start(asked);
  ASSERT_TRUE(start);
  EXPECT_EQ(start->timeline, 3u);
  EXPECT_EQ(start->durable, 6 * kSegment);
  EXPECT_EQ(start->abandoned, (Stretch{2, 6 * kSegment + 200, 6 * kSegment + 1000}));
  asked.promised = 6 * kSegment + 201;  // one byte of it
  EXPECT_EQ(decide_stream_start(asked).error().kind, ErrorKind::kRefused);
  // So much is no tail: an older copy was started in the primary's place.
  auto old = facts({{2, 4 * kSegment, 6 * kSegment + 200 + kAbandonedMax + 1}});
  old.promised = 0;
  EXPECT_EQ(decide_stream_start(old).error().kind, ErrorKind::kRefused);
}

TEST(StreamStart, an_old_primary_and_an_unrelated_one_are_refused) {
  EXPECT_EQ(decide_stream_start(facts({{4, kSegment, 2 * kSegment}})).error().kind, ErrorKind::kRefused);
  auto asked = facts({{2, kSegment, 2 * kSegment}});
  asked.history.entries = {{1, 4 * kSegment, ""}};
  EXPECT_EQ(decide_stream_start(asked).error().kind, ErrorKind::kRefused);
}

TEST(StreamStart, a_server_that_lost_what_it_had_flushed_is_refused_and_a_standby_awaited) {
  auto asked = facts({{3, 6 * kSegment, 9 * kSegment + 1}});
  EXPECT_EQ(decide_stream_start(asked).error().kind, ErrorKind::kRefused);
  asked.in_recovery = true;
  EXPECT_EQ(decide_stream_start(asked).error().kind, ErrorKind::kUnknown);
}

TEST(StreamStart, stretches_are_merged_by_timeline) {
  const auto merged = archived_stretches({{2, 20, 30}, {1, 10, 20}, {1, 0, 10}, {1, 5, 8}, {2, 31, 32}});
  EXPECT_EQ(merged, (std::vector<Stretch>{{1, 0, 20}, {2, 20, 30}, {2, 31, 32}}));
}

}  // namespace
}  // namespace kuramori::postgres
