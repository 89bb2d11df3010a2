// What `lock:` of a vault means for the plans that keep snapshots there. Pure.
//
// Everything put is locked for the lock's length. What a visible snapshot needs is locked on, to its
// `keep_until`, by every prune and collection. So a lock shorter than a promise holds it only while those
// run; one that is longer keeps what was pruned, and its cost, until it ends.
#pragma once
#include <string>
#include <vector>

#include "policy/config.h"

namespace kuramori {

// The promises that a vault's lock cannot serve by itself, or outlives: a sentence each.
std::vector<std::string> lock_remarks(const Config& config);

// How far ahead the longest promise of any plan for this vault reaches, or the lock itself if that is longer.
// Nothing is locked beyond: a writer's wrong or hostile `keep_until` shall not be locked in for a century.
Time locked_ahead_max(const Config* config, std::string_view vault, Period lock, Time now);

}  // namespace kuramori
