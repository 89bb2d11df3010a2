#include "policy/change_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "base/time_text.h"
#include "policy/approval_time.h"
#include "policy/promises.h"
#include "policy/simulate.h"

namespace kuramori {
namespace {

constexpr Period kPlayed{.months = 12};  // of a changed `keep`, to say what it comes to
// No rule at all would be for ever.
const KeepRules kNothingKept{.all = Period{.seconds = 0}};

std::string named(std::string_view noun, std::string_view name) {
  return fmt::format("{} \"{}\"", noun, name);
}

template <class Thing>
const Thing* find(const std::vector<Thing>& things, std::string_view name) {
  const auto found = std::ranges::find(things, name, &Thing::name);
  return found == things.end() ? nullptr : &*found;
}

std::string shown(const std::optional<Period>& period, std::string_view none) {
  return period ? format_period(*period) : std::string(none);
}

std::string counted(size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

class Judge {
 public:
  Judge(const Config* before, const Config& after, const std::vector<VaultLook>& looks, Time now)
      : before_(before), after_(after), looks_(looks), now_(now) {}

  ChangePlan take() {
    list_targets();
    for (const VaultLook& look : looks_) judge_vault(look);
    if (before_ != nullptr) {
      for (const VaultConfig& vault : before_->vaults) judge_lock(vault);
      for (const ResourceConfig& resource : before_->resources) judge_resource(resource);
      for (const PlanConfig& plan : after_.plans) judge_keep(plan);
      for (const ResourceConfig& resource : before_->resources) judge_keeping(resource.name);
      if (before_->approvals) judge_approvals(*before_->approvals);
    }
    for (const PlanConfig& plan : after_.plans) list_runs(plan);
    return std::move(out_);
  }

 private:
  void add(std::string id, std::string about, std::string what, bool loses = false) {
    out_.consequences.push_back(
        {.id = std::move(id), .about = std::move(about), .what = std::move(what), .loses = loses});
  }

  void list_targets() {
    for (const ResourceConfig* resource : after_.by_criticality()) {
      PlanTarget target{.resource = resource->name,
                        .kind = std::string(name_of(resource->kind)),
                        .criticality = resource->criticality,
                        .stage = resource->stage,
                        .plans = {},
                        .vaults = vaults_of(after_, resource->name)};
      for (const PlanConfig* plan : after_.plans_of(resource->name)) target.plans.push_back(plan->name);
      if (target.plans.empty() && (before_ == nullptr || before_->plans_of(resource->name).empty()))
        add("unprotected", named("resource", resource->name),
            "no plan has it: it is named, and not protected");
      out_.targets.push_back(std::move(target));
    }
  }

  static std::vector<std::string> vaults_of(const Config& config, std::string_view resource) {
    std::vector<std::string> vaults;
    const auto put = [&](const std::string& vault) {
      if (!vault.empty() && std::ranges::count(vaults, vault) == 0) vaults.push_back(vault);
    };
    const auto plans = config.plans_of(resource);
    for (const PlanConfig* plan : plans) put(plan->vault);
    for (const PlanConfig* plan : plans)
      for (const CopyConfig& copy : plan->copies) put(copy.to);
    return vaults;
  }

  // --- what stands in the vaults ---------------------------------------------------------------------

  void judge_vault(const VaultLook& look) {
    const VaultConfig* vault = find(after_.vaults, look.vault);
    if (vault == nullptr) return;
    const std::string about = named("vault", look.vault);
    if (look.state == VaultLook::State::kMissing)
      return add("made", about, fmt::format("is made at {}", vault->at));
    if (look.state == VaultLook::State::kUnknown)
      return add("unknown", about,
                 fmt::format("cannot be looked at: {}{}{}", look.trouble.what,
                             look.trouble.why.empty() ? "" : ": ", look.trouble.why));
    const Promises now = promises_in(after_, look.vault, now_);
    const Promises was = before_ != nullptr ? promises_in(*before_, look.vault, now_) : now;
    for (const PruneQuestion& held : look.held) judge_held(look, *vault, held, was, now);
  }

  // What prune would let go of one resource, under these promises.
  Result<std::vector<PruneLine>> decide(PruneQuestion question, const Promises& promises) const {
    const auto promise = promises.find(question.resource);
    question.window = promise == promises.end() ? std::nullopt : promise->second.window;
    question.keep_last = promise == promises.end() ? 0 : promise->second.keep_last;
    question.now = now_;
    return decide_prune(question);
  }

  void judge_held(const VaultLook& look, const VaultConfig& vault, const PruneQuestion& held,
                  const Promises& was, const Promises& now) {
    const std::string about = fmt::format("{} in {}", held.resource, look.vault);
    const auto lines = decide(held, now);
    if (!lines) return add("stays", about, fmt::format("nothing goes: {}", lines.error().what));
    std::set<SnapshotId> due;
    if (const auto lines_before = decide(held, was))
      for (const PruneLine& line : *lines_before)
        if (line.drop) due.insert(line.id);
    size_t drops = 0, by_change = 0;
    std::vector<Going> going;
    for (const PruneLine& line : *lines) {
      if (!line.drop) continue;
      ++drops;
      const bool changed = !due.contains(line.id);
      by_change += changed ? 1 : 0;
      going.push_back({look.vault, held.resource, line, changed});
    }
    if (drops == 0) return;
    const auto promise = now.find(held.resource);
    if (promise != now.end()) {
      if (const auto refused =
              over_budget(promise->second.budget, held.resource, drops, held.snapshots.size()))
        return add("budget", about,
                   fmt::format("{}: prune refuses until somebody says --yes", refused->what));
    }
    std::ranges::move(going, std::back_inserter(out_.going));
    const std::string when = next_prune(vault);
    if (by_change > 0)
      add("goes", about,
          fmt::format("{} that would have stayed {} at the next prune{}", counted(by_change, "snapshot"),
                      by_change == 1 ? "goes" : "go", when),
          true);
    if (drops > by_change)
      add("due", about,
          fmt::format("{} {} due whatever this changes, and {} at the next prune{}",
                      counted(drops - by_change, "snapshot"), drops - by_change == 1 ? "is" : "are",
                      drops - by_change == 1 ? "goes" : "go", when));
  }

  std::string next_prune(const VaultConfig& vault) const {
    const auto at = next_run(vault.upkeep.prune, vault.upkeep.timezone, now_);
    return at ? fmt::format(", {}", format_moment(*at, zone_of(vault.upkeep.timezone)))
              : std::string(", when somebody runs it");
  }
  static std::string_view zone_of(const std::string& zone) {
    return zone.empty() ? std::string_view("UTC") : std::string_view(zone);
  }

  // --- what was promised -----------------------------------------------------------------------------

  void judge_lock(const VaultConfig& was) {
    const std::string about = named("vault", was.name);
    const VaultConfig* is = find(after_.vaults, was.name);
    if (is == nullptr)
      return add("forgotten", about,
                 "is named no longer: nothing in it is deleted, and nobody looks after it or copies there",
                 true);
    if (is->at != was.at)
      add("moved", about,
          fmt::format("stands at {} instead of {}: what is there stays there, and is not looked after",
                      is->at, was.at),
          true);
    const Time lock_was = was.lock ? later(now_, *was.lock) : now_;
    const Time lock_is = is->lock ? later(now_, *is->lock) : now_;
    if (lock_is == lock_was) return;
    add("lock", about,
        fmt::format("what is put from now on is locked for {} instead of {}; what is locked stays so",
                    shown(is->lock, "no time"), shown(was.lock, "no time")),
        lock_is < lock_was);
  }

  void judge_resource(const ResourceConfig& was) {
    const std::string about = named("resource", was.name);
    const auto plans_before = before_->plans_of(was.name);
    const auto plans = after_.plans_of(was.name);
    if (plans_before.empty()) return;
    if (plans.empty()) {
      add("unprotected", about,
          fmt::format("is protected no longer: no new snapshots are made{}", until_when(was.name)), true);
      return;
    }
    const ResourceConfig* is = find(after_.resources, was.name);
    if (is != nullptr) {
      judge_objective(about, "rpo", was.rpo, is->rpo);
      judge_objective(about, "rto", was.rto, is->rto);
      if (was.delete_budget) judge_budget(about, *was.delete_budget, is->delete_budget);
    }
    for (const std::string& vault : vaults_of(*before_, was.name)) judge_place(was.name, vault);
    const auto has_drill = [](const PlanConfig* plan) { return plan->drill.has_value(); };
    if (std::ranges::any_of(plans_before, has_drill) && std::ranges::none_of(plans, has_drill))
      add("unproven", about, "is proven by no drill any more", true);
    const auto has_wal = [](const PlanConfig* plan) { return plan->wal != WalMode::kNone; };
    if (std::ranges::any_of(plans_before, has_wal) && std::ranges::none_of(plans, has_wal))
      add("window", about, "its WAL is kept no longer: it comes back as a snapshot has it, and no later",
          true);
  }

  void judge_objective(const std::string& about, std::string_view what, const std::optional<Period>& was,
                       const std::optional<Period>& is) {
    if (!was || (is && later(now_, *is) <= later(now_, *was))) return;
    add("promise", about,
        fmt::format("{} {} is promised no longer: {}", what, format_period(*was),
                    is ? format_period(*is) + " is" : std::string("nothing is")),
        true);
  }

  // Between a share and a number it depends on how many there are: what may be more is told.
  void judge_budget(const std::string& about, const DeleteBudget& was,
                    const std::optional<DeleteBudget>& is) {
    if (is && is->share <= was.share && is->count <= was.count) return;
    add("deletes", about,
        fmt::format("one prune may let go {} of its snapshots without anybody's yes, instead of {}",
                    is ? format_delete_budget(*is) : std::string("all"), format_delete_budget(was)),
        true);
  }

  void judge_place(const std::string& resource, const std::string& vault) {
    const std::string about = fmt::format("{} in {}", resource, vault);
    const auto places = vaults_of(after_, resource);
    if (std::ranges::count(places, vault) == 0) {
      if (find(after_.vaults, vault) != nullptr)
        add("place", about, fmt::format("nothing of it is put there any more{}", until_when(resource, vault)),
            true);
      return;
    }
    const Promises was = promises_in(*before_, vault, now_), is = promises_in(after_, vault, now_);
    const auto promise_was = was.find(resource), promise_is = is.find(resource);
    const auto window_was = promise_was == was.end() ? std::nullopt : promise_was->second.window;
    const auto window_is = promise_is == is.end() ? std::nullopt : promise_is->second.window;
    if (window_was && (!window_is || later(now_, *window_is) < later(now_, *window_was)))
      add("window", about,
          fmt::format("any second of the last {} is promised no longer: {}", format_period(*window_was),
                      window_is ? "of the last " + format_period(*window_is) : std::string("none is")),
          true);
  }

  // " ; what is there goes when it is due, the last on …"
  std::string until_when(std::string_view resource, std::string_view vault = {}) const {
    std::optional<Time> last;
    size_t count = 0;
    for (const VaultLook& look : looks_) {
      if (!vault.empty() && look.vault != vault) continue;
      for (const PruneQuestion& held : look.held) {
        if (held.resource != resource) continue;
        count += held.snapshots.size();
        for (const SnapshotFacts& one : held.snapshots)
          last = std::max(last.value_or(one.keep_until), one.keep_until);
      }
    }
    if (!last) return "";
    return fmt::format("; {} there {} until {} at the latest", counted(count, "snapshot"),
                       count == 1 ? "is kept" : "are kept", format_moment(*last));
  }

  void judge_approvals(const ApprovalsConfig& was) {
    const int people = after_.approvals ? after_.approvals->people : 1;
    for (const std::string& act : was.acts) {
      const bool still = after_.approvals && std::ranges::count(after_.approvals->acts, act) != 0;
      if (still && people >= was.people) continue;
      add("approvals", "approvals",
          still ? fmt::format("{} needs {} people instead of {}", act, people, was.people)
                : fmt::format("{} needs nobody else's word any more", act),
          true);
    }
    if (!after_.approvals) return;
    judge_who_agrees(was.by, after_.approvals->by);
    const Period held = was.valid_for.value_or(kApprovalHolds);
    const Period holds = after_.approvals->valid_for.value_or(kApprovalHolds);
    if (later(now_, holds) > later(now_, held))
      add("approvals", "approvals",
          fmt::format("a word holds for {} instead of {}", format_period(holds), format_period(held)), true);
  }

  // None named: whoever owns.
  void judge_who_agrees(const std::vector<std::string>& was, const std::vector<std::string>& is) {
    if (was.empty()) return;
    if (is.empty())
      return add("approvals", "approvals", fmt::format("whoever owns may agree, not {} alone", joined(was)),
                 true);
    for (const std::string& name : is)
      if (std::ranges::count(was, name) == 0)
        add("approvals", "approvals", fmt::format("{} may agree as well, who could not before", name), true);
  }

  // --- what a changed rule comes to --------------------------------------------------------------------

  void judge_keep(const PlanConfig& is) {
    const PlanConfig* was = find(before_->plans, is.name);
    if (was == nullptr || !keeps_otherwise(*was, is)) return;
    judge_rules(*was, is);
    const auto plays = [&](const Config& config) -> std::optional<Simulation> {
      auto played = simulate(config, {.from = now_, .until = later(now_, kPlayed), .plan = is.name});
      return played ? std::optional(std::move(*played)) : std::nullopt;
    };
    // What the rules come to. Where a budget of deletion refuses prunes there are more and more, and that
    // would pass for a rule that keeps more: it is said on its own.
    const auto played_before = plays(without_budgets(*before_)), played = plays(without_budgets(after_));
    if (!played_before || !played) return;
    if (std::ranges::any_of(after_.resources, [](const auto& one) { return one.delete_budget.has_value(); }))
      judge_refusals(plays(after_));
    for (const SimulatedPlace& place : played->places) {
      for (const SimulatedPlace& old : played_before->places) {
        if (old.resource != place.resource || old.vault != place.vault) continue;
        const size_t before = old.over_time.back().count, after = place.over_time.back().count;
        if (before == after) continue;
        add("keeps", fmt::format("{} in {}", place.resource, place.vault),
            fmt::format("in a year there will be {} instead of {}; what is there now stays as long as it was "
                        "promised",
                        counted(after, "snapshot"), before));
      }
    }
  }

  static Config without_budgets(Config config) {
    for (ResourceConfig& resource : config.resources) resource.delete_budget.reset();
    return config;
  }

  void judge_refusals(const std::optional<Simulation>& played) {
    if (!played) return;
    for (const SimulatedPlace& place : played->places) {
      if (place.refused == 0) continue;
      add("budget", fmt::format("{} in {}", place.resource, place.vault),
          fmt::format("{} of a year would be refused, the first {}: {}", counted(place.refused, "prune"),
                      format_moment(place.first_refused.value_or(now_)), place.refused_why));
    }
  }

  // By the rules themselves: what they come to, a budget of deletion may hide.
  void judge_rules(const PlanConfig& was, const PlanConfig& is) {
    bool less = keeps_less(was.keep, is.keep);
    for (const CopyConfig& copy : was.copies) {
      const auto now = std::ranges::find(is.copies, copy.to, &CopyConfig::to);
      less |= now != is.copies.end() && keeps_less(copy.keep, now->keep);
    }
    if (!less) return;
    told_shorter_.insert(is.name);
    add("shorter", named("plan", is.name),
        "by one of its rules what is made from now on is kept for less time, or less of it");
    out_.consequences.back().promises_less = true;
  }

  // Of one resource: a plan that was renamed, or two that exchanged what they protect, keep less of it
  // though each plan that kept its name keeps as much as it did.
  void judge_keeping(const std::string& resource) {
    const auto before = before_->plans_of(resource), after = after_.plans_of(resource);
    const auto is_told = [&](const PlanConfig* plan) {
      return told_shorter_.contains(plan->name) && has_named(before, plan->name);
    };
    if (std::ranges::any_of(after, is_told)) return;
    // Of what changed hands as well: a plan that stays, and keeps it for ever, says nothing of what another
    // one makes.
    const auto gone = others(before, after), come = others(after, before);
    const auto vaults = vaults_of(after_, resource);
    for (const std::string& vault : vaults_of(*before_, resource)) {
      if (std::ranges::count(vaults, vault) == 0) continue;  // told as `place`
      if (!keeps_less(kept_by(before, vault), kept_by(after, vault)) &&
          !keeps_less(kept_by(gone, vault), kept_by(come, vault)))
        continue;
      add("shorter", fmt::format("{} in {}", resource, vault),
          "what is made from now on is kept for less time, or less of it, by the plans that have it now");
      out_.consequences.back().promises_less = true;
    }
  }

  using Plans = std::vector<const PlanConfig*>;
  static bool has_named(const Plans& plans, std::string_view name) {
    return std::ranges::any_of(plans, [&](const PlanConfig* plan) { return plan->name == name; });
  }
  // Those of `plans` that are not among `there` by their name.
  static Plans others(const Plans& plans, const Plans& there) {
    Plans out;
    std::ranges::copy_if(plans, std::back_inserter(out),
                         [&](const PlanConfig* plan) { return !has_named(there, plan->name); });
    return out;
  }

  // What plans keep of a resource in one vault: of each rule the longest. Nothing: none puts it there.
  std::optional<KeepRules> kept_by(const Plans& plans, std::string_view vault) const {
    std::optional<KeepRules> kept;
    const CopyConfig* first_copy = nullptr;  // the one that decides (copy_rules_of)
    for (const PlanConfig* plan : plans) {
      if (plan->vault == vault) {
        take_longest(kept, plan->keep);
        continue;
      }
      const auto copy = std::ranges::find(plan->copies, vault, &CopyConfig::to);
      if (copy == plan->copies.end() || first_copy != nullptr) continue;
      first_copy = &*copy;
      if (!copy->keep.empty())
        take_longest(kept, copy->keep);
      else if (copy->window)
        kept = kept.value_or(kNothingKept);  // its base alone
      else                                   // as long as in the first
        for (const PlanConfig* first : plans)
          if (first->vault == plan->vault) take_longest(kept, first->keep);
    }
    return kept;
  }

  void take_longest(std::optional<KeepRules>& kept, const KeepRules& rules) const {
    if (!kept || rules.empty()) kept = rules;
    if (kept->empty()) return;  // for ever
    for (const auto period : {&KeepRules::all, &KeepRules::hourly, &KeepRules::daily, &KeepRules::weekly,
                              &KeepRules::monthly, &KeepRules::yearly}) {
      const std::optional<Period>& other = rules.*period;
      std::optional<Period>& mine = (*kept).*period;
      if (other && (!mine || later(now_, *other) > later(now_, *mine))) mine = other;
    }
    kept->last = std::max(kept->last, rules.last);
  }

  bool keeps_less(const std::optional<KeepRules>& was, const std::optional<KeepRules>& is) const {
    return was && is && keeps_less(*was, *is);
  }

  bool keeps_less(const KeepRules& was, const KeepRules& is) const {
    if (is.empty() || was.empty()) return !is.empty();  // none keeps for ever
    const auto shorter = [&](const std::optional<Period>& before, const std::optional<Period>& now) {
      return before && (!now || later(now_, *now) < later(now_, *before));
    };
    return shorter(was.all, is.all) || shorter(was.hourly, is.hourly) || shorter(was.daily, is.daily) ||
           shorter(was.weekly, is.weekly) || shorter(was.monthly, is.monthly) ||
           shorter(was.yearly, is.yearly) || is.last < was.last;
  }

  static bool keeps_otherwise(const PlanConfig& one, const PlanConfig& other) {
    const auto rules = [](const KeepRules& keep) {
      return std::tie(keep.all, keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly, keep.last);
    };
    if (rules(one.keep) != rules(other.keep) || one.schedule.text != other.schedule.text ||
        one.every != other.every)
      return true;
    return !std::ranges::equal(one.copies, other.copies, [&](const CopyConfig& a, const CopyConfig& b) {
      return a.to == b.to && rules(a.keep) == rules(b.keep);
    });
  }

  // --- what is next ------------------------------------------------------------------------------------

  void list_runs(const PlanConfig& plan) {
    NextRun run{.plan = plan.name,
                .what = "backup",
                .at = next_run(plan, now_),
                .zone = std::string(zone_of(plan.timezone)),
                .instead = {}};
    if (!run.at)
      run.instead = plan.every_change ? "whenever something changed"
                    : plan.manual     ? "when somebody asks for it"
                                      : "never: it says no time";
    out_.next.push_back(run);
    if (!plan.drill) return;
    run.what = "drill";
    run.at = next_run(plan.drill->schedule, plan.timezone, now_);
    run.instead = run.at ? "" : "never: it says no time";
    out_.next.push_back(std::move(run));
  }

  const Config* before_;
  const Config& after_;
  const std::vector<VaultLook>& looks_;
  Time now_;
  std::set<std::string> told_shorter_;  // plans
  ChangePlan out_;
};

}  // namespace

bool ChangePlan::loses() const {
  return std::ranges::any_of(consequences, &Consequence::loses);
}

bool ChangePlan::promises_less() const {
  return loses() || std::ranges::any_of(consequences, &Consequence::promises_less);
}

ChangePlan judge_change(const Config* before, const Config& after, const std::vector<VaultLook>& looks,
                        Time now) {
  return Judge(before, after, looks, now).take();
}

}  // namespace kuramori
