// Finds again what lost runs of the chunk index told of, and writes it into new runs.
//
// Problem: a run is a hint, and no restore needs one; but without it everything that is met again is stored
// again. What it said stands in the snapshot itself: the tree says where each chunk lies, and the bytes there
// give its name. So the tree is walked and the frames are read; for who may read.
//
// Why only what was lost is read: whatever lies in one frame came with one session, so with one run, and
// merging takes whole runs. A frame that a run which is left names is told of by it. (But for runs that were
// found again themselves: a frame may lie in two batches. What is missed then is stored once more.)
//
// Why a crash does no harm: runs are written under names of the session that asks, and nothing refers to them
// before its commit. Killed anywhere, they are garbage, the old ones are as lost as they were, and whoever
// comes next does it all again. And what was found is a hint as ever: who looks it up asks the base whether
// it keeps that frame alive, and a restore checks every byte.
//
// Memory: kMendBatchChunks places and names at once, beside what a restore holds and the index's tables. Each
// batch is a run, merged in levels like any other.
#pragma once
#include <functional>
#include <stop_token>

#include "vault/snapshot_reader.h"
#include "vault/tree_writer.h"

namespace kuramori {

constexpr size_t kMendBatchChunks = size_t{1} << 19;  // some 60 bytes each
constexpr size_t kMendLanes = 2;                      // that read frames: some 16 MiB each

struct MendOptions {
  Store& store;
  const KeyBundle& keys;  // that open content
  Random& random;
  std::function<std::string()> next_name;            // of a new object: WriterSession::next_map_name()
  std::string cache_folder;                          // as ChunkIndex::open() takes it
  std::function<void(uint64_t bytes)> advance = {};  // so much more was read; from several threads
  size_t batch_chunks = kMendBatchChunks;
  std::stop_token stop = {};
};

struct MendedIndex {
  uint64_t chunks = 0;      // found again, segments of the tree among them; some of them twice
  uint64_t frames = 0;      // read for it
  uint64_t unreadable = 0;  // frames that could not be: what they hold is stored again
};

// Gives `base` an index that knows of everything its tree refers to, and clears what it has lost. `snapshot`:
// the same snapshot, opened for reading. After an error the base is as it was. kInterrupted: asked to stop.
Result<MendedIndex> mend_index(TreeBase& base, const SnapshotReader& snapshot, const MendOptions& options);

}  // namespace kuramori
