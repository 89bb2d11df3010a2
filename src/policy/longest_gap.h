// How long nothing runs, at worst: over a year of the clock of a plan's zone, with its changes, and without
// the runs that fall into a window in which none can begin.
#pragma once
#include <functional>
#include <optional>
#include <span>

#include "policy/config.h"

namespace kuramori {

struct Gap {
  Time from, to;  // two runs that follow each other
  Duration length() const { return to - from; }
};

// What `next(after)` tells: the first run strictly after a moment.
using NextRun = std::function<std::optional<Time>(Time after)>;

// The longest of a year from `start`; of what runs less than twice a year, the longest of the runs that come.
// nullopt: it never runs, or once.
std::optional<Gap> longest_gap(const NextRun& next, Time start);

// The runs of a plan for this resource: those that a maintenance window of the resource lets begin.
NextRun runs_of(const PlanConfig& plan, const ResourceConfig& resource);
// True if no run of the resource can begin at `time`.
bool is_in_maintenance(const ResourceConfig& resource, Time time);

}  // namespace kuramori
