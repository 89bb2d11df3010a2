// kuramori: read the command line by the table of operations, run the verb's code, print its answer, and end
// with the status that docs/interface.md promises.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "api/command_line.h"
#include "api/help.h"
#include "base/world.h"
#include "cli/auditing.h"
#include "cli/console.h"
#include "cli/verbs.h"
#include "os/signals.h"

namespace kuramori {
namespace {

// PostgreSQL takes any status up to 125 of its restore_command for "no such file" and would promote: what
// `wal get` could not find out must be above it, also when not even its command line could be read (P44).
constexpr int kStopServer = 200;

bool is_wal_get(const std::vector<std::string_view>& words) {
  return std::ranges::find(words, "wal") != words.end() && std::ranges::find(words, "get") != words.end();
}

int print_help(const Invocation& line, Console& console) {
  if (line.operation)
    console.print(help_of(*line.operation));
  else if (!line.group.empty())
    console.print(group_help(line.group));
  else
    console.print(overview());
  return 0;
}

Result<int> run(const Invocation& line, Console& console, std::stop_token stop) {
  if (line.wants_help) return print_help(line, console);
  Handler handler = find_handler(line.operation->verb);
  if (!handler)
    return fail(ErrorKind::kUsage, fmt::format("{} has no code in this build", line.operation->verb));
  // To a daemon that is still opening its vaults it says: read the configuration. serve() answers it.
  if (line.operation->verb == "serve") hangups_do_not_stop();
  Context context(line, console, system_clock(), stop);
  auto status = handler(context);
  record_run(context, status);
  // Whatever failed after the user asked to stop, failed because of it.
  if (!status && stop.stop_requested()) {
    Error error = std::move(status).error();
    return fail(ErrorKind::kInterrupted, "interrupted: " + error.what, error.why, error.next);
  }
  return status;
}

int main_of(const std::vector<std::string_view>& words) {
  // 1. A request to stop must find somebody who listens, from the first moment on.
  std::stop_token stop = stop_on_signals();

  // 2. What is wanted? The console must know --json even of a line that cannot be read.
  auto line = parse_command_line(words);
  auto given = [&](std::string_view flag) { return std::ranges::find(words, flag) != words.end(); };
  Console console(console_options(given("--json"), given("--quiet"), given("--verbose")), system_clock());

  // 3. Do it.
  Result<int> status = line ? run(*line, console, stop) : Result<int>(line.error());

  // 4. Say how it ended.
  if (!status) console.report(status.error());
  int code = status ? *status : exit_code(status.error().kind);
  if (std::fflush(stdout) != 0 && code == 0) code = 1;  // a result nobody could read is none
  if (!status && is_wal_get(words)) return kStopServer;
  return code;
}

}  // namespace
}  // namespace kuramori

int main(int argc, char** argv) {
  return kuramori::main_of(std::vector<std::string_view>(argv + 1, argv + argc));
}
