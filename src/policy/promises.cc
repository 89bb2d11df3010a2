#include "policy/promises.h"

#include <algorithm>

namespace kuramori {
namespace {

const CopyConfig* find_copy(const PlanConfig& plan, std::string_view vault) {
  for (const CopyConfig& copy : plan.copies)
    if (!vault.empty() && copy.to == vault && plan.vault != vault) return &copy;
  return nullptr;
}

}  // namespace

Promises promises_in(const Config& config, std::string_view vault, Time now) {
  Promises promises;
  for (const PlanConfig& plan : config.plans) {
    const CopyConfig* copy = find_copy(plan, vault);
    const std::optional<Period>& window = copy ? copy->window : plan.window;
    for (const std::string& resource : plan.resources) {
      Promise& promise = promises[resource];
      if (window && (!promise.window || later(now, *window) > later(now, *promise.window)))
        promise.window = window;
      promise.keep_last = std::max(promise.keep_last, copy ? copy->keep.last : plan.keep.last);
    }
  }
  for (const ResourceConfig& resource : config.resources)
    if (resource.delete_budget) promises[resource.name].budget = resource.delete_budget;
  return promises;
}

CopyRules copy_rules_of(const Config& config, std::string_view to) {
  CopyRules rules;
  if (to.empty()) return rules;
  for (const PlanConfig& plan : config.plans) {
    for (const CopyConfig& copy : plan.copies) {
      if (copy.to != to) continue;
      for (const std::string& resource : plan.resources)
        rules.try_emplace(resource, CopyRule{copy.keep, copy.window, plan.timezone});
    }
  }
  return rules;
}

std::optional<int64_t> copy_kept_until(const CopyRule& rule, int64_t started_ns, int64_t source_until_ns,
                                       const std::vector<int64_t>& all_started_ns,
                                       const std::vector<ExistingSnapshot>& existing, Time now) {
  if (rule.keep.empty() && !rule.window) return source_until_ns;  // shown there: it is wanted here
  const Time made = from_unix_ns(started_ns);
  int64_t until = started_ns;
  if (!rule.keep.empty())
    until = to_unix_ns(decide_keep_until(rule.keep, rule.timezone, existing, made).until);
  if (from_unix_ns(until) > now) return until;
  if (rule.is_archive()) return {};
  const auto newer = std::ranges::count_if(all_started_ns, [&](int64_t other) { return other > started_ns; });
  if (newer < std::max(1, rule.keep.last)) return until;
  if (!rule.window) return {};
  // The newest that is older than the window's begin is its base.
  const Time base_until = later(made, *rule.window);
  if (base_until > now) return std::max(until, to_unix_ns(base_until));
  bool is_base = std::ranges::none_of(all_started_ns, [&](int64_t other) {
    return other > started_ns && later(from_unix_ns(other), *rule.window) <= now;
  });
  return is_base ? std::optional(until) : std::nullopt;
}

}  // namespace kuramori
