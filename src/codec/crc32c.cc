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
// What a sum becomes after kPartBytes zeros, by each of its four bytes. A sum of sums is the sum of what each
// becomes: 32 single bits say it all. Made by the compiler: a program that lives for one segment would spend
// a millisecond on it.
using ShiftTable = std::array<std::array<uint32_t, 256>, 4>;
constexpr ShiftTable make_shift_table() {
  ShiftTable table{};
  for (size_t bit = 0; bit < 32; ++bit) {
    uint32_t crc = 1u << bit;
    for (size_t i = 0; i < kPartBytes; ++i) crc = crc >> 8 ^ kTable[crc & 0xff];
    table[bit / 8][size_t{1} << bit % 8] = crc;
  }
  for (auto& of_byte : table) {
    for (uint32_t value = 1; value < 256; ++value) {
      const uint32_t lowest = value & (~value + 1);
      of_byte[value] = of_byte[lowest] ^ of_byte[value ^ lowest];
    }
  }
  return table;
}
constexpr ShiftTable kShift = make_shift_table();
uint32_t shift_over_part(uint32_t crc) {
  return kShift[0][crc & 0xff] ^ kShift[1][crc >> 8 & 0xff] ^ kShift[2][crc >> 16 & 0xff] ^
         kShift[3][crc >> 24];
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
  if (size & 4) {
    sum = _mm_crc32_u32(sum, load_le<uint32_t>(at));
    at += 4;
  }
  if (size & 2) {
    sum = _mm_crc32_u16(sum, load_le<uint16_t>(at));
    at += 2;
  }
  if (size & 1) sum = _mm_crc32_u8(sum, *at);
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
