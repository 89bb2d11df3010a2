// Makes what a snapshot's entry says on this machine, entry by entry: what is no plain file or folder,
// further names of files, and owners, modes, attributes, times.
//
// Everything goes by an open folder and one name in it, or by what is open already: no path is followed, so a
// tree that was made to lead out of its target does not (V27).
#pragma once
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/tree_entry.h"
#include "os/file.h"

namespace kuramori::files {

struct ApplyOptions {
  // Owners by their names, where these exist here; else, and where they do not, by their numbers.
  bool owners_by_name = false;
};

// May be used by several threads at once.
class Applier {
 public:
  explicit Applier(ApplyOptions options = {}) : options_(options) {}

  // A link, pipe, socket or device, as `name` in `folder`, which must not have it (kExists). false: only root
  // may make a device, and it was left out and counted. Its metadata are still to be applied.
  Result<bool> make_special(const Fd& folder, const std::string& name, const TreeEntry& entry);

  // Gives what stands at `entry.link` below `root` another name, `name` in `folder`. Nothing is to be applied
  // to it then.
  Result<void> make_hard_link(const Fd& root, const TreeEntry& entry, const Fd& folder,
                              const std::string& name);

  // Owner, attributes and ACLs, mode, and the time of change last. A folder's turn is after what it holds: a
  // file made in it moves its time, and its default ACL would be inherited. Refuses (kRefused) what is of
  // another type than the entry.
  Result<void> apply(const Fd& folder, const std::string& name, const TreeEntry& entry);
  Result<void> apply(const Fd& opened, const TreeEntry& entry);  // may be O_PATH

  // One sentence for each sort of thing that this user or filesystem did not allow.
  std::vector<std::string> notes() const;

 private:
  struct Owner {
    uint32_t uid = 0, gid = 0;
  };
  Owner owner_of(const TreeEntry& entry);

  const ApplyOptions options_;
  mutable std::mutex mutex_;  // of all below
  std::map<std::string, std::optional<uint32_t>> users_, groups_;
  uint64_t owners_kept_ = 0, set_ids_dropped_ = 0, attributes_left_ = 0, devices_left_ = 0;
};

// The name a path of a tree ends in, and the folder before it ("" for none). kRefused for a path that is
// absolute, or has an empty part, "." or "..".
struct SplitPath {
  std::string folder, name;
};
Result<SplitPath> split_tree_path(std::string_view path);

}  // namespace kuramori::files
