#include "vault/chunker.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "codec/cut_candidates.h"

namespace kuramori {
namespace {

constexpr size_t kAskedHeld = 4;
constexpr size_t kShift = 4;  // how much more seldom before the average, and how much more often after it

AesCmac cut_key(const KeyBundle& keys) {
  const Secret key = hkdf_sha256(keys.chunk.view(), keys.family.view(), as_bytes("kuramori cut 1"));
  return AesCmac(key.view().first(AesCmac::kBytes));
}

// Of 2^32: the share of candidates to be taken for one in `every` bytes.
uint32_t share_of(size_t every) {
  return static_cast<uint32_t>((uint64_t{1} << 32) * kCandidateEvery / every);
}

}  // namespace

Chunker::Chunker(const KeyBundle& keys, CutSizes sizes)
    : sizes_(sizes),
      decide_(cut_key(keys)),
      seldom_(share_of(sizes.average * kShift)),
      often_(share_of(sizes.average / kShift)) {
  CHECK(sizes.average >= kCutAverageMin);
}

Chunker::Output Chunker::decide(const uint8_t* window) {
  for (const Asked& one : asked_) {
    if (std::memcmp(one.window.data(), window, kDecidedByBytes) == 0) return one.output;
  }
  if (asked_.size() < kAskedHeld) asked_.emplace_back();
  Asked& asked = asked_[next_++ % kAskedHeld];
  std::memcpy(asked.window.data(), window, kDecidedByBytes);
  asked.output = decide_.of(asked.window);
  return asked.output;
}

size_t Chunker::cut(ByteView data) {
  if (data.size() <= sizes_.min()) return data.size();
  const size_t end = std::min(data.size(), sizes_.max());
  const ByteView looked_at = data.first(end);
  for (size_t at = next_candidate(looked_at, sizes_.min()); at < end;
       at = next_candidate(looked_at, at + 1)) {
    const auto output = decide(data.data() + at - kDecidedByBytes);
    if (load_le<uint32_t>(output.data()) >= (at < sizes_.average ? seldom_ : often_)) continue;
    const size_t moved = load_le<uint64_t>(output.data() + sizeof(uint64_t)) % sizes_.moved_max();
    return std::min(at + moved, end);
  }
  return end;
}

}  // namespace kuramori
