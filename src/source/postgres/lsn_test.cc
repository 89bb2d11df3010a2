#include "source/postgres/lsn.h"

#include <gtest/gtest.h>

namespace kuramori::postgres {
namespace {

TEST(Lsn, ReadsWhatItWrites) {
  for (Lsn lsn : {Lsn{0}, Lsn{1}, Lsn{0x16B374D848}, kLsnMax, Lsn{1} << 32}) {
    auto back = parse_lsn(format_lsn(lsn));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, lsn);
  }
  EXPECT_EQ(format_lsn(0x16B374D848), "16/B374D848");
  EXPECT_EQ(*parse_lsn("0/a"), 10u);
  for (const char* bad :
       {"", "/", "1/", "/1", "1", "1/2/3", "123456789/0", "0/123456789", "g/0", "-1/0", "0x1/0", " 1/0"}) {
    EXPECT_FALSE(parse_lsn(bad)) << bad;
  }
}

// P34: a timeline is written in hex; P35: every segment size has names of its own.
TEST(SegmentName, GoesBothWaysForEverySegmentSizeP35) {
  for (uint32_t size = kSegmentBytesMin; size <= kSegmentBytesMax && size != 0; size *= 2) {
    for (uint64_t number : {uint64_t{0}, uint64_t{1}, (uint64_t{1} << 32) / size - 1,
                            (uint64_t{1} << 32) / size, (uint64_t{5} << 32) / size + 3}) {
      for (Timeline timeline : {1u, 10u, 16u, 0xABCDEFu}) {
        const Lsn start = number * size;
        const std::string name = segment_name(timeline, start + size - 1, size);
        EXPECT_EQ(name, segment_name(timeline, start, size));
        auto parsed = parse_segment_name(name, size);
        ASSERT_TRUE(parsed) << name;
        EXPECT_EQ(parsed->timeline, timeline);
        EXPECT_EQ(parsed->start, start);
      }
    }
  }
  EXPECT_EQ(segment_name(10, 0x16B374D848, 16 << 20), "0000000A00000016000000B3");
  EXPECT_EQ(segment_name(1, 0x16B374D848, 1 << 20), "000000010000001600000B37");
  EXPECT_EQ(segment_name(1, 0x16B374D848, 1 << 30), "000000010000001600000002");
  EXPECT_EQ(segment_number_before(32 << 20, 16 << 20), 1u);
}

TEST(SegmentName, OfAnotherSegmentSizeIsRefusedP35) {
  EXPECT_FALSE(parse_segment_name("000000010000000000000100", 16 << 20));
  EXPECT_TRUE(parse_segment_name("000000010000000000000100", 1 << 20));
  EXPECT_FALSE(parse_segment_name("000000010000000000000004", 1 << 30));
}

TEST(WalFileName, TellsTheKindsApart) {
  auto kind = [](std::string_view name) { return parse_wal_file_name(name, 16 << 20); };
  EXPECT_EQ(kind("0000000A.history")->kind, WalFileKind::kHistory);
  EXPECT_EQ(kind("0000000A.history")->timeline, 10u);  // P34
  EXPECT_EQ(kind("000000020000000000000009.partial")->kind, WalFileKind::kPartial);
  EXPECT_EQ(kind("000000020000000000000009.00000028.backup")->kind, WalFileKind::kBackup);
  EXPECT_EQ(kind("000000020000000000000009.00000028.backup")->start, 0x9000028u);
  for (const char* bad :
       {"", "0000000A", "0000000a.history", "00000000.history", "0000000A.history2",
        "000000010000000000000009.tmp", "00000001000000000000000", "00000001000000000000000G",
        "000000010000000000000009.part", "000000010000000000000009.01000000.backup",
        "000000010000000000000009.00000028.backup2", "archive_status", "000000000000000000000001",
        "00000001000000000000009a"}) {
    EXPECT_FALSE(kind(bad)) << bad;
  }
  EXPECT_FALSE(parse_segment_name("0000000A.history", 16 << 20));
}

}  // namespace
}  // namespace kuramori::postgres
