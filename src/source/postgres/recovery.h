// Makes a restored data directory recover to where it was told, and to nowhere else: recovery.signal and
// settings (never recovery.conf, S1), no archiving into its parent's history (P51), nothing that leads back
// to the original server's directories (P48), a configuration even where Debian keeps it outside (P56).
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "source/postgres/control_file.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

enum class RecoveryMode : uint8_t {
  kNone,     // a cleanly stopped copy: it just starts (P54: with wal_level minimal it must not recover)
  kCrash,    // backup_label present, all WAL it needs is in its own pg_wal: no archive, no signal file
  kArchive,  // recovery.signal: to the target, then `action`
  kStandby,  // standby.signal: goes on following
};
enum class AtTarget : uint8_t { kPromote, kPause, kShutdown };
std::string_view name_of(AtTarget action);  // as PostgreSQL writes it

struct RecoveryConfig {
  RecoveryMode mode = RecoveryMode::kArchive;
  std::string restore_command;    // whole, with %f and %p
  bool immediate = false;         // stop as soon as the base is consistent
  std::optional<Lsn> target_lsn;  // start of the record to stop at
  bool inclusive = true;          // replay that record too
  Timeline timeline = 0;          // written as a number, never `latest`
  AtTarget action = AtTarget::kPromote;
  bool continue_archiving = false;           // --continue: the new timeline goes to the same archive
  std::string archive_command;               // with continue_archiving
  std::string primary_conninfo;              // kStandby, may be empty
  std::optional<RecoverySettings> limits;    // of pg_control: a hot standby must have at least as much
  std::map<std::string, std::string> extra;  // more settings; the caller's word is last
};

// A `name = value` line of a configuration file, or an include of one.
struct ConfigLine {
  std::string name;   // lower case
  std::string value;  // unquoted
  size_t line = 0;    // from 0
};
std::vector<ConfigLine> parse_config(std::string_view text);
std::string quote_value(std::string_view value);  // it's → 'it''s'

// A restore_command that takes files from a folder of fetched segments: for a sandbox, which has no network
// and no key. Everything the plan needs must be there before the start; what is not there is the end.
std::string spool_restore_command(const std::string& folder);

// The settings written, in order. Exactly one recovery target is ever among them.
std::vector<std::pair<std::string, std::string>> recovery_settings(const RecoveryConfig& settings);
// Settings a restored copy must not inherit from its parent: those of an earlier recovery, the way to a
// primary, paths of the original server. `text` with such lines commented out.
std::string without_inherited(std::string_view text, bool keep_archiving);

struct ConfigureReport {
  std::vector<std::string> notes;  // for people: what was disabled, what was written because it was missing
};
// Writes it all into `data_directory`, durably. May be repeated.
Result<ConfigureReport> configure_recovery(const std::string& data_directory, const RecoveryConfig& settings);

// shared_preload_libraries & co of the restored configuration that this machine lacks. `library_folders`:
// where to look, see library_folders_of.
std::vector<std::string> missing_libraries(std::string_view shared_preload_libraries,
                                           const std::vector<std::string>& library_folders);
std::vector<std::string> library_folders_of(const std::string& bin_folder);
// The value in force by postgresql.conf then postgresql.auto.conf of `data_directory` (includes are not
// followed).
std::optional<std::string> configured_value(const std::string& data_directory, std::string_view name);

}  // namespace kuramori::postgres
