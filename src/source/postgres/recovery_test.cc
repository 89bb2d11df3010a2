// How a restored directory is configured and where it may stand; and recovery across a real switch of
// timelines.
#include "source/postgres/recovery.h"

#include "source/postgres/recovery_for_tests.h"

namespace kuramori::postgres {
namespace {

RecoveryConfig to_lsn(Lsn lsn) {
  return {.restore_command = "kuramori wal get %f %p", .target_lsn = lsn, .timeline = 3};
}

std::map<std::string, std::string> as_map(const RecoveryConfig& config) {
  std::map<std::string, std::string> map;
  for (const auto& [name, value] : recovery_settings(config))
    EXPECT_TRUE(map.emplace(name, value).second) << name;
  return map;
}

struct Folder {
  TemporaryFolder folder = must(TemporaryFolder::make("kuramori-recovery"));
  std::string path = folder.path();
  void write(const std::string& name, std::string_view text) {
    must(write_file_durably(path + "/" + name, as_bytes(text)));
  }
  std::string read(const std::string& name) {
    return std::string(as_text(must(read_file(path + "/" + name))));
  }
  bool has(const std::string& name) { return must(status_if_there(path + "/" + name)).has_value(); }
};

TEST(Recovery, P49_one_target_a_numbered_timeline_and_an_action) {
  auto settings = as_map(to_lsn(0x1700000028));
  EXPECT_EQ(settings["recovery_target_lsn"], "17/28");
  EXPECT_EQ(settings["recovery_target_inclusive"], "on");
  EXPECT_EQ(settings["recovery_target_timeline"], "3");
  EXPECT_EQ(settings["recovery_target_action"], "promote");
  EXPECT_EQ(settings["archive_mode"], "off");  // P51
  EXPECT_FALSE(settings.contains("recovery_target"));
  EXPECT_FALSE(settings.contains("recovery_target_time"));
  auto config = to_lsn(1);
  config.target_lsn.reset();
  config.immediate = true;
  settings = as_map(config);
  EXPECT_EQ(settings["recovery_target"], "immediate");
  EXPECT_EQ(settings["recovery_target_timeline"], "3");
  EXPECT_FALSE(settings.contains("recovery_target_lsn"));
  config.continue_archiving = true;
  config.archive_command = "kuramori wal push %p";
  EXPECT_EQ(as_map(config)["archive_mode"], "on");
}

TEST(Recovery, S1_S2_the_files_are_those_that_servers_since_12_read) {
  Folder data;
  data.write("recovery.conf", "restore_command = 'cp'\n");
  data.write("standby.signal", "");
  data.write("postgresql.conf", "port = 5433\n");
  must(configure_recovery(data.path, to_lsn(7)));
  EXPECT_TRUE(data.has("recovery.signal"));
  EXPECT_FALSE(data.has("recovery.conf"));
  EXPECT_FALSE(data.has("standby.signal"));
  const std::string written = data.read("postgresql.auto.conf");
  for (const char* gone : {"wal_keep_segments", "trigger_file", "promote_trigger_file", "standby_mode"}) {
    EXPECT_EQ(written.find(gone), std::string::npos) << gone;
  }
}

TEST(Recovery, P48_P51_what_leads_back_to_the_parent_is_disabled_and_the_rest_kept) {
  Folder data;
  data.write(
      "postgresql.conf",
      "# ours\nshared_buffers = 64MB\n  Data_Directory='/var/lib/postgresql/15/main'\nhba_file = '/etc/x'\n"
      "archive_mode = on # yes\narchive_command='kuramori wal push %p'\nrecovery_target_time = '2024-01-01'\n"
      "primary_conninfo = 'host=a password=''b'''\n");
  data.write("postgresql.auto.conf", "work_mem = '9MB'\nprimary_slot_name = 'x'\nrestore_command = 'old'\n");
  data.write("pg_hba.conf", "local all all peer\n");
  data.write("pg_ident.conf", "");
  for (int twice = 0; twice < 2; ++twice) must(configure_recovery(data.path, to_lsn(7)));
  for (const char* name : {"data_directory", "hba_file", "recovery_target_time", "primary_conninfo",
                           "primary_slot_name", "archive_command"}) {
    EXPECT_FALSE(configured_value(data.path, name)) << name;
  }
  EXPECT_EQ(configured_value(data.path, "shared_buffers"), "64MB");
  EXPECT_EQ(configured_value(data.path, "work_mem"), "9MB");
  EXPECT_EQ(configured_value(data.path, "archive_mode"), "off");
  EXPECT_EQ(configured_value(data.path, "restore_command"), "kuramori wal get %f %p");
  EXPECT_NE(data.read("postgresql.conf").find("# disabled by kuramori restore: primary_conninfo"),
            std::string::npos);
  EXPECT_EQ(data.read("pg_hba.conf"), "local all all peer\n");
}

TEST(Recovery, P54_a_cleanly_stopped_copy_gets_no_signal_file) {
  Folder data;
  data.write("recovery.signal", "");
  must(configure_recovery(data.path, {.mode = RecoveryMode::kNone}));
  EXPECT_FALSE(data.has("recovery.signal"));
  EXPECT_FALSE(configured_value(data.path, "restore_command"));
  EXPECT_EQ(configured_value(data.path, "archive_mode"), "off");
}

TEST(Recovery, a_hot_standby_gets_at_least_its_primarys_settings) {
  auto config = to_lsn(7);
  config.mode = RecoveryMode::kStandby;
  config.limits =
      RecoverySettings{.max_connections = 500, .max_worker_processes = 20, .max_locks_per_transaction = 99};
  auto settings = as_map(config);
  EXPECT_EQ(settings["max_connections"], "500");
  EXPECT_EQ(settings["max_locks_per_transaction"], "99");
  EXPECT_EQ(settings["hot_standby"], "on");
  EXPECT_FALSE(settings.contains("max_wal_senders"));  // unknown: the server's own default
}

TEST(Recovery, values_are_quoted_so_that_they_read_back) {
  for (std::string value : {"it's", "a\\b", "", "host=x password='y z'", "%f # %p"}) {
    auto lines = parse_config("name = " + quote_value(value) + " # comment\n");
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(lines[0].value, value);
  }
}

TEST(RecoveryPlace, P45_not_empty_is_refused_and_a_foreign_folder_even_when_overwriting) {
  Folder folder;
  EXPECT_EQ(must(check_target(folder.path, 1, TargetUse::kNew)), TargetState::kEmpty);
  EXPECT_EQ(must(check_target(folder.path + "/new", 1, TargetUse::kNew)), TargetState::kAbsent);
  must(make_folders(folder.path + "/lost+found"));
  EXPECT_EQ(must(check_target(folder.path, 1, TargetUse::kNew)), TargetState::kEmpty);
  folder.write("letter", "to somebody");
  for (auto use : {TargetUse::kNew, TargetUse::kOverwrite, TargetUse::kDelta}) {
    auto refused = check_target(folder.path, 1, use);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  }
  EXPECT_FALSE(check_target("/", 1, TargetUse::kOverwrite));
  EXPECT_FALSE(check_target(folder.path + "/letter", 1, TargetUse::kOverwrite));
}

TEST(RecoveryPlace, P45_a_mount_point_is_never_moved_away) {
  EXPECT_EQ(move_aside("/proc", system_clock().now()).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(move_aside("/dev/", system_clock().now()).error().kind, ErrorKind::kRefused);
}

TEST(RecoveryPlace, P48_P13_unmapped_tablespaces_go_beside_the_target) {
  Folder folder;
  const std::string original = folder.path + "/original", target = folder.path + "/target";
  const std::string map = "16390 " + original + "/a\n16391 /srv/with\\\\slash\n16392 pg_tblspc/16392\n";
  auto placed = must(place_tablespaces(map, target, {{"16391", folder.path + "/mapped"}}, original));
  ASSERT_EQ(placed.size(), 3u);
  EXPECT_EQ(placed[0].place, target + ".tablespaces/16390");
  EXPECT_EQ(placed[1].original, "/srv/with\\slash");
  EXPECT_EQ(placed[1].place, folder.path + "/mapped");
  EXPECT_TRUE(placed[2].in_place);
  must(link_tablespaces(target, placed));
  EXPECT_EQ(must(read_link(target + "/pg_tblspc/16390")), target + ".tablespaces/16390");
  const std::string written = std::string(as_text(must(read_file(target + "/tablespace_map"))));
  EXPECT_EQ(written, "16390 " + target + ".tablespaces/16390\n16391 " + folder.path + "/mapped\n");
  must(check_no_way_out(target, {target + ".tablespaces", folder.path + "/mapped"}));
  EXPECT_FALSE(check_no_way_out(target, {target + ".tablespaces"}));
}

TEST(RecoveryPlace, P48_places_that_are_in_use_or_the_originals_are_refused) {
  Folder folder;
  must(make_folders(folder.path + "/original/pg_tblspc"));
  folder.write("used", "x");
  must(make_folders(folder.path + "/full/inside"));
  const std::string map = "16390 /srv/a\n16391 /srv/b\n", target = folder.path + "/target";
  auto with = [&](std::vector<std::pair<std::string, std::string>> mapping) {
    auto placed = place_tablespaces(map, target, mapping, folder.path + "/original");
    return placed ? std::string("fine") : std::string(name_of(placed.error().kind));
  };
  EXPECT_EQ(with({}), "fine");
  EXPECT_EQ(with({{"/srv/a", folder.path + "/full"}}), "refused");
  EXPECT_EQ(with({{"/srv/a", folder.path + "/used"}}), "refused");
  EXPECT_EQ(with({{"/srv/a", folder.path + "/original/pg_tblspc/x"}}), "refused");
  EXPECT_EQ(with({{"/srv/c", folder.path + "/c"}}), "usage");
  EXPECT_EQ(with({{"/srv/a", "relative"}}), "usage");
  EXPECT_EQ(with({{"/srv/a", target + "/base/x"}}), "usage");
  EXPECT_EQ(with({{"/srv/a", folder.path + "/c"}, {"/srv/b", folder.path + "/c"}}), "usage");
  EXPECT_EQ(with({{"/srv/a", folder.path + "/c"}, {"16390", folder.path + "/d"}}), "usage");
}

TEST(RecoveryPrograms, the_server_of_a_major_is_found_or_said_where_it_was_looked_for) {
  EXPECT_EQ(must(find_programs(15)).major, 15);
  EXPECT_EQ(find_programs(12).error().kind, ErrorKind::kRefused);
  auto missing = find_programs(97);
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().next.find("KURAMORI_PG_BIN_97"), std::string::npos);
  EXPECT_EQ(parse_version_line("postgres (PostgreSQL) 18beta1"), 18);
  EXPECT_EQ(parse_version_line("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), 15);
  EXPECT_FALSE(parse_version_line("bash 5"));
  ::setenv("KURAMORI_PG_BIN_15", "/nowhere", 1);
  EXPECT_EQ(find_programs(15).error().kind, ErrorKind::kUsage);
  ::unsetenv("KURAMORI_PG_BIN_15");
}

TEST(RecoveryTimelines, P33_P36_P50_P52_a_promoted_server_goes_on_and_both_its_lives_are_restorable) {
  ArchivedServer life;
  life.sql("create tablespace space location '" + life.tablespace + "'");
  life.sql("create table t (n int)");
  life.snapshot();
  life.sql("insert into t values (1)");
  const int64_t first = life.now_ns();
  life.sql("insert into t values (2)");
  life.sql("checkpoint");
  must(life.server->stop());
  // The same server, promoted: it leaves timeline 1 in the middle of a segment.
  must(life.server->add_settings({"restore_command = 'cp " + life.archive_folder + "/%f %p'",
                                  "recovery_target_timeline = 'current'", "hot_standby = off"}));
  must(write_file_durably(life.server->data_directory() + "/recovery.signal", {}));
  must(PostgresServer::give_to_server_user(life.server->data_directory()));
  must(life.server->start());
  EXPECT_EQ(life.sql("select timeline_id from pg_control_checkpoint()"), "2");
  life.sql("insert into t values (3)");
  life.switch_wal();
  life.sql("insert into t values (4)");
  const int64_t second = life.now_ns();
  // Without anything later the WAL could not prove that it is complete up to that moment.
  life.sql("select pg_create_restore_point('proof')");
  life.switch_wal();

  auto latest = must(life.find({.kind = TargetKind::kLatest}));
  EXPECT_EQ(latest.timeline, 2u);
  EXPECT_EQ(latest.lineage.size(), 2u);
  EXPECT_EQ(
      ask(*must(life.sandbox(life.config(latest))), "select string_agg(n::text, ',' order by n) from t"),
      "1,2,3,4");
  auto later = must(life.find({.kind = TargetKind::kTime, .time_ns = second}));
  EXPECT_EQ(later.last_commit->time_ns <= second, true);
  EXPECT_EQ(ask(*must(life.sandbox(life.config(later))), "select count(*) from t"), "4");
  // Before the switch, along the new timeline: its own file of that segment carries the old WAL.
  auto early = must(life.find({.kind = TargetKind::kTime, .time_ns = first}));
  EXPECT_EQ(early.timeline, 2u);
  EXPECT_EQ(ask(*must(life.sandbox(life.config(early))), "select count(*) from t"), "1");

  // What wal get would answer this recovery: everything it needs, then the end.
  const Result<Archive> archive(life.archive());
  for (const auto& segment : latest.segments) {
    EXPECT_EQ(decide_get(archive, segment_name(segment.timeline, segment.start, kTestSegment), latest.promise)
                  .exit_status(),
              0);
  }
  EXPECT_EQ(decide_get(archive, segment_name(2, latest.reached, kTestSegment), latest.promise).exit_status(),
            1);
  EXPECT_EQ(decide_get(archive, "00000003.history").exit_status(), 1);

  // Its history lost: nothing is restored silently along timeline 1.
  must(remove_file(life.archive_folder + "/00000002.history"));
  auto refused = life.find({.kind = TargetKind::kLatest});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("00000002.history"), std::string::npos);
}

}  // namespace
}  // namespace kuramori::postgres
