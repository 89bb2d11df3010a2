// A program that is run for its output, or fed from a snapshot.
//
// Problem: a dump that broke off looks like a small dump. So success is not the end of the output but all of:
// the program ended by itself with status 0; its output ended no earlier than shortly before, and no later
// than it did — a part of it that still writes then is one whose status nobody will ever know (S14).
#pragma once
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "os/process.h"
#include "source/source.h"

namespace kuramori {

constexpr Duration kGoesOnAfterOutput = std::chrono::seconds(10);  // a program that closed its output
constexpr size_t kShownErrorsBytes = 2000;                         // of what it said last

struct ProgramRequest {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment;  // on top of ours, without KURAMORI_…
  std::optional<Duration> timeout;
  std::stop_token stop;
  // Takes its output; an error ends it. Nothing: its output is read and dropped.
  std::function<Result<void>(ByteView)> on_output;
  // Writes its input, in a thread of its own. Nothing: it has none.
  std::function<Result<void>(ContentSink&)> give_input;
  // Whether what it said is part of an error's message: not where it may be a secret.
  enum class Errors : uint8_t { kShown, kHidden } errors = Errors::kShown;
  // Takes what it said last on its standard error, also when it ended well; nothing: nobody asks.
  std::string* said = nullptr;
  // Whether something it started may go on writing where it did: a server that a restore starts.
  bool may_leave_children = false;
  Duration goes_on_after_output = kGoesOnAfterOutput;
};

// kFailed: it could not be started, or did not end well. kUnknown: the timeout. kInterrupted: `stop`.
Result<void> run_program(const ProgramRequest& request);

// A shell line as arguments: it ends at the first command that fails, and a pipe fails with any of its parts.
std::vector<std::string> shell_argv(std::string_view line);
// Whether this is a shell line, with a pipe or several commands in it, that does not end so (S14).
bool hides_failures(const std::vector<std::string>& argv);

// A program that cannot be run, as a finding; nothing: it can. `setting`: "run".
std::optional<SourceFinding> look_at_program(const std::vector<std::string>& argv, std::string_view setting);

// The program of such a setting, for Source::clients().
SourceClient client_of(const std::vector<std::string>& argv, std::string_view purpose);

}  // namespace kuramori
