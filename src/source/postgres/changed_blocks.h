// Which blocks a stretch of WAL changes, so that an incremental snapshot reads those pages and no others.
// Pure: records in, sets out; docs/postgres.md, "Changed blocks".
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "source/postgres/lsn.h"
#include "source/postgres/wal_reader.h"

namespace kuramori::postgres {

struct ForkFile {
  RelationFile file;
  Fork fork = Fork::kMain;  // main or init: free space and visibility maps are always read whole
  auto operator<=>(const ForkFile&) const = default;
};

// Blocks are numbered through the whole relation, not within its files of 1 GiB.
struct ChangedFork {
  // The fork was made, dropped or cut to this many blocks in between: whatever the base has from here on is
  // not the same any more, though `blocks` may not mention it (P7).
  std::optional<uint32_t> limit;
  std::vector<uint32_t> blocks;  // ascending, each once; some may lie at or behind `limit`
  bool operator==(const ChangedFork&) const = default;
};

struct ChangedBlocks {
  uint64_t system_id = 0;
  Timeline timeline = 0;  // of the last record; a segment's own where it is a segment's
  // Every record that begins in [from, to) was seen, whole. A record that spans two segments belongs to the
  // range in which it begins, and is in the record of the segment in which it ends: there `from` lies in the
  // segment before.
  Lsn from = 0, to = 0;
  std::map<ForkFile, ChangedFork> forks;
  // Databases (tablespace, database) whose files were copied or removed without a record for each (P6).
  std::set<std::pair<uint32_t, uint32_t>> whole_databases;
  bool was_minimal = false;  // wal_level was minimal somewhere in between: nothing here can be trusted
  bool operator==(const ChangedBlocks&) const = default;

  // Lays the changes of a later stretch over these; ranges may overlap. kRefused, in words: another system, a
  // timeline before this one's, or a hole between.
  Result<void> append(const ChangedBlocks& later);
};

// What one encoded record may hold: 128 GiB of pages. More is never written (encode gives nothing, and
// whoever comes later sees a hole) and refused when read: the bytes come out of a vault that an enemy may
// have filled.
constexpr uint32_t kChangedBlocksMax = 16u << 20;
constexpr uint32_t kChangedForksMax = 1u << 20;

std::optional<Bytes> encode(const ChangedBlocks& changed);
Result<ChangedBlocks> decode_changed_blocks(ByteView bytes);  // kDamaged; kRefused: of a newer version

// Collects, record by record. Memory: eight bytes a block, twice that while it grows.
class ChangedBlocksCollector {
 public:
  ChangedBlocksCollector(uint64_t system_id, Lsn from);
  // kDamaged: the record's data do not add up; the collection is worth nothing then.
  Result<void> see(const WalRecord& record);
  ChangedBlocks take(Lsn to);  // what was collected; empty again, from `to` on

 private:
  // Some ten references go to the same block: they are told apart here, and only what is left is sorted.
  class BlockSet {
   public:
    bool insert(uint64_t key);  // false: it was there
    void clear();

   private:
    std::vector<uint64_t> slots_;  // key + 1; 0: free
    size_t used_ = 0;
    void grow();
  };
  static constexpr size_t kRecentForks = 256;

  ChangedBlocks changed_;  // all but the blocks of `forks`, which stand in lists_
  std::vector<ForkFile> files_;
  std::vector<std::vector<uint32_t>*> lists_;  // of changed_.forks, by number
  std::map<ForkFile, uint32_t> numbers_;
  std::array<uint32_t, kRecentForks> recent_{};  // where a fork's number is tried first
  BlockSet seen_;

  uint32_t number_of(const ForkFile& file);
  void limit(const ForkFile& file, uint32_t blocks);
  void touch(const BlockRef& block);
};

}  // namespace kuramori::postgres
