#include "daemon/job_loop.h"

#include <fmt/core.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "base/check.h"
#include "base/time_text.h"
#include "daemon/job_journal.h"
#include "daemon/job_process.h"
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
constexpr const char* kJobLockFile = "jobs.lock";
constexpr Duration kOtherDaemonPause = std::chrono::milliseconds(200);
constexpr Duration kStreamPauseFirst = std::chrono::seconds(1), kStreamPauseMost = std::chrono::minutes(1);
constexpr Duration kStreamIsWell = std::chrono::minutes(1);  // a stream that ran so long starts anew at once

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
      : settings_(std::move(settings)), config_(std::move(config)), reporter_(reporter) {
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

 private:
  struct Active {
    Run run;
    JobProcess process;
    bool is_question = false;         // whether an earlier try had succeeded
    std::optional<Duration> kill_at;  // it was asked to end
    std::string progress;             // what was written of it last
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
  JobMemory recall(const Job& job);
  std::optional<JobResult> ask(const std::vector<std::string>& words);
  void use_config();
  void reload();

  bool write_down(const Step& step);
  void act(const Step& step);
  enum class Doubt { kAsk, kNone };
  void start(const Run& run, Doubt doubt);
  std::vector<std::string> words_of(const Job& job, const Run& run) const;
  std::vector<std::string> question_of(const Job& job, const Run& run) const;
  std::vector<std::string> command_of(const std::vector<std::string>& words) const;
  std::string tag_of(const Run& run) const { return fmt::format("{}-{}", journal_->name(), run.id); }
  void write_progress();
  void look_at_jobs();
  void finish(Active active);
  void end_job(Active& active);
  void tell(const Step& step);

  void keep_streams();
  void start_stream(const std::string& name, Stream& stream);
  void stop_streams();

  void wait_for_something();
  bool begin_to_stop();

  JobLoopSettings settings_;
  Config config_;
  Reporter& reporter_;
  Clock& clock_ = system_clock();
  Fd wake_;
  std::optional<FileLock> lock_;
  std::unique_ptr<JobJournal> journal_;
  std::optional<Scheduler> scheduler_;
  std::map<std::pair<std::string, std::string>, std::optional<JobResult>> recalled_;  // by resource and vault
  Step unwritten_;  // what could not be written down yet
  std::map<int64_t, Active> active_;
  std::map<std::string, Stream> streams_;
  std::optional<Duration> stop_by_;
  Duration progress_at_{0}, trim_at_{0};
  bool cannot_write_told_ = false;
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
  }
  if (!journal) {
    reporter_.warning(fmt::format("no plan is run: {}", shown(journal.error())));
    return false;
  }
  journal_ = std::move(*journal);
  return true;
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
JobMemory JobLoop::Loop::recall(const Job& job) {
  JobMemory memory{.watched_until = clock_.now(), .had_run = {}, .last_vault = {}, .when = text_of(job.when)};
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
      if (job.after.empty()) kept->jobs[job.id] = recall(job);
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
      return {"prune", "--vault", run.vault};
    case JobKind::kCollect:
      return {"vault", "collect", run.vault};
    case JobKind::kScrub:
      break;
  }
  std::vector<std::string> words{"vault", "scrub", run.vault};
  if (job.budget)
    words.insert(
        words.end(),
        {"--budget", fmt::format("{}s", std::chrono::ceil<std::chrono::seconds>(*job.budget).count())});
  return words;
}

// Of a backup: the newest snapshot says which run made it. Everything else may be done once more.
std::vector<std::string> JobLoop::Loop::question_of(const Job& job, const Run& run) const {
  return {"show", job.resource + "@latest", "--vault", run.vault};
}

// Nothing is started that is not written down. A disk that is full is waited for.
bool JobLoop::Loop::write_down(const Step& step) {
  auto written = journal_->write(step);
  if (written) {
    if (std::exchange(cannot_write_told_, false)) reporter_.note("the daemon's journal can be written again");
    return true;
  }
  if (!std::exchange(cannot_write_told_, true))
    reporter_.warning(fmt::format("no job is started until the daemon's journal can be written: {}",
                                  shown(written.error())));
  return false;
}

// A backup that was tried before may have succeeded all the same: its process, or the daemon, was killed when
// the snapshot stood and nobody had heard of it. So the vault is asked first.
void JobLoop::Loop::start(const Run& run, Doubt doubt) {
  const Job* job = scheduler_->find_job(run.job);
  CHECK(job != nullptr);
  const bool is_question = doubt == Doubt::kAsk && run.attempt > 1 && job->kind == JobKind::kBackup;
  auto process = JobProcess::start(command_of(is_question ? question_of(*job, run) : words_of(*job, run)));
  if (!process) {
    scheduler_->ended(run.id, {.code = 1, .why = shown(process.error())}, now_of(clock_));
    return;
  }
  const int64_t pid = process->pid();
  if (auto began = process_began(pid)) (void)journal_->set_process(run.id, {pid, *began});
  active_.insert_or_assign(run.id, Active{run, std::move(*process), is_question, std::nullopt, {}});
}

void JobLoop::Loop::end_job(Active& active) {
  if (active.kill_at) return;
  active.process.ask_to_stop();
  active.kill_at = clock_.steady() + kEndWithin;
}

void JobLoop::Loop::act(const Step& step) {
  for (const Run& run : step.start) start(run, Doubt::kAsk);
  for (int64_t run : step.stop)
    if (auto at = active_.find(run); at != active_.end()) end_job(at->second);
  tell(step);
}

void JobLoop::Loop::tell(const Step& step) {
  for (const Run& run : step.changed) {
    if (run.state == RunState::kCompleted) {
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
    if (active.process.poll_once())
      over.push_back(id);
    else if (active.kill_at && clock_.steady() >= *active.kill_at)
      active.process.kill();
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
  Ending ending{.code = exit.code, .signal = exit.signal, .why = result.error};
  if (!exit.ok() && ending.why.empty()) {
    const std::string said = words_of_line(active.process.last_words());
    ending.why = said.empty() ? exit.describe() : fmt::format("{}; it said: {}", exit.describe(), said);
  }
  if (active.is_question && !active.kill_at) {
    const bool is_known = exit.ok();
    const bool is_nothing = result.error_kind == "not_found" || result.error_kind == "usage";
    const bool had_succeeded =
        std::ranges::find(result.tags, std::pair<std::string, std::string>(kRunTag, tag_of(active.run))) !=
        result.tags.end();
    if (!had_succeeded && (is_known || is_nothing) && !stop_by_) return start(active.run, Doubt::kNone);
    if (!had_succeeded)
      ending = {.code = 1, .why = std::move(ending.why)};  // asked again before the next try
  }
  if (exit.ok() && !result.snapshot.empty()) (void)journal_->set_snapshot(active.run.id, result.snapshot);
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
  return active_.empty() && streams_.empty();
}

void JobLoop::Loop::run() {
  if (!open_journal()) return;
  alive_at = clock_.steady().count();
  take_up_old();
  if (!scheduler_) return;  // asked to stop before it began
  use_config();
  for (;;) {
    alive_at = clock_.steady().count();
    look_at_jobs();
    write_progress();
    if (clock_.steady() >= trim_at_) {
      trim_at_ = clock_.steady() + kTrimEvery;
      (void)journal_->trim();  // the next time, then
    }
    keep_streams();
    if (reload_asked.exchange(false)) reload();
    if (auto cancelled = journal_->take_cancelled()) {
      for (int64_t run : *cancelled)
        if (!scheduler_->cancel(run, now_of(clock_)))
          reporter_.note(fmt::format("run {} cannot be cancelled: it is over", run));
    }
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

bool JobLoop::is_alive() const {
  return system_clock().steady() - Duration(loop_->alive_at.load()) < kAliveMax;
}

}  // namespace kuramori
