// The chunk index of a snapshot: where content stands that an older one stored already.
//
// A commit binds at most kMapsMax runs, newest first, in the field that holds page maps. A writer brings each
// once into a file of its cache folder and holds of it the table alone (vault/chunk_run.h): 1.4 MB a million
// chunks, and what packs take. Runs are merged in levels, so that adding to an index of n chunks costs a
// small multiple of what is added, not n.
//
// What an entry says is a hint, and counts only where the snapshot that binds the index keeps that frame
// alive: an entry whose frame nobody needs any more stays until its run is merged. Liveness is of places,
// never of ids (V5): one chunk may stand at two, of which one goes.
//
// Why a damaged cache does no harm: every block is sealed, and bound to its object's name and its number.
// What does not open is fetched again, and what comes is held against the digest that the commit binds (V24).
//
// Why a lost run costs no snapshot: a restore needs none, and what it told of is found again in the frames
// (vault/index_mender.h). A run that the vault lost and the cache has whole is written into the next one.
#pragma once
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "os/file.h"
#include "vault/chunk_id.h"
#include "vault/chunk_run.h"

namespace kuramori {

constexpr size_t kCachedRunsMax = 256;       // files in a cache folder, before the oldest are removed
constexpr size_t kChunkBlocksHeld = 32;      // opened at once: some 5 KiB each
constexpr uint32_t kChunkSampleBlocks = 32;  // of a run, looked at to tell how much of it is dead

struct ChunkPlace {
  const std::string* pack = nullptr;  // lives as long as the index
  uint32_t frame = 0;
  uint32_t offset = 0;  // within the frame's plain bytes, veiled (vault/chunk_id.h)
};

// A run that neither the vault nor the cache has as the commit binds it.
struct LostRun {
  ObjectRef ref;
  Error why;  // kDamaged
};

// Any thread may ask.
class ChunkIndex {
 public:
  // `runs`: as a commit has them, newest first. `cache_folder`: made when it is missing; "": the runs are
  // kept in files without a name, for as long as this lives. Borrows the store and the keys. `lost`: gets the
  // runs that are lost, which are left out then; null: kDamaged where one is.
  static Result<std::unique_ptr<ChunkIndex>> open(Store& store, const KeyBundle& keys,
                                                  const std::vector<ObjectRef>& runs,
                                                  const std::string& cache_folder,
                                                  std::vector<LostRun>* lost = nullptr);
  // What the cache folder has of this run goes: the vault's own bytes are to be looked at again.
  static void forget(const std::string& cache_folder, std::string_view run);
  ~ChunkIndex();
  ChunkIndex(const ChunkIndex&) = delete;

  // Whether a place may be referred to.
  using Usable = std::function<bool(const ChunkPlace&)>;
  // The newest place of this chunk (that is usable); nothing: the index does not know it.
  Result<std::optional<ChunkPlace>> find(const ChunkId& id, const Usable& usable = {});

  const std::vector<ObjectRef>& refs() const { return refs_; }  // of the runs it has
  // Whether the vault has lost this run, and only the cache has it: it is to be written anew.
  bool is_only_cached(size_t run) const;
  uint64_t entries() const;     // a chunk that stands in two runs counts twice
  size_t memory_bytes() const;  // what is held for all that is not looked up

  // One run, for whoever goes through all of it. In order of ids.
  class Cursor {
   public:
    Cursor(ChunkIndex& index, size_t run) : index_(index), run_(run) {}
    // Moves on to the next entry; false: there is none.
    Result<bool> next();
    const ChunkEntry& entry() const { return entries_[at_]; }
    const std::string& pack() const { return index_.pack_name(run_, entry().pack); }

   private:
    ChunkIndex& index_;
    size_t run_;
    uint32_t next_block_ = 0;
    std::vector<ChunkEntry> entries_;
    size_t at_ = 0;
  };
  uint64_t entries_of(size_t run) const;
  // Of some blocks spread over a run, what share of the entries `keep` says no to. Ids are pseudorandom, so
  // that neighbours have nothing to do with each other and any blocks are a fair sample.
  using KeepFrame = std::function<bool(const std::string& pack, uint32_t frame)>;
  Result<double> dead_share(size_t run, const KeepFrame& keep);

 private:
  struct Run;
  ChunkIndex(Store& store, const KeyBundle& keys, std::string cache_folder);
  Result<void> add(const ObjectRef& ref, bool stands);
  std::vector<uint8_t> look_which_stand(const std::vector<ObjectRef>& runs) const;
  Result<Fd> fetch_again(Run& run);
  Result<std::vector<ChunkEntry>> read_block(size_t run, uint32_t block);
  Result<std::shared_ptr<const std::vector<ChunkEntry>>> held_block(size_t run, uint32_t block);
  const std::string& pack_name(size_t run, uint32_t pack);

  Store& store_;
  const KeyBundle& keys_;
  std::string cache_folder_;
  std::vector<ObjectRef> refs_;
  std::vector<std::unique_ptr<Run>> runs_;
  std::mutex fetching_;  // held while a damaged file of the cache is replaced

  struct Held {
    size_t run;
    uint32_t block;
    std::shared_ptr<const std::vector<ChunkEntry>> entries;
  };
  std::mutex mutex_;
  std::list<Held> held_;                   // guarded by mutex_; most recently used first
  std::unordered_set<std::string> names_;  // guarded by mutex_; of packs that were asked for
};

struct ChunkRunOptions {
  Store& store;
  const KeyBundle& keys;
  Random& random;
  ResourceId scope;
  std::function<std::string()> next_name;  // of a new object: WriterSession::next_map_name()
  // Whether the new snapshot keeps this frame of this pack alive.
  ChunkIndex::KeepFrame keep;
};

// The runs of a new snapshot: those of `base` (null: none), and `fresh` — what the snapshot stored, ascending
// by id, each once, with `packs` that it refers to. Newest runs that have no more than twice the entries of
// what is being written are merged into it, as are those from the newest to one of which more than half is
// dead or which only the cache has, and as many as must be so that no more than kMapsMax remain. What is
// merged loses its dead entries,
// and of one chunk keeps the newest that is alive. With nothing fresh and little that is dead: base's own.
Result<std::vector<ObjectRef>> add_run(const ChunkRunOptions& options, const std::vector<ChunkEntry>& fresh,
                                       const std::vector<std::string>& packs, ChunkIndex* base);

}  // namespace kuramori
