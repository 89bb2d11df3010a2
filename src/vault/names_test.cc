#include "vault/names.h"

#include <gtest/gtest.h>

#include "store/store.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::SeededRandom;

TEST(Names, every_name_is_one_every_store_can_keep) {
  SeededRandom random(1);
  SessionId sid = random.id<SessionId>();
  SnapshotId snapshot = random.id<SnapshotId>();
  ResourceId resource = random.id<ResourceId>();
  for (const std::string& name :
       {names::session(sid), names::session_end(sid), names::commit(resource, snapshot, sid),
        names::pack(sid, 0), names::pack(sid, UINT32_MAX), names::map(sid, 3), names::live(sid),
        names::gc_plan(7), names::gc_waits(7), names::gc_sweep(7), names::prune_intent(9'999'999'999),
        names::prune_final(1), names::hold(snapshot, "legal"), names::hold_release(snapshot, "legal"),
        names::retain(snapshot, 4), names::proof(snapshot, "p1"), names::resource(resource),
        names::disowned(Digest{}.hex()),
        names::wal({resource, 1, 0x1000000, 0x2000000, names::WalKind::kSegment, "0123456789abcdef"})}) {
    EXPECT_TRUE(check_object_name(name).has_value()) << name;
  }
}

TEST(Names, what_is_built_is_taken_apart_again) {
  SeededRandom random(2);
  for (int i = 0; i < 200; ++i) {
    SessionId sid = random.id<SessionId>();
    SnapshotId snapshot = random.id<SnapshotId>();
    ResourceId resource = random.id<ResourceId>();
    auto commit = names::parse_commit(names::commit(resource, snapshot, sid));
    ASSERT_TRUE(commit);
    EXPECT_TRUE(commit->resource == resource && commit->snapshot == snapshot && commit->session == sid);
    EXPECT_EQ(names::parse_session(names::session(sid)), sid);
    EXPECT_EQ(names::parse_session_end(names::session_end(sid)), sid);
    EXPECT_FALSE(names::parse_session(names::session_end(sid)));
    uint32_t n = static_cast<uint32_t>(random.below(1u << 31));
    EXPECT_EQ(names::owner_of(names::pack(sid, n)), sid);
    EXPECT_EQ(names::owner_of(names::map(sid, n)), sid);
    EXPECT_EQ(names::owner_of(names::live(sid)), sid);
    EXPECT_EQ(names::parse_number(names::gc_plan(n), names::kGc), n);
    EXPECT_EQ(names::parse_number(names::prune_final(n), names::kPrune), n);
    names::WalName wal{resource,
                       static_cast<uint32_t>(random.below(1ull << 32)),
                       random.below(UINT64_MAX),
                       random.below(UINT64_MAX),
                       static_cast<names::WalKind>(random.below(5)),
                       to_hex(random.bytes(8))};
    auto parsed = names::parse_wal(names::wal(wal));
    ASSERT_TRUE(parsed) << names::wal(wal);
    EXPECT_TRUE(parsed->resource == wal.resource && parsed->timeline == wal.timeline &&
                parsed->from == wal.from && parsed->to == wal.to && parsed->kind == wal.kind &&
                parsed->digest == wal.digest);
  }
}

// A second spelling of one name would be a second object for one thing.
TEST(Names, other_spellings_are_refused) {
  SeededRandom random(3);
  SessionId sid = random.id<SessionId>();
  std::string commit = names::commit(random.id<ResourceId>(), random.id<SnapshotId>(), sid);
  std::string session = names::session(sid);
  std::string wal = names::wal({random.id<ResourceId>(), 1, 2, 3, names::WalKind::kPart, "0123456789abcdef"});
  for (size_t cut = 0; cut < commit.size(); ++cut) EXPECT_FALSE(names::parse_commit(commit.substr(0, cut)));
  for (size_t cut = 0; cut < session.size(); ++cut)
    EXPECT_FALSE(names::parse_session(session.substr(0, cut)));
  for (size_t cut = 0; cut < wal.size(); ++cut) EXPECT_FALSE(names::parse_wal(wal.substr(0, cut))) << cut;
  auto upper = [](std::string text) {
    for (char& c : text)
      if (c >= 'a' && c <= 'f') c = static_cast<char>(c - 32);
    return text;
  };
  EXPECT_FALSE(names::parse_session("sessions/" + upper("abcdef0123456789abcdef0123456789")));
  EXPECT_FALSE(names::parse_commit(commit + "/x"));
  EXPECT_FALSE(names::parse_session(session + "0"));
  EXPECT_FALSE(names::parse_number("gc/7/plan", names::kGc));
  EXPECT_FALSE(names::parse_number("gc/000000000x/plan", names::kGc));
  EXPECT_FALSE(names::parse_wal(
      "wal/0011223344556677/00000001/000000000000000A-000000000000000B.seg.0123456789abcdef"))
      << "upper case";
  EXPECT_FALSE(names::owner_of("commits/ab/" + sid.hex() + "-1"));
}

TEST(Names, what_was_put_again_is_told_from_the_original) {
  test::SeededRandom random(3);
  SessionId sid = random.id<SessionId>(), by = random.id<SessionId>();
  for (const std::string& origin : {names::pack(sid, 17), names::map(sid, 0), names::live(sid)}) {
    std::string again = names::incarnation(origin, by);
    EXPECT_TRUE(check_object_name(again));
    EXPECT_EQ(names::origin_of(again), origin);
    EXPECT_EQ(names::origin_of(origin), origin);
    EXPECT_EQ(names::owner_of(origin), sid);
    EXPECT_EQ(names::owner_of(again), by);  // of whom a collector asks whether it is decided
    EXPECT_FALSE(names::owner_of(again + "0"));
    EXPECT_FALSE(names::owner_of(origin + "."));
  }
  std::string wal = names::wal({random.id<ResourceId>(), 1, 2, 3, names::WalKind::kPart, "0123456789abcdef"});
  EXPECT_EQ(names::origin_of(wal), wal);
}

TEST(Names, an_epoch_stands_before_what_is_put_exactly_once) {
  for (const char* name : {"sessions/", "commits/x", "prune/0000000001/final", "gc/"})
    EXPECT_TRUE(names::is_of_ledger(name)) << name;
  for (const char* name : {"packs/", "holds/x", "epochs/", "wal/", "vault"})
    EXPECT_FALSE(names::is_of_ledger(name)) << name;
  const std::string full = names::epoch_prefix(7) + names::gc_plan(3);
  auto in = names::parse_in_epoch(full);
  ASSERT_TRUE(in);
  EXPECT_EQ(in->epoch, 7u);
  EXPECT_EQ(in->name, names::gc_plan(3));
  EXPECT_FALSE(names::parse_in_epoch(names::gc_plan(3)));
  EXPECT_FALSE(names::parse_in_epoch("packs/3f/x"));
}

TEST(Names, numbered_records_sort_by_number) {
  EXPECT_LT(names::gc_plan(9), names::gc_plan(10));
  EXPECT_LT(names::prune_intent(99), names::prune_intent(1'000'000'000));
}

TEST(Names, wal_of_one_claim_differs_in_its_content_alone) {
  test::SeededRandom random(5);
  const names::WalName wal{random.id<ResourceId>(), 1, 2, 3, names::WalKind::kPart, "0123456789abcdef"};
  names::WalName same = wal, other = wal;
  same.digest = "fedcba9876543210";
  EXPECT_EQ(names::wal_claim(same), names::wal_claim(wal));
  for (auto change : {+[](names::WalName& w) { w.timeline = 4; }, +[](names::WalName& w) { w.from = 1; },
                      +[](names::WalName& w) { w.to = 9; },
                      +[](names::WalName& w) { w.kind = names::WalKind::kPartial; }}) {
    other = wal;
    change(other);
    EXPECT_NE(names::wal_claim(other), names::wal_claim(wal));
  }
}

}  // namespace
}  // namespace kuramori
