#include "codec/crc64.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

TEST(Crc64, is_the_published_one_whatever_the_pieces) {
  EXPECT_EQ(crc64(as_bytes("123456789")), 0xe9c6d914c4b8d9caU);
  EXPECT_EQ(crc64({}), 0u);
  Bytes bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  const uint64_t whole = crc64(bytes);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    EXPECT_EQ(crc64(ByteView(bytes).subspan(cut), crc64(ByteView(bytes).first(cut))), whole) << cut;
  }
}

}  // namespace
}  // namespace kuramori
