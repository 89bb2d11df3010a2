#include "vault/page_map.h"

#include <gtest/gtest.h>

#include <set>

#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::SeededRandom;

struct PageMapTest : testing::Test {
  SeededRandom random{21};
  KeyBundle keys = KeyBundle::new_owner("test", random);
  ResourceId scope = random.id<ResourceId>();
  SessionId sid = random.id<SessionId>();
  std::string name = names::map(sid, 0);
};

// Where a page is, said plainly: nothing at all, zero, or a pack and a slot counted through.
struct Place {
  std::string pack;  // "" for zero
  uint64_t slot = 0;
  bool operator==(const Place&) const = default;
};
using NaiveFile = std::vector<Place>;
using Naive = std::map<FileKey, NaiveFile>;

Naive explain(const ResolvedPages& resolved) {
  Naive out;
  for (const auto& [key, file] : resolved.files) {
    NaiveFile pages(file.pages);
    std::vector<bool> said(file.pages);
    for (const PageRun& run : file.runs) {
      for (uint32_t i = 0; i < run.count; ++i) {
        EXPECT_FALSE(said.at(run.page + i)) << "said twice";
        said[run.page + i] = true;
        if (run.pack != kZeroPack)
          pages[run.page + i] = {resolved.packs.at(run.pack),
                                 uint64_t{run.frame} * kPagesPerFrame + run.slot + i};
      }
    }
    EXPECT_EQ(std::count(said.begin(), said.end(), false), 0);
    out[key] = std::move(pages);
  }
  return out;
}

// Draws a map over `model` and applies it there in the plainest way.
PageMap draw_map(SeededRandom& random, Naive& model, int generation) {
  PageMap map;
  for (int i = 0; i < 3; ++i)
    map.packs.push_back("packs/00/g" + std::to_string(generation) + "-" + std::to_string(i));
  map.packs.push_back("packs/00/shared");  // named by every generation, at another index
  std::swap(map.packs[random.below(4)], map.packs[3]);
  for (uint8_t k = 0; k < 8; ++k) {
    if (random.below(3) == 0) continue;
    FileKey key;
    key.raw[0] = k;
    auto older = model.find(key);
    FilePages file{
        .key = key, .inode = random.below(100), .birth_ns = -static_cast<int64_t>(random.below(9))};
    if (older != model.end() && random.below(5) == 0) {
      file.state = FileState::kRemoved;
      model.erase(older);
      map.files.push_back(file);
      continue;
    }
    file.state = older == model.end() || random.below(4) == 0 ? FileState::kFull : FileState::kDelta;
    NaiveFile before = file.state == FileState::kDelta ? older->second : NaiveFile{};
    file.pages = static_cast<uint32_t>(random.below(300));
    NaiveFile after = before;
    after.resize(file.pages);
    uint32_t page = 0;
    while (page < file.pages) {
      bool must = page >= before.size();
      if (!must && random.below(2) == 0) {
        page += static_cast<uint32_t>(random.below(20)) + 1;  // left to the older maps
        continue;
      }
      PageRun run{.page = page, .count = static_cast<uint32_t>(random.below(40)) + 1};
      run.count = std::min(run.count, file.pages - page);
      if (random.below(4) != 0) {
        run.pack = static_cast<uint32_t>(random.below(map.packs.size()));
        run.frame = static_cast<uint32_t>(random.below(1000));
        run.slot = static_cast<uint32_t>(random.below(kPagesPerFrame));
      }
      for (uint32_t i = 0; i < run.count; ++i) {
        after[page + i] = run.pack == kZeroPack ? Place{}
                                                : Place{map.packs[run.pack],
                                                        uint64_t{run.frame} * kPagesPerFrame + run.slot + i};
      }
      page += run.count;
      file.runs.push_back(run);
    }
    // A gap past the older end would be said by nobody: the drawn loop jumps over at most what the base has.
    for (uint32_t p = static_cast<uint32_t>(before.size()); p < file.pages; ++p) {
      bool covered = std::any_of(file.runs.begin(), file.runs.end(),
                                 [&](auto& r) { return r.page <= p && p < r.page + r.count; });
      if (!covered) {
        file.pages = p;
        while (!file.runs.empty() && file.runs.back().page >= p) file.runs.pop_back();
        after.resize(p);
        break;
      }
    }
    model[key] = after;
    map.files.push_back(std::move(file));
  }
  return map;
}

TEST_F(PageMapTest, up_to_eight_maps_resolve_as_the_plain_model_does) {
  for (int round = 0; round < 300; ++round) {
    Naive model;
    std::vector<PageMap> maps;
    for (int generation = 0; generation < 1 + round % 8; ++generation) {
      PageMap map = draw_map(random, model, generation);
      std::string at = names::map(sid, static_cast<uint32_t>(generation));
      auto back = decode_map(encode_map(map, keys, random, at, scope), keys, at);
      ASSERT_TRUE(back) << back.error().what;
      EXPECT_EQ(back->packs, map.packs);
      EXPECT_EQ(back->files, map.files);
      maps.insert(maps.begin(), *back);
      auto resolved = resolve(maps);
      ASSERT_TRUE(resolved) << resolved.error().what;
      ASSERT_EQ(explain(*resolved), model) << "round " << round << " generation " << generation;
    }
  }
}

TEST_F(PageMapTest, more_than_eight_maps_are_refused) {
  EXPECT_FALSE(resolve(std::vector<PageMap>(kMapsMax + 1)));
}

TEST_F(PageMapTest, a_page_that_no_map_has_is_an_error) {
  FileKey key;
  key.raw[0] = 1;
  PageMap full{.packs = {"p"},
               .files = {{.key = key, .pages = 3, .runs = {{.page = 0, .count = 2, .pack = 0}}}}};
  EXPECT_FALSE(resolve({full}));
  full.files[0].runs[0].count = 3;
  EXPECT_TRUE(resolve({full}));
  PageMap longer{.packs = {}, .files = {{.key = key, .state = FileState::kDelta, .pages = 4}}};
  EXPECT_FALSE(resolve({longer, full})) << "grown, and nobody says what the new page is";
  PageMap stranger{.packs = {}, .files = {{.key = FileKey{}, .state = FileState::kDelta, .pages = 0}}};
  EXPECT_FALSE(resolve({stranger, full})) << "a change to a file that is not there";
}

// Shrunk and grown again: the old pages beyond the cut must not come back.
TEST_F(PageMapTest, a_file_that_shrank_does_not_get_its_old_end_back) {
  FileKey key;
  PageMap full{.packs = {"p"},
               .files = {{.key = key, .pages = 10, .runs = {{.page = 0, .count = 10, .pack = 0}}}}};
  // P21: a file that is smaller than it was in the base, and one that grew again, find no pages of the older
  // map.
  PageMap shrunk{.packs = {}, .files = {{.key = key, .state = FileState::kDelta, .pages = 5}}};
  PageMap grown{.packs = {}, .files = {{.key = key, .state = FileState::kDelta, .pages = 8}}};
  EXPECT_TRUE(resolve({shrunk, full}));
  EXPECT_FALSE(resolve({grown, shrunk, full}));
}

TEST_F(PageMapTest, every_flipped_bit_and_truncation_is_found) {
  Naive model;
  PageMap map = draw_map(random, model, 0);
  Bytes object = encode_map(map, keys, random, name, scope);
  for (size_t bit = 0; bit < object.size() * 8; bit += 3) {
    Bytes bad = object;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_FALSE(decode_map(bad, keys, name)) << bit;
  }
  for (size_t size = 0; size < object.size(); ++size)
    EXPECT_FALSE(decode_map(ByteView(object).first(size), keys, name));
  EXPECT_FALSE(decode_map(object, keys, names::map(sid, 1))) << "under another name";
  KeyBundle other = KeyBundle::new_owner("other", random);
  EXPECT_FALSE(decode_map(object, other, name));
}

TEST_F(PageMapTest, large_maps_have_many_blocks) {
  PageMap map{.packs = {"p"}, .files = {}};
  for (uint32_t i = 0; i < 40'000; ++i) {
    FilePages file{.key = {},
                   .pages = 3,
                   .inode = i,
                   .birth_ns = i,
                   .runs = {{.page = 0, .count = 3, .pack = 0, .frame = i, .slot = i % kPagesPerFrame}}};
    for (int b = 0; b < 4; ++b) file.key.raw[b] = static_cast<uint8_t>(i >> (24 - 8 * b));
    map.files.push_back(file);
  }
  auto back = decode_map(encode_map(map, keys, random, name, scope), keys, name);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(back->files, map.files);
}

// V5: liveness counts positions. Two runs in one frame, one run over several, the same frame twice.
TEST_F(PageMapTest, live_frames_are_exactly_those_that_runs_touch) {
  for (int round = 0; round < 500; ++round) {
    LiveFrames live;
    std::map<uint32_t, std::set<uint32_t>> naive;
    for (uint64_t n = random.below(30); n > 0; --n) {
      PageRun run{.page = 0,
                  .count = static_cast<uint32_t>(random.below(60)),
                  .pack = static_cast<uint32_t>(random.below(3)),
                  .frame = static_cast<uint32_t>(random.below(40)),
                  .slot = static_cast<uint32_t>(random.below(kPagesPerFrame))};
      if (random.below(6) == 0) run.pack = kZeroPack;
      add_live(live, run);
      for (uint32_t i = 0; run.pack != kZeroPack && i < run.count; ++i)
        naive[run.pack].insert(run.frame + (run.slot + i) / kPagesPerFrame);
    }
    std::map<uint32_t, std::set<uint32_t>> got;
    for (auto& [pack, ranges] : live) {
      normalise(ranges);
      for (size_t i = 0; i < ranges.size(); ++i) {
        if (i > 0) {
          EXPECT_GT(ranges[i].first, ranges[i - 1].first + ranges[i - 1].count) << "joined and sorted";
        }
        for (uint32_t f = 0; f < ranges[i].count; ++f)
          EXPECT_TRUE(got[pack].insert(ranges[i].first + f).second);
      }
    }
    EXPECT_EQ(got, naive);
  }
}

}  // namespace
}  // namespace kuramori
