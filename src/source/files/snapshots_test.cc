// Captures from snapshots of a real btrfs, in a file that is mounted.
#include "source/files/snapshots.h"

#include <gtest/gtest.h>
#include <sys/file.h>

#include <atomic>
#include <thread>

#include "source/files/content.h"
#include "source/files/mounted_image_for_tests.h"

namespace kuramori::files {
namespace {

using namespace std::chrono_literals;

class Listening : public Reporter {
 public:
  void phase(std::string_view, uint64_t) override {}
  void advance(uint64_t) override {}
  void note(std::string_view text) override { notes += std::string(text) + "\n"; }
  void warning(std::string_view text) override { warnings += std::string(text) + "\n"; }
  std::string notes, warnings;
};

class FilesSnapshots : public testing::Test {
 protected:
  void SetUp() override {
    if (!image_.mounted()) GTEST_SKIP() << "this machine lets us make and mount no btrfs";
    subvolume("live");
  }
  void subvolume(const std::string& name) {
    ASSERT_TRUE(run_checked({.argv = {"btrfs", "subvolume", "create", *this / name}}));
  }
  std::string operator/(const std::string& name) const { return image_.path() + "/" + name; }
  void write(const std::string& name, std::string_view text) const {
    const std::string path = *this / name;
    Fd fd = *open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    ASSERT_TRUE(write_full(fd, as_bytes(text), path));
  }
  FilesSettings settings(Snapshot snapshot = Snapshot::kBtrfs) const {
    return {.paths = {*this / "live"}, .snapshot = snapshot};
  }
  Captured captured(const FilesSettings& settings) {
    auto begun = begin_capture(settings, {}, listening_, {});
    if (!begun) return {.error = begun.error()};
    return run_capture(**begun);
  }
  std::vector<std::string> snapshots(const std::string& of = "live") const {
    std::vector<std::string> names;
    auto entries = list_folder(*this / of + "/" + kSnapshotsFolder);
    if (!entries) return names;
    for (const FolderEntry& entry : *entries) names.push_back(entry.name);
    return names;
  }
  std::string leftover(const std::string& name) const {
    const std::string path = *this / ("live/" + std::string(kSnapshotsFolder) + "/" + name);
    EXPECT_TRUE(run_checked({.argv = {"btrfs", "subvolume", "snapshot", "-r", *this / "live", path}}));
    return path;
  }

  MountedImage image_{"btrfs"};
  Listening listening_;
};

// An application whose two files must agree: `z` says what `a` said a moment before, and never more.
class Application {
 public:
  explicit Application(std::string folder) : folder_(std::move(folder)) {
    round();
    thread_ = std::jthread([this](std::stop_token stop) {
      while (!stop.stop_requested()) round();
    });
  }
  uint64_t rounds() const { return rounds_; }
  // What the application would say of such a pair.
  static bool agree(const Captured& captured) {
    const uint64_t a = std::stoull(captured.find("a")->bytes), z = std::stoull(captured.find("z")->bytes);
    return a == z || a == z + 1;
  }

 private:
  void round() {
    const uint64_t number = ++rounds_;
    for (const char* name : {"a", "z"}) {
      const std::string path = folder_ + "/" + name, next = path + ".next";
      {
        Fd fd = *open_file(next, O_WRONLY | O_CREAT | O_TRUNC);
        (void)write_full(fd, as_bytes(std::to_string(number)), next);
        (void)sync_file(fd, next);
      }
      (void)::rename(next.c_str(), path.c_str());
    }
  }
  const std::string folder_;
  std::atomic<uint64_t> rounds_{0};
  std::jthread thread_;
};

// What two files say when the second is read some rounds after the first.
Captured captured_beside(Application& application, const FilesSettings& settings) {
  auto begun = begin_capture(settings, {}, silent_reporter(), {});
  EXPECT_TRUE(begun) << begun.error().what << ": " << begun.error().why;
  class Slowed : public TreeCapture {
   public:
    Slowed(TreeCapture& inner, Application& writer) : inner_(inner), writer_(writer) {}
    Result<std::optional<CaptureItem>> next() override { return inner_.next(); }
    Result<void> complete(CaptureItem& item) override {
      while (item.entry.path == "z" && writer_.rounds() < until_) std::this_thread::yield();
      return inner_.complete(item);
    }
    Result<void> read(CaptureItem& item, ContentSink& sink) override {
      Result<void> done = inner_.read(item, sink);
      if (item.entry.path == "a") until_ = writer_.rounds() + 5;
      return done;
    }
    Result<void> finish() override { return inner_.finish(); }
    std::vector<Defect> defects() const override { return inner_.defects(); }
    std::map<std::string, std::string> facts() const override { return inner_.facts(); }

   private:
    TreeCapture& inner_;
    Application& writer_;
    uint64_t until_ = 0;  // rounds
  } slowed(**begun, application);
  return run_capture(slowed);
}

TEST_F(FilesSnapshots, files_that_must_agree_do_so_in_a_snapshot_and_without_one_do_not_F2) {
  Application application(*this / "live");
  for (int i = 0; i < 10; ++i) {
    Captured all = captured_beside(application, settings(Snapshot::kAuto));
    ASSERT_FALSE(all.error) << all.error->what;
    EXPECT_TRUE(Application::agree(all));
    EXPECT_EQ(all.facts["captured_from"], "btrfs snapshot");
  }
  Captured live = captured_beside(application, settings(Snapshot::kOff));
  EXPECT_FALSE(Application::agree(live));
  EXPECT_EQ(live.facts["captured_from"], "live files");
}

TEST_F(FilesSnapshots, nothing_of_it_stays_and_nothing_of_it_is_in_the_tree) {
  write("live/a", "1");
  ASSERT_TRUE(make_folders(*this / "live/deep/below"));
  for (const char* path : {"live", "live/deep", ""}) {
    Captured all = captured({.paths = {*this / path}});
    EXPECT_FALSE(all.error);
    for (const std::string& entry : all.paths())
      EXPECT_EQ(entry.find("kuramori"), std::string::npos) << entry;
  }
  EXPECT_TRUE(snapshots().empty());
  EXPECT_NE(listening_.notes.find("read from a btrfs snapshot of " + *this / "live"), std::string::npos)
      << listening_.notes;
  // Nor are those of another's capture.
  leftover("of-somebody");
  EXPECT_EQ(captured(settings(Snapshot::kOff)).find(kSnapshotsFolder), nullptr);
  EXPECT_EQ(listening_.warnings, "");
}

TEST_F(FilesSnapshots, a_capture_that_is_given_up_takes_its_snapshot_along) {
  write("live/a", "1");
  auto begun = begin_capture(settings(), {}, silent_reporter(), {});
  ASSERT_TRUE(begun) << begun.error().what;
  EXPECT_EQ(snapshots().size(), 1u);
  begun->reset();
  EXPECT_TRUE(snapshots().empty());
}

TEST_F(FilesSnapshots, a_leftover_of_a_dead_process_is_removed_and_what_another_reads_from_is_not) {
  write("live/a", "1");
  auto other = begin_capture(settings(), {}, silent_reporter(), {});
  ASSERT_TRUE(other) << other.error().what;
  const std::vector<std::string> held = snapshots();
  ASSERT_EQ(held.size(), 1u);
  leftover("capture-0123456789abcdef");
  leftover("mine");  // a person's
  ASSERT_EQ(snapshots().size(), 3u);
  EXPECT_FALSE(captured(settings()).error);
  EXPECT_EQ(snapshots(), (std::vector<std::string>{held[0], "mine"}));
  write("live/a", "2");
  EXPECT_EQ(run_capture(**other).find("a")->bytes, "1");
  other->reset();
  EXPECT_EQ(snapshots(), std::vector<std::string>{"mine"});
}

TEST_F(FilesSnapshots, what_did_not_change_looks_unchanged_in_the_next_one) {
  write("live/a", "x");
  auto stamp = [&] {
    auto begun = *begin_capture(settings(), {}, silent_reporter(), {});
    CaptureItem item;
    while (item.entry.path != "a") item = **begun->next();
    return std::tuple(item.device, item.inode, item.ctime_ns, item.entry.size, item.entry.mtime_ns);
  };
  const auto first = stamp();
  EXPECT_NE(std::get<2>(first), 0);
  EXPECT_EQ(stamp(), first);
  // Live, too: a resource may be told to begin or to stop with snapshots.
  auto live = *begin_capture(settings(Snapshot::kOff), {}, silent_reporter(), {});
  CaptureItem item;
  while (item.entry.path != "a") item = **live->next();
  EXPECT_EQ(item.inode, std::get<1>(first));
  EXPECT_EQ(item.ctime_ns, std::get<2>(first));
}

TEST_F(FilesSnapshots, what_changed_just_before_it_is_not_trusted_however_late_it_is_read) {
  write("live/a", "x");
  auto begun = *begin_capture(settings(), {}, silent_reporter(), {});
  CaptureItem item;
  while (item.entry.path != "a") item = **begun->next();
  // Real time: the kernel's own stamps are compared with it.
  while (is_young(item.ctime_ns)) std::this_thread::sleep_for(50ms);
  // A change in the same tick as the snapshot would be in the next one, with this very time.
  ASSERT_TRUE(begun->complete(item));
  EXPECT_EQ(item.ctime_ns, 0);
}

TEST_F(FilesSnapshots, subvolumes_and_mounts_in_it_are_captured_as_they_are_and_named_V13) {
  write("live/a", "1");
  subvolume("live/nested");
  write("live/nested/b", "2");
  ASSERT_TRUE(make_folders(*this / "live/mounted"));
  ASSERT_EQ(::mount("none", (*this / "live/mounted").c_str(), "tmpfs", 0, "size=1m"), 0);
  write("live/mounted/c", "3");
  write("live/over", "under");
  write("live/bound", "bound");
  ASSERT_EQ(::mount((*this / "live/bound").c_str(), (*this / "live/over").c_str(), "", MS_BIND, ""), 0);
  Captured all = captured(settings());
  FilesSettings one = settings();
  one.one_filesystem = true;
  Captured alone = captured(one);
  for (const char* path : {"live/over", "live/mounted"}) ASSERT_EQ(::umount((*this / path).c_str()), 0);

  EXPECT_FALSE(all.error);
  EXPECT_TRUE(all.defects.empty());
  EXPECT_EQ(all.find("a")->bytes, "1");
  ASSERT_NE(all.find("nested/b"), nullptr);
  EXPECT_EQ(all.find("nested/b")->bytes, "2");
  ASSERT_NE(all.find("mounted/c"), nullptr);
  EXPECT_EQ(all.find("mounted/c")->bytes, "3");
  EXPECT_EQ(all.find("over")->bytes, "bound");
  EXPECT_EQ(all.facts["captured_from"], "btrfs snapshot and live files");
  EXPECT_EQ(all.facts["outside_snapshots"], "2");
  EXPECT_NE(listening_.warnings.find("\"mounted\", \"nested\""), std::string::npos) << listening_.warnings;
  // As without a snapshot: the folders, and nothing of what they hold.
  EXPECT_NE(alone.find("nested"), nullptr);
  EXPECT_EQ(alone.find("nested/b"), nullptr);
  EXPECT_EQ(alone.find("mounted/c"), nullptr);
  EXPECT_EQ(alone.facts["captured_from"], "btrfs snapshot");
}

TEST_F(FilesSnapshots, several_paths_share_one_of_each_subvolume) {
  subvolume("second");
  write("live/a", "1");
  ASSERT_TRUE(make_folders(*this / "live/sub"));
  write("live/sub/b", "2");
  write("second/c", "3");
  FilesSettings several{.paths = {*this / "live/a", *this / "live/sub", *this / "second"},
                        .snapshot = Snapshot::kBtrfs};
  auto begun = begin_capture(several, {}, listening_, {});
  ASSERT_TRUE(begun) << begun.error().what;
  for (const char* name : {"live/a", "live/sub/b", "second/c"}) write(name, "later");
  Captured all = run_capture(**begun);
  const std::string root = image_.path().substr(1);
  EXPECT_EQ(all.find(root + "/live/a")->bytes, "1");
  EXPECT_EQ(all.find(root + "/live/sub/b")->bytes, "2");
  EXPECT_EQ(all.find(root + "/second/c")->bytes, "3");
  EXPECT_EQ(all.facts["filesystem_snapshots"], "2");
}

TEST_F(FilesSnapshots, a_subvolume_that_cannot_change_is_read_as_it_is) {
  write("live/a", "1");
  ASSERT_TRUE(
      run_checked({.argv = {"btrfs", "subvolume", "snapshot", "-r", *this / "live", *this / "still"}}));
  Captured all = captured({.paths = {*this / "still"}, .snapshot = Snapshot::kBtrfs});
  ASSERT_FALSE(all.error) << all.error->what;
  EXPECT_EQ(all.find("a")->bytes, "1");
  EXPECT_EQ(listening_.notes, "");
}

// Of a folder that is mounted from elsewhere the subvolume's root cannot be seen.
TEST_F(FilesSnapshots, where_none_can_be_had_it_is_said_and_never_read_from_the_wrong_folder) {
  ASSERT_TRUE(make_folders(*this / "live/real"));
  ASSERT_TRUE(make_folders(*this / "live/shown"));
  write("live/real/a", "real");
  Ground elsewhere;
  elsewhere.folder("at");
  // Within the same subvolume the way up leads to its root, and the way down again somewhere else.
  for (const std::string& at : {elsewhere / "at", *this / "live/shown"}) {
    ASSERT_EQ(::mount((*this / "live/real").c_str(), at.c_str(), "", MS_BIND, ""), 0);
    listening_.notes.clear();
    Captured all = captured({.paths = {at}});
    const Captured refused = captured({.paths = {at}, .snapshot = Snapshot::kBtrfs});
    ASSERT_EQ(::umount(at.c_str()), 0);
    ASSERT_FALSE(all.error) << at;
    EXPECT_EQ(all.find("a")->bytes, "real");
    EXPECT_EQ(all.facts["captured_from"], "live files");
    EXPECT_NE(listening_.notes.find("is captured as it is read, without a snapshot"), std::string::npos)
        << listening_.notes;
    ASSERT_TRUE(refused.error);
    EXPECT_EQ(refused.error->kind, ErrorKind::kRefused);
  }
  EXPECT_TRUE(snapshots().empty());
}

TEST_F(FilesSnapshots, a_folder_of_snapshots_that_others_may_write_is_not_used) {
  write("live/a", "1");
  const std::string folder = *this / "live/" + kSnapshotsFolder;
  ASSERT_TRUE(make_folders(folder));
  ASSERT_EQ(::chmod(folder.c_str(), 0777), 0);
  Captured all = captured(settings());
  ASSERT_TRUE(all.error);
  EXPECT_EQ(all.error->kind, ErrorKind::kRefused);
  EXPECT_EQ(captured(settings(Snapshot::kAuto)).find("a")->bytes, "1");
}

TEST(FilesSnapshot, of_what_is_not_on_btrfs_is_refused_in_words_where_it_is_wanted) {
  MountedImage image("tmpfs");
  if (!image.mounted()) GTEST_SKIP() << "this machine lets us mount nothing";
  Captured all = capture({.paths = {image.path()}, .snapshot = Snapshot::kBtrfs});
  ASSERT_TRUE(all.error);
  EXPECT_EQ(all.error->kind, ErrorKind::kUsage);
  EXPECT_NE(all.error->what.find("is not on btrfs"), std::string::npos);
  Captured other = capture({.paths = {image.path()}});
  EXPECT_FALSE(other.error);
  EXPECT_EQ(other.facts["captured_from"], "live files");
}

}  // namespace
}  // namespace kuramori::files
