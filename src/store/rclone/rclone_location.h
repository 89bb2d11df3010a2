// "rclone:REMOTE:PATH": a place that only rclone reaches. REMOTE is a section of rclone's configuration, or
// one on the fly (":sftp,host=…").
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

bool is_rclone_location(std::string_view location);
// What rclone calls the place: "REMOTE:PATH". kUsage for what names no remote.
Result<std::string> parse_rclone_location(std::string_view location);

}  // namespace kuramori
