// The edges of sessions, holds, prune and collection, one at a time. What several actors do to each other at
// once is the simulation's business (tests/simulation).
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "testing/plain_codec.h"
#include "vault/collector.h"
#include "vault/holds.h"
#include "vault/long_reading.h"
#include "vault/pruner.h"
#include "vault/session.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using testing::PlainCodec;

// A store in memory whose answers a test may spoil.
class SpoiltStore : public Store {
 public:
  test::OpenStore inner;
  std::function<std::optional<Error>(std::string_view call, std::string_view name)>
      before;                                                                               // nothing is done
  std::function<std::optional<Error>(std::string_view call, std::string_view name)> after;  // it was done
  std::function<void(std::string_view prefix, ListPage&)> on_list;
  size_t page_max = kListPageMax;
  int puts = 0;

  std::string location() const override { return "memory"; }
  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    ++puts;
    if (auto error = ask(before, "put", name)) return *error;
    auto result = inner.put_if_absent(name, bytes);
    if (auto error = ask(after, "put", name)) return *error;
    return result;
  }
  Result<Bytes> get(std::string_view name) override {
    if (auto error = ask(before, "get", name)) return *error;
    return inner.get(name);
  }
  Result<ListPage> list(std::string_view prefix, std::string_view after_name, size_t limit) override {
    if (auto error = ask(before, "list", prefix)) return *error;
    auto page = inner.list(prefix, after_name, std::min(limit, page_max));
    if (page && on_list) on_list(prefix, *page);
    return page;
  }
  Result<void> remove(std::string_view name) override {
    if (auto error = ask(before, "remove", name)) return *error;
    return inner.remove(name);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override { return inner.create(name); }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override { return inner.open(name); }
  Result<ObjectInfo> head(std::string_view name) override { return inner.head(name); }

 private:
  template <class Ask>
  static std::optional<Error> ask(Ask& hook, std::string_view call, std::string_view name) {
    return hook ? hook(call, name) : std::nullopt;
  }
};

class TestClock : public Clock {
 public:
  Duration slept{0};
  Time at = from_unix_ns(1'700'000'000'000'000'000);
  Time now() override { return at; }
  Duration steady() override { return slept; }
  void sleep(Duration duration) override { slept += duration; }
};

SignerId signer(uint8_t number) {
  SignerId id;
  id.raw[0] = number;
  return id;
}
constexpr uint8_t kWriter = 1, kOtherWriter = 2, kKeeper = 9;

struct ProtocolTest : ::testing::Test {
  SpoiltStore store;
  TestClock clock;
  test::SeededRandom random{7};
  PlainCodec writer_codec{signer(kWriter), 1000}, keeper_codec{signer(kKeeper), 2000},
      other_codec{signer(kOtherWriter), 3000};
  static bool may_delete(const SignerId& id) { return id == signer(kKeeper); }
  Protocol writer{store, writer_codec, clock, random, signer(kWriter), may_delete};
  Protocol keeper{store, keeper_codec, clock, random, signer(kKeeper), may_delete};
  Protocol other{store, other_codec, clock, random, signer(kOtherWriter), may_delete};
  ResourceId resource = random.id<ResourceId>();
  const CollectOptions all{.sweep_share_max = 1};

  std::unique_ptr<WriterSession> open(const Protocol& who, std::vector<std::string> parents = {},
                                      bool closed = false) {
    auto session = WriterSession::open(who, {.resource = resource,
                                             .snapshot = random.id<SnapshotId>(),
                                             .parents = std::move(parents),
                                             .closed = closed});
    EXPECT_TRUE(session) << session.error().what;
    return std::move(*session);
  }
  LivePack upload(WriterSession& session) {
    LivePack pack{.name = session.next_pack_name(), .size = 3, .frames = {{0, 1}}};
    EXPECT_TRUE(session.put_object(pack.name, as_bytes("abc")));
    return pack;
  }
  CommittedSnapshot snapshot(std::optional<WalSpan> wal = {}) {
    auto session = open(writer);
    LiveRecord live{.packs = {upload(*session)}};
    auto committed = session->commit({.kind = "test", .finished_ns = ++count, .wal = wal}, live);
    EXPECT_TRUE(committed) << committed.error().what;
    return std::move(*committed);
  }
  PruneReport prune(std::vector<std::string> commits) {
    auto report = Pruner(keeper).run([&](const CommitListing&) -> Result<std::vector<PruneProposal>> {
      std::vector<PruneProposal> proposals;
      for (const std::string& commit : commits) proposals.push_back({commit, "test"});
      return proposals;
    });
    EXPECT_TRUE(report) << report.error().what;
    return report ? std::move(*report) : PruneReport{};
  }
  CollectReport collect(const CollectOptions& options) {
    auto report = Collector(keeper).run(options);
    EXPECT_TRUE(report) << report.error().what;
    return report ? std::move(*report) : CollectReport{};
  }
  size_t count_under(std::string_view prefix) {
    return std::ranges::count_if(store.inner.objects, [&](auto& o) { return o.first.starts_with(prefix); });
  }
  std::vector<std::string> visible() {
    Ledger ledger(keeper);
    std::vector<std::string> names;
    auto listing = ledger.read_commits();
    EXPECT_TRUE(listing);
    for (const VisibleCommit* commit : listing->visible) names.push_back(commit->name);
    return names;
  }
  int64_t count = 0;
};

// ---- puts and reads
// ------------------------------------------------------------------------------------------

TEST_F(ProtocolTest, a_put_is_repeated_with_the_same_bytes_until_it_is_answered) {
  int failures = 3;
  std::set<Bytes> contents;
  store.after = [&](auto call, auto name) -> std::optional<Error> {
    if (call != "put" || failures-- <= 0) return {};
    contents.insert(store.inner.objects.find(name)->second);
    return fail(ErrorKind::kUnknown, "timed out");
  };
  auto put = RecordLog(writer).put(RecordType::kHold, "holds/a", {}, as_bytes("x"));
  ASSERT_TRUE(put);
  EXPECT_TRUE(put->ours());
  EXPECT_EQ(contents.size(), 1u);
  EXPECT_GT(clock.slept, kRetryPauseFirst);
}

TEST_F(ProtocolTest, a_put_without_an_answer_ends_as_unknown) {
  store.before = [](auto, auto) { return fail(ErrorKind::kUnknown, "timed out"); };
  auto put = RecordLog(writer).put(RecordType::kHold, "holds/a", {}, as_bytes("x"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kUnknown);
  EXPECT_EQ(store.puts, kPutAttemptsMax);
}

TEST_F(ProtocolTest, a_put_at_a_taken_name_returns_the_other_record) {
  ASSERT_TRUE(RecordLog(other).put(RecordType::kHold, "holds/a", {}, as_bytes("theirs")));
  auto put = RecordLog(writer).put(RecordType::kHold, "holds/a", {}, as_bytes("ours"));
  ASSERT_TRUE(put);
  ASSERT_FALSE(put->ours());
  EXPECT_EQ(as_text(put->theirs->body), "theirs");
  EXPECT_EQ(put->theirs->signer, signer(kOtherWriter));
}

// P68, V1
TEST_F(ProtocolTest, P68_V1_what_cannot_be_read_is_not_absent) {
  snapshot();
  for (ErrorKind kind : {ErrorKind::kUnknown, ErrorKind::kDenied, ErrorKind::kFailed, ErrorKind::kDamaged}) {
    store.before = [&](auto call, auto name) -> std::optional<Error> {
      if (call != "get" || !name.starts_with("commits/")) return {};
      return fail(kind, "no");
    };
    auto report = Collector(keeper).run(all);
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().kind, ErrorKind::kNotFound);
  }
  store.before = nullptr;
  EXPECT_EQ(count_under("gc/"), 0u);
  EXPECT_EQ(count_under("packs/"), 1u);
}

// V2: many pages, and a listing that breaks its order or is cut short.
TEST_F(ProtocolTest, V2_listings_are_read_page_by_page_to_the_end) {
  store.page_max = 2;
  for (int i = 0; i < 7; ++i) snapshot();
  EXPECT_EQ(visible().size(), 7u);
  store.on_list = [](auto, ListPage& page) { std::ranges::reverse(page.objects); };
  EXPECT_FALSE(Ledger(keeper).read_commits());
}
TEST_F(ProtocolTest, V2_a_listing_without_a_commit_that_others_name_stops_deletion) {
  auto first = snapshot();
  auto session = open(writer, {first.name});
  ASSERT_TRUE(session->commit({.kind = "test"}, {.packs = session->parents()[0].live->packs}));
  store.on_list = [&](auto, ListPage& page) {
    std::erase_if(page.objects, [&](const ObjectInfo& o) { return o.name == first.name; });
  };
  auto report = Collector(keeper).run(all);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kDamaged);
  EXPECT_NE(report.error().what.find(first.name), std::string::npos);
}

// ---- sessions
// ------------------------------------------------------------------------------------------------

TEST_F(ProtocolTest, a_session_id_begins_with_its_signer) {
  auto session = open(other);
  EXPECT_EQ(session->id().raw[0], kOtherWriter);
  EXPECT_NE(open(other)->id(), session->id());
}

// V3, P57: a writer that slept while it was taken for dead.
TEST_F(ProtocolTest, V3_P57_a_fenced_writer_never_becomes_visible) {
  auto session = open(writer);
  LivePack pack = upload(*session);
  auto report = collect({.sweep_share_max = 1, .is_dead = [](const OpenSession&) { return true; }});
  EXPECT_EQ(report.fenced, std::vector<std::string>{session->id().hex()});
  EXPECT_EQ(report.deleted.objects, 1u);
  auto committed = session->commit({.kind = "test"}, {.packs = {pack}});
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kRefused);
  EXPECT_TRUE(visible().empty());
}

// P57, V4, V6: between the upload and the commit nothing of it goes.
TEST_F(ProtocolTest, P57_V4_V6_uploads_of_an_open_session_are_not_collected) {
  auto session = open(writer);
  LivePack pack = upload(*session);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(collect(all).deleted.objects, 0u);
  ASSERT_TRUE(session->commit({.kind = "test"}, {.packs = {pack}}));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(collect(all).deleted.objects, 0u);
  EXPECT_EQ(count_under("packs/"), 1u);
}

TEST_F(ProtocolTest, a_commit_whose_answer_was_lost_is_recognised_as_its_own) {
  auto session = open(writer);
  store.after = [once = true](auto call, auto name) mutable -> std::optional<Error> {
    if (call != "put" || !name.starts_with("commits/") || !std::exchange(once, false)) return {};
    return fail(ErrorKind::kUnknown, "timed out");
  };
  auto committed = session->commit({.kind = "test"}, {});
  ASSERT_TRUE(committed) << committed.error().what;
  EXPECT_EQ(visible(), std::vector<std::string>{committed->name});
}

TEST_F(ProtocolTest, a_parent_that_is_pruned_meanwhile_is_dropped) {
  auto first = snapshot(), second = snapshot();
  prune({first.name});
  auto session = open(writer, {first.name, second.name});
  ASSERT_EQ(session->parents().size(), 1u);
  EXPECT_EQ(session->parents()[0].commit->name, second.name);
  Ledger ledger(writer);
  std::string gone = (*ledger.live_of(**ledger.read_commit(first.name)))->packs[0].name;
  EXPECT_FALSE(session->may_refer_to(gone));
  auto refused = session->commit({.kind = "test"}, {.packs = {{.name = gone}}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
}

// V19: a cloned machine draws the same session id.
TEST_F(ProtocolTest, a_clone_of_a_writer_is_refused) {
  test::SeededRandom same{99}, same_too{99};
  Protocol first{store, writer_codec, clock, same, signer(kWriter), may_delete};
  Protocol clone{store, writer_codec, clock, same_too, signer(kWriter), may_delete};
  SnapshotId id = random.id<SnapshotId>();
  ASSERT_TRUE(WriterSession::open(first, {.resource = resource, .snapshot = id}));
  auto second = WriterSession::open(clone, {.resource = resource, .snapshot = id});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kRefused);
}

TEST_F(ProtocolTest, an_abandoned_session_is_collected_without_waiting) {
  auto session = open(writer);
  upload(*session);
  ASSERT_TRUE(session->abandon("disk full"));
  EXPECT_EQ(collect(all).deleted.objects, 1u);
}

TEST_F(ProtocolTest, a_reader_keeps_what_it_reads_until_it_ends) {
  auto first = snapshot();
  snapshot();
  auto reader = ReaderSession::open(other, {.resource = resource, .commits = {first.name}});
  ASSERT_TRUE(reader);
  prune({first.name});
  EXPECT_EQ(collect(all).deleted.objects, 0u);
  ASSERT_TRUE(reader->end());
  EXPECT_EQ(collect(all).deleted.objects, 2u);
  EXPECT_EQ(count_under("sessions/"), 0u);
  auto late = ReaderSession::open(other, {.resource = resource, .commits = {first.name}});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kRefused);
}

// What is mounted for days: pruned on the first, it stays readable to the last.
TEST_F(ProtocolTest, a_long_reading_is_renewed_and_keeps_what_was_pruned_meanwhile) {
  auto first = snapshot();
  snapshot();
  auto reading = LongReading::begin(other, {.resource = resource, .commits = {first.name}});
  ASSERT_TRUE(reading);
  prune({first.name});
  const auto collect_now = [&] {
    CollectOptions options = all;
    // Sessions have no times in this store: each is as old as what it says.
    options.is_dead = [&](const OpenSession& open) {
      return clock.now() - from_unix_ns(open.session.record.started_ns) > std::chrono::hours(72);
    };
    return collect(options);
  };
  for (int hours = 0; hours < 24 * 12; hours += 7) {
    clock.at += std::chrono::hours(7);
    ASSERT_TRUE(reading->renew_if_due());
    const CollectReport report = collect_now();
    EXPECT_EQ(report.deleted.objects, 0u) << hours;
    EXPECT_TRUE(report.fenced.empty()) << hours;
    EXPECT_LE(count_under("sessions/"), 5u) << "those that are over are not ended";
  }
  ASSERT_TRUE(reading->end());
  EXPECT_EQ(collect_now().deleted.objects, 2u);
}

// Restores and drills of a day and more: each look at this clock is so much later.
TEST_F(ProtocolTest, a_reading_is_renewed_while_its_reader_is_busy) {
  struct RunningClock : TestClock {
    std::atomic<int64_t> looks{0};
    Time now() override { return at + LongReading::kRenewEvery * ++looks; }
  } running;
  const Protocol busy{store, other_codec, running, random, signer(kOtherWriter), may_delete};
  auto first = snapshot();
  std::atomic<int> stood{0};
  store.before = [&](std::string_view call, std::string_view name) {
    if (call == "put" && name.starts_with("sessions/")) ++stood;
    return std::optional<Error>();
  };
  auto reading = RenewedReading::begin(
      busy, {.resource = resource, .commits = {first.name}},
      [](const Error& error) { ADD_FAILURE() << error.what; }, std::chrono::milliseconds(1));
  ASSERT_TRUE(reading) << reading.error().what;
  EXPECT_TRUE(reading->is_protected());
  const Duration until = system_clock().steady() + std::chrono::seconds(20);
  while (stood < 4 && system_clock().steady() < until) std::this_thread::yield();
  ASSERT_TRUE(reading->end());
  EXPECT_GE(stood, 4) << "the first, and one at each look";
}

TEST_F(ProtocolTest, a_long_reading_that_was_taken_for_dead_says_so_or_begins_again) {
  auto first = snapshot(), second = snapshot();
  auto gone = LongReading::begin(other, {.resource = resource, .commits = {first.name}});
  auto there = LongReading::begin(other, {.resource = resource, .commits = {second.name}});
  ASSERT_TRUE(gone && there);
  prune({first.name});
  clock.at += std::chrono::hours(100);
  CollectOptions options = all;
  options.is_dead = [](const OpenSession&) { return true; };
  EXPECT_EQ(collect(options).fenced.size(), 2u);
  auto refused = gone->renew_if_due();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(there->renew_if_due());
  EXPECT_TRUE(there->is_protected());
  prune({second.name});
  EXPECT_EQ(collect(all).deleted.objects, 0u) << "the second is protected anew";
}

// Its end may have been put by the collector the moment before the new one stood.
TEST_F(ProtocolTest, a_session_is_renewed_only_while_the_old_one_stands) {
  auto first = snapshot();
  auto old = ReaderSession::open(other, {.resource = resource, .commits = {first.name}});
  ASSERT_TRUE(old);
  store.after = [&, once = true](auto call, auto name) mutable -> std::optional<Error> {
    if (call != "put" || !name.starts_with("sessions/") || !std::exchange(once, false)) return {};
    EXPECT_TRUE(store.inner.put_if_absent(names::session_end(old->id()), as_bytes("fenced")));
    return {};
  };
  auto renewed = old->renew();
  ASSERT_FALSE(renewed);
  EXPECT_EQ(renewed.error().kind, ErrorKind::kRefused);
}

TEST_F(ProtocolTest, a_reader_without_the_right_to_put_goes_on_only_when_told) {
  auto first = snapshot();
  store.before = [](auto call, auto) -> std::optional<Error> {
    if (call != "put") return {};
    return fail(ErrorKind::kDenied, "read only");
  };
  EXPECT_FALSE(ReaderSession::open(other, {.resource = resource, .commits = {first.name}}));
  auto reader = ReaderSession::open(other, {.resource = resource,
                                            .commits = {first.name},
                                            .without_right = ReaderOptions::WithoutRight::kReadUnprotected});
  ASSERT_TRUE(reader);
  EXPECT_FALSE(reader->is_protected());
}

// ---- holds and prune
// -----------------------------------------------------------------------------------------

TEST_F(ProtocolTest, a_held_snapshot_is_kept_and_a_released_one_goes) {
  auto first = snapshot();
  snapshot();
  auto hold = place_hold(other, first.record.snapshot, "audit", "");
  ASSERT_TRUE(hold);
  EXPECT_EQ(prune({first.name}).kept.at(0).reason, "held");
  ASSERT_TRUE(release_hold(writer, first.record.snapshot, *hold, "not mine"));
  EXPECT_EQ(prune({first.name}).pruned.size(), 0u) << "somebody else's release counts";
  EXPECT_TRUE(store.inner.remove(names::hold_release(first.record.snapshot, *hold)));
  ASSERT_TRUE(release_hold(keeper, first.record.snapshot, *hold, "done"));
  EXPECT_EQ(prune({first.name}).pruned.size(), 1u);
  auto late = place_hold(other, first.record.snapshot, "late", "");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kRefused);
}

TEST_F(ProtocolTest, the_only_snapshot_and_the_last_proven_one_are_kept) {
  auto first = snapshot(), second = snapshot(), third = snapshot();
  ASSERT_TRUE(put_proof(other, {.snapshot = first.record.snapshot, .passed = true, .started_ns = 5}, "p"));
  auto report = prune({first.name, second.name, third.name});
  EXPECT_EQ(visible(), std::vector<std::string>{first.name});
  EXPECT_EQ(report.kept.size(), 1u);
  EXPECT_TRUE(prune({first.name}).pruned.empty());
}

// P61: a proof or retention that claims a wild time changes only what is kept longer.
TEST_F(ProtocolTest, P61_an_unreadable_proof_or_retention_keeps_its_snapshot) {
  auto first = snapshot(), second = snapshot(), third = snapshot();
  store.inner.objects[names::proof(first.record.snapshot, "x")] = to_bytes(as_bytes("garbage"));
  store.inner.objects[names::retain(second.record.snapshot, 1)] = to_bytes(as_bytes("garbage"));
  EXPECT_TRUE(prune({first.name, second.name}).pruned.empty());
}

TEST_F(ProtocolTest, retention_is_extended_until_a_moment) {
  auto first = snapshot();
  snapshot();
  ASSERT_TRUE(retain_until(writer, first.record.snapshot, clock.now() + std::chrono::hours(1)));
  EXPECT_TRUE(prune({first.name}).pruned.empty());
  clock.at += std::chrono::hours(2);
  EXPECT_EQ(prune({first.name}).pruned.size(), 1u);
}

// V26: the tombstone first; a pruner that died after its intent is followed by the next.
TEST_F(ProtocolTest, V26_an_unfinished_prune_is_finished_first_and_deletes_nothing) {
  auto first = snapshot();
  snapshot();
  store.before = [](auto call, auto name) -> std::optional<Error> {
    if (call != "put" || !name.ends_with("/final")) return {};
    return fail(ErrorKind::kInterrupted, "killed");
  };
  auto died = Pruner(keeper).run([&](auto&) -> Result<std::vector<PruneProposal>> {
    return std::vector<PruneProposal>{{first.name, "old"}};
  });
  EXPECT_FALSE(died);
  EXPECT_EQ(visible().size(), 2u);
  auto pending = place_hold(other, first.record.snapshot, "late", "");
  ASSERT_FALSE(pending);
  EXPECT_EQ(pending.error().kind, ErrorKind::kPartial);
  store.before = nullptr;
  auto report = prune({});
  EXPECT_EQ(report.finished_others, 1);
  EXPECT_EQ(visible().size(), 2u) << "the hold was there before the final";
  EXPECT_TRUE(confirm_hold(other, first.record.snapshot));
  EXPECT_EQ(count_under("packs/"), 2u);
}

TEST_F(ProtocolTest, a_dry_prune_puts_nothing) {
  auto first = snapshot();
  snapshot();
  int puts = store.puts;
  auto report = Pruner(keeper).run(
      [&](auto&) -> Result<std::vector<PruneProposal>> {
        return std::vector<PruneProposal>{{first.name, "old"}};
      },
      Pruner::Mode::kDryRun);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->pruned, std::vector<std::string>{first.name});
  EXPECT_EQ(store.puts, puts);
}

// ---- collection
// ----------------------------------------------------------------------------------------------

// V26: killed at every store call, the next run finishes.
TEST_F(ProtocolTest, V26_a_collection_killed_at_any_call_is_finished_by_the_next) {
  auto first = snapshot(), second = snapshot();
  prune({first.name});
  const auto before = store.inner.objects;
  for (int kill_at = 1;; ++kill_at) {
    store.inner.objects = before;
    int calls = 0;
    store.before = [&](auto, auto) -> std::optional<Error> {
      if (++calls < kill_at) return {};
      return fail(ErrorKind::kInterrupted, "killed");
    };
    bool finished = Collector(keeper).run(all).has_value();
    store.before = nullptr;
    if (!finished) collect(all);
    EXPECT_EQ(count_under("packs/"), 1u) << "killed at " << kill_at;
    EXPECT_EQ(visible(), std::vector<std::string>{second.name});
    if (finished) break;
  }
}

TEST_F(ProtocolTest, an_open_session_is_waited_for_and_the_plan_goes_on) {
  auto first = snapshot();
  snapshot();
  auto session = open(writer, {first.name});
  auto packs = session->parents()[0].live->packs;
  prune({first.name});
  auto report = collect(all);
  EXPECT_EQ(report.outcome, CollectReport::Outcome::kWaiting);
  ASSERT_EQ(report.waiting_for.size(), 1u);
  auto later = open(other);  // saw the plan: nobody waits for it
  EXPECT_TRUE(later->is_condemned(packs[0].name));
  ASSERT_TRUE(session->commit({.kind = "test"}, {.packs = packs}));
  report = collect(all);
  EXPECT_EQ(report.outcome, CollectReport::Outcome::kSwept);
  EXPECT_TRUE(report.resumed);
  EXPECT_EQ(report.number, 1u);
  EXPECT_EQ(report.rescued.objects, 1u);  // the pack; the pruned snapshot's live record goes
  EXPECT_EQ(report.deleted.objects, 1u);
  EXPECT_FALSE(open(other)->is_condemned(packs[0].name));
}

TEST_F(ProtocolTest, a_closed_session_is_not_waited_for_and_keeps_what_it_declared) {
  auto first = snapshot();
  snapshot();
  auto session = open(writer, {first.name}, true);
  prune({first.name});
  auto report = collect(all);
  EXPECT_EQ(report.outcome, CollectReport::Outcome::kNothingToDo);
  ASSERT_TRUE(session->commit({.kind = "test"}, {.packs = session->parents()[0].live->packs}));
  EXPECT_EQ(visible().size(), 2u);
}

// V1, V14: what cannot be verified stops deletion until the owner disowns it.
TEST_F(ProtocolTest, V1_V14_an_unverifiable_commit_stops_collection_until_it_is_disowned) {
  auto first = snapshot();
  auto second = snapshot();
  prune({first.name});
  store.inner.objects[second.name].resize(20);
  auto stopped = Collector(keeper).run(all);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kDamaged);
  EXPECT_NE(stopped.error().next.find("disown"), std::string::npos);
  EXPECT_EQ(count_under("packs/"), 2u);
  Digest digest = sha256(store.inner.objects[second.name]);
  DisownedRecord word{second.name, digest, "lost", 0};
  std::string name = names::disowned(digest.hex());
  ASSERT_TRUE(RecordLog(other).put(RecordType::kDisowned, name, {}, encode(word)));
  EXPECT_FALSE(Collector(keeper).run(all)) << "anybody may disown";
  ASSERT_TRUE(store.inner.remove(name));
  ASSERT_TRUE(RecordLog(keeper).put(RecordType::kDisowned, name, {}, encode(word)));
  auto report = collect(all);
  EXPECT_EQ(report.disowned, std::vector<std::string>{second.name});
}

// V4: a format that this program does not know stops it.
TEST_F(ProtocolTest, V4_names_of_a_newer_program_stop_collection) {
  snapshot();
  ASSERT_TRUE(RecordLog(keeper).put(RecordType::kGcPlan, "gc/0000000001/future", {}, as_bytes("")));
  EXPECT_FALSE(Collector(keeper).run(all));
  EXPECT_FALSE(WriterSession::open(writer, {.resource = resource, .snapshot = random.id<SnapshotId>()}));
}

TEST_F(ProtocolTest, plans_sweeps_prunes_and_fences_of_a_writer_are_not_believed) {
  auto first = snapshot();
  snapshot();
  GcRecord forged{.number = 1, .objects = {"packs/x"}};
  PruneRecord hidden{.number = 1, .commits = {first.name}, .reasons = {""}};
  const auto clean = store.inner.objects;
  ASSERT_TRUE(RecordLog(writer).put(RecordType::kGcSweep, names::gc_sweep(1), {}, encode(forged)));
  EXPECT_FALSE(Collector(keeper).run(all));
  store.inner.objects = clean;
  ASSERT_TRUE(RecordLog(writer).put(RecordType::kPruneFinal, names::prune_final(1), {}, encode(hidden)));
  EXPECT_FALSE(Collector(keeper).run(all));
  store.inner.objects = clean;
  auto session = open(writer);
  ASSERT_TRUE(RecordLog(other).put(RecordType::kFence, session->commit_key(), resource,
                                   encode(FenceRecord{"gone", 0})));
  EXPECT_FALSE(Collector(keeper).run(all));
  EXPECT_EQ(count_under("packs/"), 2u);
}

TEST_F(ProtocolTest, a_commit_of_one_who_may_not_commit_is_unverifiable) {
  auto first = snapshot();
  Protocol strict{store, keeper_codec, clock, random, signer(kKeeper), may_delete, [](const SignerId& id) {
                    return id == signer(kOtherWriter);
                  }};
  Ledger ledger(strict);
  auto listing = ledger.read_commits();
  ASSERT_TRUE(listing);
  EXPECT_TRUE(listing->visible.empty());
  ASSERT_EQ(listing->unverifiable.size(), 1u);
  EXPECT_EQ(listing->unverifiable[0].name, first.name);
  EXPECT_FALSE(Collector(strict).run(all));
}

TEST_F(ProtocolTest, a_sweep_larger_than_its_plan_deletes_nothing) {
  auto first = snapshot();
  auto second = snapshot();
  Ledger ledger(keeper);
  std::string alive = (*ledger.live_of(**ledger.read_commit(second.name)))->packs[0].name;
  prune({first.name});
  store.before = [&, done = false](auto call, auto name) mutable -> std::optional<Error> {
    if (call != "put" || name != names::gc_sweep(1) || std::exchange(done, true)) return {};
    GcRecord forged{.number = 1, .objects = {alive}};
    store.inner.objects[std::string(name)] =
        keeper_codec.encode(RecordType::kGcSweep, name, {}, encode(forged));
    return {};
  };
  EXPECT_FALSE(Collector(keeper).run(all));
  EXPECT_EQ(count_under("packs/"), 2u);
}

TEST_F(ProtocolTest, V2_the_breaker_stores_an_empty_sweep) {
  auto first = snapshot();
  auto second = snapshot();
  prune({first.name});
  auto report = collect({.sweep_share_max = 0.1});
  EXPECT_EQ(report.outcome, CollectReport::Outcome::kGivenUp);
  EXPECT_FALSE(report.given_up.empty());
  EXPECT_EQ(count_under("packs/"), 2u);
  EXPECT_TRUE(store.inner.objects.contains(names::gc_plan(1)));
  EXPECT_TRUE(store.inner.objects.contains(names::gc_sweep(1)));
  report = collect(all);
  EXPECT_EQ(report.number, 2u);
  EXPECT_EQ(count_under("packs/"), 1u);
}

// V21: retained objects stay, listed, and the next run asks again without a new plan.
TEST_F(ProtocolTest, V21_a_denied_delete_is_benign) {
  auto first = snapshot();
  snapshot();
  prune({first.name});
  store.before = [](auto call, auto name) -> std::optional<Error> {
    if (call != "remove" || !name.starts_with("packs/")) return {};
    return fail(ErrorKind::kDenied, "retained");
  };
  auto report = collect(all);
  EXPECT_EQ(report.retained.objects, 1u);
  EXPECT_EQ(report.deleted.objects, 1u);
  report = collect(all);
  EXPECT_EQ(report.retained.objects, 1u);
  EXPECT_EQ(report.outcome, CollectReport::Outcome::kNothingToDo);
  store.before = nullptr;
  EXPECT_EQ(collect(all).deleted.objects, 1u);
  EXPECT_EQ(count_under("gc/"), 2u);
}

TEST_F(ProtocolTest, V14_unknown_objects_are_left_and_reported) {
  snapshot();
  SessionId nobody = random.id<SessionId>();
  for (std::string name :
       {std::string("packs/readme"), names::pack(nobody, 0), std::string("sessions/what")}) {
    store.inner.objects[name] = to_bytes(as_bytes("?"));
  }
  auto report = collect(all);
  EXPECT_EQ(report.deleted.objects, 0u);
  EXPECT_TRUE(std::ranges::count(report.unknown, "packs/readme"));
  EXPECT_TRUE(std::ranges::count(report.unknown, "sessions/what"));
  EXPECT_EQ(count_under("packs/"), 3u) << "a pack of no decided session is nobody's to delete";
}

TEST_F(ProtocolTest, a_dry_collection_puts_and_deletes_nothing) {
  auto first = snapshot();
  snapshot();
  prune({first.name});
  const auto before = store.inner.objects;
  auto report =
      collect({.mode = CollectOptions::Mode::kDryRun, .is_dead = [](const OpenSession&) { return true; }});
  EXPECT_EQ(report.outcome, CollectReport::Outcome::kWouldPlan);
  EXPECT_EQ(report.planned.objects, 2u);
  EXPECT_EQ(report.planned_names.size(), 2u);
  EXPECT_EQ(store.inner.objects, before);
}

// V7: what the clock says changes when a fence is tried, not what is safe.
TEST_F(ProtocolTest, V7_P61_a_session_is_dead_only_by_the_stores_own_times) {
  ListedSession listed{.stored_at = clock.now()};
  auto policy = dead_after(std::chrono::hours(24), clock.now() + std::chrono::hours(25));
  EXPECT_TRUE(policy({listed, clock.now()}));
  EXPECT_FALSE(policy({listed, clock.now() + std::chrono::hours(2)}));
  EXPECT_FALSE(policy({listed, {}}));
}

// P62: what is adopted while a plan stands is rescued or refused, never lost; P65: a record that does not
// open is no reason to delete.
TEST_F(ProtocolTest, P62_P65_a_live_record_that_is_not_the_bound_one_stops_collection) {
  auto first = snapshot(), second = snapshot();
  std::string live = first.record.live.name;
  store.inner.objects[live] = writer_codec.encode(RecordType::kLive, live, resource, encode(LiveRecord{}));
  auto stopped = Collector(keeper).run(all);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kDamaged);
  EXPECT_EQ(count_under("packs/"), 2u);
}

// ---- WAL
// -----------------------------------------------------------------------------------------------------

struct WalCollectionTest : ProtocolTest {
  std::string put_wal(uint64_t from, uint32_t timeline = 1, names::WalKind kind = names::WalKind::kSegment) {
    std::string name = names::wal({resource, timeline, from, from + 16, kind, "00112233445566aa"});
    EXPECT_TRUE(store.inner.put_if_absent(name, as_bytes("wal")));
    return name;
  }
};

TEST_F(WalCollectionTest, P58_only_wal_that_ends_before_every_base_goes_and_history_never) {
  std::vector<std::string> wal;
  for (uint64_t lsn = 0; lsn < 96; lsn += 16) wal.push_back(put_wal(lsn));
  std::string history = names::wal({resource, 2, 0, 0, names::WalKind::kHistory, "00112233445566aa"});
  ASSERT_TRUE(store.inner.put_if_absent(history, as_bytes("history")));
  auto first = snapshot(WalSpan{1, 20, 30});
  snapshot(WalSpan{1, 50, 60});
  EXPECT_EQ(collect(all).deleted.objects, 1u);  // [0, 16)
  EXPECT_FALSE(store.inner.objects.contains(wal[0]));
  prune({first.name});
  collect(all);
  EXPECT_FALSE(store.inner.objects.contains(wal[2]));  // [32, 48)
  EXPECT_TRUE(store.inner.objects.contains(wal[3]));   // [48, 64) holds 50
  EXPECT_TRUE(store.inner.objects.contains(history));
  EXPECT_EQ(count_under("wal/"), 4u);
}

// P60: no base, no deletion; another resource's base says nothing about this one.
TEST_F(WalCollectionTest, P60_without_a_visible_base_no_wal_goes) {
  for (uint64_t lsn = 0; lsn < 64; lsn += 16) put_wal(lsn);
  EXPECT_EQ(collect(all).deleted.objects, 0u);
  ResourceId mine = std::exchange(resource, random.id<ResourceId>());
  snapshot(WalSpan{1, 1000, 1010});
  resource = mine;
  EXPECT_EQ(collect(all).deleted.objects, 0u);
  EXPECT_EQ(count_under("wal/"), 4u);
}

TEST_F(WalCollectionTest, P62_the_floor_of_an_open_session_holds_wal) {
  for (uint64_t lsn = 0; lsn < 96; lsn += 16) put_wal(lsn);
  auto first = snapshot(WalSpan{1, 0, 10});
  auto session = WriterSession::open(writer, {.resource = resource,
                                              .snapshot = random.id<SnapshotId>(),
                                              .closed = true,
                                              .wal_timeline = 1,
                                              .wal_floor = 32});
  ASSERT_TRUE(session);
  snapshot(WalSpan{1, 80, 90});
  prune({first.name});
  collect(all);
  EXPECT_EQ(count_under("wal/"), 4u);
  ASSERT_TRUE((*session)->commit({.kind = "test", .wal = WalSpan{1, 32, 90}}, {}));
  for (int i = 0; i < 3; ++i) collect(all);
  EXPECT_EQ(count_under("wal/"), 4u);
  // A session that would start below what is condemned by now is told so.
  auto late = WriterSession::open(
      writer, {.resource = resource, .snapshot = random.id<SnapshotId>(), .wal_timeline = 1, .wal_floor = 8});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kRefused);
}

}  // namespace
}  // namespace kuramori
