// One file of a captured tree as a file.
#pragma once
#include <sys/types.h>

#include <stop_token>
#include <string>
#include <string_view>

#include "source/source.h"

namespace kuramori {

// The content of `entry` as the new file `path` (kRefused: it exists). It appears whole, or not at all.
Result<SourceRestoreOutcome> write_file(const CapturedTree& tree, std::string_view entry,
                                        const std::string& path, mode_t mode, const std::stop_token& stop);

}  // namespace kuramori
