// What must hold before a capture may begin, and how backup mode is entered and left: the SQL half of a
// capture.
#pragma once
#include <span>
#include <string>

#include "source/postgres/capture.h"
#include "source/postgres/control_file.h"
#include "source/postgres/server.h"

namespace kuramori::postgres {

constexpr unsigned kControlReadsMax = 20;                          // of pg_control, while it is written
constexpr Duration kControlPause = std::chrono::milliseconds(20);  // between them
constexpr int64_t kStartTimeSlackSeconds =
    60;  // postmaster.pid and pg_postmaster_start_time() may differ by this

struct ControlBytes {
  Bytes bytes;
  ControlFile parsed;
};
// pg_control of a data directory; read again while its CRC is wrong, as it is rewritten in place (P11).
Result<ControlBytes> read_control_file(const std::string& data_directory, Clock& clock);

// The data directory of this very server, without symbolic links; kRefused, in words, when it is another one
// (P15), has pages of another size, or its WAL level does not allow a backup.
Result<std::string> find_data_directory(const std::string& wanted, const ServerFacts& facts, Clock& clock);
Result<void> check_can_be_captured(const ServerFacts& facts, const ControlFile& control);

// A temporary slot of this session, so that WAL since the start is not recycled before it was taken. A role
// that may not make one, or a server without a free one, gets a warning and no slot.
Result<bool> reserve_wal(Connection& connection, const ServerFacts& facts, Reporter& reporter);

// As it may stand on its line of backup_label.
std::string safe_label(std::string_view wanted);
Result<Lsn> start_backup(Connection& connection, const ServerFacts& facts, const CaptureOptions& options);

// What the server and its control file say of themselves before a capture, host or wire.
void describe_server(const ServerFacts& facts, const ControlFile& control, CaptureStart& start);

struct StoppedBackup {
  Lsn stop_lsn = 0;
  std::string backup_label, tablespace_map;
};
Result<StoppedBackup> stop_backup(Connection& connection, const ServerFacts& facts);

// Nothing may have changed under us that makes start and stop two different histories (P15, P20). `control`:
// as it is after the stop at `stop`.
Result<void> check_one_history(Connection& connection, const CaptureStart& start, const ControlFile& control,
                               Lsn stop);

// Recovery refuses folders in pg_tblspc unless allow_in_place_tablespaces is on.
bool has_in_place_tablespace(std::span<const CaptureFile> files);

// Settings and libraries that a restored server needs, for the commit.
Result<std::map<std::string, std::string>> restore_facts(Connection& connection, const ServerFacts& facts);

}  // namespace kuramori::postgres
