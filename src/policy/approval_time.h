// How long a request for an approval, and what was said to it, is good for where `valid_for` says nothing.
#pragma once
#include "base/units.h"

namespace kuramori {

constexpr Period kApprovalHolds{.seconds = 86400};

}  // namespace kuramori
