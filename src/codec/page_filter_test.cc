#include "codec/page_filter.h"

#include <gtest/gtest.h>

#include <random>

namespace kuramori {
namespace {

constexpr size_t kPage = kFilteredPageBytes;

void expect_round_trip(const Bytes& pages) {
  for (PageFilter filter : {PageFilter::kTuples, PageFilter::kColumns}) {
    Bytes work = pages;
    filter_pages(work, filter);
    unfilter_pages(work, filter);
    EXPECT_TRUE(work == pages) << static_cast<int>(filter);
  }
}

void put16(Bytes& page, size_t at, uint32_t value) {
  store_le(&page[at], static_cast<uint16_t>(value));
}

struct Generator {
  std::mt19937 random;
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(random() % bound); }
  Bytes noise(size_t size) {
    Bytes bytes(size);
    for (size_t at = 0; at + 4 <= size; at += 4) store_le(&bytes[at], static_cast<uint32_t>(random()));
    return bytes;
  }
  // A header that passes for a page, line pointers anywhere: overlapping, wild, of every flag.
  Bytes semi_valid() {
    Bytes page = noise(kPage);
    const uint32_t specials[] = {8192, 8184, 8176};
    const uint32_t special = specials[below(3)];
    const uint32_t count = 1 + below(below(4) == 0 ? 2000 : 60);
    put16(page, 12, 24 + 4 * count);
    put16(page, 16, special);
    put16(page, 14, 24 + 4 * count + below(special - 24 - 4 * count + 1));
    put16(page, 18, 0x2004);
    if (below(2) != 0) put16(page, 8190, below(8));
    const bool is_tight = below(2) != 0;  // many pointers to few places: overlaps
    const bool is_even = below(2) != 0;   // where tuples may stand: many that movable ones collide with
    if (is_even) put16(page, 14, 24 + 4 * count + below(std::min(special - 24 - 4 * count + 1, 600u)));
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t offset = is_tight  ? special - below(64)
                              : is_even ? special - 8 * below(900)
                                        : below(32768);
      const uint32_t flags = below(5) == 0 ? below(4) : 1;
      const uint32_t length = is_even ? 16 + below(48) : below(3) == 0 ? below(32768) : 16;
      store_le(&page[24 + 4 * i], offset | flags << 15 | length << 17);
    }
    return page;
  }
};

TEST(PageFilter, GivesBackAnyBytesWhatever) {
  Generator make{std::mt19937(20261121)};
  for (int i = 0; i < 300; ++i) expect_round_trip(make.noise(kPage));
  for (int i = 0; i < 6000; ++i) expect_round_trip(make.semi_valid());
  expect_round_trip({});
  expect_round_trip(Bytes(kPage * 16, 0));
  expect_round_trip(Bytes(kPage, 0xff));
}

// A heap page as a bulk load leaves it: tuple i at the page's end going down, each pointing to itself.
Bytes heap_page(uint32_t block, uint32_t count, uint32_t length) {
  Bytes page(kPage, 0);
  const uint32_t size = (length + 7) / 8 * 8;
  put16(page, 12, 24 + 4 * count);
  put16(page, 14, kPage - size * count);
  put16(page, 16, kPage);
  put16(page, 18, 0x2004);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t offset = kPage - size * (i + 1);
    store_le(&page[24 + 4 * i], offset | 1u << 15 | length << 17);
    put16(page, offset + 12, block >> 16);
    put16(page, offset + 14, block);
    put16(page, offset + 16, i + 1);
  }
  return page;
}

// The frozen vector of format "page filter 1": every byte that is not the header's.
TEST(PageFilter, WritesAHeapPageAsTheFormatSays) {
  Bytes page = heap_page(0x00010203, 3, 61);
  const Bytes original = page;
  filter_pages(page, PageFilter::kTuples);
  EXPECT_EQ(to_hex(ByteView(page).first(36)),
            "000000000000000000000000"
            "2400401f00200420"
            "00000000"
            "00807a00"
            "00800000"
            "00800000");
  for (uint32_t i = 0; i < 3; ++i) {
    const size_t tuple = kPage - 64 * (i + 1);
    EXPECT_EQ(to_hex(ByteView(page).subspan(tuple + 12, 6)), i == 0 ? "010003020000" : "000000000000");
  }
  unfilter_pages(page, PageFilter::kTuples);
  EXPECT_TRUE(page == original);
}

TEST(PageFilter, WritesABTreePageAsTheFormatSays) {
  Bytes page(kPage, 0);
  put16(page, 12, 24 + 4 * 2);
  put16(page, 14, 8144);
  put16(page, 16, 8176);
  put16(page, 18, 0x2004);
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t offset = 8160 - 16 * i;
    store_le(&page[24 + 4 * i], offset | 1u << 15 | 16u << 17);
    put16(page, offset + 2, 7);
    put16(page, offset + 4, 40 + i);
    put16(page, offset + 6, 16);
    store_le(&page[offset + 8], uint64_t{0x1ffffffff} + i);
  }
  const Bytes original = page;
  filter_pages(page, PageFilter::kTuples);
  EXPECT_EQ(to_hex(ByteView(page).subspan(24, 8)), "0080200000800000");
  EXPECT_EQ(to_hex(ByteView(page).subspan(8144, 32)),
            "00000000010010000100000000000000"
            "0000070028001000ffffffff01000000");
  unfilter_pages(page, PageFilter::kTuples);
  EXPECT_TRUE(page == original);
  // The same bytes of a GiST page: only the pointers change.
  put16(page, 8190, 0xff81);
  Bytes gist = page;
  filter_pages(gist, PageFilter::kTuples);
  EXPECT_TRUE(equal(ByteView(gist).subspan(32), ByteView(page).subspan(32)));
}

// The frozen vectors of format "page filter 2".
TEST(PageFilter, TurnsAHeapPagesFirst32BytesIntoColumns) {
  Bytes page = heap_page(0x00010203, 16, 45);
  for (uint32_t i = 0; i < 16; ++i) {
    const size_t tuple = kPage - 48 * (i + 1);
    put16(page, tuple, 0x02c0);
    page[tuple + 24] = static_cast<uint8_t>(0xfe + i);
    page[tuple + 32] = static_cast<uint8_t>(0xa0 + i);
    page[tuple + 44] = static_cast<uint8_t>(i);
  }
  const Bytes original = page;
  filter_pages(page, PageFilter::kColumns);
  const ByteView area = ByteView(page).subspan(kPage - 48 * 16);
  auto column = [&](size_t n) { return to_hex(area.subspan(16 * n, 16)); };
  const std::string zeros(32, '0');
  EXPECT_EQ(column(0), "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0");
  EXPECT_EQ(column(1), "02020202020202020202020202020202");
  EXPECT_EQ(column(12), "01000000000000000000000000000000");
  EXPECT_EQ(column(14), "03000000000000000000000000000000");
  EXPECT_EQ(column(16), zeros);
  EXPECT_EQ(column(24), "fe010101010101010101010101010101");
  EXPECT_EQ(column(25), zeros);
  for (uint32_t i = 0; i < 16; ++i) {
    Bytes tail(16, 0);
    tail[0] = static_cast<uint8_t>(0xa0 + i);
    tail[12] = static_cast<uint8_t>(i);
    EXPECT_EQ(to_hex(area.subspan(16 * 32 + 16 * i, 16)), to_hex(tail));
  }
  unfilter_pages(page, PageFilter::kColumns);
  EXPECT_TRUE(page == original);
  // With a tuple fewer there are no columns, and a byte that is nobody's follows all tuples.
  Bytes few = heap_page(0x00010203, 15, 45);
  const Bytes before = few;
  filter_pages(few, PageFilter::kColumns);
  EXPECT_EQ(to_hex(ByteView(few).subspan(kPage - 48 + 12, 6)), "010003020000");
  unfilter_pages(few, PageFilter::kColumns);
  EXPECT_TRUE(few == before);
  Bytes worn = original;
  put16(worn, 14, kPage - 48 * 16 - 8);
  put16(worn, kPage - 48 * 16 - 8, 0x7711);
  Bytes work = worn;
  filter_pages(work, PageFilter::kColumns);
  EXPECT_EQ(to_hex(ByteView(work).subspan(kPage - 8)), "1177000000000000");
  EXPECT_EQ(to_hex(ByteView(work).subspan(kPage - 48 * 16 - 8, 16)), "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0");
  unfilter_pages(work, PageFilter::kColumns);
  EXPECT_TRUE(work == worn);
}

TEST(PageFilter, WritesTheRowsOfOneKeyAsDifferences) {
  Bytes page(kPage, 0);
  put16(page, 12, 24 + 4);
  put16(page, 14, 8136);
  put16(page, 16, 8176);
  put16(page, 18, 0x2004);
  store_le(&page[24], 8136u | 1u << 15 | 34u << 17);
  put16(page, 8136 + 2, 16);          // where the rows begin
  put16(page, 8136 + 4, 0x2000 | 3);  // how many there are
  put16(page, 8136 + 6, 0x2000 | 40);
  for (uint32_t row = 0; row < 3; ++row) {
    put16(page, 8136 + 16 + 6 * row + 2, 0x0102 + row);
    put16(page, 8136 + 16 + 6 * row + 4, 10 - row);
  }
  const Bytes original = page;
  filter_pages(page, PageFilter::kColumns);
  EXPECT_EQ(to_hex(ByteView(page).subspan(8136 + 16, 18)),
            "000002010a00"
            "00000100ffff"
            "00000100ffff");
  unfilter_pages(page, PageFilter::kColumns);
  EXPECT_TRUE(page == original);
  // Filter 1 knows nothing of them.
  filter_pages(page, PageFilter::kTuples);
  EXPECT_TRUE(equal(ByteView(page).subspan(8136), ByteView(original).subspan(8136)));
}

TEST(PageFilter, LeavesWhatItDoesNotKnow) {
  for (auto [at, value] : {std::pair{12, 24}, {12, 30}, {14, 20}, {16, 8160}, {18, 0x2003}, {18, 0x4004}}) {
    Bytes page = heap_page(5, 40, 100);
    put16(page, static_cast<size_t>(at), static_cast<uint32_t>(value));
    const Bytes original = page;
    filter_pages(page, PageFilter::kTuples);
    EXPECT_TRUE(page == original) << at << " " << value;
  }
}

}  // namespace
}  // namespace kuramori
