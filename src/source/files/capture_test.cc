#include "source/files/capture.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>

#include <mutex>
#include <thread>

#include "source/files/attributes.h"
#include "source/files/captured_for_tests.h"
#include "source/files/content.h"
#include "source/files/failing_calls_for_tests.h"
#include "source/files/mounts.h"

namespace kuramori::files {
namespace {

// The item of one file, and the capture it is of.
struct One {
  explicit One(const Ground& ground, const std::string& path)
      : capture(*begin_capture(ground.settings(), {}, silent_reporter(), {})) {
    while (item.entry.path != path) item = **capture->next();
  }
  std::unique_ptr<TreeCapture> capture;
  CaptureItem item;
  MemorySink sink;
};

void write_over(const std::string& path, std::string_view content, int flags = O_TRUNC) {
  Fd fd = *open_file(path, O_WRONLY | flags);
  ASSERT_TRUE(write_full(fd, as_bytes(content), path));
}

TEST(FilesCapture, reads_files_of_every_size_whole) {
  Ground ground;
  const size_t sizes[] = {
      0, 1, 4095, kReadStepBytes - 1, kReadStepBytes, kReadStepBytes + 1, 3 * kReadStepBytes + 7};
  std::map<std::string, std::string> expected;
  for (size_t size : sizes) {
    std::string content;
    for (size_t i = 0; i < size; ++i) content += static_cast<char>(i * 31 + i / 251);
    expected[std::to_string(size)] = content;
    ground.file(std::to_string(size), content);
  }
  Captured all = capture(ground.settings());
  for (const auto& [path, content] : expected) {
    EXPECT_EQ(all.find(path)->bytes, content) << path;
    EXPECT_EQ(all.entry(path).size, content.size());
  }
}

TEST(FilesCapture, a_file_that_changes_while_it_is_read_is_read_again) {
  Ground ground;
  ground.file("a", std::string(3 * kReadStepBytes, '1'));
  One one(ground, "a");
  bool changed = false;
  const std::string second(2 * kReadStepBytes + 5, '2');
  one.sink.on_add = [&] {
    if (!std::exchange(changed, true)) write_over(ground / "a", second);
  };
  ASSERT_TRUE(one.capture->read(one.item, one.sink));
  EXPECT_EQ(one.sink.restarts, 1);
  EXPECT_EQ(one.sink.bytes, second);
  EXPECT_EQ(one.item.entry.size, second.size());
  EXPECT_TRUE(one.capture->defects().empty());
}

TEST(FilesCapture, a_file_that_is_replaced_by_another_of_its_name_is_read_as_one_of_them) {
  Ground ground;
  ground.file("a", std::string(3 * kReadStepBytes, '1'));
  ground.file("b", std::string(10, '2'));
  One one(ground, "a");
  one.sink.on_add = [&] { (void)::rename((ground / "b").c_str(), (ground / "a").c_str()); };
  ASSERT_TRUE(one.capture->read(one.item, one.sink));
  const bool is_old = one.sink.bytes == std::string(3 * kReadStepBytes, '1');
  EXPECT_TRUE(is_old || one.sink.bytes == std::string(10, '2'));
  EXPECT_EQ(one.item.entry.size, one.sink.bytes.size());
}

// As on a network filesystem whose other users remove and replace files.
TEST(FilesCapture, a_file_whose_handle_went_stale_is_opened_and_read_again_V13) {
  Ground ground;
  ground.file("a", std::string(3 * kReadStepBytes, '1'));
  ground.file("b", "as ever");
  for (size_t k = 0; k < 3; ++k) {
    Captured seen;
    const size_t calls =
        with_failing_call(SYS_pread64, k, ESTALE, [&] { seen = capture(ground.settings()); });
    EXPECT_EQ(calls, 4 + k + 1) << k;  // those before it failed were in vain
    EXPECT_FALSE(seen.error);
    EXPECT_TRUE(seen.defects.empty());
    EXPECT_EQ(seen.find("a")->bytes, std::string(3 * kReadStepBytes, '1')) << k;
    EXPECT_EQ(seen.find("b")->bytes, "as ever");
  }
}

TEST(FilesCapture, attributes_whose_handle_went_stale_are_read_again_V13) {
  Ground ground;
  ground.file("a");
  ASSERT_EQ(::setxattr((ground / "a").c_str(), "user.a", "1", 1, 0), 0);
  for (const long number : {SYS_listxattr, SYS_getxattr}) {
    Captured seen;
    const size_t calls =
        with_failing_call(number, 0, ESTALE, [&] { seen = capture({.paths = {ground / "a"}}); });
    EXPECT_GT(calls, 1u);
    EXPECT_FALSE(seen.error);
    EXPECT_TRUE(seen.defects.empty());
    const std::string path = (ground / "a").substr(1);
    EXPECT_EQ(seen.entry(path).attributes, (Attributes{{"user.a", "1"}}));
  }
}

TEST(FilesCapture, a_stale_file_that_is_gone_when_it_is_opened_again_is_gone_and_nothing_else_V13) {
  Ground ground;
  ground.file("a", std::string(2 * kReadStepBytes, '1'));
  ground.file("b", "as ever");
  One one(ground, "a");
  one.sink.on_add = [&] { (void)::unlink((ground / "a").c_str()); };
  Result<void> read;
  with_failing_call(SYS_pread64, 1, ESTALE, [&] { read = one.capture->read(one.item, one.sink); });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kNotFound);
}

TEST(FilesCapture, a_file_that_never_stands_still_is_kept_as_read_last_and_named_V13) {
  Ground ground;
  ground.file("log", std::string(2 * kReadStepBytes, '.'));
  One one(ground, "log");
  one.sink.on_add = [&] { write_over(ground / "log", "a line\n", O_APPEND); };
  ASSERT_TRUE(one.capture->read(one.item, one.sink));
  EXPECT_EQ(one.sink.restarts, kReadsMax - 1);
  EXPECT_EQ(one.item.entry.size, one.sink.bytes.size());
  ASSERT_EQ(one.capture->defects().size(), 1u);
  EXPECT_EQ(one.capture->defects()[0].path, "log");
  EXPECT_EQ(one.capture->defects()[0].why, "changed while it was read");
}

TEST(FilesCapture, a_file_that_is_cut_off_while_read_is_never_kept_at_its_old_length) {
  Ground ground;
  ground.file("a", std::string(4 * kReadStepBytes, '1'));
  One one(ground, "a");
  one.sink.on_add = [&] { (void)::truncate((ground / "a").c_str(), 100); };
  ASSERT_TRUE(one.capture->read(one.item, one.sink));
  EXPECT_EQ(one.item.entry.size, 100u);
  EXPECT_EQ(one.sink.bytes, std::string(100, '1'));
}

TEST(FilesCapture, a_pipe_in_the_place_of_a_file_is_not_waited_for) {
  Ground ground;
  ground.file("a");
  One one(ground, "a");
  ASSERT_TRUE(remove_file(ground / "a"));
  ASSERT_EQ(::mkfifo((ground / "a").c_str(), 0600), 0);
  Result<void> read = one.capture->read(one.item, one.sink);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kPartial);
}

TEST(FilesCapture, a_further_name_can_take_the_place_of_a_first_that_is_gone) {
  Ground ground;
  ground.file("a", "content");
  ASSERT_EQ(::link((ground / "a").c_str(), (ground / "b").c_str()), 0);
  One one(ground, "b");
  ASSERT_EQ(one.item.entry.type, EntryType::kHardLink);
  ASSERT_TRUE(remove_file(ground / "a"));
  ASSERT_TRUE(one.capture->read(one.item, one.sink));
  EXPECT_EQ(one.sink.bytes, "content");
  EXPECT_EQ(one.item.entry.size, 7u);
}

TEST(FilesCapture, holes_are_given_as_holes_F2) {
  Ground ground;
  ground.file("sparse", "");
  constexpr uint64_t kSize = uint64_t{64} << 20;
  {
    Fd fd = *open_file(ground / "sparse", O_RDWR);
    ASSERT_EQ(::ftruncate(fd.get(), kSize), 0);
    ASSERT_TRUE(pwrite_full(fd, 20 << 20, as_bytes("middle"), "sparse"));
  }
  One one(ground, "sparse");
  ASSERT_TRUE(one.capture->read(one.item, one.sink));
  EXPECT_EQ(one.sink.bytes.size(), kSize);
  EXPECT_EQ(one.sink.bytes.substr(20 << 20, 6), "middle");
  EXPECT_EQ(one.sink.bytes.find_first_not_of('\0'), size_t{20} << 20);
  EXPECT_GT(one.sink.holes, kSize - (1 << 20));
}

TEST(FilesCapture, leaves_no_trace_of_its_reading) {
  Ground ground;
  ground.file("a/b");
  const timespec old[2] = {{.tv_sec = 1000},
                           {.tv_sec = 2000}};  // accessed before it was changed: due to be updated
  for (const char* name : {"a/b", "a"}) ASSERT_EQ(::utimensat(AT_FDCWD, (ground / name).c_str(), old, 0), 0);
  EXPECT_FALSE(capture(ground.settings()).error);
  for (const char* name : {"a/b", "a"}) {
    struct stat status;
    ASSERT_EQ(::lstat((ground / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_atim.tv_sec, 1000) << name;
  }
}

TEST(FilesCapture, a_file_changed_a_moment_ago_is_not_trusted_to_be_unchanged_next_time) {
  Ground ground;
  ground.file("young");
  One young(ground, "young");
  ASSERT_NE(young.item.ctime_ns, 0);
  ASSERT_TRUE(young.capture->read(young.item, young.sink));
  EXPECT_EQ(young.item.ctime_ns, 0);
  EXPECT_FALSE(is_young(young.item.ctime_ns));
}

TEST(FilesCapture, attributes_and_owners_come_when_they_are_asked_for_F2) {
  Ground ground;
  ground.file("a");
  ground.folder("b");
  ground.link("a", "c");
  ASSERT_EQ(::setxattr((ground / "a").c_str(), "user.z", "\0\xff", 2, 0), 0);
  ASSERT_EQ(::setxattr((ground / "a").c_str(), "user.a", "", 0, 0), 0);
  ASSERT_EQ(::setxattr((ground / "a").c_str(), "user.long", std::string(3000, 'l').data(), 3000, 0), 0);
  ASSERT_EQ(::setxattr((ground / "b").c_str(), "user.b", "folder", 6, 0), 0);
  const bool trusted = ::lsetxattr((ground / "c").c_str(), "trusted.c", "link", 4, 0) == 0;
  ASSERT_EQ(::mkfifo((ground / "pipe").c_str(), 0600), 0);
  One one(ground, "a");
  EXPECT_TRUE(one.item.entry.attributes.empty());
  Captured all = capture(ground.settings());
  EXPECT_EQ(all.entry("a").attributes,
            (Attributes{{"user.a", ""}, {"user.long", std::string(3000, 'l')}, {"user.z", {"\0\xff", 2}}}));
  EXPECT_EQ(all.entry("b").attributes, (Attributes{{"user.b", "folder"}}));
  EXPECT_EQ(all.entry("c").attributes, trusted ? (Attributes{{"trusted.c", "link"}}) : Attributes{});
  EXPECT_TRUE(all.entry("pipe").attributes.empty());
  if (::geteuid() == 0) {
    EXPECT_EQ(all.entry("a").user, "root");
    EXPECT_EQ(all.entry("a").group, "root");
  }
  EXPECT_TRUE(all.defects.empty());
}

TEST(FilesCapture, an_owner_without_a_name_is_kept_by_number) {
  Ground ground;
  ground.file("a");
  if (::lchown((ground / "a").c_str(), 3123456789u, 3123456788u) != 0) GTEST_SKIP() << "needs root";
  Captured all = capture(ground.settings());
  EXPECT_EQ(all.entry("a").uid, 3123456789u);
  EXPECT_EQ(all.entry("a").gid, 3123456788u);
  EXPECT_EQ(all.entry("a").user, "");
}

// --- hooks -------------------------------------------------------------------------------------------

class Listening : public Reporter {
 public:
  void phase(std::string_view, uint64_t) override {}
  void advance(uint64_t) override {}
  void note(std::string_view text) override { add(text); }
  void warning(std::string_view text) override { add(text); }
  std::string all;

 private:
  void add(std::string_view text) {
    std::lock_guard hold(mutex_);
    all += std::string(text) + "\n";
  }
  std::mutex mutex_;
};

TEST(FilesHooks, run_before_the_first_look_and_after_the_last) {
  Ground ground, beside;
  ground.file("a");
  FilesSettings settings = ground.settings();
  settings.hooks_before = {"echo dumped > " + ground / "dump"};
  settings.hooks_after = {"rm " + ground / "dump", "echo done > " + beside / "done"};
  Captured all = capture(settings);
  EXPECT_EQ(all.find("dump")->bytes, "dumped\n");
  EXPECT_FALSE(*status_if_there(ground / "dump"));
  EXPECT_TRUE(*status_if_there(beside / "done"));
}

TEST(FilesHooks, one_before_that_fails_is_the_captures_failure_and_those_after_still_run) {
  Ground ground;
  FilesSettings settings = ground.settings();
  settings.hooks_before = {"true", "echo cannot freeze >&2; exit 3", "touch " + ground / "never"};
  settings.hooks_after = {"touch " + ground / "thawed"};
  Captured all = capture(settings);
  ASSERT_TRUE(all.error);
  EXPECT_NE(all.error->what.find("exit status 3"), std::string::npos) << all.error->what;
  EXPECT_EQ(all.error->why, "cannot freeze");
  EXPECT_FALSE(*status_if_there(ground / "never"));
  EXPECT_TRUE(*status_if_there(ground / "thawed"));
}

TEST(FilesHooks, one_after_that_fails_is_a_warning_and_the_others_run_once) {
  Ground ground;
  FilesSettings settings = ground.settings();
  settings.hooks_after = {"echo no >&2; false", "echo x >> " + ground / "count"};
  Listening reporter;
  {
    auto begun = *begin_capture(settings, {}, reporter, {});
    Captured all = run_capture(*begun);
    EXPECT_FALSE(all.error);
  }
  EXPECT_NE(reporter.all.find("ended with exit status 1: no"), std::string::npos) << reporter.all;
  EXPECT_EQ(as_text(*read_file(ground / "count")), "x\n");
}

TEST(FilesHooks, those_after_run_when_a_capture_is_given_up) {
  Ground ground;
  FilesSettings settings = ground.settings();
  settings.hooks_after = {"touch " + ground / "thawed"};
  begin_capture(settings, {}, silent_reporter(), {})->reset();
  EXPECT_TRUE(*status_if_there(ground / "thawed"));
}

TEST(FilesHooks, one_that_does_not_end_is_stopped) {
  Ground ground;
  FilesSettings settings = ground.settings();
  settings.hooks_before = {"exec sleep 1000"};
  settings.hook_timeout = std::chrono::milliseconds(50);
  EXPECT_TRUE(capture(settings).error);
}

// --- mounts ------------------------------------------------------------------------------------------

TEST(FilesMounts, a_folder_that_lacks_its_mount_is_never_kept_as_an_empty_one_V13) {
  Ground ground;
  ground.folder("efs/data");
  ground.file(
      "fstab",
      fmt::format("# comment\nfs-1:/ {} nfs4 defaults 0 0\nfs-2:/ {} nfs4 noauto 0 0\n/dev/x none swap sw\n",
                  ground / "efs", ground / "other"));
  ground.file("mounts", "");
  const MountFiles files = {.expected = ground / "fstab", .mounted = ground / "mounts"};
  for (const char* path : {"efs", "efs/data"}) {
    Captured all = capture({.paths = {ground / path}}, files);
    ASSERT_TRUE(all.error) << path;
    EXPECT_EQ(all.error->next, "mount " + ground / "efs");
  }
  Captured above = capture({.paths = {ground.path()}}, files);
  EXPECT_FALSE(above.error);
  EXPECT_NE(above.defect_of("efs").find("is not mounted"), std::string::npos);
  EXPECT_NE(above.find("efs/data"), nullptr);
  EXPECT_TRUE(capture({.paths = {ground.path()}, .exclude = {"efs"}}, files).defects.empty());
  EXPECT_TRUE(capture({.paths = {ground.path()}, .one_filesystem = true}, files).defects.empty());
  ground.file("mounts", fmt::format("fs-1:/ {} nfs4 rw 0 0\n", ground / "efs"));
  EXPECT_FALSE(capture({.paths = {ground / "efs"}}, files).error);
  EXPECT_FALSE(missing_mount(ground / "other", read_mounts(files.expected), {}));
  EXPECT_TRUE(missing_mount(ground / "efs", read_mounts(files.expected), {}));
}

}  // namespace
}  // namespace kuramori::files
