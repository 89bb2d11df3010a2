#include "os/process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

extern char** environ;

namespace kuramori {
namespace {

// Everything the child needs, made before the fork: between fork and exec only async-signal-safe calls are
// allowed, because another thread may have held the allocator's lock.
struct Prepared {
  std::string program;
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
  pid_t parent = ::getpid();
};

std::vector<std::string> environment_of(const Command& command) {
  std::vector<std::string> result;
  if (command.environment) {
    result = *command.environment;
  } else {
    for (char** entry = environ; *entry != nullptr; ++entry) result.emplace_back(*entry);
  }
  for (const auto& [name, value] : command.set) {
    std::string prefix = name + "=";
    std::erase_if(result, [&](const std::string& entry) { return entry.starts_with(prefix); });
    result.push_back(prefix + value);
  }
  return result;
}

// Which step failed, sent through a pipe that exec closes: nothing sent means it runs.
struct StartFailure {
  int step = 0;
  int code = 0;
};
constexpr const char* kSteps[] = {
    "make a process group", "connect its streams", "set its groups", "set its group",
    "set its user",         "enter its folder",    "execute it"};

[[noreturn]] void become(const Command& command, const Prepared& prepared, const int streams[3], int report) {
  auto give_up = [&](int step) {
    StartFailure failure{step, errno};
    (void)!::write(report, &failure, sizeof failure);
    ::_exit(127);
  };
  if (::setpgid(0, 0) != 0) give_up(0);
  if (command.die_with_us) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != prepared.parent) ::_exit(127);  // gone already: no signal comes
  }
  // Signals as a fresh program expects them: ours may be blocked, caught or (SIGPIPE) ignored.
  struct sigaction plain{};
  plain.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &plain, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // The streams are above 2 (see start()), so no dup2 overwrites one that is still needed.
  for (int i = 0; i < 3; ++i) {
    if (::dup2(streams[i], i) < 0) give_up(1);
  }
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  if (command.run_as) {
    if (::geteuid() == 0 && ::setgroups(0, nullptr) != 0) give_up(2);
    if (::setresgid(command.run_as->gid, command.run_as->gid, command.run_as->gid) != 0) give_up(3);
    if (::setresuid(command.run_as->uid, command.run_as->uid, command.run_as->uid) != 0) give_up(4);
  }
  ::umask(command.umask);
  if (!command.folder.empty() && ::chdir(command.folder.c_str()) != 0) give_up(5);
  ::execve(prepared.program.c_str(), prepared.argv.data(), prepared.envp.data());
  give_up(6);
  ::_exit(127);
}

Result<Fd> above_standard_streams(Fd fd) {
  if (fd.get() > 2) return fd;
  int moved = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3);
  if (moved < 0) return system_error("duplicate a descriptor", errno);
  return Fd(moved);
}

Exit exit_of(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return Exit{.code = info.si_status};
  return Exit{.signal = info.si_status};
}

int milliseconds_left(Duration deadline) {
  Duration left = deadline - system_clock().steady();
  if (left <= Duration::zero()) return 0;
  auto rounded = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<int64_t>(rounded, 1'000'000));
}

}  // namespace

std::string Exit::describe() const {
  if (signal != 0) return fmt::format("killed by signal {} ({})", signal, ::strsignal(signal));
  return fmt::format("exit status {}", code);
}

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("make a pipe", errno);
  return Pipe{.read = Fd(ends[0]), .write = Fd(ends[1])};
}

std::unique_lock<std::recursive_mutex> starting_lock() {
  static std::recursive_mutex mutex;
  return std::unique_lock(mutex);
}

std::string this_program() {
  auto target = read_link("/proc/self/exe");
  return target ? *target : std::string();
}

Result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    size_t colon = std::min(rest.find(':'), rest.size());
    std::string candidate = join_path(rest.substr(0, colon), name);
    rest.remove_prefix(std::min(colon + 1, rest.size()));
    struct stat info;
    if (candidate.front() == '/' && ::stat(candidate.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
        ::access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
  }
  return fail(ErrorKind::kNotFound, fmt::format("the program \"{}\" is not in PATH", name));
}

Result<Child> Child::start(const Command& command, Streams streams) {
  CHECK(!command.argv.empty());
  Prepared prepared;
  TRY_ASSIGN(prepared.program, find_program(command.argv[0]));
  prepared.environment = environment_of(command);
  for (const std::string& argument : command.argv)
    prepared.argv.push_back(const_cast<char*>(argument.c_str()));
  for (const std::string& entry : prepared.environment)
    prepared.envp.push_back(const_cast<char*>(entry.c_str()));
  prepared.argv.push_back(nullptr);
  prepared.envp.push_back(nullptr);

  Fd* wanted[3] = {&streams.input, &streams.output, &streams.errors};
  int raw_streams[3];
  for (int i = 0; i < 3; ++i) {
    if (!wanted[i]->valid()) {
      TRY_ASSIGN(*wanted[i], open_file("/dev/null", i == 0 ? O_RDONLY : O_WRONLY));
    }
    TRY_ASSIGN(*wanted[i], above_standard_streams(std::move(*wanted[i])));
    raw_streams[i] = wanted[i]->get();
  }
  const auto lock = starting_lock();
  TRY_ASSIGN(Pipe report, make_pipe());
  TRY_ASSIGN(report.write, above_standard_streams(std::move(report.write)));

  pid_t pid = ::fork();
  if (pid < 0) return system_error(fmt::format("start \"{}\"", prepared.program), errno);
  if (pid == 0) become(command, prepared, raw_streams, report.write.get());
  report.write = Fd();
  // Named before the report is read, so that an early return still kills and awaits it.
  Child child(pid, Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))));
  StartFailure failure;
  ssize_t got;
  do got = ::read(report.read.get(), &failure, sizeof failure);
  while (got < 0 && errno == EINTR);
  if (got == sizeof failure) {
    TRY(child.wait());
    return system_error(fmt::format("start \"{}\": {}", prepared.program, kSteps[failure.step]),
                        failure.code);
  }
  if (!child.handle_.valid())
    return fail(ErrorKind::kFailed, "this kernel has no pidfd_open (Linux 5.3 has it)");
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), handle_(std::move(other.handle_)), exit_(other.exit_) {}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(handle_, other.handle_);
  std::swap(exit_, other.exit_);
  return *this;
}

Child::~Child() {
  if (pid_ < 0 || exit_) return;
  send_signal_group(SIGKILL);
  (void)wait();
}

bool Child::running() {
  Result<std::optional<Exit>> ended = wait_for(Duration::zero());
  return ended && !*ended;
}

Result<Exit> Child::wait() {
  while (!exit_) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) == 0) {
      exit_ = exit_of(info);
    } else if (errno != EINTR) {
      return system_error(fmt::format("wait for process {}", pid_), errno);
    }
  }
  return *exit_;
}

Result<std::optional<Exit>> Child::wait_for(Duration limit) {
  if (exit_) return exit_;
  Duration deadline = system_clock().steady() + limit;
  for (;;) {
    pollfd ended{handle_.get(), POLLIN, 0};
    int ready = ::poll(&ended, 1, milliseconds_left(deadline));
    if (ready < 0 && errno != EINTR) return system_error(fmt::format("wait for process {}", pid_), errno);
    if (ready > 0) {
      TRY(wait());
      return exit_;
    }
    if (ready == 0 && milliseconds_left(deadline) == 0) return std::optional<Exit>();
  }
}

Result<Exit> Child::terminate(Duration grace, int signal) {
  if (exit_) return *exit_;
  send_signal(signal);
  TRY_ASSIGN(std::optional<Exit> ended, wait_for(grace));
  if (ended) return *ended;
  send_signal_group(SIGKILL);
  return wait();
}

void Child::send_signal(int signal) {
  // Not awaited yet, so the number cannot belong to another process.
  if (pid_ > 0 && !exit_) ::kill(pid_, signal);
}

void Child::send_signal_group(int signal) {
  if (pid_ > 0 && !exit_) ::kill(-pid_, signal);
}

}  // namespace kuramori
