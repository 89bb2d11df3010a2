// The snapshots that one capture reads from: which of its places have one, how they are made and taken away.
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "source/files/mounts.h"
#include "source/files/places.h"
#include "source/files/settings.h"
#include "source/files/subvolume.h"

namespace kuramori::files {

class Snapshots {
 public:
  // One of each subvolume that holds any of `places`, which are read from it from then on. What cannot be had
  // is a note with Snapshot::kAuto, an error with kBtrfs.
  Result<void> take(Snapshot wanted, Places& places, const std::vector<Mount>& mounted, Reporter& reporter,
                    const std::stop_token& stop);
  // The moment that none of them is older than; nothing: there are none.
  std::optional<Time> not_before() const;
  size_t count() const { return taken_.size(); }
  // Whether some place has none, and can change while it is read.
  bool are_all() const { return live_places_ == 0; }
  // "a btrfs snapshot of /srv, made at 2026-02-10T18:00:00Z"; "" when there are none.
  std::string describe() const;
  // What was open in them should be closed by now. One that stays is a warning.
  void remove(Reporter& reporter);

 private:
  struct Taken {
    uint64_t device = 0;  // of the subvolume
    std::string path;     // and where it is
    SubvolumeSnapshot snapshot;
  };
  Result<void> take_for(size_t place, Places& places, const std::vector<Mount>& mounted,
                        const std::stop_token& stop);

  std::vector<Taken> taken_;
  size_t live_places_ = 0;
};

// What stands in the way of a snapshot of what `place` shows. kUsage: its filesystem has none.
Result<void> why_no_snapshot(const Place& place, const std::vector<Mount>& mounted);

}  // namespace kuramori::files
