// What WAL says that matters for choosing a recovery target and for trusting an incremental snapshot. Pure:
// records in, facts out.
#pragma once
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/world.h"
#include "source/postgres/control_file.h"
#include "source/postgres/wal_reader.h"

namespace kuramori::postgres {

// PostgreSQL counts microseconds from 2000-01-01T00:00:00Z.
Time time_of_postgres(int64_t microseconds);

// A transaction's end: commit, abort, COMMIT PREPARED, ROLLBACK PREPARED.
struct TransactionEnd {
  bool is_commit = false;
  bool was_prepared = false;
  uint32_t xid = 0;  // of the transaction itself, also when it was prepared
  Time at{};
  std::vector<uint32_t> subtransactions;
  std::vector<RelationFile> dropped_files;  // relation files that go with it
};
struct RestorePoint {
  std::string name;
  Time at{};
};
struct Checkpoint {
  bool is_shutdown = false;
  Lsn redo = 0;
  Timeline timeline = 0, previous_timeline = 0;  // they differ: a timeline begins here
  uint32_t next_xid = 0;                         // none that is at or after it had begun at redo
  bool full_page_writes = false;
  Time at{};  // whole seconds
};
// From 17 on: the very place an online checkpoint's redo points to.
struct CheckpointRedo {};
struct ParameterChange {
  RecoverySettings settings;
};
struct FullPageWritesChange {
  bool is_on = false;
};
struct EndOfRecovery {  // a timeline begins: promotion without a checkpoint
  Time at{};
  Timeline timeline = 0, previous_timeline = 0;
};
struct BackupEnd {
  Lsn start = 0;  // of the backup that ended
};
struct OverwrittenRecord {  // after a crash: the record that began there was given up
  Lsn lsn = 0;
};
struct DatabaseCreated {
  uint32_t database = 0, tablespace = 0;
  bool by_file_copy = false;  // its files were copied without WAL (P6)
  uint32_t source_database = 0, source_tablespace = 0;
};
struct DatabaseDropped {
  uint32_t database = 0;
  std::vector<uint32_t> tablespaces;
};
struct FileCreated {
  RelationFile file;
  Fork fork = Fork::kMain;
};
struct FileTruncated {  // P7
  RelationFile file;
  uint32_t blocks = 0;  // that are left of the main fork
  bool main = false, vm = false, fsm = false;
};
struct TablespaceCreated {
  uint32_t tablespace = 0;
  std::string path;
};
struct TablespaceDropped {
  uint32_t tablespace = 0;
};
using WalFact =
    std::variant<TransactionEnd, RestorePoint, Checkpoint, CheckpointRedo, ParameterChange,
                 FullPageWritesChange, EndOfRecovery, BackupEnd, OverwrittenRecord, DatabaseCreated,
                 DatabaseDropped, FileCreated, FileTruncated, TablespaceCreated, TablespaceDropped>;

// Nothing: the record says none of this. kDamaged: it should, but its data do not add up.
Result<std::optional<WalFact>> fact_of(const WalRecord& record);

// Where recovery has to stop. `lsn` is the record's begin: give it to the server as recovery_target_lsn with
// recovery_target_inclusive = on, and exactly this record is the last one replayed.
struct TargetPoint {
  Lsn lsn = 0;
  Lsn end = 0;
  Timeline timeline = 0;
  uint32_t xid = 0;  // 0: a restore point
  Time at{};
};

// Finds by one pass over the WAL where --at, --xid or --name lead. Show it every record of the range in
// order.
//
// As PostgreSQL does it, a time is reached before the first transaction end that is later; transactions end
// out of order by microseconds, so one with an earlier time may stand behind: `later_but_earlier` counts
// those.
class TargetFinder {
 public:
  struct Wanted {
    std::optional<Time> at;  // inclusive: a commit at exactly this time belongs to it
    std::optional<uint32_t> xid;
    std::optional<std::string> name;  // of several restore points with it the first counts, as in PostgreSQL
  };
  explicit TargetFinder(Wanted wanted) : wanted_(std::move(wanted)) {}
  Result<void> see(const WalRecord& record);
  Result<void> see(const WalRecord& record, const WalFact& fact);  // when the caller already asked fact_of()

  // --at: the last transaction end not later than it; nothing if none stands in the range. --xid, --name: the
  // record.
  const std::optional<TargetPoint>& found() const { return found_; }
  // True when nothing in later WAL can change the answer: the first later transaction end (or the record) was
  // seen. False for --at: the archive ends first; the time is reached only if WAL is known to be archived
  // past it.
  bool is_settled() const { return settled_; }
  const std::optional<TargetPoint>& first_later() const { return first_later_; }  // --at
  uint64_t later_but_earlier() const { return later_but_earlier_; }               // --at
  // The newest time any transaction end, restore point or checkpoint of the range carries: how far the WAL
  // goes.
  const std::optional<Time>& newest_time() const { return newest_; }

 private:
  Wanted wanted_;
  std::optional<TargetPoint> found_, first_later_;
  std::optional<Time> newest_;
  uint64_t later_but_earlier_ = 0;
  bool settled_ = false;
  void see_end(const TransactionEnd& end, const TargetPoint& point);
  void see_time(Time at);
};

}  // namespace kuramori::postgres
