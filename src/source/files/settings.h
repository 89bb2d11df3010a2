// What a resource of the kind `files` says of itself in kuramori.yaml.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/world.h"

namespace kuramori::files {

constexpr Duration kHookTimeout = std::chrono::minutes(10);

// Whether a capture reads from a snapshot of the filesystem, and so sees all files as of one moment.
enum class Snapshot : uint8_t {
  kAuto,   // where there can be one; else as they are when they are read, with a note that says why
  kBtrfs,  // of every path, or the capture fails
  kOff,    // files are as they are when they are read
};

struct FilesSettings {
  // Absolute; folders or files. A path that is itself a link is followed, links below it never are.
  std::vector<std::string> paths;
  // As in a .gitignore that stands in the folder given in `paths`. Nothing in `include`: everything. What is
  // excluded is not captured, whatever `include` says.
  std::vector<std::string> include, exclude;
  // Folders on which another filesystem is mounted are kept without what they hold.
  bool one_filesystem = false;
  Snapshot snapshot = Snapshot::kAuto;
  // Shell lines. One of `hooks_before` that fails is the capture's failure; `hooks_after` run whenever one
  // before was begun, also when the capture failed, and one that fails is a warning.
  std::vector<std::string> hooks_before, hooks_after;
  Duration hook_timeout = kHookTimeout;
};

}  // namespace kuramori::files
