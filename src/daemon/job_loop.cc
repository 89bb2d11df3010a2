#include "daemon/job_loop.h"

#include <fmt/core.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <set>

#include "base/check.h"
#include "base/time_text.h"
#include "conc/guarded.h"
#include "daemon/job_journal.h"
#include "daemon/job_process.h"
#include "daemon/lease_keeper.h"
#include "daemon/run_log.h"
#include "engine/open_vault.h"
#include "os/lock.h"
#include "os/process.h"

namespace kuramori {
namespace {

constexpr Duration kLookAroundEvery = std::chrono::seconds(1);  // for jumps of the clock, and what others ask
constexpr Duration kEndWithin = std::chrono::seconds(20);       // after SIGTERM; then SIGKILL
constexpr Duration kDyingMax = std::chrono::seconds(10);        // for jobs of a daemon that was killed
constexpr Duration kAnswerMax = std::chrono::seconds(60);       // for a vault to say what it has
constexpr Duration kAliveMax = std::chrono::minutes(2);         // longer than anything the loop waits for
constexpr Duration kTrimEvery = std::chrono::hours(1);
constexpr Duration kProgressEvery = std::chrono::seconds(5);
constexpr Duration kOtherDaemonPause = std::chrono::milliseconds(200);
constexpr Duration kStreamPauseFirst = std::chrono::seconds(1), kStreamPauseMost = std::chrono::minutes(1);
constexpr Duration kStreamIsWell = std::chrono::minutes(1);  // a stream that ran so long starts anew at once
// Of a run whose vault cannot be asked for its lease; then it is done without.
constexpr int kLeaseTriesMax = 3;

Now now_of(Clock& clock) {
  return {clock.now(), clock.steady()};
}

std::string shown(const Error& error) {
  return error.why.empty() ? error.what : error.what + ": " + error.why;
}

// Ends a process that an earlier daemon started and that does not know yet that this is dead.
void end_left_over(const ProcessMark& mark, Clock& clock) {
  const Duration deadline = clock.steady() + kDyingMax;
  bool asked = false;
  while (process_began(mark.pid) == mark.began && clock.steady() < deadline) {
    if (!asked) ::kill(static_cast<pid_t>(mark.pid), SIGKILL);
    asked = true;
    clock.sleep(std::chrono::milliseconds(10));
  }
}

}  // namespace

std::map<std::string, std::vector<std::string>> streams_of(const Config& config) {
  std::map<std::string, std::vector<std::string>> streams;
  for (const PlanConfig& plan : config.plans) {
    for (const std::string& resource : plan.resources) {
      auto found = config.resource(resource);
      if (!found) continue;
      if (plan.wal == WalMode::kStream && (*found)->kind == ResourceKind::kPostgres)
        streams[fmt::format("wal stream {}", resource)] = {"wal", "stream", resource, "--vault", plan.vault};
      if (!plan.every_change || (*found)->kind == ResourceKind::kPostgres) continue;
      auto& words = streams[fmt::format("watch {}/{}", plan.name, resource)];
      words = {"watch", resource, "--plan", plan.name};
      if (!plan.copies.empty()) words.emplace_back("--copy");
    }
  }
  return streams;
}

bool has_work(const Config& config) {
  return !jobs_of(config).empty() || !streams_of(config).empty();
}

// All of it belongs to the loop's thread, but what is atomic.
class JobLoop::Loop {
 public:
  Loop(JobLoopSettings settings, Config config, Reporter& reporter)
      : settings_(std::move(settings)),
        config_(std::move(config)),
        reporter_(reporter),
        log_(settings_.state_folder) {
    wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }

  void run();
  void wake() {
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
  }

  std::stop_source stop_asked;
  std::atomic<bool> reload_asked = false;
  std::atomic<int64_t> alive_at{0};  // by the steady clock
  Guarded<Facts> facts;

 private:
  struct Active {
    Run run;
    JobProcess process;
    bool is_question = false;         // whether an earlier try had succeeded
    Duration began{0};                // this process
    bool is_overdue = false;          // a question that had no answer in time
    std::optional<Duration> kill_at;  // it was asked to end
    std::string progress;             // what was written of it last
    std::vector<std::string> tried;   // tags of runs of other daemons that may have made its snapshot
    std::string lost;                 // its lease, and why
    std::optional<LeaseMark> mark;
  };
  // Waits for the vault's word whose run it is.
  struct Asking {
    Run run;
  };
  struct Stream {
    std::vector<std::string> words;
    std::optional<JobProcess> process;
    Duration began{0}, start_at{0}, pause = kStreamPauseFirst;
    std::optional<Duration> kill_at;
    bool unwanted = false;
  };

  bool be_the_only_one();
  bool open_journal();
  void take_up_old();
  JobMemory recall(const Job& job, Time began);
  std::optional<JobResult> ask(const std::vector<std::string>& words);
  void use_config();
  void reload();

  bool write_down(const Step& step);
  void act(const Step& step);
  enum class Doubt { kAsk, kNone };
  void start(const Run& run);
  void begin(const Run& run, Doubt doubt, std::vector<std::string> tried, std::optional<LeaseMark> mark);
  void take_lease_events();
  void give_back(int64_t run);
  std::vector<std::string> words_of(const Job& job, const Run& run) const;
  std::vector<std::string> question_of(const Run& run, const std::vector<std::string>& tried) const;
  std::vector<std::string> command_of(const std::vector<std::string>& words) const;
  std::string tag_of(const Run& run) const { return fmt::format("{}-{}", journal_->name(), run.id); }
  void write_progress();
  void look_at_jobs();
  void finish(Active active);
  void end_job(Active& active);
  void tell(const Step& step);
  void log(const Step& step);

  void keep_streams();
  void start_stream(const std::string& name, Stream& stream);
  void stop_streams();

  void wait_for_something();
  bool begin_to_stop();
  void take_wishes();
  void publish();

  JobLoopSettings settings_;
  Config config_;
  Reporter& reporter_;
  Clock& clock_ = system_clock();
  Fd wake_;
  std::optional<FileLock> lock_;
  std::unique_ptr<JobJournal> journal_;
  std::optional<Scheduler> scheduler_;
  std::map<std::pair<std::string, std::string>, std::optional<JobResult>> recalled_;  // by resource and vault
  Step unwritten_;                    // what could not be written down yet
  std::vector<std::string> granted_;  // jobs that were asked for, whose runs are not written down yet
  std::optional<LeaseKeeper> leases_;
  std::map<int64_t, Asking> asking_;
  std::set<int64_t> told_elsewhere_;     // runs
  std::set<std::string> told_unleased_;  // vaults
  std::map<int64_t, Active> active_;
  std::map<std::string, Stream> streams_;
  std::optional<Duration> stop_by_;
  Duration progress_at_{0}, trim_at_{0};
  bool cannot_write_told_ = false, has_journal_file_ = false;
  RunLog log_;
  bool cannot_log_told_ = false;
};

// --- the beginning -----------------------------------------------------------------------------------

// One daemon runs the plans of a state folder. Another may be about to end: it is waited for. False: asked to
// stop.
bool JobLoop::Loop::be_the_only_one() {
  for (bool told = false; !stop_asked.stop_requested();) {
    auto lock = FileLock::try_acquire(join_path(settings_.state_folder, kJobLockFile));
    if (!lock) return true;  // no journal either, then: that is told
    if (*lock) {
      lock_ = std::move(**lock);
      return true;
    }
    if (!std::exchange(told, true))
      reporter_.warning(fmt::format("another daemon runs the plans of {}: this one waits until it has ended",
                                    settings_.state_folder));
    alive_at = clock_.steady().count();
    clock_.sleep(kOtherDaemonPause);
  }
  return false;
}

// Without a place to write, plans run all the same: what is lost is what a journal is for, and that is said.
bool JobLoop::Loop::open_journal() {
  auto made = make_folders(settings_.state_folder, 0700);
  if (made && !be_the_only_one()) return false;
  auto journal = made ? JobJournal::open(join_path(settings_.state_folder, kJobJournalFile))
                      : Result<std::unique_ptr<JobJournal>>(made.error());
  if (!journal) {
    reporter_.warning(
        fmt::format("what the daemon does is not written down: {}; were it killed, a job could run twice. "
                    "Give it a folder: "
                    "KURAMORI_STATE",
                    shown(journal.error())));
    journal = JobJournal::open(":memory:");
  } else {
    has_journal_file_ = true;
  }
  if (!journal) {
    reporter_.warning(fmt::format("no plan is run: {}", shown(journal.error())));
    return false;
  }
  journal_ = std::move(*journal);
  return true;
}

void JobLoop::Loop::publish() {
  facts.with([&](Facts& shown) {
    shown.has_journal = has_journal_file_;
    shown.is_written_down = !cannot_write_told_;
    shown.streams.clear();
    for (const auto& [name, stream] : streams_)
      if (!stream.unwanted) shown.streams[name] = stream.process.has_value();
  });
}

// The answer of another run of this program, or nothing when it had none in time.
std::optional<JobResult> JobLoop::Loop::ask(const std::vector<std::string>& words) {
  alive_at = clock_.steady().count();
  Command command{.argv = command_of(words)};
  command.set = without_service_manager();
  command.die_with_us = true;
  command.timeout = kAnswerMax;
  command.output_max = kJobOutputBytesMax;
  command.stop = stop_asked.get_token();
  auto done = kuramori::run(command);
  if (!done) return std::nullopt;
  return read_job_result(done->output);
}

// Where a job stands that the journal knows nothing of: its newest snapshot, or the proof of its last drill,
// is what was done last.
// Vaults may take their time to answer: what falls due meanwhile has not been watched.
JobMemory JobLoop::Loop::recall(const Job& job, Time began) {
  JobMemory memory{.watched_until = began, .had_run = {}, .last_vault = {}, .when = text_of(job.when)};
  if (job.kind != JobKind::kBackup && job.kind != JobKind::kDrill) return memory;
  for (const std::string& vault : job.vaults) {
    auto [at, is_first] = recalled_.try_emplace({job.resource, vault});
    if (is_first) at->second = ask({"show", job.resource + "@latest", "--vault", vault});
    const std::optional<JobResult>& newest = at->second;
    if (!newest) continue;
    const bool drill = job.kind == JobKind::kDrill;
    if (!drill && newest->plan != job.plan) continue;
    auto when = parse_moment(drill ? newest->proof_time : newest->time);
    if (!when) continue;
    if (drill && !memory.last_vault.empty() && when->time < memory.watched_until) continue;
    memory.watched_until = when->time;
    memory.last_vault = vault;
  }
  return memory;
}

void JobLoop::Loop::take_up_old() {
  const Time began = clock_.now();
  auto kept = journal_->read();
  if (!kept) {
    reporter_.warning(fmt::format("what earlier daemons did is not known: {}", shown(kept.error())));
    kept = JobJournal::Kept{};
  }
  for (const auto& [run, process] : kept->processes) end_left_over(process, clock_);
  const std::vector<Job> jobs = jobs_of(config_);
  if (journal_->is_new()) {
    for (const Job& job : jobs) {
      if (stop_asked.stop_requested()) return;
      if (job.after.empty()) kept->jobs[job.id] = recall(job, began);
    }
    recalled_.clear();
  }
  scheduler_.emplace(kept->next_run);
  scheduler_->set_jobs(jobs, config_.daemon, kept->jobs, now_of(clock_));
  for (Run& run : kept->open) {
    scheduler_->take_up(std::move(run), now_of(clock_));
  }
}

void JobLoop::Loop::use_config() {
  const auto wanted = streams_of(config_);
  for (auto& [name, stream] : streams_) {
    auto at = wanted.find(name);
    stream.unwanted = at == wanted.end() || at->second != stream.words;
  }
  for (const auto& [name, words] : wanted)
    if (!streams_.contains(name)) streams_[name].words = words;
}

void JobLoop::Loop::reload() {
  auto config = settings_.load_config();
  if (!config) {
    reporter_.warning(
        fmt::format("the new configuration is not used, the old one stays: {}", shown(config.error())));
    return;
  }
  config_ = std::move(*config);
  scheduler_->set_jobs(jobs_of(config_), config_.daemon, {}, now_of(clock_));
  use_config();
  reporter_.note(fmt::format("the configuration was read anew: {} plans", config_.plans.size()));
}

// --- jobs --------------------------------------------------------------------------------------------

std::vector<std::string> JobLoop::Loop::command_of(const std::vector<std::string>& words) const {
  std::vector<std::string> argv{settings_.program, "--config", settings_.config_path, "--json"};
  if (!settings_.key_file.empty()) argv.insert(argv.end(), {"--key-file", settings_.key_file});
  argv.insert(argv.end(), words.begin(), words.end());
  return argv;
}

std::vector<std::string> JobLoop::Loop::words_of(const Job& job, const Run& run) const {
  switch (job.kind) {
    case JobKind::kBackup:
      return {"backup", job.resource, "--plan",
              job.plan, "--tag",      fmt::format("{}={}", kRunTag, tag_of(run))};
    case JobKind::kCopy:
      return {"copy", job.resource, "--from", run.vault, "--to", job.to};
    case JobKind::kDrill:
      return {"drill", job.resource, "--vault", run.vault};
    case JobKind::kPrune:
    case JobKind::kCollect:
    case JobKind::kScrub:
      break;
  }
  std::vector<std::string> words{"vault", std::string(name_of(job.kind)), run.vault};
  if (job.kind == JobKind::kPrune) words = {"prune", "--vault", run.vault};
  if (job.unasked) words.emplace_back("--if-allowed");
  if (job.budget)
    words.insert(
        words.end(),
        {"--budget", fmt::format("{}s", std::chrono::ceil<std::chrono::seconds>(*job.budget).count())});
  return words;
}

// Of a backup: is there a snapshot that this run made, or one of those that serve for it? It need not be the
// newest: a clock may have been put back since. Everything else may be done once more. Its resource is not
// named: a vault that knows none of that name has an empty list, and an error is never an answer.
std::vector<std::string> JobLoop::Loop::question_of(const Run& run,
                                                    const std::vector<std::string>& tried) const {
  std::vector<std::string> words{"snapshots", "--vault", run.vault};
  auto add = [&](const std::string& tag) {
    words.insert(words.end(), {"--tag", fmt::format("{}={}", kRunTag, tag)});
  };
  add(tag_of(run));
  for (const std::string& tag : tried) add(tag);
  return words;
}

// Nothing is started that is not written down. A disk that is full is waited for.
bool JobLoop::Loop::write_down(const Step& step) {
  auto written = journal_->write(step);
  if (written) {
    for (const std::string& job : std::exchange(granted_, {})) (void)journal_->forget_asked(job);
    if (std::exchange(cannot_write_told_, false)) reporter_.note("the daemon's journal can be written again");
    return true;
  }
  if (!std::exchange(cannot_write_told_, true))
    reporter_.warning(fmt::format("no job is started until the daemon's journal can be written: {}",
                                  shown(written.error())));
  return false;
}

// Whose it is, the vault of its plan says: one vault for all daemons, also where a drill takes them in turn.
void JobLoop::Loop::start(const Run& run) {
  const Job* job = scheduler_->find_job(run.job);
  CHECK(job != nullptr);
  if (!leases_) return begin(run, Doubt::kAsk, {}, std::nullopt);
  asking_.insert_or_assign(run.id, Asking{run});
  const bool apart = !job->when.never() && !job->when.is_by_clock();
  leases_->ask(job->vaults.front(), job->id, run.due, apart ? job->when.every : std::nullopt, run.id,
               tag_of(run));
}

// A backup that was tried before may have succeeded all the same: its process, or the daemon, was killed when
// the snapshot stood and nobody had heard of it. So the vault is asked first.
void JobLoop::Loop::begin(const Run& run, Doubt doubt, std::vector<std::string> tried,
                          std::optional<LeaseMark> mark) {
  const Job* job = scheduler_->find_job(run.job);
  CHECK(job != nullptr);
  told_elsewhere_.erase(run.id);
  const bool may_stand = run.attempt > 1 || !tried.empty();
  const bool is_question = doubt == Doubt::kAsk && may_stand && job->kind == JobKind::kBackup;
  std::vector<std::pair<std::string, std::string>> set;
  if (mark) set.emplace_back(kLeaseVariable, text_of(*mark));
  auto process = JobProcess::start(command_of(is_question ? question_of(run, tried) : words_of(*job, run)),
                                   std::move(set));
  if (!process) {
    give_back(run.id);
    scheduler_->ended(run.id, {.code = 1, .why = shown(process.error())}, now_of(clock_));
    return;
  }
  const int64_t pid = process->pid();
  if (auto began = process_began(pid)) (void)journal_->set_process(run.id, {pid, *began});
  active_.insert_or_assign(run.id, Active{.run = run,
                                          .process = std::move(*process),
                                          .is_question = is_question,
                                          .began = clock_.steady(),
                                          .kill_at = std::nullopt,
                                          .progress = {},
                                          .tried = std::move(tried),
                                          .lost = {},
                                          .mark = std::move(mark)});
}

void JobLoop::Loop::give_back(int64_t run) {
  if (leases_) leases_->end(run, LeaseEnd::kReleased);
}

void JobLoop::Loop::take_lease_events() {
  if (!leases_) return;
  for (LeaseEvent& event : leases_->take_events()) {
    if (event.kind == LeaseEvent::Kind::kLost) {
      const auto active = active_.find(event.run);
      if (active == active_.end() || active->second.kill_at) continue;
      active->second.lost = std::move(event.why);
      reporter_.warning(fmt::format("{} is stopped: {}", active->second.run.job, active->second.lost));
      end_job(active->second);
      continue;
    }
    const auto at = asking_.find(event.run);
    if (at == asking_.end()) {
      give_back(event.run);  // it was to end while it asked
      continue;
    }
    const Run run = std::move(at->second.run);
    asking_.erase(at);
    const LeaseAnswer& answer = event.answer;
    if (event.kind == LeaseEvent::Kind::kTrouble && run.attempt < kLeaseTriesMax) {
      give_back(run.id);
      scheduler_->ended(run.id, {.code = 1, .why = std::move(event.why)}, now_of(clock_));
    } else if (event.kind != LeaseEvent::Kind::kAnswer) {
      give_back(run.id);
      const Job* job = scheduler_->find_job(run.job);
      CHECK(job != nullptr);
      if (told_unleased_.insert(job->vaults.front()).second)
        reporter_.note(fmt::format("what other daemons do in {} is not known, and may be done twice: {}",
                                   job->vaults.front(), event.why));
      begin(run, Doubt::kAsk, {}, std::nullopt);
    } else if (answer.kind == LeaseAnswer::Kind::kMine) {
      begin(run, Doubt::kAsk, answer.tried, std::move(event.mark));
    } else if (answer.kind == LeaseAnswer::Kind::kHeld) {
      if (told_elsewhere_.insert(run.id).second)
        reporter_.note(fmt::format("{}: {} is at it; this daemon waits", run.job, answer.by));
      scheduler_->held_elsewhere(run.id, config_.daemon.lease / 3, answer.by, now_of(clock_));
    } else {
      told_elsewhere_.erase(run.id);
      scheduler_->done_elsewhere(run.id, answer.done_due, answer.by, now_of(clock_));
    }
  }
}

void JobLoop::Loop::end_job(Active& active) {
  if (active.kill_at) return;
  active.process.ask_to_stop();
  active.kill_at = clock_.steady() + kEndWithin;
}

void JobLoop::Loop::act(const Step& step) {
  for (const Run& run : step.start) start(run);
  for (int64_t run : step.stop) {
    if (auto at = active_.find(run); at != active_.end()) end_job(at->second);
    if (asking_.erase(run) != 0)
      scheduler_->ended(run, {.code = 1, .why = "it had not begun"},
                        now_of(clock_));  // the answer is given back
  }
  tell(step);
  log(step);
}

void JobLoop::Loop::log(const Step& step) {
  auto written = log_.write(step.changed, clock_.now());
  if (!written && !std::exchange(cannot_log_told_, true))
    reporter_.warning(fmt::format("runs are not logged: {}; kuramori jobs has them", shown(written.error())));
  if (written) cannot_log_told_ = false;
}

void JobLoop::Loop::tell(const Step& step) {
  for (const Run& run : step.changed) {
    if (!is_over(run.state) && !stop_by_ && told_elsewhere_.contains(run.id)) continue;
    if (run.state == RunState::kCompleted && !run.why.empty()) {
      reporter_.note(fmt::format("{}: {}", run.job, run.why));
    } else if (run.state == RunState::kCompleted) {
      reporter_.note(fmt::format("{}: {} in {}", run.job, name_of(run.state),
                                 format_duration(*run.ended - *run.started)));
    } else if (is_over(run.state)) {
      reporter_.warning(
          fmt::format("{}: {}{}{}", run.job, name_of(run.state), run.why.empty() ? "" : ": ", run.why));
    } else if (run.state == RunState::kPending && run.attempt == 0 && !run.why.empty()) {
      reporter_.warning(fmt::format("{} is due and waits: {}", run.job, run.why));
    } else if (run.state == RunState::kCreated && stop_by_) {
      reporter_.note(fmt::format("{}: interrupted; the next daemon starts it again", run.job));
    } else if (run.state == RunState::kCreated) {
      reporter_.warning(
          fmt::format("{}: try {} failed, it is tried again: {}", run.job, run.attempt, run.why));
    }
  }
}

// How far jobs are, for `kuramori jobs`: seldom, since each writing is made durable.
void JobLoop::Loop::write_progress() {
  if (clock_.steady() < progress_at_) return;
  progress_at_ = clock_.steady() + kProgressEvery;
  std::map<int64_t, std::string> changed;
  for (auto& [id, active] : active_) {
    if (active.process.progress() == active.progress) continue;
    active.progress = active.process.progress();
    if (auto progress = read_job_progress(active.progress))
      changed[id] = progress->total_bytes == 0
                        ? fmt::format("{}, {}", progress->phase, format_size(progress->done_bytes))
                        : fmt::format("{}, {} of {}", progress->phase, format_size(progress->done_bytes),
                                      format_size(progress->total_bytes));
  }
  if (!changed.empty()) (void)journal_->set_progress(changed);
}

void JobLoop::Loop::look_at_jobs() {
  std::vector<int64_t> over;
  for (auto& [id, active] : active_) {
    if (active.process.poll_once()) {
      over.push_back(id);
    } else if (active.kill_at) {
      if (clock_.steady() >= *active.kill_at) active.process.kill();
    } else if (active.is_question && clock_.steady() - active.began >= settings_.answer_within) {
      active.is_overdue = true;
      end_job(active);
    }
  }
  for (int64_t id : over) {
    Active active = std::move(active_.at(id));
    active_.erase(id);
    finish(std::move(active));
  }
}

void JobLoop::Loop::finish(Active active) {
  const Exit& exit = active.process.exit();
  const JobResult result = read_job_result(active.process.output());
  std::string snapshot = result.snapshot;
  Ending ending{.code = exit.code, .signal = exit.signal, .why = result.error};
  if (exit.ok() && !result.skipped.empty()) ending.why = "skipped: " + result.skipped;
  if (!exit.ok() && ending.why.empty()) {
    const std::string said = words_of_line(active.process.last_words());
    ending.why = said.empty() ? exit.describe() : fmt::format("{}; it said: {}", exit.describe(), said);
  }
  std::string stood;  // the run whose snapshot was found
  if (active.is_question) {
    // Also where other snapshots cannot be read, which ends with another status. No error is an answer: a
    // vault that cannot be opened now may have it all the same.
    const bool is_told = result.listed.has_value();
    for (const JobResult::Listed& one : result.listed.value_or(std::vector<JobResult::Listed>())) {
      const auto tag = one.tags.find(kRunTag);
      if (tag == one.tags.end() || (tag->second != tag_of(active.run) &&
                                    std::ranges::find(active.tried, tag->second) == active.tried.end()))
        continue;
      stood = tag->second;
      snapshot = one.snapshot;
    }
    if (stood.empty() && is_told && !active.kill_at && !stop_by_)
      return begin(active.run, Doubt::kNone, std::move(active.tried), std::move(active.mark));
    // An answer is no backup, whatever its status: where there is none, it is asked again before the next
    // try.
    if (active.is_overdue)
      ending.why = fmt::format("the vault did not say within {} whether its snapshot stands",
                               format_duration(settings_.answer_within));
    ending = stood.empty() ? Ending{.code = 1, .why = std::move(ending.why)} : Ending{};
  }
  // Refused because another has it: that passes.
  if (!active.lost.empty() && !(ending.code == 0 && ending.signal == 0))
    ending = {.code = 1, .why = active.lost};
  if (ending.code == 0 && ending.signal == 0 && !snapshot.empty())
    (void)journal_->set_snapshot(active.run.id, snapshot);
  // Also a proof that failed was one: whoever repeats it finds the same.
  const bool is_done = ending.signal == 0 && (ending.code == 0 || ending.code == 3 || ending.code == 4);
  if (leases_) leases_->end(active.run.id, is_done ? LeaseEnd::kDone : LeaseEnd::kReleased, stood);
  told_elsewhere_.erase(active.run.id);
  scheduler_->ended(active.run.id, ending, now_of(clock_));
}

// --- streams -----------------------------------------------------------------------------------------

void JobLoop::Loop::start_stream(const std::string& name, Stream& stream) {
  stream.began = clock_.steady();
  auto process = JobProcess::start(command_of(stream.words));
  if (process) {
    stream.process = std::move(*process);
    return;
  }
  reporter_.warning(fmt::format("{} does not start: {}", name, shown(process.error())));
  stream.start_at = clock_.steady() + stream.pause;
  stream.pause = std::min(stream.pause * 2, kStreamPauseMost);
}

void JobLoop::Loop::keep_streams() {
  const Duration now = clock_.steady();
  bool some_ended = false;
  for (auto at = streams_.begin(); at != streams_.end();) {
    auto& [name, stream] = *at;
    if (stream.process && stream.process->poll_once()) {
      if (!stream.unwanted) {
        if (now - stream.began >= kStreamIsWell) stream.pause = kStreamPauseFirst;
        const JobResult result = read_job_result(stream.process->output());
        reporter_.warning(fmt::format("{} ended ({}){}{}; it starts again in {}", name,
                                      stream.process->exit().describe(), result.error.empty() ? "" : ": ",
                                      result.error, format_duration(stream.pause)));
        stream.start_at = now + stream.pause;
        stream.pause = std::min(stream.pause * 2, kStreamPauseMost);
      }
      stream.process.reset();
    }
    if (stream.unwanted && stream.process) {
      if (!stream.kill_at) {
        stream.process->ask_to_stop();
        stream.kill_at = now + kEndWithin;
      } else if (now >= *stream.kill_at) {
        stream.process->kill();
      }
    }
    if (stream.unwanted && !stream.process) {
      at = streams_.erase(at);
      some_ended = true;
      continue;
    }
    if (!stream.process && now >= stream.start_at && !stop_by_) start_stream(name, stream);
    ++at;
  }
  // One whose words have changed is begun anew when it has ended.
  if (some_ended && !stop_by_) use_config();
}

void JobLoop::Loop::stop_streams() {
  for (auto& [name, stream] : streams_) stream.unwanted = true;
}

// --- the loop ----------------------------------------------------------------------------------------

void JobLoop::Loop::wait_for_something() {
  std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
  for (const auto& [id, active] : active_) active.process.add_to(polled);
  for (const auto& [name, stream] : streams_)
    if (stream.process) stream.process->add_to(polled);
  Duration wait = kLookAroundEvery;
  if (auto due = scheduler_->wait(now_of(clock_)); due && unwritten_.changed.empty())
    wait = std::min(wait, *due);
  for (const auto& [name, stream] : streams_)
    if (!stream.process) wait = std::min(wait, std::max(Duration(0), stream.start_at - clock_.steady()));
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(wait).count();
  if (::poll(polled.data(), polled.size(), static_cast<int>(ms)) < 0 && errno != EINTR)
    clock_.sleep(kLookAroundEvery);  // out of memory: try again
  uint64_t count = 0;
  (void)!::read(wake_.get(), &count, sizeof count);
}

// True: it is time to go.
bool JobLoop::Loop::begin_to_stop() {
  if (!stop_asked.stop_requested()) return false;
  if (!stop_by_) {
    scheduler_->stop();
    stop_by_ = clock_.steady() + settings_.stop_within;
    if (!active_.empty())
      reporter_.note(fmt::format("{} jobs are still at work; they have {}", active_.size(),
                                 format_duration(settings_.stop_within)));
    stop_streams();
  }
  if (clock_.steady() >= *stop_by_)
    for (auto& [id, active] : active_) end_job(active);
  for (const auto& [id, asking] : std::exchange(asking_, {}))
    scheduler_->ended(id, {.code = 1, .why = "it had not begun"}, now_of(clock_));
  return active_.empty() && streams_.empty();
}

// What others asked for: by the command line, or over HTTP.
void JobLoop::Loop::take_wishes() {
  if (auto cancelled = journal_->take_cancelled()) {
    for (int64_t run : *cancelled)
      if (!scheduler_->cancel(run, now_of(clock_)))
        reporter_.note(fmt::format("run {} cannot be cancelled: it is over", run));
  }
  if (stop_by_ || !unwritten_.changed.empty()) return;
  auto asked = journal_->asked();
  if (!asked) return;
  for (const std::string& job : *asked) {
    if (scheduler_->run_now(job, now_of(clock_))) {
      granted_.push_back(job);  // forgotten when its run is written down: asked for twice it is one run
    } else {
      reporter_.warning(fmt::format("{} was asked for, and there is no such job", job));
      (void)journal_->forget_asked(job);
    }
  }
}

void JobLoop::Loop::run() {
  if (!open_journal()) return;
  alive_at = clock_.steady().count();
  publish();  // what is asked for from now on stands in the journal until it is taken
  take_up_old();
  if (!scheduler_) return;  // asked to stop before it began
  if (settings_.open_vault && config_.daemon.lease > Duration(0))
    leases_.emplace(LeaseSettings{.holder = journal_->name(),
                                  .host = host_name(),
                                  .length = config_.daemon.lease,
                                  .open = settings_.open_vault,
                                  .wake = [this] { wake(); }});
  use_config();
  for (;;) {
    alive_at = clock_.steady().count();
    look_at_jobs();
    take_lease_events();
    write_progress();
    if (clock_.steady() >= trim_at_) {
      trim_at_ = clock_.steady() + kTrimEvery;
      (void)journal_->trim();  // the next time, then
    }
    keep_streams();
    if (auto asked = journal_->take_reload(); asked && *asked) {
      if (settings_.applied)
        settings_.applied();
      else
        reload_asked = true;
    }
    if (reload_asked.exchange(false)) reload();
    take_wishes();
    publish();
    const bool done = begin_to_stop();
    // What could not be written down comes first: in the order it happened.
    if (!unwritten_.changed.empty() || !unwritten_.remembered.empty()) {
      if (write_down(unwritten_)) act(std::exchange(unwritten_, {}));
    } else {
      Step step = scheduler_->step(now_of(clock_));
      if (write_down(step))
        act(step);
      else
        unwritten_ = std::move(step);
    }
    if (done && (unwritten_.changed.empty() || clock_.steady() >= *stop_by_)) return;
    wait_for_something();
  }
}

JobLoop::JobLoop(JobLoopSettings settings, Config config, Reporter& reporter)
    : loop_(std::make_unique<Loop>(std::move(settings), std::move(config), reporter)) {
  loop_->alive_at = system_clock().steady().count();
  thread_ = std::jthread([loop = loop_.get()] { loop->run(); });
}

JobLoop::~JobLoop() {
  stop();
  thread_.join();
}

void JobLoop::stop() {
  loop_->stop_asked.request_stop();
  loop_->wake();
}

void JobLoop::reload() {
  loop_->reload_asked = true;
  loop_->wake();
}

JobLoop::Facts JobLoop::facts() const {
  return loop_->facts.with([](const Facts& facts) { return facts; });
}

bool JobLoop::is_alive() const {
  return quiet_for() < kAliveMax;
}

Duration JobLoop::quiet_for() const {
  return system_clock().steady() - Duration(loop_->alive_at.load());
}

}  // namespace kuramori
