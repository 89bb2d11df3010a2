// 32 sums side by side are what makes it fast, if the compiler turns them into vectors: -O3, and the widest
// instructions this processor has, chosen when the program starts.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif
#include "codec/page_checksum.h"

#include "base/check.h"

#if defined(__GNUC__) && !defined(__clang__) && !defined(KURAMORI_SANITIZED)
#define KURAMORI_WIDEST __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define KURAMORI_WIDEST
#endif

namespace kuramori {
namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kPrime = 16777619;
constexpr uint32_t kRows = kPageBytes / (kLanes * sizeof(uint32_t));
constexpr size_t kChecksumAt = 8;

// Where each lane begins, fixed by PostgreSQL's format.
constexpr uint32_t kLaneStart[kLanes] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756};

KURAMORI_WIDEST uint32_t hash_page(const uint8_t* page) {
  uint32_t sums[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) sums[lane] = kLaneStart[lane];
  for (uint32_t row = 0; row < kRows; ++row) {
    uint32_t words[kLanes];
    std::memcpy(words, page + row * sizeof words, sizeof words);
    if (row == 0) words[kChecksumAt / 4] &= 0xffff0000;  // the checksum does not cover itself
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t mixed = sums[lane] ^ words[lane];
      sums[lane] = mixed * kPrime ^ mixed >> 17;
    }
  }
  for (int round = 0; round < 2; ++round) {  // two rounds of zeros let the last words spread
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] = sums[lane] * kPrime ^ sums[lane] >> 17;
    }
  }
  uint32_t result = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) result ^= sums[lane];
  return result;
}

}  // namespace

uint16_t page_checksum(ByteView page, uint32_t block) {
  CHECK(page.size() == kPageBytes);
  return static_cast<uint16_t>((hash_page(page.data()) ^ block) % 65535 + 1);
}

bool is_zero(ByteView bytes) {
  return bytes.empty() ||
         (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

std::string_view name_of(PageState state) {
  switch (state) {
    case PageState::kGood:
      return "good";
    case PageState::kNew:
      return "new";
    case PageState::kBadHeader:
      return "impossible page header";
    case PageState::kBadChecksum:
      return "wrong page checksum";
  }
  return "unknown";
}

bool has_sane_header(ByteView page) {
  constexpr uint16_t kFlagsKnown = 0x0007, kHeaderBytes = 24, kVersion = 0x2004;  // 8 KiB, layout 4
  CHECK(page.size() == kPageBytes);
  const auto flags = load_le<uint16_t>(&page[10]), lower = load_le<uint16_t>(&page[12]);
  const auto upper = load_le<uint16_t>(&page[14]), special = load_le<uint16_t>(&page[16]);
  return load_le<uint16_t>(&page[18]) == kVersion && (flags & ~kFlagsKnown) == 0 && lower >= kHeaderBytes &&
         lower <= upper && upper <= special && special <= kPageBytes && special % 8 == 0;
}

PageState verify_page(ByteView page, uint32_t block, bool has_checksums) {
  CHECK(page.size() == kPageBytes);
  // As the server does: a page is new when its upper bound is 0, and then every byte must be.
  if (load_le<uint16_t>(&page[14]) == 0 && is_zero(page)) return PageState::kNew;
  // The checksum first: where it is right, the header is what the server wrote.
  if (has_checksums && page_checksum(page, block) != stored_checksum(page)) return PageState::kBadChecksum;
  return has_sane_header(page) ? PageState::kGood : PageState::kBadHeader;
}

}  // namespace kuramori
