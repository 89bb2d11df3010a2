// Sets of frames of one pack, as ascending ranges that neither touch nor overlap.
#pragma once
#include <algorithm>
#include <vector>

#include "vault/records.h"

namespace kuramori {

using FrameRanges = std::vector<FrameRange>;

// In order, joined; empty ranges gone. Whatever was there before.
inline FrameRanges normal_ranges(FrameRanges ranges) {
  std::ranges::sort(ranges, {}, [](const FrameRange& r) { return r.first; });
  FrameRanges out;
  for (const FrameRange& range : ranges) {
    if (range.count == 0) continue;
    const uint64_t end = uint64_t{range.first} + range.count;
    if (!out.empty() && uint64_t{out.back().first} + out.back().count >= range.first) {
      const uint64_t joined = std::max(end, uint64_t{out.back().first} + out.back().count);
      out.back().count = static_cast<uint32_t>(joined - out.back().first);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

inline FrameRanges united(const FrameRanges& a, const FrameRanges& b) {
  if (a == b) return a;  // most snapshots need of a pack what the one before needs
  FrameRanges all = a;
  all.insert(all.end(), b.begin(), b.end());
  return normal_ranges(std::move(all));
}

// Whether every frame of `wanted` is in `kept`; both normal.
inline bool covers(const FrameRanges& kept, const FrameRanges& wanted) {
  auto at = kept.begin();
  for (const FrameRange& range : wanted) {
    while (at != kept.end() && uint64_t{at->first} + at->count <= range.first) ++at;
    if (at == kept.end() || at->first > range.first ||
        uint64_t{at->first} + at->count < uint64_t{range.first} + range.count)
      return false;
  }
  return true;
}

inline uint64_t frames_in(const FrameRanges& ranges) {
  uint64_t frames = 0;
  for (const FrameRange& range : ranges) frames += range.count;
  return frames;
}

}  // namespace kuramori
