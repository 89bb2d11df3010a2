// A run of the chunk index: one immutable object that says where chunks lie, sorted by their ids.
//
// Problem: with a hundred million chunks neither the writer of a run nor who looks something up may hold the
// entries. Approach: entries in sealed blocks of one size, so that a block is found by its number; behind
// them a table that is small enough to hold — of each block the first bytes of its first id (a fence) and a
// Bloom filter of its ids, besides the packs. A filter a block rather than one of all ids: it is done when
// its block is, whatever number of entries follows, and a lookup touches 160 bytes of it in a row.
//
// Layout and reasons: docs/vault-format.md, "Chunk index".
#pragma once
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "store/store.h"
#include "vault/chunk_id.h"
#include "vault/records.h"

namespace kuramori {

struct PipelineFaults;

constexpr size_t kChunkBlockPlainBytes = 4096;
constexpr size_t kChunkFilterBytes = 160;  // a block; some 124 entries fill one: ten bits an id
constexpr size_t kChunkFilterProbes = 7;

// Where one chunk lies. How long it is, whoever looks for it knows: it is not told.
struct ChunkEntry {
  ChunkId id;
  uint32_t pack = 0;  // index into the packs beside it
  uint32_t frame = 0;
  uint32_t offset = 0;  // within the frame's plain bytes, veiled (vault/chunk_id.h)
  bool operator==(const ChunkEntry&) const = default;
};

// Writes a run as its entries come. What it holds: a block, the fences and filters, the packs.
class ChunkRunWriter {
 public:
  // Nothing exists in the store until finish(). Borrows all but the name.
  static Result<std::unique_ptr<ChunkRunWriter>> create(Store& store, const KeyBundle& keys, Random& random,
                                                        std::string name, const ResourceId& scope);
  ~ChunkRunWriter();

  // The number of a pack within this run; at any time. kFailed: it is no pack's name (an incarnation's is
  // none: entries name the original).
  Result<uint32_t> pack(std::string_view name);
  // Ids ascending, each once. Every block is opened again and compared before it goes (V9); after an error
  // the run is dead.
  Result<void> add(const ChunkEntry& entry);
  uint64_t entries() const;
  // At least one entry was added.
  Result<ObjectRef> finish();
  void provoke(PipelineFaults* faults);  // tests only: after_filter (a block's plain bytes), after_seal

 private:
  struct State;
  explicit ChunkRunWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The table of a run, opened: what is held in memory of it. Blocks are read where the caller keeps the bytes.
// Never changed once opened: any thread may ask.
class ChunkRun {
 public:
  // Fills `out` from `offset` of the object.
  using ReadAt = std::function<Result<void>(uint64_t offset, MutableByteView out)>;

  // kDamaged: these are not the bytes of that run, or not all of them.
  static Result<ChunkRun> open(const ReadAt& read, uint64_t object_bytes, const KeyBundle& keys,
                               const std::string& name);

  uint64_t entries() const { return entries_; }
  // Where blocks lie in the object: one after the other, of one size.
  uint64_t offset_of(uint32_t block) const;
  uint32_t blocks() const { return static_cast<uint32_t>(fences_.size()); }
  size_t packs() const { return packs_.size(); }
  std::string pack_name(uint32_t pack) const;
  // The last block that may hold `id`; nothing: none does.
  std::optional<uint32_t> last_block_for(const ChunkId& id) const;
  // Whether the block before may hold it too: the fences are the same.
  bool goes_on_before(uint32_t block, const ChunkId& id) const;
  bool may_be_in(uint32_t block, const ChunkId& id) const;
  // Ascending by id. kDamaged: the bytes are not what was sealed there.
  Result<std::vector<ChunkEntry>> read_block(const ReadAt& read, uint32_t block) const;
  size_t memory_bytes() const;

 private:
  struct PackNumber {
    uint32_t session = 0;  // index into sessions_
    uint32_t number = 0;
  };
  Result<void> read_head(const ReadAt& read, uint64_t object_bytes, const KeyBundle& keys);
  Result<void> read_table(const ReadAt& read, uint64_t from, uint64_t to);
  Error damaged(std::string_view why) const;

  std::string name_;
  FamilyId family_;
  Secret key_;
  uint64_t blocks_at_ = 0;
  uint64_t entries_ = 0;
  std::vector<SessionId> sessions_;
  std::vector<PackNumber> packs_;
  std::vector<uint64_t> fences_;  // as big-endian numbers
  Bytes filters_;
};

// Whether an object begins as a run of the chunk index does (a page map stands under such a name as well).
// What it is, is told by check_chunk_run().
constexpr size_t kRunBeginBytes = 5;  // enough to tell
bool is_chunk_run(ByteView object);
// Every byte of a run: the checksum, every block, and that table and blocks agree. Read from front to back, a
// piece at a time, after its table. Returns the digest of the object.
Result<Digest> check_chunk_run(const ChunkRun::ReadAt& read, uint64_t object_bytes, const KeyBundle& keys,
                               const std::string& name);
Result<void> check_chunk_run(ByteView object, const KeyBundle& keys, const std::string& name);

}  // namespace kuramori
