#include "base/units.h"

#include <gtest/gtest.h>

#include "base/time_text.h"

namespace kuramori {
namespace {

Time at(std::string_view text) {
  auto moment = parse_moment(text);
  EXPECT_TRUE(moment) << text;
  return moment ? moment->time : Time{};
}

TEST(Period, ReadsEveryUnitOfTheInterface) {
  EXPECT_EQ(*parse_period("90s"), Period::of_seconds(90));
  EXPECT_EQ(*parse_period("15m"), Period::of_seconds(900));
  EXPECT_EQ(*parse_period("3h"), Period::of_seconds(10800));
  EXPECT_EQ(*parse_period("14d"), Period::of_seconds(14 * 86400));
  EXPECT_EQ(*parse_period("6w"), Period::of_seconds(42 * 86400));
  EXPECT_EQ(*parse_period("12mo"), (Period{.months = 12}));
  EXPECT_EQ(*parse_period("7y"), (Period{.months = 84}));
  EXPECT_EQ(*parse_period("forever"), Period::forever());
}

TEST(Period, RefusesWhatIsNoDuration) {
  for (const char* bad : {"", "d", "14", "0d", "-1d", "14D", "1M", "1.5h", "14d3h", "999999999999999999999s",
                          "201y", "forever!", "14 days", "１４d"})
    EXPECT_FALSE(parse_period(bad)) << bad;
  EXPECT_NE(parse_period("3M").error().why.find("mo is months"), std::string::npos);
}

TEST(Period, PrintsWhatItReads) {
  for (const char* text : {"90s", "15m", "3h", "14d", "45d", "11mo", "7y", "forever", "200y"})
    EXPECT_EQ(format_period(*parse_period(text)), text);
  EXPECT_EQ(format_period(*parse_period("6w")), "42d");
}

TEST(Period, MonthsFollowTheCalendar) {
  EXPECT_EQ(later(at("2026-01-31 10:00:00Z"), *parse_period("1mo")), at("2026-02-28 10:00:00Z"));
  EXPECT_EQ(later(at("2024-02-29 10:00:00Z"), *parse_period("1y")), at("2025-02-28 10:00:00Z"));
  EXPECT_EQ(later(at("2026-11-21 10:00:00Z"), *parse_period("7y")), at("2033-11-21 10:00:00Z"));
  EXPECT_EQ(earlier(at("2026-03-31 10:00:00Z"), *parse_period("1mo")), at("2026-02-28 10:00:00Z"));
  EXPECT_EQ(earlier(at("2026-03-15 10:00:00Z"), *parse_period("14d")), at("2026-03-01 10:00:00Z"));
}

TEST(Period, PastTheEndOfTimeIsForever) {
  EXPECT_EQ(later(at("2190-01-01 00:00:00Z"), *parse_period("200y")), kForever);
  EXPECT_EQ(later(Time{}, Period::forever()), kForever);
  EXPECT_EQ(later(kForever, *parse_period("1d")), kForever);
  EXPECT_EQ(later(kForever, *parse_period("1mo")), kForever);
}

TEST(Duration, RefusesWhatHasNoFixedLength) {
  EXPECT_EQ(*parse_duration("10s"), Duration(10'000'000'000));
  EXPECT_FALSE(parse_duration("1mo"));
  EXPECT_FALSE(parse_duration("forever"));
}

TEST(Size, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(*parse_size("512"), 512u);
  EXPECT_EQ(*parse_size("64KiB"), 65536u);
  EXPECT_EQ(*parse_size("1.5 GiB"), 1610612736u);
  EXPECT_EQ(*parse_size("10MB"), 10'000'000u);
  EXPECT_EQ(*parse_rate("200MiB/s"), 200u << 20);
  for (const char* bad : {"", "MiB", "-1MiB", "1 MiBs", "nan", "inf", "1e99", "9999999PiB", "5 apples"})
    EXPECT_FALSE(parse_size(bad)) << bad;
  EXPECT_FALSE(parse_rate("0MiB/s"));
  EXPECT_FALSE(parse_rate("10MiB/h"));
}

TEST(Size, PrintsThreeDigitsAtMost) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1024), "1.0 KiB");
  EXPECT_EQ(format_size(1288490189), "1.2 GiB");
  EXPECT_EQ(format_size((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_size(210ull << 20), "210 MiB");
  EXPECT_EQ(format_size(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(format_rate(210 * 1048576.0), "210 MiB/s");
  EXPECT_EQ(format_rate(0), "0 B/s");
}

TEST(Duration, PrintsTheTwoUnitsThatMatter) {
  EXPECT_EQ(format_duration(std::chrono::milliseconds(12)), "12 ms");
  EXPECT_EQ(format_duration(std::chrono::milliseconds(840)), "0.8 s");
  EXPECT_EQ(format_duration(std::chrono::seconds(42)), "42 s");
  EXPECT_EQ(format_duration(std::chrono::seconds(185)), "3 m 05 s");
  EXPECT_EQ(format_duration(std::chrono::minutes(130)), "2 h 10 m");
  EXPECT_EQ(format_duration(std::chrono::hours(14 * 24 + 3)), "14 d 3 h");
}

}  // namespace
}  // namespace kuramori
