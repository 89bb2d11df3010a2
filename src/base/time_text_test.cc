#include "base/time_text.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

std::string read(std::string_view text, std::string_view zone = {}) {
  auto moment = parse_moment(text, zone);
  return moment ? format_utc(moment->time) : "refused: " + moment.error().why;
}

TEST(Moment, ReadsEveryWayToNameAZone) {
  EXPECT_EQ(read("2026-02-11 03:00:00+09:00"), "2026-02-10T18:00:00Z");
  EXPECT_EQ(read("2026-02-11 03:00:00 +0900"), "2026-02-10T18:00:00Z");
  EXPECT_EQ(read("2026-02-11 03:00:00+09"), "2026-02-10T18:00:00Z");
  EXPECT_EQ(read("2026-02-11 03:00 Asia/Tokyo"), "2026-02-10T18:00:00Z");
  EXPECT_EQ(read("2026-02-10T18:00:00Z"), "2026-02-10T18:00:00Z");
  EXPECT_EQ(read("2026-02-10 18:00:00 UTC"), "2026-02-10T18:00:00Z");
  EXPECT_EQ(read("2026-02-10T18:00:00.123456Z"), "2026-02-10T18:00:00.123456Z");
  EXPECT_EQ(read("2026-02-10 12:30:00-05:30"), "2026-02-10T18:00:00Z");
  EXPECT_EQ(read("1969-12-31 23:00:00-02:00").substr(0, 7), "refused");
}

// P49: a target without a zone is another moment in every zone.
TEST(Moment, P49_WithoutZoneIsRefusedUnlessThePlanGivesOne) {
  auto refused = parse_moment("2026-02-11 03:00:00");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_NE(refused.error().next.find("2026-02-11 03:00:00+09:00"), std::string::npos);

  auto assumed = parse_moment("2026-02-11 03:00:00", "Asia/Tokyo");
  ASSERT_TRUE(assumed);
  EXPECT_TRUE(assumed->zone_was_assumed);
  EXPECT_EQ(assumed->zone, "Asia/Tokyo");
  EXPECT_EQ(format_utc(assumed->time), "2026-02-10T18:00:00Z");

  auto named = parse_moment("2026-02-11 03:00:00Z", "Asia/Tokyo");
  ASSERT_TRUE(named);
  EXPECT_FALSE(named->zone_was_assumed);
  EXPECT_EQ(format_utc(named->time), "2026-02-11T03:00:00Z");
}

// P49: what is no time is refused with an example, never half understood.
TEST(Moment, P49_ImpossibleTimesAreUsageErrorsWithAnExample) {
  for (const char* bad : {"13am",
                          "",
                          "now",
                          "yesterday",
                          "2026-02-30 03:00:00Z",
                          "2026-13-01 03:00:00Z",
                          "2026-02-11Z",
                          "2026-02-11",
                          "2026-02-11 3:00:00Z",
                          "2026-02-11 24:00:00Z",
                          "2026-02-11 03:60:00Z",
                          "2026-02-11 03:00:61Z",
                          "2026-02-11 03:00:00.Z",
                          "2026-02-11 03:00:00.1234567890Z",
                          "11/02/2026 03:00:00Z",
                          "2026-02-11 03Z",
                          "2026-02-11 03:00am",
                          "2026-02-11 03:00 pm",
                          "2026-02-11 03:00:00+99:00",
                          "2026-02-11 03:00:00+09:61",
                          "2026-02-11 03:00:00 JST",
                          "2026-02-11 03:00:00 EST",
                          "2026-02-11 03:00:00 Asia/Nowhere",
                          "2026-02-11 03:00:00 ../../etc/passwd",
                          "2026-02-11 03:00:00 /etc/passwd",
                          "9999-01-01 00:00:00Z"}) {
    auto moment = parse_moment(bad, "");
    ASSERT_FALSE(moment) << bad;
    EXPECT_EQ(moment.error().kind, ErrorKind::kUsage) << bad;
    EXPECT_FALSE(moment.error().why.empty()) << bad;
    EXPECT_FALSE(moment.error().next.empty()) << bad;
  }
  EXPECT_NE(parse_moment("2026-02-11 03:00am").error().why.find("am or pm"), std::string::npos);
}

// P49: a clock time that was skipped or shown twice is no moment until an offset says which.
TEST(Moment, P49_SkippedAndRepeatedClockTimesAreRefused) {
  EXPECT_EQ(read("2026-03-29 02:30:00 Europe/Berlin"),
            "refused: clocks were put forward over it: it never was");
  EXPECT_EQ(read("2026-10-25 02:30:00 Europe/Berlin"), "refused: clocks were put back: it was twice");
  auto twice = parse_moment("2026-10-25 02:30:00 Europe/Berlin");
  EXPECT_NE(twice.error().next.find("+02:00 the first time, +01:00 the second"), std::string::npos);
  EXPECT_EQ(read("2026-10-25 02:30:00+02:00"), "2026-10-25T00:30:00Z");
}

TEST(Moment, PrintsLocalWithZoneAndUtc) {
  Time time = parse_moment("2026-02-10T18:00:00Z")->time;
  EXPECT_EQ(format_moment(time, "Asia/Tokyo"), "2026-02-11 03:00:00 +09:00 (2026-02-10 18:00:00 UTC)");
  EXPECT_EQ(format_moment(time, "America/New_York"), "2026-02-10 13:00:00 -05:00 (2026-02-10 18:00:00 UTC)");
  EXPECT_EQ(format_moment(time, "UTC"), "2026-02-10 18:00:00 UTC");
  EXPECT_EQ(format_local(time, "Asia/Tokyo"), "2026-02-11 03:00:00 +09:00");
  EXPECT_EQ(format_moment(kForever, "UTC"), "forever");
  EXPECT_EQ(format_utc(time + std::chrono::nanoseconds(1)), "2026-02-10T18:00:00.000000001Z");
  EXPECT_EQ(format_utc(from_unix_ns(-1)), "1969-12-31T23:59:59.999999999Z");
}

TEST(Moment, LocalDateFollowsTheZone) {
  Time time = parse_moment("2026-01-31T18:00:00Z")->time;
  EXPECT_EQ(local_date(time, "Asia/Tokyo").month, 2u);
  EXPECT_EQ(local_date(time, "UTC").month, 1u);
  EXPECT_EQ(local_date(time, "Asia/Tokyo").day_number, local_date(time, "UTC").day_number + 1);
  local_date(kForever, "Asia/Tokyo");  // must not overflow
}

TEST(Zone, KnowsNamesAndOffsets) {
  EXPECT_TRUE(check_zone("Asia/Tokyo"));
  EXPECT_TRUE(check_zone("UTC"));
  EXPECT_TRUE(check_zone("+05:45"));
  EXPECT_FALSE(check_zone("Asia/Tokio"));
  EXPECT_FALSE(check_zone("JST"));
  EXPECT_FALSE(check_zone(""));
}

}  // namespace
}  // namespace kuramori
