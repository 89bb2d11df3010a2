// What differs between two snapshots of a resource that is kept as a tree. Files are held against each other
// by the digests the trees have of them: nothing of them is fetched.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "source/source.h"
#include "vault/snapshot_reader.h"

namespace kuramori {

struct EntryChange {
  PartChange::How how = PartChange::How::kChanged;
  std::string path;
  std::vector<std::string> what;             // of a changed one: "content", "mode 644 → 600"
  bool content = false;                      // its bytes changed
  uint64_t size_before = 0, size_after = 0;  // bytes; 0 where it is not there
};

struct DiffCounts {
  uint64_t added = 0, removed = 0, changed = 0;
  uint64_t all() const { return added + removed + changed; }
};

// In tree order. Memory: some nodes of each.
Result<DiffCounts> diff_trees(const SnapshotReader& before, const SnapshotReader& after,
                              const std::function<Result<void>(const EntryChange&)>& visit);

}  // namespace kuramori
