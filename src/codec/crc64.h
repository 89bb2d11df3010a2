// CRC-64 of Jones (polynomial ad93d23594c935a9, bits reflected, starting at 0), what a Redis RDB ends in.
#pragma once
#include "base/bytes.h"

namespace kuramori {

// The CRC of `bytes`, or of what came before and then `bytes`: crc64(b, crc64(a)) == crc64(a + b).
uint64_t crc64(ByteView bytes, uint64_t before = 0);

}  // namespace kuramori
