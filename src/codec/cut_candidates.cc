#include "codec/cut_candidates.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/check.h"

namespace kuramori {
namespace {

// Without pattern: fractional digits of the golden ratio and of the square roots of two and five.
constexpr uint32_t kFirst = 0x9e3779b1, kSecond = 0x6a09e667, kAdded = 0x3c6ef372;
constexpr uint32_t kBelow = uint32_t{1} << 21;
static_assert((uint64_t{1} << 32) / kBelow == kCandidateEvery);

constexpr bool is_candidate(uint32_t x, uint32_t y) {
  return x * kFirst + y * kSecond + kAdded < kBelow;
}
bool is_candidate(const uint8_t* end) {
  return is_candidate(load_le<uint32_t>(end - 8), load_le<uint32_t>(end - 4));
}

// A run of zeros, or of any other byte, is long and common: no place in it is one.
constexpr bool runs_hold_none() {
  for (uint32_t byte = 0; byte < 256; ++byte)
    if (is_candidate(byte * 0x01010101, byte * 0x01010101)) return false;
  return true;
}
static_assert(runs_hold_none());

#if defined(__x86_64__)
constexpr size_t kPlacesAtOnce = 32;

// The first place from which 32 places hold a candidate, or where fewer than 32 are left.
__attribute__((target("avx2"))) size_t skip_blocks(const uint8_t* data, size_t size, size_t at) {
  const __m256i first = _mm256_set1_epi32(static_cast<int>(kFirst));
  const __m256i second = _mm256_set1_epi32(static_cast<int>(kSecond));
  const __m256i added = _mm256_set1_epi32(static_cast<int>(kAdded));
  const __m256i high = _mm256_set1_epi32(static_cast<int>(~(kBelow - 1)));
  const __m256i zero = _mm256_setzero_si256();
  for (; at + kPlacesAtOnce <= size; at += kPlacesAtOnce) {
    __m256i found = zero;
    // Each register holds every fourth place; the last byte read is that before the last place.
    for (size_t i = 0; i < 4; ++i) {
      const auto* before = reinterpret_cast<const __m256i*>(data + at + i - 8);
      const auto* later = reinterpret_cast<const __m256i*>(data + at + i - 4);
      const __m256i products = _mm256_add_epi32(_mm256_mullo_epi32(_mm256_loadu_si256(before), first),
                                                _mm256_mullo_epi32(_mm256_loadu_si256(later), second));
      const __m256i sum = _mm256_add_epi32(products, added);
      found = _mm256_or_si256(found, _mm256_cmpeq_epi32(_mm256_and_si256(sum, high), zero));
    }
    if (!_mm256_testz_si256(found, found)) break;
  }
  return at;
}
#endif

}  // namespace

size_t next_candidate_plainly(ByteView data, size_t from) {
  CHECK(from >= kCandidateWindowBytes);
  for (size_t at = from; at < data.size(); ++at) {
    if (is_candidate(data.data() + at)) return at;
  }
  return data.size();
}

size_t next_candidate(ByteView data, size_t from) {
#if defined(__x86_64__)
  static const bool has_wide = __builtin_cpu_supports("avx2") != 0;
  if (has_wide && from < data.size()) {
    CHECK(from >= kCandidateWindowBytes);
    // What holds one is looked through for it; where fewer places than a block are left, to the end.
    from = skip_blocks(data.data(), data.size(), from);
  }
#endif
  return next_candidate_plainly(data, from);
}

}  // namespace kuramori
