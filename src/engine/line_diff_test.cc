#include "engine/line_diff.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

std::string diff(std::string_view before, std::string_view after) {
  return line_diff(as_bytes(before), as_bytes(after)).value_or("nothing");
}

TEST(LineDiff, ShowsWhatChangedWithWhatIsAround) {
  EXPECT_EQ(diff("a\nb\nc\n", "a\nB\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
  EXPECT_EQ(diff("", "new\n"), "@@ -1,0 +1,1 @@\n+new\n");
  EXPECT_EQ(diff("same\n", "same\n"), "");
  std::string before, after;
  for (int i = 0; i < 100; ++i) before += std::to_string(i) + "\n";
  after = before;
  after.replace(after.find("\n50\n") + 1, 2, "fifty");
  EXPECT_EQ(diff(before, after), "@@ -48,7 +48,7 @@\n 47\n 48\n 49\n-50\n+fifty\n 51\n 52\n 53\n");
}

TEST(LineDiff, WhatIsNoTextOrTooLargeIsNotShown) {
  EXPECT_EQ(diff(std::string_view("a\0b", 3), "a"), "nothing");
  EXPECT_EQ(diff(std::string(kLineDiffBytesMax + 1, 'x'), "a"), "nothing");
  EXPECT_EQ(diff("a", std::string(2 * kLineDiffLinesMax + 2, '\n')), "nothing");
}

}  // namespace
}  // namespace kuramori
