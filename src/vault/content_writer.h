// Puts one snapshot's content into packs, then writes what makes it a whole: tree, page map, live record.
//
// Lanes run in parallel, each with packs of its own. Nothing that is written here exists for anyone until the
// commit refers to it: a crash at any point leaves packs that the next collection removes.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "vault/pack.h"
#include "vault/page_map.h"
#include "vault/session_packs.h"
#include "vault/tree.h"

namespace kuramori {

// A parent snapshot, opened by the structure key: what a new one may build on.
struct BaseSnapshot {
  std::string commit_name;
  CommitRecord commit;
  LiveRecord live;
  ResolvedPages pages;
};

struct CapturedFile {
  TreeEntry entry;
  uint32_t index = 0;  // the source's number for it, as given to the lanes
  uint64_t inode = 0;
  int64_t birth_ns = 0;
  bool on_base = false;  // pages that no lane got are the base's
};

class ContentWriter {
 public:
  // Checks one page after it was sealed and opened again (page number, bytes); false: it is not as it should
  // be.
  using PageCheck = std::function<bool(uint32_t file, uint32_t page, ByteView bytes)>;

  ContentWriter(Store& store, const KeyBundle& keys, Random& random, Clock& clock, SessionId session,
                ResourceId resource);
  ~ContentWriter();
  ContentWriter(const ContentWriter&) = delete;

  // Writes into packs of its own; belongs to one thread. finish() before the snapshot's. What a finished lane
  // filled is put in the background; a pack with little in it is left to a lane that still works. A lane that
  // is destroyed unfinished leaves its last pack unwritten.
  class Lane {
   public:
    ~Lane();
    Result<void> add_pages(uint32_t file, uint32_t first_page, ByteView pages);
    Result<void> add_bytes(uint32_t file, ByteView bytes);
    Result<void> finish();

   private:
    friend class ContentWriter;
    struct State;
    explicit Lane(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };
  std::unique_ptr<Lane> lane();
  void provoke(PipelineFaults* faults);  // tests only

  // After every lane is finished: writes tree and page map, fills the commit's content fields (tree, maps,
  // sizes) and returns what the commit must keep alive. `base` may be null; its pages are used up. `next`
  // gives the files one after the other, a folder before what it holds: a million of them are never held at
  // once.
  using NextFile = std::function<std::optional<CapturedFile>()>;
  Result<LiveRecord> finish(const NextFile& next, BaseSnapshot* base, CommitRecord& commit);
  Result<LiveRecord> finish(std::vector<CapturedFile> files, BaseSnapshot* base, CommitRecord& commit);

  uint64_t bytes_stored() const;

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace kuramori
