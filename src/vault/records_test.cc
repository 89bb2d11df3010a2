#include "vault/records.h"
#include "vault/wire.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace kuramori {
namespace {

template <class T>
T any() {
  return *rc::gen::arbitrary<T>();
}
template <class IdType>
IdType any_id() {
  IdType id;
  for (uint8_t& byte : id.raw) byte = any<uint8_t>();
  return id;
}
using Texts = std::vector<std::string>;
using Pairs = std::map<std::string, std::string>;

ObjectRef any_ref() {
  return {.name = any<std::string>(), .size = any<uint64_t>(), .digest = any_id<Digest>()};
}
double any_seconds() {
  return any<int32_t>() / 8.0;
}

void make(ResourceRecord& r) {
  r = {any_id<ResourceId>(), any<std::string>(), any<std::string>(), any<std::string>()};
}
void make(SessionRecord& s) {
  s = {.kind = static_cast<SessionKind>(*rc::gen::inRange(1, 4)),
       .closed = any<bool>(),
       .commit_key = any<std::string>(),
       .parents = any<Texts>(),
       .foreign = any<Texts>(),
       .resource = any_id<ResourceId>(),
       .wal_timeline = any<uint32_t>(),
       .wal_floor = any<uint64_t>(),
       .started_ns = any<int64_t>(),
       .host = any<std::string>()};
}
void make(LiveRecord& live) {
  live = {};
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
    LivePack pack{any<std::string>(), any<uint64_t>(), any<uint32_t>(), any_id<Digest>(), {}};
    uint32_t at = 0;
    for (int n = *rc::gen::inRange(0, 5); n > 0; --n) {
      uint32_t first = at + static_cast<uint32_t>(*rc::gen::inRange(0, 1000)),
               count = static_cast<uint32_t>(*rc::gen::inRange(1, 1000));
      pack.frames.push_back({first, count});
      at = first + count;
    }
    live.packs.push_back(pack);
  }
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i) live.maps.push_back(any_ref());
}
void make(CommitRecord& c) {
  c = {};
  c.snapshot = any_id<SnapshotId>();
  c.session = any_id<SessionId>();
  c.resource = any_id<ResourceId>();
  c.kind = any<std::string>();
  c.started_ns = any<int64_t>();
  c.finished_ns = any<int64_t>();
  c.keep_until_ns = *rc::gen::element<int64_t>(0, -1, kKeepForever, any<int64_t>());
  c.plan = any<std::string>();
  c.label = any<std::string>();
  c.tags = any<Pairs>();
  c.parents = any<Texts>();
  c.newest_gc = any<uint64_t>();
  c.live = any_ref();
  for (int i = *rc::gen::inRange(0, 9); i > 0; --i) c.maps.push_back(any_ref());
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i)
    c.tree.push_back({any<std::string>(), any<uint32_t>(), any<uint32_t>()});
  if (any<bool>()) c.wal = WalSpan{any<uint32_t>(), any<uint64_t>(), any<uint64_t>()};
  c.previous = any<std::string>();
  c.previous_digest = any_id<Digest>();
  c.size_bytes = any<uint64_t>();
  c.added_bytes = any<uint64_t>();
  c.facts = any<Pairs>();
  c.defects = any<Texts>();
}
void make(FenceRecord& r) {
  r = {any<std::string>(), any<int64_t>()};
}
void make(GcRecord& r) {
  r = {any<uint64_t>(), any<Texts>(), any<std::string>(), any<int64_t>(), {}};
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i)
    r.replaced.push_back({any<std::string>(), any<std::string>(), {}});
  if (!r.replaced.empty()) r.replaced.front().frames = {{3, 4}, {9, 1}};
}
void make(PruneRecord& r) {
  r = {any<uint64_t>(), any<Texts>(), any<Texts>(), any<int64_t>()};
}
void make(HoldRecord& r) {
  r = {any_id<SnapshotId>(), any<std::string>(), any<std::string>(), any<int64_t>()};
}
void make(RetainRecord& r) {
  r = {any_id<SnapshotId>(), any<int64_t>(), any<int64_t>()};
}
void make(ProofRecord& p) {
  p = {.snapshot = any_id<SnapshotId>(),
       .resource = any_id<ResourceId>(),
       .vault = any<std::string>(),
       .target = any<std::string>(),
       .passed = any<bool>(),
       .checks = {},
       .started_ns = any<int64_t>(),
       .seconds_to_open = any_seconds(),
       .seconds_total = any_seconds(),
       .bytes_restored = any<uint64_t>(),
       .facts = any<Pairs>()};
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i)
    p.checks.push_back({any<std::string>(), any<std::string>(), any<std::string>()});
}
void make(ProbeRecord& r) {
  r.at_ns = 1'790'000'000'000'000'000;
  r.objects = "atomic create, ranges; not versioned";
  r.ledger = "atomic create";
  r.host = "db1";
}
void make(AppliedRecord& r) {
  r = {any<uint64_t>(),    any<std::string>(), any<std::string>(),
       any<std::string>(), any<std::string>(), any<int64_t>()};
}
void make(CopyRecord& r) {
  r = {any<std::string>(), any<Bytes>(), any<int64_t>(), any<int64_t>(), any<std::string>()};
}
void make(EpochRecord& r) {
  r = {.number = any<uint64_t>(),
       .token = any_id<decltype(r.token)>(),
       .accepted = {},
       .pruned = any<Texts>(),
       .swept = any<Texts>(),
       .at_ns = any<int64_t>()};
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i)
    r.accepted.push_back({any<std::string>(), any<uint64_t>(), any_id<Digest>()});
}
void make(DisownedRecord& r) {
  r = {any<std::string>(), any_id<Digest>(), any<std::string>(), any<int64_t>()};
}

template <class Record>
class Records : public testing::Test {};
using All = testing::Types<ResourceRecord, SessionRecord, LiveRecord, CommitRecord, FenceRecord, GcRecord,
                           PruneRecord, HoldRecord, RetainRecord, ProofRecord, DisownedRecord, ProbeRecord,
                           AppliedRecord, CopyRecord, EpochRecord>;
TYPED_TEST_SUITE(Records, All);

TYPED_TEST(Records, come_back_as_they_were) {
  EXPECT_TRUE(rc::check([] {
    TypeParam record;
    make(record);
    Bytes body = encode(record);
    auto back = decode<TypeParam>(body);
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == record);
    RC_ASSERT(encode(*back) == body);
  }));
}

// A newer program may add fields; this one reads on past them.
TYPED_TEST(Records, skip_fields_they_do_not_know) {
  EXPECT_TRUE(rc::check([] {
    TypeParam record;
    make(record);
    Bytes body = encode(record);
    std::string more;
    protozero::pbf_writer w(more);
    w.add_uint64(900, 5);
    w.add_bytes(901, std::string("new"));
    w.add_fixed64(902, 6);
    w.add_double(903, 0.5);
    append(body, as_bytes(more));
    auto back = decode<TypeParam>(body);
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == record);
  }));
}

// Any bytes at all: a value or an error, never a crash or an endless loop.
TYPED_TEST(Records, survive_any_bytes) {
  EXPECT_TRUE(rc::check([] {
    TypeParam record;
    make(record);
    Bytes body = encode(record);
    if (!body.empty()) {
      body[*rc::gen::inRange<size_t>(0, body.size())] ^= static_cast<uint8_t>(1u << *rc::gen::inRange(0, 8));
      body.resize(*rc::gen::inRange<size_t>(0, body.size() + 1));
    }
    auto back = decode<TypeParam>(body);
    if (!back) RC_ASSERT(back.error().kind == ErrorKind::kDamaged);
  }));
}

// What a summary leaves out it looks at all the same: damage is told by both or by neither.
TEST(CommitSummary, says_less_of_what_opens_and_the_same_of_what_does_not) {
  EXPECT_TRUE(rc::check([] {
    CommitRecord record;
    make(record);
    Bytes body = encode(record);
    auto summary = decode_commit(body, Detail::kSummary);
    auto needs = decode_commit(body, Detail::kNeeds);
    RC_ASSERT(summary.has_value() && needs.has_value());
    CommitRecord needed = record;
    needed.kind = needed.plan = needed.label = {};
    needed.tags = needed.facts = {};
    needed.defects = {};
    RC_ASSERT(*needs == needed);
    record.live = {};
    record.maps = {};
    record.tree = {};
    record.facts = {};
    RC_ASSERT(*summary == record);
    if (*rc::gen::inRange(0, 2) == 0)
      body.resize(*rc::gen::inRange<size_t>(0, body.size()));
    else
      body[*rc::gen::inRange<size_t>(0, body.size())] ^= static_cast<uint8_t>(1u << *rc::gen::inRange(0, 8));
    for (Detail detail : {Detail::kSummary, Detail::kNeeds})
      RC_ASSERT(decode_commit(body, detail).has_value() == decode<CommitRecord>(body).has_value());
  }));
}

}  // namespace
}  // namespace kuramori
