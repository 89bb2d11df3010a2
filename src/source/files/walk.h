// The walk of a tree: every entry once, depth first, in tree order.
//
// Memory is bounded by the depth, the largest folder, and the files with several names of which not all were
// met yet. Each folder is opened below the one that holds it and never through a link, so a folder that is
// replaced by a link in the middle of the walk leads nowhere. What is open is also what was looked at: the
// entry of a folder is what fstat(2) says of the opened one.
//
// An entry costs one system call, a folder four. What is gone when its turn comes was deleted, and is simply
// not there; whatever else cannot be looked at becomes a defect with its name and the walk goes on (V13).
#pragma once
#include <sys/stat.h>

#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "os/file.h"
#include "source/files/patterns.h"
#include "source/files/places.h"
#include "source/files/settings.h"
#include "source/source.h"

namespace kuramori::files {

constexpr size_t kOpenFoldersMax = 64;         // the deepest; those above are opened again when needed
constexpr size_t kLinksMax = size_t{4} << 20;  // files with several names, remembered at once
constexpr int kLooksMax = 3;                   // at a name that is something else at each look
constexpr size_t kLiveNamedMax = 20;           // of folders that are in no snapshot
constexpr size_t kListBufferBytes = size_t{64} << 10;

// What a walk met. Numbers alone: they may be told to whoever may not see names.
struct WalkCounts {
  uint64_t folders = 0, files = 0, links = 0, hard_links = 0, others = 0;
  uint64_t bytes = 0;               // of the files, as looked at
  uint64_t excluded = 0;            // entries that patterns left out (a folder with all it holds is one)
  uint64_t other_filesystems = 0;   // folders not entered, as `one_filesystem` says
  uint64_t kernel_filesystems = 0;  // folders not entered: /proc and its like hold no files
  uint64_t outside_snapshots = 0;   // subvolumes and mounts, read as they are now
  uint64_t links_forgotten = 0;     // names kept as files of their own: more than kLinksMax at once
};

class Walk {
 public:
  // `places` outlives it. `defect` is called from next(). `unmounted`: folders, by their paths in the tree,
  // on which something should be mounted that is not: a defect when the walk comes by.
  Walk(const FilesSettings& settings, const Places& places, std::set<std::string> unmounted,
       std::function<void(Defect)> defect, std::stop_token stop);

  Result<std::optional<CaptureItem>> next();
  bool at_end() const { return at_end_; }
  const WalkCounts& counts() const { return counts_; }
  // Of those `outside_snapshots`, the first few.
  const std::vector<std::string>& live_folders() const { return live_folders_; }

 private:
  struct Name {
    size_t at = 0;  // in Folder::bytes
    uint16_t length = 0;
    uint8_t type = 0;  // as d_type
  };
  struct Folder {
    Fd fd;
    std::string path;  // in the tree
    size_t below = 0;  // where in `path` + "/…" the part begins that patterns see
    uint64_t device = 0, inode = 0;
    uint64_t top_device = 0;             // of the place the walk began at
    bool nfs = false;                    // the kernel remembers what the server said
    bool included = false;               // and so is all it holds
    std::optional<CaptureItem> waiting;  // its own entry, given once something in it is included
    std::string bytes;
    std::vector<Name> names;  // sorted by their bytes
    size_t at = 0;
  };
  struct FileKey {
    uint64_t device = 0, inode = 0;
    bool operator==(const FileKey&) const = default;
  };
  struct FileKeyHash {
    size_t operator()(const FileKey& key) const { return key.inode * 0x9e3779b97f4a7c15ULL ^ key.device; }
  };
  struct FirstName {
    std::string path;
    uint64_t left = 0;  // names not met yet
  };

  void begin(const Place& place);
  void visit(Folder& folder, const Name& name);
  void visit_folder(Folder& above, const std::string& name, std::string path, int look);
  void visit_other(Folder& folder, const std::string& name, std::string path, int look);
  // The entry of a folder that could be opened; enters it unless it must not.
  void enter(Fd fd, std::string path, size_t below, const Folder* above, bool included, bool may_wait);
  // Of what is in no snapshot, `fd` and `status` become those of what is there now. False: it could not be
  // opened, which is a defect by now.
  bool look_outside_snapshot(const std::string& path, Fd& fd, struct stat& status);
  bool list(Folder& folder);
  bool list_once(Folder& folder);
  static void add_name(Folder& folder, std::string_view name, uint8_t type);
  static void sort_names(Folder& folder);
  bool opened_again(Folder& folder);
  bool excluded(const Folder& folder, std::string_view path, bool is_folder) const;
  bool included(const Folder& folder, std::string_view path, bool is_folder) const;
  void give(CaptureItem item);
  void defect(std::string path, int code);

  const FilesSettings& settings_;
  const Places& places_;
  const std::set<std::string> unmounted_;
  const std::function<void(Defect)> defect_;
  const std::stop_token stop_;
  const Patterns include_, exclude_;

  size_t place_ = 0;
  std::vector<Folder> folders_;  // from the top to where the walk is
  std::deque<CaptureItem> ready_;
  std::unordered_map<FileKey, FirstName, FileKeyHash> first_names_;
  std::vector<char> buffer_;
  WalkCounts counts_;
  std::vector<std::string> live_folders_;
  bool at_end_ = false;
};

// An entry as stat(2) tells it.
CaptureItem item_of(const struct stat& status, std::string path);

}  // namespace kuramori::files
