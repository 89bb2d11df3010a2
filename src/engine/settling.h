// When a resource that changes is captured: not at each change, but once changes have settled.
#pragma once
#include "base/world.h"
#include "source/source.h"

namespace kuramori {

struct Settling {
  Duration quiet = std::chrono::seconds(2);     // nothing changes for so long
  Duration longest = std::chrono::seconds(10);  // after the first change it is captured anyway
};

// Returns when something changed and has settled: true. False: `stop` was asked for.
Result<bool> wait_for_change(Watch& watch, const Settling& settling, Clock& clock, std::stop_token stop);

}  // namespace kuramori
