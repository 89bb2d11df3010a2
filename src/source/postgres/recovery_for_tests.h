// A real server that archives into a folder, a snapshot of it, and what tests ask about both.
#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "os/file.h"
#include "source/postgres/archive.h"
#include "source/postgres/connection.h"
#include "source/postgres/control_file.h"
#include "source/postgres/recovery.h"
#include "source/postgres/recovery_place.h"
#include "source/postgres/sandbox.h"
#include "source/postgres/target_scan.h"
#include "testing/postgres_server.h"

namespace kuramori::postgres {

constexpr uint32_t kTestSegment = 1u << 20;

template <class T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().what << "\n" << result.error().why;
    throw std::runtime_error(result.error().what);
  }
  return std::move(*result);
}
inline void must(Result<void> result) {
  if (!result) {
    ADD_FAILURE() << result.error().what << "\n" << result.error().why;
    throw std::runtime_error(result.error().what);
  }
}

inline void shell(const std::string& command) {
  const auto done = must(run_child({"/bin/sh", "-c", command}, std::chrono::seconds(120)));
  if (done.status != 0) throw std::runtime_error(command + ": " + done.output);
}

class ArchivedServer {
 public:
  explicit ArchivedServer(std::vector<std::string> more = {}) {
    PostgresServerOptions options;
    options.wal_segment_mib = kTestSegment >> 20;
    options.start = false;
    server = must(PostgresServer::create(options));
    archive_folder = server->folder() + "/archive";
    base_folder = server->folder() + "/base";
    tablespace = server->folder() + "/space";
    must(make_folders(archive_folder));
    must(make_folders(tablespace));
    must(PostgresServer::give_to_server_user(server->folder()));
    std::vector<std::string> settings = {
        "archive_mode = on", "wal_level = replica",
        "archive_command = 'test ! -f " + archive_folder + "/%f && cp %p " + archive_folder + "/.%f && mv " +
            archive_folder + "/.%f " + archive_folder + "/%f'",
        "primary_conninfo = 'host=original.invalid'", "max_connections = 37"};
    settings.insert(settings.end(), more.begin(), more.end());
    must(server->add_settings(settings));
    must(server->start());
  }

  std::string sql(const std::string& query) { return must(server->sql(query)); }

  // pg_backup_start, a copy of the files, pg_backup_stop: what a capture does, in the plainest way.
  void snapshot() {
    auto connection = must(Connection::open(server->connect()));
    const bool new_names = connection.major() >= 15;
    must(connection.value(new_names ? "select pg_backup_start('test', true)"
                                    : "select pg_start_backup('test', true, false)"));
    shell("mkdir " + base_folder + " && cd " + server->data_directory() +
          " && tar -cf - --exclude=./pg_wal/* --exclude=./postmaster.* . | tar -C " + base_folder + " -xf -");
    shell("cp -a " + tablespace + " " + base_folder + ".space");
    auto stop =
        must(connection.query(new_names ? "select lsn, labelfile, spcmapfile from pg_backup_stop()"
                                        : "select lsn, labelfile, spcmapfile from pg_stop_backup(false)"));
    label = stop.text(0, 1);
    map = stop.text(0, 2);
    base.id = "test";
    base.timeline = 1;
    const size_t at = label.find("START WAL LOCATION: ") + 20;
    base.start_lsn = must(parse_lsn(label.substr(at, label.find(' ', at) - at)));
    base.stop_lsn = must(parse_lsn(stop.text(0, 0)));
    base.stop_ns = now_ns();
    control = must(parse_control_file(must(read_file(server->data_directory() + "/global/pg_control"))));
  }

  int64_t now_ns() {
    return std::stoll(sql("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")) * 1000;
  }
  std::string lsn() { return sql("select pg_current_wal_lsn()"); }
  // All WAL up to now is in the archive when this returns.
  void switch_wal() {
    const std::string name = sql("select pg_walfile_name(pg_switch_wal())");
    for (int i = 0; i < 600 && ::access((archive_folder + "/" + name).c_str(), F_OK) != 0; ++i)
      ::usleep(20000);
    ASSERT_EQ(::access((archive_folder + "/" + name).c_str(), F_OK), 0) << name << " was not archived";
  }

  Archive archive() {
    std::vector<Piece> pieces;
    std::map<Timeline, std::string> histories;
    for (const auto& entry : must(list_folder(archive_folder))) {
      auto name = parse_wal_file_name(entry.name, kTestSegment);
      if (!name) continue;
      Piece piece{.timeline = name->timeline,
                  .from = name->start,
                  .to = name->start + kTestSegment,
                  .object = entry.name,
                  .digest = "d"};
      if (name->kind == WalFileKind::kHistory) {
        piece.kind = PieceKind::kHistory;
        piece.from = piece.to = 0;
        histories[name->timeline] = std::string(as_text(must(read_file(archive_folder + "/" + entry.name))));
      }
      if (name->kind == WalFileKind::kPartial) piece.kind = PieceKind::kPartial;
      if (name->kind == WalFileKind::kBackup) piece.kind = PieceKind::kLabel;
      pieces.push_back(piece);
    }
    return must(Archive::make(pieces, kTestSegment, histories));
  }
  Result<RecoveryPlan> find(const TargetRequest& request) {
    const Archive listing = archive();
    const std::vector<Base> bases{base};
    auto fetch = [&](const SegmentSource& source) {
      return read_file(archive_folder + "/" + segment_name(source.timeline, source.start, kTestSegment));
    };
    RestorePlanner finder(listing, bases, scan_fetched(fetch, kTestSegment, control.system_id),
                          [](int64_t ns) { return fmt::format("{}", ns); });
    return finder.find(request);
  }

  RecoveryConfig config(const RecoveryPlan& plan) const {
    RecoveryConfig config;
    config.restore_command = "cp " + archive_folder + "/%f %p";
    config.immediate = plan.immediate;
    config.target_lsn = plan.target_lsn;
    config.inclusive = plan.inclusive;
    config.timeline = plan.timeline;
    config.limits = control.settings;
    return config;
  }

  // The files of the snapshot at `target`, the tablespace where place_tablespaces puts it.
  std::vector<Tablespace> restore_files(const std::string& target) {
    auto spaces = must(place_tablespaces(map, target, {}, server->data_directory()));
    shell("cp -a " + base_folder + " " + target + " && mkdir -p " + target + "/pg_wal");
    must(write_file_durably(target + "/backup_label", as_bytes(label)));
    must(link_tablespaces(target, spaces));
    for (const auto& space : spaces) shell("cp -a " + base_folder + ".space/. " + space.place);
    return spaces;
  }

  // Restored, configured and started; `change` may alter what is restored before the start.
  Result<std::unique_ptr<Sandbox>> sandbox(RecoveryConfig config,
                                           std::function<void(const std::string&)> change = {},
                                           AtTarget action = AtTarget::kPromote) {
    const Account account = must(server_account());
    auto folder = must(SandboxFolder::make(server->folder(), account));
    const std::string target = folder.data_directory();
    auto spaces = restore_files(target);
    must(configure_recovery(target, config));
    if (change) change(target);
    must(give_to(target, account, false));
    SandboxOptions options;
    for (const auto& space : spaces) {
      must(folder.also_remove(space.place));
      must(give_to(space.place, account, false));
      options.tablespaces.push_back(space.place);
    }
    options.programs = must(find_programs(15));
    options.data_directory = target;
    options.originals = {server->data_directory(), tablespace};
    options.action = action;
    options.open_limit = std::chrono::seconds(40);
    return Sandbox::start(std::move(folder), options, system_clock());
  }

  std::unique_ptr<PostgresServer> server;
  std::string archive_folder, base_folder, tablespace, label, map;
  Base base;
  ControlFile control;
};

inline std::string ask(const Sandbox& sandbox, const std::string& query,
                       const std::string& database = "postgres") {
  auto connection = Connection::open(sandbox.connect(database));
  if (!connection) return "no connection: " + connection.error().what + ": " + connection.error().why;
  (void)connection->run("set search_path = public, pg_catalog");
  auto value = connection->value(query);
  return value ? *value : "error: " + value.error().what + ": " + value.error().why;
}

}  // namespace kuramori::postgres
