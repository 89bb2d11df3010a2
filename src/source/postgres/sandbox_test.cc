// Recovery of real snapshots in real sandboxes.
#include "source/postgres/sandbox.h"

#include <grp.h>
#include <signal.h>
#include <sys/wait.h>

#include "source/postgres/recovery_for_tests.h"

namespace kuramori::postgres {
namespace {

// One life of one server, told once and restored by every test to its own moment.
class SandboxTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    life_ = std::make_unique<ArchivedServer>();
    auto& life = *life_;
    life.sql("create tablespace space location '" + life.tablespace + "'");
    life.sql("create table t (n int primary key, at timestamptz default clock_timestamp())");
    life.sql("create table elsewhere (n int) tablespace space");
    life.sql("insert into t select generate_series(1, 100)");
    life.sql("insert into elsewhere select generate_series(1, 7)");
    life.snapshot();
    for (int i = 101; i <= 110; ++i) {
      life.sql(fmt::format("insert into t values ({})", i));
      commits_[i] = life.now_ns();
      if (i == 105) {
        xid_ = life.sql(
            "with x as (insert into t values (1000) returning 1) select pg_current_xact_id() from x");
        life.sql("select pg_create_restore_point('half way')");
        life.switch_wal();
        lsn_ = life.lsn();
      }
    }
    life.sql("delete from t");  // the accident
    accident_ = life.now_ns();
    life.sql("checkpoint");
    life.switch_wal();
    life.sql("select pg_create_restore_point('after')");
    life.switch_wal();
  }
  static void TearDownTestSuite() { life_.reset(); }

  static std::unique_ptr<ArchivedServer> life_;
  static std::map<int, int64_t> commits_;
  static std::string xid_, lsn_;
  static int64_t accident_;
};
std::unique_ptr<ArchivedServer> SandboxTest::life_;
std::map<int, int64_t> SandboxTest::commits_;
std::string SandboxTest::xid_, SandboxTest::lsn_;
int64_t SandboxTest::accident_ = 0;

TEST_F(SandboxTest, P49_every_row_up_to_the_moment_and_none_after) {
  for (int i : {101, 104, 110}) {
    auto plan = must(life_->find({.kind = TargetKind::kTime, .time_ns = commits_[i]}));
    ASSERT_TRUE(plan.target_lsn);
    auto sandbox = must(life_->sandbox(life_->config(plan)));
    EXPECT_EQ(ask(*sandbox, "select max(n) from t where n < 1000"), std::to_string(i));
    EXPECT_EQ(ask(*sandbox, "select count(*) from elsewhere"), "7");
    EXPECT_EQ(ask(*sandbox, "select pg_is_in_recovery()"), "f");
  }
}

TEST_F(SandboxTest, P49_lsn_xid_name_and_snapshot_are_targets_too) {
  auto xid = must(life_->find({.kind = TargetKind::kXid, .xid = static_cast<uint32_t>(std::stoul(xid_))}));
  EXPECT_EQ(ask(*must(life_->sandbox(life_->config(xid))), "select count(*) from t"), "106");
  auto before = must(life_->find(
      {.kind = TargetKind::kXid, .xid = static_cast<uint32_t>(std::stoul(xid_)), .exclusive = true}));
  EXPECT_EQ(ask(*must(life_->sandbox(life_->config(before))), "select count(*) from t"), "105");
  auto named = must(life_->find({.kind = TargetKind::kName, .name = "half way"}));
  EXPECT_EQ(ask(*must(life_->sandbox(life_->config(named))), "select count(*) from t"), "106");
  auto lsn = must(life_->find({.kind = TargetKind::kLsn, .lsn = must(parse_lsn(lsn_)), .exclusive = true}));
  EXPECT_EQ(ask(*must(life_->sandbox(life_->config(lsn))), "select count(*) from t"), "106");
  auto snapshot = must(life_->find({.kind = TargetKind::kSnapshot}));
  EXPECT_EQ(ask(*must(life_->sandbox(life_->config(snapshot))), "select count(*) from t"), "100");
  auto latest = must(life_->find({.kind = TargetKind::kLatest}));
  EXPECT_EQ(ask(*must(life_->sandbox(life_->config(latest))), "select count(*) from t"), "0");
}

TEST_F(SandboxTest, S5_P49_moments_outside_the_archive_are_refused_before_anything_is_written) {
  auto late = life_->find({.kind = TargetKind::kTime, .time_ns = accident_ + 3600'000'000'000});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kRefused);
  EXPECT_NE(late.error().why.find(std::to_string(life_->base.stop_ns)), std::string::npos);
  EXPECT_FALSE(life_->find({.kind = TargetKind::kTime, .time_ns = life_->base.stop_ns - 1'000'000'000}));
  EXPECT_FALSE(life_->find({.kind = TargetKind::kXid, .xid = 4000000}));
  EXPECT_FALSE(life_->find({.kind = TargetKind::kName, .name = "no such"}));
  EXPECT_FALSE(life_->find({.kind = TargetKind::kLsn, .lsn = 0x7f00000000}));
}

TEST_F(SandboxTest, S5_a_server_that_cannot_reach_its_target_fails_with_its_own_words) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kLatest})));
  config.target_lsn = 0x7f00000000;
  auto sandbox = life_->sandbox(config);
  ASSERT_FALSE(sandbox);
  EXPECT_NE(sandbox.error().why.find("recovery ended before configured recovery target was reached"),
            std::string::npos)
      << sandbox.error().why;
}

TEST_F(SandboxTest, P44_status_200_stops_the_server_where_status_1_would_have_promoted_it) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kLatest})));
  const std::string missing = segment_name(1, must(parse_lsn(lsn_)), kTestSegment);
  auto without = [&](int status) {
    return fmt::format("test %f = {} && exit {}; cp {}/%f %p", missing, status, life_->archive_folder);
  };
  config.restore_command = without(1);
  auto promoted = must(life_->sandbox(config));
  EXPECT_EQ(ask(*promoted, "select count(*) from t"), "106");  // silently less than there is: the disaster
  promoted.reset();
  config.restore_command = without(200);
  auto stopped = life_->sandbox(config);
  ASSERT_FALSE(stopped);
  EXPECT_NE(stopped.error().why.find("could not restore file"), std::string::npos) << stopped.error().why;
}

TEST_F(SandboxTest,
       P51_P48_P13_the_copy_reaches_neither_the_archive_nor_the_originals_files_nor_the_network) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kLatest})));
  auto sandbox = must(life_->sandbox(config, [&](const std::string& target) {
    // Whatever the snapshot's own configuration says.
    shell("echo \"data_directory = '" + life_->server->data_directory() + "'\" >> " + target +
          "/postgresql.conf");
    must(configure_recovery(target, config));
  }));
  EXPECT_EQ(ask(*sandbox, "show archive_mode"), "off");
  EXPECT_EQ(ask(*sandbox, "show primary_conninfo"), "");
  EXPECT_NE(ask(*sandbox, "show data_directory"), life_->server->data_directory());
  const std::string place =
      ask(*sandbox, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'");
  EXPECT_NE(place, life_->tablespace);
  EXPECT_NE(place.find(".tablespaces/"), std::string::npos) << place;
  // The same questions that the live server answers.
  const std::string read =
      "select length(pg_read_file('" + life_->server->data_directory() + "/PG_VERSION'))";
  const std::string list = "select count(*) > 0 from pg_ls_dir('" + life_->tablespace + "')";
  EXPECT_EQ(life_->sql(read), "3");
  EXPECT_EQ(life_->sql(list), "t");
  EXPECT_TRUE(ask(*sandbox, read).starts_with("error: ")) << ask(*sandbox, read);
  EXPECT_TRUE(ask(*sandbox, list).starts_with("error: ")) << ask(*sandbox, list);
  const std::string devices =
      ask(*sandbox,
          "select string_agg(line, '') from (select regexp_split_to_table(pg_read_file('/proc/net/dev', 0, "
          "100000, true), '\n') line) x where line like '%:%' and line not like '%lo:%'");
  EXPECT_EQ(devices, "");
  // Still there for the rest of the machine.
  EXPECT_TRUE(read_file(life_->server->data_directory() + "/PG_VERSION"));
}

TEST_F(SandboxTest, S1_S4_P55_signal_file_owner_and_mode) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kSnapshot})));
  std::string data;
  auto sandbox = must(life_->sandbox(config, [&](const std::string& target) {
    data = target;
    EXPECT_TRUE(read_file(target + "/recovery.signal"));
    EXPECT_FALSE(read_file(target + "/recovery.conf"));
  }));
  auto status = must(status_of(data));
  EXPECT_EQ(status.mode & 0777, 0700u);
  EXPECT_EQ(status.uid, must(server_account()).uid);
  EXPECT_EQ(ask(*sandbox, "show max_connections"), "37");
  const std::string folder = folder_of(data);
  sandbox.reset();
  EXPECT_NE(::access(folder.c_str(), F_OK), 0);
}

TEST_F(SandboxTest, P56_a_copy_without_any_configuration_starts) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kSnapshot})));
  auto sandbox = must(life_->sandbox(config, [&](const std::string& target) {
    for (const char* name : {"postgresql.conf", "pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf"})
      must(remove_file(target + "/" + name));
    auto report = must(configure_recovery(target, config));
    EXPECT_EQ(report.notes.size(), 4u);  // recovery.signal of the first time, then the three
  }));
  EXPECT_EQ(ask(*sandbox, "select count(*) from t"), "100");
}

TEST_F(SandboxTest, a_library_that_is_missing_is_named_and_left_out) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kSnapshot})));
  auto sandbox = must(life_->sandbox(config, [&](const std::string& target) {
    shell("echo \"shared_preload_libraries = 'pg_stat_statements, no_such_library'\" >> " + target +
          "/postgresql.conf");
  }));
  EXPECT_EQ(sandbox->missing_libraries(), std::vector<std::string>{"no_such_library"});
  EXPECT_EQ(ask(*sandbox, "show shared_preload_libraries"), "pg_stat_statements");
}

TEST_F(SandboxTest, it_may_pause_at_the_target) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kTime, .time_ns = commits_[103]})));
  config.action = AtTarget::kPause;
  auto sandbox = must(life_->sandbox(config, {}, AtTarget::kPause));
  EXPECT_EQ(ask(*sandbox, "select pg_is_in_recovery()"), "t");
  EXPECT_EQ(ask(*sandbox, "select count(*) from t"), "103");
}

TEST_F(SandboxTest, P48_a_link_that_leads_out_is_refused) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kSnapshot})));
  auto sandbox = life_->sandbox(config, [&](const std::string& target) {
    shell("ln -s " + life_->server->data_directory() + " " + target + "/pg_tblspc/99999");
  });
  ASSERT_FALSE(sandbox);
  EXPECT_EQ(sandbox.error().kind, ErrorKind::kRefused);
  EXPECT_NE(sandbox.error().what.find("pg_tblspc/99999"), std::string::npos);
}

TEST_F(SandboxTest, S32_killed_halfway_it_leaves_nothing) {
  auto config = life_->config(must(life_->find({.kind = TargetKind::kSnapshot})));
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto sandbox = life_->sandbox(config);
    pid_t server = sandbox ? (*sandbox)->pid() : -1;
    if (::write(ends[1], &server, sizeof server) < 0) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  pid_t server = -1;
  ASSERT_EQ(::read(ends[0], &server, sizeof server), static_cast<ssize_t>(sizeof server));
  ASSERT_GT(server, 0);
  auto sandboxes = [&] {
    size_t count = 0;
    for (const auto& entry : must(list_folder(life_->server->folder())))
      count += entry.name.starts_with("kuramori-sandbox-");
    return count;
  };
  EXPECT_TRUE(must(sweep_sandboxes(life_->server->folder())).empty());  // it lives: hands off
  EXPECT_EQ(sandboxes(), 1u);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  for (int i = 0; i < 250 && is_alive(server); ++i) ::usleep(20000);
  EXPECT_FALSE(is_alive(server));
  EXPECT_EQ(must(sweep_sandboxes(life_->server->folder())).size(), 1u);
  EXPECT_EQ(sandboxes(), 0u);
}

TEST_F(SandboxTest, an_ordinary_user_gets_a_sandbox_without_network_too) {
#if defined(KURAMORI_SANITIZED_THREAD)
  GTEST_SKIP() << "the sanitizer's own thread forbids a user namespace";
#endif
  if (::geteuid() != 0) GTEST_SKIP() << "every other test runs as that user";
  auto config = life_->config(must(life_->find({.kind = TargetKind::kSnapshot})));
  const Account account = must(server_account());
  const pid_t child = ::fork();
  if (child == 0) {
    int trouble = 9;
    if (::setgroups(0, nullptr) == 0 && ::setresgid(account.gid, account.gid, account.gid) == 0 &&
        ::setresuid(account.uid, account.uid, account.uid) == 0) {
      auto sandbox = life_->sandbox(config);
      if (!sandbox) {
        std::fprintf(stderr, "%s\n%s\n", sandbox.error().what.c_str(), sandbox.error().why.c_str());
        ::_exit(8);
      }
      trouble = ask(**sandbox, "select count(*) from t") == "100" ? 0 : 1;
      const std::string devices = ask(**sandbox, "select pg_read_file('/proc/net/dev', 0, 100000, true)");
      trouble += devices.find("eth") == std::string::npos && devices.find("lo:") != std::string::npos ? 0 : 2;
    }
    ::_exit(trouble);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(SandboxTest, P45_a_running_servers_directory_is_never_a_target) {
  const std::string running = life_->server->data_directory();
  for (auto use : {TargetUse::kNew, TargetUse::kOverwrite, TargetUse::kDelta}) {
    auto refused = check_target(running, life_->control.system_id, use);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
    EXPECT_NE(refused.error().what.find("running"), std::string::npos);
  }
  // Also when somebody removed its pid file.
  const std::string pid_file = running + "/postmaster.pid";
  const Bytes content = must(read_file(pid_file));
  ::rename(pid_file.c_str(), (running + "/kept").c_str());
  EXPECT_TRUE(must(running_server(running)));
  ::rename((running + "/kept").c_str(), pid_file.c_str());
}

TEST_F(SandboxTest, P45_P46_what_is_there_is_kept_aside_and_foreign_clusters_are_refused) {
  const std::string target = life_->server->folder() + "/occupied";
  shell("cp -a " + life_->base_folder + " " + target);
  EXPECT_EQ(check_target(target, life_->control.system_id, TargetUse::kNew).error().kind,
            ErrorKind::kRefused);
  EXPECT_EQ(check_target(target, life_->control.system_id + 1, TargetUse::kOverwrite).error().kind,
            ErrorKind::kRefused);
  EXPECT_EQ(check_target(target, life_->control.system_id + 1, TargetUse::kDelta).error().kind,
            ErrorKind::kRefused);
  EXPECT_EQ(must(check_target(target, life_->control.system_id, TargetUse::kOverwrite)),
            TargetState::kStoppedCluster);
  // A pid file that a power cut left: its number now belongs to somebody else.
  must(
      write_file_durably(target + "/postmaster.pid", as_bytes(fmt::format("{}\n{}\n", ::getppid(), target))));
  EXPECT_EQ(must(check_target(target, life_->control.system_id, TargetUse::kOverwrite)),
            TargetState::kStoppedCluster);
  const std::string aside = must(move_aside(target, system_clock().now()));
  EXPECT_TRUE(aside.starts_with(target + ".old-"));
  EXPECT_TRUE(read_file(aside + "/PG_VERSION"));
  EXPECT_EQ(must(check_target(target, life_->control.system_id, TargetUse::kNew)), TargetState::kAbsent);
}

TEST(SandboxAlone, P54_a_cold_copy_with_wal_level_minimal_just_starts) {
  PostgresServerOptions options;
  options.settings = {"wal_level = minimal", "max_wal_senders = 0"};
  auto server = must(PostgresServer::create(options));
  must(server->sql("create table t as select generate_series(1, 5) n"));
  must(server->stop());
  const Account account = must(server_account());
  auto folder = must(SandboxFolder::make(server->folder(), account));
  shell("cp -a " + server->data_directory() + " " + folder.data_directory());
  must(configure_recovery(folder.data_directory(), {.mode = RecoveryMode::kNone}));
  EXPECT_FALSE(read_file(folder.data_directory() + "/recovery.signal"));
  SandboxOptions sandbox;
  sandbox.programs = must(find_programs(15));
  sandbox.data_directory = folder.data_directory();
  sandbox.originals = {server->data_directory()};
  auto open = must(Sandbox::start(std::move(folder), sandbox, system_clock()));
  EXPECT_EQ(ask(*open, "select count(*) from t"), "5");
}

}  // namespace
}  // namespace kuramori::postgres
