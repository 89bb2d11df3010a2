#include "daemon/run_tally.h"

namespace kuramori {

void RunTally::count(const Run& run) {
  JobTally& job = jobs_[run.job];
  ++job.ended[run.state];
  const bool success = run.state == RunState::kCompleted || run.state == RunState::kPartial;
  if (success && run.ended && (!job.last_success || *run.ended > *job.last_success))
    job.last_success = run.ended;
  if (!job.last || run.id > job.last->id) job.last = run;
  if (!run.started || !run.ended) return;
  KindTally& kind = kinds_[run.job.substr(0, run.job.find(' '))];
  const double seconds = std::max(0.0, std::chrono::duration<double>(*run.ended - *run.started).count());
  for (size_t i = 0; i < kDurationBounds.size(); ++i) kind.within[i] += seconds <= kDurationBounds[i];
  ++kind.count;
  kind.seconds += seconds;
}

Result<void> RunTally::take(JobJournal& journal) {
  open_.clear();
  // Those that were not over the last time, first: numbers say in which order runs began.
  for (auto at = open_ids_.begin(); at != open_ids_.end();) {
    TRY_ASSIGN(const std::optional<Run> run, journal.find_run(*at));
    if (run && !is_over(run->state)) {
      open_.push_back(*run);
      ++at;
      continue;
    }
    if (run) count(*run);
    at = open_ids_.erase(at);
  }
  for (;;) {
    TRY_ASSIGN(const std::vector<Run> runs, journal.runs_after(seen_));
    for (const Run& run : runs) {
      seen_ = run.id;
      if (is_over(run.state)) {
        count(run);
      } else {
        open_ids_.insert(run.id);
        open_.push_back(run);
      }
    }
    if (runs.size() < static_cast<size_t>(kRunsAtOnce)) return {};
  }
}

}  // namespace kuramori
