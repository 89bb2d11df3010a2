// Sleeping that can be ended.
#pragma once
#include <stop_token>

#include "base/world.h"

namespace kuramori {

// True once `duration` is over, false as soon as `stop` is asked for.
bool wait_out(Duration duration, std::stop_token stop);

}  // namespace kuramori
