#include "source/files/subvolume.h"

#include <fmt/core.h>
#include <linux/btrfs.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "os/lock.h"

namespace kuramori::files {
namespace {

constexpr Duration kLockStep = std::chrono::milliseconds(20);
constexpr size_t kRandomBytes = 8;  // of a snapshot's name
constexpr std::string_view kNameBegin = "capture-";

// "capture-" and as many hexadecimal digits as we give: whatever else stands in the folder is not ours.
bool is_our_name(std::string_view name) {
  return name.size() == kNameBegin.size() + 2 * kRandomBytes && name.starts_with(kNameBegin) &&
         name.find_first_not_of("0123456789abcdef", kNameBegin.size()) == std::string_view::npos;
}

Result<bool> is_read_only(const Fd& subvolume, std::string_view name) {
  uint64_t flags = 0;
  if (::ioctl(subvolume.get(), BTRFS_IOC_SUBVOL_GETFLAGS, &flags) != 0)
    return system_error(fmt::format("look at the subvolume \"{}\"", name), errno);
  return (flags & BTRFS_SUBVOL_RDONLY) != 0;
}

int destroy(const Fd& folder, const std::string& name) {
  btrfs_ioctl_vol_args arguments{};
  name.copy(arguments.name, sizeof arguments.name - 1);
  return ::ioctl(folder.get(), BTRFS_IOC_SNAP_DESTROY, &arguments) == 0 ? 0 : errno;
}

// Absent is fine. Whoever is not root must first make it writable (`user_subvol_rm_allowed`).
Result<void> remove_snapshot(const Fd& folder, const std::string& name, const Fd& root,
                             const std::string& path) {
  int code = destroy(folder, name);
  if (code != 0 && code != ENOENT) {
    uint64_t flags = 0;
    if (::ioctl(root.get(), BTRFS_IOC_SUBVOL_SETFLAGS, &flags) == 0) code = destroy(folder, name);
  }
  if (code == 0 || code == ENOENT) return {};
  Error error = system_error(fmt::format("the btrfs snapshot \"{}\" cannot be removed", path), code);
  error.next = fmt::format("btrfs subvolume delete {}", path);
  return error;
}

// With the folder locked: what is ours and nobody holds is of a process that died.
Result<void> remove_leftovers(const Fd& folder, const std::string& path, uint64_t device) {
  TRY_ASSIGN(const std::vector<FolderEntry> entries, list_folder(folder, path));
  for (const FolderEntry& entry : entries) {
    if (entry.type != FileType::kFolder || !is_our_name(entry.name)) continue;
    const std::string whole = join_path(path, entry.name);
    auto root = open_at(folder, entry.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!root && root.error().kind == ErrorKind::kNotFound) continue;
    if (!root) return std::move(root).error();
    TRY_ASSIGN(const FileStatus status, status_of(*root, whole));
    if (status.inode != kSubvolumeInode || status.device == device) continue;
    TRY_ASSIGN(const bool read_only, is_read_only(*root, whole));
    if (!read_only) continue;  // somebody made it his own
    TRY_ASSIGN(const bool abandoned, try_flock(*root, whole));
    if (abandoned) TRY(remove_snapshot(folder, entry.name, *root, whole));
  }
  return {};
}

Result<void> lock_folder(const Fd& folder, const std::string& path, const std::stop_token& stop) {
  const Duration begun = system_clock().steady();
  for (;;) {
    TRY_ASSIGN(const bool locked, try_flock(folder, path));
    if (locked) return {};
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    if (system_clock().steady() - begun > kSnapshotLockWait) {
      return fail(ErrorKind::kFailed, fmt::format("\"{}\" is locked", path),
                  "another process has been making a snapshot there for minutes",
                  fmt::format("fuser -v {}", path));
    }
    system_clock().sleep(kLockStep);
  }
}

// Another's folder could be exchanged under our hands.
Result<void> must_be_ours(const Fd& folder, const std::string& path, uint64_t device) {
  TRY_ASSIGN(const FileStatus status, status_of(folder, path));
  if (status.device == device && status.uid == ::geteuid() && (status.mode & 022) == 0) return {};
  return fail(ErrorKind::kRefused, fmt::format("snapshots would stand in \"{}\"", path),
              status.device == device ? "it belongs to somebody else, or others may write there"
                                      : "it is of another subvolume or filesystem",
              fmt::format("ls -ld {}", path));
}

bool may_administer() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  if (::syscall(SYS_capget, &header, sets) != 0) return false;
  return (sets[CAP_SYS_ADMIN / 32].effective & (1u << CAP_SYS_ADMIN % 32)) != 0;
}

// Whether the mount that shows `path` lets users delete subvolumes of theirs.
bool users_may_remove(const std::string& path, const std::vector<Mount>& mounted) {
  const Mount* nearest = nullptr;
  for (const Mount& mount : mounted) {
    const bool holds = mount.folder == "/" || path == mount.folder || path.starts_with(mount.folder + "/");
    if (holds && (nearest == nullptr || mount.folder.size() >= nearest->folder.size())) nearest = &mount;
  }
  return nearest != nullptr && nearest->users_remove_subvolumes;
}

}  // namespace

Result<std::optional<InSubvolume>> find_subvolume(const Fd& folder) {
  struct statfs filesystem;
  if (::fstatfs(folder.get(), &filesystem) != 0) return system_error("look at a filesystem", errno);
  if (static_cast<unsigned long>(filesystem.f_type) != BTRFS_SUPER_MAGIC) return std::optional<InSubvolume>();
  TRY_ASSIGN(const std::string whole, read_link(fmt::format("/proc/self/fd/{}", folder.get())));
  TRY_ASSIGN(FileStatus status, status_of(folder, whole));
  InSubvolume found{.path = whole, .device = status.device, .inode = status.inode};
  TRY_ASSIGN(Fd at, open_at(folder, ".", O_PATH | O_DIRECTORY));
  while (status.inode != kSubvolumeInode) {
    TRY_ASSIGN(Fd above, open_at(at, "..", O_PATH | O_DIRECTORY));
    TRY_ASSIGN(const FileStatus next, status_of(above, whole));
    if (next.device != found.device || next.inode == status.inode || found.path == "/") {
      return fail(ErrorKind::kRefused,
                  fmt::format("the subvolume that holds \"{}\" cannot be reached", whole),
                  "only a part of it is mounted");
    }
    found.below = found.below.empty() ? found.path.substr(found.path.rfind('/') + 1)
                                      : found.path.substr(found.path.rfind('/') + 1) + "/" + found.below;
    found.path = folder_of(found.path);
    at = std::move(above);
    status = next;
  }
  TRY_ASSIGN(found.root, open_at(at, ".", O_RDONLY | O_DIRECTORY));
  TRY_ASSIGN(found.read_only, is_read_only(found.root, found.path));
  return std::optional<InSubvolume>(std::move(found));
}

Result<void> may_snapshot(const InSubvolume& subvolume, const std::vector<Mount>& mounted) {
  const std::string path = join_path(subvolume.path, kSnapshotsFolder);
  if (!may_administer() && !users_may_remove(subvolume.path, mounted)) {
    return fail(ErrorKind::kDenied,
                fmt::format("a snapshot of \"{}\" could not be removed again", subvolume.path),
                "only root may, or who is let by the mount option user_subvol_rm_allowed",
                fmt::format("mount -o remount,user_subvol_rm_allowed {}", subvolume.path));
  }
  auto folder = open_at(subvolume.root, kSnapshotsFolder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (folder) return must_be_ours(*folder, path, subvolume.device);
  if (folder.error().kind != ErrorKind::kNotFound) return std::move(folder).error();
  if (::faccessat(subvolume.root.get(), ".", W_OK | X_OK, AT_EACCESS) != 0)
    return system_error(fmt::format("snapshots cannot stand in \"{}\"", path), errno);
  return {};
}

Result<SubvolumeSnapshot> SubvolumeSnapshot::make(const InSubvolume& subvolume, std::stop_token stop) {
  const std::string folder_path = join_path(subvolume.path, kSnapshotsFolder);
  if (::mkdirat(subvolume.root.get(), kSnapshotsFolder, 0700) != 0 && errno != EEXIST)
    return system_error(fmt::format("make the folder \"{}\"", folder_path), errno);
  SubvolumeSnapshot made;
  TRY_ASSIGN(made.folder_, open_at(subvolume.root, kSnapshotsFolder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(must_be_ours(made.folder_, folder_path, subvolume.device));
  // Until ours is locked, another would take it for a leftover. A descriptor of its own: closed, it lets go.
  TRY_ASSIGN(const Fd lock, open_at(made.folder_, ".", O_RDONLY | O_DIRECTORY));
  TRY(lock_folder(lock, folder_path, stop));
  TRY(remove_leftovers(made.folder_, folder_path, subvolume.device));

  std::array<uint8_t, kRandomBytes> random;
  system_random().fill(random);
  const std::string name = std::string(kNameBegin) + to_hex(random);
  made.path_ = join_path(folder_path, name);
  btrfs_ioctl_vol_args_v2 arguments{};
  arguments.fd = subvolume.root.get();
  arguments.flags = BTRFS_SUBVOL_RDONLY;
  name.copy(arguments.name, sizeof arguments.name - 1);
  made.not_before_ = system_clock().now();
  if (::ioctl(made.folder_.get(), BTRFS_IOC_SNAP_CREATE_V2, &arguments) != 0)
    return system_error(fmt::format("make a btrfs snapshot of \"{}\"", subvolume.path), errno);
  made.name_ = name;  // from here on there is one to remove
  TRY_ASSIGN(made.root_, open_at(made.folder_, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY_ASSIGN(const bool locked, try_flock(made.root_, made.path_));
  if (!locked) return fail(ErrorKind::kFailed, fmt::format("\"{}\" is locked by another", made.path_));
  return made;
}

Result<void> SubvolumeSnapshot::remove() {
  if (name_.empty() || !folder_.valid()) return {};
  auto removed = remove_snapshot(folder_, std::exchange(name_, {}), root_, path_);
  root_ = Fd();
  folder_ = Fd();
  return removed;
}

}  // namespace kuramori::files
