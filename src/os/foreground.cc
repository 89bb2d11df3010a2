#include "os/foreground.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace kuramori {
namespace {

constexpr std::array kPassedOn = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

std::atomic<pid_t> running = 0;  // 0: not started yet
std::atomic<int> too_early = 0;  // what came before it was

// What the terminal sends goes to the whole group, the program included; it must not come twice.
void pass_on(int number, siginfo_t* info, void*) {
  if (info != nullptr && info->si_code == SI_KERNEL) return;
  const int code = errno;
  if (const pid_t pid = running.load(); pid > 0)
    (void)::kill(pid, number);
  else
    too_early = number;
  errno = code;
}

// Ours are put back when the program is over.
class PassOn {
 public:
  PassOn() {
    struct sigaction action{};
    action.sa_sigaction = pass_on;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    for (size_t i = 0; i < kPassedOn.size(); ++i) CHECK(::sigaction(kPassedOn[i], &action, &before_[i]) == 0);
  }
  ~PassOn() {
    for (size_t i = 0; i < kPassedOn.size(); ++i) (void)::sigaction(kPassedOn[i], &before_[i], nullptr);
    running = 0;
  }
  PassOn(const PassOn&) = delete;

 private:
  std::array<struct sigaction, kPassedOn.size()> before_{};
};

[[noreturn]] void become(const char* program, char* const* argv, int output, int report) {
  // As a fresh program expects them: SIGPIPE is ignored by us, and others are caught.
  struct sigaction plain{};
  plain.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) (void)::sigaction(number, &plain, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (output < 0 || ::dup2(output, STDOUT_FILENO) >= 0) {
    ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    ::execv(program, argv);
  }
  const int code = errno;
  (void)!::write(report, &code, sizeof code);
  ::_exit(127);
}

}  // namespace

Result<Exit> run_in_foreground(const std::vector<std::string>& argv, Fd output) {
  CHECK(!argv.empty());
  TRY_ASSIGN(const std::string program, find_program(argv.front()));
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  auto lock = starting_lock();
  TRY_ASSIGN(Pipe report, make_pipe());
  too_early = 0;
  const PassOn passing;
  const pid_t pid = ::fork();
  if (pid < 0) return system_error(fmt::format("start \"{}\"", program), errno);
  if (pid == 0) become(program.c_str(), words.data(), output.valid() ? output.get() : -1, report.write.get());
  running = pid;
  if (const int number = too_early.exchange(0); number != 0) (void)::kill(pid, number);
  report.write = Fd();
  lock.unlock();
  int failure = 0;
  ssize_t got;
  do got = ::read(report.read.get(), &failure, sizeof failure);
  while (got < 0 && errno == EINTR);
  // It is waited for in poll(), not in waitid(): a thread sanitizer holds signals back until a call that it
  // knows to block.
  const Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  pollfd over{handle.get(), POLLIN, 0};
  while (handle.valid() && ::poll(&over, 1, -1) < 0 && errno == EINTR) {
  }
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) != 0) {
    if (errno != EINTR) return system_error(fmt::format("wait for process {}", pid), errno);
  }
  if (got == sizeof failure)
    return fail(failure == ENOENT ? ErrorKind::kNotFound : ErrorKind::kDenied,
                fmt::format("\"{}\" cannot be run", program),
                fmt::format("the system says: {}", ::strerror(failure)));
  if (info.si_code == CLD_EXITED) return Exit{.code = info.si_status};
  return Exit{.signal = info.si_status};
}

}  // namespace kuramori
