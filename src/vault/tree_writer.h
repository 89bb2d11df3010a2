// Puts one snapshot of a tree into packs: content in chunks, each stored once, and the tree in segments, of
// which only those are written in which something changed.
//
// Lanes store content in parallel; entries are added by one thread, in tree order. Nothing that is written
// here exists for anyone until the commit refers to it: a crash at any point leaves packs and runs of the
// index that the next collection removes.
//
// What may be referred to: what this session stored, and frames that the base keeps alive. An index or a
// cache that says otherwise is not believed.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vault/chunk_index.h"
#include "vault/session_packs.h"
#include "vault/tree.h"

namespace kuramori {

// A parent snapshot of a tree, opened by the structure key.
struct TreeBase {
  std::string commit_name;
  CommitRecord commit;
  LiveRecord live;  // packs by name
  std::unique_ptr<ChunkIndex> index;
  // What they told of is stored again, unless it is found again first (vault/index_mender.h).
  std::vector<LostRun> lost;

  // The number of a pack among those it keeps alive; nothing: it is none of them.
  std::optional<uint32_t> pack(std::string_view name) const;
  bool keeps(uint32_t pack, uint32_t frame) const;
};
// `cache_folder`: as ChunkIndex::open() takes it. Lost runs of the index are told, and are no error.
Result<TreeBase> open_tree_base(Store& store, const KeyBundle& keys, RecordCodec& codec,
                                std::string commit_name, const CommitRecord& commit,
                                const std::string& cache_folder);

// The content of a file as it is stored. The extents' packs are the writer's own numbers:
// TreeWriter::pack_name().
struct StoredContent {
  uint64_t size = 0;
  std::vector<Extent> extents;
  Digest digest;
};

class TreeWriter {
 public:
  // `base` may be null; it is borrowed.
  TreeWriter(Store& store, const KeyBundle& keys, Random& random, Clock& clock, SessionId session,
             ResourceId resource, const TreeBase* base);
  ~TreeWriter();
  TreeWriter(const TreeWriter&) = delete;

  // Stores the content of one file after the other; belongs to one thread.
  class Lane {
   public:
    ~Lane();
    Result<void> add(ByteView bytes);
    Result<void> add_hole(uint64_t bytes);
    void restart();               // what was added since the last end() is forgotten
    Result<StoredContent> end();  // of this file; the next begins
    Result<void> finish();        // no more files

   private:
    friend class TreeWriter;
    struct State;
    explicit Lane(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };
  std::unique_ptr<Lane> lane();
  void provoke(PipelineFaults* faults);  // tests only; before the first lane

  // The number of a pack of the base; nothing: the base does not bind it.
  std::optional<uint32_t> base_pack(std::string_view name) const;
  // Whether this place may be referred to: the base keeps it alive.
  bool is_in_base(uint32_t pack, uint32_t frame) const;
  std::string pack_name(uint32_t pack) const;

  // In tree order, one thread. `content` is looked at where the entry has any.
  Result<void> add_entry(const TreeEntry& entry, const StoredContent& content);
  // What comes is not in one segment with what came: it changes at other times.
  Result<void> end_segment();
  // After every lane is finished: fills the commit's content fields (tree, maps, sizes) and returns what it
  // must keep alive.
  Result<LiveRecord> finish(CommitRecord& commit, const std::function<std::string()>& next_map_name);

  uint64_t bytes_stored() const;
  uint64_t bytes_known() const;  // of content, that were there already

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace kuramori
