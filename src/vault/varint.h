// LEB128: seven bits a byte, the least significant first; the last byte has its high bit clear.
#pragma once
#include "base/bytes.h"

namespace kuramori {

inline void put_varint(Bytes& to, uint64_t value) {
  while (value >= 0x80) {
    to.push_back(static_cast<uint8_t>(value | 0x80));
    value >>= 7;
  }
  to.push_back(static_cast<uint8_t>(value));
}

inline Result<uint64_t> take_varint(ByteReader& from) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    TRY_ASSIGN(uint8_t byte, from.take_le<uint8_t>());
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return fail(ErrorKind::kDamaged, "a number in it is too long");
}

inline Result<uint32_t> take_varint_u32(ByteReader& from) {
  TRY_ASSIGN(uint64_t value, take_varint(from));
  if (value > UINT32_MAX) return fail(ErrorKind::kDamaged, "a number in it is too large");
  return static_cast<uint32_t>(value);
}

}  // namespace kuramori
