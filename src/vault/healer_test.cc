// What the simulation does not stage: what a healer refuses to rely on, and what it leaves alone.
#include "vault/healer.h"

#include <gtest/gtest.h>

#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::Model;
using test::mutate;
using test::OpenStore;
using test::TestVault;

// Another vault: whatever lies in its store, by the names of the first.
class OtherVault final : public HealSource {
 public:
  OtherVault(TestVault& vault, OpenStore& other) : vault_(vault), other_(other) {}
  std::string name() const override { return "other"; }
  Result<uint64_t> send(const LivePack& pack, const std::string& to) override {
    TRY(verify_pack_bytes(other_, pack.name, &pack));
    TRY_ASSIGN(Bytes bytes, other_.get(pack.name));
    TRY(vault_.store.put_if_absent(to, bytes));
    return bytes.size();
  }
  Result<void> check(const LivePack& pack, const std::string& at) override {
    return verify_pack_bytes(*only_incarnation(vault_.store, at), pack.name, &pack);
  }
  bool fits(const ObjectRef& ref, ByteView bytes) override { return sha256(bytes) == ref.digest; }
  Result<Bytes> fetch(const ObjectRef& ref) override { return other_.get(ref.name); }

 private:
  TestVault& vault_;
  OpenStore& other_;
};

struct HealerTest : testing::Test {
  TestVault t{77};
  OpenStore other;
  OtherVault source{t, other};
  std::string pack;  // that both snapshots need
  LiveRecord live;

  void SetUp() override {
    Model model;
    mutate(model, t.random, 10);
    ASSERT_TRUE(t.snapshot(model));
    mutate(model, t.random, 2);
    ASSERT_TRUE(t.snapshot(model));
    live = *t.vault->read<LiveRecord>(t.snapshots[1].commit.live.name, RecordType::kLive);
    pack = live.packs.front().name;
    other.objects = t.store.objects;
  }
  Protocol protocol() {
    return {.store = t.vault->store(),
            .codec = t.vault->codec(),
            .clock = t.clock,
            .random = t.random,
            .self = signer_id(t.keys.signing->verify_key()),
            .may_delete = [this](const SignerId& signer) { return t.vault->codec().may_delete(signer); },
            .may_commit = {},
            .bugs = {},
            .epoch = nullptr};
  }
  Result<HealedObject> heal(const std::string& origin) {
    Protocol self = protocol();
    Healer healer(self, {&source}, "test");
    if (auto looked = healer.look(); !looked) return std::move(looked).error();
    return healer.heal(origin);
  }
  void spoil(const std::string& name, OpenStore& store) {
    store.objects[name][store.objects[name].size() / 2] ^= 1;
  }
  std::vector<std::string> standing(const std::string& origin) {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : t.store.objects) {
      if (names::origin_of(name) == origin) names.push_back(name);
    }
    return names;
  }
  void sweep(uint64_t n, const std::string& object, bool swept) {
    GcRecord record{n, {object}, "", 1};
    ASSERT_TRUE(t.vault->put(RecordType::kGcPlan, names::gc_plan(n), {}, encode(record)));
    if (!swept) return;
    ASSERT_TRUE(t.vault->put(RecordType::kGcSweep, names::gc_sweep(n), {}, encode(record)));
  }
};

TEST_F(HealerTest, what_is_whole_or_not_needed_is_left_alone) {
  auto before = t.store.objects;
  EXPECT_EQ(heal(pack).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(heal(names::pack(t.random.id<SessionId>(), 3)).error().kind, ErrorKind::kRefused);
  for (const auto& [name, bytes] : before) EXPECT_TRUE(equal(t.store.objects[name], bytes)) << name;
}

TEST_F(HealerTest, damaged_in_the_other_too_nothing_goes_and_nothing_comes) {
  spoil(pack, t.store);
  spoil(pack, other);
  EXPECT_EQ(heal(pack).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(standing(pack), std::vector{pack});
}

// An incarnation that a collection condemned may be deleted at any time, though it is whole and stands.
TEST_F(HealerTest, what_is_condemned_is_not_relied_on) {
  const std::string doomed = names::incarnation(pack, t.random.id<SessionId>());
  for (bool swept : {false, true}) {
    auto before = t.store.objects;
    t.store.objects[doomed] = t.store.objects[pack];
    sweep(1, doomed, swept);
    spoil(pack, t.store);
    auto healed = heal(pack);
    ASSERT_TRUE(healed);
    EXPECT_GT(healed->sent_bytes, 0u);
    EXPECT_EQ(healed->removed, std::vector{pack});
    EXPECT_EQ(standing(pack).size(), 2u) << "the condemned one is the collector's";
    t.store.objects.erase(doomed);
    EXPECT_TRUE(t.all_read_back());
    t.store.objects = before;
  }
}

// Killed between the put and the removal: the next run removes the original, and puts nothing again.
TEST_F(HealerTest, a_whole_incarnation_that_stands_is_enough) {
  const std::string again = names::incarnation(pack, t.random.id<SessionId>());
  t.store.objects[again] = t.store.objects[pack];
  spoil(pack, t.store);
  EXPECT_TRUE(t.all_read_back()) << "readers go on from the damaged one to the whole one";
  auto healed = heal(pack);
  ASSERT_TRUE(healed);
  EXPECT_EQ(healed->sent_bytes, 0u);
  EXPECT_EQ(standing(pack), std::vector{again});
  EXPECT_TRUE(t.all_read_back());
  // A damaged incarnation beside a whole original stays: nobody's removal may rest on another's put.
  t.store.objects[pack] = t.store.objects[again];
  spoil(again, t.store);
  EXPECT_EQ(heal(pack).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(standing(pack).size(), 2u);
}

TEST_F(HealerTest, of_a_lost_live_record_the_commit_still_says_what_it_was) {
  const std::string& name = t.snapshots[1].commit.live.name;
  t.store.objects.erase(name);
  // Another validly sealed one in its place there is not taken.
  auto good = other.objects[name];
  Bytes forged = t.vault->codec().encode(RecordType::kLive, name, t.resource.id, encode(LiveRecord{}));
  other.objects[name] = forged;
  EXPECT_EQ(heal(name).error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(standing(name).empty());
  other.objects[name] = good;
  ASSERT_TRUE(heal(name));
  EXPECT_EQ(standing(name).size(), 1u);
}

// A forged snapshot that binds other bytes to a pack must not make a healer remove it.
TEST_F(HealerTest, what_two_snapshots_contradict_each_other_about_is_not_touched) {
  CommitRecord commit = t.snapshots[1].commit;
  LiveRecord lie = live;
  lie.packs.front().trailer_digest.raw[0] ^= 1;
  SessionId sid = t.random.id<SessionId>();
  SignerId signer = signer_id(t.keys.signing->verify_key());
  std::copy_n(signer.raw.begin(), 4, sid.raw.begin());
  commit.snapshot = t.random.id<SnapshotId>();
  commit.session = sid;
  std::string live_name = names::live(sid);
  Bytes object = t.vault->codec().encode(RecordType::kLive, live_name, t.resource.id, encode(lie));
  commit.live = {.name = live_name, .size = object.size(), .digest = sha256(object)};
  ASSERT_TRUE(t.store.put_if_absent(live_name, object));
  ASSERT_TRUE(t.vault->put(RecordType::kCommit, names::commit(t.resource.id, commit.snapshot, sid),
                           t.resource.id, encode(commit)));
  spoil(pack, t.store);
  auto refused = heal(pack);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("different bytes"), std::string::npos) << refused.error().what;
  EXPECT_EQ(standing(pack), std::vector{pack});
}

}  // namespace
}  // namespace kuramori
