// Changed blocks: how they join, how they are written, and that each segment's record covers what ends in it.
// Against pg_waldump on real histories of every major: tests/e2e/changed_blocks_test.py.
#include "source/postgres/changed_blocks.h"

#include <gtest/gtest.h>

#include <random>

#include "os/file.h"
#include "os/lock.h"
#include "source/postgres/earlier_wal.h"
#include "source/postgres/wal_for_tests.h"

namespace kuramori::postgres {
namespace {

constexpr RelationFile kTable{1663, 5, 16384};

Bytes numbers(std::initializer_list<uint32_t> values) {
  Bytes bytes;
  for (const uint32_t value : values) append_le(bytes, value);
  return bytes;
}

// A record that refers to a block, with `data` behind it.
Bytes touching(const RelationFile& file, uint32_t block, Fork fork = Fork::kMain, size_t main_bytes = 10) {
  Bytes body = {0, static_cast<uint8_t>(fork)};
  append_le<uint16_t>(body, 0);
  append(body, numbers({file.tablespace, file.database, file.number, block}));
  append(body, Wal::main_data(Bytes(main_bytes, 3)));
  return body;
}

ChangedBlocks collect(const Wal& wal) {
  WalReader reader({.from = kFirst, .segment_bytes = kMiB});
  const Bytes pages = wal.pages();
  EXPECT_TRUE(reader.add(kFirst, pages));
  ChangedBlocksCollector collector(Wal::kSystem, kFirst);
  for (auto next = reader.next(); next && *next == WalReader::Next::kRecord; next = reader.next())
    EXPECT_TRUE(collector.see(reader.record()));
  return collector.take(reader.position());
}

// What a server's pg_wal holds: segments by number, `gone` of them recycled.
struct Segments {
  Bytes pages;
  std::set<uint64_t> gone;
  uint64_t count() const { return pages.size() / kMiB; }
  ReadEarlierWal earlier() const {
    return [this](Lsn at, MutableByteView into) {
      if (at < kFirst || gone.contains((at - kFirst) / kMiB)) return false;
      EXPECT_EQ((at - kFirst) / kMiB, (at - kFirst + into.size() - 1) / kMiB);  // within one
      std::copy_n(pages.begin() + static_cast<ptrdiff_t>(at - kFirst), into.size(), into.begin());
      return true;
    };
  }
  std::optional<ChangedBlocks> scan(uint64_t index) const {
    return scan_segment(place(index), ByteView(pages).subspan(index * kMiB, kMiB), earlier());
  }
  static SegmentPlace place(uint64_t index) {
    return {.system_id = Wal::kSystem, .timeline = 1, .start = kFirst + index * kMiB, .bytes = kMiB};
  }
};
Segments whole_segments(Wal& wal) {
  wal.add(kRmXlog, 0x40, {});
  Segments segments{.pages = wal.pages(), .gone = {}};
  segments.pages.resize((segments.pages.size() + kMiB - 1) / kMiB * kMiB);
  return segments;
}

TEST(ChangedBlocks, TellWhatARecordDoesToARelation) {
  Wal wal;
  wal.add(kRmHeap, 0, touching(kTable, 7));
  wal.add(kRmHeap, 0, touching(kTable, 3));
  wal.add(kRmHeap, 0, touching(kTable, 7));
  wal.add(kRmHeap, 0, touching({1663, 5, 20000}, 1, Fork::kInit));
  // Always read whole, so never noted.
  wal.add(kRmHeap, 0, touching({1663, 5, 20001}, 1, Fork::kFsm));
  wal.add(kRmHeap, 0, touching({1663, 5, 20001}, 1, Fork::kVm));
  // Cut to 5 blocks, then to 9 (P7); another one's maps alone.
  wal.add(kRmSmgr, 0x20, Wal::main_data(numbers({5, 1663, 5, 30000, 7})));
  wal.add(kRmSmgr, 0x20, Wal::main_data(numbers({9, 1663, 5, 30000, 7})));
  wal.add(kRmSmgr, 0x20, Wal::main_data(numbers({9, 1663, 5, 30001, 6})));
  wal.add(kRmSmgr, 0x10, Wal::main_data(numbers({1663, 5, 40000, 0})));
  wal.add(kRmSmgr, 0x10, Wal::main_data(numbers({1663, 5, 40000, 3})));
  wal.add(kRmSmgr, 0x10, Wal::main_data(numbers({1663, 5, 40001, 1})));
  // Commit, abort and both of a prepared transaction drop files.
  for (const auto& [info, file] :
       {std::pair<uint8_t, uint32_t>(0x00, 50000), {0x20, 50001}, {0x30, 50002}, {0x40, 50003}})
    wal.add(kRmXact, info | 0x80, Wal::main_data(numbers({1, 2, 4, 1, 1663, 5, file})), 9);
  // Databases: copied by file and dropped are whole (P6); one made through WAL speaks for itself.
  wal.add(kRmDatabase, 0x00, Wal::main_data(numbers({600, 1663, 5, 1663})));
  wal.add(kRmDatabase, 0x10, Wal::main_data(numbers({601, 1663})));
  wal.add(kRmDatabase, 0x20, Wal::main_data(numbers({602, 2, 1663, 1700})));
  const ChangedBlocks changed = collect(wal);
  std::map<ForkFile, ChangedFork> expected;
  expected[{kTable}].blocks = {3, 7};
  expected[{{1663, 5, 20000}, Fork::kInit}].blocks = {1};
  expected[{{1663, 5, 30000}}].limit = 5;
  expected[{{1663, 5, 30001}}] = {};  // mentioned
  for (const uint32_t dropped : {40000u, 50000u, 50001u, 50002u, 50003u})
    expected[{{1663, 5, dropped}}].limit = 0;
  expected[{{1663, 5, 40000}, Fork::kInit}].limit = 0;
  EXPECT_EQ(changed.forks, expected);
  EXPECT_EQ(changed.whole_databases,
            (std::set<std::pair<uint32_t, uint32_t>>{{1663, 600}, {1663, 602}, {1700, 602}}));
  EXPECT_FALSE(changed.was_minimal);
  EXPECT_EQ(changed.to, (wal.position() + 7) & ~Lsn{7});
}

TEST(ChangedBlocks, RememberThatWalWasMinimal) {
  Wal wal;
  wal.add(kRmXlog, 0x60, Wal::main_data(numbers({100, 8, 10, 0, 64, 0, 0})));
  wal.add(kRmXlog, 0x60, Wal::main_data(numbers({100, 8, 10, 0, 64, 1, 0})));
  EXPECT_TRUE(collect(wal).was_minimal);
}

TEST(ChangedBlocks, JoinOnlyWithoutAHole) {
  ChangedBlocks first{.system_id = 1, .timeline = 2, .from = 100, .to = 200};
  first.forks[{kTable}] = {.limit = 8, .blocks = {1, 5}};
  ChangedBlocks later{.system_id = 1, .timeline = 2, .from = 200, .to = 300, .was_minimal = true};
  later.forks[{kTable}] = {.limit = 6, .blocks = {2, 5, 9}};
  later.whole_databases = {{1663, 5}};
  ChangedBlocks joined = first;
  ASSERT_TRUE(joined.append(later));
  EXPECT_EQ(joined.forks[{kTable}], (ChangedFork{.limit = 6, .blocks = {1, 2, 5, 9}}));
  EXPECT_EQ(joined.from, 100u);
  EXPECT_EQ(joined.to, 300u);
  EXPECT_TRUE(joined.was_minimal);
  EXPECT_EQ(joined.whole_databases.size(), 1u);
  auto refused = [&](auto change) {
    ChangedBlocks other = later;
    change(other);
    ChangedBlocks base = first;
    auto done = base.append(other);
    return !done && done.error().kind == ErrorKind::kRefused;
  };
  EXPECT_TRUE(refused([](ChangedBlocks& c) { c.from = 201; }));
  EXPECT_TRUE(refused([](ChangedBlocks& c) { c.system_id = 2; }));
  EXPECT_TRUE(refused([](ChangedBlocks& c) { c.timeline = 1; }));
  EXPECT_FALSE(refused([](ChangedBlocks& c) { c.from = 150; }));
}

ChangedBlocks random_changes(std::mt19937& random) {
  auto below = [&](uint32_t limit) { return static_cast<uint32_t>(random() % limit); };
  ChangedBlocks changed{
      .system_id = random() * uint64_t{0x100000001}, .timeline = below(9), .from = below(1u << 30)};
  changed.to = changed.from + below(1u << 30);
  changed.was_minimal = below(2);
  for (uint32_t left = below(4); left > 0; --left) changed.whole_databases.emplace(below(3000), below(90000));
  for (uint32_t left = below(20); left > 0; --left) {
    const ForkFile file{{1663 + below(2), 5 + below(3), below(100000)}, below(4) ? Fork::kMain : Fork::kInit};
    ChangedFork& fork = changed.forks[file];
    if (below(2)) fork.limit = below(5) ? below(1000) : UINT32_MAX;
    std::set<uint32_t> blocks;
    for (uint32_t count = below(60); count > 0; --count)
      blocks.insert(below(5) ? below(200) : random() % UINT32_MAX);
    fork.blocks.assign(blocks.begin(), blocks.end());
  }
  return changed;
}

TEST(ChangedBlocksCodec, GivesBackWhatWasWritten) {
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    const ChangedBlocks changed = random_changes(random);
    const auto again = decode_changed_blocks(*encode(changed));
    ASSERT_TRUE(again) << round << again.error().what;
    ASSERT_EQ(*again, changed) << round;
  }
}

TEST(ChangedBlocksCodec, CostsAtMostThreeBytesABlock) {
  std::mt19937 random(2);
  ChangedBlocks changed{
      .system_id = UINT64_MAX, .timeline = 1, .from = 1ull << 50, .to = (1ull << 50) + (16u << 20)};
  std::set<uint32_t> blocks;
  while (blocks.size() < 3000) blocks.insert(random() % 500'000);  // of a table of 4 GB
  changed.forks[{kTable}].blocks.assign(blocks.begin(), blocks.end());
  EXPECT_LE(encode(changed)->size(), 3000 * 3u);
  std::vector<uint32_t> load(2000);
  for (uint32_t i = 0; i < load.size(); ++i) load[i] = 1000 + i;
  changed.forks[{kTable}].blocks = load;
  EXPECT_LE(encode(changed)->size(), 60u);
}

TEST(ChangedBlocksCodec, MalformedBytesAreDamageAndCostNoMemory) {
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    const Bytes good = *encode(random_changes(random));
    for (size_t size = 0; size < good.size(); ++size) {
      auto read = decode_changed_blocks(ByteView(good).first(size));
      ASSERT_FALSE(read);
      ASSERT_EQ(read.error().kind, ErrorKind::kDamaged);
    }
    for (int flip = 0; flip < 200; ++flip) {
      Bytes bad = good;
      bad[random() % bad.size()] ^= static_cast<uint8_t>(1 << random() % 8);
      if (auto read = decode_changed_blocks(bad)) {
        for (const auto& [file, fork] : read->forks) ASSERT_TRUE(std::ranges::is_sorted(fork.blocks));
      }
    }
  }
  // Twenty bytes that speak of four billion blocks.
  Bytes bomb = {1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0xf0, 0xff, 0xff, 0xff, 0x0f};
  EXPECT_EQ(decode_changed_blocks(bomb).error().kind, ErrorKind::kDamaged);
  Bytes newer = *encode(ChangedBlocks{});
  newer[0] = 2;
  EXPECT_EQ(decode_changed_blocks(newer).error().kind, ErrorKind::kRefused);
}

// Records of every length, also over several segments: what the segments' records say together is what the
// whole says, and each begins where the one before ends.
TEST(SegmentChanges, MeetWhereARecordSpansTwoSegments) {
  std::mt19937 random(4);
  for (int round = 0; round < 6; ++round) {
    Wal wal;
    while (wal.bytes_.size() < 6 * kMiB) {
      const size_t size = random() % 200 == 0 ? random() % (3 * kMiB) : random() % 3000;
      wal.add(kRmHeap, 0,
              touching({1663, 5, 16384 + uint32_t(random() % 9)}, random() % 5000, Fork::kMain, size));
      if (random() % 50 == 0)
        wal.add(kRmSmgr, 0x20, Wal::main_data(numbers({uint32_t(random() % 900), 1663, 5, 16384, 7})));
      if (random() % 2000 == 0) {
        wal.add(kRmXlog, 0x40, {});
        wal.bytes_.resize((wal.bytes_.size() + kMiB - 1) / kMiB * kMiB);
      }
    }
    Segments segments = whole_segments(wal);
    const ChangedBlocks all = collect(wal);
    std::optional<ChangedBlocks> joined;
    for (uint64_t index = 0; index < segments.count(); ++index) {
      const auto changed = segments.scan(index);
      ASSERT_TRUE(changed) << round << ": " << index;
      if (!joined) {
        joined = changed;
        continue;
      }
      ASSERT_EQ(changed->from, joined->to) << round << ": " << index;
      ASSERT_TRUE(joined->append(*changed));
    }
    EXPECT_EQ(joined->forks, all.forks) << round;
    EXPECT_EQ(joined->to, kFirst + segments.pages.size());
  }
}

// A record of five segments' length whose blocks nobody must miss; and one of them gone is a hole.
TEST(SegmentChanges, ARecordWhoseBeginIsGoneLeavesAHole) {
  Wal wal;
  wal.add(kRmHeap, 0, touching(kTable, 1));
  const Lsn begin = wal.add(kRmHeap, 0, touching(kTable, 2, Fork::kMain, 4 * kMiB));
  const Lsn next = wal.add(kRmHeap, 0, touching(kTable, 3));
  Segments segments = whole_segments(wal);
  ASSERT_EQ(segments.count(), 5u);
  EXPECT_EQ(segments.scan(0)->to, begin);
  for (uint64_t inside : {1, 2, 3}) {
    EXPECT_EQ(segments.scan(inside)->from, begin);
    EXPECT_EQ(segments.scan(inside)->to, begin);
    EXPECT_TRUE(segments.scan(inside)->forks.empty());
  }
  EXPECT_EQ(segments.scan(4)->from, begin);
  EXPECT_EQ(segments.scan(4)->forks[{kTable}].blocks, (std::vector<uint32_t>{2, 3}));
  for (uint64_t gone : {0, 1, 2, 3}) {
    segments.gone = {gone};
    EXPECT_EQ(segments.scan(4)->from, next) << gone;
    EXPECT_EQ(segments.scan(4)->forks[{kTable}].blocks, (std::vector<uint32_t>{3}));
  }
  segments.gone = {0};
  EXPECT_FALSE(segments.scan(2));  // nothing begins in it
  // Nothing before can be asked at all.
  EXPECT_EQ(scan_segment(Segments::place(4), ByteView(segments.pages).subspan(4 * kMiB), {})->from, next);
}

// On a quiet server a segment is removed long before the next one is full: what was kept of it is enough.
// Long records are kept from segment to segment.
TEST(SegmentChanges, AKeptTailStandsInForARemovedSegment) {
  std::mt19937 random(5);
  Wal wal;
  while (wal.bytes_.size() < 8 * kMiB) {
    const size_t size = random() % 300 == 0 ? random() % (2 * kMiB) : random() % 3000;
    wal.add(kRmHeap, 0, touching(kTable, uint32_t(random() % 5000), Fork::kMain, size));
  }
  const Segments segments = whole_segments(wal);
  auto folder = TemporaryFolder::make("kuramori-tail-");
  ASSERT_TRUE(folder);
  // A segment stands there while it is archived, and not after.
  auto keep = [&](uint64_t index) {
    const SegmentPlace place = Segments::place(index);
    const std::string file = folder->path() + "/" + segment_name(1, place.start, kMiB);
    ASSERT_TRUE(write_file_durably(file, ByteView(segments.pages).subspan(index * kMiB, kMiB)));
    keep_tail(folder->path(), place);
    ASSERT_TRUE(remove_file(file));
  };
  std::optional<ChangedBlocks> joined;
  uint64_t kept = 0;
  for (uint64_t index = 0; index < segments.count(); ++index) {
    // Anew each time, as each segment is archived by a program of its own.
    const auto earlier = earlier_in_folder(folder->path(), 1, kMiB);
    const SegmentPlace place = Segments::place(index);
    const ByteView bytes = ByteView(segments.pages).subspan(index * kMiB, kMiB);
    const auto changed = scan_segment(place, bytes, earlier);
    EXPECT_EQ(changed, segments.scan(index)) << index;
    ASSERT_TRUE(changed);
    if (joined) {
      ASSERT_TRUE(joined->append(*changed)) << index;
    } else {
      joined = changed;
    }
    keep(index);
    kept += read_file(folder->path() + "/" + std::string(kTailFile)).value_or(Bytes()).size();
  }
  EXPECT_EQ(joined->forks, collect(wal).forks);
  EXPECT_GT(kept, 0u);
  // A later one is not replaced, a damaged one is not believed.
  const std::string path = folder->path() + "/" + std::string(kTailFile);
  auto names = [&] {
    std::vector<std::string> found;
    const auto entries = list_folder(folder->path());
    for (const auto& entry : *entries) found.push_back(entry.name);
    return found;
  };
  EXPECT_EQ(names(), std::vector<std::string>{std::string(kTailFile)});
  {
    // What a killed push left is written over; while it is written, nobody else writes it.
    ASSERT_TRUE(write_file_durably(path + ".new", Bytes(3 * kMiB, 0x55)));
    const Bytes of_last = *read_file(path);
    ASSERT_TRUE(remove_file(path));
    {
      auto writer = FileLock::try_acquire(path + ".new");
      ASSERT_TRUE(writer && *writer);
      keep(0);
      EXPECT_FALSE(read_file(path));
    }
    keep(0);
    const auto of_first = read_file(path);
    ASSERT_TRUE(of_first);
    EXPECT_LT(of_first->size(), kMiB);
    EXPECT_EQ(names(), std::vector<std::string>{std::string(kTailFile)});
    ASSERT_TRUE(write_file_durably(path, of_last));
  }
  const Bytes last = *read_file(path);
  keep(0);
  EXPECT_EQ(*read_file(path), last);
  ASSERT_TRUE(remove_file(path));
  keep(0);
  Bytes bad = *read_file(path);
  auto from = [&] {
    ASSERT_TRUE(write_file_durably(path, bad));
    const auto changed = scan_segment(Segments::place(1), ByteView(segments.pages).subspan(kMiB, kMiB),
                                      earlier_in_folder(folder->path(), 1, kMiB));
    ASSERT_TRUE(changed);
    EXPECT_GE(changed->from, kFirst + kMiB);
  };
  EXPECT_LT(segments.scan(1)->from, kFirst + kMiB);
  bad[bad.size() - 3] ^= 1;
  from();
  bad.resize(bad.size() - kWalPageBytes);
  from();
  bad.resize(100);
  from();
}

// What lies under the earlier segment's name is another cluster's, another round's, or damaged.
TEST(SegmentChanges, AnEarlierSegmentThatDoesNotFitIsNotThere) {
  Wal wal;
  while (wal.bytes_.size() < kMiB - 500) wal.add(kRmHeap, 0, touching(kTable, 1, Fork::kMain, 100));
  wal.add(kRmHeap, 0, touching(kTable, 2, Fork::kMain, 20000));
  const Lsn next = wal.add(kRmHeap, 0, touching(kTable, 3));
  const Segments good = whole_segments(wal);
  ASSERT_LT(good.scan(1)->from, kFirst + kMiB);
  auto hole = [&](size_t at, uint8_t flip) {
    Segments bad = good;
    bad.pages[at] ^= flip;
    const auto changed = bad.scan(1);
    return changed && changed->from == next && changed->forks.at({kTable}).blocks == std::vector<uint32_t>{3};
  };
  const size_t last_page = kMiB - kWalPageBytes;
  EXPECT_TRUE(hole(24, 1));             // system id
  EXPECT_TRUE(hole(32, 1));             // segment size
  EXPECT_TRUE(hole(last_page + 8, 1));  // the page's address
  EXPECT_TRUE(hole(last_page + 4, 2));  // its timeline
  EXPECT_TRUE(hole(kMiB - 5, 1));       // within the record
}

// After a crash in the middle of a record that reached into the next segment.
TEST(SegmentChanges, ARecordThatWasGivenUpTouchesNothing) {
  Wal wal;
  wal.add(kRmHeap, 0, touching(kTable, 1));
  const size_t cut = wal.bytes_.size();
  Wal longer = wal;
  const Lsn given_up = longer.add(kRmHeap, 0, touching(kTable, 2, Fork::kMain, 2 * kMiB));
  std::copy(longer.bytes_.begin() + static_cast<ptrdiff_t>(cut), longer.bytes_.begin() + kMiB,
            std::back_inserter(wal.bytes_));
  wal.page_flags_ = 8;
  wal.add(kRmXlog, 0xd0, Wal::main_data(Bytes(16)));
  wal.add(kRmHeap, 0, touching(kTable, 3));
  const Segments segments = whole_segments(wal);
  EXPECT_EQ(segments.scan(0)->to, given_up);
  EXPECT_EQ(segments.scan(1)->from, given_up);
  EXPECT_EQ(segments.scan(1)->forks[{kTable}].blocks, std::vector<uint32_t>{3});
}

TEST(SegmentChanges, ASegmentThatCannotBeReadToItsEndHasNone) {
  Wal wal;
  while (wal.bytes_.size() < kMiB / 2) wal.add(kRmHeap, 0, touching(kTable, 1, Fork::kMain, 100));
  Segments segments{.pages = wal.pages(), .gone = {}};
  segments.pages.resize(kMiB);
  EXPECT_FALSE(segments.scan(0));  // zeros, and no segment switch
  Segments good = whole_segments(wal);
  ASSERT_TRUE(good.scan(0));
  good.pages[kMiB / 4] ^= 1;
  EXPECT_FALSE(good.scan(0));
  EXPECT_FALSE(scan_segment(Segments::place(0), ByteView(), {}));
  SegmentPlace foreign = Segments::place(0);
  foreign.system_id = 9;
  EXPECT_FALSE(scan_segment(foreign, whole_segments(wal).pages, {}));
}

}  // namespace
}  // namespace kuramori::postgres
