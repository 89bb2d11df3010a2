#include <gtest/gtest.h>
#include <unistd.h>

#include "os/file.h"
#include "source/files/write_tree.h"
#include "source/tree/captured_tree_for_tests.h"
#include "source/tree/views.h"
#include "source/tree/write_file.h"

namespace kuramori {
namespace {

TreeEntry folder(std::string path, uint32_t mode = 0755) {
  return {.path = std::move(path),
          .type = EntryType::kDirectory,
          .mode = mode,
          .uid = ::geteuid(),
          .gid = ::getegid()};
}
TreeEntry file(std::string path, uint32_t mode = 0644) {
  return {.path = std::move(path),
          .type = EntryType::kFile,
          .content = ContentKind::kBytes,
          .mode = mode,
          .uid = ::geteuid(),
          .gid = ::getegid()};
}

struct TreeTest : testing::Test {
  TemporaryFolder ground = *TemporaryFolder::make("tree");
  std::string to = ground / "to";
  TreeForTests tree;

  void SetUp() override {
    tree.add(folder(""));
    tree.add(folder("kept", 0750));
    tree.add(file("kept/a", 04755), "the content of a");
    tree.add(folder("kept/below"));
    tree.add(file("kept/below/empty"));
    tree.add({.path = "kept/second", .type = EntryType::kHardLink, .link = "kept/a"});
    tree.add(file("kepter"), "begins alike");
  }
};

TEST_F(TreeTest, a_folder_of_a_tree_is_a_tree) {
  const TreeBelow below(tree, "kept");
  std::vector<std::string> paths;
  ASSERT_TRUE(below.visit([&](const TreeEntry& entry) -> Result<void> {
    paths.push_back(entry.path + (entry.link.empty() ? "" : " is " + entry.link));
    return {};
  }));
  EXPECT_EQ(paths, (std::vector<std::string>{"", "a", "below", "below/empty", "second is a"}));
  ASSERT_TRUE(files::write_tree(below, {.to = to}, {}, silent_reporter(), {}));
  EXPECT_EQ(text_of(to + "/a"), "the content of a");
  EXPECT_EQ(status_of(to)->mode, 0750u);
  EXPECT_EQ(status_of(to + "/a")->inode, status_of(to + "/second")->inode);
}

TEST_F(TreeTest, a_private_tree_is_nobody_s_but_ours) {
  tree.entries[2].item.entry.uid = 1234;
  tree.entries[2].item.entry.attributes = {{"user.x", "y"}};
  ASSERT_TRUE(files::write_tree(PrivateTree(tree), {.to = to}, {}, silent_reporter(), {}));
  for (const char* path : {"/kept/a", "/kepter", "/kept/below/empty"}) {
    EXPECT_EQ(status_of(to + path)->mode, 0600u) << path;
    EXPECT_EQ(status_of(to + path)->uid, ::geteuid()) << path;
  }
  for (const char* path : {"", "/kept", "/kept/below"}) EXPECT_EQ(status_of(to + path)->mode, 0700u) << path;
}

TEST_F(TreeTest, one_file_becomes_a_new_file_whole_or_not_at_all) {
  auto written = write_file(tree, "kept/a", ground / "new/a", 0640, {});
  ASSERT_TRUE(written) << written.error().what;
  EXPECT_EQ(written->bytes, 16u);
  EXPECT_EQ(text_of(ground / "new/a"), "the content of a");
  EXPECT_EQ(status_of(ground / "new/a")->mode, 0640u);
  auto refused = write_file(tree, "kepter", ground / "new/a", 0600, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(text_of(ground / "new/a"), "the content of a");

  struct Broken final : CapturedTree {
    Result<void> visit(const std::function<Result<void>(const TreeEntry&)>&) const override { return {}; }
    Result<void> read(std::string_view, ContentSink& sink) const override {
      TRY(sink.add(as_bytes("half")));
      return fail(ErrorKind::kDamaged, "a frame does not open");
    }
    const std::map<std::string, std::string>& facts() const override { return told; }
    std::map<std::string, std::string> told;
  } broken;
  auto half = write_file(broken, "a", ground / "half", 0600, {});
  ASSERT_FALSE(half);
  EXPECT_EQ(half.error().kind, ErrorKind::kDamaged);
  EXPECT_FALSE(*status_if_there(ground / "half"));
  EXPECT_EQ(list_folder(ground.path())->size(), 1u) << "nothing under another name either";
}

TEST_F(TreeTest, what_is_wanted_is_a_path_or_below_one) {
  EXPECT_TRUE(is_wanted({}, "a"));
  EXPECT_TRUE(is_wanted({"a"}, "a"));
  EXPECT_TRUE(is_wanted({"x", "a"}, "a/b"));
  EXPECT_FALSE(is_wanted({"a"}, "ab"));
  EXPECT_FALSE(is_wanted({"a/b"}, "a"));
}

}  // namespace
}  // namespace kuramori
