#include "daemon/metrics.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "base/units.h"

namespace kuramori {
namespace {

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

double seconds_of(Time time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}
double between(Time from, Time to) {
  return std::max(0.0, std::chrono::duration<double>(to - from).count());
}

// A family is written when it has a sample: what nobody knows is absent, never zero.
class Exposition {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    head_ = fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void sample(const Labels& labels, double value, std::string_view suffix = {}) {
    text_ += std::exchange(head_, {});
    text_ += name_;
    text_ += suffix;
    if (!labels.empty()) {
      char before = '{';
      for (const auto& [name, content] : labels) {
        text_ += before;
        text_ += name;
        text_ += "=\"";
        escape(content);
        text_ += '"';
        before = ',';
      }
      text_ += '}';
    }
    text_ += value == std::floor(value) && std::abs(value) < 1e15
                 ? fmt::format(" {}\n", static_cast<int64_t>(value))
                 : fmt::format(" {:.17g}\n", value);
  }
  void sample(const Labels& labels, const std::optional<Time>& time) {
    if (time) sample(labels, seconds_of(*time));
  }
  std::string take() { return std::move(text_); }

 private:
  void escape(std::string_view text) {
    for (char c : text) {
      if (c == '\\' || c == '"') text_ += '\\';
      if (c == '\n')
        text_ += "\\n";
      else
        text_ += c;
    }
  }
  std::string text_, head_;
  std::string_view name_;
};

// Months have no fixed length: as long as they are from now on.
std::optional<double> promised(const std::string& text, Time now) {
  const auto period = text.empty() ? Result<Period>(Error{}) : parse_period(text);
  if (!period || period->endless) return std::nullopt;
  return between(now, later(now, *period));
}

void write_resources(Exposition& out, const ShownStatus& status, Time now) {
  using Resource = ShownStatus::Resource;
  const auto each = [&](std::string_view name, std::string_view help, auto&& value) {
    out.family(name, "gauge", help);
    for (const Resource& one : status.resources) {
      const std::optional<double> number = value(one);
      if (number) out.sample({{"resource", one.name}}, *number);
    }
  };
  const auto moment = [&](std::string_view name, std::string_view help, auto&& time) {
    each(name, help, [&](const Resource& one) -> std::optional<double> {
      const std::optional<Time> when = time(one);
      if (!when) return std::nullopt;
      return seconds_of(*when);
    });
  };
  using Number = std::optional<double>;

  out.family("kuramori_resource_info", "gauge", "What is protected; the value is always 1.");
  for (const Resource& one : status.resources)
    out.sample(
        {{"resource", one.name}, {"kind", one.kind}, {"owner", one.owner}, {"criticality", one.criticality}},
        1);
  each("kuramori_resource_protected", "Whether every promise made for the resource holds.",
       [](const Resource& one) -> Number { return one.state == "protected"; });
  each("kuramori_resource_restorable", "Whether anything of the resource can be restored at all.",
       [](const Resource& one) -> Number { return one.restorable_to.has_value(); });
  each("kuramori_resource_broken_promises", "How many promises made for the resource do not hold.",
       [](const Resource& one) -> Number { return static_cast<double>(one.broken.size()); });
  each("kuramori_resource_rpo_promised_seconds", "How much may be lost at most, as the configuration says.",
       [&](const Resource& one) { return promised(one.rpo, now); });
  each("kuramori_resource_rpo_achieved_seconds", "How much would be lost if the original were gone now.",
       [&](const Resource& one) -> Number {
         if (!one.restorable_to) return std::nullopt;
         return between(*one.restorable_to, now);
       });
  each("kuramori_resource_rto_promised_seconds", "How long a recovery may take, as the configuration says.",
       [&](const Resource& one) { return promised(one.rto, now); });
  each("kuramori_resource_rto_measured_seconds",
       "How long the last proof that passed took until the restored copy opened.",
       [](const Resource& one) { return one.rto_seconds; });
  moment("kuramori_resource_restorable_to_timestamp_seconds",
         "Up to which moment the resource can be restored.",
         [](const Resource& one) { return one.restorable_to; });
  moment("kuramori_resource_next_run_timestamp_seconds", "When the next snapshot of the resource is due.",
         [](const Resource& one) { return one.next_run; });
  moment("kuramori_resource_last_proof_timestamp_seconds", "When the resource was last restored and checked.",
         [](const Resource& one) { return one.proof ? std::optional(one.proof->at) : std::nullopt; });
  moment("kuramori_resource_last_passed_proof_timestamp_seconds",
         "When the resource was last restored and every check passed.",
         [](const Resource& one) { return one.passed ? std::optional(one.passed->at) : std::nullopt; });
  each("kuramori_resource_last_proof_passed", "Whether the last proof of the resource passed.",
       [](const Resource& one) -> Number {
         if (!one.proof) return std::nullopt;
         return one.proof->passed;
       });
  moment("kuramori_resource_proof_due_timestamp_seconds",
         "When the next proof of the resource is due, counted from the last.",
         [](const Resource& one) { return one.proof_due; });
}

void write_places(Exposition& out, const ShownStatus& status, Time now) {
  using Place = ShownStatus::Place;
  const auto each = [&](std::string_view name, std::string_view help, auto&& value) {
    out.family(name, "gauge", help);
    for (const ShownStatus::Resource& one : status.resources)
      for (const Place& place : one.places) {
        if (!place.trouble.empty()) continue;  // what it holds is not known
        const std::optional<double> number = value(one, place);
        if (number) out.sample({{"resource", one.name}, {"vault", place.vault}}, *number);
      }
  };
  using Resource = ShownStatus::Resource;
  using Number = std::optional<double>;
  each("kuramori_resource_snapshots", "How many snapshots of the resource the vault holds.",
       [](const Resource&, const Place& place) -> Number { return static_cast<double>(place.snapshots); });
  each("kuramori_resource_stored_bytes",
       "What the snapshots of the resource that stand in the vault added to it, without WAL.",
       [](const Resource&, const Place& place) -> Number { return static_cast<double>(place.added_bytes); });
  each("kuramori_resource_last_snapshot_timestamp_seconds",
       "When the newest snapshot of the resource in the vault was finished.",
       [](const Resource&, const Place& place) -> Number {
         if (!place.newest) return std::nullopt;
         return seconds_of(*place.newest);
       });
  each("kuramori_resource_copy_lag_seconds",
       "For how long the vault has lacked a newer snapshot that the plan's own vault holds; 0 when it lacks "
       "none.",
       [&](const Resource&, const Place& place) -> Number {
         return place.behind_since ? between(*place.behind_since, now) : 0.0;
       });
  each("kuramori_resource_wal_lag_seconds",
       "How long ago the newest WAL of the resource arrived in the vault.",
       [&](const Resource&, const Place& place) -> Number {
         if (!place.newest_wal) return std::nullopt;
         return between(*place.newest_wal, now);
       });
  each("kuramori_resource_wal_gaps",
       "Holes in the WAL that follows the oldest snapshot of the resource in the vault.",
       [](const Resource&, const Place& place) -> Number {
         if (!place.newest_wal) return std::nullopt;
         return static_cast<double>(place.wal_gaps);
       });

  struct Sum {
    bool is_there = true;
    uint64_t snapshots = 0, bytes = 0;
  };
  std::map<std::string, Sum> vaults;
  for (const ShownStatus::Resource& one : status.resources)
    for (const Place& place : one.places) {
      Sum& sum = vaults[place.vault];
      sum.is_there &= place.trouble.empty();
      sum.snapshots += place.snapshots;
      sum.bytes += place.added_bytes;
    }
  out.family("kuramori_vault_reachable", "gauge", "Whether the vault could be looked at.");
  for (const auto& [name, vault] : vaults) out.sample({{"vault", name}}, vault.is_there);
  out.family("kuramori_vault_snapshots", "gauge", "How many snapshots the vault holds.");
  for (const auto& [name, vault] : vaults)
    if (vault.is_there) out.sample({{"vault", name}}, static_cast<double>(vault.snapshots));
  out.family("kuramori_vault_stored_bytes", "gauge",
             "What the snapshots that stand in the vault added to it, without WAL.");
  for (const auto& [name, vault] : vaults)
    if (vault.is_there) out.sample({{"vault", name}}, static_cast<double>(vault.bytes));
}

void write_runs(Exposition& out, const RunTally& runs, Time now) {
  std::map<std::string_view, uint64_t> open{
      {name_of(RunState::kCreated), 0}, {name_of(RunState::kPending), 0}, {name_of(RunState::kRunning), 0}};
  double late = 0;
  for (const Run& run : runs.open()) {
    ++open[name_of(run.state)];
    if (run.state == RunState::kPending && run.attempt == 0) late = std::max(late, between(run.due, now));
  }
  out.family("kuramori_jobs", "gauge",
             "Runs that are not over: RUNNING, PENDING (wait for room), CREATED (wait for another try).");
  for (const auto& [state, count] : open) out.sample({{"state", state}}, static_cast<double>(count));
  out.family("kuramori_scheduler_lateness_seconds", "gauge",
             "How long the run that has waited longest for its first start has been due; 0 when none waits.");
  out.sample({}, late);

  out.family("kuramori_job_runs_total", "counter", "Runs that are over, by job and by how they ended.");
  for (const auto& [id, job] : runs.jobs())
    for (const auto& [state, count] : job.ended)
      out.sample({{"job_id", id}, {"state", name_of(state)}}, static_cast<double>(count));
  const auto each = [&](std::string_view name, std::string_view help, auto&& value) {
    out.family(name, "gauge", help);
    for (const auto& [id, job] : runs.jobs()) {
      const std::optional<double> number = value(job);
      if (number) out.sample({{"job_id", id}}, *number);
    }
  };
  using Number = std::optional<double>;
  each("kuramori_job_last_success_timestamp_seconds", "When a run of the job last succeeded.",
       [](const JobTally& job) -> Number {
         if (!job.last_success) return std::nullopt;
         return seconds_of(*job.last_success);
       });
  each("kuramori_job_last_end_timestamp_seconds", "When a run of the job last ended, however it did.",
       [](const JobTally& job) -> Number {
         if (!job.last || !job.last->ended) return std::nullopt;
         return seconds_of(*job.last->ended);
       });
  each("kuramori_job_last_failed",
       "Whether the last run of the job that is over ended otherwise than COMPLETED.",
       [](const JobTally& job) -> Number {
         if (!job.last || job.last->state == RunState::kCancelled) return std::nullopt;
         return job.last->state != RunState::kCompleted;
       });
  each("kuramori_job_last_duration_seconds", "How long the last run of the job that is over took.",
       [](const JobTally& job) -> Number {
         if (!job.last || !job.last->started || !job.last->ended) return std::nullopt;
         return between(*job.last->started, *job.last->ended);
       });

  out.family("kuramori_job_duration_seconds", "histogram", "How long runs took, by what they do.");
  for (const auto& [kind, tally] : runs.kinds()) {
    for (size_t i = 0; i < kDurationBounds.size(); ++i) {
      const std::string bound = fmt::format("{}", kDurationBounds[i]);
      out.sample({{"kind", kind}, {"le", bound}}, static_cast<double>(tally.within[i]), "_bucket");
    }
    out.sample({{"kind", kind}, {"le", "+Inf"}}, static_cast<double>(tally.count), "_bucket");
    out.sample({{"kind", kind}}, tally.seconds, "_sum");
    out.sample({{"kind", kind}}, static_cast<double>(tally.count), "_count");
  }
}

void write_pings(Exposition& out, const std::vector<ShownStatus::Ping>& pings) {
  using Ping = ShownStatus::Ping;
  const auto each = [&](std::string_view name, std::string_view help, auto&& value) {
    out.family(name, "gauge", help);
    for (const Ping& one : pings)
      if (const std::optional<double> number = value(one)) out.sample({{"ping", one.name}}, *number);
  };
  using Number = std::optional<double>;
  each("kuramori_ping_late", "Whether a script that calls when it is done has not done so in time.",
       [](const Ping& one) -> Number { return one.late; });
  each("kuramori_ping_failed", "Whether the last thing that the script said is that it failed.",
       [](const Ping& one) -> Number { return one.state == "failed"; });
  each("kuramori_ping_last_done_timestamp_seconds", "When the script last said that it is done.",
       [](const Ping& one) -> Number {
         if (!one.done) return std::nullopt;
         return seconds_of(*one.done);
       });
}

// By what is wrong and how critical: both are words of ours, so there are never many (P70).
void write_alerts(Exposition& out, const ShownAlerts& alerts) {
  std::map<std::pair<std::string, std::string>, uint64_t> open;
  uint64_t unacknowledged = 0;
  for (const ShownAlerts::Alert& alert : alerts.alerts) {
    ++open[{alert.event, alert.criticality}];
    unacknowledged += alert.acknowledged_by.empty();
  }
  out.family("kuramori_alerts_open", "gauge",
             "Alerts that are not over, by what is wrong and how critical it is.");
  for (const auto& [labels, count] : open)
    out.sample({{"event", labels.first}, {"criticality", labels.second}}, static_cast<double>(count));
  out.family("kuramori_alerts_unacknowledged", "gauge",
             "Alerts that are not over and that nobody has acknowledged.");
  out.sample({}, static_cast<double>(unacknowledged));
  out.family("kuramori_notify_undelivered", "gauge", "How many entries of notify cannot be told.");
  out.sample({}, static_cast<double>(alerts.undelivered.size()));
}

}  // namespace

std::string metrics_text(const MetricFacts& facts) {
  Exposition out;
  out.family("kuramori_build_info", "gauge", "The program; the value is always 1.");
  out.sample({{"version", facts.version}}, 1);
  out.family("kuramori_start_timestamp_seconds", "gauge", "When the daemon began.");
  out.sample({}, std::optional(facts.started));
  if (facts.heartbeat_seconds) {
    out.family("kuramori_scheduler_heartbeat_age_seconds", "gauge",
               "How long ago the loop that runs the jobs last went round.");
    out.sample({}, *facts.heartbeat_seconds);
  }
  out.family("kuramori_stream_running", "gauge", "Whether a stream that a plan asks for runs.");
  for (const auto& [name, runs] : facts.streams) out.sample({{"stream", name}}, runs);
  if (facts.status) {
    out.family("kuramori_status_timestamp_seconds", "gauge",
               "When the vaults were last looked at: what is said of resources is of then.");
    out.sample({}, std::optional(facts.status->at));
    write_resources(out, *facts.status, facts.now);
    write_places(out, *facts.status, facts.now);
    write_pings(out, facts.status->pings);
  }
  if (facts.alerts) write_alerts(out, *facts.alerts);
  if (facts.runs != nullptr) write_runs(out, *facts.runs, facts.now);
  return out.take();
}

}  // namespace kuramori
