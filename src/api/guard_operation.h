// The entry of `guard` in the table of operations.
#pragma once
#include "api/operations.h"

namespace kuramori::operation {

extern const Operation kGuard;

}  // namespace kuramori::operation
