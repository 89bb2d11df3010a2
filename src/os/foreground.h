// A program run in our place: with our terminal, our streams, our environment and in our process group, so
// that it can ask, draw and be interrupted as if it had been typed itself.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"
#include "os/process.h"

namespace kuramori {

// Runs it to its end and says how it ended. While it runs, signals that ask to stop are for it alone: what a
// terminal sends reaches it anyway, what somebody sends to us (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1,
// SIGUSR2) is passed on. `output`: instead of our standard output. kNotFound: there is no such program;
// kDenied: it cannot be run. One at a time in a process.
Result<Exit> run_in_foreground(const std::vector<std::string>& argv, Fd output = {});

}  // namespace kuramori
