#include "vault/audit_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <thread>
#include <utility>

#include "vault/names.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::TestVault;

constexpr int64_t kDayNs = 86400ll * 1'000'000'000;

class SetClock final : public Clock {
 public:
  Time now() override { return now_; }
  Duration steady() override { return Duration(12345); }
  void sleep(Duration) override {}
  void set(Time now) { now_ = now; }

 private:
  Time now_ = from_unix_ns(10 * kDayNs);
};

// A vault whose owner, a writer and a keeper do things in it; what they did stands in t.store.
struct AuditLogTest : testing::Test {
  TestVault t{77};
  SetClock clock;
  KeyBundle writer = KeyBundle::new_role(t.keys, Role::kWriter, "db1.writer", t.random);
  KeyBundle keeper = KeyBundle::new_role(t.keys, Role::kKeeper, "night.keeper", t.random);

  void SetUp() override {
    for (const KeyBundle* keys : {&writer, &keeper}) {
      GrantRecord record{.key = keys->signing->verify_key(),
                         .role = static_cast<uint32_t>(keys->role),
                         .name = keys->name,
                         .at_ns = 7};
      for (int copy = 1; copy <= names::kSignerCopies; ++copy)
        ASSERT_TRUE(t.vault->put(RecordType::kSigner, names::grant(id_of(*keys), copy), {}, encode(record)));
    }
  }
  static SignerId id_of(const KeyBundle& keys) { return signer_id(keys.signing->verify_key()); }
  std::unique_ptr<Vault> open(KeyBundle keys) {
    auto vault =
        Vault::open(std::make_unique<test::BorrowedStore>(t.store), std::move(keys), clock, t.random);
    CHECK(vault.has_value());
    return std::move(*vault);
  }
  AuditHead act(const KeyBundle& keys, const std::string& verb, int64_t at_ns = 1,
                const std::vector<AuditHead>& heads = {}) {
    auto head = append_act(*open(keys.clone()), {.verb = verb, .resource = "orders-db", .result = "done"},
                           from_unix_ns(at_ns), {}, heads);
    CHECK(head.has_value());
    return *head;
  }
  void acts(const KeyBundle& keys, int count) {
    for (int i = 0; i < count; ++i) act(keys, fmt::format("backup {}", i), i + 1);
  }
  AuditReading read(const std::vector<AuditHead>& remembered = {}) {
    auto reading = read_audit(*open(t.copy_keys()), remembered);
    CHECK(reading.has_value());
    return std::move(*reading);
  }
  static std::string shown(const AuditReading& reading) {
    std::string out;
    for (const AuditFinding& finding : reading.findings) out += finding.object + ": " + finding.what + "\n";
    return out;
  }
  // Exactly one object is named, and it is this one.
  static void expect_names(const AuditReading& reading, const std::string& object) {
    ASSERT_FALSE(reading.findings.empty());
    for (const AuditFinding& finding : reading.findings) EXPECT_EQ(finding.object, object) << shown(reading);
  }
  std::string record(const KeyBundle& keys, uint64_t n) { return names::audit(id_of(keys), n); }
};

TEST_F(AuditLogTest, acts_of_several_keys_stand_in_a_chain_each_and_the_reader_reads_them_O4) {
  acts(writer, 3);
  act(t.keys, "restore", 10);
  const AuditReading reading = read();
  EXPECT_TRUE(reading.findings.empty()) << shown(reading);
  ASSERT_EQ(reading.entries.size(), 4u);
  EXPECT_EQ(reading.entries[0].act->verb, "backup 0");
  EXPECT_EQ(reading.entries[0].key_name, "db1.writer");
  EXPECT_EQ(reading.entries[3].act->verb, "restore");
  EXPECT_EQ(reading.heads.size(), 2u);
}

TEST_F(AuditLogTest, writers_and_keepers_add_and_verify_and_cannot_read_what_was_done_O2) {
  acts(writer, 2);
  for (const KeyBundle* keys : {&writer, &keeper}) {
    auto reading = read_audit(*open(keys->clone()));
    ASSERT_TRUE(reading);
    EXPECT_TRUE(reading->findings.empty()) << shown(*reading);
    ASSERT_EQ(reading->entries.size(), 2u);
    EXPECT_FALSE(reading->entries[0].act);
  }
  for (const auto& [name, bytes] : t.store.objects)
    EXPECT_EQ(as_text(bytes).find("orders-db"), std::string_view::npos) << name;
}

TEST_F(AuditLogTest, any_key_reads_what_the_owner_did_about_keys_and_believes_nobody_else_O1) {
  const auto put = [&](const KeyBundle& keys, uint64_t n, std::string_view action) {
    AuditRecord record{.number = n, .action = std::string(action), .at_ns = static_cast<int64_t>(n)};
    record.vault = t.vault->info().id;
    ASSERT_TRUE(open(keys.clone())->put(RecordType::kAudit, names::audit(n), {}, encode(record)));
  };
  const auto kit = [&](const KeyBundle& keys) { return newest_key_act(*open(keys.clone()), kAuditKitMade); };
  acts(writer, 2);  // of its own chain: they are none of these
  put(t.keys, 1, kAuditKeyMade);
  ASSERT_TRUE(kit(writer));
  EXPECT_FALSE(kit(writer)->has_value());
  // A writer's word for it silences nobody.
  put(writer, 2, kAuditKitMade);
  EXPECT_FALSE(kit(writer)->has_value());
  put(t.keys, 3, kAuditKitMade);
  put(t.keys, 4, kAuditKitMade);
  put(t.keys, 5, kAuditKeyRevoked);
  for (const KeyBundle* keys : {&writer, &keeper}) {
    const auto found = kit(*keys);
    ASSERT_TRUE(found && *found);
    EXPECT_EQ((*found)->number, 4u);
  }
  // The newest is damaged: the one before says the same.
  t.store.objects[names::audit(4)].back() ^= 1;
  EXPECT_EQ((*kit(writer))->number, 3u);
}

TEST_F(AuditLogTest, one_changed_bit_anywhere_in_a_record_is_found_O4) {
  acts(writer, 3);
  Bytes& object = t.store.objects[record(writer, 2)];
  for (size_t at = 0; at < object.size(); ++at) {
    object[at] ^= 1 << (at % 8);
    expect_names(read(), record(writer, 2));
    object[at] ^= 1 << (at % 8);
  }
  EXPECT_TRUE(read().findings.empty());
}

TEST_F(AuditLogTest, a_removed_record_is_missed_O4) {
  acts(writer, 4);
  for (uint64_t n : {1, 2, 3}) {
    Bytes kept = t.store.objects[record(writer, n)];
    t.store.objects.erase(record(writer, n));
    expect_names(read(), record(writer, n));
    t.store.objects[record(writer, n)] = kept;
  }
}

TEST_F(AuditLogTest, records_that_changed_places_are_found_O4) {
  acts(writer, 4);
  std::swap(t.store.objects[record(writer, 2)], t.store.objects[record(writer, 3)]);
  const AuditReading reading = read();
  EXPECT_EQ(reading.findings.size(), 2u) << shown(reading);
}

TEST_F(AuditLogTest, a_record_put_again_under_another_number_or_by_another_key_is_found_O4) {
  acts(writer, 3);
  t.store.objects[record(writer, 4)] = t.store.objects[record(writer, 1)];
  expect_names(read(), record(writer, 4));
  t.store.objects.erase(record(writer, 4));
  // What the keeper signs does not belong into the writer's chain.
  SealedRecordCodec codec(keeper, t.random);
  AuditRecord forged{.number = 4,
                     .at_ns = 9,
                     .previous = sha256(t.store.objects[record(writer, 3)]),
                     .vault = t.vault->info().id};
  forged.sealed = seal_to(keeper.reader_public, encode(AuditAct{.verb = "forged"}));
  t.store.objects[record(writer, 4)] =
      codec.encode(RecordType::kAudit, record(writer, 4), {}, encode(forged));
  expect_names(read(), record(writer, 4));
}

TEST_F(AuditLogTest, a_record_of_another_vault_of_the_family_is_found_O4) {
  acts(writer, 1);
  test::OpenStore other;
  auto made = Vault::init(std::make_unique<test::BorrowedStore>(other), t.copy_keys(), clock, t.random);
  ASSERT_TRUE(made);
  other.objects.insert(t.store.objects.begin(), t.store.objects.end());
  auto reading = read_audit(**made);
  ASSERT_TRUE(reading);
  expect_names(*reading, record(writer, 1));
}

TEST_F(AuditLogTest, a_rewritten_chain_does_not_fit_what_others_saw_of_it_O4) {
  acts(writer, 3);
  act(keeper, "prune", 10, read().heads);
  // The thief has the writer's key itself: it takes the last record back and signs another.
  t.store.objects.erase(record(writer, 3));
  EXPECT_EQ(act(writer, "nothing happened", 3).number, 3u);
  expect_names(read(), record(writer, 3));
}

TEST_F(AuditLogTest, a_cut_tail_is_found_by_a_checkpoint_and_by_who_remembers_it_O4) {
  acts(writer, 3);
  const AuditHead head = act(writer, "restore", 4);
  const AuditReading whole = read();
  t.store.objects.erase(record(writer, 3));
  t.store.objects.erase(record(writer, 4));
  // Nothing in the vault speaks of them: this alone cannot be told.
  EXPECT_TRUE(read().findings.empty());
  const AuditReading remembered = read({head});
  expect_names(remembered, record(writer, 4));

  const AuditHead again = act(writer, "backup", 5);
  act(keeper, "vault collect", 6, {again});
  EXPECT_TRUE(read().findings.empty());
  t.store.objects.erase(record(writer, again.number));
  expect_names(read(), record(writer, again.number));
  // Of a chain that is gone altogether too.
  t.store.objects.erase(record(writer, 1));
  t.store.objects.erase(record(writer, 2));
  expect_names(read(), record(writer, again.number));
}

TEST_F(AuditLogTest, garbage_at_a_chains_next_name_is_named_and_the_chain_goes_on) {
  acts(writer, 2);
  t.store.objects[record(writer, 3)] = to_bytes(as_bytes("occupied"));
  EXPECT_EQ(act(writer, "backup", 3).number, 4u);
  expect_names(read(), record(writer, 3));
  t.store.objects.erase(record(writer, 3));
  EXPECT_TRUE(read().findings.empty());
  t.store.objects.erase(record(writer, 2));
  const AuditReading cut = read();
  ASSERT_FALSE(cut.findings.empty());
  EXPECT_EQ(cut.findings[0].object, record(writer, 2)) << shown(cut);
}

TEST_F(AuditLogTest, many_who_append_at_once_leave_one_whole_chain) {
  constexpr int kThreads = 6, kEach = 8;
  std::vector<std::unique_ptr<Vault>> vaults;
  for (int i = 0; i < kThreads; ++i) {
    vaults.push_back(open(writer.clone()));
    ASSERT_TRUE(vaults.back()->codec().signers().find(id_of(writer)));
  }
  std::mutex turn;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      // Each with what it saw last, which others have long gone past.
      std::optional<AuditHead> known;
      for (int k = 0; k < kEach; ++k) {
        std::unique_lock lock(turn);  // the random source and the clock of the test are one
        auto head = append_act(*vaults[i], {.verb = "backup"}, from_unix_ns(k + 1), known);
        ASSERT_TRUE(head) << head.error().what;
        known = *head;
      }
    });
  }
  threads.clear();
  const AuditReading reading = read();
  EXPECT_TRUE(reading.findings.empty()) << shown(reading);
  EXPECT_EQ(reading.entries.size(), size_t{kThreads} * kEach);
}

// Takes a name away just before the put, as another process of the same key would.
TEST_F(AuditLogTest, a_number_that_another_took_first_is_never_put_over) {
  acts(writer, 1);
  struct Racing final : test::BorrowedStore {
    using BorrowedStore::BorrowedStore;
    std::function<void()> before_put;
    Result<void> put_if_absent(std::string_view n, ByteView b) override {
      if (n.starts_with(names::kAudit) && before_put) std::exchange(before_put, {})();
      return BorrowedStore::put_if_absent(n, b);
    }
  };
  auto racing = std::make_unique<Racing>(t.store);
  racing->before_put = [&] { act(writer, "the other's", 5); };
  auto vault = Vault::open(std::move(racing), writer.clone(), clock, t.random);
  ASSERT_TRUE(vault);
  auto head = append_act(**vault, {.verb = "mine"}, from_unix_ns(6));
  ASSERT_TRUE(head);
  EXPECT_EQ(head->number, 3u);
  const AuditReading reading = read();
  EXPECT_TRUE(reading.findings.empty()) << shown(reading);
  EXPECT_EQ(reading.entries[1].act->verb, "the other's");
}

TEST_F(AuditLogTest, a_revoked_key_adds_nothing_and_what_it_did_before_goes_on_counting) {
  acts(writer, 3);
  RevocationRecord record{.signer = id_of(writer), .reason = "stolen", .at_ns = 9};
  for (uint64_t n : {1, 2, 3}) record.counted.push_back(sha256(t.store.objects[this->record(writer, n)]));
  std::ranges::sort(record.counted);
  for (int copy = 1; copy <= names::kSignerCopies; ++copy)
    ASSERT_TRUE(
        t.vault->put(RecordType::kRevocation, names::revocation(id_of(writer), copy), {}, encode(record)));
  EXPECT_FALSE(append_act(*open(writer.clone()), {.verb = "backup"}, from_unix_ns(10)));
  EXPECT_TRUE(read().findings.empty()) << shown(read());
}

struct AuditArchiveTest : AuditLogTest {
  // Acts on these days, then the clock stands at `now`.
  void acts_on_days(const KeyBundle& keys, int from, int to) {
    for (int day = from; day <= to; ++day) act(keys, "backup", day * kDayNs);
  }
  Result<AuditTidied> tidy(const KeyBundle& keys, int day, size_t at_least = 1) {
    clock.set(from_unix_ns(day * kDayNs));
    return tidy_audit(*open(keys.clone()), {}, {.verb = "vault collect"}, at_least);
  }
  size_t objects() const {
    size_t count = 0;
    for (const auto& [name, bytes] : t.store.objects) count += name.starts_with(names::kAudit);
    return count;
  }
};

TEST_F(AuditArchiveTest, what_is_older_than_90_days_is_archived_and_still_verified_and_read_O4) {
  acts_on_days(writer, 1, 50);
  act(writer, "backup", 150 * kDayNs);
  EXPECT_EQ(tidy(keeper, 100)->archived, 10u);
  EXPECT_EQ(tidy(keeper, 150)->archived, 40u);
  EXPECT_EQ(objects(), 3u);
  AuditReading reading = read();
  EXPECT_TRUE(reading.findings.empty()) << shown(reading);
  EXPECT_EQ(reading.entries.size(), 51u);
  EXPECT_EQ(act(writer, "backup", 151 * kDayNs).number, 52u);
  EXPECT_TRUE(read().findings.empty());
  // One byte of what is in an archive.
  Bytes& archive = t.store.objects[names::audit_archive(id_of(writer), 1, 10)];
  for (size_t at = 0; at < archive.size(); at += 97) {
    archive[at] ^= 4;
    EXPECT_FALSE(read().findings.empty()) << at;
    archive[at] ^= 4;
  }
  // And all of it.
  t.store.objects.erase(names::audit_archive(id_of(writer), 1, 10));
  reading = read();
  EXPECT_EQ(reading.findings.size(), 10u) << shown(reading);
}

TEST_F(AuditArchiveTest, nothing_goes_before_its_three_years_not_even_by_the_owner_O4) {
  acts_on_days(writer, 1, 20);
  act(writer, "backup", 1200 * kDayNs);
  ASSERT_TRUE(tidy(t.keys, 200));
  for (int day : {300, 700, 1000, 1096}) {
    auto tidied = tidy(t.keys, day);
    ASSERT_TRUE(tidied) << tidied.error().what;
    EXPECT_EQ(tidied->expired, 0u) << day;
  }
  EXPECT_EQ(read().entries.size(), 21u);
  auto tidied = tidy(t.keys, 20 + 1097);
  ASSERT_TRUE(tidied);
  EXPECT_EQ(tidied->expired, 20u);
  const AuditReading reading = read();
  EXPECT_TRUE(reading.findings.empty()) << shown(reading);
  EXPECT_EQ(reading.entries.size(), 2u) << "the newest, and who let the others go";
  // Who takes this record away as well has to explain where the chain's beginning is.
  t.store.objects.erase(record(t.keys, 1));
  EXPECT_FALSE(read().findings.empty());
}

TEST_F(AuditArchiveTest, a_writer_cannot_say_that_a_chain_went_for_its_age_O4) {
  acts_on_days(writer, 1, 5);
  const AuditReading whole = read();
  auto vault = open(writer.clone());
  AuditRecord lie{.number = 6, .at_ns = 9, .previous = whole.entries[4].digest, .vault = t.vault->info().id};
  lie.sealed = seal_to(writer.reader_public, encode(AuditAct{.verb = "backup"}));
  lie.expired = {{id_of(writer), 3, whole.entries[2].digest}};
  ASSERT_TRUE(vault->put(RecordType::kAudit, record(writer, 6), {}, encode(lie)));
  for (uint64_t n : {1, 2, 3}) t.store.objects.erase(record(writer, n));
  EXPECT_EQ(read().findings.size(), 3u) << shown(read());
}

TEST_F(AuditArchiveTest, a_log_that_does_not_hold_is_not_moved) {
  acts_on_days(writer, 1, 20);
  t.store.objects.erase(record(writer, 7));
  auto refused = tidy(keeper, 200);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(objects(), 19u);
}

TEST_F(AuditArchiveTest, killed_at_any_call_it_leaves_a_log_that_holds_and_ends_the_next_time) {
  struct Dying final : test::BorrowedStore {
    int calls_left;
    Dying(Store& store, int calls) : BorrowedStore(store), calls_left(calls) {}
    Result<void> alive() {
      if (calls_left-- > 0) return {};
      return fail(ErrorKind::kInterrupted, "killed");
    }
    Result<void> put_if_absent(std::string_view n, ByteView b) override {
      TRY(alive());
      return BorrowedStore::put_if_absent(n, b);
    }
    Result<void> remove(std::string_view n) override {
      TRY(alive());
      return BorrowedStore::remove(n);
    }
  };
  acts_on_days(writer, 1, 12);
  act(writer, "backup", 200 * kDayNs);
  clock.set(from_unix_ns(200 * kDayNs));
  const auto before = t.store.objects;
  for (int calls = 0;; ++calls) {
    t.store.objects = before;
    auto vault = Vault::open(std::make_unique<Dying>(t.store, calls), keeper.clone(), clock, t.random);
    ASSERT_TRUE(vault);
    const bool ended = tidy_audit(**vault, {}, {.verb = "vault collect"}, 1).has_value();
    const AuditReading reading = read();
    EXPECT_TRUE(reading.findings.empty()) << calls << "\n" << shown(reading);
    EXPECT_EQ(reading.entries.size(), 13u);
    if (ended) break;
    auto again = tidy(keeper, 200);
    ASSERT_TRUE(again) << again.error().what;
    EXPECT_EQ(objects(), 2u) << calls;
    ASSERT_LT(calls, 100);
  }
}

}  // namespace
}  // namespace kuramori
