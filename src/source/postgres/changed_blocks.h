// Which blocks a stretch of WAL changes, so that an incremental snapshot reads those pages and no others. Pure:
// records in, sets out; docs/postgres.md, "Changed blocks".
#pragma once
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
  Fork fork = Fork::kMain;
  auto operator<=>(const ForkFile&) const = default;
};

// Blocks are numbered through the whole relation, not within its files of 1 GiB.
struct ChangedFork {
  // The fork was made, dropped or cut to this many blocks in between: whatever the base has from here on is
  // not the same any more, though `blocks` may not mention it (P7).
  std::optional<uint32_t> limit;
  std::vector<uint32_t> blocks;  // ascending, each once
};

struct ChangedBlocks {
  uint64_t system_id = 0;
  Timeline timeline = 0;  // of the last record
  // Every record that begins in [from, to) was seen, whole. A record that spans two segments belongs to the
  // range in which it begins, and is in the record of the segment in which it ends.
  Lsn from = 0, to = 0;
  std::map<ForkFile, ChangedFork> forks;
  // Databases (tablespace, database) whose files were copied or removed without a record for each (P6).
  std::set<std::pair<uint32_t, uint32_t>> whole_databases;
  bool was_minimal = false;  // wal_level was minimal somewhere in between: nothing here can be trusted

  // Lays the changes of a later stretch over these. kRefused, in words: another system, or a hole between.
  Result<void> append(const ChangedBlocks& later);
};

Bytes encode(const ChangedBlocks& changed);
Result<ChangedBlocks> decode_changed_blocks(ByteView bytes);

// Collects, record by record.
class ChangedBlocksCollector {
 public:
  ChangedBlocksCollector(uint64_t system_id, Lsn from);
  Result<void> see(const WalRecord& record);
  ChangedBlocks take(Lsn to);  // what was collected; empty again, from `to` on

 private:
  ChangedBlocks changed_;
};

}  // namespace kuramori::postgres
