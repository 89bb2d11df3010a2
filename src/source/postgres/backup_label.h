// The small text files of a physical backup: backup_label (where recovery begins), tablespace_map (where the
// tablespaces were) and the backup history file of the archive. Read as PostgreSQL 13 to 18 write them.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "source/postgres/lsn.h"

namespace kuramori::postgres {

constexpr size_t kBackupLabelBytesMax = 64u << 10;
constexpr size_t kTablespaceMapBytesMax = 16u << 20;

struct BackupLabel {
  Lsn start = 0;                    // START WAL LOCATION: recovery begins here (the checkpoint's redo)
  std::string start_file;           // the segment, by name
  Lsn checkpoint = 0;               // CHECKPOINT LOCATION
  std::string method = "streamed";  // BACKUP METHOD; "pg_start_backup" was the exclusive one
  bool from_standby = false;        // BACKUP FROM: standby; otherwise primary ("master" before 14)
  std::string start_time;           // as the server wrote it, in its own zone
  std::string label;
  Timeline timeline = 0;  // START TIMELINE
  // INCREMENTAL FROM (17 and later): the server refuses to start on it; such a copy is not complete in
  // itself.
  std::optional<Lsn> incremental_from;
  Timeline incremental_from_timeline = 0;
};

// Unknown lines are kDamaged: each line tells where recovery begins, and PostgreSQL adds new ones with a
// reason.
Result<BackupLabel> parse_backup_label(std::string_view text);
// As the server writes it: what parse_backup_label() reads back.
std::string compose_backup_label(const BackupLabel& label);

// What pg_backup_stop leaves in the archive as SEGMENT.OFFSET.backup: the label, and where the backup ended.
struct BackupHistory {
  BackupLabel label;
  Lsn stop = 0;
  std::string stop_file, stop_time;
  Timeline stop_timeline = 0;
};
Result<BackupHistory> parse_backup_history(std::string_view text);

struct TablespaceLink {
  uint32_t oid = 0;
  std::string path;
  bool operator==(const TablespaceLink&) const = default;
};
// Lines "OID PATH"; a backslash stands before a newline, a carriage return or a backslash of the path.
Result<std::vector<TablespaceLink>> parse_tablespace_map(std::string_view text);
std::string compose_tablespace_map(const std::vector<TablespaceLink>& links);

}  // namespace kuramori::postgres
