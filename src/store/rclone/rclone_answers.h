// What rclone answers in JSON, as values.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "store/store.h"

namespace kuramori {

// A file or folder below the root of a remote.
struct RcloneItem {
  ObjectInfo info;  // its name may be none of an object (store/store.h): the caller looks
  bool is_folder = false;
};

// {"list": […]} of operations/list. kDamaged for what is no such answer.
Result<std::vector<RcloneItem>> parse_rclone_list(ByteView json);
// {"item": … | null} of operations/stat.
Result<std::optional<RcloneItem>> parse_rclone_item(ByteView json);
// {"error": "…"}; the text itself where it is no JSON.
std::string parse_rclone_error(ByteView json);

}  // namespace kuramori
