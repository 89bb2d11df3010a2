// What is wrong or risky about a PostgreSQL server that is to be protected, why, and the exact line that
// mends it.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"
#include "source/postgres/capture.h"
#include "source/postgres/server.h"

namespace kuramori::postgres {

enum class Severity : uint8_t {
  kProblem,  // backups do not work, or what they promise does not hold
  kRisk,     // they work; one more mishap and data is lost or the server stops
  kHint,     // worth knowing
};
std::string_view name_of(Severity severity);

struct Finding {
  Severity severity = Severity::kHint;
  std::string about;  // the setting or thing: "wal_level"
  std::string what;   // "wal_level is minimal"
  std::string why;
  std::string fix;             // one line to type: SQL, or a command
  bool needs_restart = false;  // of the server, for the fix to take effect; else a reload
};

struct ServerActivity {
  int64_t archived = 0, archive_failures = 0;
  bool archive_failing = false;  // the last try failed after the last success
  std::string last_failed_wal;
  int64_t senders_used = 0;  // wal senders at work
  int64_t requested_checkpoints = 0, timed_checkpoints = 0;
  std::vector<std::string> idle_slots;  // hold WAL and nobody reads them
  bool is_streamed = false;             // a `kuramori wal stream` reads its slot now
  bool has_relics = false;              // recovery.conf in the data directory
  bool directory_readable = true;
  bool is_elsewhere = false;                // its files are not on this machine
  bool over_the_wire = false;               // snapshots come over the replication protocol
  std::string replication_refused;          // then: why no replication connection can be opened
  std::vector<std::string> missing_rights;  // "EXECUTE ON FUNCTION pg_backup_start(text, boolean)"
  int64_t now = 0;                          // seconds since 1970
};

// Pure: the judgement, apart from the looking.
std::vector<Finding> judge(const ServerFacts& facts, const ServerActivity& activity);

// Looks and judges. Settings a conninfo cannot reach (a server that is down) are the error of connecting.
Result<std::vector<Finding>> examine_server(const std::string& connect, CaptureWay way = CaptureWay::kAuto);

// Relics that keep a server of today from starting (S1, S2), in the text of a postgresql.conf.
std::vector<Finding> judge_config_text(const std::string& path, std::string_view text);

}  // namespace kuramori::postgres
