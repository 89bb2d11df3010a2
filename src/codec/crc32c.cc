// The processor's instruction takes 8 bytes every cycle but answers after three: three parts of a long input
// are summed side by side, then put together by shifting two of the sums over the zeros that would have
// followed.
#include "codec/crc32c.h"

#include <array>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace kuramori {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
constexpr size_t kPartBytes = 1024;           // of three; shorter inputs go straight

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr auto kTable = make_table();

#if defined(__x86_64__)
// What a sum becomes after kPartBytes zeros, by each of its four bytes.
using ShiftTable = std::array<std::array<uint32_t, 256>, 4>;
ShiftTable make_shift_table() {
  ShiftTable table{};
  for (size_t byte = 0; byte < 4; ++byte) {
    for (uint32_t value = 0; value < 256; ++value) {
      uint32_t crc = value << 8 * byte;
      for (size_t i = 0; i < kPartBytes; ++i) crc = crc >> 8 ^ kTable[crc & 0xff];
      table[byte][value] = crc;
    }
  }
  return table;
}
uint32_t shift_over_part(uint32_t crc) {
  static const ShiftTable table = make_shift_table();
  return table[0][crc & 0xff] ^ table[1][crc >> 8 & 0xff] ^ table[2][crc >> 16 & 0xff] ^ table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) uint32_t sum_with_hardware(const uint8_t* at, size_t size, uint32_t sum) {
  while (size >= 3 * kPartBytes) {
    uint64_t a = sum, b = 0, c = 0;
    for (size_t i = 0; i < kPartBytes; i += 8) {
      a = _mm_crc32_u64(a, load_le<uint64_t>(at + i));
      b = _mm_crc32_u64(b, load_le<uint64_t>(at + kPartBytes + i));
      c = _mm_crc32_u64(c, load_le<uint64_t>(at + 2 * kPartBytes + i));
    }
    sum = shift_over_part(shift_over_part(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^
          static_cast<uint32_t>(c);
    at += 3 * kPartBytes;
    size -= 3 * kPartBytes;
  }
  uint64_t rest = sum;
  for (; size >= 8; size -= 8, at += 8) rest = _mm_crc32_u64(rest, load_le<uint64_t>(at));
  sum = static_cast<uint32_t>(rest);
  for (; size > 0; --size, ++at) sum = _mm_crc32_u8(sum, *at);
  return sum;
}
#endif

}  // namespace

uint32_t crc32c_portable(ByteView bytes, uint32_t before) {
  uint32_t sum = ~before;
  for (uint8_t byte : bytes) sum = sum >> 8 ^ kTable[(sum ^ byte) & 0xff];
  return ~sum;
}

uint32_t crc32c(ByteView bytes, uint32_t before) {
#if defined(__x86_64__)
  static const bool has_hardware = __builtin_cpu_supports("sse4.2") != 0;
  if (has_hardware) return ~sum_with_hardware(bytes.data(), bytes.size(), ~before);
#endif
  return crc32c_portable(bytes, before);
}

}  // namespace kuramori
