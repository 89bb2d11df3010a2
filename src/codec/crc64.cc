#include "codec/crc64.h"

#include <array>

namespace kuramori {
namespace {

constexpr uint64_t kReflected = 0x95ac9329ac4bc9b5;  // the polynomial, lowest power in the highest bit

// Eight bytes at a time: table k holds what a byte does that k more bytes follow.
using Tables = std::array<std::array<uint64_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReflected : 0);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint64_t shorter = tables[k - 1][byte];
      tables[k][byte] = tables[0][shorter & 0xff] ^ (shorter >> 8);
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint64_t crc64(ByteView bytes, uint64_t before) {
  uint64_t crc = before;
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    crc ^= load_le<uint64_t>(at);
    uint64_t next = 0;
    for (size_t k = 0; k < 8; ++k) next ^= kTables[7 - k][(crc >> (8 * k)) & 0xff];
    crc = next;
  }
  for (; left > 0; ++at, --left) crc = kTables[0][(crc ^ *at) & 0xff] ^ (crc >> 8);
  return crc;
}

}  // namespace kuramori
