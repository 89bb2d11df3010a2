// A lock between processes: flock(2) on a file. The kernel lets go of it when the holder ends, however it
// ends.
#pragma once
#include <optional>
#include <stop_token>
#include <string>

#include "os/file.h"

namespace kuramori {

enum class LockMode { kShared, kExclusive };

class FileLock {
 public:
  // nullopt: another holds it. The file is made if absent and stays when the lock is released.
  static Result<std::optional<FileLock>> try_acquire(const std::string& path,
                                                     LockMode mode = LockMode::kExclusive);
  // Waits for it; kRefused after `limit`, kInterrupted when `stop` asks.
  static Result<FileLock> acquire(const std::string& path, Duration limit, std::stop_token stop = {},
                                  LockMode mode = LockMode::kExclusive);
  const Fd& fd() const { return fd_; }

 private:
  explicit FileLock(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

// flock on a descriptor one has: false when another open file description holds it.
Result<bool> try_flock(const Fd& fd, std::string_view name, LockMode mode = LockMode::kExclusive);

}  // namespace kuramori
