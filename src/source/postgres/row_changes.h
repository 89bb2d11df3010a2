// How many rows the WAL adds to each table and takes from it: by how much a count made at one moment may
// differ from what is there at a later one.
//
// Bounds, not results: rows of transactions that were rolled back are counted too, and so are those of
// transactions that the count saw already but that are not older than `oldest`. They only make the bounds
// wider. What would make them wrong — writes that came before the WAL that is seen — is_complete() tells.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "base/error.h"
#include "source/postgres/counts.h"
#include "source/postgres/wal_facts.h"

namespace kuramori::postgres {

class RowChanges {
 public:
  // `oldest`: of the transactions that were not over when the rows were counted (a snapshot's xmin). `redo`:
  // where the WAL that will be seen begins, the redo position of a checkpoint.
  RowChanges(uint32_t oldest, Lsn redo) : oldest_(oldest), redo_(redo) {}

  // Every record, in order; what lies before `redo` is passed over.
  Result<void> see(const WalRecord& record);

  struct Table {
    int64_t inserted = 0, deleted = 0;
    bool replaced = false;  // truncated, rewritten or dropped: numbers say nothing
  };
  // By the database's oid and the table's file number (pg_relation_filenode) when it was counted.
  Table of(uint32_t database, uint32_t file_number) const;
  // Whether the WAL seen holds all that transactions from `oldest` on wrote: none of them is older than the
  // checkpoint it began with.
  bool is_complete() const { return complete_; }

 private:
  uint32_t oldest_;
  Lsn redo_;
  std::map<std::pair<uint32_t, uint32_t>, Table> tables_;
  bool saw_checkpoint_ = false, complete_ = false;
};

// The xmin of what pg_current_snapshot() says ("xmin:xmax:…"), as WAL has it: without its epoch.
std::optional<uint32_t> oldest_of_snapshot(std::string_view snapshot);
// The oldest of all databases' snapshots, which were taken within moments of each other; nothing without any.
std::optional<uint32_t> oldest_of_counts(const Counts& counts);

}  // namespace kuramori::postgres
