#include "vault/chunker.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/sanitized.h"

#include "codec/cut_candidates.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::noise;

constexpr CutSizes kSmall{.average = kCutAverageMin};

// Where the chunks of `data` end, the last left out: it ends where the content does.
std::vector<size_t> cuts_of(Chunker& chunker, ByteView data) {
  std::vector<size_t> cuts;
  for (size_t at = 0; at < data.size();) {
    at += chunker.cut(data.subspan(at));
    if (at < data.size()) cuts.push_back(at);
  }
  return cuts;
}

std::vector<ByteView> chunks_of(Chunker& chunker, ByteView data) {
  std::vector<ByteView> chunks;
  for (size_t at = 0; at < data.size(); at += chunks.back().size())
    chunks.push_back(data.subspan(at, chunker.cut(data.subspan(at))));
  return chunks;
}

Chunker chunker_of(uint64_t key, CutSizes sizes = kSmall) {
  test::SeededRandom random(key);
  return Chunker(KeyBundle::new_owner("test", random), sizes);
}

TEST(Chunker, CutsTheSameWayHoweverMuchIsAtHand) {
  const Bytes data = noise(size_t{24} << 20, 1);
  Chunker chunker = chunker_of(1);
  const std::vector<size_t> whole = cuts_of(chunker, data);
  ASSERT_GT(whole.size(), 10u);
  std::vector<size_t> in_pieces;
  for (size_t at = 0; at < data.size();) {
    at += chunker.cut(ByteView(data).subspan(at, std::min(data.size() - at, kSmall.max())));
    if (at < data.size()) in_pieces.push_back(at);
  }
  EXPECT_EQ(in_pieces, whole);
  Chunker again = chunker_of(1);
  EXPECT_EQ(cuts_of(again, data), whole);
}

// The numbers are of a program written from docs/vault-format.md alone: other cuts would find nothing again
// of what is stored.
TEST(Chunker, CutsWhereTheFormatSays) {
  KeyBundle keys;
  for (size_t i = 0; i < keys.family.raw.size(); ++i) keys.family.raw[i] = static_cast<uint8_t>(i);
  keys.chunk = Secret::copy_of(Bytes(32, 7));
  Chunker chunker(keys, kSmall);
  const std::vector<size_t> expected{788739,  1292754, 1525011, 2023275, 2433381,
                                     3006834, 3745980, 4399374, 4952978, 5623795};
  EXPECT_EQ(cuts_of(chunker, noise(size_t{6} << 20, 1)), expected);
}

TEST(Chunker, KeepsItsSizes) {
  const Bytes data = noise(size_t{200} << 20, 2);
  Chunker chunker = chunker_of(1);
  const std::vector<ByteView> chunks = chunks_of(chunker, data);
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    EXPECT_GE(chunks[i].size(), kSmall.min());
    EXPECT_LE(chunks[i].size(), kSmall.max());
  }
  const double mean = static_cast<double>(data.size()) / static_cast<double>(chunks.size());
  EXPECT_GT(mean, 0.8 * static_cast<double>(kSmall.average));
  EXPECT_LT(mean, 1.5 * static_cast<double>(kSmall.average));
}

TEST(Chunker, WhatIsSmallIsOneChunk) {
  Chunker chunker = chunker_of(1);
  for (const size_t size : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, kSmall.min()})
    EXPECT_EQ(chunker.cut(noise(size, 5)), size);
}

TEST(Chunker, WhatOffersNoPlaceIsCutAtTheMaximum) {
  Chunker chunker = chunker_of(1);
  const Bytes zeros(kSmall.max() * 2 + 5);
  const std::vector<size_t> expected{kSmall.max(), 2 * kSmall.max()};
  EXPECT_EQ(cuts_of(chunker, zeros), expected);
}

TEST(Chunker, WhatRepeatsItselfIsCutWithinTheSizes) {
  Chunker chunker = chunker_of(1);
  for (const size_t period : {size_t{8}, size_t{13}, size_t{512}, size_t{8192}}) {
    const Bytes turn = noise(period, period);
    Bytes data(size_t{9} << 20);
    for (size_t at = 0; at < data.size(); ++at) data[at] = turn[at % period];
    const std::vector<ByteView> chunks = chunks_of(chunker, data);
    for (size_t i = 0; i + 1 < chunks.size(); ++i) EXPECT_GE(chunks[i].size(), kSmall.min()) << period;
  }
}

TEST(Chunker, FindsItsPlacesAgainAfterAnInsertedByte) {
  const Bytes data = noise(size_t{64} << 20, 3);
  Chunker chunker = chunker_of(1);
  std::set<std::string> known;
  for (ByteView chunk : chunks_of(chunker, data)) known.insert(sha256(chunk).hex());
  Bytes changed = data;
  changed.insert(changed.begin() + (size_t{7} << 20), 0x5a);
  changed.erase(changed.begin() + (size_t{40} << 20));
  size_t found = 0;
  for (ByteView chunk : chunks_of(chunker, changed)) {
    if (known.contains(sha256(chunk).hex())) found += chunk.size();
  }
  EXPECT_GE(static_cast<double>(found), 0.95 * static_cast<double>(data.size()));
}

// What an attacker sees is where known content was cut. The attacks below are the published ones in their
// general form; each breaks the planted chunker beside it.
class ChunkerAttack : public testing::Test {
 protected:
  static constexpr size_t kWindowBytes = 64;
  static constexpr size_t kCuts = kWindowBytes * 8 + 40;  // as many as bits are unknown, and some
  static const Bytes& content() {
    static const Bytes data = noise(size_t{420} << 20, 11);
    return data;
  }
  static const std::vector<size_t>& cuts() {
    static const std::vector<size_t> all = [] {
      Chunker chunker = chunker_of(9);
      return cuts_of(chunker, content());
    }();
    return all;
  }

  // Cuts wherever `is_cut` says so of the window before, a minimum apart: as chunkers with a rolling hash do.
  template <class IsCut>
  static std::vector<size_t> planted_cuts(const IsCut& is_cut) {
    std::vector<size_t> cuts;
    for (size_t at = kWindowBytes; at < content().size() && cuts.size() < kCuts; ++at) {
      if (!is_cut(content().data() + at)) continue;
      cuts.push_back(at);
      at += kWindowBytes;
    }
    return cuts;
  }

  // How many affine relations over GF(2) hold among the bits of the windows before every cut: the secret
  // polynomial of a Rabin fingerprint is the solution of these.
  static size_t relations(const std::vector<size_t>& cuts) {
    using Row = std::array<uint64_t, kWindowBytes / 8 + 1>;
    std::vector<Row> rows;
    for (size_t i = 0; i < std::min(cuts.size(), kCuts); ++i) {
      Row row{};
      std::memcpy(row.data(), content().data() + cuts[i] - kWindowBytes, kWindowBytes);
      row.back() = 1;
      rows.push_back(row);
    }
    size_t rank = 0;
    const size_t unknown = kWindowBytes * 8 + 1;
    for (size_t bit = 0; bit < unknown && rank < rows.size(); ++bit) {
      const size_t word = bit / 64;
      const uint64_t mask = uint64_t{1} << (bit % 64);
      size_t pivot = rank;
      while (pivot < rows.size() && !(rows[pivot][word] & mask)) ++pivot;
      if (pivot == rows.size()) continue;
      std::swap(rows[pivot], rows[rank]);
      for (size_t i = 0; i < rows.size(); ++i) {
        if (i == rank || !(rows[i][word] & mask)) continue;
        for (size_t k = 0; k < rows[i].size(); ++k) rows[i][k] ^= rows[rank][k];
      }
      ++rank;
    }
    return unknown - rank;
  }

  // Chi-square of the byte `back` before the cuts against all bytes being as likely, in standard deviations.
  static double unevenness(const std::vector<size_t>& cuts, size_t back) {
    std::array<double, 256> seen{};
    const size_t count = std::min(cuts.size(), kCuts);
    for (size_t i = 0; i < count; ++i) ++seen[content()[cuts[i] - back]];
    const double expected = static_cast<double>(count) / 256;
    double sum = 0;
    for (double one : seen) sum += (one - expected) * (one - expected) / expected;
    return (sum - 255) / std::sqrt(2.0 * 255);
  }

  // The mean distance from a place back to the nearest candidate of the public rule, in multiples of what it
  // is for places chosen at random.
  static double distance_to_candidate(const std::vector<size_t>& places) {
    double sum = 0;
    for (size_t place : places) {
      size_t at = place;
      while (next_candidate(ByteView(content()).first(at + 1), at) != at) --at;
      sum += static_cast<double>(place - at);
    }
    return sum / static_cast<double>(places.size()) / kCandidateEvery;
  }
};

TEST_F(ChunkerAttack, NoLinearSecretFollowsFromItsCuts_V18) {
  if (kIsSanitized) GTEST_SKIP() << "a minute of arithmetic";
  ASSERT_GE(cuts().size(), kCuts);
  EXPECT_EQ(relations(cuts()), 0u);
  // A fingerprint that is linear over GF(2), with a secret multiplier for each of 64 bytes, and a mask of ten
  // bits.
  const Bytes secret = noise(kWindowBytes * 8, 99);
  const auto rabin = planted_cuts([&](const uint8_t* end) {
    uint64_t hash = 0;
    for (size_t i = 0; i < kWindowBytes; ++i) {
      const uint64_t word = load_le<uint64_t>(secret.data() + 8 * i);
      for (int bit = 0; bit < 8; ++bit)
        if (end[-1 - static_cast<ptrdiff_t>(i)] >> bit & 1) hash ^= std::rotl(word, bit * 5);
    }
    return (hash & 0x3ff) == 0;
  });
  EXPECT_GE(relations(rabin), 10u) << "the attack is none";
}

TEST_F(ChunkerAttack, NoByteBeforeACutIsLikelierThanAnother_V18) {
  if (kIsSanitized) GTEST_SKIP() << "half a minute of arithmetic";
  for (size_t back = 1; back <= kWindowBytes; ++back)
    EXPECT_LT(std::abs(unevenness(cuts(), back)), 5) << back;
  // A gear hash with a secret table: its low bits are sums of the last bytes' entries.
  const Bytes table = noise(256 * 8, 98);
  const auto gear = planted_cuts([&](const uint8_t* end) {
    uint64_t hash = 0;
    for (ptrdiff_t i = 16; i > 0; --i) hash = (hash << 1) + load_le<uint64_t>(table.data() + 8 * end[-i]);
    return (hash & 0xff) == 0;
  });
  EXPECT_GT(unevenness(gear, 1), 5) << "the attack is none";
}

TEST_F(ChunkerAttack, ThePublicRuleDoesNotTellWhetherAKnownFileWasStored_V18) {
  std::vector<size_t> anywhere;
  const Bytes dice = noise(cuts().size() * 8, 97);
  for (size_t i = 0; i < cuts().size(); ++i)
    anywhere.push_back(kCutAverageMin +
                       load_le<uint64_t>(dice.data() + 8 * i) % (content().size() - kCutAverageMin));
  const double limit = 6 / std::sqrt(static_cast<double>(cuts().size()));
  EXPECT_NEAR(distance_to_candidate(anywhere), 1, limit);
  EXPECT_NEAR(distance_to_candidate(cuts()), 1, limit);
  // Cut at the candidate itself: every cut tells.
  const auto unmoved = planted_cuts([&](const uint8_t* end) {
    const size_t at = static_cast<size_t>(end - content().data());
    return next_candidate(ByteView(content()).first(at + 1), at) == at;
  });
  EXPECT_EQ(distance_to_candidate(unmoved), 0) << "the attack is none";
}

TEST_F(ChunkerAttack, AnotherKeyCutsElsewhere) {
  Chunker other = chunker_of(10);
  const auto theirs = cuts_of(other, ByteView(content()).first(size_t{100} << 20));
  const std::set<size_t> ours(cuts().begin(), cuts().end());
  size_t same = 0;
  for (size_t cut : theirs) same += ours.contains(cut);
  EXPECT_LE(same, 1u);
}

}  // namespace
}  // namespace kuramori
