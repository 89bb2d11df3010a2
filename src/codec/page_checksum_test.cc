#include "codec/page_checksum.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

Bytes patterned_page() {
  Bytes page(kPageBytes);
  for (size_t i = 0; i < page.size(); ++i) page[i] = static_cast<uint8_t>(i * 31 + i / 256);
  store_le<uint16_t>(&page[12], 64);
  store_le<uint16_t>(&page[14], 4096);
  store_le<uint16_t>(&page[16], 8192);
  store_le<uint16_t>(&page[18], 0x2004);
  store_le<uint16_t>(&page[10], 0);
  return page;
}

void seal(Bytes& page, uint32_t block) {
  store_le(&page[8], page_checksum(page, block));
}

// P2: a page that was only extended is all zero and legal; one stray byte makes it damage.
TEST(PageChecksum, ANewPageIsFineP2) {
  Bytes page(kPageBytes, 0);
  EXPECT_EQ(verify_page(page, 7), PageState::kNew);
  page[5000] = 1;
  EXPECT_EQ(verify_page(page, 7), PageState::kBadChecksum);
  EXPECT_EQ(verify_page(page, 7, false), PageState::kBadHeader);
}

// P2: past the first gigabyte the block number counts on, file after file.
TEST(PageChecksum, CountsBlocksThroughTheWholeRelationP2) {
  EXPECT_EQ(block_in_relation(0, 5), 5u);
  EXPECT_EQ(block_in_relation(2, 5), 262149u);
  Bytes page = patterned_page();
  seal(page, block_in_relation(2, 5));
  EXPECT_EQ(verify_page(page, 262149), PageState::kGood);
  EXPECT_EQ(verify_page(page, 5), PageState::kBadChecksum);
}

TEST(PageChecksum, EveryFlippedBitIsSeen) {
  Bytes page = patterned_page();
  seal(page, 3);
  for (size_t bit = 0; bit < kPageBytes * 8; bit += 7) {
    page[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_EQ(verify_page(page, 3), PageState::kBadChecksum) << bit;
    page[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
  }
}

TEST(PageChecksum, WithoutChecksumsTheHeaderIsLookedAt) {
  Bytes page = patterned_page();
  EXPECT_EQ(verify_page(page, 3, false), PageState::kGood);
  store_le<uint16_t>(&page[14], 60);
  EXPECT_EQ(verify_page(page, 3, false), PageState::kBadHeader);
}

TEST(PageChecksum, ReadsTheLsn) {
  Bytes page(kPageBytes, 0);
  store_le<uint32_t>(&page[0], 0x16);
  store_le<uint32_t>(&page[4], 0xB374D848);
  EXPECT_EQ(page_lsn(page), 0x16B374D848u);
}

}  // namespace
}  // namespace kuramori
