// Where the entries of a resource's tree stand on this machine.
//
// One path that is a folder is the tree itself: its entries' paths are relative to it. With several, or a
// file, the tree is that of the machine: "srv/app/uploads/a", and the folders above what was asked for stand
// in it as plain folders. Which of the two it is follows from the configuration, never from what happens to
// be there today, so that a path that is gone does not move the others.
#pragma once
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
};

class Places {
 public:
  // A path that is not there becomes one of `missing`; none there at all is an error.
  static Result<Places> open(const std::vector<std::string>& paths, std::vector<Defect>& missing);

  // In tree order.
  const std::vector<Place>& all() const { return places_; }
  // Opens an entry of the tree; no link on the way is followed, nor is the entry if it is one.
  Result<Fd> open_entry(std::string_view path, int flags) const;

 private:
  std::vector<Place> places_;
};

// "/srv//app/./x/" → "/srv/app/x". kUsage for one that is not absolute or holds "..".
Result<std::string> plain_path(std::string_view path);

}  // namespace kuramori::files
