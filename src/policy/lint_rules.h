// The rules of `lint`, a file a subject. For lint.cc alone.
#pragma once
#include <fmt/core.h>

#include <set>

#include "policy/lint.h"

namespace kuramori {

struct Lint {
  const Config& config;
  const LintFacts& facts;
  LintReport report;

  void add(LintLevel level, std::string id, int line, std::string about, std::string what, std::string why,
           std::string next) {
    report.findings.push_back(
        {std::move(id), level, std::move(about), std::move(what), std::move(why), std::move(next), line});
  }
};

inline std::string about(std::string_view noun, std::string_view name) {
  return fmt::format("{} \"{}\"", noun, name);
}

// Fixed lengths for comparing: a month counts 30 days where it is promised and 31 where it is demanded would
// be splitting hairs, so both begin on the same day.
bool is_longer(Period one, Period other);
bool is_longer(Duration one, Period other);

// One place where snapshots of a resource end up by a plan.
struct Kept {
  const PlanConfig* plan;
  const VaultConfig* vault;
  const KeepRules* keep;
  const std::optional<Period>* window;
  const CopyConfig* copy;  // null: the plan's own vault
};
std::vector<Kept> kept_places(const Config& config, const ResourceConfig& resource);

// Where the original stands: as it says itself, else beside the vault its plan fills, so that nothing near
// passes for far. A vault that does not say is a site of its own.
std::string site_of(const VaultConfig& vault);
std::string site_of(const Config& config, const ResourceConfig& resource);

// The resources a rule speaks of: those named, or all.
std::vector<const ResourceConfig*> concerned(const Config& config, const std::vector<std::string>& names);
const VaultConfig* find_vault(const Config& config, std::string_view name);

void lint_runs(Lint& lint);      // schedules against RPO, drills and exercises against what is due
void lint_keeping(Lint& lint);   // retention, windows, locks, quotas
void lint_places(Lint& lint);    // copies, sites, disks, scenarios
void lint_recovery(Lint& lint);  // what needs what, and what is due when
void lint_people(Lint& lint);    // who is told and who must agree
void lint_secrets(Lint& lint);   // what stands in clear

}  // namespace kuramori
