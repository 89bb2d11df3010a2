// run(): one program from start to end, its streams served by one poll loop.
#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include "os/process.h"

namespace kuramori {
namespace {

constexpr int kPollStepMs = 50;  // how soon a stop request or a time-out is noticed
constexpr size_t kReadStepBytes = 64 << 10;
constexpr size_t kErrorTailBytes = 2000;  // of stderr in an error's `why`

Result<void> make_nonblocking(const Fd& fd) {
  int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return system_error("set up a pipe", errno);
  return {};
}

// Writing to a program that has closed its stdin must be EPIPE, not our end: SIGPIPE is held back for the
// one write, and taken away if it came.
ssize_t write_without_sigpipe(int fd, const char* from, size_t size) {
  sigset_t pipe_only, before;
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
  ssize_t put = ::write(fd, from, size);
  int code = errno;
  if (put < 0 && code == EPIPE && sigismember(&before, SIGPIPE) == 0) {
    timespec now{};
    (void)::sigtimedwait(&pipe_only, nullptr, &now);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = code;
  return put;
}

class Runner {
 public:
  explicit Runner(const Command& command) : command_(command) {}

  Result<Finished> run() {
    TRY_ASSIGN(Child child, start());
    Result<void> served = serve(child);
    if (!served) {
      // Told to stop or cannot go on: it goes with everything it started.
      child.send_signal_group(SIGTERM);
      (void)child.wait_for(kTermGrace);
      child.send_signal_group(SIGKILL);
      TRY(child.wait());
      return std::move(served).error();
    }
    TRY_ASSIGN(finished_.exit, child.wait());
    return std::move(finished_);
  }

 private:
  Result<Child> start() {
    TRY_ASSIGN(Pipe input, make_pipe());
    TRY_ASSIGN(Pipe output, make_pipe());
    TRY_ASSIGN(Pipe errors, make_pipe());
    Streams streams{std::move(input.read), std::move(output.write), std::move(errors.write)};
    input_ = std::move(input.write);
    output_ = std::move(output.read);
    errors_ = std::move(errors.read);
    for (const Fd* fd : {&input_, &output_, &errors_}) TRY(make_nonblocking(*fd));
    if (command_.input.empty()) input_ = Fd();
    return Child::start(command_, std::move(streams));
  }

  Result<void> serve(Child& child) {
    Duration begun = system_clock().steady();
    for (;;) {
      if (command_.stop.stop_requested()) {
        return fail(ErrorKind::kInterrupted, fmt::format("\"{}\" was stopped", command_.argv[0]));
      }
      if (command_.timeout && system_clock().steady() - begun >= *command_.timeout) {
        return fail(ErrorKind::kUnknown,
                    fmt::format("\"{}\" took longer than {} s", command_.argv[0],
                                std::chrono::duration<double>(*command_.timeout).count()));
      }
      // Looked at before the pipes: what an ended program wrote is in them by then, all of it.
      bool ended = !child.running();
      if (!ended) wait_for_something(child);
      TRY(feed());
      TRY(drain(output_, /*is_output=*/true));
      TRY(drain(errors_, /*is_output=*/false));
      if (ended) return {};
    }
  }

  void wait_for_something(Child&) {
    pollfd wanted[3] = {{input_.get(), POLLOUT, 0}, {output_.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}};
    bool streams_open = output_.valid() || errors_.valid();
    // Both closed: only its end is left to wait for, so look often.
    ::poll(wanted, 3, streams_open ? kPollStepMs : 1);
  }

  Result<void> feed() {
    while (input_.valid()) {
      ssize_t put =
          write_without_sigpipe(input_.get(), command_.input.data() + fed_, command_.input.size() - fed_);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EAGAIN) return {};
      if (put < 0) {  // EPIPE: it does not want more; its exit status tells whether that is bad
        input_ = Fd();
        return {};
      }
      fed_ += static_cast<size_t>(put);
      if (fed_ == command_.input.size()) input_ = Fd();
    }
    return {};
  }

  Result<void> drain(Fd& fd, bool is_output) {
    while (fd.valid()) {
      uint8_t buffer[kReadStepBytes];
      ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return {};
      if (got < 0) return system_error(fmt::format("read what \"{}\" says", command_.argv[0]), errno);
      if (got == 0) {
        fd = Fd();
        return {};
      }
      ByteView piece(buffer, static_cast<size_t>(got));
      if (is_output && command_.on_output) {
        TRY(command_.on_output(piece));
      } else if (is_output) {
        keep(finished_.output, piece, command_.output_max, finished_.output_truncated);
      } else {
        keep(finished_.errors, piece, command_.errors_max, finished_.errors_truncated);
      }
    }
    return {};
  }

  static void keep(std::string& to, ByteView piece, size_t max, bool& truncated) {
    size_t room = max - std::min(max, to.size());
    truncated = truncated || piece.size() > room;
    to.append(as_text(piece.first(std::min(room, piece.size()))));
  }

  const Command& command_;
  Fd input_, output_, errors_;
  size_t fed_ = 0;
  Finished finished_;
};

}  // namespace

Result<Finished> run(const Command& command) {
  return Runner(command).run();
}

Result<std::string> run_checked(const Command& command) {
  TRY_ASSIGN(Finished finished, run(command));
  if (finished.exit.ok()) {
    if (finished.output_truncated) {
      return fail(ErrorKind::kFailed,
                  fmt::format("\"{}\" wrote more than {} bytes", command.argv[0], command.output_max));
    }
    return std::move(finished.output);
  }
  std::string why = std::move(finished.errors);
  while (!why.empty() && (why.back() == '\n' || why.back() == ' ')) why.pop_back();
  if (why.size() > kErrorTailBytes) why = "…" + why.substr(why.size() - kErrorTailBytes);
  return fail(ErrorKind::kFailed,
              fmt::format("\"{}\" ended with {}", command.argv[0], finished.exit.describe()), why);
}

}  // namespace kuramori
