#include "daemon/job_journal.h"

#include <fmt/core.h>

#include "base/id.h"
#include "base/world.h"

namespace kuramori {
namespace {

// Times are nanoseconds since 1970 in UTC, as everywhere here.
constexpr const char* kSchema =
    "create table if not exists meta(key text primary key, value text);"
    "create table if not exists jobs(id text primary key, watched_until integer, last_vault text, schedule "
    "text);"
    "create table if not exists runs(id integer primary key, job text, due integer, since integer, state "
    "text,"
    " vault text, attempt integer, created integer, started integer, ended integer, why text, pid integer,"
    " pid_began integer, snapshot text, progress text);"
    "create index if not exists runs_of_job on runs(job, due);"
    "create index if not exists runs_open on runs(id) where ended is null;"
    "create table if not exists cancelled(run integer primary key);"
    "create table if not exists asked(job text primary key);"
    "create table if not exists reload(asked integer primary key);";

Database::Value optional_time(const std::optional<Time>& time) {
  return time ? Database::Value(to_unix_ns(*time)) : Database::Value(nullptr);
}

const std::string kSelectRuns =
    "select id, job, due, since, state, vault, attempt, created, started, ended, why, snapshot, pid, "
    "pid_began, progress from "
    "runs";

Run run_of(const Database::Row& row) {
  Run run;
  run.id = row.number(0);
  run.job = row.text(1);
  run.due = from_unix_ns(row.number(2));
  run.since = from_unix_ns(row.number(3));
  run.state = run_state_of(row.text(4)).value_or(RunState::kCreated);
  run.vault = row.text(5);
  run.attempt = static_cast<int>(row.number(6));
  run.created = from_unix_ns(row.number(7));
  if (!row.is_null(8)) run.started = from_unix_ns(row.number(8));
  if (!row.is_null(9)) run.ended = from_unix_ns(row.number(9));
  run.why = row.text(10);
  return run;
}

}  // namespace

Result<std::unique_ptr<JobJournal>> JobJournal::open(const std::string& path) {
  TRY_ASSIGN(auto database,
             Database::open(path, {.what = "the daemon's journal", .schema = kSchema, .is_journal = true}));
  std::unique_ptr<JobJournal> journal(new JobJournal(std::move(database)));
  TRY(journal->begin());
  return journal;
}

Result<std::unique_ptr<JobJournal>> JobJournal::open_to_read(const std::string& path) {
  TRY_ASSIGN(auto database,
             Database::open(path, {.what = "the daemon's journal", .schema = kSchema, .is_journal = true}));
  return std::unique_ptr<JobJournal>(new JobJournal(std::move(database)));
}

Result<void> JobJournal::begin() {
  TRY(database_->query("select value from meta where key = 'name'", {},
                       [&](const Database::Row& row) { name_ = row.text(0); }));
  if (name_.empty()) {
    std::array<uint8_t, 6> raw;
    system_random().fill(raw);
    for (uint8_t byte : raw) name_ += fmt::format("{:02x}", byte);
    is_new_ = true;
    TRY(database_->query("insert into meta values('name', ?)", {name_}));
  }
  return {};
}

Result<void> JobJournal::trim() {
  return database_->query("delete from runs where ended is not null and id <= (select max(id) from runs) - ?",
                          {kRunsKept});
}

Result<JobJournal::Kept> JobJournal::read() {
  Kept kept;
  TRY(database_->query("select id, watched_until, last_vault, schedule from jobs", {},
                       [&](const Database::Row& row) {
                         kept.jobs[row.text(0)] = {.watched_until = from_unix_ns(row.number(1)),
                                                   .had_run = {},
                                                   .last_vault = row.text(2),
                                                   .when = row.text(3)};
                       }));
  for (auto& [id, job] : kept.jobs)
    TRY(database_->query("select due from runs where job = ? order by id desc limit ?",
                         {id, static_cast<int64_t>(kMomentsRemembered)}, [&](const Database::Row& row) {
                           job.had_run.push_back(from_unix_ns(row.number(0)));
                         }));
  for (auto& [id, job] : kept.jobs) std::ranges::reverse(job.had_run);
  TRY(database_->query((kSelectRuns + " where ended is null order by id").c_str(), {},
                       [&](const Database::Row& row) {
                         Run run = run_of(row);
                         if (run.state == RunState::kRunning && !row.is_null(12))
                           kept.processes[run.id] = {.pid = row.number(12), .began = row.number(13)};
                         kept.open.push_back(std::move(run));
                       }));
  TRY(database_->query("select coalesce(max(id), 0) + 1 from runs", {},
                       [&](const Database::Row& row) { kept.next_run = row.number(0); }));
  return kept;
}

Result<void> JobJournal::write(const Step& step) {
  if (step.changed.empty() && step.remembered.empty()) return {};
  return database_->at_once([&]() -> Result<void> {
    for (const auto& [id, memory] : step.remembered)
      TRY(database_->query("insert or replace into jobs values(?, ?, ?, ?)",
                           {id, to_unix_ns(memory.watched_until), memory.last_vault, memory.when}));
    for (const Run& run : step.changed)
      TRY(database_->query(
          "insert into runs values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null, null, null, null) on "
          "conflict(id) do update set "
          "state = excluded.state, vault = excluded.vault, attempt = excluded.attempt, "
          "started = excluded.started, "
          "ended = excluded.ended, why = excluded.why, pid = null, pid_began = null, "
          "progress = null",
          {run.id, run.job, to_unix_ns(run.due), to_unix_ns(run.since), name_of(run.state), run.vault,
           static_cast<int64_t>(run.attempt), to_unix_ns(run.created), optional_time(run.started),
           optional_time(run.ended), run.why}));
    return {};
  });
}

Result<void> JobJournal::set_process(int64_t run, const ProcessMark& process) {
  return database_->query("update runs set pid = ?, pid_began = ? where id = ?",
                          {process.pid, process.began, run});
}

Result<void> JobJournal::set_snapshot(int64_t run, const std::string& snapshot) {
  return database_->query("update runs set snapshot = ? where id = ?", {snapshot, run});
}

Result<void> JobJournal::set_progress(const std::map<int64_t, std::string>& progress) {
  return database_->at_once([&]() -> Result<void> {
    for (const auto& [run, words] : progress)
      TRY(database_->query("update runs set progress = ? where id = ? and ended is null", {words, run}));
    return {};
  });
}

Result<std::vector<JobJournal::Listed>> JobJournal::list(int64_t last,
                                                         const std::function<bool(const Listed&)>& wanted) {
  std::vector<Listed> listed;
  auto take = [&](const Database::Row& row) {
    Listed one{run_of(row), row.text(11), row.text(14)};
    if (wanted(one)) listed.push_back(std::move(one));
  };
  TRY(database_->query((kSelectRuns + " where ended is null order by id").c_str(), {}, take));
  const size_t open = listed.size();
  // In pages: a name that is seldom met is looked for further back, the rest of a long history is not read.
  for (int64_t below = INT64_MAX; listed.size() - open < static_cast<size_t>(last);) {
    int64_t least = below;
    TRY(database_->query(
        (kSelectRuns + " where ended is not null and id < ? order by id desc limit 1000").c_str(), {below},
        [&](const Database::Row& row) {
          least = row.number(0);
          if (listed.size() - open < static_cast<size_t>(last)) take(row);
        }));
    if (least == below) break;
    below = least;
  }
  return listed;
}

Result<int64_t> JobJournal::version() {
  int64_t version = 0;
  TRY(database_->query("pragma data_version", {},
                       [&](const Database::Row& row) { version = row.number(0); }));
  return version;
}

Result<std::vector<int64_t>> JobJournal::take_cancelled() {
  std::vector<int64_t> runs;
  TRY(database_->query("select run from cancelled", {},
                       [&](const Database::Row& row) { runs.push_back(row.number(0)); }));
  if (!runs.empty()) TRY(database_->query("delete from cancelled"));
  return runs;
}

Result<void> JobJournal::ask_to_cancel(int64_t run) {
  return database_->query("insert or ignore into cancelled values(?)", {run});
}

Result<void> JobJournal::ask_to_run(const std::string& job) {
  return database_->query("insert or ignore into asked values(?)", {job});
}

Result<std::vector<std::string>> JobJournal::asked() {
  std::vector<std::string> jobs;
  TRY(database_->query("select job from asked", {},
                       [&](const Database::Row& row) { jobs.push_back(row.text(0)); }));
  return jobs;
}

Result<void> JobJournal::forget_asked(const std::string& job) {
  return database_->query("delete from asked where job = ?", {job});
}

Result<std::vector<Run>> JobJournal::runs_after(int64_t after) {
  std::vector<Run> runs;
  TRY(database_->query((kSelectRuns + " where id > ? order by id limit ?").c_str(), {after, kRunsAtOnce},
                       [&](const Database::Row& row) { runs.push_back(run_of(row)); }));
  return runs;
}

Result<std::optional<Run>> JobJournal::find_run(int64_t id) {
  std::optional<Run> run;
  TRY(database_->query((kSelectRuns + " where id = ?").c_str(), {id},
                       [&](const Database::Row& row) { run = run_of(row); }));
  return run;
}

Result<bool> JobJournal::is_reload_asked() {
  bool asked = false;
  TRY(database_->query("select asked from reload", {}, [&](const Database::Row&) { asked = true; }));
  return asked;
}

Result<bool> JobJournal::take_reload() {
  TRY_ASSIGN(const bool asked, is_reload_asked());
  if (asked) TRY(database_->query("delete from reload"));
  return asked;
}

Result<void> JobJournal::ask_to_reload() {
  return database_->query("insert or ignore into reload values(1)");
}

}  // namespace kuramori
