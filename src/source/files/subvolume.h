// A btrfs subvolume and its read-only snapshots: all of it at one moment, made in an instant.
//
// Snapshots stand in a folder of our own in the subvolume's root, which is the one place sure to be on the
// same filesystem. Each is locked (flock) for as long as somebody reads from it: the kernel lets go of the
// lock when a process ends, however it ends. So what nobody holds is the leftover of one that died, and
// whoever makes the next snapshot there removes it.
//
// A snapshot keeps the inode numbers and change times of its subvolume; its device number is its own. It has
// neither nested subvolumes nor what is mounted: empty folders stand in their places.
#pragma once
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "os/file.h"
#include "source/files/mounts.h"

namespace kuramori::files {

constexpr const char* kSnapshotsFolder = ".kuramori-snapshots";
constexpr uint64_t kSubvolumeInode = 256;      // of every subvolume's root
constexpr uint64_t kNestedSubvolumeInode = 2;  // of what stands in a snapshot for a subvolume in it
constexpr Duration kSnapshotLockWait = std::chrono::minutes(2);  // for another process that makes one there

// Where a folder stands in its subvolume.
struct InSubvolume {
  Fd root;                         // of the subvolume, open to be listed
  std::string path;                // of the root, as this process sees it: for messages
  std::string below;               // from the root to the folder; "" is the root itself
  uint64_t device = 0, inode = 0;  // of the subvolume; of the folder
  bool read_only = false;          // it cannot change, and is as good as a snapshot
};

// `folder` may be open with O_PATH. Nothing: it is not on btrfs. kRefused, kDenied: the subvolume's root
// cannot be reached from it.
Result<std::optional<InSubvolume>> find_subvolume(const Fd& folder);

// Whether this process may make a snapshot of it and, above all, take it away again. kDenied in words.
Result<void> may_snapshot(const InSubvolume& subvolume, const std::vector<Mount>& mounted);

class SubvolumeSnapshot {
 public:
  // Removes leftovers of others first; one that cannot be removed is an error, so that they do not pile up.
  static Result<SubvolumeSnapshot> make(const InSubvolume& subvolume, std::stop_token stop);
  SubvolumeSnapshot(SubvolumeSnapshot&&) noexcept = default;
  SubvolumeSnapshot& operator=(SubvolumeSnapshot&&) = delete;
  ~SubvolumeSnapshot() { (void)remove(); }

  const Fd& root() const { return root_; }
  const std::string& path() const { return path_; }
  // The moment it shows is this one or a later one.
  Time not_before() const { return not_before_; }
  // Once. What is open in it may stay open.
  Result<void> remove();

 private:
  SubvolumeSnapshot() = default;
  Fd folder_;  // that it stands in
  std::string name_, path_;
  Fd root_;  // its own, locked
  Time not_before_;
};

}  // namespace kuramori::files
