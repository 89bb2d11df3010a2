// What a local store asks of the kernel, and what it makes of refusals. The calls below take the C library's
// place in this test program alone: they record the order of what makes an object durable (V11), and make the
// k-th of them fail, for every k (V25, P67, P68).
#include <fcntl.h>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "os/file.h"
#include "store/local/local_store.h"

namespace {

struct Tracer {
  bool on = false;
  std::vector<std::string> steps;
  int fail_at = 0;    // the number of the call that fails; 0: none
  int fail_with = 0;  // errno
  int calls = 0;

  // True: fail this one.
  bool meets(std::string step) {
    if (!on) return false;
    steps.push_back(std::move(step));
    if (++calls != fail_at) return false;
    errno = fail_with;
    return true;
  }
};
Tracer tracer;

std::string path_of(int fd) {
  char path[4096];
  ssize_t size = ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), path, sizeof path);
  return std::string(path, static_cast<size_t>(std::max<ssize_t>(size, 0)));
}

}  // namespace

// With 64-bit offsets as the default, pread and pwrite here are the symbols pread64 and pwrite64.
extern "C" {
int fsync(int fd) {
  if (tracer.meets("fsync " + path_of(fd))) return -1;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
ssize_t pwrite(int fd, const void* from, size_t size, off_t offset) {
  if (tracer.meets("write " + path_of(fd))) return -1;
  return ::syscall(SYS_pwrite64, fd, from, size, offset);
}
ssize_t pread(int fd, void* to, size_t size, off_t offset) {
  if (tracer.meets("read " + path_of(fd))) return -1;
  return ::syscall(SYS_pread64, fd, to, size, offset);
}
int mkdirat(int folder, const char* name, mode_t mode) {
  if (tracer.meets(fmt::format("mkdir {}/{}", path_of(folder), name))) return -1;
  return static_cast<int>(::syscall(SYS_mkdirat, folder, name, mode));
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  if (tracer.meets(fmt::format("rename {}/{}", path_of(to_folder), to))) return -1;
  return static_cast<int>(::syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}
int unlinkat(int folder, const char* name, int flags) noexcept {
  // Recorded, never failed: cleaning up is not what is tested here.
  if (tracer.on) tracer.steps.push_back(fmt::format("unlink {}/{}", path_of(folder), name));
  return static_cast<int>(::syscall(SYS_unlinkat, folder, name, flags));
}
int fchmod(int fd, mode_t mode) noexcept {
  if (tracer.meets("chmod " + path_of(fd))) return -1;
  return static_cast<int>(::syscall(SYS_fchmod, fd, mode));
}
}

namespace kuramori {
namespace {

class SyscallTest : public testing::Test {
 protected:
  ~SyscallTest() override { tracer = {}; }
  std::string root() { return folder_ / "v"; }

  // Runs `work` with call number `fail_at` failing, and returns what it asked of the kernel.
  template <class Work>
  auto traced(Work&& work, int fail_at = 0, int code = 0) {
    tracer = {.on = true, .fail_at = fail_at, .fail_with = code};
    auto result = work();
    tracer.on = false;
    return result;
  }
  // The recorded steps, paths relative to the vault, temporary names as `.tmp/*`.
  std::vector<std::string> steps() {
    std::vector<std::string> result;
    for (std::string step : tracer.steps) {
      if (size_t at = step.find(root()); at != std::string::npos) step.replace(at, root().size(), "");
      if (size_t at = step.find("/.tmp/"); at != std::string::npos) step.resize(at + 6), step += '*';
      result.push_back(step);
    }
    return result;
  }

  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-sys");
  std::unique_ptr<Store> store_ = *create_local_store(root());
};

using Steps = std::vector<std::string>;

TEST_F(SyscallTest, an_object_is_synced_before_it_has_a_name_and_its_folders_after) {  // V11
  ASSERT_TRUE(store_->put_if_absent("first", as_bytes("x")));
  ASSERT_TRUE(traced([&] { return store_->put_if_absent("a/b/c", as_bytes("x")); }));
  EXPECT_EQ(steps(), (Steps{"chmod /.tmp/*", "write /.tmp/*", "fsync /.tmp/*",  //
                            "mkdir /a", "chmod /a", "fsync ", "mkdir /a/b", "chmod /a/b", "fsync /a",
                            "rename /a/b/c", "fsync /a/b"}));
  ASSERT_TRUE(traced([&] { return store_->put_if_absent("a/b/d", as_bytes("x")); }));
  EXPECT_EQ(steps(),
            (Steps{"chmod /.tmp/*", "write /.tmp/*", "fsync /.tmp/*", "rename /a/b/d", "fsync /a/b"}));
}

TEST_F(SyscallTest, a_folder_somebody_else_made_is_synced_once_too) {  // V11
  ASSERT_TRUE(store_->put_if_absent("first", as_bytes("x")));
  ASSERT_TRUE(make_folders(root() + "/other"));
  ASSERT_TRUE(traced([&] { return store_->put_if_absent("other/a", as_bytes("x")); }));
  EXPECT_EQ(steps(), (Steps{"chmod /.tmp/*", "write /.tmp/*", "fsync /.tmp/*", "mkdir /other", "fsync ",
                            "rename /other/a", "fsync /other"}));
}

TEST_F(SyscallTest, exists_and_removed_are_durable_answers) {  // V11
  ASSERT_TRUE(store_->put_if_absent("a/x", as_bytes("x")));
  EXPECT_FALSE(traced([&] { return store_->put_if_absent("a/x", as_bytes("y")); }));
  EXPECT_EQ(steps(), (Steps{"chmod /.tmp/*", "write /.tmp/*", "fsync /.tmp/*", "rename /a/x", "fsync /a",
                            "unlink /.tmp/*"}));
  EXPECT_TRUE(traced([&] { return store_->remove("a/x"); }));
  EXPECT_EQ(steps(), (Steps{"unlink /a/x", "fsync /a"}));
  EXPECT_TRUE(traced([&] { return store_->remove("a/x"); }));
  EXPECT_EQ(steps(), (Steps{"unlink /a/x", "fsync /a"})) << "an earlier removal may not have been durable";
}

// V25, P67: whatever call the disk is full at, the error says so and nothing is left of the object.
TEST_F(SyscallTest, no_space_at_any_call_leaves_the_object_absent) {
  ASSERT_TRUE(store_->put_if_absent("first", as_bytes("x")));
  auto put_small = [&] { return store_->put_if_absent("n/a", as_bytes("x")); };
  auto put_large = [&]() -> Result<void> {
    TRY_ASSIGN(std::unique_ptr<ObjectWriter> writer, store_->create("n/a"));
    for (int i = 0; i < 9; ++i) TRY(writer->append(Bytes(1 << 20)));
    return writer->commit();
  };
  for (const std::function<Result<void>()>& put :
       {std::function<Result<void>()>(put_small), std::function<Result<void>()>(put_large)}) {
    for (int code : {ENOSPC, EDQUOT, EIO}) {
      int call = 1;
      for (;; ++call) {
        Result<void> result = traced(put, call, code);
        if (tracer.calls < call) {
          EXPECT_TRUE(result);
          break;
        }
        ASSERT_FALSE(result) << "call " << call << ": " << tracer.steps.back();
        Steps made = steps();
        bool after_rename =
            std::find(made.begin(), made.end(), "rename /n/a") != made.end() && made.back() == "fsync /n";
        ErrorKind expected = after_rename  ? ErrorKind::kUnknown
                             : code == EIO ? ErrorKind::kFailed
                                           : ErrorKind::kNoSpace;
        EXPECT_EQ(result.error().kind, expected) << "call " << call << ": " << made.back();
        EXPECT_EQ(list_folder(root() + "/.tmp")->size(), 0u);
        Result<ObjectInfo> left = store_->head("n/a");
        EXPECT_EQ(left.has_value(), after_rename);
        ASSERT_TRUE(remove_tree(root() + "/n"));
      }
      EXPECT_GE(call, 7);
      ASSERT_TRUE(remove_tree(root() + "/n"));
    }
  }
}

TEST_F(SyscallTest, a_read_error_is_an_error_and_not_an_absent_object) {  // P68
  ASSERT_TRUE(store_->put_if_absent("a/x", as_bytes("x")));
  for (int code : {EIO, EACCES, ESTALE}) {
    Result<Bytes> got = traced([&] { return store_->get("a/x"); }, 1, code);
    ASSERT_FALSE(got);
    EXPECT_NE(got.error().kind, ErrorKind::kNotFound);
    EXPECT_EQ(steps(), Steps{"read /a/x"});
  }
}

TEST_F(SyscallTest, where_renaming_without_replacing_is_unknown_a_link_does_it) {
  ASSERT_TRUE(store_->put_if_absent("first", as_bytes("x")));
  // chmod, write, fsync come first: the fourth is the rename.
  EXPECT_TRUE(traced([&] { return store_->put_if_absent("linked", as_bytes("x")); }, 4, EINVAL));
  EXPECT_EQ(steps()[3], "rename /linked");
  EXPECT_EQ(as_text(*store_->get("linked")), "x");
  EXPECT_EQ(status_of(root() + "/linked")->links, 1u);
  Result<void> again = traced([&] { return store_->put_if_absent("linked", as_bytes("y")); }, 4, EINVAL);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kExists);
  EXPECT_EQ(as_text(*store_->get("linked")), "x");
  EXPECT_EQ(list_folder(root() + "/.tmp")->size(), 0u);
}

}  // namespace
}  // namespace kuramori
