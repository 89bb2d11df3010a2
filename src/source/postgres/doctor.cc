// The looking; doctor_rules.cc judges.
#include "source/postgres/doctor.h"

#include <unistd.h>

#include <filesystem>

#include "os/file.h"
#include "source/postgres/binaries.h"
#include "source/postgres/replication.h"

namespace kuramori::postgres {
namespace {

constexpr size_t kConfigBytesMax = 4u << 20;

Result<void> look_at_statistics(Connection& connection, const ServerFacts& facts, ServerActivity& activity) {
  TRY_ASSIGN(
      const QueryResult archiver,
      connection.query("SELECT archived_count, failed_count, coalesce(last_failed_wal, ''),"
                       " last_failed_time IS NOT NULL AND last_failed_time > coalesce(last_archived_time,"
                       " '-infinity'), extract(epoch FROM now())::bigint FROM pg_stat_archiver"));
  if (archiver.rows() == 1) {
    TRY_ASSIGN(activity.archived, archiver.number(0, 0));
    TRY_ASSIGN(activity.archive_failures, archiver.number(0, 1));
    activity.last_failed_wal = archiver.text(0, 2);
    activity.archive_failing = archiver.is_true(0, 3);
    TRY_ASSIGN(activity.now, archiver.number(0, 4));
  }
  TRY_ASSIGN(const std::string senders, connection.value("SELECT count(*) FROM pg_stat_replication"));
  activity.senders_used = std::atoll(senders.c_str());
  TRY_ASSIGN(
      const QueryResult slots,
      connection.query("SELECT slot_name FROM pg_replication_slots WHERE NOT active AND NOT temporary"));
  for (size_t row = 0; row < slots.rows(); ++row) activity.idle_slots.emplace_back(slots.text(row, 0));
  TRY_ASSIGN(const std::string streams,
             connection.value("SELECT count(*) FROM pg_replication_slots WHERE active AND NOT temporary AND"
                              " slot_name LIKE 'kuramori\\_%'"));
  activity.is_streamed = streams != "0";
  TRY_ASSIGN(const QueryResult checkpoints,
             connection.query(facts.major() >= 17
                                  ? "SELECT num_timed, num_requested FROM pg_stat_checkpointer"
                                  : "SELECT checkpoints_timed, checkpoints_req FROM pg_stat_bgwriter"));
  if (checkpoints.rows() == 1) {
    TRY_ASSIGN(activity.timed_checkpoints, checkpoints.number(0, 0));
    TRY_ASSIGN(activity.requested_checkpoints, checkpoints.number(0, 1));
  }
  return {};
}

Result<void> look_at_rights(Connection& connection, const ServerFacts& facts, ServerActivity& activity) {
  std::vector<std::string> functions = {"pg_create_restore_point(text)", "pg_switch_wal()"};
  if (activity.is_elsewhere) {
    // BASE_BACKUP asks for REPLICATION alone.
  } else if (facts.major() >= 15) {
    functions.emplace_back("pg_backup_start(text, boolean)");
    functions.emplace_back("pg_backup_stop(boolean)");
  } else {
    functions.emplace_back("pg_start_backup(text, boolean, boolean)");
    functions.emplace_back("pg_stop_backup(boolean, boolean)");
  }
  for (const std::string& function : functions) {
    TRY_ASSIGN(const std::string may,
               connection.value("SELECT has_function_privilege($1, 'EXECUTE')", {"pg_catalog." + function}));
    if (may != "t") activity.missing_rights.push_back("EXECUTE ON FUNCTION " + function);
  }
  if (!facts.may_replicate) activity.missing_rights.emplace_back("REPLICATION");
  return {};
}

}  // namespace

Result<std::vector<Finding>> examine_server(const std::string& connect, CaptureWay way) {
  TRY_ASSIGN(Connection connection, Connection::open(connect));
  TRY_ASSIGN(const ServerFacts facts, read_server_facts(connection));
  ServerActivity activity;
  TRY(look_at_statistics(connection, facts, activity));
  std::error_code failed;
  activity.is_elsewhere =
      std::filesystem::status(facts.data_directory, failed).type() == std::filesystem::file_type::not_found;
  activity.over_the_wire =
      way == CaptureWay::kReplication || (way == CaptureWay::kAuto && activity.is_elsewhere);
  TRY(look_at_rights(connection, facts, activity));
  if (activity.is_elsewhere && facts.may_replicate) {
    auto opened = Replication::open(connect, "kuramori");
    if (!opened) activity.replication_refused = opened.error().why;
  }
  activity.directory_readable = list_folder(facts.data_directory + "/global").has_value();
  activity.has_relics = access((facts.data_directory + "/recovery.conf").c_str(), F_OK) == 0;
  std::vector<Finding> findings = judge(facts, activity);
  if (auto text = read_file(facts.setting("config_file"), kConfigBytesMax)) {
    for (Finding& finding : judge_config_text(facts.setting("config_file"), as_text(*text)))
      findings.push_back(std::move(finding));
  }
  if (auto programs = find_programs(static_cast<int>(facts.major())); !programs) {
    findings.push_back({Severity::kRisk, "programs",
                        fmt::format("the programs of PostgreSQL {} are not on this machine", facts.major()),
                        "a drill starts a server of the same major version",
                        fmt::format("apt-get install postgresql-{}", facts.major()), false});
  }
  std::stable_sort(findings.begin(), findings.end(),
                   [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
  return findings;
}

}  // namespace kuramori::postgres
