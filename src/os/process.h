// Running other programs: never through a shell, nothing inherited but what is named, in a process group
// of their own so that they can be stopped with all they started.
#pragma once
#include <sys/types.h>

#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/world.h"
#include "os/file.h"

namespace kuramori {

struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;  // supplementary groups are cleared
};

// How a process ended.
struct Exit {
  int code = 0;    // exit status, when signal is 0
  int signal = 0;  // the signal that killed it
  bool ok() const { return code == 0 && signal == 0; }
  std::string describe() const;  // "exit status 3", "killed by signal 9 (Killed)"
};

constexpr size_t kCapturedOutputBytesMax = size_t{16} << 20;
constexpr size_t kCapturedErrorsBytesMax = size_t{1} << 20;

struct Command {
  std::vector<std::string> argv;                         // argv[0] is looked up in PATH unless it has a '/'
  std::optional<std::vector<std::string>> environment;   // "NAME=value"; absent: as ours
  std::vector<std::pair<std::string, std::string>> set;  // on top of it
  std::string folder;                                    // working folder; empty: as ours
  std::optional<Identity> run_as;                        // absent: as ourselves
  mode_t umask = 0077;
  bool die_with_us = false;  // SIGKILL when the thread that started it ends: for sandboxes, started by `main`

  // For run() only.
  std::string input;                            // given on its stdin
  size_t output_max = kCapturedOutputBytesMax;  // what is more is read and dropped, and said
  size_t errors_max = kCapturedErrorsBytesMax;
  std::function<Result<void>(ByteView)> on_output;  // takes stdout instead of keeping it; an error kills
  std::optional<Duration> timeout;                  // then SIGTERM, and SIGKILL kTermGrace later: kUnknown
  std::stop_token stop;                             // the same: kInterrupted
};

constexpr Duration kTermGrace = std::chrono::seconds(5);

struct Finished {
  Exit exit;
  std::string output;
  std::string errors;
  bool output_truncated = false;
  bool errors_truncated = false;
};

// Runs it to its end. An error only if it could not be started, was stopped, or timed out; how it ended is
// in the result. Descendants that outlive it (a server started by pg_ctl) are left alone and not awaited.
Result<Finished> run(const Command& command);
// The same, and an exit status other than 0 is an error with the end of its stderr as the cause.
Result<std::string> run_checked(const Command& command);

// Where the three streams of a Child go. Absent: /dev/null.
struct Streams {
  Fd input;
  Fd output;
  Fd errors;
};

// A program that runs beside us. Destroyed while running: its group is killed and it is awaited.
class Child {
 public:
  static Result<Child> start(const Command& command, Streams streams);
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child();

  pid_t pid() const { return pid_; }
  const Fd& handle() const { return handle_; }  // a pidfd: readable when the program has ended
  bool running();                               // not yet ended (or not yet awaited)
  Result<Exit> wait();
  // nullopt: still running after `limit`.
  Result<std::optional<Exit>> wait_for(Duration limit);
  // SIGTERM (or `signal`) to the program, SIGKILL to its group after `grace`; awaits the end.
  Result<Exit> terminate(Duration grace = kTermGrace, int signal = 15);
  void send_signal(int signal);        // to the program
  void send_signal_group(int signal);  // to it and all it started in its group

 private:
  Child(pid_t pid, Fd handle) : pid_(pid), handle_(std::move(handle)) {}
  pid_t pid_ = -1;
  Fd handle_;
  std::optional<Exit> exit_;
};

// A pipe whose two ends are close-on-exec.
struct Pipe {
  Fd read;
  Fd write;
};
Result<Pipe> make_pipe();

// Held from the making of a pipe until its end for a child is closed here. Else a child that another thread
// starts in that moment holds that end, too, until it has become its program: whoever reads the other would
// see no end of it yet although its child is over. Child::start() holds it as well.
std::unique_lock<std::recursive_mutex> starting_lock();

// The file of the running program; "" if nobody knows.
std::string this_program();

// Where a program stands: `name` itself if it has a '/', else the first hit in PATH. kNotFound in words.
Result<std::string> find_program(const std::string& name);

}  // namespace kuramori
