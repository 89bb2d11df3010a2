#include "os/filesystem.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>

namespace kuramori {

bool is_remote(int fd) {
  struct statfs status;
  if (::fstatfs(fd, &status) != 0) return true;
  constexpr std::array<unsigned long, 9> kTypes = {NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,  CIFS_SUPER_MAGIC,
                                                   SMB2_SUPER_MAGIC, FUSE_SUPER_MAGIC, CEPH_SUPER_MAGIC,
                                                   AFS_SUPER_MAGIC,  V9FS_MAGIC,       CODA_SUPER_MAGIC};
  return std::ranges::find(kTypes, static_cast<unsigned long>(status.f_type)) != kTypes.end();
}

bool takes_direct_writes_alike(int fd) {
  struct statfs status;
  if (::fstatfs(fd, &status) != 0) return false;
  return status.f_type == EXT4_SUPER_MAGIC || status.f_type == XFS_SUPER_MAGIC;
}

}  // namespace kuramori
