// The kind `files` keeps the contract of sources, on each filesystem that this machine lets us mount.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "source/files/fixture_for_tests.h"
#include "source/files/mounted_image_for_tests.h"

namespace kuramori::files {
namespace {

TEST(FilesContract, files_keep_the_contract_of_sources_F2_V13_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<FilesFixture>(); }),
            std::vector<std::string>{});
}

TEST(FilesContract, a_hook_after_can_unmount_what_one_before_mounted) {
  if (!MountedImage("tmpfs").mounted()) GTEST_SKIP() << "this machine lets us mount nothing";
  Ground ground;
  ground.folder("at");
  ground.file("fstab", fmt::format("snapshot {} tmpfs defaults 0 0\n", ground / "at"));
  const FilesSettings settings{
      .paths = {ground / "at"},
      .hooks_before = {fmt::format("mount -t tmpfs none {0}; mkdir {0}/b; echo x > {0}/b/c", ground / "at")},
      .hooks_after = {"umount " + ground / "at"}};
  const MountFiles mounts{.expected = ground / "fstab"};  // it is not mounted before the hook has run
  Captured all = capture(settings, mounts);
  EXPECT_FALSE(all.error);
  EXPECT_EQ(all.find("b/c")->bytes, "x\n");
  EXPECT_TRUE(list_folder(ground / "at")->empty());
  auto given_up = *begin_capture(settings, mounts, silent_reporter(), {});
  while ((**given_up->next()).entry.path != "b/c") continue;
  EXPECT_FALSE(list_folder(ground / "at")->empty());
  given_up.reset();
  EXPECT_TRUE(list_folder(ground / "at")->empty());
}

// Consistent at one moment: hooks make a read-only snapshot of the subvolume and take it away again.
TEST(FilesContract, a_capture_of_a_btrfs_snapshot_is_of_one_moment_whatever_is_written_meanwhile) {
  MountedImage image("btrfs");
  if (!image.mounted()) GTEST_SKIP() << "this machine lets us make and mount no btrfs";
  const std::string live = image.path() + "/live", frozen = image.path() + "/frozen";
  ASSERT_TRUE(run_checked({.argv = {"btrfs", "subvolume", "create", live}}));
  auto write_all = [&](std::string_view text) {
    for (const char* name : {"a", "b"}) {
      Fd fd = *open_file(join_path(live, name), O_WRONLY | O_CREAT | O_TRUNC);
      ASSERT_TRUE(write_full(fd, as_bytes(text), name));
    }
  };
  write_all("first");
  auto begun = begin_capture({.paths = {frozen},
                              .hooks_before = {"btrfs subvolume snapshot -r " + live + " " + frozen},
                              .hooks_after = {"btrfs subvolume delete " + frozen}},
                             {}, silent_reporter(), {});
  ASSERT_TRUE(begun) << begun.error().what << begun.error().why;
  write_all("second");
  Captured all = run_capture(**begun);
  EXPECT_FALSE(all.error);
  EXPECT_EQ(all.find("a")->bytes, "first");
  EXPECT_EQ(all.find("b")->bytes, "first");
  // Finished, the capture holds nothing of the snapshot open.
  EXPECT_FALSE(*status_if_there(frozen));
}

TEST(FilesContract, what_did_not_change_looks_unchanged_in_the_next_btrfs_snapshot) {
  MountedImage image("btrfs");
  if (!image.mounted()) GTEST_SKIP() << "this machine lets us make and mount no btrfs";
  const std::string live = image.path() + "/live", frozen = image.path() + "/frozen";
  ASSERT_TRUE(run_checked({.argv = {"btrfs", "subvolume", "create", live}}));
  ASSERT_TRUE(write_new_file(live + "/a", as_bytes("x")));
  auto stamp = [&](const std::string& name) {
    EXPECT_TRUE(run_checked({.argv = {"btrfs", "subvolume", "snapshot", "-r", live, frozen + name}}));
    auto begun = *begin_capture({.paths = {frozen + name}}, {}, silent_reporter(), {});
    CaptureItem item;
    while (item.entry.path != "a") item = **begun->next();
    return std::tuple(item.device, item.inode, item.ctime_ns, item.entry.size);
  };
  EXPECT_EQ(stamp("1"), stamp("2"));
}

class OnFilesystem : public testing::TestWithParam<const char*> {};

TEST_P(OnFilesystem, files_keep_the_contract_of_sources_F2) {
  MountedImage image(GetParam());
  if (!image.mounted()) GTEST_SKIP() << "this machine lets us make and mount no " << GetParam();
  EXPECT_EQ(check_source_contract(
                [&] { return std::make_unique<FilesFixture>(FilesFixture::Wrap(), image.path()); }),
            std::vector<std::string>{});
}
INSTANTIATE_TEST_SUITE_P(Files, OnFilesystem, testing::Values("tmpfs", "ext4", "xfs", "btrfs"),
                         [](const auto& kind) { return std::string(kind.param); });

}  // namespace
}  // namespace kuramori::files
