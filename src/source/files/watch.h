// Tells when a tree of files changes.
//
// Problem: the kernel tells of changes in folders it was asked about, one by one (inotify(7)), not of those
// another machine makes on a network filesystem, nor of those made through mapped memory; it forgets when
// more happens than it has room for; and it has room for so many folders only.
//
// So every folder is asked about, and all is looked at again — path, inode, size, change time — every ten
// minutes, whenever folders came or went, and when the kernel forgot. Where it cannot tell (a network
// filesystem, too many folders) looking again every ten seconds, or as rarely as keeps it at a twentieth of a
// processor, takes its place.
#pragma once
#include <memory>

#include "source/files/settings.h"
#include "source/source.h"

namespace kuramori::files {

struct WatchPace {
  Duration look = std::chrono::minutes(10);   // at all again, where the kernel tells of changes
  Duration blind = std::chrono::seconds(10);  // where it does not
  size_t folders_max = SIZE_MAX;              // watched: what the kernel allows, or less
};

// Of what `settings` captures; hooks do not run.
Result<std::unique_ptr<Watch>> watch_files(FilesSettings settings, WatchPace pace = {});

}  // namespace kuramori::files
