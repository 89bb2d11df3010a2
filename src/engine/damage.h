// Which files a damaged object touches, by name: for keys that can read what is kept.
#pragma once
#include <string>
#include <vector>

#include "vault/scrub.h"

namespace kuramori {

constexpr size_t kTouchedFilesMax = 50;      // names told of one finding; the others are counted
constexpr size_t kTouchedSnapshotsMax = 16;  // snapshots looked at for one finding, the newest first

struct TouchedFiles {
  std::string object;
  std::vector<std::string> paths;  // sorted
  uint64_t count = 0;              // of all of them
  std::string unknown_because;     // where names could not be read
};

// Of damaged packs that visible snapshots need. Nothing for other findings, and for keys that open no
// content.
std::vector<TouchedFiles> touched_files(Vault& vault, const std::vector<ScrubFinding>& findings);

}  // namespace kuramori
