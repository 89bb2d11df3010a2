// When things run, against what is promised: RPO, proof, exercises.
//
// The most that may be lost is the time between the beginnings of two runs, and until the later one is done:
// up to then only the earlier one is there. So windows count: `start_window` is how late a run may begin, and
// `completion_window` how long it may take. WAL shortens it to what may not have arrived yet.
#include <algorithm>

#include "base/time_text.h"
#include "policy/lint_rules.h"
#include "policy/longest_gap.h"

namespace kuramori {
namespace {

using std::chrono::seconds;

constexpr Duration kStreamFlushMax = seconds(10);  // of a stream that says nothing
constexpr Duration kSettlingMax = seconds(10);     // of what is captured when it changes

Duration length_of(const std::optional<Period>& window) {
  return window && window->is_exact() ? Duration(seconds(window->seconds)) : Duration(0);
}

// What one plan makes of one resource at worst.
struct WorstCase {
  const PlanConfig* plan = nullptr;
  std::optional<Duration> loss;       // nullopt: nothing bounds it
  std::optional<Duration> snapshots;  // the same without WAL: what a copy elsewhere has
  std::string why;
};

std::string in_zone(Time time, const PlanConfig& plan) {
  return format_local(time, plan.timezone.empty() ? "UTC" : plan.timezone);
}

void add_windows(const PlanConfig& plan, WorstCase& worst) {
  const Duration begins = length_of(plan.start_window), takes = length_of(plan.completion_window);
  *worst.snapshots += begins + takes;
  if (begins.count() > 0)
    worst.why += fmt::format(", {} until one begins (start_window)", format_duration(begins));
  if (takes.count() > 0)
    worst.why += fmt::format(", {} until it must be done (completion_window)", format_duration(takes));
}

WorstCase worst_of(const PlanConfig& plan, const ResourceConfig& resource, Time now) {
  WorstCase worst{.plan = &plan};
  if (plan.every_change) {
    if (!tells_of_changes(resource)) return worst;
    worst.snapshots = kSettlingMax;
    worst.why = fmt::format("{} until a change has settled", format_duration(kSettlingMax));
    add_windows(plan, worst);
  } else if (const auto gap = longest_gap(runs_of(plan, resource), now)) {
    worst.snapshots = gap->length();
    worst.why = fmt::format("{} between the runs of {} and {}", format_duration(gap->length()),
                            in_zone(gap->from, plan), in_zone(gap->to, plan));
    add_windows(plan, worst);
  }
  worst.loss = worst.snapshots;
  if (resource.kind != ResourceKind::kPostgres || !worst.snapshots) return worst;
  if (plan.wal == WalMode::kStream) {
    worst.loss = plan.flush ? length_of(plan.flush) : kStreamFlushMax;
    worst.why = fmt::format("WAL is streamed and flushed every {}", format_duration(*worst.loss));
  } else if (plan.wal == WalMode::kArchive && plan.flush) {
    worst.loss = length_of(plan.flush);
    worst.why = fmt::format("WAL is archived every {} (flush)", format_duration(*worst.loss));
  }
  return worst;
}

// The plan that bounds the loss of a resource best.
WorstCase best_of(const Config& config, const ResourceConfig& resource, Time now) {
  WorstCase best;
  for (const PlanConfig* plan : config.plans_of(resource.name)) {
    WorstCase one = worst_of(*plan, resource, now);
    if (one.loss && (!best.loss || *one.loss < *best.loss)) best = std::move(one);
  }
  return best;
}

std::string how_to_meet(const ResourceConfig& resource, const WorstCase& worst) {
  if (resource.kind == ResourceKind::kPostgres && worst.plan && worst.plan->wal == WalMode::kNone)
    return fmt::format("add wal: stream and window: 14d to plan \"{}\"", worst.plan->name);
  const Duration rpo = length_of(resource.rpo);
  if (!worst.plan)
    return fmt::format("add schedule: or every: {} to a plan of \"{}\"", format_period(*resource.rpo),
                       resource.name);
  const Duration windows = length_of(worst.plan->start_window) + length_of(worst.plan->completion_window);
  if (windows >= rpo && rpo.count() > 0) {
    const bool runs_too_rarely = *worst.loss - windows >= rpo;
    return fmt::format(
        "shorten start_window and completion_window of plan \"{}\", together {}{}", worst.plan->name,
        format_duration(windows),
        runs_too_rarely ? fmt::format(", and run it more often than every {}", format_period(*resource.rpo))
                        : "");
  }
  if (rpo.count() > 0)
    return fmt::format("run plan \"{}\" at least every {}, or promise less: rpo: {}", worst.plan->name,
                       format_duration(rpo - windows), format_duration(*worst.loss));
  return "run it more often";
}

void lint_rpo(Lint& lint, const ResourceConfig& resource, LintPromise& promise) {
  const WorstCase worst = best_of(lint.config, resource, lint.facts.now);
  promise.worst = worst.loss;
  if (worst.plan) promise.plan = worst.plan->name;
  if (!resource.rpo || lint.config.plans_of(resource.name).empty()) return;
  const std::string who = about("resource", resource.name);
  const std::string promised = format_period(*resource.rpo);
  const int line = worst.plan ? worst.plan->lines.of(worst.plan->every ? "every" : "schedule")
                              : resource.lines.of("objectives");
  if (!worst.loss) {
    lint.add(LintLevel::kError, "rpo", line, who,
             fmt::format("rpo: {} is promised, and nothing bounds what can be lost", promised),
             "no plan that has it ever runs by itself", how_to_meet(resource, worst));
  } else if (is_longer(*worst.loss, *resource.rpo)) {
    lint.add(
        LintLevel::kError, "rpo", line, who,
        fmt::format("rpo: {} is promised, and up to {} can be lost", promised, format_duration(*worst.loss)),
        fmt::format("plan \"{}\": {}", worst.plan->name, worst.why), how_to_meet(resource, worst));
  }
  for (const PlanConfig* plan : lint.config.plans_of(resource.name))
    if (plan->wal == WalMode::kArchive && !plan->flush && resource.kind == ResourceKind::kPostgres)
      lint.add(LintLevel::kRisk, "archive-unbounded", plan->lines.of("wal"), about("plan", plan->name),
               "wal: archive does not say how long a segment may stay open",
               "a quiet database closes one after hours; until then it is in no archive",
               "set archive_timeout = 300 at the server and flush: 5m in the plan");
}

// What is lost with the site of the original: a copy has only what was copied.
void lint_rpo_of_copies(Lint& lint, const ResourceConfig& resource) {
  if (!resource.rpo) return;
  const std::string home = site_of(lint.config, resource);
  std::optional<Duration> best;
  const Kept* bounding = nullptr;
  const std::vector<Kept> places = kept_places(lint.config, resource);
  for (const Kept& place : places) {
    if (site_of(*place.vault) == home) continue;
    const WorstCase worst = worst_of(*place.plan, resource, lint.facts.now);
    // WAL goes straight to a plan's own vault; to a copy with each copy.
    auto loss = place.copy ? worst.snapshots : worst.loss;
    if (!loss) continue;
    if (place.copy) *loss += length_of(place.copy->within);
    if (!best || *loss < *best) best = loss, bounding = &place;
  }
  if (!best || !is_longer(*best, *resource.rpo)) return;
  const int line = bounding->copy ? bounding->copy->lines.own : bounding->plan->lines.own;
  lint.add(LintLevel::kRisk, "rpo-of-copies", line, about("resource", resource.name),
           fmt::format("rpo: {} does not hold when site \"{}\" is lost: up to {} would be missing",
                       format_period(*resource.rpo), home, format_duration(*best)),
           fmt::format("vault \"{}\" gets what plan \"{}\" made, after it was made", bounding->vault->name,
                       bounding->plan->name),
           fmt::format("run plan \"{}\" more often, or `kuramori copy --to {}` between its runs",
                       bounding->plan->name, bounding->vault->name));
}

void lint_plan_runs(Lint& lint, const PlanConfig& plan) {
  const std::string who = about("plan", plan.name);
  const bool by_itself = plan.every || plan.every_change || plan.schedule.dialect != Schedule::Dialect::kNone;
  if (!by_itself && !plan.manual)
    lint.add(LintLevel::kRisk, "never-runs", plan.lines.own, who, "it never runs by itself",
             "it has neither schedule nor every",
             "add schedule: \"0 3 * * *\", or schedule: manual if that is meant");
  if (by_itself && !plan.every_change && !next_run(plan, lint.facts.now))
    lint.add(LintLevel::kError, "never-runs", plan.lines.of("schedule"), who,
             fmt::format("schedule \"{}\" never comes", plan.schedule.text), "no such day is left",
             "correct the day, the month or the year");
  for (const std::string& name : plan.resources) {
    const auto resource = lint.config.resource(name);
    if (!resource) continue;
    if (plan.every_change && !tells_of_changes(**resource))
      lint.add(LintLevel::kError, "every-change", plan.lines.of("every"), who,
               fmt::format("every: change never runs for \"{}\"", name),
               fmt::format("a resource of kind {} does not tell when it changes", name_of((*resource)->kind)),
               "write every: 1h");
    if (plan.wal != WalMode::kNone && (*resource)->kind != ResourceKind::kPostgres)
      lint.add(LintLevel::kHint, "wal-of-no-server", plan.lines.of("wal"), who,
               fmt::format("wal: means nothing for \"{}\"", name),
               fmt::format("it is of kind {}", name_of((*resource)->kind)), "give it a plan of its own");
    if (auto supported = check_supported(**resource); !supported)
      lint.add(LintLevel::kError, "unsupported", (*resource)->lines.of("kind"), about("resource", name),
               fmt::format("kind {} cannot be protected by this version", name_of((*resource)->kind)),
               supported.error().why,
               "protect what is in it by another kind (dump, files, bucket) until then");
  }
  const bool at_an_hour = plan.schedule.dialect == Schedule::Dialect::kCron && !plan.schedule.text.empty() &&
                          plan.schedule.text.find("* * * *") == std::string::npos;
  if (at_an_hour && plan.timezone.empty())
    lint.add(LintLevel::kHint, "zone-unsaid", plan.lines.of("schedule"), who,
             fmt::format("schedule \"{}\" is taken in UTC", plan.schedule.text), "the plan names no timezone",
             "add timezone: Asia/Tokyo, or UTC");
}

// --- proof ---------------------------------------------------------------------------------------------

std::optional<Gap> longest_between_drills(const PlanConfig& plan, Time now) {
  if (!plan.drill || plan.drill->schedule.dialect == Schedule::Dialect::kNone) return {};
  return longest_gap([&](Time after) { return next_run(plan.drill->schedule, plan.timezone, after); }, now);
}

void lint_drill(Lint& lint, const PlanConfig& plan) {
  const std::string who = about("plan", plan.name);
  if (!plan.drill) {
    lint.add(LintLevel::kRisk, "unproven", plan.lines.own, who, "nothing proves that it can be restored",
             "it has no drill: a backup counts when it has been restored",
             "add drill: { schedule: \"0 5 1 * *\", vault: alternate }");
    return;
  }
  const DrillConfig& drill = *plan.drill;
  if (drill.schedule.dialect == Schedule::Dialect::kNone)
    lint.add(LintLevel::kRisk, "drill-never-runs", drill.lines.own, who, "its drill never runs by itself",
             "the drill has no schedule", "add schedule: \"0 5 1 * *\" to drill");
  const bool named = !drill.vault.empty() && drill.vault != "alternate";
  const bool there =
      drill.vault == plan.vault ||
      std::ranges::any_of(plan.copies, [&](const CopyConfig& copy) { return copy.to == drill.vault; });
  if (named && !there)
    lint.add(LintLevel::kError, "drill-elsewhere", drill.lines.of("vault"), who,
             fmt::format("its drill restores from vault \"{}\", where it puts nothing", drill.vault),
             fmt::format("its snapshots go to \"{}\"", plan.vault),
             fmt::format("write vault: alternate, or add a copy to \"{}\"", drill.vault));
  if (!named && drill.vault.empty() && !plan.copies.empty())
    lint.add(LintLevel::kHint, "copies-unproven", drill.lines.own, who,
             "its drill restores from its own vault alone", "its copies are never proven",
             "write vault: alternate in drill");
}

void lint_proof_demanded(Lint& lint, const ComplianceConfig& demands, const ResourceConfig& resource) {
  std::optional<Gap> best;
  for (const PlanConfig* plan : lint.config.plans_of(resource.name)) {
    const auto gap = longest_between_drills(*plan, lint.facts.now);
    if (gap && (!best || gap->length() < best->length())) best = gap;
  }
  // A quarter is never longer than 92 days, but `3mo` from a certain day may be shorter: whole days of grace.
  if (best && !is_longer(best->length() - std::chrono::days(3), *demands.proof)) return;
  lint.add(LintLevel::kError, "proof", demands.lines.of("proof"), about("compliance rule", demands.name),
           fmt::format("\"{}\" must be proven every {}, and {}", resource.name, format_period(*demands.proof),
                       best ? fmt::format("its drills are up to {} apart", format_duration(best->length()))
                            : "no drill of it is scheduled"),
           "", "add drill: { schedule: \"0 5 1 * *\", vault: alternate } to its plan");
}

void lint_exercise_demanded(Lint& lint, const ComplianceConfig& demands) {
  std::optional<Gap> best;
  for (const ExerciseConfig& exercise : lint.config.exercises) {
    const auto gap = longest_gap(
        [&](Time after) { return next_run(exercise.schedule, exercise.timezone, after); }, lint.facts.now);
    if (gap && (!best || gap->length() < best->length())) best = gap;
  }
  // A yearly exercise is 366 days apart in one year of four.
  if (best && !is_longer(best->length() - std::chrono::days(3), *demands.exercise)) return;
  lint.add(LintLevel::kError, "exercise", demands.lines.of("exercise"),
           about("compliance rule", demands.name),
           fmt::format("the recovery must be rehearsed every {}, and {}", format_period(*demands.exercise),
                       best ? fmt::format("exercises are up to {} apart", format_duration(best->length()))
                            : "no exercise is scheduled"),
           "", "add exercises: { yearly: { schedule: \"0 10 1 9 *\", owner: … } }");
}

}  // namespace

void lint_runs(Lint& lint) {
  for (size_t i = 0; i < lint.config.resources.size(); ++i) {
    lint_rpo(lint, lint.config.resources[i], lint.report.promises[i]);
    lint_rpo_of_copies(lint, lint.config.resources[i]);
  }
  for (const PlanConfig& plan : lint.config.plans) {
    lint_plan_runs(lint, plan);
    lint_drill(lint, plan);
  }
  for (const ComplianceConfig& demands : lint.config.compliance) {
    if (demands.proof)
      for (const ResourceConfig* resource : concerned(lint.config, demands.resources))
        lint_proof_demanded(lint, demands, *resource);
    if (demands.exercise) lint_exercise_demanded(lint, demands);
  }
}

}  // namespace kuramori
