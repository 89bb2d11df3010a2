// Trees in segments and content in chunks: long random histories of a tree, each snapshot read back byte for
// byte, whatever was pruned before it.
#include "vault/tree_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <numeric>
#include <thread>

#include "base/sanitized.h"
#include "os/file.h"
#include "vault/index_mender.h"
#include "vault/test_support.h"
#include "vault/tree_cache.h"

namespace kuramori {
namespace {

using test::TestVault;

// path → content; a folder's path ends in '/'.
using Files = std::map<std::string, Bytes>;

struct MadeTree {
  std::string name;
  CommitRecord commit;
  LiveRecord live;
  Files files;
  uint64_t known = 0;
};

// A store whose process dies before the `left`-th call from now on: nothing is answered any more.
class MortalStore final : public Store {
 public:
  explicit MortalStore(Store& store) : store_(store) {}
  std::atomic<int> left{INT_MAX};
  std::string location() const override { return store_.location(); }
  Result<void> put_if_absent(std::string_view n, ByteView b) override {
    TRY(lives());
    return store_.put_if_absent(n, b);
  }
  Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override {
    struct Writer final : ObjectWriter {
      MortalStore& mortal;
      std::unique_ptr<ObjectWriter> inner;
      Writer(MortalStore& m, std::unique_ptr<ObjectWriter> i) : mortal(m), inner(std::move(i)) {}
      Result<void> append(ByteView more) override { return inner->append(more); }
      Result<void> commit() override {
        TRY(mortal.lives());
        return inner->commit();
      }
    };
    TRY(lives());
    TRY_ASSIGN(auto inner, store_.create(n));
    return std::unique_ptr<ObjectWriter>(new Writer(*this, std::move(inner)));
  }
  Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override {
    TRY(lives());
    return store_.open(n);
  }
  Result<Bytes> get(std::string_view n) override {
    TRY(lives());
    return store_.get(n);
  }
  Result<ObjectInfo> head(std::string_view n) override {
    TRY(lives());
    return store_.head(n);
  }
  Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
    TRY(lives());
    return store_.list(p, a, l);
  }
  Result<void> remove(std::string_view) override {
    ADD_FAILURE() << "a writer never deletes";
    return {};
  }

 private:
  Result<void> lives() {
    if (--left >= 0) return {};
    return fail(ErrorKind::kInterrupted, "killed");
  }
  Store& store_;
};

struct TreeWriterTest : testing::Test {
  TestVault t{11};
  MortalStore store{t.store};
  std::vector<MadeTree> made;
  PipelineFaults* faults = nullptr;
  bool mends = false;        // a lost index is found again
  std::string cache_folder;  // of the index
  size_t batch_chunks = kMendBatchChunks;
  MendedIndex mended;         // of the last snapshot
  std::vector<LostRun> lost;  // likewise, before

  static bool before(const std::string& a, const std::string& b) { return tree_order(a, b); }

  // The entries of a model, in tree order, with the folders above them.
  std::vector<TreeEntry> entries_of(const Files& files) {
    std::set<std::string> folders;
    for (const auto& [path, bytes] : files) {
      for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
        folders.insert(path.substr(0, slash));
    }
    std::vector<TreeEntry> entries;
    for (const std::string& path : folders)
      entries.push_back({.path = path, .type = EntryType::kDirectory, .mode = 0755});
    for (const auto& [path, bytes] : files) {
      entries.push_back({.path = path,
                         .content = ContentKind::kBytes,
                         .mode = 0640,
                         .mtime_ns = static_cast<int64_t>(bytes.size()),
                         .size = bytes.size(),
                         .user = "root",
                         .attributes = {{"user.k", path}}});
    }
    std::ranges::sort(entries, before, &TreeEntry::path);
    return entries;
  }

  Result<const MadeTree*> snapshot(const Files& files, bool on_base = true, unsigned lanes = 2) {
    SessionId sid = t.random.id<SessionId>();
    const SignerId signer = signer_id(t.keys.signing->verify_key());
    std::copy_n(signer.raw.begin(), 4, sid.raw.begin());
    const SnapshotId id = t.random.id<SnapshotId>();
    MadeTree tree{.name = names::commit(t.resource.id, id, sid), .commit = {}, .live = {}, .files = files};
    std::optional<TreeBase> base;
    uint32_t maps = 0;
    const auto next_map_name = [&] { return names::map(sid, maps++); };
    mended = {};
    lost = {};
    if (on_base && !made.empty()) {
      TRY_ASSIGN(base, open_tree_base(store, t.keys, t.vault->codec(), made.back().name, made.back().commit,
                                      cache_folder));
      lost = base->lost;
      if (!lost.empty() && mends) TRY(mend(*base, next_map_name));
    }
    TreeWriter writer(store, t.keys, t.random, t.clock, sid, t.resource.id, base ? &*base : nullptr);
    writer.provoke(faults);
    const std::vector<TreeEntry> entries = entries_of(files);
    std::vector<StoredContent> contents(entries.size());
    std::vector<Result<void>> done(lanes);
    {
      std::vector<std::jthread> threads;
      for (unsigned number = 0; number < lanes; ++number) {
        threads.emplace_back([&, number] {
          done[number] = [&]() -> Result<void> {
            auto lane = writer.lane();
            for (size_t i = number; i < entries.size(); i += lanes) {
              if (entries[i].content != ContentKind::kBytes) continue;
              const Bytes& bytes = files.at(entries[i].path);
              if (i % 3 == 0) {  // read wrongly at first
                TRY(lane->add(ByteView(bytes).first(bytes.size() / 2)));
                lane->restart();
              }
              for (size_t at = 0; at < bytes.size(); at += 700'001)
                TRY(lane->add(ByteView(bytes).subspan(at, std::min<size_t>(700'001, bytes.size() - at))));
              TRY_ASSIGN(contents[i], lane->end());
            }
            return lane->finish();
          }();
        });
      }
    }
    for (const auto& one : done) TRY(one);
    for (size_t i = 0; i < entries.size(); ++i) TRY(writer.add_entry(entries[i], contents[i]));
    tree.commit.snapshot = id;
    tree.commit.session = sid;
    tree.commit.resource = t.resource.id;
    tree.commit.kind = "files";
    TRY_ASSIGN(tree.live, writer.finish(tree.commit, next_map_name));
    tree.known = writer.bytes_known();
    const std::string live_name = names::live(sid);
    const Bytes object =
        t.vault->codec().encode(RecordType::kLive, live_name, t.resource.id, encode(tree.live));
    tree.commit.live = {.name = live_name, .size = object.size(), .digest = sha256(object)};
    TRY(store.put_if_absent(live_name, object));
    TRY(store.head(live_name));  // the last call before the commit
    TRY(t.vault->put(RecordType::kCommit, tree.name, t.resource.id, encode(tree.commit)));
    made.push_back(std::move(tree));
    return &made.back();
  }

  Result<void> mend(TreeBase& base, const std::function<std::string()>& next_map_name) {
    TRY_ASSIGN(const auto reader,
               SnapshotReader::open(store, t.keys, t.vault->codec(), base.commit_name, base.commit));
    TRY_ASSIGN(mended, mend_index(base, *reader,
                                  {.store = store,
                                   .keys = t.keys,
                                   .random = t.random,
                                   .next_name = next_map_name,
                                   .cache_folder = cache_folder,
                                   .batch_chunks = batch_chunks}));
    EXPECT_TRUE(base.lost.empty());
    return {};
  }

  // What the newest snapshot put into packs of its own.
  uint64_t bytes_put() const {
    uint64_t bytes = 0;
    for (const LivePack& pack : made.back().live.packs) {
      if (names::owner_of(pack.name) == made.back().commit.session) bytes += pack.size;
    }
    return bytes;
  }
  static uint64_t size_of(const Files& files) {
    uint64_t bytes = 0;
    for (const auto& [path, content] : files) bytes += content.size();
    return bytes;
  }
  void expect_whole_index() {
    for (const ObjectRef& run : made.back().commit.maps) {
      const auto object = t.store.objects.find(run.name);
      ASSERT_TRUE(object != t.store.objects.end()) << run.name;
      EXPECT_EQ(sha256(object->second), run.digest);
      EXPECT_TRUE(check_chunk_run(object->second, t.keys, run.name));
    }
  }

  Result<Files> read_back(const MadeTree& tree) {
    TRY_ASSIGN(const auto reader,
               SnapshotReader::open(t.store, t.keys, t.vault->codec(), tree.name, tree.commit));
    EXPECT_TRUE(reader->is_in_segments());
    Files files;
    SnapshotReader::Context context;
    TRY(reader->visit([&](TreeNode&& node) -> Result<void> {
      if (node.entry.type == EntryType::kDirectory) return {};
      Bytes bytes;
      ContentDigest digest;
      for (const Extent& extent : node.extents) {
        const size_t from = bytes.size();
        TRY(reader->read_extent(extent, context, bytes));
        if (extent.pack == kHolePack)
          digest.add_hole(extent.bytes);
        else
          digest.add(extent.bytes, sha256(ByteView(bytes).subspan(from)));
      }
      EXPECT_EQ(digest.finish(), *node.digest);
      EXPECT_EQ(node.entry.attributes.front().second, node.entry.path);
      files[node.entry.path] = std::move(bytes);
      return {};
    }));
    return files;
  }

  // A tree's life: files of all sizes come, change, move and go.
  void mutate(Files& files, int steps) {
    for (int i = 0; i < steps; ++i) {
      const std::string path =
          fmt::format("d{}/e{}/f{}", t.random.below(5), t.random.below(4), t.random.below(30));
      switch (t.random.below(8)) {
        case 0:
          files.erase(path);
          break;
        case 1:
          if (files.contains(path)) files[path + ".moved"] = std::exchange(files[path], {});
          break;
        case 2:
          if (!files.empty())
            files[path] =
                std::next(files.begin(), static_cast<ptrdiff_t>(t.random.below(files.size())))->second;
          break;
        case 3:
          files[path] = t.random.bytes(t.random.below(3'000'000));
          break;
        case 4:
          if (Bytes& bytes = files[path]; !bytes.empty())
            bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(t.random.below(bytes.size())), 7);
          break;
        default:
          files[path] = t.random.bytes(t.random.below(20'000));
      }
    }
  }

  // What nothing live refers to goes, as a collector would take it.
  void forget_all_but(const MadeTree& kept) {
    std::set<std::string> needed;
    for (const LivePack& pack : kept.live.packs) needed.insert(pack.name);
    for (const ObjectRef& map : kept.live.maps) needed.insert(map.name);
    std::erase_if(t.store.objects, [&](const auto& object) {
      const bool is_content = object.first.starts_with("packs/") || object.first.starts_with("maps/");
      return is_content && !needed.contains(object.first);
    });
  }
};

TEST_F(TreeWriterTest, V5_every_snapshot_of_a_long_history_comes_back_alone) {
  Files files;
  mutate(files, 60);
  for (int round = 0; round < (kIsSanitized ? 10 : 25); ++round) {
    auto tree = snapshot(files, round % 7 != 6, 1 + round % 3);
    ASSERT_TRUE(tree) << tree.error().what;
    ASSERT_LE((*tree)->commit.maps.size(), kMapsMax);
    mutate(files, 6);
  }
  for (const MadeTree& tree : made) {
    auto back = read_back(tree);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_TRUE(*back == tree.files);
  }
  // Without what the others alone needed: the newest needs nothing that it does not name.
  forget_all_but(made.back());
  auto back = read_back(made.back());
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_TRUE(*back == made.back().files);
}

TEST_F(TreeWriterTest, an_unchanged_tree_costs_its_root) {
  Files files;
  mutate(files, 200);
  ASSERT_TRUE(snapshot(files));
  const uint64_t first = made.back().commit.added_bytes;
  ASSERT_TRUE(snapshot(files));
  EXPECT_LT(made.back().commit.added_bytes, 2000u);
  EXPECT_GT(first, 100'000u);
  EXPECT_EQ(made[0].commit.maps, made[1].commit.maps);
  EXPECT_EQ(*read_back(made[1]), files);
}

TEST_F(TreeWriterTest, what_moved_is_stored_once) {
  Files files{{"a/one", t.random.bytes(9'000'000)}, {"a/two", t.random.bytes(70'000)}};
  ASSERT_TRUE(snapshot(files));
  Files moved{{"b/one", files["a/one"]}, {"b/two", files["a/two"]}, {"b/two again", files["a/two"]}};
  ASSERT_TRUE(snapshot(moved));
  EXPECT_LT(made.back().commit.added_bytes, 8000u);
  EXPECT_EQ(made.back().known, 9'000'000u + 2 * 70'000);
  EXPECT_EQ(*read_back(made.back()), moved);
}

TEST_F(TreeWriterTest, an_inserted_byte_costs_a_chunk) {
  Files files{{"big", t.random.bytes(24 << 20)}};
  ASSERT_TRUE(snapshot(files));
  files["big"].insert(files["big"].begin() + (5 << 20), 1);
  ASSERT_TRUE(snapshot(files));
  EXPECT_LT(made.back().commit.added_bytes, 9u << 20) << "two chunks of at most 4 MiB";
  EXPECT_GT(made.back().known, 15u << 20);
  EXPECT_EQ(*read_back(made.back()), files);
}

TEST_F(TreeWriterTest, a_hole_takes_no_place) {
  SessionId sid = t.random.id<SessionId>();
  TreeWriter writer(t.store, t.keys, t.random, t.clock, sid, t.resource.id, nullptr);
  auto lane = writer.lane();
  const uint64_t hole = (uint64_t{1} << 40) + 17;
  ASSERT_TRUE(lane->add_hole(hole));
  ASSERT_TRUE(lane->add(as_bytes("end")));
  auto content = lane->end();
  ASSERT_TRUE(content);
  EXPECT_EQ(content->size, hole + 3);
  EXPECT_EQ(std::ranges::count(content->extents, kHolePack, &Extent::pack), 513);
  uint64_t sum = 0;
  for (const Extent& extent : content->extents) sum += extent.bytes;
  EXPECT_EQ(sum, hole + 3);
  ASSERT_TRUE(lane->finish());
}

TEST_F(TreeWriterTest, V9_V10_a_flipped_bit_is_found_before_the_commit) {
  // Noise would be stored as it is, whatever became of what it was compressed to.
  Bytes half = t.random.bytes(150'000);
  half.resize(300'000);
  Files files{{"a", half}, {"b", t.random.bytes(3000)}, {"c", Bytes(600'000, 'x')}};
  for (int stage = 0; stage < 2; ++stage) {
    PipelineFaults flip;
    auto& where = stage == 0 ? flip.after_compress : flip.after_seal;
    bool flipped = false;
    where = [&](MutableByteView bytes) {
      if (!std::exchange(flipped, true)) bytes[bytes.size() / 2] ^= 4;
    };
    faults = &flip;
    auto tree = snapshot(files, true, 1);
    ASSERT_FALSE(tree);
    EXPECT_EQ(tree.error().kind, ErrorKind::kDamaged);
    EXPECT_TRUE(flipped);
  }
}

TEST_F(TreeWriterTest, V8_an_index_that_lies_is_not_believed) {
  Files files{{"a", t.random.bytes(50'000)}};
  ASSERT_TRUE(snapshot(files));
  // A run that names frames the base does not keep alive: of another snapshot, pruned since.
  Files others{{"a", t.random.bytes(40'000)}};
  const MadeTree kept = made.back();
  ASSERT_TRUE(snapshot(others));
  ASSERT_TRUE(snapshot(kept.files));
  made.back().commit.maps = made[1].commit.maps;
  auto base = open_tree_base(t.store, t.keys, t.vault->codec(), made[1].name, made[1].commit, "");
  ASSERT_TRUE(base);
  // The second snapshot's index still knows where the first one's chunk stands, if its run was not merged
  // away; the second snapshot does not need it, so the third must not have referred to it unless it stored it
  // anew.
  for (const LivePack& pack : made[2].live.packs) {
    const bool is_own = names::owner_of(pack.name) == made[2].commit.session;
    const auto in_base = std::ranges::find(base->live.packs, pack.name, &LivePack::name);
    EXPECT_TRUE(is_own || in_base != base->live.packs.end()) << pack.name;
  }
  forget_all_but(made[2]);
  EXPECT_EQ(*read_back(made[2]), kept.files);
}

TEST_F(TreeWriterTest, V27_a_tree_out_of_order_is_refused) {
  const auto see = [](std::vector<TreeEntry> entries) {
    TreeOrder order;
    for (const TreeEntry& entry : entries) {
      if (auto seen = order.see(entry); !seen) return seen;
    }
    return Result<void>{};
  };
  const auto folder = [](std::string path) {
    return TreeEntry{.path = std::move(path), .type = EntryType::kDirectory};
  };
  const auto link = [](std::string path) {
    return TreeEntry{.path = std::move(path), .type = EntryType::kSymlink};
  };
  EXPECT_TRUE(see({folder("a"), folder("a/b"), link("a/b/c"), link("a/c"), link("a.b")}));
  EXPECT_FALSE(see({folder("a"), link("a/b"), link("a/b/c")})) << "below a link";
  EXPECT_FALSE(see({folder("a"), link("b/c")})) << "no folder above it";
  EXPECT_FALSE(see({folder("b"), folder("a")}));
  EXPECT_FALSE(see({folder("a"), link("a/b"), link("a/b")}));
  EXPECT_FALSE(see({folder("a"), folder("ab"), link("a/b")})) << "the folder is over";
  EXPECT_FALSE(see({folder("a"), link("a.b"), link("a/b")})) << "parts are compared, not bytes";
}

TEST_F(TreeWriterTest, V18_small_files_leave_no_sizes_behind) {
  // Two trees whose small files have other sizes and the same sum, so far as a frame's padding tells.
  Files one, two;
  for (int i = 0; i < 20; ++i) {
    one[fmt::format("f{:02}", i)] = t.random.bytes(1000);
    two[fmt::format("f{:02}", i)] = t.random.bytes(i % 2 == 0 ? 500 : 1500);
  }
  ASSERT_TRUE(snapshot(one, false, 1));
  ASSERT_TRUE(snapshot(two, false, 1));
  const auto shape = [&](const MadeTree& tree) {
    std::vector<uint32_t> sizes;
    for (const LivePack& pack : tree.live.packs) {
      auto reader = PackReader::open(t.store, t.keys, pack.name, &pack);
      for (const FrameEntry& frame : (*reader)->frames()) {
        if (frame.type == FrameType::kBytes) sizes.push_back(frame.plain_bytes);
      }
    }
    return sizes;
  };
  EXPECT_EQ(shape(made[0]), shape(made[1]));
  // The index says in which frame, and not where in it: of chunks that follow each other, the veiled offsets
  // are no offsets.
  auto index = ChunkIndex::open(t.store, t.keys, made[0].commit.maps, "");
  ASSERT_TRUE(index);
  const ChunkNamer namer(t.keys);
  std::set<uint32_t> veiled, plain;
  for (const auto& [path, bytes] : one) {
    const ChunkName name = namer.name(bytes);
    auto place = (*index)->find(name.id);
    ASSERT_TRUE(place && *place);
    veiled.insert((*place)->offset);
    plain.insert((*place)->offset ^ name.veil);
  }
  for (uint32_t i = 0; i < 20; ++i) EXPECT_TRUE(plain.contains(i * 1000));
  EXPECT_LT(std::ranges::count_if(veiled, [](uint32_t at) { return at % 500 == 0 && at <= 20'000; }), 3);
}

// --- a lost chunk index ----------------------------------------------------------------------------------

constexpr uint64_t kRootBytesMax = 4000;  // what a snapshot puts that stores nothing but its root

struct LostIndexTest : TreeWriterTest {
  Files files;
  LostIndexTest() {
    mends = true;
    mutate(files, 150);
    EXPECT_TRUE(snapshot(files));
    // Little, so that it is a run of its own.
    files["d0/new"] = t.random.bytes(900'000);
    files["d0/small"] = t.random.bytes(900);
    EXPECT_TRUE(snapshot(files));
    EXPECT_EQ(made.back().commit.maps.size(), 2u);
  }
  void lose(const ObjectRef& run) { t.store.objects.erase(run.name); }
};

TEST_F(LostIndexTest, a_lost_or_torn_index_is_found_again_and_nothing_is_stored_twice) {
  const std::vector<ObjectRef> runs = made.back().commit.maps;
  const auto kept = t.store.objects;
  const std::vector<MadeTree> before = made;
  const std::vector<std::pair<const char*, std::function<void()>>> faults_of_the_index = {
      {"all gone",
       [&] {
         for (const ObjectRef& run : runs) lose(run);
       }},
      {"the newest gone", [&] { lose(runs.front()); }},
      {"the oldest gone", [&] { lose(runs.back()); }},
      {"a bit flipped", [&] { t.store.objects[runs.back().name][runs.back().size / 2] ^= 1; }},
      {"torn", [&] { t.store.objects[runs.front().name].resize(runs.front().size / 2); }},
      {"empty",
       [&] {
         for (const ObjectRef& run : runs) t.store.objects[run.name].clear();
       }},
      {"swapped", [&] { std::swap(t.store.objects[runs[0].name], t.store.objects[runs[1].name]); }},
  };
  for (const auto& [what, lose_some] : faults_of_the_index) {
    for (const size_t batch : {kMendBatchChunks, size_t{9}}) {
      SCOPED_TRACE(fmt::format("{}, {} a batch", what, batch));
      t.store.objects = kept;
      made = before;
      lose_some();
      batch_chunks = batch;
      auto tree = snapshot(files);
      ASSERT_TRUE(tree) << tree.error().what;
      EXPECT_FALSE(lost.empty());
      EXPECT_GT(mended.chunks, 0u);
      EXPECT_EQ(mended.unreadable, 0u);
      EXPECT_LT(bytes_put(), kRootBytesMax);
      EXPECT_EQ((*tree)->known, size_of(files));
      EXPECT_LE((*tree)->commit.maps.size(), kMapsMax);
      expect_whole_index();
      // And from here on it is as if nothing had been.
      ASSERT_TRUE(snapshot(files));
      EXPECT_TRUE(lost.empty());
      EXPECT_LT(made.back().commit.added_bytes, kRootBytesMax);
      EXPECT_EQ(made.back().known, size_of(files));
      forget_all_but(made.back());
      auto back = read_back(made.back());
      ASSERT_TRUE(back) << back.error().what;
      EXPECT_TRUE(*back == files);
    }
  }
}

TEST_F(LostIndexTest, only_frames_are_read_that_nothing_else_tells_of) {
  lose(made.back().commit.maps.front());
  ASSERT_TRUE(snapshot(files));
  // A large chunk, a frame of small ones, and the segments that changed with them.
  EXPECT_GE(mended.frames, 3u);
  EXPECT_LE(mended.frames, 6u);
  const uint64_t few = mended.frames;
  for (const ObjectRef& run : made.back().commit.maps) lose(run);
  ASSERT_TRUE(snapshot(files));
  EXPECT_GT(mended.frames, 3 * few);
}

TEST_F(LostIndexTest, who_may_not_read_stores_once_more_what_is_met_again) {
  mends = false;
  const MadeTree base = made.back();
  lose(base.commit.maps.back());
  auto tree = snapshot(files);
  ASSERT_TRUE(tree) << tree.error().what;
  EXPECT_GT(bytes_put(), size_of(files) / 2) << "the test loses nothing";
  EXPECT_GE((*tree)->known, 900'000u) << "of the run that is left";
  expect_whole_index();
  ASSERT_TRUE(snapshot(files));
  EXPECT_LT(made.back().commit.added_bytes, kRootBytesMax);
  forget_all_but(made.back());
  EXPECT_TRUE(*read_back(made.back()) == files);
}

TEST_F(LostIndexTest, a_frame_that_is_damaged_as_well_is_stored_again) {
  for (const ObjectRef& run : made.back().commit.maps) lose(run);
  // The pack of the newest content; the tree lies in another.
  const auto place = [&]() -> std::string {
    auto reader =
        SnapshotReader::open(t.store, t.keys, t.vault->codec(), made.back().name, made.back().commit);
    auto node = (*reader)->find("d0/new");
    return (*reader)->live().packs[(*node)->extents.front().pack].name;
  }();
  const LivePack* pack = &*std::ranges::find(made.back().live.packs, place, &LivePack::name);
  auto shape = read_pack_shape(t.store, t.keys, place, *pack);
  ASSERT_TRUE(shape);
  for (const FrameEntry& frame : shape->frames) {
    if (frame.type == FrameType::kBytes) t.store.objects[place][frame.offset + frame.stored_bytes / 2] ^= 1;
  }
  ASSERT_TRUE(snapshot(files));
  EXPECT_GE(mended.unreadable, 1u);
  EXPECT_GT(bytes_put(), 900'000u);
  EXPECT_TRUE(*read_back(made.back()) == files);
}

TEST_F(LostIndexTest, killed_at_every_call_of_the_store_it_is_found_again_by_the_next) {
  for (const ObjectRef& run : made.back().commit.maps) lose(run);
  batch_chunks = 10;
  const auto kept = t.store.objects;
  const std::vector<MadeTree> before = made;
  int killed = 0;
  for (int call = 0;; call += kIsSanitized ? 5 : 1) {
    t.store.objects = kept;
    made = before;
    store.left = call;
    auto tree = snapshot(files, true, 1);
    store.left = INT_MAX;
    if (tree) break;
    ++killed;
    EXPECT_EQ(tree.error().kind, ErrorKind::kInterrupted) << tree.error().what;
    // What was there is there as it was, and the next does it all.
    for (const auto& [name, bytes] : kept) ASSERT_TRUE(t.store.objects.at(name) == bytes) << name;
    if (call % 4 != 0) continue;
    ASSERT_TRUE(snapshot(files));
    EXPECT_LT(bytes_put(), kRootBytesMax);
    expect_whole_index();
    forget_all_but(made.back());
    auto back = read_back(made.back());
    ASSERT_TRUE(back) << call << ": " << back.error().what;
    EXPECT_TRUE(*back == files) << call;
  }
  EXPECT_GT(killed, kIsSanitized ? 4 : 20);
}

TEST_F(LostIndexTest, V24_what_only_the_cache_has_is_put_into_the_next_run) {
  const TemporaryFolder cache = *TemporaryFolder::make("kuramori-test-");
  cache_folder = cache.path();
  ASSERT_TRUE(snapshot(files));  // fills the cache
  const std::vector<ObjectRef> runs = made.back().commit.maps;
  for (const ObjectRef& run : runs) lose(run);
  ASSERT_TRUE(snapshot(files));
  EXPECT_TRUE(lost.empty()) << "nothing had to be read";
  EXPECT_EQ(made.back().known, size_of(files));
  EXPECT_LT(bytes_put(), kRootBytesMax);
  expect_whole_index();
  for (const ObjectRef& run : runs) EXPECT_EQ(std::ranges::count(made.back().commit.maps, run), 0);

  // Where what is cached is no longer whole either, frames are read.
  for (const ObjectRef& run : made.back().commit.maps) lose(run);
  const auto cached = list_folder(cache.path());
  ASSERT_TRUE(cached);
  for (const FolderEntry& file : *cached) {
    Bytes bytes = *read_file(cache / file.name);
    bytes[bytes.size() / 2] ^= 1;
    ASSERT_TRUE(write_file_durably(cache / file.name, bytes));
  }
  ASSERT_TRUE(snapshot(files));
  EXPECT_FALSE(lost.empty());
  EXPECT_LT(bytes_put(), kRootBytesMax);
  expect_whole_index();
  EXPECT_TRUE(*read_back(made.back()) == files);
}

// --- what the machine remembers ------------------------------------------------------------------------

struct TreeCacheTest : testing::Test {
  test::SeededRandom random{5};
  KeyBundle keys = KeyBundle::new_owner("test", random);
  TemporaryFolder folder = std::move(*TemporaryFolder::make("kuramori-test-"));
  std::string path = folder / "memory";

  static CachedNode node(uint32_t number) {
    CachedNode cached{
        .node = {.entry = {.path = fmt::format("d/f{:06}", number),
                           .content = ContentKind::kBytes,
                           .size = number},
                 .extents = {{.pack = number % 3, .frame = number, .offset = 1, .bytes = number}},
                 .digest = Digest{}},
        .stamp = {.device = 1, .inode = number, .ctime_ns = -int64_t{number}}};
    return cached;
  }
  void write(uint32_t count) {
    auto writer = TreeCacheWriter::create(path, keys, random);
    ASSERT_TRUE(writer) << writer.error().what;
    for (uint32_t i = 0; i < count; ++i) {
      EXPECT_EQ((*writer)->pack(fmt::format("pack {}", i % 3)), i % 3);
      const CachedNode cached = node(i);
      ASSERT_TRUE((*writer)->add(cached.node, cached.stamp));
    }
    ASSERT_TRUE((*writer)->keep());
  }
  // All nodes, or the error.
  Result<uint32_t> read(const KeyBundle& with) {
    TRY_ASSIGN(const auto reader, TreeCacheReader::open(path, with));
    for (uint32_t count = 0;; ++count) {
      TRY_ASSIGN(const auto next, reader->next());
      if (!next) return count;
      const CachedNode expected = node(count);
      if (next->node != expected.node || next->stamp != expected.stamp)
        return fail(ErrorKind::kFailed, "another node");
    }
  }
};

TEST_F(TreeCacheTest, gives_back_what_was_put_and_replaces_what_was_there) {
  for (const uint32_t count : {0u, 1u, 20'000u, 3u}) {
    write(count);
    auto back = read(keys);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_EQ(*back, count);
  }
  EXPECT_EQ(list_folder(folder.path())->size(), 1u);
}

TEST_F(TreeCacheTest, an_unfinished_one_leaves_the_older) {
  write(5);
  {
    auto writer = TreeCacheWriter::create(path, keys, random);
    ASSERT_TRUE((*writer)->add(node(0).node, {}));
  }
  EXPECT_EQ(*read(keys), 5u);
  EXPECT_EQ(list_folder(folder.path())->size(), 1u);
}

TEST_F(TreeCacheTest, P67_what_a_full_disk_or_a_kill_leaves_goes) {
  write(5);
  rlimit usual{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &usual), 0);
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit none{.rlim_cur = 0, .rlim_max = usual.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  EXPECT_FALSE(TreeCacheWriter::create(path, keys, random));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &usual), 0);
  EXPECT_EQ(list_folder(folder.path())->size(), 1u);
  const std::string left = path + ".0123456789abcdef", young = path + ".fedcba9876543210",
                    other = path + ".more";
  for (const std::string& one : {left, young, other}) ASSERT_TRUE(write_new_file(one, {}));
  const timespec days_ago[2] = {{.tv_sec = ::time(nullptr) - 8 * 86400, .tv_nsec = 0},
                                {.tv_sec = ::time(nullptr) - 8 * 86400, .tv_nsec = 0}};
  for (const std::string& one : {left, other}) ASSERT_EQ(::utimensat(AT_FDCWD, one.c_str(), days_ago, 0), 0);
  write(6);
  EXPECT_FALSE(*status_if_there(left));
  EXPECT_TRUE(*status_if_there(young));
  EXPECT_TRUE(*status_if_there(other));
  EXPECT_EQ(*read(keys), 6u);
}

TEST_F(TreeCacheTest, V24_damage_makes_it_useless_and_never_wrong) {
  write(9000);
  const Bytes whole = *read_file(path);
  for (int round = 0; round < (kIsSanitized ? 30 : 300); ++round) {
    Bytes damaged = whole;
    if (round % 3 == 0)
      damaged.resize(random.below(whole.size()));
    else
      damaged[random.below(whole.size())] ^= static_cast<uint8_t>(1 + random.below(255));
    ASSERT_TRUE(write_file_durably(path, damaged));
    auto back = read(keys);
    ASSERT_FALSE(back);
    EXPECT_NE(back.error().kind, ErrorKind::kFailed) << "it gave what was not put";
  }
  // Blocks of one file in another's place, and of another key.
  ASSERT_TRUE(write_file_durably(path, whole));
  EXPECT_FALSE(read(KeyBundle::new_owner("other", random)));
  EXPECT_EQ(*read(keys), 9000u);
}

}  // namespace
}  // namespace kuramori
