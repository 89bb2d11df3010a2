// How the runs of each job ended so far, counted as they come: what a journal of 500,000 runs says without
// being read each time somebody asks.
#pragma once
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/job_journal.h"

namespace kuramori {

// Upper bounds of how long runs take, in seconds: from a small file to a large database.
constexpr std::array<double, 9> kDurationBounds = {1, 5, 15, 60, 300, 900, 3600, 14400, 43200};

struct JobTally {
  std::map<RunState, uint64_t> ended;
  std::optional<Time> last_success;  // COMPLETED or PARTIAL
  std::optional<Run> last;           // of those that are over, the newest
};
struct KindTally {
  std::array<uint64_t, kDurationBounds.size()> within{};  // each: of at most that bound
  uint64_t count = 0;
  double seconds = 0;
};

class RunTally {
 public:
  // What happened since the last call. Of a first call on a long history: all of it, which takes a second.
  Result<void> take(JobJournal& journal);

  const std::map<std::string, JobTally>& jobs() const { return jobs_; }
  // By "backup", "copy" …: of runs that were started.
  const std::map<std::string, KindTally>& kinds() const { return kinds_; }
  const std::vector<Run>& open() const { return open_; }  // waiting and running

 private:
  void count(const Run& run);

  int64_t seen_ = 0;  // runs up to this number were looked at
  std::set<int64_t> open_ids_;
  std::vector<Run> open_;
  std::map<std::string, JobTally> jobs_;
  std::map<std::string, KindTally> kinds_;
};

}  // namespace kuramori
