// What the daemon runs, and when. Pure: what happened and what time it is go in, what to start, to stop and
// to write down comes out. No clock is read here, nothing is started, nothing is forgotten: whoever drives
// this writes down what a Step says before doing it, and gives it back after a restart.
//
// Two clocks. Whether something is due is decided by the wall clock, by moments of a schedule; windows and
// pauses are lengths and are measured by a clock that never jumps. A moment of a schedule leads to at most
// one run, whatever the wall clock does: set back, it passes moments again that had theirs. Moments that
// passed while nobody watched, or that a jump forward left out, are one run together (catch-up). A moment
// that comes while an earlier run still waits is that run's too.
#pragma once
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "base/world.h"
#include "policy/config.h"
#include "policy/schedule.h"

namespace kuramori {

enum class JobKind { kBackup, kCopy, kDrill, kPrune, kCollect, kScrub };
std::string_view name_of(JobKind kind);  // "backup"

// One thing that is done again and again: a plan's backup of one resource, its copy to one vault, its drill;
// a vault's upkeep.
struct Job {
  std::string id;  // "backup orders/orders-db": what it is known by across restarts and new configurations
  JobKind kind = JobKind::kBackup;
  std::string plan, resource;       // "" for the upkeep of a vault
  std::vector<std::string> vaults;  // where it works; a drill's are taken in turn
  std::string to;                   // of a copy
  When when;
  std::string after;  // the job whose snapshot starts it; "" where `when` does
  std::optional<Duration> start_window, completion_window;
  std::optional<Duration> budget;  // of a scrub
  bool unasked = false;            // upkeep by default: not for a key that may not
  int importance = 0;              // 0 first
  std::string lane;                // of one lane one job runs at a time
  bool operator==(const Job&) const = default;
};
// In the order of the file. Nothing for plans that say no time: those with `every: change` are streams.
std::vector<Job> jobs_of(const Config& config);

// CREATED: there is a reason why it waits (a pause before another try, a restart). PENDING: it starts when
// there is room. The other words are ends.
enum class RunState {
  kCreated,
  kPending,
  kRunning,
  kCompleted,
  kPartial,
  kFailed,
  kExpired,    // not started within its start window
  kAborted,    // not done within its completion window
  kCancelled,  // somebody asked, or its plan is gone
};
std::string_view name_of(RunState state);  // "COMPLETED"
std::optional<RunState> run_state_of(std::string_view name);
constexpr bool is_over(RunState state) {
  return state > RunState::kRunning;
}

struct Run {
  int64_t id = 0;
  std::string job;
  Time due, since;  // the moment it is for, and the first it is for: earlier when several passed
  RunState state = RunState::kPending;
  std::string vault;  // where it works
  int attempt = 0;    // how often it was started
  Time created;
  std::optional<Time> started, ended;  // the first start
  std::string why;                     // of an end that is no success, and of waiting for longer; in words
};

struct Now {
  Time wall;
  Duration steady;
};

// How one try ended.
struct Ending {
  int code = 0;    // of the exit, when signal is 0
  int signal = 0;  // what killed it
  std::string why;
};

// A run that failed for a reason that may pass is tried again: after a pause that doubles.
constexpr Duration kJobPauseFirst = std::chrono::seconds(20), kJobPauseMost = std::chrono::minutes(15);
constexpr int kJobTriesMax = 8;             // then it has failed: over an hour after the first
constexpr size_t kMomentsRemembered = 256;  // of each job: those that had a run, should the clock be put back

// What is kept of a job between daemons.
struct JobMemory {
  Time watched_until;  // moments up to here are dealt with
  std::vector<Time>
      had_run;             // those that had a run of their own, the newest kMomentsRemembered, in any order
  std::string last_vault;  // where the last drill was
  std::string when;        // as text: another schedule starts anew
};
std::string text_of(const When& when);

struct Step {
  std::vector<Run> changed;                     // to be written down, before anything is started or stopped
  std::map<std::string, JobMemory> remembered;  // likewise, by job; `had_run` is empty: the runs say it
  std::vector<Run> start;
  std::vector<int64_t> stop;  // ask it to end; its end comes through ended() as any other
};

class Scheduler {
 public:
  explicit Scheduler(int64_t next_run_id) : next_id_(next_run_id) {}

  // At the start, and for a new configuration. What is known stays: its runs, and what it had. A job whose
  // schedule is another one starts to be watched now, as does one that `memory` says nothing of. Runs that
  // wait for a job that is gone are cancelled, those that run end as they end.
  void set_jobs(std::vector<Job> jobs, const JobLimits& limits,
                const std::map<std::string, JobMemory>& memory, Now now);
  // A run of before that was not over: it waits, and its windows begin anew. If there is no such job now it
  // is cancelled; of two runs of one job the earlier is.
  void take_up(Run run, Now now);

  // What is to be done now. To be called whenever something happened, and when wait() says so.
  Step step(Now now);
  // How long until something is due by itself. nullopt: nothing ever is.
  std::optional<Duration> wait(Now now) const;

  void ended(int64_t run, const Ending& ending, Now now);
  // Another daemon with the same plans is at this run, which was just started: it waits, and asks `again`.
  void held_elsewhere(int64_t run, Duration again, const std::string& by, Now now);
  // … or has done it, or one that serves for it: that was for `due`.
  void done_elsewhere(int64_t run, Time due, const std::string& by, Now now);
  // False: there is no such run, or it is over.
  bool cancel(int64_t run, Now now);
  // Somebody asks for a run of it, whatever its schedule says. One that waits already is that run; one that
  // pauses after a failure is tried at once. False: there is no such job.
  bool run_now(std::string_view job, Now now);
  // No run is started from now on. One that ends without success was interrupted: it waits for the next
  // daemon.
  void stop() { stopping_ = true; }

  std::vector<Run> open_runs() const;  // waiting and running
  size_t running() const { return running_; }
  const Job* find_job(std::string_view id) const;

 private:
  enum class Stopped { kNo, kAborted, kCancelled };
  struct Waiting {
    Run run;
    std::optional<Duration> try_at;       // by the steady clock: a pause
    std::optional<Duration> start_by;     // until its first start
    std::optional<Duration> complete_by;  // from its first start
    bool elsewhere = false;               // another daemon is at it
  };
  struct Running {
    Run run;
    std::optional<Duration> complete_by;
    Stopped stopped = Stopped::kNo;
  };
  struct State {
    Job job;
    bool gone = false;  // no longer in the configuration
    Time watched_until;
    std::deque<Time> had_run;
    std::string last_vault;
    std::optional<Time> next;       // in due_
    std::optional<Duration> timer;  // in timers_
    std::optional<Time> rank;       // in ready_
    std::optional<Waiting> waiting;
    std::optional<Running> running;
  };
  using States = std::map<std::string, State, std::less<>>;

  void find_next(State& state);
  void notice_moments(State& state, Now now);
  void make_due(State& state, Time due, Time since, Now now);
  void expire(State& state, Now now);
  void set_timer(State& state);
  void set_ready(State& state);
  void wait_for_start(State& state, Run run, Now now);
  bool has_room(const State& state) const;
  void start(State& state, Now now);
  void close(Run run, RunState end, std::string why, Now now);
  // The run of `state` has left what it worked in.
  Running leave(State& state);
  void start_followers(const State& state, Time due, Now now);
  void remember(const State& state);
  void forget_gone(const std::string& id);
  void changed(const Run& run);
  std::string pick_vault(const State& state) const;

  JobLimits limits_;
  int64_t next_id_;
  bool stopping_ = false;
  States states_;
  std::map<std::string, std::vector<std::string>> followers_;  // by the job they come after
  std::set<std::pair<Time, State*>> due_;
  std::set<std::pair<Duration, State*>> timers_;
  std::set<std::pair<Time, State*>> ready_;
  std::set<std::string, std::less<>> lanes_;
  std::map<std::string, size_t> at_vault_;
  std::map<int64_t, State*> by_run_;
  size_t running_ = 0, drilling_ = 0;
  std::optional<Time> last_wall_;
  Step pending_;
};

}  // namespace kuramori
