// Row counts of a cluster's tables, taken so that a restored copy can be held to them: in one REPEATABLE READ
// snapshot a database, with a named restore point made while the snapshots stand. A proof stops recovery at
// that point.
//
// What may be claimed: if no transaction ended between the snapshot and the restore point (`exact`), every
// counted table must have exactly its rows; else a table that nobody wrote to around it (`touched` false)
// must, and others lie within what the WAL says. A table that was not counted says why.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/reporter.h"
#include "base/world.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

// Where the engine keeps them in a snapshot's tree: names of tables are content.
constexpr std::string_view kCountsPath = ".kuramori/counts.json";
constexpr Duration kCountsBudget = std::chrono::seconds(30);
constexpr Duration kCountsLockWait = std::chrono::seconds(2);  // for a table that somebody locks
constexpr size_t kCountedTablesMax = 1'000'000;                // of all databases
constexpr size_t kCountsBytesMax = size_t{512} << 20;          // of the encoded form

enum class CountsMode : uint8_t { kOff, kAll, kTables, kBudget };

struct CountsOptions {
  CountsMode mode = CountsMode::kBudget;
  std::vector<std::string> tables;  // kTables: "schema.table" or "database.schema.table"
  Duration budget = kCountsBudget;  // kBudget: no table is begun after it, and none is counted longer
  std::string restore_point;        // its name; empty: none is made
};

struct TableCount {
  std::string schema, table;
  uint32_t oid = 0;
  uint32_t file_number =
      0;  // pg_relation_filenode() at the count; 0: it has no file of its own, or is not known
  std::optional<uint64_t> rows;
  std::string
      uncounted;       // why there are no rows: "budget of 30 s used up", "unlogged: empty after a restore" …
  uint64_t bytes = 0;  // of its heap, as the last VACUUM or the statistics say
  int64_t inserted = 0, updated = 0, deleted = 0;  // pg_stat_all_tables, before the snapshot
  bool touched = false;                            // those moved while the snapshot stood
};

struct DatabaseCounts {
  std::string name;
  uint32_t oid = 0;      // 0: not known
  std::string snapshot;  // pg_current_snapshot()
  bool exact = false;    // no writer was under way from the snapshot to the restore point
  std::vector<TableCount> tables;
  std::string uncounted;  // why none was counted
};

struct Counts {
  int64_t taken_ns = 0;
  std::string restore_point;  // empty on a standby
  Lsn restore_point_lsn = 0;
  std::vector<DatabaseCounts> databases;
};

// After Capture::finish(): recovery to the restore point must reach the snapshot's end. kDenied when the role
// may not make a restore point; tables it may not read are `uncounted`.
Result<Counts> count_rows(const std::string& connect, const CountsOptions& options, Clock& clock,
                          Reporter& reporter);

Bytes encode_counts(const Counts& counts);    // JSON
Result<Counts> decode_counts(ByteView text);  // kDamaged

}  // namespace kuramori::postgres
