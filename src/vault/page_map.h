// Page maps: which frame holds which page of a paged file, at one snapshot.
//
// A snapshot names at most kMapsMax maps, newest first. For a file, the newest map that mentions it speaks: a
// full entry is all there is to know; a delta entry holds the pages that changed and leaves the rest to older
// maps; a removed entry says the file was not there. Every snapshot so opens as a full one, and none depends
// on another.
//
// Files are named by a keyed digest of their path (file_key()), sorted by it: a map tells structure, not
// names.
#pragma once
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "store/store.h"
#include "vault/envelope.h"
#include "vault/records.h"

namespace kuramori {

constexpr uint32_t kPageBytes = 8192;  // PostgreSQL's block; others are refused at capture
// 40 KiB. More pages would save bytes (16: 1.4 %) and CPU, but a page that is wanted alone waits for its
// whole frame to be decompressed: 103 µs with 16, 36 µs with 5 (ADR 7).
constexpr uint32_t kPagesPerFrame = 5;
constexpr size_t kMapsMax = 8;
constexpr uint32_t kZeroPack = UINT32_MAX;  // a run of pages that are all zero: stored nowhere

// `count` pages from `page` on lie at consecutive slots of consecutive frames, starting in frame `frame` at
// slot `slot`; every frame but the last of a run is used up to its last slot.
struct PageRun {
  uint32_t page = 0, count = 0;
  uint32_t pack = kZeroPack;  // index into the map's (or the resolved view's) list of packs
  uint32_t frame = 0;
  uint32_t slot = 0;
  bool operator==(const PageRun&) const = default;
};

enum class FileState : uint8_t { kFull = 1, kDelta = 2, kRemoved = 3 };

struct FilePages {
  FileKey key;
  FileState state = FileState::kFull;
  uint32_t pages = 0;  // the file's length at this snapshot
  // What tells whether it is still the same file next time.
  uint64_t inode = 0;
  int64_t birth_ns = 0;
  std::vector<PageRun> runs;  // ascending, disjoint; a full entry covers 0 … pages-1
  bool operator==(const FilePages&) const = default;
};

struct PageMap {
  std::vector<std::string> packs;  // names that runs refer to
  std::vector<FilePages> files;    // sorted by key
};

// The object's bytes (type kPageMap): sealed blocks and an index, see docs/vault-format.md, "Page maps".
Bytes encode_map(const PageMap& map, const KeyBundle& keys, Random& random, const std::string& name,
                 const ResourceId& scope);
Result<PageMap> decode_map(ByteView object, const KeyBundle& keys, const std::string& name);
// The same without holding it: first the packs, then file by file, ascending. What was visited before an
// error is nothing to believe.
struct MapVisitor {
  std::function<Result<void>(std::vector<std::string> packs)> packs;
  std::function<Result<void>(FilePages file)> file;
};
Result<void> visit_map(ByteView object, const KeyBundle& keys, const std::string& name,
                       const MapVisitor& visitor);

// All maps of a snapshot laid over each other.
struct ResolvedPages {
  std::vector<std::string> packs;
  std::unordered_map<FileKey, FilePages> files;  // all kFull; removed ones are not there
};
// `maps` newest first. They are used up: a million files are held once.
Result<ResolvedPages> resolve(std::vector<PageMap> maps);
// Lays one that is newer over what older ones resolved to; after an error `resolved` is of no use.
Result<void> lay_over(ResolvedPages& resolved, PageMap map);

// Lays `delta`'s runs over `base`'s and cuts or leaves the result at `pages`; the gap where neither speaks is
// an error.
Result<std::vector<PageRun>> overlay(const std::vector<PageRun>& base, const std::vector<PageRun>& delta,
                                     uint32_t pages);

// Adds frames that `run` touches to `frames` (pack index → frame numbers).
using LiveFrames = std::map<uint32_t, std::vector<FrameRange>>;
void add_live(LiveFrames& live, const PageRun& run);
// Sorts and joins the ranges.
void normalise(std::vector<FrameRange>& ranges);

}  // namespace kuramori
