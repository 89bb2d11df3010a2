// Trees in segments, held to docs/vault-format.md: trees.py, which shares no code with the program, brings
// back what the program wrote, and refuses what the document says must be refused. And a vault of long ago
// with such trees in it opens for ever.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "os/file.h"
#include "vault/scrub.h"
#include "vault/session_packs.h"
#include "vault/tree_writer.h"
#include "vault_files.h"

namespace kuramori {
namespace {

using namespace test;

// One entry and its content: stretches of bytes, and of holes where there are none.
struct Stretch {
  Bytes bytes;
  uint64_t hole = 0;
};
struct Made {
  TreeEntry entry;
  std::vector<Stretch> content;
  Digest digest;  // as the program computed it
};
using Entries = std::vector<Made>;

Bytes flat(const Made& made) {
  Bytes bytes;
  for (const Stretch& stretch : made.content) {
    append(bytes, stretch.bytes);
    bytes.resize(bytes.size() + stretch.hole);
  }
  return bytes;
}

std::string percent(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = isalnum(static_cast<unsigned char>(c)) != 0 ||
                       std::string_view("_.-~/").find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

// As `trees.py list` prints it.
std::string line_of(const TreeEntry& e, const std::optional<Digest>& digest) {
  std::string attributes;
  for (const auto& [name, value] : e.attributes)
    attributes +=
        fmt::format("{}{}={}", attributes.empty() ? "" : ",", percent(name), to_hex(as_bytes(value)));
  return fmt::format("{} {:04o} {} {} {} {} {} {} {} {}{}{}\n", static_cast<int>(e.type), e.mode, e.uid,
                     e.gid, e.mtime_ns, e.size, e.rdev, digest ? digest->hex() : "-",
                     attributes.empty() ? "-" : attributes, percent(e.path), e.link.empty() ? "" : " ",
                     percent(e.link));
}
std::string lines_of(const Entries& entries) {
  std::string lines;
  for (const Made& made : entries) {
    const bool has = made.entry.content == ContentKind::kBytes;
    lines += line_of(made.entry, has ? std::optional(made.digest) : std::nullopt);
  }
  return lines;
}

struct TreeFormat : testing::Test {
  std::optional<TestVault> vault;
  std::optional<TemporaryFolder> folder;
  std::optional<TreeBase> base;
  std::vector<std::pair<std::string, CommitRecord>> commits;
  std::string last;

  void SetUp() override {
    ASSERT_EQ(access(KURAMORI_PYTHON3, X_OK), 0) << "the reader needs Debian's python3";
    folder.emplace(*TemporaryFolder::make("kuramori-trees"));
  }

  SessionId new_session() {
    SessionId sid = vault->random.id<SessionId>();
    const SignerId signer = signer_id(vault->keys.signing->verify_key());
    std::copy_n(signer.raw.begin(), 4, sid.raw.begin());
    return sid;
  }

  // Puts the live record and the commit; the snapshot's id.
  Result<std::string> put_commit(const SessionId& sid, CommitRecord commit, const LiveRecord& live) {
    TestVault& t = *vault;
    commit.snapshot = t.random.id<SnapshotId>();
    commit.session = sid;
    commit.resource = t.resource.id;
    commit.kind = "files";
    const std::string name = names::commit(t.resource.id, commit.snapshot, sid);
    SessionRecord session{.closed = true, .commit_key = name, .resource = t.resource.id};
    if (!commits.empty()) {
      session.parents = commit.parents = {commits.back().first};
      commit.previous = commits.back().first;
      TRY_ASSIGN(const Bytes before, t.store.get(commit.previous));
      commit.previous_digest = sha256(before);
    }
    TRY(t.vault->put(RecordType::kSession, names::session(sid), t.resource.id, encode(session)));
    const std::string live_name = names::live(sid);
    const Bytes object = t.vault->codec().encode(RecordType::kLive, live_name, t.resource.id, encode(live));
    commit.live = {.name = live_name, .size = object.size(), .digest = sha256(object)};
    TRY(t.store.put_if_absent(live_name, object));
    TRY(t.vault->put(RecordType::kCommit, name, t.resource.id, encode(commit)));
    commits.emplace_back(name, commit);
    return commit.snapshot.hex();
  }

  // One snapshot by the program, on the one before.
  Result<std::string> snapshot(Entries& entries) {
    TestVault& t = *vault;
    const SessionId sid = new_session();
    if (!commits.empty()) {
      TRY_ASSIGN(base, open_tree_base(t.store, t.keys, t.vault->codec(), commits.back().first,
                                      commits.back().second, ""));
    }
    TreeWriter writer(t.store, t.keys, t.random, t.clock, sid, t.resource.id, base ? &*base : nullptr);
    std::vector<StoredContent> stored(entries.size());
    auto lane = writer.lane();
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].entry.content != ContentKind::kBytes) continue;
      for (const Stretch& stretch : entries[i].content) {
        TRY(lane->add(stretch.bytes));
        if (stretch.hole > 0) TRY(lane->add_hole(stretch.hole));
      }
      TRY_ASSIGN(stored[i], lane->end());
      entries[i].digest = stored[i].digest;
    }
    TRY(lane->finish());
    for (size_t i = 0; i < entries.size(); ++i) TRY(writer.add_entry(entries[i].entry, stored[i]));
    CommitRecord commit;
    uint32_t maps = 0;
    TRY_ASSIGN(const LiveRecord live, writer.finish(commit, [&] { return names::map(sid, maps++); }));
    return put_commit(sid, std::move(commit), live);
  }

  void lay_out() {
    ASSERT_TRUE(remove_tree(*folder / "vault"));
    ASSERT_TRUE(write_objects(vault->store, *folder / "vault"));
    ASSERT_TRUE(write_file_durably(*folder / "key",
                                   as_bytes(*write_bundle(vault->keys, nullptr, {}, vault->random))));
  }

  int run(const std::string& program, const std::vector<std::string>& arguments) {
    return run_on(program, *folder / "vault", *folder / "key", arguments);
  }
  int run_on(const std::string& program, const std::string& at, const std::string& key,
             const std::vector<std::string>& arguments) {
    std::string command = fmt::format("'{}' '{}' '{}' '{}'", KURAMORI_PYTHON3, program, at, key);
    for (const std::string& argument : arguments) command += " '" + argument + "'";
    FILE* pipe = popen((command + " 2>&1").c_str(), "r");
    last.clear();
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) last.append(buffer, n);
    return WEXITSTATUS(pclose(pipe));
  }

  void expect_restored(const std::string& target, const Entries& entries) {
    std::set<std::string> expected;
    for (const Made& made : entries) {
      const TreeEntry& e = made.entry;
      expected.insert(e.path);
      const std::string place = target + "/" + e.path;
      struct stat is{};
      ASSERT_EQ(::lstat(place.c_str(), &is), 0) << percent(e.path);
      if (e.type == EntryType::kHardLink) {
        struct stat first{};
        ASSERT_EQ(::lstat((target + "/" + e.link).c_str(), &first), 0);
        EXPECT_EQ(is.st_ino, first.st_ino) << percent(e.path);
        continue;
      }
      const mode_t type = e.type == EntryType::kDirectory ? S_IFDIR
                          : e.type == EntryType::kFile    ? S_IFREG
                          : e.type == EntryType::kSymlink ? S_IFLNK
                          : e.type == EntryType::kFifo    ? S_IFIFO
                                                          : S_IFSOCK;
      ASSERT_EQ(is.st_mode & S_IFMT, type) << percent(e.path);
      EXPECT_EQ(int64_t{is.st_mtim.tv_sec} * 1'000'000'000 + is.st_mtim.tv_nsec, e.mtime_ns)
          << percent(e.path);
      if (e.type != EntryType::kSymlink) {
        EXPECT_EQ(is.st_mode & 07777, e.mode) << percent(e.path);
      }
      if (geteuid() == 0) {
        EXPECT_EQ(is.st_uid, e.uid);
      }
      if (e.type == EntryType::kSymlink) {
        EXPECT_EQ(*read_link(place), e.link);
      }
      if (e.type != EntryType::kFile) continue;
      auto bytes = read_file(place);
      ASSERT_TRUE(bytes) << bytes.error().what;
      EXPECT_TRUE(*bytes == flat(made)) << percent(e.path);
      if (e.size > (4u << 20)) {
        EXPECT_LT(static_cast<uint64_t>(is.st_blocks) * 512, e.size / 2);
      }
    }
    std::string all;
    FILE* pipe = popen(fmt::format("cd '{}' && find . -mindepth 1 -print0", target).c_str(), "r");
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) all.append(buffer, n);
    pclose(pipe);
    EXPECT_EQ(static_cast<size_t>(std::count(all.begin(), all.end(), '\0')), expected.size());
  }

  // A tree of all that a tree may hold, with names that sort otherwise than they look.
  Entries random_entries(size_t files) {
    SeededRandom& random = vault->random;
    std::map<std::string, Made> made;
    std::vector<std::string> folders{"content"};
    const auto put = [&](const std::string& path, EntryType type, uint32_t mode) -> Made& {
      Made& one = made[path];
      one.entry = {.path = path, .type = type, .mode = mode};
      one.entry.uid = geteuid() == 0 ? static_cast<uint32_t>(random.below(5)) : geteuid();
      one.entry.gid = geteuid() == 0 ? static_cast<uint32_t>(random.below(5)) : getegid();
      one.entry.mtime_ns = static_cast<int64_t>(random.below(1ull << 60));
      return one;
    };
    const auto new_path = [&]() {
      const std::string names = "ab.-/\n\xff é_";
      std::string name;
      for (uint64_t n = random.below(12) + 1; n > 0; --n) {
        const char c = names[random.below(names.size())];
        name += c == '/' ? 'z' : c;
      }
      return folders[random.below(folders.size())] + "/n" + name + std::to_string(made.size());
    };
    put("content", EntryType::kDirectory, 0755);
    for (size_t i = 0; i < files; ++i) {
      const std::string path = new_path();
      switch (random.below(12)) {
        case 0:
          put(path, EntryType::kDirectory, 0700);
          folders.push_back(path);
          break;
        case 1:
          put(path, EntryType::kSymlink, 0777).entry.link = "../../" + path;
          break;
        case 2:
          put(path, random.below(2) == 0 ? EntryType::kFifo : EntryType::kSocket, 0640);
          break;
        default: {
          Made& one = put(path, EntryType::kFile, 0600 | static_cast<uint32_t>(random.below(01000)));
          one.entry.content = ContentKind::kBytes;
          one.entry.user = "somebody";
          for (uint64_t n = random.below(30) == 0 ? 3 : 1; n > 0; --n) {
            const bool large = random.below(60) == 0;
            one.content.push_back(
                {.bytes = random.bytes(random.below(large ? 3'000'000 : 3000)),
                 .hole = random.below(50) == 0 ? random.below(12'000'000) / 4096 * 4096 : 0});
          }
          one.entry.attributes = {{"user.noise", std::string(as_text(random.bytes(random.below(1500))))}};
          for (const Stretch& stretch : one.content) one.entry.size += stretch.bytes.size() + stretch.hole;
        }
      }
    }
    Entries entries;
    for (auto& [path, one] : made) entries.push_back(std::move(one));
    std::ranges::sort(entries, tree_order,
                      [](const Made& one) -> std::string_view { return one.entry.path; });
    // Other names of what stands before them.
    for (size_t i = 1; i < entries.size(); ++i) {
      if (entries[i].entry.type != EntryType::kFile || random.below(10) != 0) continue;
      const TreeEntry& first = entries[random.below(i)].entry;
      if (first.type == EntryType::kDirectory || first.type == EntryType::kHardLink) continue;
      entries[i] = {
          .entry = {.path = entries[i].entry.path, .type = EntryType::kHardLink, .link = first.path},
          .content = {},
          .digest = {}};
    }
    return entries;
  }
};

TEST_F(TreeFormat, F1_the_second_reader_restores_every_snapshot_of_a_tree) {
  vault.emplace(81);
  Entries entries = random_entries(1200);
  std::vector<std::pair<std::string, Entries>> made;
  for (int round = 0; round < 3; ++round) {
    auto id = snapshot(entries);
    ASSERT_TRUE(id) << id.error().what;
    made.emplace_back(*id, entries);
    for (Made& one : entries) {
      if (one.entry.content != ContentKind::kBytes || vault->random.below(40) != 0) continue;
      one.content.front().bytes.push_back(7);
      ++one.entry.size;
    }
  }
  auto reader = SnapshotReader::open(vault->store, vault->keys, vault->vault->codec(), commits.back().first,
                                     commits.back().second);
  ASSERT_TRUE(reader) << reader.error().what;
  ASSERT_TRUE((*reader)->is_in_segments());
  std::string nodes;
  for (const Made& one : entries) put_tree_node(nodes, {.entry = one.entry, .extents = {}, .digest = {}});
  ASSERT_GT(nodes.size(), size_t{512} << 10) << "no segment is larger: this tree should have several";
  lay_out();
  for (const auto& [id, wanted] : made) {
    ASSERT_EQ(run(KURAMORI_TREES, {"list", id}), 0) << last;
    EXPECT_EQ(last, lines_of(wanted));
    ASSERT_EQ(run(KURAMORI_TREES, {"restore", id, *folder / id}), 0) << last;
    expect_restored(*folder / id, wanted);
  }
  // A reader that does not know such trees says so, and makes nothing of them.
  EXPECT_EQ(run(KURAMORI_READER, {"restore", made[0].first, *folder / "x"}), 4);
  EXPECT_NE(last.find("in segments"), std::string::npos) << last;
  EXPECT_FALSE(status_of(*folder / "x"));
}

// Each object that the snapshot needs, with a bit flipped: refused, or (a spare copy, the chunk index, which
// no reader needs) restored all the same.
TEST_F(TreeFormat, V24_the_second_reader_never_restores_from_a_tampered_vault) {
  vault.emplace(82);
  Entries entries = random_entries(60);
  ASSERT_TRUE(snapshot(entries));
  auto id = snapshot(entries);
  ASSERT_TRUE(id) << id.error().what;
  lay_out();
  auto live = *vault->vault->read<LiveRecord>(commits.back().second.live.name, RecordType::kLive);
  std::vector<std::string> needed{commits.back().first, commits.back().second.live.name};
  for (const auto& pack : live.packs) needed.push_back(pack.name);
  ASSERT_GT(live.packs.size(), 1u);
  int round = 0, refused = 0;
  for (const std::string& name : needed) {
    const Bytes object = vault->store.objects[name];
    for (size_t at : {size_t{5}, object.size() / 3, object.size() / 2, object.size() - 60}) {
      Bytes bad = object;
      bad[at] ^= 8;
      ASSERT_TRUE(write_file_durably(*folder / ("vault/" + name), bad));
      const std::string target = *folder / fmt::format("t{}", round++);
      if (run(KURAMORI_TREES, {"restore", *id, target}) == 0) {
        expect_restored(target, entries);
      } else {
        ++refused;
        EXPECT_EQ(last.find("Traceback"), std::string::npos) << last;
      }
    }
    ASSERT_TRUE(write_file_durably(*folder / ("vault/" + name), object));
  }
  EXPECT_GT(refused, round / 2);
}

// Trees that no writer of this program makes, from one that holds every key a writer holds.
struct HostileTree : TreeFormat {
  const Bytes content = to_bytes(as_bytes("what stands in the one frame of content"));
  FrameType segment_type = FrameType::kTreeSegment;

  TreeNode folder_node(std::string path) {
    return {.entry = {.path = std::move(path), .type = EntryType::kDirectory, .mode = 0700},
            .extents = {},
            .digest = {}};
  }
  TreeNode file(std::string path) {
    ContentDigest digest;
    digest.add(static_cast<uint32_t>(content.size()), sha256(content));
    return {.entry = {.path = std::move(path),
                      .content = ContentKind::kBytes,
                      .mode = 0600,
                      .size = content.size()},
            .extents = {{.pack = 0, .frame = 0, .offset = 0, .bytes = static_cast<uint32_t>(content.size())}},
            .digest = digest.finish()};
  }
  TreeNode link(std::string path, EntryType type, std::string to) {
    return {.entry = {.path = std::move(path), .type = type, .mode = 0777, .link = std::move(to)},
            .extents = {},
            .digest = {}};
  }

  Result<std::string> put(const std::vector<std::vector<TreeNode>>& segments,
                          const std::function<void(TreeRoot&)>& change = {}) {
    TestVault& t = *vault;
    const SessionId sid = new_session();
    SessionPacks packs(t.store, t.keys, t.random, t.clock, sid, t.resource.id);
    auto lane = packs.lane();
    TRY(lane->write(FrameType::kBytes, content));
    TreeRoot root{.packs = {packs.name_of(0)}, .segments = {}, .entries = 0};
    for (const auto& nodes : segments) {
      TRY_ASSIGN(const FramePlace at,
                 lane->write(segment_type, encode_tree({.packs = root.packs, .nodes = nodes})));
      root.segments.push_back({.pack = 0, .frame = at.frame});
      root.entries += nodes.size();
    }
    if (change) change(root);
    TRY_ASSIGN(const FramePlace at, lane->write(FrameType::kTreeRoot, encode_root(root)));
    TRY(lane->finish());
    TRY(packs.await());
    CommitRecord commit;
    commit.tree.push_back({packs.name_of(0), at.frame, 1});
    LiveRecord live;
    for (const auto& [number, pack] : packs.finished()) live.packs.push_back(pack);
    return put_commit(sid, std::move(commit), live);
  }

  // Whether the program itself refuses it, when it reads it through.
  bool program_refuses() {
    auto reader = SnapshotReader::open(vault->store, vault->keys, vault->vault->codec(), commits.back().first,
                                       commits.back().second);
    return !reader || !(*reader)->visit([](TreeNode&&) -> Result<void> { return {}; });
  }
};

TEST_F(HostileTree, V27_what_must_be_refused_is_refused_before_anything_is_written) {
  vault.emplace(83);
  using Nodes = std::vector<TreeNode>;
  struct Case {
    std::string what;
    std::vector<Nodes> segments;
    std::function<void(TreeRoot&)> change = {};
    bool in_program = true;  // the program finds it when it reads the tree through
  };
  const auto changed = [&](const std::function<void(TreeNode&)>& change) {
    TreeNode node = file("d/f");
    change(node);
    return std::vector<Nodes>{{folder_node("d"), node}};
  };
  const std::vector<Nodes> good{{folder_node("d"), file("d/a")}, {link("d/b", EntryType::kHardLink, "d/a")}};
  std::vector<Case> cases{
      {"a path that leads out", {{folder_node("d"), file("d/../../x")}}},
      {"an absolute path", {{file("/tmp/x")}}},
      {"an empty path", {{file("")}}},
      {"a dot", {{file("./x")}}},
      {"an empty part", {{folder_node("d"), file("d//x")}}},
      {"a path with a NUL", {{file(std::string("a\0b", 3))}}},
      {"a name twice", {{file("a"), file("a")}}},
      {"a name twice, in two segments", {{file("a")}, {file("a")}}},
      {"out of order", {{file("b"), file("a")}}},
      {"out of order, part by part", {{file("a.b"), folder_node("a"), file("a/b")}}},
      {"no folder above", {{file("d/x")}}},
      {"below a link", {{link("d", EntryType::kSymlink, "/tmp"), file("d/x")}}},
      {"below a link, in two segments", {{link("d", EntryType::kSymlink, "/tmp")}, {file("d/x")}}},
      {"below a file", {{file("d"), file("d/x")}}},
      {"a hard link out", {{link("a", EntryType::kHardLink, "../a")}}},
      {"a hard link to an absolute path", {{link("a", EntryType::kHardLink, "/etc/passwd")}}},
      {"a hard link to nothing", {{link("a", EntryType::kHardLink, "b")}}, {}, false},
      {"a hard link to what stands behind it",
       {{link("a", EntryType::kHardLink, "b"), file("b")}},
       {},
       false},
      {"a hard link to a folder", {{folder_node("a"), link("b", EntryType::kHardLink, "a")}}, {}, false},
      {"a type that is none", changed([](TreeNode& n) { n.entry.type = EntryType(9); })},
      {"content of a folder", changed([](TreeNode& n) { n.entry.type = EntryType::kDirectory; })},
      {"pages", changed([](TreeNode& n) {
         n.entry.content = ContentKind::kPages;
         n.extents.clear();
       })},
      {"another size", changed([](TreeNode& n) { ++n.entry.size; })},
      {"no digest", changed([](TreeNode& n) { n.digest.reset(); })},
      {"a digest of no content", changed([](TreeNode& n) {
         n.entry.content = ContentKind::kNone;
         n.extents.clear();
       })},
      {"a pack that is not listed", changed([](TreeNode& n) { n.extents[0].pack = 1; })},
      {"another digest", changed([](TreeNode& n) { n.digest->raw[3] ^= 1; }), {}, false},
      {"beyond the frame's end", changed([](TreeNode& n) { n.extents[0].offset = 1; }), {}, false},
      {"a frame that is not there", changed([](TreeNode& n) { n.extents[0].frame = 1000; }), {}, false},
      {"a segment as content", changed([](TreeNode& n) { n.extents[0].frame = 1; }), {}, false},
      {"another number of entries", good, [](TreeRoot& root) { ++root.entries; }},
      {"a segment left out", good, [](TreeRoot& root) { root.segments.pop_back(); }},
      {"a segment twice", good,
       [](TreeRoot& root) {
         root.segments.insert(root.segments.begin(), root.segments[0]);
         root.entries += 2;
       }},
      {"a segment in no pack", good, [](TreeRoot& root) { root.segments[0].pack = 1; }},
      {"a segment in a pack of nobody", good,
       [](TreeRoot& root) { root.packs[0] = "packs/00/00000000000000000000000000000000-0"; }},
  };
  std::vector<std::pair<std::string, std::string>> ids;
  auto whole = put(good);
  ASSERT_TRUE(whole) << whole.error().what;
  EXPECT_FALSE(program_refuses());
  for (const Case& one : cases) {
    auto id = put(one.segments, one.change);
    ASSERT_TRUE(id) << one.what << ": " << id.error().what;
    EXPECT_EQ(program_refuses(), one.in_program) << one.what;
    ids.emplace_back(one.what, *id);
  }
  segment_type = FrameType::kBytes;
  auto id = put(good);
  ASSERT_TRUE(id);
  ids.emplace_back("content as a segment", *id);

  lay_out();
  ASSERT_EQ(run(KURAMORI_TREES, {"restore", *whole, *folder / "whole"}), 0) << last;
  EXPECT_EQ(*read_file(*folder / "whole/d/b"), content);
  for (const auto& [what, snapshot] : ids) {
    const std::string target = *folder / snapshot;
    EXPECT_EQ(run(KURAMORI_TREES, {"restore", snapshot, target}), 4) << what << ": " << last;
    EXPECT_TRUE(last.starts_with("refused: ")) << what << ": " << last;
    EXPECT_EQ(last.find("Traceback"), std::string::npos) << what << ": " << last;
    // What the tree alone tells is told before the target is made.
    const bool in_content = what == "another digest" || what == "beyond the frame's end" ||
                            what == "a frame that is not there" || what == "a segment as content";
    EXPECT_EQ(status_of(target).has_value(), in_content) << what;
  }
}

// Made once with KURAMORI_ACCEPT=1; from then on no change of the program may make it unreadable.
TEST_F(TreeFormat, the_golden_trees_are_read_for_ever) {
  const std::string golden = KURAMORI_GOLDEN_TREES;
  if (getenv("KURAMORI_ACCEPT") != nullptr) {
    vault.emplace(20261122);
    Bytes text;
    while (text.size() < 900'000) append(text, as_bytes(fmt::format("line {} of it\n", text.size())));
    Entries entries;
    const auto put = [&](TreeEntry entry, std::vector<Stretch> stretches = {}) {
      entry.mtime_ns = 1'700'000'000'123'456'789;
      for (const Stretch& stretch : stretches) entry.size += stretch.bytes.size() + stretch.hole;
      entries.push_back({.entry = std::move(entry), .content = std::move(stretches), .digest = {}});
    };
    const auto some = [&](const char* bytes) { return to_bytes(as_bytes(bytes)); };
    constexpr ContentKind kBytes = ContentKind::kBytes;
    put({.path = "content", .type = EntryType::kDirectory, .mode = 0755});
    put({.path = "content/a", .type = EntryType::kDirectory, .mode = 02750, .uid = 1, .gid = 2});
    put({.path = "content/a/empty", .content = kBytes, .mode = 0600});
    put({.path = "content/a/large", .content = kBytes, .mode = 0644}, {{.bytes = text}});
    put({.path = "content/a/small",
         .content = kBytes,
         .mode = 04755,
         .user = "www-data",
         .group = "users",
         .attributes = {{"user.color", "blue"}, {"user.zero", std::string("\0\1", 2)}}},
        {{.bytes = some("small\n")}});
    put({.path = "content/a.b", .type = EntryType::kSymlink, .mode = 0777, .link = "a/small"});
    put({.path = "content/device", .type = EntryType::kCharDevice, .mode = 0600, .rdev = 0x103});
    put({.path = "content/fifo", .type = EntryType::kFifo, .mode = 0600});
    put({.path = "content/name \xff\n", .type = EntryType::kHardLink, .link = "content/a/small"});
    put({.path = "content/socket", .type = EntryType::kSocket, .mode = 0700});
    put({.path = "content/sparse", .content = kBytes, .mode = 0640},
        {{.bytes = some("begin"), .hole = 5'000'000'000}, {.bytes = some("end"), .hole = 4096}});
    put({.path = "kuramori", .type = EntryType::kDirectory, .mode = 0700});
    put({.path = "kuramori/origin", .content = kBytes, .mode = 0600}, {{.bytes = some("host=example\n")}});
    std::string expected;
    for (int round = 0; round < 2; ++round) {
      auto id = snapshot(entries);
      ASSERT_TRUE(id) << id.error().what;
      expected += fmt::format("snapshot {}\n{}", *id, lines_of(entries));
      Made& small = entries[4];
      small.content.front().bytes = some("changed since\n");
      small.entry.size = small.content.front().bytes.size();
    }
    ASSERT_TRUE(remove_tree(golden));
    ASSERT_TRUE(write_objects(vault->store, golden + "/objects"));
    const std::string key = *write_bundle(vault->keys, nullptr, {}, vault->random);
    ASSERT_TRUE(write_file_durably(golden + "/owner.key", as_bytes(key), 0644));
    ASSERT_TRUE(write_file_durably(golden + "/expected", as_bytes(expected), 0644));
  }
  OpenStore store;
  ASSERT_TRUE(read_objects(golden + "/objects", store));
  auto text = read_file(golden + "/owner.key");
  ASSERT_TRUE(text);
  auto keys =
      read_bundle(as_text(*text), [] { return Result<Secret>(fail(ErrorKind::kUsage, "no passphrase")); });
  ASSERT_TRUE(keys) << keys.error().what;
  StandingClock clock;
  auto opened = Vault::open(std::make_unique<BorrowedStore>(store), std::move(*keys), clock, system_random());
  ASSERT_TRUE(opened) << opened.error().what;
  const auto expected = read_file(golden + "/expected");
  ASSERT_TRUE(expected);
  int snapshots = 0;
  ASSERT_TRUE(for_each_object(store, names::kCommits, [&](const ObjectInfo& object) -> Result<void> {
    TRY_ASSIGN(const auto commit, (*opened)->read<CommitRecord>(object.name, RecordType::kCommit));
    TRY_ASSIGN(const auto reader,
               SnapshotReader::open(store, (*opened)->keys(), (*opened)->codec(), object.name, commit));
    std::string lines;
    SnapshotReader::Context context;
    TRY(reader->visit([&](TreeNode&& node) -> Result<void> {
      lines += line_of(node.entry, node.digest);
      if (!node.digest) return {};
      ContentDigest digest;
      for (const Extent& extent : node.extents) {
        Bytes bytes;
        if (extent.pack == kHolePack) {
          digest.add_hole(extent.bytes);
        } else {
          TRY(reader->read_extent(extent, context, bytes));
          digest.add(extent.bytes, sha256(bytes));
        }
      }
      EXPECT_EQ(digest.finish(), *node.digest) << node.entry.path;
      return {};
    }));
    ++snapshots;
    const std::string id = commit.snapshot.hex();
    EXPECT_NE(as_text(*expected).find(fmt::format("snapshot {}\n{}", id, lines)), std::string_view::npos);
    EXPECT_EQ(run_on(KURAMORI_TREES, golden + "/objects", golden + "/owner.key", {"list", id}), 0) << last;
    EXPECT_EQ(last, lines);
    return {};
  }));
  EXPECT_EQ(snapshots, 2);
  auto result = scrub(**opened, {}, silent_reporter());
  ASSERT_TRUE(result);
  for (const auto& finding : result->findings) ADD_FAILURE() << finding.object << ": " << finding.what;
}

}  // namespace
}  // namespace kuramori
