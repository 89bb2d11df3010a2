#include "source/postgres/sandbox_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "os/file.h"

namespace kuramori::postgres {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> raw;
  for (const auto& word : words) raw.push_back(const_cast<char*>(word.c_str()));
  raw.push_back(nullptr);
  return raw;
}

int exit_status_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// What a child reports before exec, through a pipe that exec closes.
struct ChildTrouble {
  int step = 0;
  int code = 0;
};
constexpr const char* kSteps[] = {"start",
                                  "tie its life to ours",
                                  "make a network namespace",
                                  "make a mount namespace",
                                  "hide a folder",
                                  "make everything but its own folders read-only",
                                  "become the owner of the data",
                                  "open the log",
                                  "execute the program"};

[[noreturn]] void give_up(int pipe, int step) {
  const ChildTrouble trouble{step, errno};
  [[maybe_unused]] auto written = ::write(pipe, &trouble, sizeof trouble);
  ::_exit(127);
}

}  // namespace

Result<ChildResult> run_child(const std::vector<std::string>& arguments, Duration limit) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make a pipe", errno);
  Fd reader(ends[0]), writer(ends[1]);
  const auto argv = pointers(arguments);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot start " + arguments[0], errno);
  if (pid == 0) {
    ::dup2(writer.get(), 1);
    ::dup2(writer.get(), 2);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  writer = Fd();
  ChildResult result;
  const Duration deadline = system_clock().steady() + limit;
  bool timed_out = false;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - system_clock().steady());
    if (left.count() <= 0) {
      timed_out = true;
      break;
    }
    pollfd wait{.fd = reader.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(std::min<int64_t>(left.count(), 1000)));
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    char buffer[4096];
    const ssize_t got = ::read(reader.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (result.output.size() < kChildOutputBytesMax) result.output.append(buffer, static_cast<size_t>(got));
  }
  if (timed_out) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (timed_out) return fail(ErrorKind::kFailed, arguments[0] + " did not end in time and was killed");
  result.status = exit_status_of(status);
  return result;
}

Result<pid_t> start_child(const ChildOptions& options) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make a pipe", errno);
  Fd reader(ends[0]), writer(ends[1]);
  const auto argv = pointers(options.arguments);
  const auto envp = pointers(options.environment);
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  const std::string uid_map = fmt::format("{0} {0} 1", uid), gid_map = fmt::format("{0} {0} 1", gid);
  const pid_t parent = ::getpid();
  const int log_flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;

  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot start " + options.arguments[0], errno);
  if (pid == 0) {
    const int trouble = writer.get();
    // Its own session: a terminal's Ctrl-C goes to kuramori, which stops the sandbox in order.
    ::setsid();
    if (options.no_network) {
      if (options.as_root) {
        if (::unshare(CLONE_NEWNET) != 0) give_up(trouble, 2);
      } else {
        if (::unshare(CLONE_NEWUSER | CLONE_NEWNET | (options.writable.empty() ? 0 : CLONE_NEWNS)) != 0)
          give_up(trouble, 2);
        // A process that hides its memory (or changed its user) does not own its own /proc files; until exec,
        // which is near, this child must.
        ::prctl(PR_SET_DUMPABLE, 1);
        // Only our own id, mapped to itself: files keep their owner.
        auto put = [&](const char* path, const std::string& text) {
          const int file = ::open(path, O_WRONLY | O_CLOEXEC);
          if (file < 0 || ::write(file, text.data(), text.size()) < 0) give_up(trouble, 2);
          ::close(file);
        };
        put("/proc/self/setgroups", "deny");
        put("/proc/self/uid_map", uid_map);
        put("/proc/self/gid_map", gid_map);
      }
    }
    if (!options.writable.empty()) {
      if (!(options.no_network && !options.as_root) && ::unshare(CLONE_NEWNS) != 0) give_up(trouble, 3);
      if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) give_up(trouble, 3);
      for (const auto& folder : options.writable) {
        if (::mount(folder.c_str(), folder.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
          give_up(trouble, 3);
      }
      for (const auto& folder : options.hidden) {
        if (::mount(options.empty_folder.c_str(), folder.c_str(), nullptr, MS_BIND, nullptr) != 0) {
          give_up(trouble, 4);
        }
      }
      mount_attr close{}, open{};
      close.attr_set = MOUNT_ATTR_RDONLY;
      if (::mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &close, sizeof close) != 0) give_up(trouble, 5);
      open.attr_clr = MOUNT_ATTR_RDONLY;
      for (const auto& folder : options.writable) {
        if (::mount_setattr(AT_FDCWD, folder.c_str(), AT_RECURSIVE, &open, sizeof open) != 0)
          give_up(trouble, 5);
      }
    }
    const int log = ::open(options.log_file.c_str(), log_flags, 0600);
    if (log < 0) give_up(trouble, 7);
    if (options.as_root) {
      if (::fchown(log, options.account.uid, options.account.gid) != 0) give_up(trouble, 7);
      if (::setgroups(0, nullptr) != 0 ||
          ::setresgid(options.account.gid, options.account.gid, options.account.gid) ||
          ::setresuid(options.account.uid, options.account.uid, options.account.uid)) {
        give_up(trouble, 6);
      }
    }
    // After the change of user, which clears it. If the parent is gone already, the signal was missed.
    if (::prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0) give_up(trouble, 1);
    if (::getppid() != parent) ::_exit(127);
    const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::dup2(nothing, 0);
    ::dup2(log, 1);
    ::dup2(log, 2);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    ::execve(argv[0], argv.data(), envp.data());
    give_up(trouble, 8);
  }
  writer = Fd();
  ChildTrouble trouble;
  ssize_t got;
  do {
    got = ::read(reader.get(), &trouble, sizeof trouble);
  } while (got < 0 && errno == EINTR);
  if (got == sizeof trouble) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    Error error = system_error(
        fmt::format("cannot start {}: the child could not {}", options.arguments[0], kSteps[trouble.step]),
        trouble.code);
    error.kind = ErrorKind::kFailed;
    return error;
  }
  return pid;
}

uint64_t start_ticks_of(pid_t pid) {
  auto stat = read_file(fmt::format("/proc/{}/stat", pid));
  if (!stat) return 0;
  std::string_view text = as_text(*stat);
  const size_t close = text.rfind(')');  // the program's name may hold anything, also ')'
  if (close == std::string_view::npos) return 0;
  text.remove_prefix(close + 2);
  if (text.starts_with("Z") || text.starts_with("X")) return 0;
  // Field 3 is the state; the start time is field 22.
  for (int field = 3; field < 22; ++field) {
    const size_t space = text.find(' ');
    if (space == std::string_view::npos) return 0;
    text.remove_prefix(space + 1);
  }
  return std::strtoull(std::string(text.substr(0, text.find(' '))).c_str(), nullptr, 10);
}

bool is_alive(pid_t pid, uint64_t start_ticks) {
  const uint64_t now = start_ticks_of(pid);
  return now != 0 && (start_ticks == 0 || now == start_ticks);
}

}  // namespace kuramori::postgres
