// `jobs`: the journal of `kuramori serve`, as another process may read it.
#include <fmt/core.h>

#include <charconv>

#include "base/time_text.h"
#include "base/units.h"
#include "cli/times.h"
#include "cli/verbs.h"
#include "daemon/job_journal.h"
#include "engine/local_state.h"
#include "os/file.h"

namespace kuramori {
namespace {

constexpr int64_t kShownUsually = 20, kShownMost = kRunsKept;
constexpr size_t kKnownShown = 500;  // characters of a list of jobs

Result<int64_t> number_of(std::string_view text, std::string_view option, int64_t most) {
  int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size() && number > 0 && number <= most) return number;
  return fail(ErrorKind::kUsage,
              fmt::format("--{} {} is no number of 1 to {}", option, text.substr(0, 40), most));
}

std::string shown(const std::optional<Time>& time) {
  return time ? shown_time(*time) : "";
}

// "backup orders/orders-db" is about the plan and the resource; "prune tokyo" about the vault.
bool is_about(const JobJournal::Listed& listed, const std::string& name) {
  if (name.empty() || listed.run.vault == name) return true;
  const std::string& job = listed.run.job;
  for (size_t at = job.find(name); at != job.npos; at = job.find(name, at + 1)) {
    const char before = at == 0 ? ' ' : job[at - 1];
    const size_t end = at + name.size();
    const char after = end == job.size() ? ' ' : job[end];
    if ((before == ' ' || before == '/') && (after == ' ' || after == '/')) return true;
  }
  return false;
}

void print_json(Console& console, const std::vector<JobJournal::Listed>& runs) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/jobs/1").key("jobs").begin_array();
  for (const auto& [run, snapshot, progress] : runs) {
    json.begin_object().field("run", run.id).field("job", run.job).field("state", name_of(run.state));
    json.field("vault", run.vault)
        .field("due", format_utc(run.due))
        .field("due_since", format_utc(run.since));
    json.field("tries", run.attempt);
    write_time(json, "created", run.created);
    write_time(json, "started", run.started);
    write_time(json, "ended", run.ended);
    json.field("why", run.why).field("snapshot", snapshot).field("progress", progress).end_object();
  }
  json.end_array().end_object();
  console.print_document(json);
}

Result<int> start_job(Context& context, JobJournal& journal, const std::string& wanted) {
  TRY_ASSIGN(const Config* config, context.config());
  std::string known;
  for (const Job& job : jobs_of(*config)) {
    if (job.id == wanted) {
      TRY(journal.ask_to_run(wanted));
      context.console().note(fmt::format("the daemon will run {} now", wanted));
      return 0;
    }
    known += (known.empty() ? "" : ", ") + job.id;
  }
  return fail(ErrorKind::kUsage, fmt::format("the plans have no job \"{}\"", wanted.substr(0, 200)),
              known.empty() ? "no plan runs by itself" : "they have: " + known.substr(0, kKnownShown),
              "kuramori jobs --start \"backup PLAN/RESOURCE\"");
}

}  // namespace

Result<int> run_jobs(Context& context) {
  const Invocation& line = context.line();
  const std::string path = join_path(state_folder(), kJobJournalFile);
  TRY_ASSIGN(const auto there, status_if_there(path));
  if (!there)
    return fail(ErrorKind::kNotFound, "no daemon has run plans here", fmt::format("there is no {}", path),
                "start one: kuramori serve, or name its state folder: KURAMORI_STATE=/var/lib/kuramori");
  TRY_ASSIGN(const auto journal, JobJournal::open(path));
  if (line.has("cancel")) {
    TRY_ASSIGN(const int64_t run, number_of(line.value("cancel"), "cancel", INT64_MAX));
    TRY(journal->ask_to_cancel(run));
    context.console().note(fmt::format("the daemon will end run {}", run));
    return 0;
  }
  if (line.has("start")) return start_job(context, *journal, line.value("start"));
  int64_t last = kShownUsually;
  if (line.has("last")) {
    TRY_ASSIGN(last, number_of(line.value("last"), "last", kShownMost));
  }
  const std::string name = line.argument(0);
  TRY_ASSIGN(const auto runs,
             journal->list(last, [&](const JobJournal::Listed& one) { return is_about(one, name); }));
  if (context.console().json()) {
    print_json(context.console(), runs);
    return 0;
  }
  Table table({{"run", Table::Align::kRight}, {"job"}, {"state"}, {"due"}, {"started"}, {"took"}, {"why"}});
  for (const auto& [run, snapshot, progress] : runs)
    table.add({std::to_string(run.id), run.job, std::string(name_of(run.state)), shown(run.due),
               shown(run.started), run.started && run.ended ? format_duration(*run.ended - *run.started) : "",
               run.state == RunState::kRunning ? progress : run.why});
  if (table.empty())
    context.console().note("there are no jobs");
  else
    context.console().print(table.text());
  return 0;
}

}  // namespace kuramori
