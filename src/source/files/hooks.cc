#include "source/files/hooks.h"

#include <fmt/core.h>

#include <utility>

#include "os/process.h"

namespace kuramori::files {
namespace {

constexpr size_t kErrorsBytesMax = 4096;  // of what a hook says, kept for its message

Result<void> run_hook(const std::string& line, Duration timeout, const std::stop_token& stop) {
  Result<Finished> ran = run({.argv = {"/bin/sh", "-c", line},
                              .errors_max = kErrorsBytesMax,
                              .on_output = [](ByteView) { return Result<void>(); },
                              .timeout = timeout,
                              .stop = stop});
  if (!ran) return std::move(ran).error().within(fmt::format("the hook `{}`", line));
  if (ran->exit.ok()) return {};
  std::string said = ran->errors;
  while (said.ends_with('\n')) said.pop_back();
  return fail(ErrorKind::kFailed, fmt::format("the hook `{}` ended with {}", line, ran->exit.describe()),
              std::move(said), fmt::format("run it by hand: sh -c '{}'", line));
}

}  // namespace

Result<void> Hooks::run_before(const std::stop_token& stop) {
  due_ = true;
  for (const std::string& line : before_) TRY(run_hook(line, timeout_, stop));
  return {};
}

void Hooks::run_after(Reporter& reporter) {
  if (!std::exchange(due_, false)) return;
  for (const std::string& line : after_) {
    Result<void> ran = run_hook(line, timeout_, {});
    if (ran) continue;
    const Error& error = ran.error();
    reporter.warning(error.why.empty() ? error.what : fmt::format("{}: {}", error.what, error.why));
  }
}

}  // namespace kuramori::files
