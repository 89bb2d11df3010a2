#include "engine/survival.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

constexpr uint64_t kSegment = 1 << 20;

Time at(int64_t minutes) {
  return from_unix_ns(minutes * 60'000'000'000);
}
HeldSnapshot snapshot(std::string id, int64_t minutes, uint64_t segment) {
  return {std::move(id), at(minutes), segment * kSegment};
}
// Segments first … last-1, one a minute from `minutes` on.
std::vector<HeldWal> wal(uint64_t first, uint64_t last, int64_t minutes, uint32_t timeline = 1) {
  std::vector<HeldWal> all;
  for (uint64_t n = first; n < last; ++n, ++minutes)
    all.push_back({timeline, n * kSegment, (n + 1) * kSegment, at(minutes)});
  return all;
}
Loss of(const std::vector<SiteLoss>& all, const std::string& site, const std::string& resource = "db") {
  for (const SiteLoss& one : all) {
    for (const Loss& loss : one.losses) {
      if (one.site == site && loss.resource == resource) return loss;
    }
  }
  ADD_FAILURE() << "nothing is said of " << resource << " at " << site;
  return {};
}
using Kind = Loss::Kind;

TEST(Survival, what_stands_nowhere_else_goes_with_its_site) {
  Holdings tokyo{"tokyo", "tokyo", {{"db", {{snapshot("a", 10, 3)}, wal(2, 6, 9)}}}};
  auto alone = losses_by_site({tokyo});
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_EQ(alone[0].vaults, std::vector<std::string>{"tokyo"});
  EXPECT_EQ(of(alone, "tokyo").kind, Kind::kEverything);
  EXPECT_EQ(of(alone, "tokyo").snapshots, 1u);
  // A second vault at the same site burns with it.
  Holdings beside = tokyo;
  beside.vault = "beside";
  EXPECT_EQ(of(losses_by_site({tokyo, beside}), "tokyo").kind, Kind::kEverything);
  // Without a site each is one of its own.
  tokyo.site = beside.site = "";
  EXPECT_EQ(of(losses_by_site({tokyo, beside}), "tokyo").kind, Kind::kNothing);
}

TEST(Survival, a_copy_loses_what_it_does_not_have_yet) {
  Holdings tokyo{"tokyo", "tokyo", {{"db", {{snapshot("a", 10, 3), snapshot("b", 20, 7)}, wal(2, 12, 9)}}}};
  Holdings osaka = tokyo;
  osaka.vault = osaka.site = "osaka";
  EXPECT_EQ(of(losses_by_site({tokyo, osaka}), "tokyo").kind, Kind::kNothing);
  EXPECT_EQ(of(losses_by_site({tokyo, osaka}), "osaka").kind, Kind::kNothing);
  // The WAL stops before the end: up to there, by the clock of the vault that burns.
  auto& held = osaka.resources["db"];
  held.wal = wal(2, 9, 100);
  Loss loss = of(losses_by_site({tokyo, osaka}), "tokyo");
  EXPECT_EQ(loss.kind, Kind::kNewer);
  EXPECT_EQ(loss.wal_objects, 3u);
  EXPECT_EQ(*loss.newer_than, at(20)) << "its newest snapshot is younger than segment 8, stored at 15";
  held.snapshots = {snapshot("a", 10, 3)};
  loss = of(losses_by_site({tokyo, osaka}), "tokyo");
  EXPECT_EQ(*loss.newer_than, at(15));
  EXPECT_EQ(loss.snapshots, 1u);
  // A hole: what comes behind it serves nothing.
  held.wal.erase(held.wal.begin() + 3);
  EXPECT_EQ(*of(losses_by_site({tokyo, osaka}), "tokyo").newer_than, at(11));
  EXPECT_EQ(of(losses_by_site({tokyo, osaka}), "osaka").kind, Kind::kNothing);
}

TEST(Survival, snapshots_that_wal_makes_up_for_are_only_snapshots) {
  Holdings tokyo{"tokyo", "tokyo", {{"db", {{snapshot("a", 10, 3), snapshot("b", 20, 7)}, wal(2, 12, 9)}}}};
  Holdings osaka{"osaka", "osaka", {{"db", {{snapshot("a", 10, 3)}, wal(2, 12, 50)}}}};
  Loss loss = of(losses_by_site({tokyo, osaka}), "tokyo");
  EXPECT_EQ(loss.kind, Kind::kSnapshots);
  EXPECT_EQ(loss.snapshots, 1u);
  EXPECT_EQ(loss.wal_objects, 0u);
  // Without WAL a snapshot is all there is.
  tokyo.resources["db"] = {{snapshot("a", 10, 0), snapshot("b", 20, 0)}, {}};
  osaka.resources["db"] = {{snapshot("a", 10, 0)}, {}};
  loss = of(losses_by_site({tokyo, osaka}), "tokyo");
  EXPECT_EQ(loss.kind, Kind::kNewer);
  EXPECT_EQ(*loss.newer_than, at(10));
  // An older one that is kept here alone.
  osaka.resources["db"] = {{snapshot("b", 20, 0)}, {}};
  EXPECT_EQ(of(losses_by_site({tokyo, osaka}), "tokyo").kind, Kind::kSnapshots);
  // WAL alone brings nothing back; what it would add to a snapshot elsewhere goes with it.
  osaka.resources["db"] = {{}, wal(2, 12, 50)};
  EXPECT_EQ(of(losses_by_site({tokyo, osaka}), "tokyo").kind, Kind::kEverything);
  EXPECT_EQ(of(losses_by_site({tokyo, osaka}), "osaka").kind, Kind::kNewer);
}

TEST(Survival, three_copies_on_two_media_one_of_them_elsewhere) {
  auto vault = [](std::string name, std::string site, std::string medium, bool holds = true) {
    Holdings held{.vault = std::move(name), .site = std::move(site), .medium = std::move(medium)};
    if (holds) held.resources["db"].snapshots = {snapshot("a", 10, 3)};
    return held;
  };
  const Original db{"db", "tokyo", "disk"};
  const Holdings near = vault("near", "tokyo", "disk"), far = vault("far", "osaka", "object store");
  auto scored = [&](const std::vector<Holdings>& vaults) { return score_copies(vaults, {db}).at(0); };

  EXPECT_TRUE(scored({near, far}).is_kept());
  EXPECT_EQ(scored({near, far}).copies(), 3u);
  EXPECT_EQ(scored({near, far}).media, (std::vector<std::string>{"disk", "object store"}));
  EXPECT_EQ(scored({near, far}).offsite, std::vector<std::string>{"far"});

  EXPECT_FALSE(scored({near}).is_kept()) << "nothing is elsewhere";
  EXPECT_FALSE(scored({far}).is_kept()) << "two copies";
  EXPECT_FALSE(scored({near, vault("far", "osaka", "disk")}).is_kept()) << "one medium";
  EXPECT_FALSE(scored({near, vault("far", "tokyo", "object store")}).is_kept()) << "one site";
  EXPECT_FALSE(scored({near, vault("far", "osaka", "object store", false)}).is_kept())
      << "an empty vault is no copy";
  EXPECT_EQ(scored({}).copies(), 1u);
  EXPECT_TRUE(scored({near, vault("usb", "safe", "usb disk")}).is_kept());
}

}  // namespace
}  // namespace kuramori
