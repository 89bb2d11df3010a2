#include "os/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kuramori {
namespace {

class FileTest : public testing::Test {
 protected:
  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-os");
};

TEST_F(FileTest, a_durable_write_replaces_whole_and_leaves_no_temporary_file) {
  std::string path = folder_ / "f";
  ASSERT_TRUE(write_file_durably(path, as_bytes("one"), 0640));
  ASSERT_TRUE(write_file_durably(path, as_bytes("two"), 0600));
  EXPECT_EQ(as_text(*read_file(path)), "two");
  EXPECT_EQ(status_of(path)->mode, 0600u);
  EXPECT_EQ(list_folder(folder_.path())->size(), 1u);
}

TEST_F(FileTest, a_new_file_never_replaces_one) {
  std::string path = folder_ / "f";
  ASSERT_TRUE(write_new_file(path, as_bytes("one")));
  Result<void> again = write_new_file(path, as_bytes("two"));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kExists);
  EXPECT_EQ(as_text(*read_file(path)), "one");
}

TEST_F(FileTest, reading_past_the_end_is_damage_and_absence_is_only_absence) {
  std::string path = folder_ / "f";
  ASSERT_TRUE(write_new_file(path, as_bytes("12345")));
  Fd fd = *open_file(path);
  Bytes out(6);
  EXPECT_EQ(pread_full(fd, 0, out, path).error().kind, ErrorKind::kDamaged);
  EXPECT_EQ(*pread_some(fd, 3, out, path), 2u);
  EXPECT_EQ(read_file(folder_ / "g").error().kind, ErrorKind::kNotFound);
  // P68: a path through a file, a folder read as a file: errors, but not "absent".
  EXPECT_NE(read_file(path + "/x").error().kind, ErrorKind::kNotFound);
  EXPECT_NE(read_file(folder_.path()).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(read_file(path, 4).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(read_file(path, 5)->size(), 5u);
  EXPECT_GT(read_file("/proc/self/status")->size(), 100u);
}

TEST_F(FileTest, opening_beneath_reaches_deeper_than_the_kernel_takes_at_once) {
  const std::string name(200, 'd');
  Fd folder = *open_folder(folder_.path());
  std::string path;
  for (int i = 0; i < 40; ++i) {  // 8,000 bytes
    ASSERT_EQ(::mkdirat(folder.get(), name.c_str(), 0755), 0);
    folder = *open_at(folder, name, O_RDONLY | O_DIRECTORY);
    path = join_path(path, name);
  }
  ASSERT_TRUE(open_at(folder, "f", O_WRONLY | O_CREAT));
  ASSERT_EQ(::symlinkat("/", folder.get(), "link"), 0);
  const Fd top = *open_folder(folder_.path());
  EXPECT_TRUE(open_beneath(top, path + "/f", O_RDONLY));
  EXPECT_FALSE(*open_beneath_if_there(top, path + "/none", O_RDONLY));
  EXPECT_EQ(open_beneath(top, path + "/link/tmp", O_RDONLY).error().kind, ErrorKind::kRefused);
  // A link far above the end of the path, in a stretch of its own.
  ASSERT_EQ(::renameat(top.get(), name.c_str(), top.get(), "real"), 0);
  ASSERT_EQ(::symlinkat("real", top.get(), name.c_str()), 0);
  EXPECT_EQ(open_beneath(top, path + "/f", O_RDONLY).error().kind, ErrorKind::kRefused);
}

TEST_F(FileTest, opening_beneath_refuses_links_and_ways_out) {
  ASSERT_TRUE(make_folders(folder_ / "in/a"));
  ASSERT_TRUE(write_new_file(folder_ / "in/a/f", as_bytes("x")));
  ASSERT_TRUE(write_new_file(folder_ / "out", as_bytes("y")));
  ASSERT_EQ(::symlink("a", (folder_ / "in/link").c_str()), 0);
  ASSERT_EQ(::symlink("../out", (folder_ / "in/leaf").c_str()), 0);
  Fd in = *open_folder(folder_ / "in");
  EXPECT_TRUE(open_beneath(in, "a/f", O_RDONLY));
  EXPECT_EQ(open_beneath(in, "link/f", O_RDONLY).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(open_beneath(in, "leaf", O_RDONLY).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(open_beneath(in, "../out", O_RDONLY).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(open_beneath(in, folder_ / "out", O_RDONLY).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(open_beneath(in, "a/none", O_RDONLY).error().kind, ErrorKind::kNotFound);
}

TEST_F(FileTest, removing_a_tree_removes_links_not_what_they_point_to) {
  ASSERT_TRUE(make_folders(folder_ / "tree/a/b"));
  ASSERT_TRUE(make_folders(folder_ / "kept"));
  ASSERT_TRUE(write_new_file(folder_ / "kept/f", as_bytes("x")));
  ASSERT_TRUE(write_new_file(folder_ / "tree/a/b/f", as_bytes("x"), 0400));
  ASSERT_EQ(::symlink("../../kept", (folder_ / "tree/a/link").c_str()), 0);
  ASSERT_TRUE(remove_tree(folder_ / "tree"));
  EXPECT_FALSE(*status_if_there(folder_ / "tree"));
  EXPECT_TRUE(*status_if_there(folder_ / "kept/f"));
  EXPECT_TRUE(remove_tree(folder_ / "tree"));
  ASSERT_EQ(::symlink("kept", (folder_ / "root_link").c_str()), 0);
  ASSERT_TRUE(remove_tree(folder_ / "root_link"));
  EXPECT_TRUE(*status_if_there(folder_ / "kept/f"));
}

TEST_F(FileTest, making_folders_accepts_present_ones_and_refuses_a_file_in_the_way) {
  ASSERT_TRUE(make_folders(folder_ / "a/b/c"));
  ASSERT_TRUE(make_folders(folder_ / "a/b/c"));
  ASSERT_TRUE(write_new_file(folder_ / "a/f", as_bytes("x")));
  EXPECT_FALSE(make_folders(folder_ / "a/f"));
  EXPECT_FALSE(make_folders(folder_ / "a/f/g"));
}

TEST(Path, folder_of_and_join) {
  EXPECT_EQ(folder_of("a/b"), "a");
  EXPECT_EQ(folder_of("a/b/"), "a");
  EXPECT_EQ(folder_of("b"), ".");
  EXPECT_EQ(folder_of("/b"), "/");
  EXPECT_EQ(folder_of("/"), "/");
  EXPECT_EQ(join_path("a/", "b"), "a/b");
  EXPECT_EQ(join_path("/", "b"), "/b");
}

TEST(AlignedBufferTest, is_aligned_rounded_and_movable) {
  AlignedBuffer buffer(5000);
  EXPECT_EQ(buffer.size(), 8192u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kDirectIoAlignment, 0u);
  AlignedBuffer other = std::move(buffer);
  EXPECT_EQ(buffer.data(), nullptr);
  other = AlignedBuffer(1);
  EXPECT_EQ(other.size(), 4096u);
}

}  // namespace
}  // namespace kuramori
