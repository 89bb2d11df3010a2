// Opening a vault: what a list of snapshots costs in requests, and that no catalog makes it say anything else
// than what stands in the vault.
#include "engine/snapshots.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/sanitized.h"
#include "conc/task_group.h"
#include "crypto/digest.h"
#include "engine/open_vault.h"
#include "os/file.h"
#include "store/prefetch.h"
#include "store/read_ahead.h"
#include "store/s3/s3_store.h"
#include "testing/rgw_cluster.h"
#include "vault/catalog.h"
#include "vault/opened_memory.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::BorrowedStore;
using test::TestVault;

// As a store far away is paid for: each get, head, put and removal, and each page of names.
class CountingStore final : public Store {
 public:
  explicit CountingStore(Store& inner) : inner_(inner) {}
  std::atomic<size_t> requests = 0;  // of several threads

  std::string location() const override { return inner_.location(); }
  Result<void> put_if_absent(std::string_view n, ByteView b) override {
    return ++requests, inner_.put_if_absent(n, b);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override {
    return ++requests, inner_.create(n);
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override {
    return ++requests, inner_.open(n);
  }
  Result<Bytes> get(std::string_view n) override { return ++requests, inner_.get(n); }
  Result<ObjectInfo> head(std::string_view n) override { return ++requests, inner_.head(n); }
  Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
    return ++requests, inner_.list(p, a, l);
  }
  Result<void> remove(std::string_view n) override { return ++requests, inner_.remove(n); }

 private:
  Store& inner_;
};

struct OpeningTest : testing::Test {
  TestVault t{71};
  KeyBundle writer = KeyBundle::new_role(t.keys, Role::kWriter, "db1", t.random);
  KeyBundle keeper = KeyBundle::new_role(t.keys, Role::kKeeper, "keeper", t.random);
  std::vector<std::string> commits;

  OpeningTest() {
    // Each test looks as a machine does that never looked before; what is remembered has a test of its own.
    ::setenv("KURAMORI_STATE", "/proc/none", 1);
    grant(writer);
    grant(keeper);
  }
  static SignerId id_of(const KeyBundle& keys) { return signer_id(keys.signing->verify_key()); }
  void grant(const KeyBundle& keys) {
    GrantRecord record{.key = keys.signing->verify_key(),
                       .role = static_cast<uint32_t>(keys.role),
                       .name = keys.name,
                       .at_ns = 7};
    for (int copy = 1; copy <= names::kSignerCopies; ++copy)
      CHECK(
          t.vault->put(RecordType::kSigner, names::grant(id_of(keys), copy), {}, encode(record)).has_value());
  }
  KeyBundle copy_of(const KeyBundle& keys) {
    auto text = write_bundle(keys, nullptr, {}, t.random);
    CHECK(text.has_value());
    auto copy = read_bundle(*text, [] { return Result<Secret>(fail(ErrorKind::kUsage, "no passphrase")); });
    CHECK(copy.has_value());
    return std::move(*copy);
  }
  void put(const KeyBundle& by, RecordType type, const std::string& name, std::optional<ResourceId> scope,
           ByteView body) {
    t.store.objects[name] = SealedRecordCodec(by, t.random).encode(type, name, scope, body);
  }
  SessionId session_of(const KeyBundle& keys) {
    SessionId sid = t.random.id<SessionId>();
    const SignerId signer = id_of(keys);
    std::copy_n(signer.raw.begin(), 4, sid.raw.begin());
    return sid;
  }
  // A snapshot without content, of the writer's: with as much in it as PostgreSQL's have.
  std::string commit(int number) {
    CommitRecord record{
        .snapshot = t.random.id<SnapshotId>(),
        .session = session_of(writer),
        .resource = t.resource.id,
        .kind = "postgres",
        .started_ns = int64_t{1'700'000'000'000'000'000} + number * int64_t{3'600'000'000'000},
        .plan = "orders",
        .wal = WalSpan{1, 0x1000000 + static_cast<uint64_t>(number), 0x2000000}};
    record.finished_ns = record.started_ns + 1;
    record.keep_until_ns = record.started_ns + 1000;
    record.live = {names::live(record.session), 900, t.random.id<Digest>()};
    record.maps = {{names::map(record.session, 0), 5000, t.random.id<Digest>()}};
    record.tree = {{names::pack(record.session, 0), 0, 3}};
    if (!commits.empty()) record.previous = commits.back(), record.parents = {commits.back()};
    for (std::string_view fact : {"system_id", "timeline", "start_lsn", "stop_lsn", "redo_lsn", "version"})
      record.facts.emplace(fmt::format("postgres.{}", fact), std::to_string(t.random.below(UINT32_MAX)));
    std::string name = names::commit(t.resource.id, record.snapshot, record.session);
    put(writer, RecordType::kCommit, name, t.resource.id, encode(record));
    commits.push_back(name);
    return name;
  }
  SnapshotId snapshot_of(const std::string& commit) { return names::parse_commit(commit)->snapshot; }
  void prove(const std::string& commit) {
    ProofRecord proof{.snapshot = snapshot_of(commit),
                      .resource = t.resource.id,
                      .vault = "here",
                      .target = "latest",
                      .passed = true,
                      .started_ns = 9};
    put(t.keys, RecordType::kProof, names::proof(proof.snapshot, t.random.id<SessionId>().hex()), {},
        encode(proof));
  }
  void hold(const std::string& commit) {
    HoldRecord record{snapshot_of(commit), "audit", "year end", 5};
    put(keeper, RecordType::kHold, names::hold(record.snapshot, "audit"), {}, encode(record));
  }
  void prune(uint64_t n, std::vector<std::string> names) {
    std::ranges::sort(names);
    PruneRecord record{.number = n, .commits = names, .reasons = Texts(names.size(), "old"), .at_ns = 5};
    put(keeper, RecordType::kPruneIntent, names::prune_intent(n), {}, encode(record));
    put(keeper, RecordType::kPruneFinal, names::prune_final(n), {}, encode(record));
  }
  using Texts = std::vector<std::string>;

  CatalogReport write_catalog() {
    auto vault = open(t.store, copy_of(keeper));
    auto report = refresh_catalog(protocol_of(*vault), vault->codec().signers());
    CHECK(report.has_value());
    return *report;
  }
  std::unique_ptr<Vault> open(Store& store, KeyBundle keys) {
    auto vault = Vault::open(std::make_unique<BorrowedStore>(store), std::move(keys), t.clock, t.random);
    CHECK(vault.has_value());
    CHECK((*vault)->open_ledger(std::unique_ptr<Store>()).has_value());
    return std::move(*vault);
  }
  struct Seen {
    SnapshotList list;
    size_t requests;
  };
  // Everything from an unopened vault to a list of its snapshots, as the writer's machine does it.
  Seen look() {
    CountingStore counting(t.store);
    auto vault = open(counting, copy_of(writer));
    auto list = list_snapshots(*vault, {});
    EXPECT_TRUE(list) << list.error().what;
    return {list ? std::move(*list) : SnapshotList{}, counting.requests.load()};
  }
  // What a list says, in words: to be the same with and without a catalog.
  static std::vector<std::string> say(const SnapshotList& list) {
    std::vector<std::string> said;
    for (const Snapshot& s : list.snapshots)
      said.push_back(fmt::format("{} {} {} holds {} proven {} keep {}", s.commit_name, s.commit_digest.hex(),
                                 s.signer.hex(), s.holds.size(), s.proof && s.proof->passed,
                                 s.keep_until_ns));
    for (const Unverifiable& one : list.unverifiable) said.push_back("unverifiable " + one.name);
    for (const Unverifiable& one : list.unreadable) said.push_back("unreadable " + one.name);
    for (const ResourceRecord& one : list.resources) said.push_back("resource " + one.name);
    return said;
  }
  std::vector<std::string> say_without_catalogs() {
    std::map<std::string, Bytes, std::less<>> aside;
    std::swap(aside, t.store.objects);
    for (const auto& [name, object] : aside)
      if (!name.starts_with(names::kCatalog)) t.store.objects[name] = object;
    auto said = say(look().list);
    std::swap(aside, t.store.objects);
    return said;
  }
  std::string newest_catalog() {
    std::string newest;
    for (const auto& [name, object] : t.store.objects)
      if (name.starts_with(names::kCatalog)) newest = name;
    return newest;
  }
  // As a keeper's program gone bad could: well signed, and whatever it likes in it.
  void forge(const KeyBundle& by, uint64_t n, std::vector<CatalogRecord::Entry> entries) {
    std::ranges::sort(entries, {}, &CatalogRecord::Entry::name);
    put(by, RecordType::kCatalog, names::catalog(n, t.random.id<names::CatalogId>()), {},
        encode(CatalogRecord{n, 5, std::move(entries)}));
  }
};

TEST_F(OpeningTest,
       ten_thousand_snapshots_with_proofs_holds_prunes_and_collections_cost_at_most_20_requests) {
  if (kIsSanitized) GTEST_SKIP() << "half a minute of what the smaller ones do too";
  constexpr int kSnapshots = 10'000, kMarked = 1'000, kRounds = 150;
  for (int i = 0; i < kSnapshots; ++i) commit(i);
  for (int i = 0; i < kMarked; ++i)
    prove(commits[static_cast<size_t>(i) * 7]), hold(commits[static_cast<size_t>(i) * 3]);
  for (uint64_t n = 1; n <= kRounds; ++n) {
    prune(n, {});
    GcRecord round{.number = n, .objects = {names::pack(t.random.id<SessionId>(), 0)}, .at_ns = 5};
    put(keeper, RecordType::kGcPlan, names::gc_plan(n), {}, encode(round));
    put(keeper, RecordType::kGcSweep, names::gc_sweep(n), {}, encode(round));
  }
  const auto before = look();
  EXPECT_GT(before.requests, static_cast<size_t>(kSnapshots));

  const CatalogReport report = write_catalog();
  EXPECT_TRUE(report.written);
  EXPECT_GE(report.records, static_cast<size_t>(kSnapshots + 2 * kMarked + 2 * kRounds));
  const auto after = look();
  EXPECT_LE(after.requests, 20u);
  EXPECT_EQ(after.list.snapshots.size(), static_cast<size_t>(kSnapshots));
  EXPECT_EQ(say(after.list), say(before.list));
  RecordProperty("requests", static_cast<int>(after.requests));
  RecordProperty("catalog_bytes", static_cast<int>(t.store.objects[newest_catalog()].size()));
  std::printf("10,000 snapshots: %zu requests, a catalog of %zu bytes; without: %zu\n", after.requests,
              t.store.objects[newest_catalog()].size(), before.requests);

  // What came since is listed, and read singly.
  commit(kSnapshots);
  commit(kSnapshots + 1);
  const auto later = look();
  EXPECT_EQ(later.list.snapshots.size(), static_cast<size_t>(kSnapshots + 2));
  EXPECT_LE(later.requests, after.requests + 2);
}

// More than one object holds: the newest names the others, and only what changed is written anew.
TEST_F(OpeningTest, a_catalog_goes_on_in_others_and_is_not_written_as_a_whole_each_time) {
  // A few large ones instead of very many: a revocation of ten thousand objects is one record.
  for (int i = 0; i < 60; ++i) {
    const std::string name = commit(i);
    ProofRecord proof{
        .snapshot = snapshot_of(name), .resource = t.resource.id, .vault = "here", .passed = true};
    const Bytes noise = t.random.bytes(400'000);  // not to be compressed
    proof.target = std::string(noise.begin(), noise.end());
    put(t.keys, RecordType::kProof, names::proof(proof.snapshot, "00"), {}, encode(proof));
  }
  ASSERT_TRUE(write_catalog().written);
  const auto catalogs = [&] {
    std::map<std::string, size_t> found;
    for (const auto& [name, object] : t.store.objects)
      if (name.starts_with(names::kCatalog)) found[name] = object.size();
    return found;
  };
  const auto first = catalogs();
  EXPECT_GE(first.size(), 2u);
  for (const auto& [name, bytes] : first) EXPECT_LE(bytes, kCatalogPartBytes + (size_t{1} << 20));
  const Seen seen = look();
  EXPECT_LE(seen.requests, 20u);
  EXPECT_EQ(say(seen.list), say_without_catalogs());

  // Ten more: the full ones stay, and what is put is small.
  for (int i = 60; i < 70; ++i) commit(i);
  ASSERT_TRUE(write_catalog().written);
  size_t put_bytes = 0;
  for (const auto& [name, bytes] : catalogs()) put_bytes += first.contains(name) ? 0 : bytes;
  EXPECT_LE(put_bytes, kCatalogPartBytes);
  EXPECT_LE(look().requests, 20u);
  EXPECT_EQ(say(look().list), say_without_catalogs());
  for (int i = 70; i < 80; ++i) commit(i);
  ASSERT_TRUE(write_catalog().written);
  EXPECT_TRUE(t.store.objects.contains(first.begin()->first)) << "it is gone on in";
  // One of them is gone: what it held is read where it stands.
  t.store.objects.erase(first.begin()->first);
  const Seen without = look();
  EXPECT_GT(without.requests, 20u);
  EXPECT_EQ(say(without.list), say_without_catalogs());
}

struct RememberingTest : OpeningTest {
  TemporaryFolder state = std::move(*TemporaryFolder::make("opened"));
  RememberingTest() { ::setenv("KURAMORI_STATE", state.path().c_str(), 1); }
  ~RememberingTest() override { ::setenv("KURAMORI_STATE", "/proc/none", 1); }
  std::vector<std::string> say_anew() {
    ::setenv("KURAMORI_STATE", "/proc/none", 1);
    auto said = say_without_catalogs();
    ::setenv("KURAMORI_STATE", state.path().c_str(), 1);
    return said;
  }
  std::string file() {
    auto entries = list_folder(state / "opened");
    CHECK(entries.has_value());
    return entries->size() == 1 ? state / "opened" + ("/" + entries->front().name) : "";
  }
};

TEST_F(RememberingTest, what_was_opened_once_is_not_read_again_and_what_happened_since_counts) {
  for (int i = 0; i < 60; ++i) commit(i);
  hold(commits[0]);
  prove(commits[1]);
  EXPECT_GT(look().requests, 60u);
  EXPECT_LE(look().requests, 12u);
  EXPECT_EQ(say(look().list), say_anew());
  // Since then: more commits, a prune, a release, a proof; one gone, and one put over with another size.
  for (int i = 60; i < 65; ++i) commit(i);
  prune(1, {commits[3], commits[4]});
  HoldRecord release{snapshot_of(commits[0]), "audit", "", 6};
  put(keeper, RecordType::kHoldRelease, names::hold_release(release.snapshot, "audit"), {}, encode(release));
  prove(commits[7]);
  t.store.objects.erase(commits[5]);
  t.store.objects[commits[6]] = t.random.bytes(300);
  Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 61u);
  EXPECT_EQ(say(seen.list), say_anew());
  // Twenty more: the file is written anew, with what it had.
  for (int i = 65; i < 85; ++i) commit(i);
  look();
  seen = look();
  EXPECT_LE(seen.requests, 16u);
  EXPECT_EQ(say(seen.list), say_anew());
  // The writer is revoked, and of what it made only the first ten count.
  RevocationRecord revoked{.signer = id_of(writer), .reason = "stolen", .at_ns = 7};
  for (int i = 10; i < 20; ++i)
    revoked.counted.push_back(sha256(t.store.objects[commits[static_cast<size_t>(i)]]));
  std::ranges::sort(revoked.counted);
  for (int copy = 1; copy <= names::kSignerCopies; ++copy)
    put(t.keys, RecordType::kRevocation, names::revocation(id_of(writer), copy), {}, encode(revoked));
  seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 10u);
  EXPECT_EQ(say(seen.list), say_anew());
}

TEST_F(RememberingTest, what_most_of_nobody_asks_for_any_more_is_dropped) {
  for (int i = 0; i < 100; ++i) commit(i);
  look();
  const uint64_t before = status_of(file())->size;
  prune(1, std::vector<std::string>(commits.begin(), commits.begin() + 80));
  for (int i = 100; i < 120; ++i) commit(i);
  const Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 40u);
  EXPECT_LT(status_of(file())->size, before * 2 / 3);
  EXPECT_LE(look().requests, 12u);
  EXPECT_EQ(say(look().list), say_anew());
}

// A copy holds a commit as its writer signed it: that is remembered too, and for as long as its writer
// counts.
TEST_F(RememberingTest, the_commit_inside_of_a_copy_is_remembered_beside_it) {
  for (int i = 0; i < 40; ++i) commit(i);
  std::vector<std::string> copies;
  for (const std::string& name : commits) {
    const auto key = *names::parse_commit(name);
    copies.push_back(names::commit(key.resource, key.snapshot, session_of(keeper)));
    const CopyRecord copy{.origin = name, .commit = t.store.objects[name], .copied_ns = 5};
    put(keeper, RecordType::kCopy, copies.back(), t.resource.id, encode(copy));
    t.store.objects.erase(name);
  }
  const auto first = say(look().list);
  EXPECT_EQ(first.size(), copies.size() + 1);
  Seen again = look();
  EXPECT_LE(again.requests, 12u);
  EXPECT_EQ(say(again.list), first);
  EXPECT_EQ(first, say_anew());
  {
    OpenedMemory memory(state.path(), writer, t.vault->info().id, t.random);
    auto inside = memory.recall(copies[0] + "\ninside", t.store.objects[copies[0]].size());
    ASSERT_TRUE(inside);
    EXPECT_EQ(inside->signer, id_of(writer));
  }
  RevocationRecord revoked{.signer = id_of(writer), .reason = "stolen", .at_ns = 7};
  for (size_t i = 10; i < 20; ++i) {
    auto outer = t.vault->codec().decode(copies[i], t.store.objects[copies[i]]);
    ASSERT_TRUE(outer);
    revoked.counted.push_back(sha256(decode<CopyRecord>(outer->body)->commit));
  }
  std::ranges::sort(revoked.counted);
  for (int copy = 1; copy <= names::kSignerCopies; ++copy)
    put(t.keys, RecordType::kRevocation, names::revocation(id_of(writer), copy), {}, encode(revoked));
  again = look();
  EXPECT_EQ(again.list.snapshots.size(), 10u);
  EXPECT_EQ(say(again.list), say_anew());
}

// Whoever writes into this machine's state folder without the key: it costs time, never truth.
TEST_F(RememberingTest, a_file_that_was_changed_cut_or_made_by_another_key_counts_for_nothing) {
  for (int i = 0; i < 40; ++i) commit(i);
  look();
  const std::string path = file();
  const Bytes whole = *read_file(path);
  const auto anew = say_anew();
  for (size_t at = 0; at < whole.size(); at += whole.size() / 23) {
    Bytes bad = whole;
    bad[at] ^= 0x40;
    ASSERT_TRUE(write_file_durably(path, bad));
    EXPECT_EQ(say(look().list), anew) << "byte " << at;
    ASSERT_TRUE(write_file_durably(path, ByteView(whole).first(at)));
    EXPECT_EQ(say(look().list), anew) << "cut at " << at;
  }
  // Another key's: sealed well, with a commit in it that nobody made, under the name that this key reads.
  const VaultId vault = t.vault->info().id;
  {
    OpenedMemory forged(state.path(), keeper, vault, t.random);
    for (size_t i = 0; i < commits.size(); ++i) {
      CommitRecord made_up{
          .snapshot = snapshot_of(commits[i]), .resource = t.resource.id, .kind = "postgres"};
      forged.remember(
          commits[i], t.store.objects[commits[i]].size(),
          {.type = RecordType::kCommit, .signer = id_of(writer), .body = encode(made_up), .digest = {}});
    }
    ASSERT_TRUE(forged.keep());
  }
  auto entries = list_folder(state / "opened");
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2u);
  for (const FolderEntry& entry : *entries) {
    const std::string other = state / "opened" + ("/" + entry.name);
    if (other == path) continue;
    ASSERT_EQ(::rename(other.c_str(), path.c_str()), 0);
  }
  EXPECT_EQ(say(look().list), anew);
}

// A machine that never looked opens several at once; whatever is wrong with one is said as by whoever reads
// them one by one.
TEST_F(OpeningTest, what_is_opened_ahead_says_what_is_read_one_by_one) {
  for (int i = 0; i < 60; ++i) commit(i);
  for (int i = 20; i < 40; ++i) prove(commits[static_cast<size_t>(i)]);
  auto& objects = t.store.objects;
  objects[commits[3]][100] ^= 1;
  objects[commits[5]] = t.random.bytes(300);
  objects[commits[7]].resize(200);
  objects[commits[9]] = objects[commits[10]];
  const auto stranger = KeyBundle::new_role(t.keys, Role::kWriter, "nobody granted it", t.random);
  put(stranger, RecordType::kCommit, commits[11], t.resource.id, Bytes{});
  put(writer, RecordType::kFence, commits[13], t.resource.id, encode(FenceRecord{"given up", 5}));
  prune(1, {commits[15]});
  const auto vault = open(t.store, copy_of(writer));
  const Protocol protocol = protocol_of(*vault);
  Ledger ledger(protocol);
  const auto singly = ledger.read_commits();
  ASSERT_TRUE(singly) << singly.error().what;
  const Seen seen = look();
  std::map<std::string, std::string> expected, said;
  for (const VisibleCommit* one : singly->visible) expected[one->name] = one->digest.hex();
  for (const Unverifiable& one : singly->unverifiable)
    expected[one.name] = one.digest.hex() + one.error.what + one.error.why;
  for (const Snapshot& one : seen.list.snapshots) said[one.commit_name] = one.commit_digest.hex();
  for (const Unverifiable& one : seen.list.unverifiable)
    said[one.name] = one.digest.hex() + one.error.what + one.error.why;
  EXPECT_EQ(seen.list.snapshots.size(), 53u);
  EXPECT_EQ(seen.list.unverifiable.size(), 5u);
  EXPECT_EQ(said, expected);
}

TEST_F(OpeningTest, what_happened_since_the_catalog_counts) {
  for (int i = 0; i < 40; ++i) commit(i);
  hold(commits[0]);
  ASSERT_TRUE(write_catalog().written);
  // Pruned, released, proven, extended and revoked after it: nothing of the catalog brings back what was.
  prune(1, {commits[3], commits[4]});
  HoldRecord release{snapshot_of(commits[0]), "audit", "", 6};
  put(keeper, RecordType::kHoldRelease, names::hold_release(release.snapshot, "audit"), {}, encode(release));
  prove(commits[7]);
  RetainRecord retain{snapshot_of(commits[8]), int64_t{1'900'000'000'000'000'000}, 6};
  put(keeper, RecordType::kRetain, names::retain(retain.snapshot, 1), {}, encode(retain));
  const Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 38u);
  EXPECT_EQ(say(seen.list), say_without_catalogs());

  // The writer is revoked, and of what it made only the first ten count: the catalog vouches for none.
  RevocationRecord revoked{.signer = id_of(writer), .reason = "stolen", .at_ns = 7};
  for (int i = 0; i < 10; ++i)
    revoked.counted.push_back(sha256(t.store.objects[commits[static_cast<size_t>(i)]]));
  std::ranges::sort(revoked.counted);
  for (int copy = 1; copy <= names::kSignerCopies; ++copy)
    put(t.keys, RecordType::kRevocation, names::revocation(id_of(writer), copy), {}, encode(revoked));
  const Seen after = look();
  EXPECT_EQ(after.list.snapshots.size(), 8u);
  EXPECT_EQ(after.list.unverifiable.size(), 30u);
  EXPECT_EQ(say(after.list), say_without_catalogs());
}

TEST_F(OpeningTest, a_commit_that_is_gone_or_another_now_is_not_brought_back_by_the_catalog) {
  for (int i = 0; i < 20; ++i) commit(i);
  ASSERT_TRUE(write_catalog().written);
  t.store.objects.erase(commits[5]);
  t.store.objects[commits[6]] = t.random.bytes(300);  // put over, by somebody who could
  const Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 18u);
  ASSERT_EQ(seen.list.unverifiable.size(), 1u);
  EXPECT_EQ(seen.list.unverifiable[0].name, commits[6]);
  EXPECT_EQ(say(seen.list), say_without_catalogs());
}

TEST_F(OpeningTest, a_writers_forged_catalog_counts_for_nothing_and_the_keeper_clears_it_away) {
  for (int i = 0; i < 30; ++i) commit(i);
  ASSERT_TRUE(write_catalog().written);
  const size_t cheap = look().requests;
  // Well formed and sealed; in it a fence over the newest commit and an old commit's bytes at another's name.
  FenceRecord fence{"gone", 5};
  SealedRecordCodec forger(writer, t.random);
  forge(writer, 9'999'999'999,
        {{commits[29], forger.encode(RecordType::kFence, commits[29], t.resource.id, encode(fence))},
         {commits[28], t.store.objects[commits[1]]}});
  Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 30u);
  EXPECT_EQ(say(seen.list), say_without_catalogs());
  EXPECT_LE(seen.requests, cheap + 2) << "one look at it and at its signer, then the one behind it is taken";
  // More of them than anybody looks at: it costs requests, and never truth.
  for (uint64_t n = 1; n <= kCatalogTriesMax; ++n) forge(writer, 9'999'999'990 + n, {});
  seen = look();
  EXPECT_EQ(say(seen.list), say_without_catalogs());
  EXPECT_GT(seen.requests, 30u);
  while (write_catalog().removed > 0) {
  }
  EXPECT_LE(look().requests, cheap);
}

TEST_F(OpeningTest, a_replayed_catalog_is_no_newer_one_and_an_old_one_hides_nothing) {
  for (int i = 0; i < 20; ++i) commit(i);
  ASSERT_TRUE(write_catalog().written);
  const std::string old_name = newest_catalog();
  const Bytes old = t.store.objects[old_name];
  for (int i = 20; i < 40; ++i) commit(i);
  ASSERT_TRUE(write_catalog().written);
  const std::string new_name = newest_catalog();
  ASSERT_NE(new_name, old_name);
  // The old bytes under a higher number, and in the new one's place: a catalog is bound to its name.
  t.store.objects[names::catalog(77, t.random.id<names::CatalogId>())] = old;
  EXPECT_EQ(look().list.snapshots.size(), 40u);
  t.store.objects[new_name] = old;
  EXPECT_EQ(look().list.snapshots.size(), 40u);
  // Only the old one is left: it is stale, and everything since is listed and read.
  t.store.objects.erase(new_name);
  const Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 40u);
  EXPECT_EQ(say(seen.list), say_without_catalogs());
}

TEST_F(OpeningTest, bytes_in_a_keepers_catalog_that_do_not_open_are_read_where_they_stand) {
  for (int i = 0; i < 20; ++i) commit(i);
  prove(commits[1]);
  hold(commits[2]);
  ASSERT_TRUE(write_catalog().written);
  // Each record in it damaged in another way, of the size that stands: by somebody with the keeper's key.
  std::vector<CatalogRecord::Entry> entries;
  for (auto& [name, object] : t.store.objects) {
    if (name.starts_with(names::kCatalog) || name.starts_with("vault") || name.starts_with("sessions/"))
      continue;
    Bytes bad = object;
    const size_t way = entries.size() % 4;
    if (way == 0) bad[bad.size() / 2] ^= 1;  // rot
    if (way == 1) {                          // another signature, well framed
      bad[bad.size() - 40] ^= 1;
      bad.resize(bad.size() - 32);
      append(bad, sha256(bad).view());
    }
    if (way == 2) bad = t.store.objects[commits[3]];  // another record
    if (way == 3) bad[4] ^= 0x40;                     // another type
    entries.push_back({name, bad});
  }
  ASSERT_GT(entries.size(), 20u);
  forge(keeper, 50, entries);
  const Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 20u);
  EXPECT_TRUE(seen.list.unverifiable.empty());
  EXPECT_EQ(say(seen.list), say_without_catalogs());
}

TEST_F(OpeningTest, older_catalogs_go_and_what_cannot_be_verified_is_in_none) {
  const std::string bad = commit(0);
  t.store.objects[bad][100] ^= 1;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 10; ++i) commit(round * 10 + i);
    EXPECT_TRUE(write_catalog().written);
    EXPECT_FALSE(write_catalog().written) << "nothing came since";
  }
  size_t left = 0;
  for (const auto& [name, object] : t.store.objects) left += name.starts_with(names::kCatalog);
  EXPECT_EQ(left, 2u) << "the one in use, and the one before it for whoever has just listed it";
  auto opened = t.vault->codec().decode(newest_catalog(), t.store.objects[newest_catalog()]);
  ASSERT_TRUE(opened);
  auto catalog = decode<CatalogRecord>(opened->body);
  ASSERT_TRUE(catalog);
  EXPECT_TRUE(std::ranges::none_of(catalog->entries, [&](auto& entry) { return entry.name == bad; }));
  const Seen seen = look();
  EXPECT_EQ(seen.list.snapshots.size(), 50u);
  EXPECT_EQ(seen.list.unverifiable.size(), 1u);
}

// The same at a real store, as a program does it: its own count of what it answered. ./dev test --all.
TEST_F(OpeningTest, ten_thousand_snapshots_in_a_real_store_cost_at_most_20_requests) {
  if (getenv("KURAMORI_TEST_ALL") == nullptr) GTEST_SKIP() << "./dev test --all";
  constexpr int kSnapshots = 10'000;
  for (int i = 0; i < kSnapshots; ++i) commit(i);
  for (int i = 0; i < kSnapshots; i += 20) prove(commits[static_cast<size_t>(i)]);
  ASSERT_TRUE(write_catalog().written);
  auto cluster = RgwCluster::shared_tls();
  ASSERT_TRUE(cluster) << cluster.error().what << cluster.error().why;
  auto bucket = (*cluster)->create_bucket();
  auto owner = (*cluster)->owner();
  ASSERT_TRUE(bucket && owner);
  auto far = [&] {
    S3Location location{.bucket = *bucket,
                        .prefix = "vault",
                        .endpoint = (*cluster)->endpoint(),
                        .region = "us-east-1",
                        .ca_file = (*cluster)->ca_file()};
    S3StoreOptions options;
    options.credentials = fixed_credentials(owner->access_key, Secret::copy_of(as_bytes(owner->secret_key)));
    auto store = open_s3_store(location, std::move(options));
    CHECK(store.has_value());
    return with_read_ahead(with_prefetch(std::move(*store)));
  };
  auto store = far();
  std::vector<const std::pair<const std::string, Bytes>*> objects;
  for (const auto& object : t.store.objects) objects.push_back(&object);
  auto sent = parallel_for(objects.size(), 16, {}, [&](size_t i, std::stop_token) {
    return store->put_if_absent(objects[i]->first, objects[i]->second);
  });
  ASSERT_TRUE(sent) << sent.error().what << sent.error().why;

  const uint64_t before = *(*cluster)->requests();
  auto vault = Vault::open(far(), copy_of(writer), t.clock, t.random);
  ASSERT_TRUE(vault);
  ASSERT_TRUE((*vault)->open_ledger(std::unique_ptr<Store>()));
  auto list = list_snapshots(**vault, {});
  ASSERT_TRUE(list) << list.error().what << list.error().why;
  EXPECT_EQ(list->snapshots.size(), static_cast<size_t>(kSnapshots));
  const uint64_t requests = *(*cluster)->requests() - before;
  EXPECT_GT(requests, 10u) << "its log tells";
  EXPECT_LE(requests, 20u);
  std::printf("10,000 snapshots at the gateway: %zu requests\n", static_cast<size_t>(requests));
}

}  // namespace
}  // namespace kuramori
