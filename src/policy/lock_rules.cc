#include "policy/lock_rules.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori {
namespace {

// What a plan keeps in one vault.
struct Promised {
  const PlanConfig* plan;
  const KeepRules* keep;
  const std::optional<Period>* window;
};

std::vector<Promised> promises_for(const Config& config, std::string_view vault) {
  std::vector<Promised> found;
  for (const PlanConfig& plan : config.plans) {
    if (plan.vault == vault) found.push_back({&plan, &plan.keep, &plan.window});
    for (const CopyConfig& copy : plan.copies) {
      if (copy.to != vault) continue;
      // A copy without rules of its own is kept as long as the original.
      const bool own = !copy.keep.empty() || copy.window;
      found.push_back({&plan, own ? &copy.keep : &plan.keep, own ? &copy.window : &plan.window});
    }
  }
  return found;
}

bool is_longer(Period one, Period other) {
  const Time start{};
  return later(start, one) > later(start, other);
}

// The longest of the rules; nothing: for ever (no rule at all, or only a number of snapshots).
std::optional<Period> longest_of(const KeepRules& keep) {
  std::optional<Period> longest;
  for (const std::optional<Period>& rule :
       {keep.all, keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly})
    if (rule && (!longest || is_longer(*rule, *longest))) longest = rule;
  if (longest && longest->endless) return {};
  return longest;
}

std::string half_of(Period lock) {
  const Time start{};
  return format_duration((later(start, lock) - start) / 2);
}

}  // namespace

std::vector<std::string> lock_remarks(const Config& config) {
  std::vector<std::string> remarks;
  for (const VaultConfig& vault : config.vaults) {
    if (!vault.lock) continue;
    const std::string lock = format_period(*vault.lock);
    for (const Promised& promised : promises_for(config, vault.name)) {
      const std::string who = fmt::format("plan \"{}\" in vault \"{}\"", promised.plan->name, vault.name);
      const std::optional<Period> longest = longest_of(*promised.keep);
      const std::string runs =
          fmt::format("prune or vault collect must run at least every {} to extend it", half_of(*vault.lock));
      if (!longest) {
        remarks.push_back(fmt::format(
            "{}: snapshots kept for ever are never locked for longer than lock: {}; {}", who, lock, runs));
      } else if (is_longer(*longest, *vault.lock)) {
        remarks.push_back(fmt::format("{}: keep reaches {}, lock: {} does not; {}", who,
                                      format_period(*longest), lock, runs));
      } else if (is_longer(*vault.lock, *longest)) {
        remarks.push_back(fmt::format(
            "{}: lock: {} outlives keep: {}; what is pruned stays, and costs, until its lock ends", who, lock,
            format_period(*longest)));
      }
      if (*promised.window && is_longer(**promised.window, *vault.lock))
        remarks.push_back(fmt::format("{}: window: {} is longer than lock: {}; {}", who,
                                      format_period(**promised.window), lock, runs));
    }
  }
  return remarks;
}

Time locked_ahead_max(const Config* config, std::string_view vault, Period lock, Time now) {
  Time furthest = later(now, lock);
  if (!config) return furthest;
  for (const Promised& promised : promises_for(*config, vault)) {
    if (std::optional<Period> longest = longest_of(*promised.keep))
      furthest = std::max(furthest, later(now, *longest));
  }
  return furthest;
}

}  // namespace kuramori
