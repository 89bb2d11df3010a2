// global/pg_control of PostgreSQL 13 to 18 (x86-64): who the cluster is, where recovery would begin, and the
// settings a restored server must not have lower than the one that wrote the WAL.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/world.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

constexpr size_t kControlFileBytes = 8192;    // as PostgreSQL writes it, padded with zeros
constexpr size_t kControlFileBytesMin = 296;  // all that is ever read of it
constexpr int kMajorMin = 13, kMajorMax = 18;

enum class ClusterState : uint8_t {
  kStartingUp = 0,
  kShutDown = 1,
  kShutDownInRecovery = 2,
  kShuttingDown = 3,
  kInCrashRecovery = 4,
  kInArchiveRecovery = 5,
  kInProduction = 6,
};
std::string_view name_of(ClusterState state);  // "in production", as pg_controldata says

enum class WalLevel : uint8_t { kMinimal = 0, kReplica = 1, kLogical = 2 };
std::string_view name_of(WalLevel level);  // as in postgresql.conf

// A standby must not have these lower than its primary had: it stops when it meets the record that says so.
struct RecoverySettings {
  WalLevel wal_level = WalLevel::kMinimal;
  bool wal_log_hints = false;
  bool track_commit_timestamp = false;
  uint32_t max_connections = 0;
  uint32_t max_worker_processes = 0;
  uint32_t max_wal_senders = 0;
  uint32_t max_prepared_transactions = 0;
  uint32_t max_locks_per_transaction = 0;
  bool operator==(const RecoverySettings&) const = default;
};

struct ControlFile {
  int major = 0;  // 13 … 18, by the catalog version
  uint64_t system_id = 0;
  uint32_t control_version = 0;  // 1300 (13 to 16), 1700 or 1800
  uint32_t catalog_version = 0;
  ClusterState state = ClusterState::kStartingUp;
  Time written_at{};  // whole seconds

  Lsn checkpoint = 0;  // where the last checkpoint's record begins
  Lsn redo = 0;        // where recovery from it begins
  Timeline timeline = 0;
  Timeline previous_timeline = 0;
  bool full_page_writes = false;
  uint64_t next_xid = 0;  // with its epoch in the upper half
  uint32_t next_oid = 0;
  Time checkpoint_at{};  // whole seconds

  Lsn min_recovery_point = 0;  // a standby is consistent from here; 0 on a primary
  Timeline min_recovery_timeline = 0;
  Lsn backup_start = 0, backup_end = 0;  // recovery from a backup has not reached its end
  bool backup_end_required = false;

  RecoverySettings settings;
  uint32_t block_bytes = 0;
  uint32_t blocks_per_file = 0;  // of a relation: 131,072 are 1 GiB
  uint32_t wal_block_bytes = 0;
  uint32_t segment_bytes = 0;     // WAL
  uint32_t checksum_version = 0;  // of data pages; 0: none
};

// Pure. A wrong CRC or an impossible value is kDamaged; a layout or catalog that is none of 13 to 18, or
// another machine's (alignment, floats), is kRefused.
Result<ControlFile> parse_control_file(ByteView bytes);
// The major whose released catalog this is; 0: none that is known.
int major_of_catalog(uint32_t catalog_version);

}  // namespace kuramori::postgres
