#include "policy/lint.h"

#include <algorithm>

#include "policy/lint_rules.h"

namespace kuramori {

std::string_view name_of(LintLevel level) {
  switch (level) {
    case LintLevel::kError:
      return "error";
    case LintLevel::kRisk:
      return "risk";
    case LintLevel::kHint:
      return "hint";
  }
  return "hint";
}

bool LintReport::has_errors() const {
  return std::ranges::any_of(findings, [](const LintFinding& f) { return f.level == LintLevel::kError; });
}

bool is_longer(Period one, Period other) {
  const Time start{};
  return later(start, one) > later(start, other);
}

bool is_longer(Duration one, Period other) {
  return !other.endless && Time(one) > later(Time{}, other);
}

const VaultConfig* find_vault(const Config& config, std::string_view name) {
  const auto found = std::ranges::find(config.vaults, name, &VaultConfig::name);
  return found == config.vaults.end() ? nullptr : &*found;
}

std::vector<Kept> kept_places(const Config& config, const ResourceConfig& resource) {
  std::vector<Kept> out;
  for (const PlanConfig* plan : config.plans_of(resource.name)) {
    if (const VaultConfig* vault = find_vault(config, plan->vault))
      out.push_back({plan, vault, &plan->keep, &plan->window, nullptr});
    for (const CopyConfig& copy : plan->copies) {
      const VaultConfig* vault = find_vault(config, copy.to);
      if (!vault) continue;
      // A copy without rules of its own is kept as long as the original.
      const bool own = !copy.keep.empty() || copy.window;
      out.push_back({plan, vault, own ? &copy.keep : &plan->keep, own ? &copy.window : &plan->window, &copy});
    }
  }
  return out;
}

std::string site_of(const VaultConfig& vault) {
  return vault.site.empty() ? vault.name : vault.site;
}

std::string site_of(const Config& config, const ResourceConfig& resource) {
  if (!resource.site.empty()) return resource.site;
  for (const PlanConfig* plan : config.plans_of(resource.name))
    if (const VaultConfig* vault = find_vault(config, plan->vault)) return site_of(*vault);
  return "";
}

std::vector<const ResourceConfig*> concerned(const Config& config, const std::vector<std::string>& names) {
  std::vector<const ResourceConfig*> out;
  for (const ResourceConfig& resource : config.resources)
    if (names.empty() || std::ranges::find(names, resource.name) != names.end()) out.push_back(&resource);
  return out;
}

LintReport lint(const Config& config, const LintFacts& facts) {
  Lint lint{config, facts, {}};
  for (const ResourceConfig& resource : config.resources)
    lint.report.promises.push_back({.resource = resource.name, .rpo = resource.rpo});
  lint_runs(lint);
  lint_keeping(lint);
  lint_places(lint);
  lint_recovery(lint);
  lint_people(lint);
  lint_secrets(lint);
  std::ranges::stable_sort(lint.report.findings, [](const LintFinding& a, const LintFinding& b) {
    return std::pair(a.level, a.line) < std::pair(b.level, b.line);
  });
  return std::move(lint.report);
}

}  // namespace kuramori
