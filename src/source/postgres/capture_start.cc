#include "source/postgres/capture_start.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "os/file.h"
#include "source/postgres/page_reader.h"

namespace kuramori::postgres {
namespace {

constexpr size_t kPidFileBytesMax = 64 << 10;
constexpr size_t kLabelCharsMax = 900;  // PostgreSQL allows 1,024

// Lines of postmaster.pid (miscadmin.h), from 0.
constexpr size_t kPidFileStartTime = 2, kPidFilePort = 3;

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

Error not_this_directory(const std::string& path, std::string why) {
  return fail(ErrorKind::kRefused,
              fmt::format("{} is not the data directory of the server that answers", path), std::move(why),
              "psql -c 'SHOW data_directory', and give the connection string of that very server");
}

Error cannot_read(Error error, const std::string& path) {
  if (error.kind == ErrorKind::kNotFound) {
    return fail(
        ErrorKind::kRefused, fmt::format("the server's data directory {} is not on this machine", path),
        "a capture reads the files beside the server (or the server runs in a container with other paths)",
        "run this on the server's own host, or let the server send its files: capture: replication");
  }
  if (error.kind == ErrorKind::kDenied) {
    return fail(
        ErrorKind::kDenied, fmt::format("may not read the data directory {}", path), error.why,
        "run this as the user the server runs as (usually: sudo -u postgres), or let its group read it "
        "(initdb --allow-group-access; see docs/postgres.md, \"Permissions\")");
  }
  return error;
}

// GRANT lines for what pg_backup_start and its like are called in this version.
std::string grant_for(const ServerFacts& facts, const Connection& connection) {
  const std::string role = connection.quoted_name(facts.role);
  if (facts.major() >= 15) {
    return fmt::format(
        "psql -c 'GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean) TO {}'",
        role);
  }
  return fmt::format(
      "psql -c 'GRANT EXECUTE ON FUNCTION pg_start_backup(text, boolean, boolean), pg_stop_backup(boolean, "
      "boolean) "
      "TO {}'",
      role);
}

}  // namespace

std::string safe_label(std::string_view wanted) {
  std::string label(wanted.empty() ? "kuramori" : wanted.substr(0, kLabelCharsMax));
  for (char& c : label) {
    if (static_cast<unsigned char>(c) < ' ') c = '_';
  }
  return label;
}

Result<ControlBytes> read_control_file(const std::string& data_directory, Clock& clock) {
  const std::string path = join_path(data_directory, "global/pg_control");
  Error last;
  for (unsigned reads = 0; reads < kControlReadsMax; ++reads) {
    if (reads > 0) clock.sleep(kControlPause);
    TRY_ASSIGN(Bytes bytes, read_file(path, 2 * kControlFileBytes));
    auto parsed = parse_control_file(bytes);
    if (parsed) return ControlBytes{.bytes = std::move(bytes), .parsed = *std::move(parsed)};
    last = std::move(parsed).error();
    if (last.kind != ErrorKind::kDamaged) break;
  }
  return std::move(last).within(path);
}

Result<std::string> find_data_directory(const std::string& wanted, const ServerFacts& facts, Clock& clock) {
  const std::string named = wanted.empty() ? facts.data_directory : wanted;
  std::error_code failed;
  const std::string path = std::filesystem::canonical(named, failed).string();
  if (failed) return cannot_read(system_error(fmt::format("open {}", named), failed.value()), named);
  auto control = read_control_file(path, clock);
  if (!control) return cannot_read(std::move(control).error(), named);
  if (control->parsed.system_id != facts.system_id) {
    return not_this_directory(named, fmt::format("its pg_control is of system {}, the server is system {}",
                                                 control->parsed.system_id, facts.system_id));
  }
  // A clone has the same system id; only the running server's own directory has its pid file.
  auto pid_file = read_file(join_path(path, "postmaster.pid"), kPidFileBytesMax);
  if (!pid_file) {
    if (pid_file.error().kind == ErrorKind::kNotFound)
      return not_this_directory(named, "no server runs on it");
    return cannot_read(std::move(pid_file).error(), named);
  }
  const std::vector<std::string_view> lines = lines_of(as_text(*pid_file));
  int64_t started = 0;
  if (lines.size() > kPidFilePort) {
    const std::string_view text = lines[kPidFileStartTime];
    std::from_chars(text.data(), text.data() + text.size(), started);
  }
  if (lines.size() <= kPidFilePort || std::abs(started - facts.started_at) > kStartTimeSlackSeconds ||
      lines[kPidFilePort] != facts.setting("port")) {
    return not_this_directory(named, "its postmaster.pid is of another server (other start time or port)");
  }
  return path;
}

Result<void> check_can_be_captured(const ServerFacts& facts, const ControlFile& control) {
  if (control.block_bytes != kPageBytes || control.blocks_per_file != kPagesPerRelationFile) {
    return fail(
        ErrorKind::kRefused,
        fmt::format("this PostgreSQL was built with pages of {} bytes and {} to a file", control.block_bytes,
                    control.blocks_per_file),
        fmt::format("only the usual {} bytes and {} pages are supported", kPageBytes, kPagesPerRelationFile));
  }
  if (facts.setting("wal_level") == "minimal") {
    return fail(ErrorKind::kRefused, "the server writes too little WAL for a backup (wal_level = minimal)",
                "a copy made while the server runs is repaired by WAL when it is restored",
                "psql -c 'ALTER SYSTEM SET wal_level = replica', then restart PostgreSQL");
  }
  if (facts.in_recovery && !control.full_page_writes) {
    return fail(
        ErrorKind::kRefused, "the primary of this standby does not write full pages (full_page_writes = off)",
        "a page that was caught half written could not be repaired",
        "on the primary: psql -c 'ALTER SYSTEM SET full_page_writes = on' -c 'SELECT pg_reload_conf()' "
        "-c CHECKPOINT");
  }
  return {};
}

Result<bool> reserve_wal(Connection& connection, const ServerFacts& facts, Reporter& reporter) {
  const std::string consequence =
      "WAL of this snapshot may be recycled before it is kept (wal_keep_size and archiving are all that "
      "holds it)";
  if (!facts.may_replicate) {
    reporter.note(
        fmt::format("role {} may not make a replication slot: {}; ALTER ROLE {} REPLICATION allows it",
                    facts.role, consequence, connection.quoted_name(facts.role)));
    return false;
  }
  auto made = connection.run(
      "SELECT pg_create_physical_replication_slot('kuramori_' || pg_backend_pid(), true, true)");
  if (made) return true;
  if (made.error().kind == ErrorKind::kUnknown) return std::move(made).error();
  reporter.warning(fmt::format("no replication slot for the time of this snapshot: {}; {}", made.error().why,
                               consequence));
  return false;
}

Result<Lsn> start_backup(Connection& connection, const ServerFacts& facts, const CaptureOptions& options) {
  const std::string label = safe_label(options.label);
  const std::string fast = options.fast_checkpoint ? "true" : "false";
  // A spread checkpoint takes as long as checkpoint_timeout says.
  TRY(connection.set_statement_timeout(kNoTimeout));
  auto started = facts.major() >= 15
                     ? connection.value("SELECT pg_backup_start($1, $2::boolean)", {label, fast})
                     : connection.value("SELECT pg_start_backup($1, $2::boolean, false)", {label, fast});
  if (!started) {
    Error error = std::move(started).error();
    error.what = "PostgreSQL did not begin a backup";
    if (error.kind == ErrorKind::kDenied) {
      error.what = fmt::format("role '{}' may not begin a backup", facts.role);
      error.next = grant_for(facts, connection);
    } else if (facts.in_recovery && error.why.find("full_page_writes") != std::string::npos) {
      error.kind = ErrorKind::kRefused;
      error.next =
          "on the primary: psql -c 'ALTER SYSTEM SET full_page_writes = on' -c 'SELECT pg_reload_conf()' "
          "-c CHECKPOINT; then CHECKPOINT on the standby";
    }
    return error;
  }
  TRY(connection.set_statement_timeout(kStatementTimeout));
  return parse_lsn(*started);
}

Result<StoppedBackup> stop_backup(Connection& connection, const ServerFacts& facts) {
  // Not waiting for the archiver: the snapshot takes its WAL itself.
  auto stopped = connection.query(
      facts.major() >= 15 ? "SELECT lsn, labelfile, spcmapfile FROM pg_backup_stop(false)"
                          : "SELECT lsn, labelfile, spcmapfile FROM pg_stop_backup(false, false)");
  if (!stopped) {
    Error error = std::move(stopped).error();
    error.what = "PostgreSQL did not end the backup; what was copied is no snapshot";
    if (error.why.find("promoted") != std::string::npos) {
      error.why = "the standby was promoted while it was copied";
    } else if (error.kind == ErrorKind::kUnknown) {
      error.why = "the connection that held backup mode was lost (" + error.why + ")";
    }
    error.next = "run the backup again";
    return error;
  }
  if (stopped->rows() != 1) return fail(ErrorKind::kFailed, "PostgreSQL ended the backup without a label");
  StoppedBackup result;
  TRY_ASSIGN(result.stop_lsn, parse_lsn(stopped->text(0, 0)));
  result.backup_label = stopped->text(0, 1);
  result.tablespace_map = stopped->text(0, 2);
  return result;
}

Result<std::map<std::string, std::string>> restore_facts(Connection& connection, const ServerFacts& facts) {
  // Of a standby's start, of what must be loaded, and of what says where things stood.
  constexpr std::string_view kSettings[] = {
      "max_connections",
      "max_worker_processes",
      "max_wal_senders",
      "max_prepared_transactions",
      "max_locks_per_transaction",
      "track_commit_timestamp",
      "wal_level",
      "wal_log_hints",
      "full_page_writes",
      "shared_preload_libraries",
      "session_preload_libraries",
      "local_preload_libraries",
      "archive_library",
      "archive_mode",
      "data_checksums",
      "block_size",
      "wal_block_size",
      "wal_segment_size",
      "lc_messages",
      "lc_monetary",
      "lc_numeric",
      "lc_time",
      "timezone",
      "config_file",
      "hba_file",
      "ident_file",
      "port",
      "huge_pages",
      "allow_in_place_tablespaces",
      "dynamic_shared_memory_type",
  };
  std::map<std::string, std::string> result;
  for (const std::string_view name : kSettings) {
    const std::string& value = facts.setting(std::string(name));
    if (!value.empty()) result.emplace(name, value);
  }
  result["server_version"] = facts.version_text;
  result["in_recovery"] = facts.in_recovery ? "yes" : "no";
  // The operating system's sort order must be the restored machine's too, or indexes are wrong.
  TRY_ASSIGN(
      const QueryResult locales,
      connection.query("SELECT DISTINCT pg_encoding_to_char(encoding) || ' ' || datcollate || ' ' || datctype"
                       " FROM pg_database ORDER BY 1"));
  std::string text;
  for (size_t row = 0; row < locales.rows(); ++row) {
    if (row > 0) text += ", ";
    text += locales.text(row, 0);
  }
  result["locales"] = text;
  auto libc = connection.value(
      "SELECT pg_collation_actual_version(oid) FROM pg_collation"
      " WHERE collname = 'en_US.utf8' OR (collname = 'C.utf8') ORDER BY collname LIMIT 1");
  if (libc && !libc->empty()) result["libc_collation_version"] = *libc;
  return result;
}

void describe_server(const ServerFacts& facts, const ControlFile& control, CaptureStart& start) {
  start.system_id = facts.system_id;
  start.server_version = facts.version;
  start.segment_bytes = control.segment_bytes;
  start.page_bytes = control.block_bytes;
  start.checksum_version = control.checksum_version;
  start.wal_level = facts.setting("wal_level");
  start.in_recovery = facts.in_recovery;
  start.full_page_writes =
      facts.in_recovery ? control.full_page_writes : facts.setting("full_page_writes") == "on";
}

Result<void> check_one_history(Connection& connection, const CaptureStart& start, const ControlFile& control,
                               Lsn stop) {
  const auto refuse = [](std::string why) {
    return fail(ErrorKind::kFailed, "the cluster changed while it was copied; what was copied is no snapshot",
                std::move(why), "run the backup again");
  };
  if (control.system_id != start.system_id) {
    return refuse(fmt::format("its system id was {} and is now {}: another cluster was put in its place",
                              start.system_id, control.system_id));
  }
  if (control.checksum_version != start.checksum_version) return refuse("data checksums were switched");
  TRY_ASSIGN(const std::string recovering, connection.value("SELECT pg_is_in_recovery()"));
  if ((recovering == "t") != start.in_recovery) return refuse("the standby was promoted");
  if (control.timeline != start.timeline)
    return refuse(fmt::format("it went from timeline {} to {}", start.timeline, control.timeline));
  if (start.in_recovery && control.min_recovery_timeline != 0 &&
      control.min_recovery_timeline != start.timeline) {
    return refuse(fmt::format("the standby followed its primary from timeline {} to {}", start.timeline,
                              control.min_recovery_timeline));
  }
  if (stop < start.start_lsn) {
    return refuse(
        fmt::format("it ended at {}, before its start at {}", format_lsn(stop), format_lsn(start.start_lsn)));
  }
  return {};
}

bool has_in_place_tablespace(std::span<const CaptureFile> files) {
  constexpr std::string_view kTablespaces = "pg_tblspc/";
  return std::ranges::any_of(files, [&](const CaptureFile& file) {
    return file.entry.type == EntryType::kDirectory && file.entry.path.starts_with(kTablespaces) &&
           file.entry.path.find('/', kTablespaces.size()) == std::string::npos;
  });
}

}  // namespace kuramori::postgres
