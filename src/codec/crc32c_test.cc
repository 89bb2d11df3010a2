#include "codec/crc32c.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

TEST(Crc32c, MatchesTheKnownVectors) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c(Bytes(32, 0)), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(Bytes(32, 0xff)), 0x62a8ab43u);
  EXPECT_EQ(crc32c({}), 0u);
}

TEST(Crc32c, HardwareAndPortableAgreeWhereverItIsCut) {
  Bytes bytes(10007);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * i + i / 7);
  for (size_t size : {1u, 7u, 8u, 3071u, 3072u, 3073u, 6144u, 9999u, 10007u}) {
    const ByteView part = ByteView(bytes).first(size);
    EXPECT_EQ(crc32c(part), crc32c_portable(part)) << size;
    EXPECT_EQ(crc32c(part.subspan(size / 3), crc32c(part.first(size / 3))), crc32c(part)) << size;
  }
}

}  // namespace
}  // namespace kuramori
