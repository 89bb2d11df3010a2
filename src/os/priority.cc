#include "os/priority.h"

#include <dirent.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>

namespace kuramori {
namespace {

// linux/ioprio.h, which not every system's headers have.
constexpr int kWhoProcess = 1;
constexpr int kClassShift = 13;
constexpr int kClassBestEffort = 2;
constexpr int kClassIdle = 3;

// On Linux both belong to a thread. One that starts meanwhile was made by a thread that has them already, or
// is met: the list is read until a whole pass finds as many as the one before.
Result<void> for_each_thread(const std::function<int(pid_t)>& change, const char* what) {
  for (size_t before = 0, seen = SIZE_MAX; seen != before;) {
    before = seen;
    seen = 0;
    std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/task"), &::closedir);
    if (!folder) return system_error("cannot list the threads of this process", errno);
    while (const dirent* entry = ::readdir(folder.get())) {
      const auto thread = static_cast<pid_t>(std::atoi(entry->d_name));
      if (thread == 0) continue;
      ++seen;
      if (change(thread) != 0 && errno != ESRCH) return system_error(what, errno);
    }
  }
  return {};
}

Result<void> set_io(int priority_class, int level) {
  const int value = (priority_class << kClassShift) | level;
  return for_each_thread(
      [&](pid_t thread) { return static_cast<int>(::syscall(SYS_ioprio_set, kWhoProcess, thread, value)); },
      "cannot set the I/O priority");
}

}  // namespace

Result<void> be_nice(int nice) {
  return for_each_thread(
      [&](pid_t thread) { return ::setpriority(PRIO_PROCESS, static_cast<id_t>(thread), nice); },
      "cannot set the priority (nice)");
}

Result<void> be_idle_on_disks() {
  return set_io(kClassIdle, kIoLevelMax);
}

Result<void> be_modest_on_disks(int level) {
  return set_io(kClassBestEffort, level);
}

}  // namespace kuramori
