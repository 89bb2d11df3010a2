#include "source/program/program.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>

#include "base/check.h"

extern char** environ;

namespace kuramori {
namespace {

constexpr int kPollStepMs = 50;  // how soon an end, a stop or a timeout is noticed
constexpr size_t kStepBytes = size_t{64} << 10;
constexpr int kStepsMax = 64;  // read in a row: 4 MiB, more than a pipe holds
constexpr size_t kErrorLinesMax = 8;

// Our environment without what is meant for this program: a passphrase, say.
std::vector<std::string> environment_for_others() {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("KURAMORI_")) result.emplace_back(*entry);
  }
  return result;
}

Result<void> make_nonblocking(const Fd& fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return system_error("set up a pipe", errno);
  return {};
}

// The last lines of what it said.
std::string last_lines(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  if (text.size() > kShownErrorsBytes) text = text.substr(text.size() - kShownErrorsBytes);
  size_t at = text.size();
  for (size_t lines = 0; lines < kErrorLinesMax && at != std::string::npos && at > 0; ++lines)
    at = text.rfind('\n', at - 1);
  return at == std::string::npos || at == 0 ? text : text.substr(at + 1);
}

// Writes into a program's input. Of a program that reads no more it says so, instead of ending this one by a
// signal: SIGPIPE is blocked in the thread that writes. `over`: nobody is there to read any more, even where
// something the program started still holds the pipe.
class PipeSink final : public ContentSink {
 public:
  PipeSink(Fd pipe, const std::atomic<bool>& over) : pipe_(std::move(pipe)), over_(over) {}
  Result<void> add(ByteView bytes) override {
    given_ = given_ || !bytes.empty();
    while (!bytes.empty()) {
      const ssize_t put = ::write(pipe_.get(), bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EAGAIN && !over_) {
        pollfd wanted{pipe_.get(), POLLOUT, 0};
        ::poll(&wanted, 1, kPollStepMs);
        continue;
      }
      if (put < 0 && (errno == EPIPE || errno == EAGAIN)) {
        broken_ = true;
        return fail(ErrorKind::kFailed, "it ended, or closed its input, before all was given");
      }
      if (put < 0) return system_error("write a program's input", errno);
      bytes = bytes.subspan(static_cast<size_t>(put));
    }
    return {};
  }
  Result<void> add_hole(uint64_t bytes) override {
    const Bytes zeros(kStepBytes);
    for (; bytes > 0; bytes -= std::min<uint64_t>(bytes, zeros.size()))
      TRY(add(ByteView(zeros).first(std::min<uint64_t>(bytes, zeros.size()))));
    return {};
  }
  Result<void> restart() override {
    if (!given_) return {};
    return fail(ErrorKind::kFailed, "a program's input cannot be taken back");
  }
  void close() { pipe_ = Fd(); }
  bool broken() const { return broken_; }  // it was the program that would not go on

 private:
  Fd pipe_;
  const std::atomic<bool>& over_;
  bool given_ = false, broken_ = false;
};

class ProgramRun {
 public:
  explicit ProgramRun(const ProgramRequest& request) : request_(request) {}

  Result<void> run() {
    TRY_ASSIGN(Child child, start());
    Result<void> served = serve(child);
    if (!served) {
      // It goes with all it started: what waits for its pipe to be read would wait for ever.
      child.send_signal_group(SIGTERM);
      (void)child.wait_for(kTermGrace);
      child.send_signal_group(SIGKILL);
      (void)child.wait();
      end_feeding();
      return served;
    }
    TRY_ASSIGN(const Exit exit, child.wait());
    end_feeding();
    if (request_.said != nullptr) *request_.said = last_lines(errors_said_);
    if (!exit.ok())
      return failure(fmt::format("\"{}\" ended with {}", name(), exit.describe()),
                     "what it gave is not kept: run it by hand until it ends with status 0");
    if (!fed_) return std::move(fed_).error().within(fmt::format("\"{}\"", name()));
    if (output_.valid() && !request_.may_leave_children) {
      return fail(ErrorKind::kFailed,
                  fmt::format("\"{}\" ended while something it started still held its output", name()),
                  "how that part ends nobody will know, so what came may be half of it",
                  "let the program wait for all its parts: a pipe with pipefail instead of >(…) or &");
    }
    return {};
  }

 private:
  const std::string& name() const { return request_.argv[0]; }

  void end_feeding() {
    over_ = true;
    if (feeder_.joinable()) feeder_.join();
  }

  Error failure(std::string what, std::string next) const {
    std::string why = request_.errors == ProgramRequest::Errors::kShown
                          ? last_lines(errors_said_)
                          : std::string("what it said is not shown: it may hold a secret");
    return fail(ErrorKind::kFailed, std::move(what), std::move(why), std::move(next));
  }

  Result<Child> start() {
    CHECK(!request_.argv.empty());
    Streams streams;
    const auto lock = starting_lock();
    TRY_ASSIGN(Pipe output, make_pipe());
    TRY_ASSIGN(Pipe errors, make_pipe());
    streams.output = std::move(output.write);
    streams.errors = std::move(errors.write);
    output_ = std::move(output.read);
    errors_ = std::move(errors.read);
    TRY(make_nonblocking(output_));
    TRY(make_nonblocking(errors_));
    Fd input;
    if (request_.give_input) {
      TRY_ASSIGN(Pipe pipe, make_pipe());
      streams.input = std::move(pipe.read);
      input = std::move(pipe.write);
      TRY(make_nonblocking(input));
    }
    Command command{
        .argv = request_.argv, .environment = environment_for_others(), .set = request_.environment};
    auto child = Child::start(command, std::move(streams));
    if (!child) {
      // That a program is missing is no word on what it was to be run for.
      Error error = std::move(child).error();
      if (error.kind == ErrorKind::kNotFound) error.kind = ErrorKind::kFailed;
      return error;
    }
    begun_ = system_clock().steady();
    if (request_.give_input) {
      input_.emplace(std::move(input), over_);
      feeder_ = std::jthread([this] { feed(); });
    }
    return child;
  }

  // The end of its input says "that was all". What breaks off must not look like it: the pipe stays open
  // until the program was ended.
  void feed() {
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
    fed_ = request_.give_input(*input_);
    if (fed_ || input_->broken()) {
      input_->close();
    } else {
      broke_off_ = true;
    }
  }

  Result<void> serve(Child& child) {
    std::optional<Duration> closed_at;
    for (;;) {
      if (request_.stop.stop_requested())
        return fail(ErrorKind::kInterrupted, fmt::format("\"{}\" was stopped", name()));
      if (broke_off_) {
        feeder_.join();
        return std::move(fed_).error().within(fmt::format("what \"{}\" was being given", name()));
      }
      const Duration now = system_clock().steady();
      if (request_.timeout && now - begun_ >= *request_.timeout) {
        Error error = failure(fmt::format("\"{}\" took longer than {} s", name(),
                                          std::chrono::duration<double>(*request_.timeout).count()),
                              "raise `timeout`, or see what it waits for");
        error.kind = ErrorKind::kUnknown;
        return error;
      }
      // Looked at before the pipes: what an ended program wrote is in them by then, all of it.
      const bool ended = !child.running();
      if (!ended) wait_for_something();
      TRY(drain_output());
      drain_errors();
      if (ended) return {};
      if (output_.valid() || !request_.on_output) continue;
      if (!closed_at) closed_at = now;
      if (now - *closed_at >= request_.goes_on_after_output) {
        return failure(fmt::format("\"{}\" closed its output and went on running", name()),
                       "let it end when its output does");
      }
    }
  }

  void wait_for_something() const {
    pollfd wanted[2] = {{output_.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}};
    ::poll(wanted, 2, output_.valid() || errors_.valid() ? kPollStepMs : 1);
  }

  // What is there, as far as that is not endless; at its end `fd` is closed.
  template <class Take>
  Result<void> drain(Fd& fd, Take&& take) {
    for (int step = 0; fd.valid() && step < kStepsMax; ++step) {
      const ssize_t got = ::read(fd.get(), buffer_.data(), buffer_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return {};
      if (got < 0) return system_error(fmt::format("read what \"{}\" writes", name()), errno);
      if (got == 0) {
        fd = Fd();
        return {};
      }
      TRY(take(ByteView(buffer_).first(static_cast<size_t>(got))));
    }
    return {};
  }
  Result<void> drain_output() {
    return drain(output_, [&](ByteView bytes) -> Result<void> {
      return request_.on_output ? request_.on_output(bytes) : Result<void>();
    });
  }
  void drain_errors() {
    (void)drain(errors_, [&](ByteView bytes) -> Result<void> {
      if (request_.errors == ProgramRequest::Errors::kHidden) return {};
      errors_said_.append(as_text(bytes));
      if (errors_said_.size() > 2 * kShownErrorsBytes + kStepBytes)
        errors_said_.erase(0, errors_said_.size() - 2 * kShownErrorsBytes);
      return {};
    });
  }

  const ProgramRequest& request_;
  Fd output_, errors_;
  Bytes buffer_ = Bytes(kStepBytes);
  std::string errors_said_;
  Duration begun_ = Duration::zero();
  std::atomic<bool> over_ = false;       // it ended
  std::atomic<bool> broke_off_ = false;  // what it was being given; fed_ says why
  std::optional<PipeSink> input_;        // the feeder's, until it is joined
  Result<void> fed_;                     // the feeder's, until it is joined
  std::jthread feeder_;                  // last: it works on all of the above
};

bool is_shell(std::string_view program) {
  const std::string_view name = program.substr(program.rfind('/') + 1);
  return name == "sh" || name == "bash" || name == "dash" || name == "zsh" || name == "ksh";
}

}  // namespace

Result<void> run_program(const ProgramRequest& request) {
  return ProgramRun(request).run();
}

std::vector<std::string> shell_argv(std::string_view line) {
  return {"bash", "-e", "-o", "pipefail", "-c", std::string(line)};
}

bool hides_failures(const std::vector<std::string>& argv) {
  if (argv.size() < 3 || !is_shell(argv[0])) return false;
  bool pipefail = false, ends_at_failure = false;
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string& word = argv[i];
    pipefail = pipefail || word == "pipefail";
    if (!word.starts_with("-")) continue;
    ends_at_failure = ends_at_failure || (!word.starts_with("--") && word.find('e') != std::string::npos);
    if (!word.ends_with("c") || word.starts_with("--") || i + 1 == argv.size()) continue;
    const std::string& line = argv[i + 1];
    const bool says_so = line.find("pipefail") != std::string::npos;
    const bool says_end = line.find("set -e") != std::string::npos;
    // "||" is a choice the line makes in so many words.
    std::string plain = line;
    for (size_t at; (at = plain.find("||")) != std::string::npos;) plain.erase(at, 2);
    const bool has_pipe = plain.find('|') != std::string::npos;
    const bool has_several = line.find(';') != std::string::npos || line.find('\n') != std::string::npos;
    return (has_pipe && !pipefail && !says_so) || (has_several && !ends_at_failure && !says_end);
  }
  return false;
}

std::optional<SourceFinding> look_at_program(const std::vector<std::string>& argv, std::string_view setting) {
  using Severity = SourceFinding::Severity;
  SourceFinding finding{.severity = Severity::kProblem, .about = std::string(setting)};
  if (argv.empty() || argv[0].empty()) {
    finding.what = fmt::format("`{}` names no program", setting);
    finding.why = "there is nothing to run";
    finding.fix = fmt::format("{}: [ program, argument, … ]", setting);
    return finding;
  }
  const auto found = find_program(argv[0]);
  if (!found) {
    finding.what = found.error().what;
    finding.why = "the backup would not start";
    finding.fix = fmt::format("install it, or give its whole path in `{}`", setting);
    return finding;
  }
  if (::access(found->c_str(), F_OK) != 0) {
    finding.what = fmt::format("the program \"{}\" is not there", *found);
    finding.why = std::string(::strerror(errno));
    finding.fix = fmt::format("ls -l '{}'", *found);
    return finding;
  }
  if (::access(found->c_str(), X_OK) != 0) {
    finding.what = fmt::format("the program \"{}\" may not be executed", *found);
    finding.why = std::string(::strerror(errno));
    finding.fix = fmt::format("chmod +x '{}'", *found);
    return finding;
  }
  if (hides_failures(argv)) {
    finding.severity = Severity::kRisk;
    finding.what = fmt::format("the shell line in `{}` may fail in part and end with status 0", setting);
    finding.why = "a shell forgets the status of all but the last command of a pipe or line";
    finding.fix = fmt::format("{}: [ bash, -e, -o, pipefail, -c, '…' ]", setting);
    return finding;
  }
  return std::nullopt;
}

SourceClient client_of(const std::vector<std::string>& argv, std::string_view purpose) {
  SourceClient client{
      .program = argv.empty() ? "" : argv[0], .purpose = std::string(purpose), .needed = "any version"};
  client.fits = !look_at_program(argv, "run");
  if (client.fits) client.found = find_program(argv[0]).value_or("");
  return client;
}

}  // namespace kuramori
