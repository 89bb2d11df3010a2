// lint as several verbs show it.
#pragma once
#include <string>

#include "cli/context.h"
#include "policy/lint.h"

namespace kuramori {

// With what this machine knows: its disks, and where notifications go.
LintReport lint_here(Context& context, const Config& config);
// The member "findings" of a document.
void write_findings(JsonWriter& json, const Config& config, const LintReport& report);
std::string shown_findings(const Config& config, const LintReport& report);

}  // namespace kuramori
