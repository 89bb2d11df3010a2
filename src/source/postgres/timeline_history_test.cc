#include "source/postgres/timeline_history.h"

#include <gtest/gtest.h>

namespace kuramori::postgres {
namespace {

constexpr std::string_view kThree =
    "1\t0/A000198\tno recovery target specified\n"
    "\n"
    "# a comment\n"
    "  2 1/B0000A0 before 2026-11-21 12:00:00+00\n";

TEST(TimelineHistory, AnswersWhoseWalAPositionIs) {
  auto history = parse_timeline_history(kThree, 12);
  ASSERT_TRUE(history) << history.error().what;
  ASSERT_EQ(history->entries.size(), 2u);
  EXPECT_EQ(history->entries[1].reason, "before 2026-11-21 12:00:00+00");
  EXPECT_TRUE(history->descends_from(1));
  EXPECT_TRUE(history->descends_from(12));
  EXPECT_FALSE(history->descends_from(3));
  EXPECT_EQ(history->switch_point(2), 0x10B0000A0u);
  EXPECT_EQ(history->switch_point(12), kLsnMax);
  EXPECT_EQ(history->begin_of(1), 0u);
  EXPECT_EQ(history->begin_of(2), 0xA000198u);
  EXPECT_EQ(history->begin_of(3), std::nullopt);
  EXPECT_EQ(history->timeline_at(0xA000197), 1u);
  EXPECT_EQ(history->timeline_at(0xA000198), 2u);
  EXPECT_EQ(history->timeline_at(kLsnMax - 1), 12u);
}

TEST(TimelineHistory, ReadsWhatItWrites) {
  auto history = parse_timeline_history(kThree, 3);
  ASSERT_TRUE(history);
  auto again = parse_timeline_history(format_timeline_history(*history), 3);
  ASSERT_TRUE(again);
  EXPECT_EQ(format_timeline_history(*again), format_timeline_history(*history));
}

TEST(TimelineHistory, NamesDamage) {
  for (std::string_view bad : {"1\n", "x\t0/1\n", "1\t0\n", "0\t0/1\tx\n", "2\t0/5\n1\t0/6\n",
                               "1\t0/5\n2\t0/4\n", "3\t0/5\n", "1\t0/5\n1\t0/6\n", "-1\t0/1\n"}) {
    auto history = parse_timeline_history(bad, 3);
    ASSERT_FALSE(history) << bad;
    EXPECT_EQ(history.error().kind, ErrorKind::kDamaged);
    EXPECT_NE(history.error().what.find("00000003.history"), std::string::npos);
  }
  EXPECT_TRUE(parse_timeline_history("", 3));  // a history restored from nowhere: legal, no ancestors
}

}  // namespace
}  // namespace kuramori::postgres
