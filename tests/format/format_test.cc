// The format's promise: a vault of long ago opens for ever, and docs/vault-format.md is enough to read one.
// reader.py was written from that document alone; it shares no code with the program.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "os/file.h"
#include "vault/chunk_index.h"
#include "vault/scrub.h"
#include "vault/wal_object.h"
#include "vault_files.h"

namespace kuramori {
namespace {

using namespace test;

// "snapshot path size sha256", and "wal timeline file size sha256" of archived files.
std::string describe(const SnapshotId& snapshot, const Model& model) {
  std::string text;
  for (const auto& [path, file] : model)
    text += fmt::format("{} {} {} {}\n", snapshot.hex(), path, file.bytes.size(), sha256(file.bytes).hex());
  return text;
}
std::string describe(const ArchivedFile& file) {
  return fmt::format("wal {} {} {} {}\n", file.timeline, file.file, file.content.size(),
                     sha256(file.content).hex());
}

// Made once with KURAMORI_ACCEPT=1; from then on no change of the program may make it unreadable.
TEST(GoldenVault, is_read_for_ever) {
  const std::string folder = KURAMORI_GOLDEN_VAULT;
  if (getenv("KURAMORI_ACCEPT") != nullptr) {
    auto sample = make_sample(20261121, 3, 1);
    TestVault& t = sample->vault;
    SnapshotId held = t.snapshots[0].commit.snapshot;
    ASSERT_TRUE(t.vault->put(RecordType::kHold, names::hold(held, "audit"), {},
                             encode(HoldRecord{held, "audit", "year end", 1})));
    ASSERT_TRUE(t.vault->put(
        RecordType::kProof, names::proof(held, "p1"), {},
        encode(
            ProofRecord{.snapshot = held, .resource = t.resource.id, .passed = true, .seconds_total = 1.5})));
    std::string expected;
    for (const auto& snapshot : t.snapshots) expected += describe(snapshot.commit.snapshot, snapshot.model);
    for (const auto& file : sample->archive) expected += describe(file);
    ASSERT_TRUE(remove_tree(folder + "/objects"));
    ASSERT_TRUE(write_objects(t.store, folder + "/objects"));
    ASSERT_TRUE(write_file_durably(folder + "/owner.key",
                                   as_bytes(*write_bundle(t.keys, nullptr, {}, t.random)), 0644));
    ASSERT_TRUE(write_file_durably(folder + "/expected", as_bytes(expected), 0644));
  }
  OpenStore store;
  ASSERT_TRUE(read_objects(folder + "/objects", store));
  auto no_passphrase = [] { return Result<Secret>(fail(ErrorKind::kUsage, "none")); };
  auto text = read_file(folder + "/owner.key");
  ASSERT_TRUE(text);
  auto keys = read_bundle(as_text(*text), no_passphrase);
  ASSERT_TRUE(keys) << keys.error().what;
  StandingClock clock;
  auto opened = Vault::open(std::make_unique<BorrowedStore>(store), std::move(*keys), clock, system_random());
  ASSERT_TRUE(opened) << opened.error().what;
  Vault& vault = **opened;
  std::string found;
  std::map<std::string, CommitRecord> commits;
  ASSERT_TRUE(for_each_object(store, names::kCommits, [&](const ObjectInfo& object) -> Result<void> {
    TRY_ASSIGN(commits[object.name], vault.read<CommitRecord>(object.name, RecordType::kCommit));
    return {};
  }));
  EXPECT_EQ(commits.size(), 3u);
  for (const auto& [name, commit] : commits) {
    auto reader = SnapshotReader::open(store, vault.keys(), vault.codec(), name, commit);
    ASSERT_TRUE(reader) << reader.error().what;
    Model model;
    SnapshotReader::Context context;
    for (const TreeNode& node : (*reader)->tree().nodes) {
      if (node.entry.type != EntryType::kFile) continue;
      Bytes bytes;
      if (node.entry.content == ContentKind::kPages) {
        bytes.resize(node.entry.size);
        auto pages = (*reader)->pages_of(node.entry.path);
        ASSERT_TRUE(pages);
        ASSERT_TRUE((*reader)->read_pages(**pages, 0, bytes, context));
      } else {
        for (const Extent& extent : node.extents) ASSERT_TRUE((*reader)->read_extent(extent, context, bytes));
      }
      model[node.entry.path].bytes = std::move(bytes);
    }
    found += describe(commit.snapshot, model);
  }
  auto resources = vault.resources();
  ASSERT_TRUE(resources && resources->size() == 1);
  EXPECT_EQ(resources->front().name, "orders/db");
  auto listing = list_wal(store, resources->front().id);
  ASSERT_TRUE(listing);
  for (const auto& object : listing->objects) {
    auto content = get_wal(vault, object);
    ASSERT_TRUE(content) << content.error().what;
    found +=
        describe({object.name.timeline, read_wal_header(store, vault.keys(), object.object)->file, *content});
  }
  auto lines = [](std::string_view all) {
    std::multiset<std::string> set;
    for (size_t at = 0, end; (end = all.find('\n', at)) != std::string_view::npos; at = end + 1)
      set.emplace(all.substr(at, end - at));
    return set;
  };
  EXPECT_EQ(lines(found), lines(as_text(*read_file(folder + "/expected"))));
  auto result = scrub(vault, {}, silent_reporter());
  ASSERT_TRUE(result);
  for (const auto& finding : result->findings) ADD_FAILURE() << finding.object << ": " << finding.what;
}

// The document's example is the golden vault's own bytes.
TEST(GoldenVault, is_the_example_of_the_document) {
  auto document = read_file(KURAMORI_FORMAT_DOCUMENT);
  ASSERT_TRUE(document);
  auto hold = read_file(std::string(KURAMORI_GOLDEN_VAULT) + "/objects/holds/07c277268db1650f/audit");
  ASSERT_TRUE(hold);
  for (size_t at = 0; at < hold->size(); at += 16) {
    std::string line = fmt::format("{:04x} ", at);
    for (size_t i = at; i < std::min(at + 16, hold->size()); ++i) line += fmt::format(" {:02x}", (*hold)[i]);
    EXPECT_NE(as_text(*document).find(line), std::string_view::npos) << line;
  }
}

// Small enough that a person can read it in one sitting and believe the document.
TEST(SecondReader, has_at_most_600_lines) {
  auto source = read_file(KURAMORI_READER);
  ASSERT_TRUE(source);
  EXPECT_LE(std::count(source->begin(), source->end(), '\n'), 600);
}

struct Reader : testing::Test {
  std::unique_ptr<SampleVault> sample;
  std::optional<TemporaryFolder> folder;

  void SetUp() override {
    ASSERT_EQ(access(KURAMORI_PYTHON3, X_OK), 0) << "the reader needs Debian's python3";
    folder.emplace(*TemporaryFolder::make("kuramori-format"));
  }
  void make(uint64_t seed, int snapshots, uint32_t scale) {
    sample = make_sample(seed, snapshots, scale);
    ASSERT_TRUE(write_objects(sample->vault.store, *folder / "vault"));
    ASSERT_TRUE(write_file_durably(
        *folder / "key", as_bytes(*write_bundle(sample->vault.keys, nullptr, {}, sample->vault.random))));
  }
  int reader(const std::vector<std::string>& arguments, std::string* out = nullptr) {
    return run(KURAMORI_READER, arguments, out);
  }
  int run(const std::string& program, const std::vector<std::string>& arguments, std::string* out = nullptr) {
    std::string command =
        fmt::format("'{}' '{}' '{}' '{}'", KURAMORI_PYTHON3, program, *folder / "vault", *folder / "key");
    for (const std::string& argument : arguments) command += " '" + argument + "'";
    command += " 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    std::string text;
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
    int status = pclose(pipe);
    last = text;
    if (out != nullptr) *out = text;
    return WEXITSTATUS(status);
  }
  void expect_tree(const std::string& target, const Model& model) {
    for (const auto& [path, file] : model) {
      auto bytes = read_file(target + "/" + path);
      ASSERT_TRUE(bytes) << bytes.error().what;
      EXPECT_TRUE(*bytes == file.bytes) << path;
      EXPECT_EQ(status_of(target + "/" + path)->mode, 0600u);
    }
    EXPECT_EQ(*read_link(target + "/link"), "../else");
    EXPECT_EQ(status_of(target + "/log")->mode, 0750u);
  }
  std::string last;
};

TEST_F(Reader, restores_every_snapshot_byte_for_byte) {
  make(71, 11, 6);
  std::string list;
  ASSERT_EQ(reader({"list"}, &list), 0) << last;
  for (const auto& snapshot : sample->vault.snapshots) {
    std::string id = snapshot.commit.snapshot.hex();
    EXPECT_NE(list.find(id), std::string::npos);
    ASSERT_EQ(reader({"restore", id, *folder / id}), 0) << last;
    expect_tree(*folder / id, snapshot.model);
  }
}

TEST_F(Reader, fetches_archived_wal) {
  make(72, 2, 2);
  for (const auto& file : sample->archive) {
    std::string out = *folder / file.file;
    ASSERT_EQ(reader({"wal", "orders/db", std::to_string(file.timeline), file.file, out}), 0) << last;
    EXPECT_TRUE(*read_file(out) == file.content);
  }
  EXPECT_NE(reader({"wal", "orders/db", "1", "0000000100000000000000FF", *folder / "x"}), 0);
}

TEST_F(Reader, opens_a_key_under_a_passphrase) {
  make(73, 1, 1);
  Secret phrase = Secret::copy_of(as_bytes("correct horse"));
  auto text =
      write_bundle(sample->vault.keys, &phrase, {.memory_bytes = 1 << 20, .passes = 1}, sample->vault.random);
  ASSERT_TRUE(write_file_durably(*folder / "key", as_bytes(*text)));
  setenv("KURAMORI_PASSPHRASE", "correct horse", 1);
  EXPECT_EQ(reader({"list"}), 0) << last;
  setenv("KURAMORI_PASSPHRASE", "battery staple", 1);
  EXPECT_NE(reader({"list"}), 0);
  unsetenv("KURAMORI_PASSPHRASE");
}

// Each object a snapshot needs, with a bit flipped: refused, or (a spare copy) restored all the same.
TEST_F(Reader, never_restores_from_a_tampered_vault) {
  make(74, 3, 1);
  const auto& last_snapshot = sample->vault.snapshots.back();
  std::string id = last_snapshot.commit.snapshot.hex();
  auto live = *sample->vault.vault->read<LiveRecord>(last_snapshot.commit.live.name, RecordType::kLive);
  std::vector<std::string> needed{last_snapshot.name, last_snapshot.commit.live.name, "vault"};
  for (const auto& pack : live.packs) needed.push_back(pack.name);
  for (const auto& map : live.maps) needed.push_back(map.name);
  int round = 0, refused = 0;
  for (const std::string& name : needed) {
    Bytes object = sample->vault.store.objects[name];
    for (size_t at : {size_t{5}, object.size() / 3, object.size() / 2, object.size() - 60}) {
      Bytes bad = object;
      bad[at] ^= 8;
      ASSERT_TRUE(write_file_durably(*folder / ("vault/" + name), bad));
      std::string target = *folder / fmt::format("t{}", round++);
      if (reader({"restore", id, target}) == 0) {
        expect_tree(target, last_snapshot.model);
      } else {
        ++refused;
        EXPECT_EQ(last.find("Traceback"), std::string::npos) << last;
      }
    }
    ASSERT_TRUE(write_file_durably(*folder / ("vault/" + name), object));
  }
  EXPECT_GT(refused, round / 2);
}

TEST_F(Reader, lists_and_finds_what_the_chunk_index_says) {
  make(75, 1, 1);
  TestVault& t = sample->vault;
  const SessionId session = t.random.id<SessionId>(), older = t.random.id<SessionId>();
  const std::vector<std::string> packs{names::pack(session, 0), names::pack(older, 4711)};
  const Bytes content = t.random.bytes(70'000);
  std::vector<ChunkEntry> entries(3000);
  const ChunkName named = ChunkNamer(t.keys).name(content);
  entries[0].id = named.id;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) t.random.fill(entries[i].id.raw);
    entries[i].pack = i % 2;
    entries[i].frame = static_cast<uint32_t>(t.random.below(kPackFramesMax));
    entries[i].offset = static_cast<uint32_t>(t.random.below(kFramePlainBytesMax));
  }
  const ChunkEntry known = entries[0];
  std::ranges::sort(entries, {}, &ChunkEntry::id);
  auto refs = add_run({.store = t.store,
                       .keys = t.keys,
                       .random = t.random,
                       .scope = t.resource.id,
                       .next_name = [&] { return names::map(session, 0); },
                       .keep = [](const std::string&, uint32_t) { return true; }},
                      entries, packs, nullptr);
  ASSERT_TRUE(refs) << refs.error().what;
  ASSERT_TRUE(remove_tree(*folder / "vault"));
  ASSERT_TRUE(write_objects(t.store, *folder / "vault"));
  ASSERT_TRUE(write_file_durably(*folder / "content", content));
  const auto line = [&](const ChunkEntry& e) {
    return fmt::format("{} {} {} {}\n", e.id.hex(), packs[e.pack], e.frame, e.offset);
  };
  std::string expected, got;
  for (const ChunkEntry& entry : entries) expected += line(entry);
  const std::string& name = refs->front().name;
  ASSERT_EQ(run(KURAMORI_CHUNKS, {"list", name}, &got), 0) << last;
  EXPECT_EQ(got, expected);
  ASSERT_EQ(run(KURAMORI_CHUNKS, {"id", *folder / "content"}, &got), 0) << last;
  EXPECT_EQ(got, fmt::format("{} {}\n", known.id.hex(), named.veil));
  ASSERT_EQ(run(KURAMORI_CHUNKS, {"find", name, known.id.hex()}, &got), 0) << last;
  EXPECT_EQ(got, line(known));
  ASSERT_EQ(run(KURAMORI_CHUNKS, {"find", name, t.random.id<ChunkId>().hex()}, &got), 0) << last;
  EXPECT_EQ(got, "");
}

TEST_F(Reader, reads_the_golden_vault) {
  std::string command = fmt::format("'{}' '{}' '{}/objects' '{}/owner.key' list", KURAMORI_PYTHON3,
                                    KURAMORI_READER, KURAMORI_GOLDEN_VAULT, KURAMORI_GOLDEN_VAULT);
  EXPECT_EQ(system(command.c_str()), 0);
}

}  // namespace
}  // namespace kuramori
