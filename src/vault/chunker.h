// Cuts content into chunks at places that the content chooses and a secret key decides, so that the same
// content is cut the same way wherever it stands, and the sizes of chunks say nothing about it.
//
// Chunkers whose rule is public, or whose secret is the table or polynomial of a rolling hash, are told apart
// and broken from the stored sizes of a few known files (IACR ePrint 2025/532, 2025/558): each cut is a
// linear equation of the secret. Here
//   * codec/cut_candidates.h proposes places by a public rule of eight bytes, which only makes it fast;
//   * AES-CMAC of the 64 bytes before a place, under a key of its own, decides. Whoever knows chosen content
//   and all
//     its cuts has seen outputs of a pseudorandom function at known inputs, and knows nothing of other
//     inputs;
//   * the same output moves the cut on by up to a sixteenth of the average, thirty-two candidates' worth. A
//   cut stands
//     no nearer a candidate than any other place does: without it, the public rule alone would tell whether a
//     known file can be the one that was stored.
// What remains is what deduplication itself tells: that two contents are equal.
//
// A place before the average is taken four times more seldom, one after it four times more often: so sizes
// lie closer together. What offers no place (zeros, and most short periods) is cut at the maximum.
#pragma once
#include <array>
#include <vector>

#include "crypto/digest.h"
#include "vault/key_bundle.h"

namespace kuramori {

struct CutSizes {
  size_t average = size_t{1} << 20;
  size_t min() const { return average / 4; }
  size_t max() const { return average * 4; }
  size_t moved_max() const { return average / 16; }  // of a cut, behind its candidate
};
// Below, a cut would not move past enough candidates.
constexpr size_t kCutAverageMin = size_t{512} << 10;

// Not for use by two threads at once.
class Chunker {
 public:
  // The key of the cuts is derived from the bundle's chunk key, which the writers of one domain share.
  explicit Chunker(const KeyBundle& keys, CutSizes sizes = {});

  const CutSizes& sizes() const { return sizes_; }
  // The size of the chunk that `data` begins with. `data` must reach to the end of the content, or hold at
  // least sizes().max() bytes: then the answer does not depend on how much of it is at hand.
  size_t cut(ByteView data);

 private:
  static constexpr size_t kDecidedByBytes = 64;
  using Output = std::array<uint8_t, AesCmac::kBytes>;
  struct Asked {
    std::array<uint8_t, kDecidedByBytes> window;
    Output output;
  };
  Output decide(const uint8_t* window);

  CutSizes sizes_;
  AesCmac decide_;
  uint32_t seldom_, often_;
  // What was asked last: content that repeats itself is not asked about at every turn.
  std::vector<Asked> asked_;
  size_t next_ = 0;
};

}  // namespace kuramori
