// Captures of clusters that do not lie where they usually do: links, tablespaces, odd names, configuration
// elsewhere, standbys.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "capture_fixture.h"
#include "os/file.h"

namespace kuramori::postgres {
namespace {

class PostgresTopology : public PostgresCapture {};

// P16, P18: an ordinary tablespace, one inside the data directory, an in-place one, and names with odd
// characters.
TEST_F(PostgresTopology, tablespaces_of_every_kind_and_odd_names_come_along) {
  start_server();
  for (const char* name : {"outside", "data/inside"}) {
    ASSERT_OK(make_folders(place(name)));
    ASSERT_OK(PostgresServer::give_to_server_user(place(name)));
  }
  sql("CREATE TABLESPACE outside LOCATION '" + place("outside") + "'");
  sql("CREATE TABLESPACE inside LOCATION '" + place("data/inside") + "'");
  ASSERT_OK(server_->sql("SELECT 1"));
  // SET and CREATE TABLESPACE must be two statements of one session.
  auto made =
      server_->run("psql", {"-XAtq", "-d", server_->connect(), "-c", "SET allow_in_place_tablespaces = on",
                            "-c", "CREATE TABLESPACE in_place LOCATION ''"});
  ASSERT_OK(made);
  ASSERT_EQ(made->status, 0) << made->text;
  for (const char* name : {"outside", "inside", "in_place"}) {
    sql(fmt::format("CREATE TABLE in_{0} TABLESPACE {0} AS SELECT g FROM generate_series(1, 5000) g", name));
  }
  sql("CREATE DATABASE \"odd = [1] # \\ 'name'\" TABLESPACE outside");
  ASSERT_OK(write_new_file(server_->data_directory() + "/odd = [1] # \\ .tmp. \xff", as_bytes("kept")));
  auto capture = begin();
  ASSERT_OK(capture);
  int inside = 0;
  for (const CaptureFile& file : (*capture)->files()) inside += file.entry.path.starts_with("inside/");
  EXPECT_EQ(inside, 0);  // under pg_tblspc, once
  RebuiltCluster rebuilt(place("rebuilt"));
  auto end = rebuilt.take(**capture);
  ASSERT_OK(end);
  EXPECT_NE(end->tablespace_map, "");
  // Recovery refuses folders in pg_tblspc unless it is told that they are meant.
  EXPECT_EQ(end->facts["in_place_tablespaces"], "yes");
  ASSERT_NO_FATAL_FAILURE(check_rebuilt(rebuilt, {"allow_in_place_tablespaces=on"}));
  for (const char* name : {"outside", "inside", "in_place"})
    EXPECT_EQ(restored_sql(fmt::format("SELECT count(*) FROM in_{}", name)), "5000");
  EXPECT_EQ(restored_sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'odd%'"), "1");
  EXPECT_TRUE(read_file(rebuilt.folder() + "/odd = [1] # \\ .tmp. \xff"));
}

// P17: the data directory and pg_wal behind symbolic links.
TEST_F(PostgresTopology, symbolic_links_to_the_data_directory_and_to_pg_wal_are_followed) {
  PostgresServerOptions made;
  made.start = false;
  start_server(made);
  ASSERT_TRUE(server_);
  auto moved = server_->run(
      "sh", {"-c", "mv data/pg_wal wal && ln -s ../wal data/pg_wal && mv data real && ln -s real data"});
  ASSERT_OK(moved);
  ASSERT_EQ(moved->status, 0) << moved->text;
  ASSERT_OK(server_->start());
  sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 5000) g");
  auto capture = begin();
  ASSERT_OK(capture);
  EXPECT_EQ((*capture)->start().data_directory, place("real"));
  const int wal = find_file(**capture, "pg_wal");
  ASSERT_GE(wal, 0);
  EXPECT_EQ((*capture)->files()[static_cast<size_t>(wal)].entry.type, EntryType::kDirectory);
  for (const CaptureFile& file : (*capture)->files()) EXPECT_FALSE(file.entry.path.starts_with("pg_wal/0"));
  for (const CaptureFile& file : (*capture)->files()) EXPECT_FALSE(file.entry.path.starts_with(".kuramori"));
  RebuiltCluster rebuilt(place("rebuilt"));
  ASSERT_OK(rebuilt.take(**capture));
  ASSERT_NO_FATAL_FAILURE(check_rebuilt(rebuilt));
  EXPECT_EQ(restored_sql("SELECT count(*) FROM t"), "5000");
}

// P56: Debian's layout.
TEST_F(PostgresTopology, configuration_outside_the_data_directory_is_captured_beside) {
  PostgresServerOptions made;
  made.start = false;
  start_server(made);
  ASSERT_TRUE(server_);
  auto moved = server_->run(
      "sh", {"-c",
             "mkdir -p etc/conf.d && mv data/postgresql.conf data/pg_hba.conf etc/ &&"
             " echo \"work_mem = '7MB'\" > etc/conf.d/10.conf && echo nothing > etc/conf.d/README &&"
             " echo \"include_dir 'conf.d'\" >> etc/postgresql.conf &&"
             " echo \"hba_file = '$PWD/etc/pg_hba.conf'\" >> etc/postgresql.conf &&"
             " echo 'PGX = 1' > etc/environment &&"
             " ln -s ../etc/postgresql.conf data/postgresql.conf"});
  ASSERT_OK(moved);
  ASSERT_EQ(moved->status, 0) << moved->text;
  // The link is for the start alone; config_file is then the place outside.
  ASSERT_OK(remove_file(server_->data_directory() + "/postgresql.conf"));
  ASSERT_OK(server_->stop());
  auto started = server_->start_program(
      server_->bin_folder() + "/postgres",
      {"-D", server_->data_directory(), "-c", "config_file=" + place("etc/postgresql.conf")});
  ASSERT_OK(started);
  for (int tries = 0; tries < 2000 && !server_->sql("SELECT 1"); ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(sql("SHOW work_mem"), "7MB");
  auto capture = begin();
  ASSERT_OK(capture);
  const std::string prefix = ".kuramori/config" + server_->folder() + "/etc/";
  EXPECT_GE(find_file(**capture, prefix + "postgresql.conf"), 0);
  EXPECT_GE(find_file(**capture, prefix + "pg_hba.conf"), 0);
  EXPECT_GE(find_file(**capture, prefix + "conf.d/10.conf"), 0);
  EXPECT_GE(find_file(**capture, prefix + "environment"), 0);
  EXPECT_EQ(find_file(**capture, prefix + "conf.d/README"), -1);
  RebuiltCluster rebuilt(place("rebuilt"));
  ASSERT_OK(rebuilt.take(**capture));
  EXPECT_EQ(*read_file(join_path(rebuilt.folder(), prefix + "conf.d/10.conf")),
            to_bytes(as_bytes("work_mem = '7MB'\n")));
  capture->reset();
  EXPECT_EQ((*started)->finish(), 0);
}

// A log folder inside is left out, temporary and per-run files too; their folders are there.
TEST_F(PostgresTopology, what_belongs_to_one_run_is_left_out) {
  start_server({.settings = {"logging_collector = on", "log_directory = 'my logs'"}});
  ASSERT_OK(make_folders(server_->data_directory() + "/base/pgsql_tmp"));
  ASSERT_OK(write_new_file(server_->data_directory() + "/base/pgsql_tmp/pgsql_tmp1.0", as_bytes("x")));
  ASSERT_OK(write_new_file(server_->data_directory() + "/base/1/t3_16384", as_bytes("x")));
  ASSERT_OK(write_new_file(server_->data_directory() + "/standby.signal.old", as_bytes("")));
  ASSERT_OK(PostgresServer::give_to_server_user(server_->data_directory()));
  auto capture = begin();
  ASSERT_OK(capture);
  for (const CaptureFile& file : (*capture)->files()) {
    const std::string& path = file.entry.path;
    EXPECT_FALSE(path.starts_with("my logs/")) << path;
    EXPECT_EQ(path.find("pgsql_tmp"), std::string::npos) << path;
    EXPECT_EQ(path.find("/t3_"), std::string::npos) << path;
    EXPECT_FALSE(path.starts_with("postmaster.")) << path;
    EXPECT_EQ(path.find("pg_internal.init"), std::string::npos) << path;
  }
  for (const char* folder :
       {"my logs", "pg_wal", "pg_wal/archive_status", "pg_replslot", "pg_subtrans", "pg_notify"})
    EXPECT_GE(find_file(**capture, folder), 0) << folder;
}

class PostgresStandby : public PostgresCapture {
 protected:
  // server_ is the primary; the standby is made of a capture of it.
  void start_standby() {
    start_server({.settings = {"wal_keep_size = 256MB"}});
    sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 20000) g");
    auto capture = begin();
    ASSERT_OK(capture);
    RebuiltCluster rebuilt(place("standby"));
    ASSERT_OK(rebuilt.take(**capture));
    ASSERT_OK(write_new_file(rebuilt.folder() + "/standby.signal", {}));
    ASSERT_OK(PostgresServer::give_to_server_user(rebuilt.folder()));
    auto made = PostgresServer::adopt(rebuilt.folder(), 15, {"primary_conninfo=" + server_->connect()});
    ASSERT_OK(made);
    standby_ = std::move(*made);
    wait_for_standby();
  }
  void wait_for_standby() {
    const std::string lsn = sql("SELECT pg_current_wal_lsn()");
    for (int tries = 0; tries < 2000; ++tries) {
      auto there = standby_->sql("SELECT pg_last_wal_replay_lsn() >= '" + lsn + "'");
      if (there && *there == "t") return;
    }
    FAIL() << "the standby does not follow\n" << standby_->log();
  }
  std::unique_ptr<PostgresServer> standby_;
};

TEST_F(PostgresStandby, a_capture_of_a_standby_starts) {
  ASSERT_NO_FATAL_FAILURE(start_standby());
  sql("INSERT INTO t SELECT g FROM generate_series(1, 1000) g");
  sql("CHECKPOINT");
  ASSERT_NO_FATAL_FAILURE(wait_for_standby());
  CaptureOptions from_standby = options();
  from_standby.connect = standby_->connect();
  auto capture = Capture::begin(from_standby, system_clock(), listener_);
  ASSERT_OK(capture);
  EXPECT_TRUE((*capture)->start().in_recovery);
  sql("INSERT INTO t SELECT g FROM generate_series(1, 500) g");
  ASSERT_NO_FATAL_FAILURE(wait_for_standby());
  EXPECT_EQ(find_file(**capture, "standby.signal"), -1);
  RebuiltCluster rebuilt(place("rebuilt"));
  rebuilt.while_waiting([&] { sql("INSERT INTO t SELECT 1; SELECT pg_switch_wal()"); });
  ASSERT_OK(rebuilt.take(**capture));
  ASSERT_NO_FATAL_FAILURE(check_rebuilt(rebuilt));
  EXPECT_GE(restored_sql("SELECT count(*) FROM t"), "21000");
}

// P20
TEST_F(PostgresStandby, promotion_while_copying_fails_the_capture) {
  ASSERT_NO_FATAL_FAILURE(start_standby());
  CaptureOptions from_standby = options();
  from_standby.connect = standby_->connect();
  auto capture = Capture::begin(from_standby, system_clock(), listener_);
  ASSERT_OK(capture);
  RebuiltCluster rebuilt(place("rebuilt"));
  ASSERT_OK(rebuilt.copy(**capture));
  ASSERT_OK(standby_->sql("SELECT pg_promote()"));
  auto end = rebuilt.finish(**capture);
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().why, "the standby was promoted while it was copied");
  EXPECT_EQ(end.error().next, "run the backup again");
}

}  // namespace
}  // namespace kuramori::postgres
