// Content in, content out: what SnapshotReader gives back is what ContentWriter was given, over many
// snapshots.
#include <gtest/gtest.h>

#include <set>

#include "store/fault.h"
#include "store/memory/memory_store.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::Model;
using test::mutate;
using test::TestVault;

void expect_same(const Model& got, const Model& wanted, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (const auto& [path, file] : wanted) {
    auto it = got.find(path);
    ASSERT_NE(it, got.end()) << what << " " << path;
    EXPECT_TRUE(it->second.bytes == file.bytes) << what << ": " << path << " differs";
    EXPECT_EQ(it->second.content, file.content);
    if (file.content == ContentKind::kPages) {
      EXPECT_EQ(it->second.inode, file.inode);
    }
  }
}

// P23.
TEST(Content, twenty_snapshots_deep_every_one_comes_back_byte_for_byte) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    TestVault t(seed);
    Model model;
    mutate(model, t.random, 12);
    for (int i = 0; i < 21; ++i) {
      auto made = t.snapshot(model, true, 1 + static_cast<int>(seed));
      ASSERT_TRUE(made) << made.error().what << " " << made.error().why;
      EXPECT_LE((*made)->commit.maps.size(), kMapsMax);
      if (i % 7 != 3) mutate(model, t.random, 3);  // sometimes nothing changes
    }
    for (const auto& snapshot : t.snapshots) {
      auto back = t.read_back(snapshot.commit, snapshot.name);
      ASSERT_TRUE(back) << back.error().what;
      expect_same(*back, snapshot.model, "seed " + std::to_string(seed) + " " + snapshot.name);
    }
  }
}

TEST(Content, a_later_snapshot_outlives_what_it_does_not_name) {
  TestVault t(9);
  Model model;
  mutate(model, t.random, 12);
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(t.snapshot(model));
    mutate(model, t.random, 2);
  }
  // Keep exactly what the last commit binds; it must still open whole (no chain to walk).
  const auto& last = t.snapshots.back();
  auto record = t.vault->read<LiveRecord>(last.commit.live.name, RecordType::kLive);
  ASSERT_TRUE(record);
  std::set<std::string> keep{last.commit.live.name};
  for (const LivePack& pack : record->packs) keep.insert(pack.name);
  for (const ObjectRef& map : record->maps) keep.insert(map.name);
  std::erase_if(t.store.objects, [&](auto& object) { return !keep.contains(object.first); });
  auto back = t.read_back(last.commit, last.name);
  ASSERT_TRUE(back) << back.error().what;
  expect_same(*back, last.model, "last");
}

// V5: exactly the frames that the snapshot's pages lie in, for every pack of another session.
TEST(Content, live_frames_are_exact) {
  TestVault t(13);
  Model model;
  mutate(model, t.random, 14);
  for (int i = 0; i < 14; ++i) {
    ASSERT_TRUE(t.snapshot(model));
    mutate(model, t.random, 2);
  }
  for (const auto& snapshot : t.snapshots) {
    auto base = open_base(t.store, t.keys, t.vault->codec(), snapshot.name, snapshot.commit);
    ASSERT_TRUE(base);
    std::map<std::string, std::set<uint32_t>> wanted, got;
    for (const auto& [key, file] : base->pages.files) {
      for (const PageRun& run : file.runs) {
        for (uint32_t i = 0; run.pack != kZeroPack && i < run.count; ++i)
          wanted[base->pages.packs[run.pack]].insert(run.frame + (run.slot + i) / kPagesPerFrame);
      }
    }
    for (const LivePack& pack : base->live.packs) {
      if (names::owner_of(pack.name) == snapshot.commit.session) {
        // Its own packs are wholly its own; every frame was written for it.
        EXPECT_EQ(pack.frames.size(), 1u);
        wanted.erase(pack.name);
        continue;
      }
      for (const FrameRange& range : pack.frames)
        for (uint32_t i = 0; i < range.count; ++i) got[pack.name].insert(range.first + i);
    }
    EXPECT_EQ(got, wanted);
  }
}

TEST(Content, small_reads_anywhere_agree_with_whole_ones) {
  TestVault t(17);
  Model model;
  mutate(model, t.random, 20);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(t.snapshot(model));
    mutate(model, t.random, 5);
  }
  const auto& last = t.snapshots.back();
  auto reader = *SnapshotReader::open(t.store, t.keys, t.vault->codec(), last.name, last.commit);
  SnapshotReader::Context context;
  for (const auto& [path, file] : last.model) {
    if (file.content != ContentKind::kPages || file.bytes.empty()) continue;
    auto pages = reader->pages_of(path);
    ASSERT_TRUE(pages);
    for (int i = 0; i < 50; ++i) {
      uint32_t first = static_cast<uint32_t>(t.random.below((*pages)->pages));
      uint32_t count =
          static_cast<uint32_t>(t.random.below(std::min<uint64_t>(20, (*pages)->pages - first)) + 1);
      Bytes out(size_t{count} * kPageBytes);
      ASSERT_TRUE(reader->read_pages(**pages, first, out, context));
      EXPECT_TRUE(equal(out, ByteView(file.bytes).subspan(size_t{first} * kPageBytes, out.size())));
    }
    Bytes beyond(kPageBytes);
    EXPECT_FALSE(reader->read_pages(**pages, (*pages)->pages, beyond, context));
  }
  EXPECT_FALSE(reader->pages_of("no/such/file"));
}

// V9, V10: the whole pipeline with a fault in it commits nothing.
TEST(Content, a_fault_in_the_pipeline_fails_the_snapshot) {
  for (int stage = 0; stage < 3; ++stage) {
    TestVault t(19);
    Model model;
    mutate(model, t.random, 12);
    PipelineFaults faults;
    int calls = 0;
    auto flip = [&](MutableByteView bytes) {
      if (++calls == 3) bytes[bytes.size() / 2] ^= 16;
    };
    (stage == 0 ? faults.after_filter : stage == 1 ? faults.after_compress : faults.after_seal) = flip;
    auto commit = test::write_content(t.store, t.keys, t.random, t.clock, t.random.id<SessionId>(),
                                      t.resource.id, model, nullptr, nullptr, 1, &faults);
    ASSERT_FALSE(commit) << stage;
    EXPECT_EQ(commit.error().kind, ErrorKind::kDamaged);
    EXPECT_GE(calls, 3);
  }
}

// A reader never hands out what the signed commit does not bind: each object of a snapshot is flipped, cut,
// removed, or replaced by another of its kind.
TEST(Content, nothing_damaged_reaches_a_restore) {
  TestVault t(23);
  Model model;
  mutate(model, t.random, 12);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(t.snapshot(model));
    mutate(model, t.random, 3);
  }
  const auto& last = t.snapshots.back();
  auto live = *t.vault->read<LiveRecord>(last.commit.live.name, RecordType::kLive);
  std::vector<std::string> needed{last.commit.live.name};
  for (const LivePack& pack : live.packs) needed.push_back(pack.name);
  for (const ObjectRef& map : last.commit.maps) needed.push_back(map.name);
  ASSERT_TRUE(t.read_back(last.commit, last.name));
  for (const std::string& name : needed) {
    Bytes whole = t.store.objects[name];
    for (int i = 0; i < 30; ++i) {
      t.store.objects[name][t.random.below(whole.size())] ^= static_cast<uint8_t>(1u << t.random.below(8));
      auto back = t.read_back(last.commit, last.name);
      if (back) expect_same(*back, last.model, "flip in " + name);
      t.store.objects[name] = whole;
    }
    t.store.objects[name].resize(whole.size() / 2);
    EXPECT_FALSE(t.read_back(last.commit, last.name)) << "truncated " << name;
    t.store.objects[name].clear();
    EXPECT_FALSE(t.read_back(last.commit, last.name)) << "emptied " << name;
    for (const std::string& other : needed) {
      if (other == name) continue;
      t.store.objects[name] = t.store.objects[other];
      EXPECT_FALSE(t.read_back(last.commit, last.name)) << other << " in place of " << name;
    }
    t.store.objects.erase(name);
    auto gone = t.read_back(last.commit, last.name);
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().kind, ErrorKind::kDamaged) << "missing is damage here, not absence";
    t.store.objects[name] = whole;
  }
}

// V12: one whole copy of the vault object is enough; none is an error in words.
TEST(VaultObject, any_of_its_copies_will_do) {
  TestVault t(29);
  auto open = [&] {
    return Vault::open(std::make_unique<test::BorrowedStore>(t.store), t.copy_keys(), t.clock, t.random);
  };
  auto names = vault_object_names();
  ASSERT_EQ(names.size(), 3u);
  std::map<std::string, Bytes> whole;
  for (auto& name : names) whole[name] = t.store.objects[name];
  for (auto& keep : names) {
    for (auto& name : names)
      if (name != keep) t.store.objects[name].clear();
    auto opened = open();
    ASSERT_TRUE(opened) << opened.error().what;
    EXPECT_EQ((*opened)->info().id, t.vault->info().id);
    for (auto& name : names) t.store.objects[name] = whole[name];
  }
  for (auto& name : names) t.store.objects[name].resize(50);
  auto damaged = open();
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().kind, ErrorKind::kDamaged);
  for (auto& name : names) t.store.objects.erase(name);
  EXPECT_EQ(open().error().kind, ErrorKind::kNotFound);
}

TEST(VaultObject, another_familys_key_is_refused_in_words) {
  TestVault t(31);
  auto other = Vault::open(std::make_unique<test::BorrowedStore>(t.store),
                           KeyBundle::new_owner("other", t.random), t.clock, t.random);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::kRefused);
}

TEST(VaultObject, a_place_that_is_not_empty_gets_no_vault) {
  TestVault t(37);
  auto again = Vault::init(std::make_unique<test::BorrowedStore>(t.store), t.copy_keys(), t.clock, t.random);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kRefused);
}

TEST(VaultResources, two_that_begin_at_once_make_one) {
  TestVault t(41);
  auto again = t.vault->ensure_resource("orders/db", "postgres", "7300000000000000001");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id, t.resource.id);
  EXPECT_EQ(t.vault->resources()->size(), 1u);
  auto other = t.vault->ensure_resource("orders/db", "postgres", "7300000000000000002");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::kRefused) << "another cluster under the same name";
}

// Lanes that share a snapshot, each with `mib` of pages of a file of its own, which hold what nothing
// compresses.
class ContentLanes : public testing::Test {
 protected:
  ContentLanes() { system_random().fill(pages_); }

  Result<LiveRecord> write(Store& store, std::vector<uint32_t> pages_of_lanes) {
    ContentWriter writer(store, t_.keys, system_random(), system_clock(), system_random().id<SessionId>(),
                         t_.resource.id);
    std::vector<std::unique_ptr<ContentWriter::Lane>> lanes;
    std::vector<CapturedFile> files;
    for (uint32_t file = 0; file < pages_of_lanes.size(); ++file) {
      lanes.push_back(writer.lane());
      for (uint32_t page = 0; page < pages_of_lanes[file]; page += kPagesAtOnce) {
        const uint32_t count = std::min(kPagesAtOnce, pages_of_lanes[file] - page);
        TRY(lanes.back()->add_pages(file, page, ByteView(pages_).first(count * kPageBytes)));
      }
      files.push_back({.entry = {.path = fmt::format("{}", file),
                                 .content = ContentKind::kPages,
                                 .size = uint64_t{pages_of_lanes[file]} * kPageBytes},
                       .index = file,
                       .inode = file + 1});
    }
    for (auto& lane : lanes) TRY(lane->finish());
    CommitRecord commit{.kind = "files"};
    return writer.finish(std::move(files), nullptr, commit);
  }

  TestVault t_{43};
  static constexpr uint32_t kPagesAtOnce = 128;
  Bytes pages_ = Bytes(kPagesAtOnce * kPageBytes);
};

// Nobody waits for a full pack that is on its way; what becomes of it is still the snapshot's outcome.
TEST_F(ContentLanes, a_pack_that_is_not_confirmed_fails_the_snapshot) {
  auto memory = make_memory_store();
  auto live = write(*memory, {17'920});  // 140 MiB: two full packs and a part of one, and the tree's
  ASSERT_TRUE(live);
  EXPECT_EQ(live->packs.size(), 4u);
  for (const LivePack& pack : live->packs) EXPECT_TRUE(memory->head(pack.name));
  for (uint64_t failing = 1; failing <= 4; ++failing) {
    auto inner = make_memory_store();
    std::atomic<uint64_t> commits = 0;
    auto store = make_faulty_store(*inner, {.choose = [&](uint64_t, StoreCall call, std::string_view) {
      return call == StoreCall::kCommit && ++commits == failing ? Fault::kFail : Fault::kNone;
    }});
    auto written = write(*store, {17'920});
    ASSERT_FALSE(written) << failing;
    EXPECT_EQ(written.error().why, "injected");
  }
}

TEST_F(ContentLanes, what_fills_no_frame_shares_a_pack_however_many_lanes_saw_it) {
  auto memory = make_memory_store();
  auto live = write(*memory, {3, kPagesPerFrame - 1, 4, 1});
  ASSERT_TRUE(live);
  EXPECT_EQ(live->packs.size(), 2u) << "the pages' and the tree's";
  // One that is worth an upload of its own is not gone on with.
  live = write(*memory, {640, 3, 640, kPagesPerFrame - 1});
  ASSERT_TRUE(live);
  EXPECT_EQ(live->packs.size(), 4u);
}

}  // namespace
}  // namespace kuramori
