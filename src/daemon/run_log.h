// Every run of the daemon's jobs as a line of JSON, beside the journal: for people with a pager, for programs
// that collect logs, and for the day on which the database cannot be read (M6). Nothing reads it back.
//
// The file is bounded: when it is full it becomes runs.log.1, that runs.log.2, and the last one goes.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "os/file.h"
#include "policy/scheduling.h"

namespace kuramori {

constexpr const char* kRunLogFile = "runs.log";  // in the state folder
constexpr uint64_t kRunLogBytesMax = 16 << 20;   // of one file: about 50,000 lines
constexpr int kRunLogsKept = 8;                  // beside the one that is written

class RunLog {
 public:
  // Made when the first line is written.
  explicit RunLog(std::string folder, uint64_t bytes_max = kRunLogBytesMax)
      : path_(join_path(folder, kRunLogFile)), bytes_max_(bytes_max) {}

  // A line each, in one write. What could not be written is not tried again: the journal has it.
  Result<void> write(std::span<const Run> changed, Time now);

 private:
  Result<void> make_room(uint64_t bytes);

  std::string path_;
  uint64_t bytes_max_;
};

}  // namespace kuramori
