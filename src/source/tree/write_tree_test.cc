#include "source/tree/write_tree.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"
#include "source/tree/captured_tree_for_tests.h"

namespace kuramori {
namespace {

constexpr int64_t kLongAgo = 1'600'000'000'123'456'789;

TreeEntry folder(std::string path, uint32_t mode = 0755) {
  return {.path = std::move(path),
          .type = EntryType::kDirectory,
          .mode = mode,
          .uid = ::geteuid(),
          .gid = ::getegid(),
          .mtime_ns = kLongAgo};
}
TreeEntry file(std::string path, uint32_t mode = 0644) {
  return {.path = std::move(path),
          .type = EntryType::kFile,
          .content = ContentKind::kBytes,
          .mode = mode,
          .uid = ::geteuid(),
          .gid = ::getegid(),
          .mtime_ns = kLongAgo};
}

struct WriteTreeTest : testing::Test {
  TemporaryFolder ground = *TemporaryFolder::make("write-tree");
  MemoryTree tree;
  std::string to = ground / "to";

  void SetUp() override {
    tree.add(folder(""));
    tree.add(folder("kept", 0500));  // not to be written into: its mode comes last
    tree.add(file("kept/a", 0640), "the content of a");
    tree.add(folder("kept/below"));
    tree.add(file("kept/below/empty"));
    tree.add({.path = "kept/link", .type = EntryType::kSymlink, .mode = 0777, .link = "../else/where"});
    tree.add({.path = "kept/second", .type = EntryType::kHardLink, .link = "kept/a"});
    tree.add(file("other"), "not asked for");
  }
  void TearDown() override { (void)::chmod((to + "/kept").c_str(), 0700), (void)::chmod(to.c_str(), 0700); }
};

TEST_F(WriteTreeTest, a_tree_comes_back_as_it_was) {
  auto written = write_tree(tree, to, {});
  ASSERT_TRUE(written) << written.error().what << written.error().why;
  EXPECT_EQ(written->bytes, 16u + 13u);
  EXPECT_TRUE(written->notes.empty());
  EXPECT_EQ(text_of(to + "/kept/a"), "the content of a");
  EXPECT_EQ(text_of(to + "/kept/below/empty"), "");
  EXPECT_EQ(*read_link(to + "/kept/link"), "../else/where");
  EXPECT_EQ(status_of(to + "/kept")->mode, 0500u);
  EXPECT_EQ(to_unix_ns(status_of(to + "/kept")->modified), kLongAgo);
  EXPECT_EQ(status_of(to + "/kept/a")->mode, 0640u);
  EXPECT_EQ(to_unix_ns(status_of(to + "/kept/a")->modified), kLongAgo);
  EXPECT_EQ(status_of(to + "/kept/a")->inode, status_of(to + "/kept/second")->inode);
}

TEST_F(WriteTreeTest, a_folder_of_it_becomes_the_target_and_only_what_is_asked_for_comes) {
  auto written = write_tree(tree, to, {.below = "kept", .only = {"kept/below"}});
  ASSERT_TRUE(written) << written.error().what;
  EXPECT_EQ(list_folder(to)->size(), 1u);
  EXPECT_EQ(text_of(to + "/below/empty"), "");
}

TEST_F(WriteTreeTest, private_files_are_never_open_to_others) {
  tree.entries[1].item.entry.mode = 04777;
  auto written = write_tree(tree, to, {.modes = Modes::kPrivate});
  ASSERT_TRUE(written) << written.error().what;
  for (const char* path : {"/kept/a", "/other", "/kept/below/empty"})
    EXPECT_EQ(status_of(to + path)->mode, 0600u);
  for (const char* path : {"", "/kept", "/kept/below"}) EXPECT_EQ(status_of(to + path)->mode, 0700u);
}

TEST_F(WriteTreeTest, what_is_there_is_never_written_over) {
  ASSERT_TRUE(make_folders(to));
  ASSERT_TRUE(write_new_file(to + "/precious", as_bytes("x")));
  auto refused = write_tree(tree, to, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  refused = write_file(tree, "other", to + "/precious", 0600);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(text_of(to + "/precious"), "x");
  ASSERT_TRUE(write_file(tree, "other", to + "/new", 0640));
  EXPECT_EQ(text_of(to + "/new"), "not asked for");
  EXPECT_EQ(status_of(to + "/new")->mode, 0640u);
}

// V27: whatever a tree says, nothing is written outside of the target.
TEST_F(WriteTreeTest, a_hostile_tree_leads_nowhere_V27) {
  for (const char* path : {"../escaped", "/escaped", "link/escaped", "a/../../escaped"}) {
    MemoryTree hostile;
    hostile.add({.path = "link", .type = EntryType::kSymlink, .link = ground.path()});
    hostile.add(file(path), "x");
    EXPECT_FALSE(write_tree(hostile, to, {})) << path;
    EXPECT_FALSE(*status_if_there(ground / "escaped")) << path;
    EXPECT_FALSE(*status_if_there("/escaped")) << path;
    ASSERT_TRUE(remove_tree(to));
  }
}

TEST_F(WriteTreeTest, content_that_breaks_off_is_an_error_and_leaves_no_file) {
  struct Broken final : CapturedTree {
    Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override {
      TreeEntry entry = file("a");
      entry.size = 10;
      return visit(entry);
    }
    Result<void> read(std::string_view, ContentSink& sink) const override {
      TRY(sink.add(as_bytes("half")));
      if (fails) return fail(ErrorKind::kDamaged, "a frame does not open");
      return {};
    }
    const std::map<std::string, std::string>& facts() const override { return told; }
    std::map<std::string, std::string> told;
    bool fails = true;
  } broken;
  EXPECT_FALSE(write_file(broken, "a", to, 0600));
  EXPECT_FALSE(*status_if_there(to));
  EXPECT_FALSE(write_tree(broken, to, {}));
  ASSERT_TRUE(remove_tree(to));
  broken.fails = false;
  EXPECT_FALSE(write_tree(broken, to, {})) << "shorter than its entry says";
}

}  // namespace
}  // namespace kuramori
