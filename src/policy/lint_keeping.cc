// How long things are kept, against what is promised, demanded, locked and paid for.
#include <algorithm>

#include "base/time_text.h"
#include "policy/lint_rules.h"
#include "policy/longest_gap.h"

namespace kuramori {
namespace {

using std::chrono::days;
using std::chrono::hours;

struct Calendar {
  std::string_view name;
  std::optional<Period> KeepRules::* rule;
  Duration one;  // the shortest
};
const Calendar kCalendars[] = {
    {"hourly", &KeepRules::hourly, hours(1)},  {"daily", &KeepRules::daily, days(1)},
    {"weekly", &KeepRules::weekly, days(7)},   {"monthly", &KeepRules::monthly, days(28)},
    {"yearly", &KeepRules::yearly, days(365)},
};

// What stores ask to be paid for however soon it is deleted.
struct PaidFor {
  std::string_view storage_class;
  int64_t days;
};
constexpr PaidFor kPaidFor[] = {
    {"STANDARD_IA", 30}, {"ONEZONE_IA", 30}, {"GLACIER_IR", 90}, {"GLACIER", 90}, {"DEEP_ARCHIVE", 180}};

constexpr double kFullWarning = 0.8;  // of a quota

Period of_days(int64_t count) {
  return Period::of_seconds(count * 86'400);
}

// How long something of every month is kept; nullopt: for ever. Yearly ones alone are not of every month.
std::optional<Period> kept_monthly(const KeepRules& keep) {
  if (keep.empty()) return {};
  Period longest;
  for (const auto& rule : {keep.all, keep.hourly, keep.daily, keep.weekly, keep.monthly})
    if (rule && is_longer(*rule, longest)) longest = *rule;
  if (longest.endless) return {};
  return longest;
}

// The longest of all rules; nullopt: for ever.
std::optional<Period> kept_at_all(const KeepRules& keep) {
  const auto monthly = kept_monthly(keep);
  if (!monthly || !keep.yearly) return monthly;
  if (keep.yearly->endless) return {};
  return is_longer(*keep.yearly, *monthly) ? keep.yearly : monthly;
}

std::optional<Gap> gap_of(const PlanConfig& plan, Time now) {
  if (plan.every_change || plan.manual) return {};
  return longest_gap([&](Time after) { return next_run(plan, after); }, now);
}

// A rule that asks for more than the plan makes: it promises points in time that nobody ever takes (S34).
void lint_calendar(Lint& lint, const PlanConfig& plan, const std::optional<Gap>& gap) {
  if (!gap) return;
  for (const Calendar& one : kCalendars) {
    // A plan that runs once a day has runs 25 hours apart where clocks change.
    if (!(plan.keep.*one.rule) || gap->length() <= one.one * 2) continue;
    lint.add(LintLevel::kError, "keep-finer-than-schedule", plan.lines.of("keep"), about("plan", plan.name),
             fmt::format("keep {}: {} promises what is never made", one.name,
                         format_period(*(plan.keep.*one.rule))),
             fmt::format("its runs are up to {} apart: no {} snapshot exists", format_duration(gap->length()),
                         one.name),
             fmt::format("run it more often, or take {} out of keep", one.name));
  }
}

void lint_window(Lint& lint, const PlanConfig& plan) {
  if (!plan.window) return;
  const bool has_server = std::ranges::any_of(plan.resources, [&](const std::string& name) {
    const auto resource = lint.config.resource(name);
    return resource && (*resource)->kind == ResourceKind::kPostgres;
  });
  if (has_server && plan.wal != WalMode::kNone) return;
  lint.add(LintLevel::kError, "window-without-wal", plan.lines.of("window"), about("plan", plan.name),
           fmt::format("window: {} promises any second, and only the moments of snapshots can be restored",
                       format_period(*plan.window)),
           has_server ? "the plan keeps no WAL" : "nothing in it has a WAL",
           has_server ? "add wal: stream" : "take window out");
}

// The base of the window stays, so the promise holds; but nothing ever takes its place.
void lint_ageing_base(Lint& lint, const PlanConfig& plan, const std::string& vault, const KeepRules& keep,
                      const std::optional<Period>& window, const KeyLines& lines) {
  if (!window || keep.empty()) return;
  const auto longest = kept_at_all(keep);
  if (!longest || !is_longer(*window, *longest)) return;
  lint.add(LintLevel::kRisk, "window-longer-than-keep", lines.of("window"), about("plan", plan.name),
           fmt::format("window: {} in vault \"{}\" is longer than anything is kept there{}",
                       format_period(*window), vault,
                       longest->is_zero() ? "" : " (" + format_period(*longest) + ")"),
           "the base of the window has no successor: it grows older for ever, all WAL since it stays, and a "
           "restore replays it",
           fmt::format("add daily: {} to keep", format_period(*window)));
}

void lint_plan(Lint& lint, const PlanConfig& plan) {
  const auto gap = gap_of(plan, lint.facts.now);
  lint_calendar(lint, plan, gap);
  lint_window(lint, plan);
  lint_ageing_base(lint, plan, plan.vault, plan.keep, plan.window, plan.lines);
  for (const CopyConfig& copy : plan.copies)
    lint_ageing_base(lint, plan, copy.to, copy.keep, copy.window, copy.lines);
  const auto longest = kept_at_all(plan.keep);
  const bool counts = plan.keep.last > 0;
  if (gap && longest && !counts && is_longer(gap->length(), *longest))
    lint.add(LintLevel::kRisk, "keep-shorter-than-schedule", plan.lines.of("keep"), about("plan", plan.name),
             fmt::format("keep: {} ends before the next snapshot is made", format_period(*longest)),
             fmt::format("its runs are up to {} apart: one bad snapshot is all there is",
                         format_duration(gap->length())),
             "keep it longer, or add last: 3");
}

// --- demands -------------------------------------------------------------------------------------------

void lint_keep_demanded(Lint& lint, const ComplianceConfig& demands, const ResourceConfig& resource) {
  const Kept* best = nullptr;
  const std::vector<Kept> places = kept_places(lint.config, resource);
  for (const Kept& place : places) {
    const auto kept = kept_monthly(*place.keep);
    if (!kept || !is_longer(*demands.keep, *kept)) return;
    if (!best || is_longer(*kept, *kept_monthly(*best->keep))) best = &place;
  }
  lint.add(
      LintLevel::kError, "keep", best ? best->plan->lines.of("keep") : demands.lines.of("keep"),
      about("compliance rule", demands.name),
      fmt::format("\"{}\" must be there for {}, and {}", resource.name, format_period(*demands.keep),
                  best ? fmt::format("nothing of it is kept longer than {}",
                                     format_period(*kept_monthly(*best->keep)))
                       : "no plan has it"),
      best ? fmt::format("plan \"{}\" keeps the most, in vault \"{}\"", best->plan->name, best->vault->name)
           : "",
      fmt::format("add monthly: {} to keep, or a copy with keep: {{ monthly: {} }} to a cheap vault",
                  format_period(*demands.keep), format_period(*demands.keep)));
}

void lint_lock_demanded(Lint& lint, const ComplianceConfig& demands, const ResourceConfig& resource) {
  const Kept* governed = nullptr;
  const std::vector<Kept> places = kept_places(lint.config, resource);
  for (const Kept& place : places) {
    if (!place.vault->lock) continue;
    // A lock is renewed up to what is kept there by every prune and collection.
    const auto kept = kept_at_all(*place.keep);
    const bool reaches =
        !is_longer(*demands.locked, *place.vault->lock) || !kept || !is_longer(*demands.locked, *kept);
    if (!reaches) continue;
    if (place.vault->lock_mode != "governance") return;
    governed = &place;
  }
  lint.add(
      LintLevel::kError, "locked", demands.lines.of("locked"), about("compliance rule", demands.name),
      fmt::format(
          "nobody may be able to delete \"{}\" for {}, and {}", resource.name, format_period(*demands.locked),
          governed
              ? fmt::format("who has the right to may lift the lock of vault \"{}\"", governed->vault->name)
              : "no vault locks it for so long"),
      governed ? "its lock_mode is governance" : "",
      governed ? "write lock_mode: compliance" : "add lock: 30d to a vault in a bucket with Object Lock");
}

void lint_audit_demanded(Lint& lint, const ComplianceConfig& demands) {
  const AuditConfig* audit = lint.config.audit ? &*lint.config.audit : nullptr;
  const auto check = [&](std::string_view key, const std::optional<Period>& demanded,
                         const std::optional<Period>& kept) {
    if (!demanded || (kept && !is_longer(*demanded, *kept))) return;
    lint.add(LintLevel::kError, "audit", audit ? audit->lines.of(key) : demands.lines.of("audit"),
             about("compliance rule", demands.name),
             fmt::format("the audit log must be there for {} ({}), and {}", format_period(*demanded), key,
                         kept ? fmt::format("is kept for {}", format_period(*kept))
                              : "the configuration does not say how long it is kept"),
             "", "add audit: { online: 90d, archive: 3y }");
  };
  check("online", demands.audit_online, audit ? audit->online : std::nullopt);
  check("archive", demands.audit_archive, audit ? audit->archive : std::nullopt);
}

// What a configuration cannot show is said, so that nobody takes silence for an answer.
void lint_unseen(Lint& lint, const ComplianceConfig& demands) {
  if (demands.escrow)
    lint.add(LintLevel::kHint, "unseen", demands.lines.of("escrow"), about("compliance rule", demands.name),
             "whether the key lies somewhere else too cannot be seen here", "",
             "make a recovery kit: kuramori vault kit NAME --to FILE");
  if (demands.split_roles)
    lint.add(LintLevel::kHint, "unseen", demands.lines.of("split_roles"),
             about("compliance rule", demands.name), "whether who writes can delete cannot be seen here", "",
             "ask the store: kuramori vault policy NAME --role writer");
}

// --- vaults --------------------------------------------------------------------------------------------

// The fewest snapshots that a plan's rules leave of one resource; nullopt: more and more.
std::optional<int64_t> fewest(const KeepRules& keep, const std::optional<Gap>& gap) {
  if (keep.empty()) return {};
  int64_t most = keep.last;
  const auto count = [&](const std::optional<Period>& rule, Duration one) {
    if (!rule) return true;
    if (rule->endless) return false;
    most = std::max<int64_t>(most, (later(Time{}, *rule) - Time{}) / one);
    return true;
  };
  if (gap && !count(keep.all, gap->length())) return {};
  for (const Calendar& one : kCalendars)
    if (!count(keep.*one.rule, one.one * (one.one >= days(28) ? 12 : 10) / 10)) return {};
  if (keep.all && keep.all->endless) return {};
  return most;
}

void lint_quota(Lint& lint, const VaultConfig& vault) {
  if (!vault.snapshots_max) return;
  int64_t sum = 0;
  for (const ResourceConfig& resource : lint.config.resources) {
    for (const Kept& place : kept_places(lint.config, resource)) {
      if (place.vault != &vault) continue;
      const auto count = fewest(*place.keep, gap_of(*place.plan, lint.facts.now));
      if (!count) {
        lint.add(LintLevel::kError, "quota", place.plan->lines.of("keep"), about("plan", place.plan->name),
                 fmt::format("snapshots of \"{}\" are kept for ever, and vault \"{}\" takes {}",
                             resource.name, vault.name, *vault.snapshots_max),
                 fmt::format("after {} of them none can be made", *vault.snapshots_max),
                 "end it: keep: { last: 20 }, or review what is pinned at each release");
        return;
      }
      sum += *count;
    }
  }
  if (sum > static_cast<int64_t>(*vault.snapshots_max * kFullWarning))
    lint.add(sum > *vault.snapshots_max ? LintLevel::kError : LintLevel::kRisk, "quota",
             vault.lines.of("snapshots_max"), about("vault", vault.name),
             fmt::format("its plans keep at least {} snapshots, and it takes {}", sum, *vault.snapshots_max),
             "", "keep less, or raise the quota");
}

void lint_price(Lint& lint, const VaultConfig& vault) {
  const auto paid = std::ranges::find(kPaidFor, vault.storage_class, &PaidFor::storage_class);
  if (paid == std::end(kPaidFor)) return;
  for (const ResourceConfig& resource : lint.config.resources)
    for (const Kept& place : kept_places(lint.config, resource)) {
      const auto kept = kept_at_all(*place.keep);
      if (place.vault != &vault || !kept || !is_longer(of_days(paid->days), *kept)) continue;
      lint.add(LintLevel::kHint, "class-outlasts-keep", vault.lines.of("class"), about("vault", vault.name),
               fmt::format("class: {} is paid for {} days, and plan \"{}\" keeps {}", paid->storage_class,
                           paid->days, place.plan->name, format_period(*kept)),
               "what is deleted sooner costs all the same (S15)", "write class: STANDARD, or keep it longer");
      return;
    }
}

}  // namespace

void lint_keeping(Lint& lint) {
  for (const PlanConfig& plan : lint.config.plans) lint_plan(lint, plan);
  for (const ComplianceConfig& demands : lint.config.compliance) {
    for (const ResourceConfig* resource : concerned(lint.config, demands.resources)) {
      if (demands.keep) lint_keep_demanded(lint, demands, *resource);
      if (demands.locked) lint_lock_demanded(lint, demands, *resource);
    }
    lint_audit_demanded(lint, demands);
    lint_unseen(lint, demands);
  }
  for (const VaultConfig& vault : lint.config.vaults) {
    lint_quota(lint, vault);
    lint_price(lint, vault);
  }
  for (const std::string& remark : lint.config.remarks)
    lint.add(LintLevel::kHint, "lock", 0, "lock", remark, "", "");
}

}  // namespace kuramori
