// What the configuration promises of each resource, as `status`, reports and controls are held against it.
#pragma once
#include <string>
#include <vector>

#include "engine/protection.h"
#include "policy/config.h"

namespace kuramori {

// The most critical first; `wanted`: of this one alone, "" of all.
std::vector<ProtectionPromise> promises_of(const Config& config, const std::string& wanted);

}  // namespace kuramori
