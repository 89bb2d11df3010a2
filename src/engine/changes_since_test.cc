#include "engine/changes_since.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

namespace kuramori {
namespace {

using postgres::ChangedBlocks;
using postgres::Fork;
using postgres::PageLook;
using postgres::PagePlace;

constexpr postgres::Lsn kBaseStart = 0x5000028, kStart = 0x9000060;

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : generator_(seed) {}
  void fill(MutableByteView out) override {
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(generator_());
  }

 private:
  std::mt19937_64 generator_;
};

std::vector<uint32_t> pages_of(const postgres::Skip& skip) {
  return {skip.changed->begin(), skip.changed->end()};
}

TEST(ChangedPages, are_those_of_the_file_below_the_limit) {
  const postgres::RelationFile relation{1663, 5, 16384};
  ChangedBlocks changed;
  changed.forks[{relation, Fork::kMain}] = {.limit = {}, .blocks = {3, 131071, 131072, 131080, 262144}};
  postgres::CaptureFile first{.relation = relation};
  postgres::CaptureFile second{.relation = relation, .first_block = 131072, .segment = 1};
  EXPECT_EQ(pages_of(*changed_pages(changed, first, 131072, kBaseStart)), (std::vector<uint32_t>{3, 131071}));
  EXPECT_EQ(pages_of(*changed_pages(changed, second, 131072, kBaseStart)),
            (std::vector<uint32_t>{131072, 131080}));
  // What lies behind the base's end is read anyway, and so is what was cut off once (P7).
  EXPECT_EQ(pages_of(*changed_pages(changed, second, 8, kBaseStart)), (std::vector<uint32_t>{131072}));
  changed.forks[{relation, Fork::kMain}].limit = 131076;
  const auto cut = changed_pages(changed, second, 131072, kBaseStart);
  EXPECT_EQ(cut->base_pages, 4u);
  EXPECT_EQ(pages_of(*cut), (std::vector<uint32_t>{131072}));
  EXPECT_EQ(cut->cut_to, 4u);
  // Whoever says by himself what changed is held to all of them, also to those that are read anyway.
  postgres::Skip sure;
  add_certainty(sure, changed, second);
  EXPECT_EQ(std::vector(sure.surely_changed.begin(), sure.surely_changed.end()),
            (std::vector<uint32_t>{131072, 131080, 262144}));
  EXPECT_EQ(sure.surely_cut_to, 4u);
  EXPECT_EQ(changed_pages(changed, first, 100, kBaseStart)->base_pages, 100u);
  changed.forks[{relation, Fork::kMain}].limit = 0;
  EXPECT_EQ(changed_pages(changed, first, 100, kBaseStart)->base_pages, 0u);
  EXPECT_EQ(changed_pages(changed, second, 100, kBaseStart)->base_pages, 0u);
  EXPECT_EQ(changed_pages(changed, second, 100, kBaseStart)->cut_to, 0u);
}

TEST(ChangedPages, of_a_file_without_any_are_none_and_of_a_copied_database_all) {
  ChangedBlocks changed;
  const postgres::CaptureFile file{.relation = {1663, 5, 16384}};
  EXPECT_TRUE(changed_pages(changed, file, 10, kBaseStart)->changed->empty());
  EXPECT_EQ(changed_pages(changed, file, 10, kBaseStart)->base_pages, 10u);
  changed.whole_databases.insert({1663, 6});
  EXPECT_TRUE(changed_pages(changed, file, 10, kBaseStart));
  changed.whole_databases.insert({1663, 5});
  EXPECT_FALSE(changed_pages(changed, file, 10, kBaseStart));
}

TEST(Sample, takes_each_page_that_is_held_unchanged_as_often_as_any_other) {
  const std::vector<uint32_t> listed = {0, 1, 5, 9}, listed_of_second = {131072, 131074};
  const std::vector<UnchangedPages> files = {
      {.file = 2, .known = 10, .changed = listed},
      {.file = 3, .known = 0},
      {.file = 7, .known = 4, .changed = listed_of_second, .first_block = 131072}};
  const std::vector<std::pair<uint32_t, uint32_t>> wanted = {{2, 2}, {2, 3}, {2, 4}, {2, 6},
                                                             {2, 7}, {2, 8}, {7, 1}, {7, 3}};
  SeededRandom random(1);
  std::map<std::pair<uint32_t, uint32_t>, int> times;
  constexpr int kRounds = 8000;
  for (int round = 0; round < kRounds; ++round) {
    const auto places = choose_sample(files, 3, random);
    ASSERT_EQ(places.size(), 3u);
    std::set<std::pair<uint32_t, uint32_t>> different;
    for (const PagePlace& place : places) {
      different.insert({place.file, place.page});
      ++times[{place.file, place.page}];
    }
    EXPECT_EQ(different.size(), 3u);
  }
  ASSERT_EQ(times.size(), wanted.size());
  for (const auto& place : wanted)
    EXPECT_NEAR(times[place], kRounds * 3 / 8, 200) << place.first << " " << place.second;
  EXPECT_EQ(choose_sample(files, 1000, random).size(), 8u);
  EXPECT_TRUE(choose_sample({}, 1000, random).empty());
}

// P24: of a map that leaves out `wrong` of `all` pages, `count` looks find one as often as they should.
TEST(Sample, P24_finds_a_wrong_map_with_the_computed_probability) {
  struct Plan {
    uint32_t all, wrong;
    uint64_t count;
  };
  SeededRandom random(7);
  for (const auto& [all, wrong, count] :
       {Plan{20000, 20, 1000}, Plan{50000, 100, 1000}, Plan{5000, 1, 1000}}) {
    const std::vector<PageRun> base = {{.page = 0, .count = all, .pack = 0}};
    const std::vector<UnchangedPages> files = {{.file = 0, .known = all, .base = &base}};
    double missed = 1;
    for (uint64_t drawn = 0; drawn < count; ++drawn)
      missed *= 1 - double(wrong) / static_cast<double>(all - drawn);
    constexpr int kRounds = 700;
    int found = 0;
    for (int round = 0; round < kRounds; ++round) {
      const auto places = choose_sample(files, count, random);
      std::vector<PageLook> looks;
      for (const PagePlace& place : places) {
        const bool changed = place.page % (all / wrong) == 17 % (all / wrong);
        looks.push_back({.there = true, .lsn = changed ? kStart - 8 : kBaseStart - 8});
      }
      found += find_contradiction(files, places, looks, kBaseStart, kStart).has_value();
    }
    const double seen = double(found) / kRounds;
    fmt::print("{} of {} pages left out, {} looked at: found with probability {:.4f}, seen {:.4f}\n", wrong,
               all, count, 1 - missed, seen);
    EXPECT_NEAR(seen, 1 - missed, 5 * std::sqrt(missed * (1 - missed) / kRounds));
  }
}

TEST(Sample, only_what_changed_between_the_two_starts_contradicts) {
  const std::vector<PageRun> base = {{.page = 0, .count = 5, .pack = 0}, {.page = 5, .count = 5}};
  const std::vector<UnchangedPages> files = {{.file = 4, .known = 10, .base = &base}};
  auto contradicts = [&](uint32_t page, PageLook look) {
    const PagePlace place{4, page};
    return find_contradiction(files, {&place, 1}, {&look, 1}, kBaseStart, kStart).has_value();
  };
  EXPECT_FALSE(contradicts(0, {.there = true, .lsn = kBaseStart - 100}));
  // A record's end is what a page carries: that of the last record before the base's start is its start.
  EXPECT_FALSE(contradicts(0, {.there = true, .lsn = kBaseStart}));
  EXPECT_TRUE(contradicts(0, {.there = true, .lsn = kBaseStart + 8}));
  EXPECT_TRUE(contradicts(0, {.there = true, .lsn = kStart}));
  EXPECT_FALSE(contradicts(0, {.there = true, .lsn = kStart + 8}));  // newer: redo's
  EXPECT_FALSE(contradicts(0, {.there = false, .lsn = kStart}));
  EXPECT_TRUE(contradicts(0, {.there = true, .zero = true}));
  EXPECT_FALSE(contradicts(7, {.there = true, .zero = true}));  // it was zero in the base too
}

}  // namespace
}  // namespace kuramori
