// What is mounted, and what should be.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace kuramori::files {

struct Mount {
  std::string folder, kind, device;
  bool by_hand = false;                  // "noauto": nobody expects it at boot
  bool users_remove_subvolumes = false;  // btrfs: "user_subvol_rm_allowed"
};

// The lines of a file in fstab(5)'s format. A file that is not there has none.
std::vector<Mount> read_mounts(const std::string& file);

// The mount that should stand at `path` or above it and does not: its folder would be captured empty, as if
// all had been deleted. `expected` as /etc/fstab says, `mounted` as /proc/self/mounts does.
std::optional<Mount> missing_mount(const std::string& path, const std::vector<Mount>& expected,
                                   const std::vector<Mount>& mounted);

// Those that should stand below `path` and do not.
std::vector<Mount> missing_mounts_below(const std::string& path, const std::vector<Mount>& expected,
                                        const std::vector<Mount>& mounted);

}  // namespace kuramori::files
