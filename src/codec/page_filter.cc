#include "codec/page_filter.h"

#include "base/check.h"

namespace kuramori {
namespace {

constexpr uint32_t kHeaderBytes = 24;
constexpr uint32_t kPointerBytes = 4;
constexpr uint32_t kPointersMax = (kFilteredPageBytes - kHeaderBytes) / kPointerBytes;
constexpr uint16_t kVersion = 0x2004;  // 8 KiB pages of layout 4, all that PostgreSQL writes since 8.3
constexpr uint32_t kHeapSpecial = 8192, kIndexSpecial = 8176, kOtherSpecial = 8184;
constexpr uint16_t kBTreeCycleMax = 0xff7f;  // above: the page says in its last bytes that it is GiST or hash
constexpr uint32_t kNormal = 1;
constexpr uint32_t kMask15 = 0x7fff;
constexpr uint32_t kHeapReach = 18, kIndexReach = 8;
constexpr uint32_t kHeapTid = 12, kHeapTidPosition = 16;  // within a heap tuple
constexpr uint32_t kHeapApart = 6, kIndexApart = 16;      // the places of two neighbours must be disjoint
constexpr uint32_t kShortIndexTuple = 16;                 // tid, info, and one key of up to 8 bytes

uint32_t offset_of(uint32_t pointer) {
  return pointer & kMask15;
}
uint32_t flags_of(uint32_t pointer) {
  return pointer >> 15 & 3;
}
uint32_t length_of(uint32_t pointer) {
  return pointer >> 17;
}
uint32_t pointer_of(uint32_t offset, uint32_t length) {
  return (offset & kMask15) | kNormal << 15 | (length & kMask15) << 17;
}
uint32_t up8(uint32_t value) {
  return (value + 7) & ~7u;
}
uint32_t apart(uint32_t a, uint32_t b) {
  return a > b ? a - b : b - a;
}

enum class Kind : uint8_t { kUnknown, kHeap, kBTree, kOther };

struct Layout {
  uint32_t lower = 0, special = 0, count = 0;
  Kind kind = Kind::kUnknown;
};

Kind kind_of(const uint8_t* page, uint32_t special) {
  switch (special) {
    case kHeapSpecial:
      return Kind::kHeap;
    case kIndexSpecial:
      return load_le<uint16_t>(page + kFilteredPageBytes - 2) <= kBTreeCycleMax ? Kind::kBTree : Kind::kOther;
    case kOtherSpecial:
      return Kind::kOther;
    default:
      return Kind::kUnknown;
  }
}

Layout layout_of(const uint8_t* page) {
  Layout layout{.lower = load_le<uint16_t>(page + 12), .special = load_le<uint16_t>(page + 16)};
  const uint32_t upper = load_le<uint16_t>(page + 14);
  const bool is_sane = load_le<uint16_t>(page + 18) == kVersion && layout.lower > kHeaderBytes &&
                       layout.lower <= upper && upper <= layout.special && layout.lower % kPointerBytes == 0;
  if (!is_sane) return layout;
  layout.kind = kind_of(page, layout.special);
  layout.count = (layout.lower - kHeaderBytes) / kPointerBytes;
  return layout;
}

// A usable line pointer, in the words of the format.
struct Usable {
  uint16_t at, length, number;
};

uint32_t find_usable(const uint8_t* page, const Layout& layout, uint32_t reach, Usable* usable) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < layout.count; ++i) {
    const uint32_t pointer = load_le<uint32_t>(page + kHeaderBytes + i * kPointerBytes);
    const uint32_t offset = offset_of(pointer);
    usable[found] = {static_cast<uint16_t>(offset), static_cast<uint16_t>(length_of(pointer)),
                     static_cast<uint16_t>(i)};
    found += flags_of(pointer) == kNormal && offset >= layout.lower && offset + reach <= layout.special;
  }
  return found;
}

// *at += or -= by, wrapping.
template <class T, bool kAdd>
void shift(uint8_t* at, T by) {
  const T value = load_le<T>(at);
  store_le<T>(at, static_cast<T>(kAdd ? value + by : value - by));
}

template <bool kAdd>
void shift_heap(uint8_t* page, const Usable& here, const Usable* before) {
  uint8_t* tid = page + here.at + kHeapTid;
  if (before && apart(here.at, before->at) >= kHeapApart) {
    const uint8_t* from = page + before->at + kHeapTid;
    shift<uint16_t, kAdd>(tid, load_le<uint16_t>(from));
    shift<uint16_t, kAdd>(tid + 2, load_le<uint16_t>(from + 2));
  }
  shift<uint16_t, kAdd>(page + here.at + kHeapTidPosition, static_cast<uint16_t>(here.number + 1));
}

template <bool kAdd>
void shift_index(uint8_t* page, const Usable& here, const Usable* before, uint32_t special) {
  if (!before || apart(here.at, before->at) < kIndexApart) return;
  uint8_t* to = page + here.at;
  const uint8_t* from = page + before->at;
  if (here.length == kShortIndexTuple && before->length == kShortIndexTuple &&
      here.at + kShortIndexTuple <= special && before->at + kShortIndexTuple <= special) {
    shift<uint64_t, kAdd>(to + 8, load_le<uint64_t>(from + 8));
  }
  for (int i = 0; i < 6; i += 2) shift<uint16_t, kAdd>(to + i, load_le<uint16_t>(from + i));
}

// Filtering goes from the last to the first, so that what it subtracts is still unchanged; unfiltering the
// other way, so that what it adds is already restored.
template <bool kAdd>
void shift_tuples(uint8_t* page, const Layout& layout) {
  if (layout.kind == Kind::kOther) return;
  const bool is_heap = layout.kind == Kind::kHeap;
  Usable usable[kPointersMax + 1];
  const uint32_t found = find_usable(page, layout, is_heap ? kHeapReach : kIndexReach, usable);
  for (uint32_t step = 0; step < found; ++step) {
    const uint32_t i = kAdd ? step : found - 1 - step;
    const Usable* before = i > 0 ? &usable[i - 1] : nullptr;
    if (is_heap) {
      shift_heap<kAdd>(page, usable[i], before);
    } else {
      shift_index<kAdd>(page, usable[i], before, layout.special);
    }
  }
}

void filter_pointers(uint8_t* page, const Layout& layout) {
  uint32_t before_offset = layout.special, before_length = 0;
  for (uint32_t i = 0; i < layout.count; ++i) {
    uint8_t* at = page + kHeaderBytes + i * kPointerBytes;
    const uint32_t pointer = load_le<uint32_t>(at);
    if (flags_of(pointer) != kNormal) continue;
    const uint32_t offset = offset_of(pointer), length = length_of(pointer);
    store_le(at, pointer_of(before_offset - up8(length) - offset, length - before_length));
    before_offset = offset;
    before_length = length;
  }
}

void unfilter_pointers(uint8_t* page, const Layout& layout) {
  uint32_t before_offset = layout.special, before_length = 0;
  for (uint32_t i = 0; i < layout.count; ++i) {
    uint8_t* at = page + kHeaderBytes + i * kPointerBytes;
    const uint32_t pointer = load_le<uint32_t>(at);
    if (flags_of(pointer) != kNormal) continue;
    const uint32_t length = (length_of(pointer) + before_length) & kMask15;
    const uint32_t offset = (before_offset - up8(length) - offset_of(pointer)) & kMask15;
    store_le(at, pointer_of(offset, length));
    before_offset = offset;
    before_length = length;
  }
}

}  // namespace

void filter_pages(MutableByteView pages) {
  CHECK(pages.size() % kFilteredPageBytes == 0);
  for (size_t at = 0; at < pages.size(); at += kFilteredPageBytes) {
    uint8_t* page = pages.data() + at;
    const Layout layout = layout_of(page);
    if (layout.kind == Kind::kUnknown) continue;
    shift_tuples<false>(page, layout);
    filter_pointers(page, layout);
  }
}

void unfilter_pages(MutableByteView pages) {
  CHECK(pages.size() % kFilteredPageBytes == 0);
  for (size_t at = 0; at < pages.size(); at += kFilteredPageBytes) {
    uint8_t* page = pages.data() + at;
    const Layout layout = layout_of(page);
    if (layout.kind == Kind::kUnknown) continue;
    unfilter_pointers(page, layout);
    shift_tuples<true>(page, layout);
  }
}

}  // namespace kuramori
