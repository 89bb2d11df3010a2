// CRC-32C (Castagnoli), what PostgreSQL checks its WAL records and control file with.
#pragma once
#include "base/bytes.h"

namespace kuramori {

// The CRC of `bytes`, or of what came before and then `bytes`: crc32c(b, crc32c(a)) == crc32c(a + b).
uint32_t crc32c(ByteView bytes, uint32_t before = 0);
uint32_t crc32c_portable(ByteView bytes, uint32_t before = 0);  // without the processor's help; same result

}  // namespace kuramori
