// What the daemon's scheduler must not forget: which moments are dealt with, which runs there are and how
// they ended. A SQLite file in the state folder; `kuramori status` and reports read it while the daemon
// writes. Losing it costs history: where each job stands is found in the vaults again (job_loop.cc).
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/database.h"
#include "policy/scheduling.h"

namespace kuramori {

constexpr const char* kJobJournalFile = "jobs.sqlite";  // in the state folder
constexpr const char* kJobLockFile = "jobs.lock";       // beside it: whose daemon it is
constexpr int64_t kRunsKept = 500'000;                  // about 100 MiB
constexpr int64_t kRunsAtOnce = 10'000;                 // that are read together

// A process, so that a later one of the same number is not taken for it.
struct ProcessMark {
  int64_t pid = 0;
  int64_t began = 0;  // ticks since the machine started
  bool operator==(const ProcessMark&) const = default;
};

class JobJournal {
 public:
  // `path` may be ":memory:".
  static Result<std::unique_ptr<JobJournal>> open(const std::string& path);

  // One that a daemon is making or has made: it stays new for that one.
  static Result<std::unique_ptr<JobJournal>> open_to_read(const std::string& path);

  // In all snapshots of this journal's runs, before the run's number: numbers begin anew in another journal.
  const std::string& name() const { return name_; }
  bool is_new() const { return is_new_; }  // it was made just now: nothing is known

  struct Kept {
    std::map<std::string, JobMemory> jobs;
    std::vector<Run> open;                     // not over when the last daemon ended
    std::map<int64_t, ProcessMark> processes;  // of those that ran
    int64_t next_run = 1;
  };
  Result<Kept> read();
  // All of it, or nothing: to be called before anything is started.
  Result<void> write(const Step& step);
  // Runs that are over and older than the newest kRunsKept go.
  Result<void> trim();
  Result<void> set_process(int64_t run, const ProcessMark& process);
  Result<void> set_snapshot(int64_t run, const std::string& snapshot);

  // By run, in words.
  Result<void> set_progress(const std::map<int64_t, std::string>& progress);

  struct Listed {
    Run run;
    std::string snapshot;  // the id of the one it made
    std::string progress;  // of one that runs: how far it is
  };
  // Those that `wanted` takes: first all that run or wait, then the newest `last` of those that are over.
  Result<std::vector<Listed>> list(int64_t last, const std::function<bool(const Listed&)>& wanted);

  // Another number whenever somebody else has written to it.
  Result<int64_t> version();

  // Runs that somebody asked to end (another process writes that); each is told once.
  Result<std::vector<int64_t>> take_cancelled();
  Result<void> ask_to_cancel(int64_t run);
  // Jobs that somebody asked to run now, likewise. They stand here until the run does.
  Result<void> ask_to_run(const std::string& job);
  Result<std::vector<std::string>> asked();
  Result<void> forget_asked(const std::string& job);

  // Every run with a number above `after`, by number; at most kRunsAtOnce of them.
  Result<std::vector<Run>> runs_after(int64_t after);
  // One of them; nullopt when it is not there (any more).
  Result<std::optional<Run>> find_run(int64_t id);

  // Somebody applied a new configuration (another process asks); it is told once.
  Result<bool> take_reload();
  Result<void> ask_to_reload();
  Result<bool> is_reload_asked();

 private:
  explicit JobJournal(std::unique_ptr<Database> database) : database_(std::move(database)) {}
  Result<void> begin();

  std::unique_ptr<Database> database_;
  std::string name_;
  bool is_new_ = false;
};

}  // namespace kuramori
