// Every kind of object, damaged in every way: each time the scrub names it, and a restore never uses it.
#include "vault/scrub.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

#include "store/fault.h"
#include "store/prefetch.h"
#include "vault/test_support.h"
#include "vault/wal_object.h"

namespace kuramori {
namespace {

using test::Model;
using test::mutate;
using test::OpenStore;
using test::TestVault;

struct ScrubTest : testing::Test {
  TestVault t{51};
  std::map<std::string, Bytes, std::less<>> whole;
  SnapshotId pruned;

  template <class Record>
  void put(RecordType type, const std::string& name, const Record& record) {
    ASSERT_TRUE(t.vault->put(type, name, {}, encode(record))) << name;
  }
  void wal(uint64_t segment, uint8_t byte, names::WalKind kind = names::WalKind::kSegment) {
    WalHeader header{.system_id = 7,
                     .timeline = 1,
                     .from = segment << 24,
                     .to = (segment + 1) << 24,
                     .segment_bytes = 1u << 24,
                     .file = "00000001000000000000000" + std::to_string(segment)};
    if (kind == names::WalKind::kHistory) header.from = header.to = 0;
    ASSERT_TRUE(put_wal(*t.vault, t.resource.id, kind, header, Bytes(3000, byte)));
  }

  void SetUp() override {
    Model model;
    mutate(model, t.random, 10);
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(t.snapshot(model));
      mutate(model, t.random, 3);
    }
    // The last one needs WAL, and was made after collection 2.
    {
      auto& last = t.snapshots.back();
      t.store.objects.erase(last.name);
      last.commit.wal = WalSpan{1, 1 << 24, (3ull << 24) - 5};
      last.commit.newest_gc = 2;
      ASSERT_TRUE(t.vault->put(RecordType::kCommit, last.name, t.resource.id, encode(last.commit)));
    }
    for (uint64_t segment = 1; segment <= 4; ++segment) wal(segment, static_cast<uint8_t>(segment));
    wal(9, 9, names::WalKind::kHistory);
    SnapshotId id = t.snapshots[1].commit.snapshot;
    put(RecordType::kHold, names::hold(id, "legal"), HoldRecord{id, "legal", "court", 1});
    put(RecordType::kHoldRelease, names::hold_release(id, "legal"), HoldRecord{id, "legal", "over", 2});
    put(RecordType::kRetain, names::retain(id, 1), RetainRecord{id, 99, 1});
    put(RecordType::kRetain, names::retain(id, 2), RetainRecord{id, 100, 2});
    put(RecordType::kProof, names::proof(id, "p1"), ProofRecord{.snapshot = id, .passed = true});
    for (uint64_t n : {1, 2}) {
      put(RecordType::kGcPlan, names::gc_plan(n), GcRecord{n, {"packs/00/nothing"}, "", 1});
      put(RecordType::kGcPlan, names::gc_waits(n), GcRecord{n, {}, "", 1});
      put(RecordType::kGcSweep, names::gc_sweep(n), GcRecord{n, {}, "", 1});
      PruneRecord prune{.number = n, .commits = {}, .reasons = {}, .at_ns = 1};
      if (n == 2) prune.commits = {t.snapshots[0].name}, prune.reasons = {"old"};
      put(RecordType::kPruneIntent, names::prune_intent(n), prune);
      put(RecordType::kPruneFinal, names::prune_final(n), prune);
    }
    pruned = t.snapshots[0].commit.snapshot;
    SessionId reader = t.random.id<SessionId>();
    put(RecordType::kSession, names::session(reader),
        SessionRecord{.kind = SessionKind::kRead, .resource = t.resource.id});
    put(RecordType::kFence, names::session_end(reader), FenceRecord{"done", 1});
    auto commit = names::commit(t.resource.id, t.random.id<SnapshotId>(), t.random.id<SessionId>());
    put(RecordType::kFence, commit, FenceRecord{"dead", 1});
    put(RecordType::kDisowned, names::disowned(Digest{}.hex()), DisownedRecord{"commits/x", {}, "mine", 1});
    whole = t.store.objects;
  }

  ScrubResult run(const ScrubOptions& options = {}) {
    auto result = scrub(*t.vault, options, silent_reporter());
    EXPECT_TRUE(result);
    return std::move(*result);
  }
  static const ScrubFinding* named(const ScrubResult& result, const std::string& object) {
    for (const ScrubFinding& finding : result.findings) {
      if (finding.object == object && finding.severity == ScrubSeverity::kDamage) return &finding;
    }
    return nullptr;
  }
  static std::string kind_of(const std::string& name) {
    std::string kind = name.substr(0, name.find('/'));
    if (kind == "gc" || kind == "prune") kind += name.substr(name.rfind('/'));
    return kind;
  }
  void spoil(const std::string& name) { t.store.objects[name][t.store.objects[name].size() / 2] ^= 1; }
  RememberedHead head() {
    return {t.snapshots.back().name, sha256(whole.find(t.snapshots.back().name)->second)};
  }
};

TEST_F(ScrubTest, a_sound_vault_has_nothing_to_tell) {
  auto result = run({.heads = {head()}});
  for (const auto& finding : result.findings) ADD_FAILURE() << finding.object << ": " << finding.what;
  EXPECT_FALSE(result.damaged());
  EXPECT_EQ(result.snapshots, 3u) << "one is pruned";
  uint64_t bytes = 0;
  for (auto& [name, object] : whole) bytes += object.size();
  EXPECT_GE(result.bytes, bytes) << "every byte was read";
  EXPECT_EQ(result.objects, whole.size());
}

TEST_F(ScrubTest, flipped_bits_in_every_object_are_named) {
  std::set<std::string> kinds;
  for (const auto& [name, object] : whole) {
    kinds.insert(kind_of(name));
    for (int i = 0; i < 6; ++i) {
      t.store.objects[name][t.random.below(object.size())] ^= static_cast<uint8_t>(1u << t.random.below(8));
      auto result = run();
      EXPECT_TRUE(named(result, name)) << name;
      EXPECT_TRUE(result.damaged());
      t.store.objects[name] = object;
    }
  }
  EXPECT_EQ(kinds.size(), 19u) << "every kind of object is here";
}

TEST_F(ScrubTest, truncated_and_emptied_objects_are_named) {
  for (const auto& [name, object] : whole) {
    for (size_t size : {size_t{0}, size_t{1}, object.size() / 2, object.size() - 1}) {
      t.store.objects[name].resize(size);
      EXPECT_TRUE(named(run(), name)) << name << " cut to " << size;
      t.store.objects[name] = object;
    }
    t.store.objects[name].push_back(0);
    EXPECT_TRUE(named(run(), name)) << name << " with a byte too many";
    t.store.objects[name] = object;
  }
}

// V17: every pair of objects of one kind, each put in the other's place.
TEST_F(ScrubTest, swapped_and_replayed_objects_are_named) {
  for (const auto& [name, object] : whole) {
    for (const auto& [other, theirs] : whole) {
      if (name == other || kind_of(name) != kind_of(other)) continue;
      t.store.objects[name] = theirs;
      EXPECT_TRUE(named(run(), name)) << other << " in place of " << name;
      t.store.objects[name] = object;
    }
  }
}

// An older object of the very same name, validly sealed and signed: only what binds it by digest can tell.
TEST_F(ScrubTest, another_version_of_a_bound_object_is_named) {
  const auto& second = t.snapshots[1];
  t.store.objects.erase(second.name);
  CommitRecord other = second.commit;
  other.label = "an earlier try";
  ASSERT_TRUE(t.vault->put(RecordType::kCommit, second.name, t.resource.id, encode(other)));
  EXPECT_TRUE(named(run(), second.name)) << "the next one of the chain knows its digest";
  t.store.objects = whole;

  const std::string& live = second.commit.live.name;
  auto record = *t.vault->read<LiveRecord>(live, RecordType::kLive);
  t.store.objects.erase(live);
  ASSERT_TRUE(
      t.vault->put(RecordType::kLive, live, t.resource.id, encode(record)));  // same content, another nonce
  auto result = run();
  ASSERT_TRUE(named(result, live));
  EXPECT_EQ(named(result, live)->snapshots, std::vector{second.commit.snapshot});
  EXPECT_FALSE(t.read_back(second.commit, second.name)) << "and never restored from";
}

// P66: what is missing is named as such, with every snapshot that cannot be restored without it.
TEST_F(ScrubTest, missing_objects_are_named_with_the_snapshots_that_need_them) {
  auto check = [&](const std::string& name, bool needs_head = false) {
    ASSERT_TRUE(t.store.objects.erase(name)) << name;
    ScrubOptions options;
    if (needs_head) options.heads = {head()};
    auto result = run(options);
    EXPECT_TRUE(named(result, name)) << name;
    t.store.objects = whole;
  };
  std::map<std::string, std::set<SnapshotId>> needed;
  for (size_t i = 1; i < t.snapshots.size(); ++i) {
    const CommitRecord& commit = t.snapshots[i].commit;
    auto live = *t.vault->read<LiveRecord>(commit.live.name, RecordType::kLive);
    needed[commit.live.name].insert(commit.snapshot);
    for (const auto& pack : live.packs) needed[pack.name].insert(commit.snapshot);
    for (const auto& map : live.maps) needed[map.name].insert(commit.snapshot);
  }
  for (const auto& [name, snapshots] : needed) {
    t.store.objects.erase(name);
    auto result = run();
    ASSERT_TRUE(named(result, name)) << name;
    EXPECT_EQ(named(result, name)->snapshots, std::vector<SnapshotId>(snapshots.begin(), snapshots.end()));
    t.store.objects = whole;
    // What is only damaged touches the same snapshots.
    t.store.objects[name][whole.find(name)->second.size() / 2] ^= 1;
    EXPECT_EQ(named(run(), name)->snapshots, std::vector<SnapshotId>(snapshots.begin(), snapshots.end()))
        << name;
    t.store.objects = whole;
  }
  for (size_t i = 0; i + 1 < t.snapshots.size(); ++i) check(t.snapshots[i].name);
  check(t.snapshots.back().name, true);
  for (const auto& name : vault_object_names()) check(name);
  check(names::gc_plan(1));
  check(names::gc_sweep(1));
  check(names::gc_plan(2));
  check(names::prune_intent(1));
  check(names::prune_final(1));
  check(names::prune_intent(2));
}

TEST_F(ScrubTest, a_catalog_is_held_to_what_stands_and_remembers_it) {
  const std::string newest = t.snapshots.back().name;
  CatalogRecord catalog{.number = 1};
  for (const auto& [name, object] : whole) {
    if (name.starts_with(names::kCommits)) catalog.entries.push_back({name, object});
  }
  const std::string name = names::catalog(1, t.random.id<names::CatalogId>());
  put(RecordType::kCatalog, name, catalog);
  EXPECT_FALSE(run().damaged());
  t.store.objects.erase(newest);
  EXPECT_TRUE(named(run(), newest)) << "it holds what is gone";
  t.store.objects = whole;
  catalog.entries[0].object.back() ^= 1;
  put(RecordType::kCatalog, name, catalog);
  EXPECT_TRUE(named(run(), name)) << "it holds what never stood";
}

TEST_F(ScrubTest, the_newest_commit_is_missed_only_by_who_remembers_it) {
  const auto& last = t.snapshots.back();
  t.store.objects.erase(last.name);
  EXPECT_FALSE(run().damaged()) << "nothing in the vault speaks of it";
  auto result = run({.heads = {head()}});
  EXPECT_TRUE(named(result, last.name));
  t.store.objects = whole;
  put(RecordType::kHold, names::hold(last.commit.snapshot, "h"),
      HoldRecord{last.commit.snapshot, "h", "", 1});
  t.store.objects.erase(last.name);
  EXPECT_TRUE(run().damaged()) << "a hold speaks of it";
}

TEST_F(ScrubTest, wal_that_a_snapshot_needs_is_missed) {
  auto listing = *list_wal(t.store, t.resource.id);
  for (const auto& object : listing.objects) {
    if (object.name.kind != names::WalKind::kSegment || object.name.from >= 3ull << 24) continue;
    t.store.objects.erase(object.object);
    auto result = run();
    EXPECT_TRUE(result.damaged()) << object.object;
    bool touches = std::any_of(result.findings.begin(), result.findings.end(), [&](auto& f) {
      return f.snapshots == std::vector{t.snapshots.back().commit.snapshot} &&
             f.what.find("WAL") != std::string::npos;
    });
    EXPECT_TRUE(touches);
    t.store.objects = whole;
  }
}

TEST_F(ScrubTest, parts_may_overlap_and_fill_what_segments_leave) {
  for (auto [from, to] : {std::pair{0x100u, 0x500u}, {0x100u, 0x900u}, {0x900u, 1u << 24}}) {
    WalHeader header{.system_id = 7,
                     .timeline = 1,
                     .from = (5ull << 24) + from - 0x100,
                     .to = (5ull << 24) + to,
                     .segment_bytes = 1u << 24,
                     .file = "000000010000000000000005"};
    ASSERT_TRUE(put_wal(*t.vault, t.resource.id, names::WalKind::kPart, header, Bytes(3000, 5),
                        {.rivals = WalRivals::kAskedLater}));
  }
  wal(6, 6);
  auto result = run();
  for (const ScrubFinding& f : result.findings) EXPECT_EQ(f.what, "") << f.object;
}

TEST_F(ScrubTest, two_contents_of_one_range_are_split_brain) {
  TestVault other(51);  // the same keys: a second server that archives the same range
  WalHeader header{
      .system_id = 7, .timeline = 1, .from = 2 << 24, .to = 3 << 24, .segment_bytes = 1u << 24, .file = "x"};
  auto vault =
      *Vault::open(std::make_unique<test::BorrowedStore>(other.store), t.copy_keys(), t.clock, t.random);
  ASSERT_TRUE(put_wal(*vault, t.resource.id, names::WalKind::kSegment, header, Bytes(3000, 0xee)));
  for (auto& [name, object] : other.store.objects) {
    if (name.starts_with("wal/")) t.store.objects[name] = object;
  }
  auto result = run();
  EXPECT_TRUE(std::any_of(result.findings.begin(), result.findings.end(), [](auto& f) {
    return f.what.find("split brain") != std::string::npos && f.severity == ScrubSeverity::kDamage;
  }));
}

TEST_F(ScrubTest, unknown_objects_are_told_and_no_error) {
  for (const char* name :
       {"notes.txt", "packs/00/what", "commits/x", "wal/y", "holds/z", "gc/1/plan", "sessions/s"}) {
    t.store.objects[name] = to_bytes(as_bytes("hello"));
    auto result = run();
    EXPECT_FALSE(result.damaged()) << name;
    ASSERT_EQ(result.findings.size(), 1u) << name;
    EXPECT_EQ(result.findings[0].object, name);
    EXPECT_EQ(result.findings[0].severity, ScrubSeverity::kNote);
    t.store.objects = whole;
  }
}

TEST_F(ScrubTest, a_commit_by_a_foreign_signer_is_named) {
  KeyBundle thief = KeyBundle::new_owner("thief", t.random);
  thief.family = t.keys.family;
  thief.structure = t.keys.structure.clone();
  SealedRecordCodec forger(thief, t.random);
  CommitRecord commit = t.snapshots[1].commit;
  commit.snapshot = t.random.id<SnapshotId>();
  std::string name = names::commit(t.resource.id, commit.snapshot, commit.session);
  t.store.objects[name] = forger.encode(RecordType::kCommit, name, t.resource.id, encode(commit));
  EXPECT_TRUE(named(run(), name));
  // The owner's word makes it a note.
  Digest digest = sha256(t.store.objects[name]);
  put(RecordType::kDisowned, names::disowned(digest.hex()), DisownedRecord{name, digest, "not ours", 1});
  EXPECT_FALSE(run().damaged());
}

TEST_F(ScrubTest, a_sweep_over_what_a_snapshot_needs_is_named) {
  auto live = *t.vault->read<LiveRecord>(t.snapshots[2].commit.live.name, RecordType::kLive);
  put(RecordType::kGcPlan, names::gc_plan(3), GcRecord{3, {live.packs[0].name}, "", 1});
  EXPECT_FALSE(run().damaged()) << "a plan condemns nothing for good";
  put(RecordType::kGcSweep, names::gc_sweep(3), GcRecord{3, {live.packs[0].name}, "", 1});
  EXPECT_TRUE(named(run(), live.packs[0].name));
}

// With a budget, what was verified the longest ago comes first; the rest is counted as left.
TEST_F(ScrubTest, a_budget_reaches_the_least_recently_verified_first) {
  struct Ticking final : Clock {
    int64_t ticks = 0;
    Time now() override { return from_unix_ns(0); }
    Duration steady() override { return Duration(ticks++); }
    void sleep(Duration) override {}
  } clock;
  auto vault = *Vault::open(std::make_unique<test::BorrowedStore>(t.store), t.copy_keys(), clock, t.random);
  std::map<std::string, int64_t> last;
  std::set<std::string> seen;
  int64_t round = 0;
  size_t all = 0;
  for (auto& [name, object] : whole) all += name.starts_with("packs/") || name.starts_with("wal/");
  while (seen.size() < all) {
    auto result =
        *scrub(*vault, {.heads = {}, .last_verified = &last, .budget = Duration(4)}, silent_reporter());
    ASSERT_FALSE(result.verified.empty());
    EXPECT_EQ(result.verified.size() + result.objects_left, all);
    for (auto& name : result.verified) {
      EXPECT_TRUE(seen.insert(name).second || seen.size() == all)
          << name << " again before all had their turn";
      last[name] = round;
    }
    ASSERT_LT(++round, 100);
  }
}

// A scrub takes hours: a snapshot that is pruned and collected meanwhile is no damage; one that is not, is.
TEST_F(ScrubTest, what_is_pruned_and_collected_meanwhile_is_no_damage_P57) {
  struct Changing final : Store {
    explicit Changing(OpenStore& s) : store(s) {}
    OpenStore& store;
    std::function<void()> change;
    std::string location() const override { return "changing"; }
    Result<void> put_if_absent(std::string_view n, ByteView b) override { return store.put_if_absent(n, b); }
    Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override { return store.create(n); }
    Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override {
      if (n.starts_with("packs/") && change) std::exchange(change, {})();
      return store.open(n);
    }
    Result<Bytes> get(std::string_view n) override { return store.get(n); }
    Result<ObjectInfo> head(std::string_view n) override { return store.head(n); }
    Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
      return store.list(p, a, l);
    }
    Result<void> remove(std::string_view n) override { return store.remove(n); }
  };
  for (bool prunes : {true, false}) {
    auto place = std::make_unique<Changing>(t.store);
    place->change = [&] {
      std::erase_if(t.store.objects, [](auto& object) { return object.first.starts_with("packs/"); });
      if (!prunes) return;
      PruneRecord all{.number = 3, .commits = {}, .reasons = {}, .at_ns = 1};
      for (const auto& made : t.snapshots) all.commits.push_back(made.name);
      std::ranges::sort(all.commits);
      all.reasons.resize(all.commits.size());
      put(RecordType::kPruneIntent, names::prune_intent(3), all);
      put(RecordType::kPruneFinal, names::prune_final(3), all);
    };
    auto vault = *Vault::open(std::move(place), t.copy_keys(), t.clock, t.random);
    auto result = scrub(*vault, {}, silent_reporter());
    ASSERT_TRUE(result);
    EXPECT_EQ(result->damaged(), !prunes);
    t.store.objects = whole;
  }
}

// What was found whole is told as it goes, so that a run that is stopped was not in vain.
TEST_F(ScrubTest, a_run_that_is_stopped_is_remembered_and_what_is_not_due_is_left_out) {
  std::set<std::string> told;
  std::stop_source stop;
  ScrubOptions options{.stop = stop.get_token()};
  options.remember = [&](const std::vector<std::string>& objects) {
    told.insert(objects.begin(), objects.end());
    stop.request_stop();
  };
  auto stopped = scrub(*t.vault, options, silent_reporter());
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
  ASSERT_FALSE(told.empty());
  std::map<std::string, int64_t> last;
  for (const std::string& name : told) last[name] = 1000;
  last["packs/00/gone"] = 1000;
  auto rest = run({.last_verified = &last, .verified_before_ns = 1000});
  for (const std::string& name : rest.verified) EXPECT_FALSE(told.contains(name)) << name;
  EXPECT_EQ(rest.gone, std::vector<std::string>{"packs/00/gone"});
  EXPECT_EQ(rest.never_verified, 0u);
  EXPECT_EQ(rest.oldest_verified_ns, 1000);
  // What is found damaged is no longer taken as whole.
  spoil(*told.begin());
  auto damaged = run({.last_verified = &last});
  EXPECT_TRUE(std::ranges::count(damaged.gone, *told.begin()));
  EXPECT_EQ(damaged.never_verified, 1u);
}

// A vault of years has tens of thousands of small records: far away, one after the other takes an hour.
TEST_F(ScrubTest, small_records_are_fetched_ahead_past_the_last_page_of_names) {
  const SnapshotId id = t.snapshots[1].commit.snapshot;
  for (int i = 0; i < 2500; ++i) {
    const std::string name = "h" + std::to_string(i);
    put(RecordType::kHold, names::hold(id, name), HoldRecord{id, name, "court", 1});
  }
  std::mutex mutex;
  std::set<std::string> asked_for;  // by what went ahead of the scrub
  const std::thread::id self = std::this_thread::get_id();
  auto far = make_faulty_store(t.store, {.choose = [&](uint64_t, StoreCall call, std::string_view name) {
                                 std::lock_guard hold(mutex);
                                 if (call == StoreCall::kGet && std::this_thread::get_id() != self)
                                   asked_for.emplace(name);
                                 return Fault::kNone;
                               }});
  auto vault = *Vault::open(with_prefetch(std::move(far)), t.copy_keys(), t.clock, t.random);
  auto result = scrub(*vault, {}, silent_reporter());
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->damaged());
  EXPECT_GT(
      std::ranges::count_if(asked_for, [](const std::string& name) { return name.starts_with("holds/"); }),
      2000);
}

}  // namespace
}  // namespace kuramori
