#include "source/files/mounts.h"

#include <mntent.h>

#include <algorithm>
#include <cstdio>
#include <memory>

namespace kuramori::files {

std::vector<Mount> read_mounts(const std::string& file) {
  std::vector<Mount> mounts;
  std::unique_ptr<FILE, decltype(&::endmntent)> stream(::setmntent(file.c_str(), "re"), &::endmntent);
  if (stream == nullptr) return mounts;
  mntent entry;
  char text[4096 + 256];
  while (::getmntent_r(stream.get(), &entry, text, sizeof text) != nullptr) {
    if (entry.mnt_dir[0] != '/') continue;  // swap
    mounts.push_back({.folder = entry.mnt_dir,
                      .kind = entry.mnt_type,
                      .device = entry.mnt_fsname,
                      .by_hand = ::hasmntopt(&entry, "noauto") != nullptr,
                      .users_remove_subvolumes = ::hasmntopt(&entry, "user_subvol_rm_allowed") != nullptr});
  }
  return mounts;
}

namespace {

bool is_missing(const Mount& mount, const std::vector<Mount>& mounted) {
  return !mount.by_hand && std::ranges::find(mounted, mount.folder, &Mount::folder) == mounted.end();
}

}  // namespace

std::optional<Mount> missing_mount(const std::string& path, const std::vector<Mount>& expected,
                                   const std::vector<Mount>& mounted) {
  for (const Mount& mount : expected) {
    const bool holds = path == mount.folder || path.starts_with(mount.folder + "/");
    if (holds && is_missing(mount, mounted)) return mount;
  }
  return std::nullopt;
}

std::vector<Mount> missing_mounts_below(const std::string& path, const std::vector<Mount>& expected,
                                        const std::vector<Mount>& mounted) {
  std::vector<Mount> missing;
  for (const Mount& mount : expected) {
    if (mount.folder.starts_with(path == "/" ? path : path + "/") && mount.folder != "/" &&
        is_missing(mount, mounted))
      missing.push_back(mount);
  }
  return missing;
}

}  // namespace kuramori::files
