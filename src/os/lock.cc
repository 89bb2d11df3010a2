#include "os/lock.h"

#include <fmt/core.h>
#include <sys/file.h>

#include <cerrno>

namespace kuramori {

constexpr Duration kLockPollStep = std::chrono::milliseconds(20);

Result<bool> try_flock(const Fd& fd, std::string_view name, LockMode mode) {
  int operation = (mode == LockMode::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  for (;;) {
    if (::flock(fd.get(), operation) == 0) return true;
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) return system_error(fmt::format("lock \"{}\"", name), errno);
  }
}

Result<std::optional<FileLock>> FileLock::try_acquire(const std::string& path, LockMode mode) {
  for (;;) {
    TRY_ASSIGN(Fd fd, open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    TRY_ASSIGN(bool held, try_flock(fd, path, mode));
    if (!held) return std::optional<FileLock>();
    // Between open and flock the file may have been removed and made anew: then this lock guards nothing.
    TRY_ASSIGN(FileStatus mine, status_of(fd, path));
    TRY_ASSIGN(std::optional<FileStatus> named, status_if_there(path));
    if (named && named->inode == mine.inode && named->device == mine.device) {
      return std::optional<FileLock>(FileLock(std::move(fd)));
    }
  }
}

Result<FileLock> FileLock::acquire(const std::string& path, Duration limit, std::stop_token stop,
                                   LockMode mode) {
  Duration deadline = system_clock().steady() + limit;
  for (;;) {
    TRY_ASSIGN(std::optional<FileLock> lock, try_acquire(path, mode));
    if (lock) return std::move(*lock);
    if (stop.stop_requested())
      return fail(ErrorKind::kInterrupted, fmt::format("lock \"{}\"", path), "stopped");
    if (system_clock().steady() >= deadline) {
      return fail(ErrorKind::kRefused, fmt::format("lock \"{}\"", path), "another process holds it");
    }
    system_clock().sleep(kLockPollStep);
  }
}

}  // namespace kuramori
