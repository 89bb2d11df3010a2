#include "codec/page_columns.h"

#include <array>

#include "base/check.h"

namespace kuramori {
namespace {

constexpr uint32_t kWordBytes = 8;
constexpr uint32_t kColumnWords = 4;      // the first 32 bytes of a tuple
constexpr uint32_t kMovableMin = 16;      // fewer tuples have no columns worth the name
constexpr uint32_t kHeapLengthMin = 24;   // a tuple's header
constexpr uint32_t kBTreeLengthMin = 17;  // up to 16 bytes filter 1 has made all alike already
constexpr uint32_t kWordsMax = kLayoutPageBytes / kWordBytes;

// A tuple whose place is its own, in words of 8 bytes.
struct Movable {
  uint16_t at, words;
};

// Which words of the page are taken.
class Taken {
 public:
  // False, and nothing changes, where one of them was taken before.
  bool take(uint32_t at, uint32_t words) {
    bool is_free = true;
    each(at, words, [&](uint64_t& word, uint64_t mask) { is_free &= (word & mask) == 0; });
    if (is_free) each(at, words, [](uint64_t& word, uint64_t mask) { word |= mask; });
    return is_free;
  }
  bool has(uint32_t at) const { return bits_[at / 64] >> at % 64 & 1; }

 private:
  template <class F>
  void each(uint32_t at, uint32_t words, F&& f) {
    while (words > 0) {
      const uint32_t here = std::min(words, 64 - at % 64);
      f(bits_[at / 64], ~uint64_t{0} >> (64 - here) << at % 64);
      at += here;
      words -= here;
    }
  }
  std::array<uint64_t, kWordsMax / 64> bits_{};
};

struct Movables {
  uint32_t count = 0;
  bool has_gaps = false;  // bytes of [upper, special) that belong to none of them
  Taken taken;
  std::array<Movable, kPointersMax> tuples;
};

bool may_move(uint32_t pointer, const PageLayout& layout, uint32_t length_min) {
  const uint32_t offset = offset_of(pointer);
  return flags_of(pointer) == kNormal && length_of(pointer) >= length_min && offset >= layout.upper &&
         offset % kWordBytes == 0 && offset + up8(length_of(pointer)) <= layout.special;
}

// Where two pointers claim the same bytes, the first one has them.
void find_movable(const uint8_t* page, const PageLayout& layout, Movables& found) {
  if (layout.kind == PageKind::kOther || layout.count < kMovableMin) return;
  const uint32_t length_min = layout.kind == PageKind::kHeap ? kHeapLengthMin : kBTreeLengthMin;
  uint32_t covered = 0;
  for (uint32_t i = 0; i < layout.count; ++i) {
    const uint32_t pointer = load_le<uint32_t>(page + kHeaderBytes + i * kPointerBytes);
    if (!may_move(pointer, layout, length_min)) continue;
    const uint32_t at = offset_of(pointer) / kWordBytes, words = up8(length_of(pointer)) / kWordBytes;
    if (!found.taken.take(at, words)) continue;
    covered += words;
    found.tuples[found.count++] = {static_cast<uint16_t>(at), static_cast<uint16_t>(words)};
  }
  found.has_gaps = covered * kWordBytes != layout.special - layout.upper;
}

// Eight rows of eight bytes become eight columns. Its own inverse.
void turn(uint64_t* rows) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t change = (rows[i] >> 32 ^ rows[i + 4]) & 0x00000000ffffffff;
    rows[i + 4] ^= change;
    rows[i] ^= change << 32;
  }
  for (int i : {0, 1, 4, 5}) {
    const uint64_t change = (rows[i] >> 16 ^ rows[i + 2]) & 0x0000ffff0000ffff;
    rows[i + 2] ^= change;
    rows[i] ^= change << 16;
  }
  for (int i = 0; i < 8; i += 2) {
    const uint64_t change = (rows[i] >> 8 ^ rows[i + 1]) & 0x00ff00ff00ff00ff;
    rows[i + 1] ^= change;
    rows[i] ^= change << 8;
  }
}

// One word of each of `rows` tuples, at `places` on the page, to or from eight columns of `rows` bytes.
// Blocks of eight; the last one overlaps the one before and does a part of it twice, to the same bytes.
template <bool kGather>
void turn_word(uint8_t* page, const uint16_t* places, uint32_t rows, uint8_t* columns) {
  if (rows < 8) {
    for (uint32_t column = 0; column < 8; ++column) {
      for (uint32_t row = 0; row < rows; ++row) {
        uint8_t* there = page + places[row] + column;
        uint8_t* here = columns + column * rows + row;
        if constexpr (kGather) {
          *here = *there;
        } else {
          *there = *here;
        }
      }
    }
    return;
  }
  for (uint32_t begin = 0; begin < rows; begin += 8) {
    const uint32_t row = std::min(begin, rows - 8);
    uint64_t block[8];
    for (uint32_t i = 0; i < 8; ++i)
      block[i] = load_le<uint64_t>(kGather ? page + places[row + i] : columns + i * rows + row);
    turn(block);
    for (uint32_t i = 0; i < 8; ++i)
      store_le(kGather ? columns + i * rows + row : page + places[row + i], block[i]);
  }
}

// `turned` is the other form of [upper, special): filled by gathering, read by scattering.
template <bool kGather>
void move_columns(uint8_t* page, const PageLayout& layout, const Movables& found, uint8_t* turned) {
  uint8_t* at = turned;
  std::array<uint16_t, kPointersMax> places;
  for (uint32_t word = 0; word < kColumnWords; ++word) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < found.count; ++i) {
      places[rows] = static_cast<uint16_t>((found.tuples[i].at + word) * kWordBytes);
      rows += found.tuples[i].words > word;
    }
    turn_word<kGather>(page, places.data(), rows, at);
    at += rows * kWordBytes;
  }
  auto carry = [&](uint32_t offset, uint32_t bytes) {
    if constexpr (kGather) {
      std::memcpy(at, page + offset, bytes);
    } else {
      std::memcpy(page + offset, at, bytes);
    }
    at += bytes;
  };
  for (uint32_t i = 0; i < found.count; ++i) {
    const Movable& tuple = found.tuples[i];
    if (tuple.words > kColumnWords)
      carry((tuple.at + kColumnWords) * kWordBytes, (tuple.words - kColumnWords) * kWordBytes);
  }
  if (found.has_gaps) {
    for (uint32_t offset = layout.upper; offset < layout.special;) {
      const uint32_t end = std::min(up8(offset + 1), layout.special);
      if (!found.taken.has(offset / kWordBytes)) carry(offset, end - offset);
      offset = end;
    }
  }
  CHECK(at == turned + (layout.special - layout.upper));
}

}  // namespace

void gather_columns(uint8_t* page, const PageLayout& layout) {
  Movables found;
  find_movable(page, layout, found);
  if (found.count < kMovableMin) return;
  uint8_t turned[kLayoutPageBytes];
  move_columns<true>(page, layout, found, turned);
  std::memcpy(page + layout.upper, turned, layout.special - layout.upper);
}

void scatter_columns(uint8_t* page, const PageLayout& layout) {
  Movables found;
  find_movable(page, layout, found);
  if (found.count < kMovableMin) return;
  uint8_t turned[kLayoutPageBytes];
  std::memcpy(turned, page + layout.upper, layout.special - layout.upper);
  move_columns<false>(page, layout, found, turned);
}

}  // namespace kuramori
