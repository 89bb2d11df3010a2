// INCREMENTAL. files as PostgreSQL 17 and 18 send them.
#include "source/postgres/incremental_file.h"

#include <gtest/gtest.h>

#include "codec/page_checksum.h"

namespace kuramori::postgres {
namespace {

// The header, padded as the server does it.
Bytes header(uint32_t length, const std::vector<uint32_t>& blocks, uint32_t magic = kIncrementalMagic) {
  Bytes bytes(12 + blocks.size() * 4);
  store_le(bytes.data(), magic);
  store_le(bytes.data() + 4, static_cast<uint32_t>(blocks.size()));
  store_le(bytes.data() + 8, length);
  for (size_t i = 0; i < blocks.size(); ++i) store_le(bytes.data() + 12 + 4 * i, blocks[i]);
  if (!blocks.empty()) bytes.resize((bytes.size() + kPageBytes - 1) / kPageBytes * kPageBytes);
  return bytes;
}

uint64_t file_bytes(const Bytes& header, size_t blocks) {
  return header.size() + blocks * kPageBytes;
}

TEST(IncrementalFile, its_header_is_read_wherever_it_is_cut_and_the_blocks_are_left) {
  std::vector<uint32_t> many;
  for (uint32_t block = 0; block < 3000; ++block) many.push_back(3 * block);  // a header of two pages
  for (const auto& blocks : {std::vector<uint32_t>{}, std::vector<uint32_t>{0}, {7, 8, 131071}, many}) {
    Bytes bytes = header(9000, blocks);
    const uint64_t size = file_bytes(bytes, blocks.size());
    const size_t header_bytes = bytes.size();
    append(bytes, as_bytes(std::string_view("first block")));
    for (const size_t part : {1u, 11u, 12u, 13u, 8191u, 100000u}) {
      IncrementalReader reader(size);
      size_t taken = 0;
      for (size_t at = 0; at < bytes.size() && !reader.header(); at += part) {
        ByteView rest = ByteView(bytes).subspan(at, std::min(part, bytes.size() - at));
        const size_t before = rest.size();
        ASSERT_TRUE(reader.feed(rest));
        taken += before - rest.size();
      }
      ASSERT_TRUE(reader.header());
      EXPECT_EQ(taken, header_bytes);
      EXPECT_EQ(reader.header()->blocks, blocks);
      EXPECT_EQ(reader.header()->length, 9000u);
      EXPECT_EQ(reader.header()->file_pages(), blocks.empty() ? 9000 : std::max(9000u, blocks.back() + 1));
    }
  }
}

// Some releases tell a length past the file's end where the relation was cut in a later file.
TEST(IncrementalFile, no_file_is_longer_than_a_file_can_be) {
  const Bytes bytes = header(131072 + 50, {5});
  IncrementalReader reader(file_bytes(bytes, 1));
  ByteView rest = bytes;
  ASSERT_TRUE(reader.feed(rest));
  EXPECT_EQ(reader.header()->file_pages(), kPagesPerRelationFile);
}

TEST(IncrementalFile, what_no_server_sends_is_refused) {
  const auto refused = [](const Bytes& bytes, uint64_t size) {
    IncrementalReader reader(size);
    ByteView rest = bytes;
    auto fed = reader.feed(rest);
    return !fed && fed.error().kind == ErrorKind::kDamaged;
  };
  const Bytes right = header(10, {1, 2});
  EXPECT_FALSE(refused(right, file_bytes(right, 2)));
  EXPECT_TRUE(refused(right, file_bytes(right, 2) + 1));
  EXPECT_TRUE(refused(right, file_bytes(right, 1)));
  EXPECT_TRUE(refused(header(10, {1, 2}, 0xd3ae1f0e), file_bytes(right, 2)));
  EXPECT_TRUE(refused(header(10, {2, 1}), file_bytes(right, 2)));
  EXPECT_TRUE(refused(header(10, {2, 2}), file_bytes(right, 2)));
  EXPECT_TRUE(refused(header(10, {2, 131072}), file_bytes(right, 2)));
  Bytes huge = right;
  store_le(huge.data() + 4, uint32_t{0xffffffff});
  EXPECT_TRUE(refused(huge, UINT64_MAX));
}

TEST(IncrementalFile, its_name_tells_whose_changes_it_holds) {
  EXPECT_EQ(without_incremental_prefix("base/5/INCREMENTAL.16384.1"), "base/5/16384.1");
  EXPECT_EQ(without_incremental_prefix("INCREMENTAL.x"), "x");
  EXPECT_EQ(without_incremental_prefix("base/5/16384"), std::nullopt);
  EXPECT_EQ(without_incremental_prefix("INCREMENTAL./16384"), std::nullopt);
}

}  // namespace
}  // namespace kuramori::postgres
