// What a resource of the kind `files` says of itself in kuramori.yaml.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "base/world.h"

namespace kuramori::files {

constexpr Duration kHookTimeout = std::chrono::minutes(10);

struct FilesSettings {
  // Absolute; folders or files. A path that is itself a link is followed, links below it never are.
  std::vector<std::string> paths;
  // As in a .gitignore that stands in the folder given in `paths`. Nothing in `include`: everything. What is
  // excluded is not captured, whatever `include` says.
  std::vector<std::string> include, exclude;
  // Folders on which another filesystem is mounted are kept without what they hold.
  bool one_filesystem = false;
  // Shell lines. One of `hooks_before` that fails is the capture's failure; `hooks_after` run whenever one
  // before was begun, also when the capture failed, and one that fails is a warning.
  std::vector<std::string> hooks_before, hooks_after;
  Duration hook_timeout = kHookTimeout;
};

}  // namespace kuramori::files
