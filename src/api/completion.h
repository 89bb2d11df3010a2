// Completion scripts for shells, made from the table of operations.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

// `shell` is bash, zsh or fish.
Result<std::string> completion_script(std::string_view shell);

}  // namespace kuramori
