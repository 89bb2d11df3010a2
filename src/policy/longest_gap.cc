#include "policy/longest_gap.h"

namespace kuramori {
namespace {

// A change of clocks moves the runs of one day: some hundred thousand runs hold one, also where they are a
// minute apart.
constexpr int kRunsMax = 300'000;
constexpr auto kHorizon = std::chrono::days(366);
constexpr auto kHorizonOfRareRuns = std::chrono::days(366 * 9);  // 29 February, over a century's end
// Runs that a window swallows one after the other: more, and the plan never runs.
constexpr int kSwallowedMax = 20'000;

}  // namespace

std::optional<Gap> longest_gap(const NextRun& next, Time start) {
  std::optional<Gap> longest;
  std::optional<Time> last = next(start);
  for (int runs = 1; last && runs < kRunsMax; ++runs) {
    const std::optional<Time> run = next(*last);
    if (!run) break;
    if (!longest || *run - *last > longest->length()) longest = Gap{*last, *run};
    last = run;
    if (*last > start + kHorizon && (runs > 2 || *last > start + kHorizonOfRareRuns)) break;
  }
  return longest;
}

bool is_in_maintenance(const ResourceConfig& resource, Time time) {
  for (const MaintenanceConfig& window : resource.maintenance) {
    // The window that began last, if it still lasts: the first beginning after `time - lasts`.
    const auto begin = next_run(window.schedule, window.timezone, earlier(time, window.lasts));
    if (begin && *begin <= time) return true;
  }
  return false;
}

NextRun runs_of(const PlanConfig& plan, const ResourceConfig& resource) {
  return [&plan, &resource](Time after) {
    std::optional<Time> run = next_run(plan, after);
    for (int i = 0; run && is_in_maintenance(resource, *run); ++i) {
      if (i == kSwallowedMax) return std::optional<Time>();
      run = next_run(plan, *run);
    }
    return run;
  };
}

}  // namespace kuramori
