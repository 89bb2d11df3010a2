#include "source/files/watch.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <thread>

#include "source/files/captured_for_tests.h"

namespace kuramori::files {
namespace {

using namespace std::chrono_literals;
constexpr Duration kSoon = 5s, kQuiet = 150ms;

std::unique_ptr<Watch> watch(const FilesSettings& settings, WatchPace pace = {}) {
  auto watch = watch_files(settings, pace);
  EXPECT_TRUE(watch) << watch.error().what << watch.error().why;
  return std::move(*watch);
}

// What happened is told of once, and then there is quiet.
void expect_told(Watch& watch, const std::string& of) {
  auto told = watch.wait(kSoon, {});
  ASSERT_TRUE(told) << told.error().what;
  EXPECT_TRUE(*told) << of;
  while (*watch.wait(kQuiet, {})) {
  }
}

void expect_quiet(Watch& watch, const std::string& of) {
  EXPECT_FALSE(*watch.wait(kQuiet, {})) << of;
}

void overwrite(const std::string& path, std::string_view text) {
  Fd fd = *open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
  ASSERT_TRUE(write_full(fd, as_bytes(text), path));
}

TEST(FilesWatch, TellsOfEveryKindOfChange) {
  Ground ground;
  ground.file("a", "1");
  ground.file("sub/deep/b", "2");
  auto w = watch(ground.settings());
  expect_quiet(*w, "nothing happened");
  const std::vector<std::pair<std::string, std::function<void()>>> changes = {
      {"a file is written", [&] { overwrite(ground / "a", "11"); }},
      {"a file deep below is written", [&] { overwrite(ground / "sub/deep/b", "22"); }},
      {"a file is made", [&] { overwrite(ground / "sub/new", "3"); }},
      {"a file is renamed",
       [&] { ASSERT_EQ(::rename((ground / "sub/new").c_str(), (ground / "sub/newer").c_str()), 0); }},
      {"a file is deleted", [&] { ASSERT_EQ(::unlink((ground / "sub/newer").c_str()), 0); }},
      {"a mode changes", [&] { ASSERT_EQ(::chmod((ground / "a").c_str(), 0640), 0); }},
      {"a folder's mode changes", [&] { ASSERT_EQ(::chmod((ground / "sub").c_str(), 0750), 0); }},
      {"a folder is made", [&] { ASSERT_TRUE(make_folders(ground / "fresh/below")); }},
      {"a file is made in a new folder", [&] { overwrite(ground / "fresh/below/x", "4"); }},
      {"a folder is moved",
       [&] { ASSERT_EQ(::rename((ground / "fresh").c_str(), (ground / "sub/moved").c_str()), 0); }},
      {"a file in the moved folder is written", [&] { overwrite(ground / "sub/moved/below/x", "44"); }},
      {"a folder is removed", [&] { ASSERT_TRUE(remove_tree(ground / "sub/moved")); }},
  };
  for (const auto& [name, change] : changes) {
    change();
    expect_told(*w, name);
  }
  EXPECT_NE(w->how().find("watched"), std::string::npos) << w->how();
}

TEST(FilesWatch, ReadingAndWhatIsLeftOutAreNoChange) {
  Ground ground;
  ground.file("a", "1");
  ground.file("cache/x", "2");
  FilesSettings settings = ground.settings();
  settings.exclude = {"cache/", "*.tmp"};
  auto w = watch(settings);
  ASSERT_TRUE(read_file(ground / "a"));
  expect_quiet(*w, "a file was read");
  overwrite(ground / "cache/x", "22");
  overwrite(ground / "b.tmp", "3");
  expect_quiet(*w, "what is excluded changed");
  settings.include = {"*.log"};
  w = watch(settings);
  overwrite(ground / "a", "11");
  expect_quiet(*w, "what is not included changed");
  overwrite(ground / "a.log", "1");
  expect_told(*w, "an included file came");
  // A folder that held nothing of interest when the watch began.
  ASSERT_TRUE(make_folders(ground / "later"));
  expect_told(*w, "a folder came");
  overwrite(ground / "later/b.log", "1");
  expect_told(*w, "an included file came into it");
}

TEST(FilesWatch, FilesAreFollowedThroughReplacementAndLinks) {
  Ground ground;
  ground.file("app/.env", "A=1");
  ground.file("app/other", "x");
  ground.file("app/.env.prod", "B=1");
  FilesSettings settings{.paths = {ground / "app/.env", ground / "app/.env.prod"}};
  auto w = watch(settings);
  overwrite(ground / "app/other", "y");
  expect_quiet(*w, "a neighbour changed");
  overwrite(ground / "app/new", "A=2");
  ASSERT_EQ(::rename((ground / "app/new").c_str(), (ground / "app/.env").c_str()), 0);
  expect_told(*w, "an editor replaced the first");
  overwrite(ground / "app/.env", "A=3");
  expect_told(*w, "the new first was written");
  overwrite(ground / "app/.env.prod", "B=2");
  expect_told(*w, "the second was written");
  // As orchestrators hand out secrets: a link to a folder that is swapped.
  ground.file("v1/token", "1");
  ground.file("v2/token", "2");
  ASSERT_TRUE(make_folders(ground / "pod"));
  ASSERT_EQ(::symlink("../v1", (ground / "pod/data").c_str()), 0);
  ASSERT_EQ(::symlink("data/token", (ground / "pod/token").c_str()), 0);
  w = watch({.paths = {ground / "pod/token"}});
  ASSERT_EQ(::symlink("../v2", (ground / "pod/data.new").c_str()), 0);
  ASSERT_EQ(::rename((ground / "pod/data.new").c_str(), (ground / "pod/data").c_str()), 0);
  expect_told(*w, "the folder behind the link was swapped");
}

TEST(FilesWatch, AFolderThatIsReplacedIsFoundAgain) {
  Ground ground;
  ground.file("top/a", "1");
  auto w = watch({.paths = {ground / "top"}}, {.blind = 50ms});
  ASSERT_EQ(::rename((ground / "top").c_str(), (ground / "old").c_str()), 0);
  expect_told(*w, "it was moved away");  // once: the capture says why there is nothing
  ASSERT_TRUE(make_folders(ground / "top"));
  expect_told(*w, "it is back");
  overwrite(ground / "old/a", "2");
  expect_quiet(*w, "the old one is nobody's");
  overwrite(ground / "top/a", "2");
  expect_told(*w, "the new one is watched");
}

// Where the kernel has no room for the folders, and on filesystems it is not told of: looking finds it.
TEST(FilesWatch, WithoutTheKernelItLooks) {
  Ground ground;
  ground.file("a", "1");
  ground.file("sub/b", "1");
  auto w = watch(ground.settings(), {.blind = 50ms, .folders_max = 0});
  EXPECT_NE(w->how().find("looked at every"), std::string::npos) << w->how();
  expect_quiet(*w, "nothing happened");
  overwrite(ground / "sub/b", "2");
  expect_told(*w, "a file was written");
  ASSERT_EQ(::unlink((ground / "a").c_str()), 0);
  expect_told(*w, "a file was deleted");
}

// The kernel tells nobody of what is written through mapped memory.
TEST(FilesWatch, WhatIsWrittenThroughMemoryIsFoundByLooking) {
  Ground ground;
  ground.file("a", std::string(4096, '1'));
  auto w = watch(ground.settings(), {.look = 100ms});
  Fd fd = *open_file(ground / "a", O_RDWR);
  void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(at, MAP_FAILED);
  static_cast<char*>(at)[7] = '2';
  ASSERT_EQ(::msync(at, 4096, MS_SYNC), 0);
  EXPECT_TRUE(*w->wait(kSoon, {}));
  ::munmap(at, 4096);
}

TEST(FilesWatch, MoreAtOnceThanTheKernelRemembersIsOneChange) {
  Ground ground;
  auto w = watch(ground.settings());
  for (int i = 0; i < 20'000; ++i) overwrite(ground / fmt::format("f{}", i), "");
  expect_told(*w, "20,000 files came");
  overwrite(ground / "f1", "1");
  expect_told(*w, "and one of them is watched like any");
}

TEST(FilesWatch, StopsWhenAskedTo) {
  Ground ground;
  auto w = watch(ground.settings());
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(100ms);
    stop.request_stop();
  });
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(*w->wait(1h, stop.get_token()));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

}  // namespace
}  // namespace kuramori::files
