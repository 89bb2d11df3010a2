#include "base/text_width.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

TEST(TextWidth, WideCharactersTakeTwoColumnsAndMarksNone) {
  EXPECT_EQ(shown_width("orders"), 6u);
  EXPECT_EQ(shown_width("蔵守"), 4u);
  EXPECT_EQ(shown_width("é"), 1u);
  EXPECT_EQ(shown_width("e\u0301"), 1u);
  EXPECT_EQ(shown_width("\xff\xfe"), 2u);  // no UTF-8: a column each
}

TEST(TextWidth, WhatIsCutNeverIsTooWideAndSaysSo) {
  EXPECT_EQ(fitted("orders-db", 9), "orders-db");
  EXPECT_EQ(fitted("orders-db", 6), "order…");
  EXPECT_EQ(fitted("蔵守蔵守", 5), "蔵守…");
  EXPECT_EQ(fitted("蔵守蔵守", 4), "蔵…");
  EXPECT_EQ(fitted("蔵守", 1), "…");
  EXPECT_EQ(fitted("蔵守", 0), "");
  for (size_t columns = 0; columns < 12; ++columns) {
    EXPECT_LE(shown_width(fitted("a蔵b守é蔵守x", columns)), columns);
    EXPECT_EQ(shown_width(padded("a蔵b守é蔵守x", columns)), columns);
  }
}

TEST(TextWidth, NothingThatATerminalObeysIsLeft) {
  EXPECT_EQ(fitted("a\033[2Jb\r\n\tc\x7f\u009b", 20), "a?[2Jb???c??");
}

}  // namespace
}  // namespace kuramori
