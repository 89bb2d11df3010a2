// What both page filters and the columns know of a PostgreSQL page: its header's four numbers and what a line
// pointer says. Internal to codec/; the words are those of docs/vault-format.md, "Page filter 1".
#pragma once
#include "base/bytes.h"

namespace kuramori {

constexpr uint32_t kLayoutPageBytes = 8192;
constexpr uint32_t kHeaderBytes = 24;
constexpr uint32_t kPointerBytes = 4;
constexpr uint32_t kPointersMax = (kLayoutPageBytes - kHeaderBytes) / kPointerBytes;
constexpr uint32_t kNormal = 1;
constexpr uint32_t kMask15 = 0x7fff;

enum class PageKind : uint8_t { kUnknown, kHeap, kBTree, kOther };

struct PageLayout {
  uint32_t lower = 0, upper = 0, special = 0, count = 0;
  PageKind kind = PageKind::kUnknown;
};
// kUnknown: a page that no filter touches.
PageLayout layout_of(const uint8_t* page);

inline uint32_t offset_of(uint32_t pointer) {
  return pointer & kMask15;
}
inline uint32_t flags_of(uint32_t pointer) {
  return pointer >> 15 & 3;
}
inline uint32_t length_of(uint32_t pointer) {
  return pointer >> 17;
}
inline uint32_t pointer_of(uint32_t offset, uint32_t length) {
  return (offset & kMask15) | kNormal << 15 | (length & kMask15) << 17;
}
inline uint32_t up8(uint32_t value) {
  return (value + 7) & ~7u;
}

}  // namespace kuramori
