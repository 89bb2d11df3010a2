// What whoever keeps the place sees of files: the names and sizes of objects, and which ranges of them are
// read. Attacks on keyed chunkers (IACR ePrint 2025/532, 2025/558) are given all of that, for files that the
// attacker chose, stored through the whole chunk store; each breaks a weakness that is planted in the same
// store, and finds nothing without it.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <set>

#include "codec/cut_candidates.h"
#include "vault/chunker.h"
#include "vault/test_support.h"
#include "vault/tree_writer.h"

namespace kuramori {
namespace {

using test::noise;

constexpr size_t kFileBytes = size_t{24} << 20;    // of a chosen file
constexpr size_t kLargeBytes = size_t{256} << 10;  // chunks from here on are frames of their own
constexpr size_t kTagBytes = 16;

struct Seen {
  std::string object;
  uint64_t offset = 0, bytes = 0;
  auto operator<=>(const Seen&) const = default;
};

// The place, as its keeper sees it.
class WatchedStore final : public Store {
 public:
  explicit WatchedStore(Store& store) : store_(store) {}
  std::vector<Seen> reads;

  std::string location() const override { return store_.location(); }
  Result<void> put_if_absent(std::string_view n, ByteView b) override { return store_.put_if_absent(n, b); }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override { return store_.create(n); }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override {
    struct Reader final : ObjectReader {
      WatchedStore& watched;
      std::string name;
      std::unique_ptr<ObjectReader> inner;
      Reader(WatchedStore& w, std::string n, std::unique_ptr<ObjectReader> i)
          : watched(w), name(std::move(n)), inner(std::move(i)) {}
      uint64_t size() const override { return inner->size(); }
      Result<void> read(uint64_t offset, MutableByteView out) override {
        watched.reads.push_back({name, offset, out.size()});
        return inner->read(offset, out);
      }
    };
    TRY_ASSIGN(auto inner, store_.open(n));
    return std::unique_ptr<ObjectReader>(new Reader(*this, std::string(n), std::move(inner)));
  }
  Result<Bytes> get(std::string_view n) override {
    TRY_ASSIGN(Bytes bytes, store_.get(n));
    reads.push_back({std::string(n), 0, bytes.size()});
    return bytes;
  }
  Result<ObjectInfo> head(std::string_view n) override { return store_.head(n); }
  Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
    return store_.list(p, a, l);
  }
  Result<void> remove(std::string_view n) override { return store_.remove(n); }

 private:
  Store& store_;
};

// A snapshot of some files in a place of its own, under the keys of all of them, and its restore.
class Place {
 public:
  using Files = std::map<std::string, Bytes>;
  Place(const KeyBundle& keys, const Files& files, PipelineFaults* planted) : keys_(keys), random_(3) {
    auto stored = put(files, planted);
    EXPECT_TRUE(stored) << (stored ? "" : stored.error().what);
  }

  // Every range of packs that is read while this file is read alone.
  std::vector<Seen> read(const std::string& path, const Bytes& expected) {
    watched_.reads.clear();
    auto back = [&]() -> Result<Bytes> {
      TRY_ASSIGN(const auto snapshot, SnapshotReader::open(watched_, keys_, codec_, "commit", commit_));
      TRY_ASSIGN(const auto node, snapshot->find(path));
      SnapshotReader::Context context;
      Bytes bytes;
      for (const Extent& extent : node->extents) TRY(snapshot->read_extent(extent, context, bytes));
      return bytes;
    }();
    EXPECT_TRUE(back && equal(*back, expected)) << path;
    std::vector<Seen> packs;
    for (const Seen& seen : watched_.reads) {
      if (seen.object.starts_with(names::kPacks)) packs.push_back(seen);
    }
    return packs;
  }

 private:
  Result<void> put(const Files& files, PipelineFaults* planted) {
    const SessionId session = random_.id<SessionId>();
    const ResourceId resource = random_.id<ResourceId>();
    TreeWriter writer(watched_, keys_, random_, clock_, session, resource, nullptr);
    writer.provoke(planted);
    auto lane = writer.lane();
    for (const auto& [path, bytes] : files) {
      TRY(lane->add(bytes));
      TRY_ASSIGN(const StoredContent content, lane->end());
      TRY(writer.add_entry({.path = path, .content = ContentKind::kBytes, .mode = 0600, .size = bytes.size()},
                           content));
    }
    TRY(lane->finish());
    commit_.session = session;
    commit_.resource = resource;
    uint32_t maps = 0;
    TRY_ASSIGN(const LiveRecord live, writer.finish(commit_, [&] { return names::map(session, maps++); }));
    const std::string name = names::live(session);
    const Bytes object = codec_.encode(RecordType::kLive, name, resource, encode(live));
    commit_.live = {.name = name, .size = object.size(), .digest = sha256(object)};
    return watched_.put_if_absent(name, object);
  }

  const KeyBundle& keys_;
  test::SeededRandom random_;
  test::StandingClock clock_;
  SealedRecordCodec codec_{keys_, random_};
  test::OpenStore memory_;
  WatchedStore watched_{memory_};
  CommitRecord commit_;
};

// --- the secret of the cuts -------------------------------------------------------------------------------

class CutAttack : public testing::Test {
 protected:
  static constexpr size_t kWindowBytes = 32;                // chunker_test looks at all 64
  static constexpr size_t kUnknown = kWindowBytes * 8 + 1;  // their bits, and a constant
  static constexpr size_t kCuts = kUnknown + 40;
  using Row = std::array<uint64_t, kWindowBytes / 8 + 1>;

  test::SeededRandom random{9};
  KeyBundle keys = KeyBundle::new_owner("test", random);

  // A chosen file, and where the attacker sees that it was cut.
  struct Known {
    Bytes content;
    std::vector<size_t> cuts;
    size_t chosen = 0;  // of them, those that the content chose: not at the largest size
  };

  Known store_and_watch(uint64_t seed, PipelineFaults* planted) {
    Known known{.content = noise(kFileBytes, seed), .cuts = {}};
    Place place(keys, {{"chosen", known.content}}, planted);
    size_t at = 0;
    for (const Seen& seen : place.read("chosen", known.content)) {
      // Noise is stored as it is, so that a frame is its chunk and a tag; but what ends the file is filled
      // up.
      if (seen.bytes < kLargeBytes + kTagBytes) continue;
      const size_t chunk = seen.bytes - kTagBytes;
      at += chunk;
      if (at >= kFileBytes) break;
      if (chunk != CutSizes().max()) known.cuts.push_back(at);
    }
    return known;
  }
  std::vector<Known> watch(PipelineFaults* planted, size_t cuts) {
    std::vector<Known> all;
    for (size_t seen = 0; seen < cuts && all.size() < 100; seen += all.back().cuts.size())
      all.push_back(store_and_watch(1000 + all.size(), planted));
    return all;
  }

  // Ours, which is the same for every attack.
  const std::vector<Known>& watch_ours() {
    static const std::vector<Known> all = watch(nullptr, kCuts);
    return all;
  }

  static Row row_before(const Bytes& content, size_t at) {
    Row row{};
    std::memcpy(row.data(), content.data() + at - kWindowBytes, kWindowBytes);
    row.back() = 1;
    return row;
  }
  static bool bit_of(const Row& row, size_t bit) { return (row[bit / 64] >> (bit % 64) & 1) != 0; }
  static bool holds(const Row& relation, const Row& row) {
    uint64_t sum = 0;
    for (size_t i = 0; i < row.size(); ++i) sum ^= relation[i] & row[i];
    return std::popcount(sum) % 2 == 0;
  }

  // What is recovered of a rule that is linear over GF(2): every affine relation that holds among the bits
  // before all cuts.
  static std::vector<Row> recover_linear_rule(const std::vector<Known>& files) {
    std::vector<Row> rows;
    for (const Known& file : files) {
      for (const size_t cut : file.cuts) rows.push_back(row_before(file.content, cut));
    }
    EXPECT_GE(rows.size(), kCuts);
    std::vector<size_t> pivots;
    for (size_t bit = 0; bit < kUnknown && pivots.size() < rows.size(); ++bit) {
      size_t pivot = pivots.size();
      while (pivot < rows.size() && !bit_of(rows[pivot], bit)) ++pivot;
      if (pivot == rows.size()) continue;
      std::swap(rows[pivot], rows[pivots.size()]);
      const Row& chosen = rows[pivots.size()];
      for (size_t i = 0; i < rows.size(); ++i) {
        if (i == pivots.size() || !bit_of(rows[i], bit)) continue;
        for (size_t k = 0; k < rows[i].size(); ++k) rows[i][k] ^= chosen[k];
      }
      pivots.push_back(bit);
    }
    std::vector<Row> rule;
    for (size_t free = 0; free < kUnknown; ++free) {
      if (std::ranges::count(pivots, free) != 0) continue;
      Row relation{};
      relation[free / 64] |= uint64_t{1} << (free % 64);
      for (size_t i = 0; i < pivots.size(); ++i) {
        if (bit_of(rows[i], free)) relation[pivots[i] / 64] |= uint64_t{1} << (pivots[i] % 64);
      }
      rule.push_back(relation);
    }
    return rule;
  }
  // Where a file that nobody stored yet will be cut by such a rule.
  static std::vector<size_t> predict(const std::vector<Row>& rule, const Bytes& content,
                                     const CutSizes& sizes) {
    std::vector<size_t> cuts;
    for (size_t begin = 0, at = sizes.min(); at < content.size(); ++at) {
      const Row row = row_before(content, at);
      const bool is_cut =
          std::ranges::all_of(rule, [&](const Row& relation) { return holds(relation, row); });
      if (!is_cut && at - begin < sizes.max()) continue;
      if (is_cut) cuts.push_back(at);
      begin = at;
      at += sizes.min() - 1;
    }
    return cuts;
  }

  // How often each byte stands right before a cut.
  static std::array<size_t, 256> bytes_before(const std::vector<Known>& files, size_t back) {
    std::array<size_t, 256> seen{};
    for (const Known& file : files) {
      for (const size_t cut : file.cuts) ++seen[file.content[cut - back]];
    }
    return seen;
  }
  // Chi-square against all being as likely, in standard deviations.
  static double unevenness(const std::array<size_t, 256>& seen) {
    double count = 0, sum = 0;
    for (const size_t one : seen) count += static_cast<double>(one);
    for (const size_t one : seen) sum += std::pow(static_cast<double>(one) - count / 256, 2) * 256 / count;
    return (sum - 255) / std::sqrt(2.0 * 255);
  }

  // The mean distance from a cut back to the nearest place that the public rule proposes, in multiples of
  // what it is for places chosen at random.
  static double distance_to_candidate(const std::vector<Known>& files) {
    double sum = 0, count = 0;
    for (const Known& file : files) {
      for (const size_t cut : file.cuts) {
        size_t at = cut;
        while (next_candidate(ByteView(file.content).first(at + 1), at) != at) --at;
        sum += static_cast<double>(cut - at);
        ++count;
      }
    }
    return sum / count / kCandidateEvery;
  }
};

// A fingerprint as backup programs have it: the window's polynomial modulo a secret one of degree 53, cut
// where its low bits are zero.
class Rabin {
 public:
  static constexpr size_t kWindowBytes = 32;
  static constexpr uint64_t kMask = (1 << 18) - 1;
  explicit Rabin(uint64_t secret)
      : polynomial_((secret & ((uint64_t{1} << 53) - 1)) | uint64_t{1} << 53 | 1) {
    for (uint64_t top = 0; top < 256; ++top) {
      uint64_t value = top << 53;
      for (int bit = 60; bit >= 53; --bit) {
        if (value >> bit & 1) value ^= polynomial_ << (bit - 53);
      }
      reduced_[top] = value | top << 53;
    }
    for (size_t byte = 0; byte < 256; ++byte) {
      leaving_[byte] = add(0, static_cast<uint8_t>(byte));
      for (size_t i = 1; i < kWindowBytes; ++i) leaving_[byte] = add(leaving_[byte], 0);
    }
  }
  size_t cut(ByteView data, const CutSizes& sizes) const {
    if (data.size() <= sizes.min()) return data.size();
    uint64_t hash = 0;
    for (size_t at = sizes.min() - kWindowBytes; at < sizes.min(); ++at) hash = add(hash, data[at]);
    const size_t end = std::min(data.size(), sizes.max());
    for (size_t at = sizes.min(); at < end; ++at) {
      if ((hash & kMask) == 0) return at;
      hash = add(hash ^ leaving_[data[at - kWindowBytes]], data[at]);
    }
    return end;
  }

 private:
  uint64_t add(uint64_t hash, uint8_t byte) const { return (hash << 8 | byte) ^ reduced_[hash >> 45]; }
  uint64_t polynomial_;
  std::array<uint64_t, 256> reduced_{}, leaving_{};
};

#if !defined(KURAMORI_SANITIZED)  // hundreds of files of 24 MiB each: several times a minute
TEST_F(CutAttack, V18_the_stored_sizes_of_chosen_files_give_no_linear_secret_away) {
  // Against the weak one: the whole rule, and with it the sizes of a file that the attacker never saw stored.
  const CutSizes sizes;
  const Rabin rabin(0x1d2c4b5a69788796);
  PipelineFaults weak;
  weak.cut = [&](ByteView data) { return rabin.cut(data, sizes); };
  const auto rule = recover_linear_rule(watch(&weak, kCuts));
  EXPECT_EQ(rule.size(), 18u) << "the attack is none";
  const Known unseen = store_and_watch(7, &weak);
  ASSERT_GT(unseen.cuts.size(), 20u);
  EXPECT_EQ(predict(rule, unseen.content, sizes), unseen.cuts) << "the attack is none";

  // Against ours it sees as much, every cut to the byte, and there is no relation at all.
  const std::vector<Known>& files = watch_ours();
  Chunker chunker(keys);
  std::vector<size_t> cuts;
  const ByteView content = files.front().content;
  for (size_t begin = 0; begin < content.size();) {
    const size_t size = chunker.cut(content.subspan(begin));
    begin += size;
    if (begin < content.size() && size != sizes.max()) cuts.push_back(begin);
  }
  EXPECT_EQ(files.front().cuts, cuts) << "the attacker sees less than there is to see";
  EXPECT_TRUE(recover_linear_rule(files).empty());
}

TEST_F(CutAttack, V18_the_stored_sizes_of_chosen_files_give_no_table_away) {
  // A gear hash with a secret table: its lowest bit is the last byte's entry's, so that half of all bytes
  // never stand before a cut. Which half is one bit of each of 256 entries; the others follow one by one.
  const CutSizes sizes;
  const Bytes table = noise(256 * sizeof(uint64_t), 98);
  const auto entry = [&](size_t byte) { return load_le<uint64_t>(table.data() + sizeof(uint64_t) * byte); };
  PipelineFaults weak;
  weak.cut = [&](ByteView data) {
    if (data.size() <= sizes.min()) return data.size();
    uint64_t hash = 0;
    const size_t end = std::min(data.size(), sizes.max());
    for (size_t at = sizes.min() - 64; at < end; ++at) {
      if (at >= sizes.min() && (hash & Rabin::kMask) == 0) return at;
      hash = (hash << 1) + entry(data[at]);
    }
    return end;
  };
  const auto leaked = bytes_before(watch(&weak, kCuts), 1);
  size_t recovered = 0;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (leaked[byte] == 0) continue;
    EXPECT_EQ(entry(byte) % 2, entry(std::ranges::max_element(leaked) - leaked.begin()) % 2) << byte;
    ++recovered;
  }
  EXPECT_GT(recovered, 90u) << "the attack is none";
  EXPECT_LE(recovered, 160u) << "the attack is none";
  EXPECT_GT(unevenness(leaked), 5) << "the attack is none";

  const std::vector<Known>& files = watch_ours();
  for (size_t back = 1; back <= 64; ++back)
    EXPECT_LT(std::abs(unevenness(bytes_before(files, back))), 5) << back;
}

TEST_F(CutAttack, V18_the_stored_sizes_do_not_tell_by_the_public_rule_whether_a_known_file_was_stored) {
  // Cut at the candidate that a secret chooses, and not moved on from there: every cut of a file stands at
  // one.
  const CutSizes sizes;
  PipelineFaults weak;
  weak.cut = [&](ByteView data) {
    const size_t end = std::min(data.size(), sizes.max());
    for (size_t at = next_candidate(data.first(end), std::min(sizes.min(), end)); at < end;
         at = next_candidate(data.first(end), at + 1)) {
      const uint64_t window = load_le<uint64_t>(data.data() + at - 16) ^ 0x5bd1e995cafef00d;
      if ((window * 0x9e3779b97f4a7c15) >> 56 == 0) return at;
    }
    return end;
  };
  const std::vector<Known> told = watch(&weak, 40);
  EXPECT_EQ(distance_to_candidate(told), 0) << "the attack is none";
  const std::vector<Known>& files = watch_ours();
  EXPECT_NEAR(distance_to_candidate(files), 1, 6 / std::sqrt(static_cast<double>(kCuts)));
}
#endif

// --- the sizes of small files -----------------------------------------------------------------------------

class SmallFiles : public testing::Test {
 protected:
  test::SeededRandom random{10};
  KeyBundle keys = KeyBundle::new_owner("test", random);

  // Sizes that nobody else has, told by what ranges were read: of each file one, or nothing.
  static std::vector<size_t> recover_sizes(const std::vector<std::vector<Seen>>& reads) {
    std::map<Seen, size_t> read_for;  // how many files
    for (const auto& of_file : reads) {
      for (const Seen& seen : std::set<Seen>(of_file.begin(), of_file.end())) ++read_for[seen];
    }
    std::vector<size_t> sizes;
    for (const auto& of_file : reads) {
      size_t own = 0;
      for (const Seen& seen : of_file) {
        if (read_for[seen] == 1) own = seen.bytes - kTagBytes;
      }
      sizes.push_back(own);
    }
    return sizes;
  }
  std::vector<std::vector<Seen>> read_each(const std::vector<size_t>& sizes, PipelineFaults* planted) {
    Place::Files files;
    for (size_t i = 0; i < sizes.size(); ++i) files[fmt::format("f{:03}", i)] = noise(sizes[i], 500 + i);
    Place place(keys, files, planted);
    std::vector<std::vector<Seen>> reads;
    for (const auto& [path, bytes] : files) reads.push_back(place.read(path, bytes));
    return reads;
  }
  // Of the ranges that hold content: neither head nor trailers nor the tree are read for one file alone.
  static std::set<uint64_t> lengths(const std::vector<std::vector<Seen>>& reads) {
    std::set<uint64_t> all;
    for (const auto& of_file : reads) all.insert(of_file.back().bytes);
    return all;
  }
};

TEST_F(SmallFiles, V18_reading_them_one_by_one_tells_no_exact_size) {
  std::vector<size_t> sizes;
  for (size_t i = 0; i < 60; ++i) sizes.push_back(1000 + 37 * i + random.below(30));

  PipelineFaults weak;
  weak.tells_sizes = true;
  EXPECT_EQ(recover_sizes(read_each(sizes, &weak)), sizes) << "the attack is none";

  const auto reads = read_each(sizes, nullptr);
  EXPECT_EQ(recover_sizes(reads), std::vector<size_t>(sizes.size(), 0));
  for (const auto& of_file : reads) EXPECT_EQ(of_file, reads.front()) << "one file looks like another";
}

TEST_F(SmallFiles, V18_other_sizes_look_the_same_and_so_does_a_byte_more) {
  const std::vector<size_t> even(60, 2000);
  std::vector<size_t> uneven;
  for (size_t i = 0; i < 60; ++i) uneven.push_back(i % 2 == 0 ? 300 : 3700);
  std::vector<size_t> more = even;
  more[17] += 1;
  const auto seen = lengths(read_each(even, nullptr));
  EXPECT_EQ(seen.size(), 1u);
  EXPECT_EQ(lengths(read_each(uneven, nullptr)), seen);
  EXPECT_EQ(lengths(read_each(more, nullptr)), seen) << "what a frame has in all is rounded";

  PipelineFaults weak;
  weak.tells_sizes = true;
  EXPECT_NE(lengths(read_each(uneven, &weak)), lengths(read_each(even, &weak))) << "the attack is none";
  EXPECT_NE(lengths(read_each(more, &weak)), lengths(read_each(even, &weak))) << "the attack is none";
}

// What ends a file is filled up: of files that differ by less than the next size, all ranges are the same.
// Zeros behind the content alone do not do it: they are compressed away.
TEST_F(SmallFiles, V18_the_end_of_a_file_tells_no_exact_size) {
  const auto sizes_seen = [&](size_t from, size_t to, PipelineFaults* planted) {
    std::set<uint64_t> seen;
    for (size_t bytes = from; bytes < to; bytes += (to - from) / 20) {
      const Bytes content = noise(bytes, 77);
      Place place(keys, {{"alone", content}}, planted);
      seen.insert(place.read("alone", content).back().bytes);
    }
    return seen;
  };
  PipelineFaults exact, plain;
  exact.tells_sizes = true;
  plain.rounds_plain_alone = true;
  // A frame of its own at the end of a large file, and a small file alone in a frame that is shared
  // otherwise.
  const std::pair<size_t, size_t> ranges[] = {{295'500, 303'000}, {29'700, 30'700}};
  for (const auto& [from, to] : ranges) {
    EXPECT_GE(sizes_seen(from, to, &exact).size(), 20u) << "the attack is none";
    EXPECT_GE(sizes_seen(from, to, &plain).size(), 3u) << "the attack is none";
    EXPECT_EQ(sizes_seen(from, to, nullptr).size(), 1u) << from;
  }
}

}  // namespace
}  // namespace kuramori
