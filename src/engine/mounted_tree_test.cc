// Trees as a filesystem asks for them, held against the model they were made of: every name, every attribute,
// every byte, in any order, by several threads; and what is damaged is never other bytes.
#include "engine/mounted_tree.h"

#include <gtest/gtest.h>

#include <map>

#include "base/sanitized.h"
#include "engine/mount.h"
#include "vault/test_support.h"
#include "vault/tree_writer.h"

namespace kuramori {
namespace {

using test::TestVault;

struct ModelEntry {
  TreeEntry entry;
  Bytes bytes;                                    // as they are read
  std::vector<std::pair<uint64_t, bool>> pieces;  // how they are stored: lengths, and whether it is a hole
};

struct MountedTreeTest : testing::Test {
  TestVault t{23};
  MountMemory memory;
  std::map<std::string, ModelEntry> model;  // by path below the root
  std::string commit_name;
  CommitRecord commit;

  void folder(const std::string& path) {
    model[path] = {.entry = {.path = path, .type = EntryType::kDirectory, .mode = 0750, .mtime_ns = 5},
                   .bytes = {},
                   .pieces = {}};
  }
  // `holes`: after each stretch of random bytes one of zeros that take no place.
  void file(const std::string& path, size_t size, size_t holes = 0) {
    ModelEntry made{.entry = {.path = path, .content = ContentKind::kBytes, .mode = 0640, .mtime_ns = -7},
                    .bytes = t.random.bytes(size),
                    .pieces = {{size, false}}};
    for (size_t i = 0; i < holes; ++i) {
      made.bytes.resize(made.bytes.size() + 300'000);
      made.pieces.emplace_back(300'000, true);
      append(made.bytes, t.random.bytes(10'000));
      made.pieces.emplace_back(10'000, false);
    }
    made.entry.size = made.bytes.size();
    made.entry.attributes = {{"user.k", path}};
    model[path] = std::move(made);
  }
  void other(const std::string& path, EntryType type, const std::string& link) {
    model[path] = {
        .entry = {.path = path, .type = type, .mode = 0777, .link = link}, .bytes = {}, .pieces = {}};
  }

  void write() {
    SessionId sid = t.random.id<SessionId>();
    const SnapshotId id = t.random.id<SnapshotId>();
    commit_name = names::commit(t.resource.id, id, sid);
    TreeWriter writer(t.store, t.keys, t.random, t.clock, sid, t.resource.id, nullptr);
    std::vector<const ModelEntry*> order;
    for (const auto& [path, one] : model) order.push_back(&one);
    std::ranges::sort(order,
                      [](const auto* a, const auto* b) { return tree_order(a->entry.path, b->entry.path); });
    auto lane = writer.lane();
    std::vector<StoredContent> contents;
    for (const ModelEntry* one : order) {
      StoredContent& content = contents.emplace_back();
      if (one->entry.content != ContentKind::kBytes) continue;
      uint64_t at = 0;
      for (const auto& [bytes, is_hole] : one->pieces) {
        ASSERT_TRUE(is_hole ? lane->add_hole(bytes) : lane->add(ByteView(one->bytes).subspan(at, bytes)));
        at += bytes;
      }
      content = *lane->end();
    }
    ASSERT_TRUE(lane->finish());
    ASSERT_TRUE(writer.add_entry({.path = "content", .type = EntryType::kDirectory, .mode = 0711}, {}));
    for (size_t i = 0; i < order.size(); ++i) {
      TreeEntry entry = order[i]->entry;
      entry.path = "content/" + entry.path;
      if (entry.type == EntryType::kHardLink) entry.link = "content/" + entry.link;
      ASSERT_TRUE(writer.add_entry(entry, contents[i]));
    }
    ASSERT_TRUE(writer.add_entry({.path = "kuramori", .type = EntryType::kDirectory, .mode = 0700}, {}));
    commit.snapshot = id;
    commit.session = sid;
    commit.resource = t.resource.id;
    commit.kind = "files";
    uint32_t maps = 0;
    auto live = writer.finish(commit, [&] { return names::map(sid, maps++); });
    ASSERT_TRUE(live) << live.error().what;
    const std::string live_name = names::live(sid);
    const Bytes object = t.vault->codec().encode(RecordType::kLive, live_name, t.resource.id, encode(*live));
    commit.live = {.name = live_name, .size = object.size(), .digest = sha256(object)};
    ASSERT_TRUE(t.store.put_if_absent(live_name, object));
  }

  Result<std::unique_ptr<MountedTree>> open() {
    TRY_ASSIGN(auto reader, SnapshotReader::open(t.store, t.keys, t.vault->codec(), commit_name, commit));
    MountedTreeOptions options;
    options.root = "content";
    return MountedTree::open(std::move(reader), std::move(options), memory);
  }

  static std::string joined(const std::string& folder, std::string_view name) {
    return folder.empty() ? std::string(name) : folder + "/" + std::string(name);
  }

  // All that listing shows, asked for `at_once` entries a time.
  void walk(MountedTree& tree, NodeId folder, const std::string& path, size_t at_once,
            std::map<std::string, NodeId>& found) {
    uint64_t from = 0;
    std::vector<std::pair<std::string, MountedNode>> all;
    for (;;) {
      size_t count = 0;
      auto done = tree.list(folder, from, [&](const MountedTree::Listed& one) -> Result<bool> {
        if (count == at_once) return false;
        ++count;
        all.emplace_back(one.name, one.node);
        from = one.next;
        return true;
      });
      ASSERT_TRUE(done) << done.error().what;
      if (count < at_once) break;
    }
    for (const auto& [name, node] : all) {
      const std::string full = joined(path, name);
      EXPECT_TRUE(found.emplace(full, node.id).second) << full << " is listed twice";
      if (node.entry().type == EntryType::kDirectory) walk(tree, node.id, full, at_once, found);
    }
  }

  Bytes read_all(MountedTree& tree, NodeId id, size_t piece) {
    auto file = tree.open_file(id);
    EXPECT_TRUE(file);
    Bytes all, buffer(piece);
    for (;;) {
      auto got = tree.read(**file, all.size(), buffer);
      EXPECT_TRUE(got) << got.error().what;
      if (!got || *got == 0) return all;
      append(all, ByteView(buffer).first(*got));
    }
  }
};

TEST_F(MountedTreeTest, shows_what_was_stored_by_name_and_in_order) {
  // Names whose order as bytes is not that of a tree; a wide folder, a deep one, and one that is empty.
  for (const char* path : {"a", "a/b", "a.b", "a/b.c", "a/b/c", "empty", "wide", "\xff\xfe"}) folder(path);
  for (int i = 0; i < 3000; ++i) file("wide/" + std::to_string(i), t.random.below(400));
  for (int i = 0; i < 2500; ++i) {
    const std::string inner = "wide/folder" + std::to_string(i % 50);
    folder(inner);
    file(inner + "/" + std::to_string(i), 10);
  }
  file("a/b/c/\xe9t\xe9", 100);
  file("a-first", 10), file("zlast", 0);
  other("link", EntryType::kSymlink, "../../etc/passwd");
  other("wide/second", EntryType::kHardLink, "a-first");
  other("zz", EntryType::kHardLink, "a-first");
  write();
  auto opened = open();
  ASSERT_TRUE(opened) << opened.error().what;
  MountedTree& tree = **opened;
  EXPECT_GT(tree.commit().tree.size(), 0u);
  EXPECT_EQ(tree.node(kRootNode)->entry().mode, 0711u);
  for (const size_t at_once : {1u, 7u, 100'000u}) {
    std::map<std::string, NodeId> found;
    walk(tree, kRootNode, "", at_once, found);
    EXPECT_EQ(found.size(), model.size());
    for (const auto& [path, one] : model) {
      ASSERT_TRUE(found.contains(path)) << path;
      auto node = tree.node(found[path]);
      ASSERT_TRUE(node);
      const bool is_link = one.entry.type == EntryType::kHardLink;
      const TreeEntry& wanted = is_link ? model["a-first"].entry : one.entry;
      TreeEntry shown = node->entry();
      EXPECT_EQ(tree.shown_path(*node), wanted.path);
      shown.path = wanted.path;
      EXPECT_EQ(shown, wanted);
      EXPECT_EQ(node->links, wanted.path == "a-first" ? 3u : 1u) << path;
    }
  }
  // By name, from the root down.
  for (const auto& [path, one] : model) {
    NodeId at = kRootNode;
    for (size_t from = 0; from <= path.size();) {
      const size_t slash = std::min(path.find('/', from), path.size());
      auto next = tree.lookup(at, path.substr(from, slash - from));
      ASSERT_TRUE(next && *next) << path;
      at = (*next)->id;
      from = slash + 1;
    }
    EXPECT_EQ(tree.node(at)->entry().mode, one.entry.type == EntryType::kHardLink ? 0640u : one.entry.mode);
  }
  // V27: names lead to what the folder has, and nowhere else.
  for (const char* name : {"", ".", "..", "a/b", "a/", "/", "nothing", "zlast/x"}) {
    auto none = tree.lookup(kRootNode, name);
    ASSERT_TRUE(none);
    EXPECT_FALSE(*none) << name;
  }
  EXPECT_FALSE(*tree.lookup((*tree.lookup(kRootNode, "link"))->id, "passwd"))
      << "nothing is looked up through a link";
  // Numbers that no entry has.
  for (const NodeId id : {NodeId{1} << 19, NodeId{5'000'000} << 20, kRootNode - 1})
    EXPECT_FALSE(tree.node(id));
}

TEST_F(MountedTreeTest, reads_at_any_offset_what_was_stored) {
  file("small", 3000), file("empty", 0), file("big", 5'000'000), file("sparse", 1000, 6),
      file("beside", 200'000);
  write();
  auto opened = open();
  ASSERT_TRUE(opened);
  MountedTree& tree = **opened;
  for (const auto& [path, one] : model) {
    const NodeId id = (*tree.lookup(kRootNode, path))->id;
    for (const size_t piece : {4096u, 131'072u, 999'983u})
      EXPECT_EQ(read_all(tree, id, piece), one.bytes) << path;
    EXPECT_EQ(tree.node(id)->allocated(), path == "sparse" ? 61'000u : one.bytes.size());
  }
  // Several threads, one file: each its own places of it.
  const NodeId big = (*tree.lookup(kRootNode, "sparse"))->id;
  auto file = *tree.open_file(big);
  const Bytes& bytes = model["sparse"].bytes;
  std::vector<std::jthread> threads;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      test::SeededRandom random(seed);
      for (int i = 0; i < 500; ++i) {
        Bytes out(random.below(9000) + 1);
        const uint64_t at = random.below(bytes.size() + 5000);
        auto got = tree.read(*file, at, out);
        ASSERT_TRUE(got);
        ASSERT_EQ(*got, at >= bytes.size() ? 0 : std::min<size_t>(out.size(), bytes.size() - at));
        const uint64_t from = std::min<uint64_t>(at, bytes.size());
        ASSERT_TRUE(equal(ByteView(out).first(*got), ByteView(bytes).subspan(from, *got)));
      }
    });
  }
  threads.clear();
  using enum MountedTree::Seek;
  EXPECT_EQ(tree.seek(*file, 0, kData), 0u);
  EXPECT_EQ(tree.seek(*file, 0, kHole), 1000u);
  EXPECT_EQ(tree.seek(*file, 1500, kData), 301'000u);
  EXPECT_EQ(tree.seek(*file, bytes.size() - 1, kHole), bytes.size());
  EXPECT_FALSE(tree.seek(*file, bytes.size(), kHole));
  EXPECT_FALSE(tree.open_file(kRootNode));
}

TEST_F(MountedTreeTest, a_clusters_pages_are_read_in_order_and_here_and_there) {
  test::Model cluster;
  for (int i = 0; i < 30; ++i) test::mutate(cluster, t.random, 3);
  for (uint64_t n = 0; n < 600; ++n) append(cluster["base/0"].bytes, test::random_page(t.random));
  cluster["base/0"].content = ContentKind::kPages;
  ASSERT_TRUE(t.snapshot(cluster));
  test::mutate(cluster, t.random, 6);
  auto made = t.snapshot(cluster);
  ASSERT_TRUE(made);
  auto reader = SnapshotReader::open(t.store, t.keys, t.vault->codec(), (*made)->name, (*made)->commit);
  ASSERT_TRUE(reader);
  MountedTreeOptions options;
  options.shows = [](const TreeEntry& entry) { return entry.path != "empty"; };
  options.may_have_links = false;
  auto opened = MountedTree::open(std::move(*reader), std::move(options), memory);
  ASSERT_TRUE(opened) << opened.error().what;
  MountedTree& tree = **opened;
  std::map<std::string, NodeId> found;
  walk(tree, kRootNode, "", 5, found);
  EXPECT_FALSE(found.contains("empty"));
  EXPECT_EQ(tree.node(found.at("link"))->entry().link, "../else");
  for (const auto& [path, file] : cluster) {
    if (path == "empty") continue;
    ASSERT_TRUE(found.contains(path)) << path;
    for (const size_t piece : {4096u, 8192u, 131'072u})
      EXPECT_EQ(read_all(tree, found[path], piece), file.bytes) << path;
    auto one = *tree.open_file(found[path]);
    for (int i = 0; i < 200 && !file.bytes.empty(); ++i) {
      Bytes out(4096);
      const uint64_t at = t.random.below(file.bytes.size());
      auto got = tree.read(*one, at, out);
      ASSERT_TRUE(got);
      EXPECT_TRUE(equal(ByteView(out).first(*got), ByteView(file.bytes).subspan(at, *got)));
    }
  }
}

// V24: what is held open is what was opened and verified; what cannot be verified is an error, and never
// held.
TEST_F(MountedTreeTest, V24_no_flipped_bit_ever_comes_out) {
  for (int i = 0; i < 20; ++i) file("f" + std::to_string(i), 60'000 + t.random.below(600'000));
  write();
  const auto sound = t.store.objects;
  constexpr int kRounds = kIsSanitized ? 12 : 60;
  int refused = 0, whole = 0;
  for (int round = 0; round < kRounds; ++round) {
    t.store.objects = sound;
    for (auto& [name, object] : t.store.objects) {
      if (!name.starts_with("packs/")) continue;
      for (int flips = 0; flips < 2; ++flips)
        object[t.random.below(object.size())] ^= 1u << t.random.below(8);
    }
    MountMemory fresh;
    auto reader = SnapshotReader::open(t.store, t.keys, t.vault->codec(), commit_name, commit);
    if (!reader) {
      ++refused;
      continue;
    }
    MountedTreeOptions options;
    options.root = "content";
    auto opened = MountedTree::open(std::move(*reader), std::move(options), fresh);
    if (!opened) continue;
    for (const auto& [path, one] : model) {
      auto node = (*opened)->lookup(kRootNode, path);
      auto handle = node && *node ? (*opened)->open_file((*node)->id)
                                  : Result<std::shared_ptr<MountedTree::File>>(fail(ErrorKind::kDamaged, ""));
      for (uint64_t at = 0; handle && at < one.bytes.size(); at += 50'000) {
        Bytes out(50'000);
        auto got = (*opened)->read(**handle, at, out);
        if (!got) {
          EXPECT_EQ(got.error().kind, ErrorKind::kDamaged);
          ++refused;
          continue;
        }
        ++whole;
        ASSERT_TRUE(equal(ByteView(out).first(*got), ByteView(one.bytes).subspan(at, *got))) << path;
      }
    }
  }
  EXPECT_GT(refused, kRounds * 5 / 6);
  EXPECT_GT(whole, kRounds * 1000 / 60);
}

TEST(MountNames, folders_are_named_by_their_time_and_stay_in_order) {
  std::vector<Snapshot> snapshots(4);
  const int64_t at = 1'795'316'400'000'000'000;  // 2026-11-22T03:00:00Z
  const int64_t starts[] = {at - 1, at, at + 1, at + 999'999'999};
  for (size_t i = 0; i < 4; ++i) {
    snapshots[i].commit.started_ns = starts[i];
    snapshots[i].commit.snapshot.raw[0] = static_cast<uint8_t>(200 - i);
  }
  const auto names = folder_names(snapshots);
  EXPECT_EQ(names[0], "2026-11-22T02-59-59Z");
  EXPECT_EQ(names[1], "2026-11-22T03-00-00Z");
  EXPECT_EQ(names[2], "2026-11-22T03-00-00Z-002-c600000000000000");
  EXPECT_EQ(names[3], "2026-11-22T03-00-00Z-003-c500000000000000");
  EXPECT_TRUE(std::ranges::is_sorted(names));
}

}  // namespace
}  // namespace kuramori
