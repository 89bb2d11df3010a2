#include "source/files/walk.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>

#include "source/files/captured_for_tests.h"
#include "source/files/failing_calls_for_tests.h"

namespace kuramori::files {
namespace {

using Paths = std::vector<std::string>;

TEST(FilesWalk, gives_every_entry_once_in_tree_order_the_root_first) {
  Ground ground;
  for (const char* name : {"a/b", "a.b", "a-", "a/b.c", "z\xff\xfe", "a/c/d", "B", "a0"}) ground.file(name);
  Captured all = capture(ground.settings());
  EXPECT_FALSE(all.error);
  EXPECT_EQ(all.paths(),
            (Paths{"", "B", "a", "a/b", "a/b.c", "a/c", "a/c/d", "a-", "a.b", "a0", "z\xff\xfe"}));
  Paths sorted = all.paths();
  std::ranges::sort(sorted, [](const std::string& a, const std::string& b) { return tree_order(a, b); });
  EXPECT_EQ(sorted, all.paths());
  EXPECT_EQ(all.entry("").type, EntryType::kDirectory);
  EXPECT_TRUE(all.defects.empty());
}

TEST(FilesWalk, several_paths_stand_in_the_tree_of_the_machine_with_the_folders_above_them) {
  Ground ground;
  ground.file("one/a");
  ground.file("two");
  ground.file("not asked for");
  Captured all =
      capture({.paths = {ground / "two", ground / "one", ground / "one/a", ground.path() + "//./one/"}});
  const std::string at = ground.path().substr(1);
  Paths expected = {""};
  for (size_t slash = at.find('/'); slash != std::string::npos; slash = at.find('/', slash + 1))
    expected.push_back(at.substr(0, slash));
  for (const char* name : {"", "/one", "/one/a", "/two"}) expected.push_back(at + name);
  EXPECT_EQ(all.paths(), expected);
  EXPECT_EQ(all.find(at + "/two")->bytes, "x");
}

TEST(FilesWalk, a_single_file_keeps_its_place_on_the_machine) {
  Ground ground;
  ground.file("conf/app.env", "A=1");
  Captured all = capture({.paths = {ground / "conf/app.env"}});
  ASSERT_FALSE(all.entries.empty());
  EXPECT_EQ(all.entries.front().item.entry.path, "");
  EXPECT_EQ(all.entries.back().item.entry.path, (ground / "conf/app.env").substr(1));
  EXPECT_EQ(all.entries.back().bytes, "A=1");
}

TEST(FilesWalk, a_path_that_is_gone_is_named_and_moves_no_other) {
  Ground ground;
  ground.file("one/a");
  Captured all = capture({.paths = {ground / "one", ground / "two"}});
  EXPECT_FALSE(all.error);
  EXPECT_EQ(all.entries.back().item.entry.path, (ground / "one/a").substr(1));
  EXPECT_EQ(all.defect_of((ground / "two").substr(1)), "No such file or directory");
  all = capture({.paths = {ground / "two"}});
  ASSERT_TRUE(all.error);
  EXPECT_EQ(all.error->kind, ErrorKind::kNotFound);
  EXPECT_EQ(capture({.paths = {"relative"}}).error->kind, ErrorKind::kUsage);
  EXPECT_EQ(capture({.paths = {"/a/../b"}}).error->kind, ErrorKind::kUsage);
  EXPECT_EQ(capture({}).error->kind, ErrorKind::kUsage);
}

TEST(FilesWalk, links_pipes_sockets_and_devices_are_kept_by_record) {
  Ground ground;
  ground.file("file", "content");
  ground.link("file", "link");
  ground.link(std::string(3000, 'x'), "long");
  ground.link("nowhere/at all", "dangling");
  ASSERT_EQ(::mkfifo((ground / "pipe").c_str(), 0640), 0);
  ASSERT_EQ(::mknod((ground / "socket").c_str(), S_IFSOCK | 0755, 0), 0);
  const bool devices = ::mknod((ground / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0 &&
                       ::mknod((ground / "disk").c_str(), S_IFBLK | 0660, makedev(7, 99)) == 0;
  Captured all = capture(ground.settings());
  EXPECT_TRUE(all.defects.empty());
  EXPECT_EQ(all.entry("link").type, EntryType::kSymlink);
  EXPECT_EQ(all.entry("link").link, "file");
  EXPECT_EQ(all.entry("long").link, std::string(3000, 'x'));
  EXPECT_EQ(all.entry("dangling").link, "nowhere/at all");
  EXPECT_EQ(all.entry("pipe").type, EntryType::kFifo);
  EXPECT_EQ(all.entry("pipe").content, ContentKind::kNone);
  EXPECT_EQ(all.entry("socket").type, EntryType::kSocket);
  if (!devices) GTEST_SKIP() << "this machine lets us make no devices";
  EXPECT_EQ(all.entry("null").type, EntryType::kCharDevice);
  EXPECT_EQ(all.entry("null").rdev, makedev(1, 3));
  EXPECT_EQ(all.entry("disk").type, EntryType::kBlockDevice);
  EXPECT_EQ(all.entry("disk").rdev, makedev(7, 99));
}

TEST(FilesWalk, further_names_of_a_file_point_to_its_first_F2) {
  Ground ground;
  ground.file("a/first", "content");
  ground.folder("b");
  for (const char* name : {"b/second", "third"})
    ASSERT_EQ(::link((ground / "a/first").c_str(), (ground / name).c_str()), 0);
  Captured all = capture(ground.settings());
  EXPECT_EQ(all.entry("a/first").type, EntryType::kFile);
  EXPECT_EQ(all.entry("b/second").type, EntryType::kHardLink);
  EXPECT_EQ(all.entry("b/second").link, "a/first");
  EXPECT_EQ(all.entry("third").link, "a/first");
  EXPECT_EQ(all.entry("third").content, ContentKind::kNone);
  EXPECT_EQ(all.facts["hard_links"], "2");
}

TEST(FilesWalk, what_is_excluded_is_left_out_with_all_it_holds) {
  Ground ground;
  for (const char* name : {"a.tmp", "keep.tmp", "cache/a", "cache/keep.tmp", "deep/cache/b", "deep/c"})
    ground.file(name);
  FilesSettings settings = ground.settings();
  settings.exclude = {"*.tmp", "!keep.tmp", "/cache/"};
  Captured all = capture(settings);
  EXPECT_EQ(all.paths(), (Paths{"", "deep", "deep/c", "deep/cache", "deep/cache/b", "keep.tmp"}));
  EXPECT_EQ(all.facts["excluded"], "2");
}

TEST(FilesWalk, what_is_included_comes_with_the_folders_above_it_and_no_others) {
  Ground ground;
  for (const char* name : {"a/photo.jpg", "a/note", "b/note", "c/docs/x", "c/docs/deep/y", "c/z"})
    ground.file(name);
  FilesSettings settings = ground.settings();
  settings.include = {"*.jpg", "docs/"};
  EXPECT_EQ(capture(settings).paths(),
            (Paths{"", "a", "a/photo.jpg", "c", "c/docs", "c/docs/deep", "c/docs/deep/y", "c/docs/x"}));
  settings.exclude = {"deep"};
  EXPECT_EQ(capture(settings).paths(), (Paths{"", "a", "a/photo.jpg", "c", "c/docs", "c/docs/x"}));
}

TEST(FilesWalk, patterns_stand_in_each_path_that_was_asked_for) {
  Ground ground;
  for (const char* name : {"one/tmp/a", "one/b/tmp/c", "two/tmp/a", "two/d"}) ground.file(name);
  Captured all = capture({.paths = {ground / "one", ground / "two"}, .exclude = {"/tmp"}});
  const std::string at = ground.path().substr(1);
  EXPECT_EQ(all.find(at + "/one/tmp"), nullptr);
  EXPECT_EQ(all.find(at + "/two/tmp"), nullptr);
  EXPECT_NE(all.find(at + "/one/b/tmp/c"), nullptr);
}

TEST(FilesWalk, a_tree_deeper_than_open_folders_and_paths_may_be_is_walked_whole) {
  Ground ground;
  constexpr int kDepth = 150;
  const std::string name(60, 'd');  // 9,150 bytes at the bottom: more than PATH_MAX
  Fd folder = *open_folder(ground.path());
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_EQ(::mkdirat(folder.get(), name.c_str(), 0755), 0);
    Fd file = *open_at(folder, "z" + std::to_string(i), O_CREAT | O_WRONLY);  // met on the way back up
    ASSERT_TRUE(write_full(file, as_bytes(std::to_string(i)), "z"));
    folder = *open_at(folder, name, O_RDONLY | O_DIRECTORY);
  }
  Captured all = capture(ground.settings());
  EXPECT_TRUE(all.defects.empty()) << all.defects.front().why;
  ASSERT_EQ(all.entries.size(), 2u * kDepth + 1);
  EXPECT_EQ(all.entries.back().bytes, "0");
  EXPECT_EQ(all.entries[kDepth + 1].bytes, std::to_string(kDepth - 1));
}

TEST(FilesWalk, a_folder_that_becomes_a_link_in_the_middle_is_not_followed_V27) {
  Ground ground, outside;
  ground.file("a");
  ground.file("b/inside");
  outside.file("secret");
  auto begun = *begin_capture(ground.settings(), {}, silent_reporter(), {});
  for (const char* expected : {"", "a"}) EXPECT_EQ((**begun->next()).entry.path, expected);
  ASSERT_EQ(::rename((ground / "b").c_str(), (ground / "c").c_str()), 0);
  ground.link(outside.path(), "b");
  Captured rest = run_capture(*begun);
  EXPECT_EQ(rest.paths(), (Paths{"b"}));
  EXPECT_EQ(rest.entry("b").type, EntryType::kSymlink);
}

TEST(FilesWalk, what_is_read_below_a_folder_that_became_a_link_is_not_from_there_V27) {
  Ground ground, outside;
  ground.file("b/name", "inside");
  outside.file("name", "secret");
  auto begun = *begin_capture(ground.settings(), {}, silent_reporter(), {});
  CaptureItem item;
  while (item.entry.path != "b/name") item = **begun->next();
  ASSERT_EQ(::rename((ground / "b").c_str(), (ground / "c").c_str()), 0);
  ground.link(outside.path(), "b");
  MemorySink sink;
  Result<void> read = begun->read(item, sink);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kPartial);
  EXPECT_EQ(sink.bytes, "");
}

TEST(FilesWalk, what_is_deleted_before_its_turn_is_not_there_and_no_defect) {
  Ground ground;
  for (const char* name : {"a", "b", "c/d", "e"}) ground.file(name);
  auto begun = *begin_capture(ground.settings(), {}, silent_reporter(), {});
  for (const char* expected : {"", "a"}) EXPECT_EQ((**begun->next()).entry.path, expected);
  ASSERT_TRUE(remove_file(ground / "b"));
  ASSERT_TRUE(remove_tree(ground / "c"));
  CaptureItem e = **begun->next();
  ASSERT_TRUE(remove_file(ground / "e"));
  MemorySink sink;
  EXPECT_EQ(begun->complete(e).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(begun->read(e, sink).error().kind, ErrorKind::kNotFound);
  Captured rest = run_capture(*begun);
  EXPECT_TRUE(rest.entries.empty());
  EXPECT_TRUE(rest.defects.empty());
}

TEST(FilesWalk, what_may_not_be_read_is_named_and_the_rest_is_kept_V13) {
  Ground ground;
  ground.file("closed/a");
  ground.file("locked");
  ground.file("open/b", "fine");
  ground.file("unsearchable/c");
  ASSERT_EQ(::chmod((ground / "closed").c_str(), 0), 0);
  ASSERT_EQ(::chmod((ground / "locked").c_str(), 0), 0);
  ASSERT_EQ(::chmod((ground / "unsearchable").c_str(), 0400), 0);
  Captured all;
  without_privileges([&] { all = capture(ground.settings()); });
  EXPECT_FALSE(all.error);
  EXPECT_EQ(all.paths(), (Paths{"", "closed", "open", "open/b", "unsearchable"}));
  EXPECT_EQ(all.defect_of("closed"), "Permission denied");
  EXPECT_EQ(all.defect_of("locked"), "Permission denied");
  EXPECT_EQ(all.defect_of("unsearchable/c"), "Permission denied");
  EXPECT_EQ(all.defects.size(), 3u);
  EXPECT_EQ(all.find("open/b")->bytes, "fine");
}

// What one failing call takes away must be named, itself or a folder above it.
void expect_nothing_quietly_missing(const Captured& whole, const Captured& seen, const std::string& how) {
  if (seen.error) return;
  auto named = [&](const std::string& path) {
    return std::ranges::any_of(seen.defects, [&](const Defect& defect) {
      return defect.path == path || defect.path.empty() || path.starts_with(defect.path + "/");
    });
  };
  for (const Kept& kept : whole.entries) {
    const std::string& path = kept.item.entry.path;
    const Kept* there = seen.find(path);
    EXPECT_TRUE(named(path) ||
                (there != nullptr && there->item.entry == kept.item.entry && there->bytes == kept.bytes))
        << how << ": \"" << path << "\"";
  }
}

TEST(FilesWalk, whichever_call_fails_nothing_is_quietly_missing_V13) {
  Ground ground;
  for (const char* name : {"a/b/c", "a/d", "e", "f/g"}) ground.file(name, name);
  ground.link("e", "link");
  ASSERT_EQ(::link((ground / "e").c_str(), (ground / "other name").c_str()), 0);
  ASSERT_EQ(::setxattr((ground / "a/d").c_str(), "user.color", "red", 3, 0), 0);
  ASSERT_EQ(::setxattr((ground / "f").c_str(), "user.color", "blue", 4, 0), 0);
  const Captured whole = capture(ground.settings());
  ASSERT_TRUE(whole.defects.empty());
  size_t failures = 0, named = 0;
  const std::pair<const char*, long> calls[] = {
      {"openat", SYS_openat},   {"openat2", SYS_openat2},       {"newfstatat", SYS_newfstatat},
      {"fstat", SYS_fstat},     {"getdents64", SYS_getdents64}, {"readlinkat", SYS_readlinkat},
      {"pread64", SYS_pread64}, {"listxattr", SYS_listxattr},   {"getxattr", SYS_getxattr}};
  for (const auto& [name, number] : calls) {
    for (int code : {EACCES, EIO, ELOOP, ENOMEM, ENFILE}) {
      for (size_t k = 0, count = 1; k < count; ++k) {
        Captured seen;
        count = with_failing_call(number, k, code, [&] { seen = capture(ground.settings()); });
        expect_nothing_quietly_missing(whole, seen, fmt::format("{} {} fails with errno {}", name, k, code));
        ++failures;
        if (seen.error || !seen.defects.empty()) ++named;
      }
    }
  }
  EXPECT_GT(failures, 150u);
  EXPECT_GT(named, failures / 2);  // the failures did fail something
}

TEST(FilesWalk, other_filesystems_are_kept_as_folders_where_asked_and_the_kernels_own_always) {
  Ground ground;
  ground.file("a");
  for (const char* name : {"mounted", "proc"}) ground.folder(name);
  if (::mount("none", (ground / "mounted").c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "this machine lets us mount nothing";
  }
  ASSERT_EQ(::mount("none", (ground / "proc").c_str(), "proc", 0, nullptr), 0);
  ground.file("mounted/b", "there");
  FilesSettings settings = ground.settings();
  Captured across = capture(settings);
  settings.one_filesystem = true;
  Captured within = capture(settings);
  EXPECT_EQ(::umount((ground / "mounted").c_str()), 0);
  EXPECT_EQ(::umount((ground / "proc").c_str()), 0);
  EXPECT_EQ(across.paths(), (Paths{"", "a", "mounted", "mounted/b", "proc"}));
  EXPECT_EQ(within.paths(), (Paths{"", "a", "mounted", "proc"}));
  EXPECT_EQ(within.facts["other_filesystems"], "1");
  EXPECT_EQ(within.facts["kernel_filesystems"], "1");
}

TEST(FilesWalk, stops_when_asked) {
  Ground ground;
  ground.file("a");
  std::stop_source stop;
  auto begun = *begin_capture(ground.settings(), {}, silent_reporter(), stop.get_token());
  ASSERT_TRUE(begun->next());
  stop.request_stop();
  EXPECT_EQ(begun->next().error().kind, ErrorKind::kInterrupted);
  EXPECT_FALSE(begun->finish());
}

}  // namespace
}  // namespace kuramori::files
