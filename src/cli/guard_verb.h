// `guard` alone: what the table of verbs needs of it.
#pragma once
#include "cli/context.h"

namespace kuramori {

Result<int> run_guard(Context& context);

}  // namespace kuramori
