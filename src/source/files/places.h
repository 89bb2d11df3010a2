// Where the entries of a resource's tree stand on this machine.
//
// One path that is a folder is the tree itself: its entries' paths are relative to it. With several, or a
// file, the tree is that of the machine: "srv/app/uploads/a", and the folders above what was asked for stand
// in it as plain folders. Which of the two it is follows from the configuration, never from what happens to
// be there today, so that a path that is gone does not move the others.
#pragma once
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "os/file.h"
#include "source/files/settings.h"
#include "source/source.h"

namespace kuramori::files {

struct Place {
  std::string path;      // in the tree; "" for its root
  std::string absolute;  // on this machine
  bool top = false;      // asked for; else only a folder above such a one
  bool folder = false;   // a top may be anything else, too
  Fd fd;                 // the folder itself; of another thing the folder it stands in
  std::string name;      // "." or its name there
  Fd live;               // where `fd` is that folder in a snapshot: as it is now
};

class Places {
 public:
  // A path that is not there becomes one of `missing`; none there at all is an error.
  static Result<Places> open(const std::vector<std::string>& paths, std::vector<Defect>& missing);

  // In tree order.
  const std::vector<Place>& all() const { return places_; }
  // Opens an entry of the tree; no link on the way is followed, nor is the entry if it is one. May be called
  // by several threads at once.
  Result<Fd> open_entry(std::string_view path, int flags) const;

  // From now on a place is read from `folder` of a snapshot: the same folder as its `fd` was.
  void read_from_snapshot(size_t place, Fd folder);
  // What a place has at `path` is not in its snapshot, and is opened as it is now, with all below it. For who
  // walks the places and finds it so.
  void leave_out_of_snapshot(std::string path) const;
  bool is_left_out_of_snapshot(std::string_view path) const;  // itself
  // Whether it is read from a snapshot, and not left out of it.
  bool is_in_snapshot(std::string_view path) const;

 private:
  // Paths that no snapshot has. Apart, so that places can be moved.
  struct Outside {
    std::mutex mutex;
    std::set<std::string, std::less<>> paths;
  };
  const Place* place_of(std::string_view path) const;
  bool is_outside(std::string_view path) const;  // itself, or what it stands in

  std::vector<Place> places_;
  std::unique_ptr<Outside> outside_;  // there once a place is read from a snapshot
};

// "/srv//app/./x/" → "/srv/app/x". kUsage for one that is not absolute or holds "..".
Result<std::string> plain_path(std::string_view path);

}  // namespace kuramori::files
