#include "codec/cut_candidates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace kuramori {
namespace {

std::vector<size_t> all_of(ByteView data, size_t (*next)(ByteView, size_t)) {
  std::vector<size_t> places;
  for (size_t at = next(data, kCandidateWindowBytes); at < data.size(); at = next(data, at + 1))
    places.push_back(at);
  return places;
}

Bytes noise(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(CutCandidates, AreTheSameHoweverTheyAreLookedFor) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Bytes data = noise(1000 * seed + seed, seed);
    // At every alignment, and for every way the last block can end.
    const ByteView view = ByteView(data).subspan(seed % 37);
    EXPECT_EQ(all_of(view, next_candidate), all_of(view, next_candidate_plainly)) << seed;
  }
}

TEST(CutCandidates, DependOnEightBytesAlone) {
  Bytes data = noise(100'000, 7);
  const size_t at = next_candidate(data, 50'000);
  ASSERT_LT(at, data.size());
  Bytes other = noise(100'000, 8);
  std::copy_n(data.begin() + static_cast<ptrdiff_t>(at - 8), 8, other.begin() + 777);
  EXPECT_EQ(next_candidate(other, 785), 785u);
}

TEST(CutCandidates, AreAsFrequentAsTheySay) {
  const Bytes data = noise(size_t{8} << 20, 3);
  const double found = static_cast<double>(all_of(data, next_candidate).size());
  EXPECT_NEAR(found, static_cast<double>(data.size()) / kCandidateEvery, 6 * std::sqrt(found));
}

TEST(CutCandidates, NoneInWhatIsTooShort) {
  const Bytes data = noise(64, 1);
  EXPECT_EQ(next_candidate(ByteView(data).first(8), 8), 8u);
  EXPECT_EQ(next_candidate(ByteView(data).first(8), 9), 8u);
}

}  // namespace
}  // namespace kuramori
