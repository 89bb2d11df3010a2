// One capture of a tree of files.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "source/files/hooks.h"
#include "source/files/places.h"
#include "source/files/settings.h"
#include "source/files/walk.h"
#include "source/source.h"

namespace kuramori::files {

// Where a machine says what should be mounted and what is; tests have their own.
struct MountFiles {
  std::string expected = "/etc/fstab";
  std::string mounted = "/proc/self/mounts";
};

// Runs the hooks before, opens the paths. `reporter` outlives the capture, whose end, however it comes, runs
// the hooks after.
Result<std::unique_ptr<TreeCapture>> begin_capture(const FilesSettings& settings, const MountFiles& mounts,
                                                   Reporter& reporter, std::stop_token stop);

// Users' and groups' names by number, each looked up once. May be used by several threads at once.
class OwnerNames {
 public:
  std::string user(uint32_t uid);
  std::string group(uint32_t gid);

 private:
  std::mutex mutex_;
  std::map<uint32_t, std::string> users_, groups_;
};

}  // namespace kuramori::files
