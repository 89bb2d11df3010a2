#include "codec/page_filter.h"

#include "base/check.h"
#include "codec/page_columns.h"
#include "codec/page_layout.h"

namespace kuramori {
namespace {

constexpr uint16_t kVersion = 0x2004;  // 8 KiB pages of layout 4, all that PostgreSQL writes since 8.3
constexpr uint32_t kHeapSpecial = 8192, kIndexSpecial = 8176, kOtherSpecial = 8184;
constexpr uint16_t kBTreeCycleMax = 0xff7f;  // above: the page says in its last bytes that it is GiST or hash
constexpr uint32_t kHeapReach = 18, kIndexReach = 8;
constexpr uint32_t kHeapTid = 12, kHeapTidPosition = 16;  // within a heap tuple
constexpr uint32_t kHeapApart = 6, kIndexApart = 16;      // the places of two neighbours must be disjoint
constexpr uint32_t kShortIndexTuple = 16;                 // tid, info, and one key of up to 8 bytes
constexpr uint32_t kPosting = 0x2000, kPostingRows = 0x0fff, kTidBytes = 6;
constexpr uint32_t kHeapValues = 24,
                   kHeapValuesApart = 16;  // where values begin if there is no bitmap of nulls

uint32_t apart(uint32_t a, uint32_t b) {
  return a > b ? a - b : b - a;
}

PageKind kind_of(const uint8_t* page, uint32_t special) {
  switch (special) {
    case kHeapSpecial:
      return PageKind::kHeap;
    case kIndexSpecial:
      return load_le<uint16_t>(page + kFilteredPageBytes - 2) <= kBTreeCycleMax ? PageKind::kBTree
                                                                                : PageKind::kOther;
    case kOtherSpecial:
      return PageKind::kOther;
    default:
      return PageKind::kUnknown;
  }
}

}  // namespace

PageLayout layout_of(const uint8_t* page) {
  PageLayout layout{.lower = load_le<uint16_t>(page + 12),
                    .upper = load_le<uint16_t>(page + 14),
                    .special = load_le<uint16_t>(page + 16)};
  const bool is_sane = load_le<uint16_t>(page + 18) == kVersion && layout.lower > kHeaderBytes &&
                       layout.lower <= layout.upper && layout.upper <= layout.special &&
                       layout.lower % kPointerBytes == 0;
  if (!is_sane) return layout;
  layout.kind = kind_of(page, layout.special);
  layout.count = (layout.lower - kHeaderBytes) / kPointerBytes;
  return layout;
}

namespace {

// A usable line pointer, in the words of the format.
struct Usable {
  uint16_t at, length, number;
};

uint32_t find_usable(const uint8_t* page, const PageLayout& layout, uint32_t reach, Usable* usable) {
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

bool has_values(const Usable& tuple) {
  return tuple.length > kHeapValues && tuple.at + kHeapValues < kHeapSpecial;
}

template <bool kAdd, PageFilter kFilter>
void shift_heap(uint8_t* page, const Usable& here, const Usable* before) {
  // The lowest byte of what is often the row's number.
  if (kFilter == PageFilter::kColumns && before && apart(here.at, before->at) >= kHeapValuesApart &&
      has_values(here) && has_values(*before)) {
    shift<uint8_t, kAdd>(page + here.at + kHeapValues, page[before->at + kHeapValues]);
  }
  uint8_t* tid = page + here.at + kHeapTid;
  if (before && apart(here.at, before->at) >= kHeapApart) {
    const uint8_t* from = page + before->at + kHeapTid;
    shift<uint16_t, kAdd>(tid, load_le<uint16_t>(from));
    shift<uint16_t, kAdd>(tid + 2, load_le<uint16_t>(from + 2));
  }
  shift<uint16_t, kAdd>(page + here.at + kHeapTidPosition, static_cast<uint16_t>(here.number + 1));
}

// Filter 2 alone: the rows that one key of a B-tree page leads to, in ascending order.
template <bool kAdd>
void shift_posting_list(uint8_t* tuple, uint32_t room) {
  const uint32_t count = load_le<uint16_t>(tuple + 4), begin = load_le<uint16_t>(tuple + 2);
  const bool is_list = (load_le<uint16_t>(tuple + 6) & kPosting) != 0 && (count & kPosting) != 0;
  const uint32_t rows = count & kPostingRows;
  if (!is_list || begin < kIndexReach || begin + rows * kTidBytes > room) return;
  for (uint32_t step = 1; step < rows; ++step) {
    uint8_t* tid = tuple + begin + (kAdd ? step : rows - step) * kTidBytes;
    for (uint32_t i = 0; i < kTidBytes; i += 2)
      shift<uint16_t, kAdd>(tid + i, load_le<uint16_t>(tid + i - kTidBytes));
  }
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
template <bool kAdd, PageFilter kFilter>
void shift_tuples(uint8_t* page, const PageLayout& layout) {
  if (layout.kind == PageKind::kOther) return;
  const bool is_heap = layout.kind == PageKind::kHeap;
  Usable usable[kPointersMax + 1];
  const uint32_t found = find_usable(page, layout, is_heap ? kHeapReach : kIndexReach, usable);
  for (uint32_t step = 0; step < found; ++step) {
    const uint32_t i = kAdd ? step : found - 1 - step;
    const Usable* before = i > 0 ? &usable[i - 1] : nullptr;
    if (is_heap) {
      shift_heap<kAdd, kFilter>(page, usable[i], before);
      continue;
    }
    // The list last of all when it comes back: where it lies is told by what stands before it.
    uint8_t* tuple = page + usable[i].at;
    const uint32_t room = layout.special - usable[i].at;
    if (kFilter == PageFilter::kColumns && !kAdd) shift_posting_list<kAdd>(tuple, room);
    shift_index<kAdd>(page, usable[i], before, layout.special);
    if (kFilter == PageFilter::kColumns && kAdd) shift_posting_list<kAdd>(tuple, room);
  }
}

void filter_pointers(uint8_t* page, const PageLayout& layout) {
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

void unfilter_pointers(uint8_t* page, const PageLayout& layout) {
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

template <PageFilter kFilter>
void filter_page(uint8_t* page) {
  const PageLayout layout = layout_of(page);
  if (layout.kind == PageKind::kUnknown) return;
  shift_tuples<false, kFilter>(page, layout);
  if constexpr (kFilter == PageFilter::kColumns) gather_columns(page, layout);
  filter_pointers(page, layout);
}

template <PageFilter kFilter>
void unfilter_page(uint8_t* page) {
  const PageLayout layout = layout_of(page);
  if (layout.kind == PageKind::kUnknown) return;
  unfilter_pointers(page, layout);
  if constexpr (kFilter == PageFilter::kColumns) scatter_columns(page, layout);
  shift_tuples<true, kFilter>(page, layout);
}

template <void (*kOfOne)(uint8_t*)>
void each_page(MutableByteView pages) {
  CHECK(pages.size() % kFilteredPageBytes == 0);
  for (size_t at = 0; at < pages.size(); at += kFilteredPageBytes) kOfOne(pages.data() + at);
}

}  // namespace

void filter_pages(MutableByteView pages, PageFilter filter) {
  if (filter == PageFilter::kTuples) each_page<filter_page<PageFilter::kTuples>>(pages);
  if (filter == PageFilter::kColumns) each_page<filter_page<PageFilter::kColumns>>(pages);
}

void unfilter_pages(MutableByteView pages, PageFilter filter) {
  if (filter == PageFilter::kTuples) each_page<unfilter_page<PageFilter::kTuples>>(pages);
  if (filter == PageFilter::kColumns) each_page<unfilter_page<PageFilter::kColumns>>(pages);
}

}  // namespace kuramori
