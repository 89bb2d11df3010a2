// Shell lines around a capture: to stop a writer before, and to let it go on after.
#pragma once
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "base/world.h"

namespace kuramori::files {

class Hooks {
 public:
  Hooks(std::vector<std::string> before, std::vector<std::string> after, Duration timeout)
      : before_(std::move(before)), after_(std::move(after)), timeout_(timeout) {}

  // One after the other; the first that fails is the error, and those behind it are not run.
  Result<void> run_before(const std::stop_token& stop);
  // All of them, once, if run_before() was called: what a hook before stopped must go on, whatever became of
  // the capture, also when it was interrupted. Each that fails is a warning.
  void run_after(Reporter& reporter);

 private:
  std::vector<std::string> before_, after_;
  Duration timeout_;
  bool due_ = false;
};

}  // namespace kuramori::files
