// Thin packs: made by a keeper, read by anybody, believed by a collector only on the word of one who may
// delete.
#include "vault/compactor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <utility>

#include "base/sanitized.h"
#include "vault/collector.h"
#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/pruner.h"
#include "vault/scrub.h"
#include "vault/test_support.h"
#include "vault/thin_pack.h"

namespace kuramori {
namespace {

using test::BorrowedStore;
using test::MadeSnapshot;
using test::Model;
using test::TestVault;

uint64_t bytes_under(const test::OpenStore& store, std::string_view prefix) {
  uint64_t bytes = 0;
  for (const auto& [name, object] : store.objects) {
    if (name.starts_with(prefix)) bytes += object.size();
  }
  return bytes;
}

// A keeper's hands: no key opens content.
struct CompactorTest : testing::Test {
  TestVault t{7};
  std::unique_ptr<Vault> keeper;

  void SetUp() override { keeper = open_as(Role::kKeeper); }
  std::unique_ptr<Vault> open_as(Role role) {
    KeyBundle keys = KeyBundle::new_role(t.keys, role, "test.other", t.random);
    GrantRecord grant{
        .key = keys.signing->verify_key(), .role = static_cast<uint32_t>(role), .name = "other"};
    const SignerId id = signer_id(keys.signing->verify_key());
    for (int copy = 1; copy <= names::kSignerCopies; ++copy)
      EXPECT_TRUE(t.vault->put(RecordType::kSigner, names::grant(id, copy), {}, encode(grant)));
    auto vault = Vault::open(std::make_unique<BorrowedStore>(t.store), std::move(keys), t.clock, t.random);
    EXPECT_TRUE(vault);
    return std::move(*vault);
  }
  Protocol protocol_of(Vault& vault) { return protocol_of(vault, vault.store()); }
  Protocol protocol_of(Vault& vault, Store& store) {
    return {.store = store,
            .codec = vault.codec(),
            .clock = t.clock,
            .random = t.random,
            .self = signer_id(vault.keys().signing->verify_key()),
            .may_delete = [&vault](const SignerId& signer) { return vault.codec().may_delete(signer); },
            .may_commit = {},
            .bugs = {},
            .epoch = nullptr};
  }
  StoredThinPacks thin_of(Vault& vault) {
    return {vault.store(), vault.keys(), vault.codec().signers(), t.clock};
  }
  void history(int snapshots) {
    Model model;
    mutate(model, t.random, 40);
    ASSERT_TRUE(t.snapshot(model));
    for (int i = 1; i < snapshots; ++i) {
      mutate(model, t.random, 2);
      ASSERT_TRUE(t.snapshot(model));
    }
  }
  // Leaves the newest `keep`.
  void prune(size_t keep) {
    Protocol protocol = protocol_of(*keeper);
    auto report = Pruner(protocol).run([&](const CommitListing&) -> Result<std::vector<PruneProposal>> {
      std::vector<PruneProposal> proposals;
      for (size_t i = 0; i + keep < t.snapshots.size(); ++i)
        proposals.push_back({t.snapshots[i].name, "test"});
      return proposals;
    });
    ASSERT_TRUE(report) << report.error().what;
    if (t.snapshots.size() > keep)
      t.snapshots.erase(t.snapshots.begin(), t.snapshots.end() - static_cast<ptrdiff_t>(keep));
  }
  CollectReport collect(double share_max = 1) {
    Protocol protocol = protocol_of(*keeper);
    StoredThinPacks thin = thin_of(*keeper);
    auto report = Collector(protocol, &thin).run({.sweep_share_max = share_max});
    EXPECT_TRUE(report) << report.error().what;
    return report ? *report : CollectReport{};
  }
  CompactReport compact(CompactOptions options = {}) {
    Protocol protocol = protocol_of(*keeper);
    StoredThinPacks thin = thin_of(*keeper);
    auto report = Compactor(protocol, thin).run(options);
    EXPECT_TRUE(report) << report.error().what;
    return report ? *report : CompactReport{};
  }
  void expect_reads_back() {
    auto back = t.all_read_back();
    EXPECT_TRUE(back) << back.error().what;
  }
  // A pack that a thin one stands in for now, and that one.
  std::pair<std::string, std::string> thin_one() {
    for (const auto& [name, object] : t.store.objects) {
      if (name.starts_with(names::kPacks) && names::origin_of(name) != name)
        return {std::string(names::origin_of(name)), name};
    }
    return {};
  }
};

TEST_F(CompactorTest, what_is_needed_of_a_pack_is_kept_and_the_rest_goes) {
  history(30);
  prune(3);
  collect();
  const uint64_t before = bytes_under(t.store, names::kPacks);
  const CompactReport dry = compact({.dry_run = true});
  EXPECT_EQ(bytes_under(t.store, names::kPacks), before);
  const CompactReport thinned = compact();
  ASSERT_GT(thinned.packs, 0u);
  for (const std::string& warning : thinned.warnings) ADD_FAILURE() << warning;
  EXPECT_EQ(thinned.packs, dry.packs);
  EXPECT_EQ(thinned.kept_bytes, dry.kept_bytes);
  expect_reads_back();
  const CollectReport swept = collect();
  EXPECT_EQ(swept.outcome, CollectReport::Outcome::kSwept);
  EXPECT_EQ(swept.replaced.objects, thinned.packs);
  EXPECT_EQ(swept.replaced.bytes, thinned.stored_bytes);
  EXPECT_LT(bytes_under(t.store, names::kPacks), before);
  expect_reads_back();
  // Nothing is left to do, and what is thin gets thinner when less is needed.
  EXPECT_EQ(compact().packs, 0u);
  prune(1);
  for (int i = 0; i < 3; ++i) {
    collect();
    compact();
  }
  expect_reads_back();
}

TEST_F(CompactorTest, a_snapshot_is_made_on_one_whose_packs_were_thinned) {
  history(30);
  prune(2);
  collect();
  ASSERT_GT(compact().packs, 0u);
  collect();
  // The writer's session sees the packs condemned, and what stands in for them.
  Protocol protocol = protocol_of(*t.vault);
  const MadeSnapshot& parent = t.snapshots.back();
  auto session = WriterSession::open(protocol, {.resource = t.resource.id,
                                                .snapshot = t.random.id<SnapshotId>(),
                                                .parents = {parent.name},
                                                .closed = true});
  ASSERT_TRUE(session);
  ASSERT_EQ((*session)->parents().size(), 1u);
  const auto [origin, thin] = thin_one();
  EXPECT_TRUE((*session)->is_condemned(origin));
  LiveRecord live = *(*session)->parents()[0].live;
  CommitRecord commit{.kind = "postgres", .started_ns = 1, .finished_ns = 2};
  auto pack = std::ranges::find(live.packs, origin, &LivePack::name);
  ASSERT_NE(pack, live.packs.end());
  // Frames that the thin one does not hold are refused, though the pack's name is the parent's.
  LiveRecord greedy = live;
  std::ranges::find(greedy.packs, origin, &LivePack::name)->frames = {{0, 1u << 19}};
  auto other = WriterSession::open(
      protocol, {.resource = t.resource.id, .snapshot = t.random.id<SnapshotId>(), .parents = {parent.name}});
  ASSERT_TRUE(other);
  EXPECT_EQ((*other)->commit(commit, greedy).error().kind, ErrorKind::kRefused);
  auto made = (*session)->commit(commit, live);
  ASSERT_TRUE(made) << made.error().what;
}

TEST_F(CompactorTest, only_who_may_delete_is_believed) {
  history(30);
  prune(2);
  collect();
  // A writer puts a thin pack, whole and readable, signed with its own key.
  std::unique_ptr<Vault> writer = open_as(Role::kWriter);
  Protocol protocol = protocol_of(*writer);
  StoredThinPacks thin = thin_of(*writer);
  (void)Compactor(protocol, thin).run({});
  for (const auto& [name, object] : t.store.objects) {
    if (!name.starts_with(names::kPacks) || names::origin_of(name) == name) continue;
    auto live = t.vault->read<LiveRecord>(t.snapshots.back().commit.live.name, RecordType::kLive);
    StoredThinPacks ours = thin_of(*keeper);
    auto pack = std::ranges::find(live->packs, names::origin_of(name), &LivePack::name);
    if (pack == live->packs.end()) continue;
    EXPECT_EQ(ours.kept(*pack, name, ThinPacks::Look::kTable).error().kind, ErrorKind::kDamaged);
  }
  const uint64_t before = bytes_under(t.store, names::kPacks);
  EXPECT_EQ(collect().replaced.objects, 0u);
  EXPECT_EQ(bytes_under(t.store, names::kPacks), before);
  expect_reads_back();
}

// Between the prune of the last snapshot that needed it and the collection that removes it.
TEST_F(CompactorTest, one_that_no_snapshot_needs_any_more_is_no_damage) {
  history(30);
  prune(2);
  collect();
  ASSERT_GT(compact().packs, 0u);
  ASSERT_GT(collect().replaced.objects, 0u);
  prune(0);
  auto result = scrub(*t.vault, {}, silent_reporter());
  ASSERT_TRUE(result) << result.error().what;
  for (const ScrubFinding& finding : result->findings)
    EXPECT_NE(finding.severity, ScrubSeverity::kDamage) << finding.object << ": " << finding.what;
  t.store.objects[thin_one().second][20] ^= 1;
  result = scrub(*t.vault, {}, silent_reporter());
  ASSERT_TRUE(result);
  EXPECT_TRUE(std::ranges::any_of(result->findings, [](const ScrubFinding& finding) {
    return finding.severity == ScrubSeverity::kDamage && finding.what.contains("are not what was written");
  })) << "that is one";
}

TEST_F(CompactorTest, a_damaged_thin_pack_stands_in_for_nothing) {
  history(30);
  prune(2);
  collect();
  ASSERT_GT(compact().packs, 0u);
  const auto [origin, thin] = thin_one();
  t.store.objects[thin][20] ^= 1;  // of what it holds: the table is whole, and the plan is made
  collect();
  EXPECT_TRUE(t.store.objects.contains(origin)) << "every byte is read before the sweep";
  expect_reads_back();
}

// As S3 reads: by name, each time. And it says what class an object lies in.
struct ByName final : Store {
  test::OpenStore& inner;
  std::string storage_class;
  std::atomic<int> reads = 0;  // by any thread
  int wrong_read = 0;          // the one that gives other bytes, from 1
  explicit ByName(test::OpenStore& s) : inner(s) {}
  std::string location() const override { return "by name"; }
  Result<void> put_if_absent(std::string_view n, ByteView b) override { return inner.put_if_absent(n, b); }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override { return inner.create(n); }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override {
    struct Reader final : ObjectReader {
      ByName& store;
      std::string name;
      uint64_t bytes = 0;
      explicit Reader(ByName& s) : store(s) {}
      uint64_t size() const override { return bytes; }
      Result<void> read(uint64_t offset, MutableByteView out) override {
        TRY_ASSIGN(auto object, store.inner.open(name));
        TRY(object->read(offset, out));
        if (++store.reads == store.wrong_read) out[out.size() / 2] ^= 1;
        return {};
      }
    };
    auto reader = std::make_unique<Reader>(*this);
    TRY_ASSIGN(const ObjectInfo info, inner.head(n));
    reader->name = n;
    reader->bytes = info.size;
    return std::unique_ptr<ObjectReader>(std::move(reader));
  }
  Result<Bytes> get(std::string_view n) override { return inner.get(n); }
  Result<ObjectInfo> head(std::string_view n) override { return inner.head(n); }
  Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
    TRY_ASSIGN(ListPage page, inner.list(p, a, l));
    for (ObjectInfo& object : page.objects) {
      if (object.name.starts_with(names::kPacks)) object.storage_class = storage_class;
    }
    return page;
  }
  Result<void> remove(std::string_view n) override { return inner.remove(n); }
};

// A restore that runs for hours holds packs open that a collection gives up meanwhile.
TEST_F(CompactorTest, what_is_being_read_may_be_given_up) {
  history(30);
  prune(2);
  collect();
  ByName by_name(t.store);
  auto seen = with_incarnations(std::make_unique<BorrowedStore>(by_name));
  const MadeSnapshot& made = t.snapshots.front();
  auto reader = SnapshotReader::open(*seen, t.keys, t.vault->codec(), made.name, made.commit);
  ASSERT_TRUE(reader);
  auto read_all = [&] {
    SnapshotReader::Context context;
    for (const TreeNode& node : (*reader)->tree().nodes) {
      const auto file = made.model.find(node.entry.path);
      if (node.entry.content != ContentKind::kPages || file == made.model.end()) continue;
      Bytes bytes(node.entry.size);
      auto read = (*reader)->read_pages(**(*reader)->pages_of(node.entry.path), 0, bytes, context);
      ASSERT_TRUE(read) << read.error().what;
      EXPECT_TRUE(equal(bytes, file->second.bytes)) << node.entry.path;
    }
  };
  read_all();  // every pack is open now
  ASSERT_GT(compact().packs, 0u);
  ASSERT_GT(collect().replaced.objects, 0u);
  read_all();
}

// A place that gives other bytes once, at whichever read: they are never signed and never relied upon.
TEST_F(CompactorTest, wrong_bytes_at_any_read_cost_nothing) {
  history(8);
  prune(2);
  collect();
  const auto start = t.store.objects;
  int wrong = 1, reads = 1;
  for (; wrong <= reads; wrong += kIsSanitized ? 5 : 1) {
    t.store.objects = start;
    ByName place(t.store);
    place.wrong_read = wrong;
    auto seen = with_incarnations(std::make_unique<BorrowedStore>(place));
    const Protocol protocol = protocol_of(*keeper, *seen);
    StoredThinPacks thin(*seen, keeper->keys(), keeper->codec().signers(), t.clock);
    (void)Compactor(protocol, thin).run({});
    (void)Collector(protocol, &thin).run({.sweep_share_max = 1});
    reads = std::max(reads, place.reads.load());
    expect_reads_back();
    collect();
    expect_reads_back();
  }
  EXPECT_GT(wrong, 20);
}

TEST_F(CompactorTest, what_must_be_thawed_is_left_where_it_lies) {
  history(30);
  prune(2);
  collect();
  ByName cold(t.store);
  auto seen = with_incarnations(std::make_unique<BorrowedStore>(cold));
  const Protocol protocol = protocol_of(*keeper, *seen);
  StoredThinPacks thin(*seen, keeper->keys(), keeper->codec().signers(), t.clock);
  cold.storage_class = "GLACIER";
  auto left = Compactor(protocol, thin).run({});
  ASSERT_TRUE(left) << left.error().what;
  EXPECT_EQ(left->packs + left->left, 0u);
  EXPECT_TRUE(left->warnings.empty());
  cold.storage_class = "STANDARD_IA";
  auto dry = Compactor(protocol, thin).run({.looks_at_once = 8, .dry_run = true});
  ASSERT_TRUE(dry) << dry.error().what;
  EXPECT_GT(dry->packs, 0u);
  EXPECT_EQ(dry->kept_bytes, compact({.dry_run = true}).kept_bytes) << "one after the other it is the same";
}

// Beside a whole pack a thin one that holds too little goes, but only if the whole one is whole indeed.
struct TooLittle : CompactorTest {
  void collect_with(bool damaged) {
    history(30);
    prune(20);
    collect();
    const auto start = t.store.objects;
    const auto visible = t.snapshots;
    prune(1);
    ASSERT_GT(compact().packs, 0u);
    // One of which an older snapshot needs more.
    std::string origin, thin;
    for (const MadeSnapshot& made : visible) {
      auto live = t.vault->read<LiveRecord>(made.commit.live.name, RecordType::kLive);
      if (!live) continue;
      for (const LivePack& pack : live->packs) {
        auto object = t.store.objects.upper_bound(pack.name);
        if (object == t.store.objects.end() || names::origin_of(object->first) != pack.name) continue;
        auto kept = thin_of(*keeper).kept(pack, object->first, ThinPacks::Look::kTable);
        ASSERT_TRUE(kept);
        if (!covers(*kept, normal_ranges(pack.frames))) origin = pack.name, thin = object->first;
      }
    }
    ASSERT_FALSE(thin.empty());
    // The thin pack and what says that its session is over, in the vault as it was before.
    const auto later = std::exchange(t.store.objects, start);
    t.snapshots = visible;
    for (const auto& [name, object] : later) {
      if (name == thin || name.starts_with(names::kCommits)) t.store.objects.try_emplace(name, object);
    }
    if (damaged) t.store.objects[origin][t.store.objects[origin].size() / 2] ^= 1;
    collect();
    EXPECT_TRUE(t.store.objects.contains(origin));
    EXPECT_EQ(t.store.objects.contains(thin), damaged);
  }
};

TEST_F(TooLittle, one_that_holds_too_little_goes) {
  collect_with(false);
  expect_reads_back();
}

TEST_F(TooLittle, one_that_holds_too_little_stays_beside_a_damaged_one) {
  collect_with(true);
}

// In a copy no object has the pack's own name.
TEST_F(CompactorTest, what_a_copied_pack_was_thinned_to_is_all_that_is_built_on) {
  history(30);
  prune(2);
  collect();
  const SessionId decided = names::parse_commit(t.snapshots.back().name)->session;
  for (const auto& [name, object] : std::map(t.store.objects)) {
    if (!name.starts_with(names::kPacks)) continue;
    t.store.objects[names::incarnation(name, decided)] = object;
    t.store.objects.erase(name);
  }
  expect_reads_back();
  ASSERT_GT(compact().packs, 0u);
  const CollectReport collected = collect();
  ASSERT_GT(collected.replaced.objects, 0u);
  expect_reads_back();
  Protocol protocol = protocol_of(*t.vault);
  auto open = [&] {
    return *WriterSession::open(protocol, {.resource = t.resource.id,
                                           .snapshot = t.random.id<SnapshotId>(),
                                           .parents = {t.snapshots.back().name}});
  };
  auto session = open();
  const LiveRecord live = *session->parents()[0].live;
  LiveRecord greedy = live;
  const CommitRecord commit{.kind = "postgres", .started_ns = 1, .finished_ns = 2};
  size_t thinned = 0;
  for (LivePack& pack : greedy.packs) {
    for (const auto& [name, object] : t.store.objects) {
      if (names::origin_of(name) != pack.name || object.size() == pack.size) continue;
      pack.frames = {{0, 1u << 19}};
      ++thinned;
    }
  }
  ASSERT_GT(thinned, 0u);
  auto refused = session->commit(commit, greedy);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  auto made = open()->commit(commit, live);
  EXPECT_TRUE(made) << made.error().what;
}

TEST_F(CompactorTest, a_crash_after_any_put_or_removal_leaves_all_readable) {
  history(20);
  prune(2);
  collect();
  const auto start = t.store.objects;
  struct Stopping final : Store {
    test::OpenStore& inner;
    int left;
    Stopping(test::OpenStore& s, int n) : inner(s), left(n) {}
    Result<void> spend() {
      if (left-- > 0) return {};
      return fail(ErrorKind::kInterrupted, "stopped");
    }
    std::string location() const override { return "stopping"; }
    Result<void> put_if_absent(std::string_view n, ByteView b) override {
      TRY(spend());
      return inner.put_if_absent(n, b);
    }
    Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override {
      TRY(spend());
      return inner.create(n);
    }
    Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override { return inner.open(n); }
    Result<Bytes> get(std::string_view n) override { return inner.get(n); }
    Result<ObjectInfo> head(std::string_view n) override { return inner.head(n); }
    Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
      return inner.list(p, a, l);
    }
    Result<void> remove(std::string_view n) override {
      TRY(spend());
      return inner.remove(n);
    }
  };
  int stop = 0;
  for (;; ++stop) {
    t.store.objects = start;
    Stopping store(t.store, stop);
    Protocol own = protocol_of(*keeper);
    auto seen = with_incarnations(std::make_unique<BorrowedStore>(store));
    Protocol protocol{.store = *seen,
                      .codec = own.codec,
                      .clock = own.clock,
                      .random = own.random,
                      .self = own.self,
                      .may_delete = own.may_delete};
    StoredThinPacks thin(*seen, keeper->keys(), keeper->codec().signers(), t.clock);
    auto compacted = Compactor(protocol, thin).run({});
    auto collected = Collector(protocol, &thin).run({.sweep_share_max = 1});
    expect_reads_back();
    if (compacted && collected) break;
    // Whoever comes next goes on; a dead session is fenced.
    StoredThinPacks next_thin = thin_of(*keeper);
    Protocol next = protocol_of(*keeper);
    for (int i = 0; i < 3; ++i) {
      auto report = Collector(next, &next_thin).run({.sweep_share_max = 1, .is_dead = [](const OpenSession&) {
                                                       return true;
                                                     }});
      ASSERT_TRUE(report) << report.error().what;
      compact();
    }
    expect_reads_back();
  }
  EXPECT_GT(stop, 8);
}

// At most eight maps are read for any page, and maps that nothing refers to go: a chain never grows.
TEST_F(CompactorTest, maps_stay_bounded_over_two_hundred_snapshots) {
  history(1);
  Model model = t.snapshots.back().model;
  uint64_t most_late = 0, most_early = 0;
  for (int i = 0; i < 200; ++i) {
    mutate(model, t.random, 2);
    auto made = t.snapshot(model);
    ASSERT_TRUE(made);
    EXPECT_LE((*made)->commit.maps.size(), 8u);
    if (i % 10 != 9) continue;
    prune(4);
    collect();
    uint64_t& most = i < 100 ? most_early : most_late;
    most = std::max(most, bytes_under(t.store, names::kMaps));
  }
  EXPECT_LT(most_late, 2 * most_early);
  expect_reads_back();
}

TEST(ThinTable, anything_else_is_refused) {
  EXPECT_FALSE(parse_thin_table({}));
  EXPECT_FALSE(parse_thin_table(as_bytes("KMPC")));
  Bytes table = to_bytes(as_bytes("KMPC"));
  append_le<uint32_t>(table, 1);
  append_le<uint64_t>(table, 100);
  for (uint32_t count : {0u, 2u}) append_le<uint32_t>(table, count);
  for (uint64_t offset : {10u, 5u}) {  // backwards
    append_le<uint64_t>(table, offset);
    append_le<uint64_t>(table, 20);
  }
  append_le<uint32_t>(table, 1);
  table.resize(table.size() + Digest::kBytes + SignerId::kBytes + Signature::kBytes);
  append(table, sha256(table).view());
  EXPECT_EQ(parse_thin_table(table).error().what, "its table has stretches out of order");
}

}  // namespace
}  // namespace kuramori
