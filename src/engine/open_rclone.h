// The one way from a location to a store that rclone reaches.
#pragma once
#include <memory>
#include <string>

#include "store/store.h"

namespace kuramori {

// `location`: rclone:REMOTE:PATH. Made if it is not there where a vault is to be made.
enum class IfAbsent { kFail, kMake };
Result<std::unique_ptr<Store>> open_rclone_place(const std::string& location, IfAbsent if_absent);

}  // namespace kuramori
