// What is asked of a running server: rights, row counts, the doctor's look.
#include <gtest/gtest.h>

#include "capture_fixture.h"
#include "source/postgres/connection.h"
#include "source/postgres/counts.h"
#include "source/postgres/doctor.h"

namespace kuramori::postgres {
namespace {

class PostgresQuestions : public PostgresCapture {
 protected:
  // docs/postgres.md, "A role of its own".
  void make_role() {
    const int major = server_->major();
    sql("CREATE ROLE kuramori LOGIN REPLICATION");
    sql(std::string("GRANT pg_read_all_settings") + (major >= 14 ? ", pg_read_all_data" : "") +
        " TO kuramori");
    sql(std::string("GRANT EXECUTE ON FUNCTION ") +
        (major >= 15 ? "pg_backup_start(text, boolean), pg_backup_stop(boolean),"
                     : "pg_start_backup(text, boolean, boolean), pg_stop_backup(boolean, boolean),") +
        " pg_create_restore_point(text), pg_switch_wal() TO kuramori");
    if (major == 13) sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO kuramori");
  }
  std::string as_role() const { return server_->connect("postgres", "kuramori"); }
  const TableCount* table(const Counts& counts, std::string_view database, std::string_view name) {
    for (const DatabaseCounts& one : counts.databases) {
      if (one.name != database) continue;
      for (const TableCount& counted : one.tables) {
        if (counted.table == name) return &counted;
      }
    }
    return nullptr;
  }
};

class PostgresRole : public PostgresQuestions, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Majors, PostgresRole, ::testing::ValuesIn(majors_to_test()),
                         ::testing::PrintToStringParamName());

TEST_P(PostgresRole, with_the_least_rights_captures_counts_and_satisfies_the_doctor) {
  start_server({.major = GetParam()});
  sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 1234) g");
  make_role();
  auto findings = examine_server(as_role());
  ASSERT_OK(findings);
  for (const Finding& finding : *findings) EXPECT_NE(finding.about, "role") << finding.what;
  CaptureOptions limited = options();
  limited.connect = as_role();
  auto capture = Capture::begin(limited, system_clock(), listener_);
  ASSERT_OK(capture);
  RebuiltCluster rebuilt(place("rebuilt"));
  ASSERT_OK(rebuilt.take(**capture));
  EXPECT_EQ(listener_.heard(), "");  // nothing it would have liked to do and could not
  auto counts = count_rows(as_role(), {.restore_point = "point"}, system_clock(), listener_);
  ASSERT_OK(counts);
  ASSERT_TRUE(table(*counts, "postgres", "t"));
  EXPECT_EQ(table(*counts, "postgres", "t")->rows, 1234u);
}

TEST_F(PostgresQuestions, each_missing_right_is_named_with_its_grant) {
  start_server();
  sql("CREATE ROLE kuramori LOGIN");
  CaptureOptions limited = options();
  limited.connect = as_role();
  auto capture = Capture::begin(limited, system_clock(), listener_);
  ASSERT_FALSE(capture);
  EXPECT_EQ(capture.error().kind, ErrorKind::kDenied);
  EXPECT_NE(capture.error().next.find("GRANT pg_read_all_settings TO \"kuramori\""), std::string::npos);
  sql("GRANT pg_read_all_settings TO kuramori");
  capture = Capture::begin(limited, system_clock(), listener_);
  ASSERT_FALSE(capture);
  EXPECT_EQ(capture.error().kind, ErrorKind::kDenied);
  EXPECT_NE(capture.error().next.find("pg_backup_start(text, boolean)"), std::string::npos);
  EXPECT_NE(listener_.heard().find("ALTER ROLE \"kuramori\" REPLICATION"), std::string::npos);
}

// P54
TEST_F(PostgresQuestions, P54_a_server_with_too_little_wal_is_refused_with_the_setting) {
  start_server({.settings = {"wal_level = minimal", "max_wal_senders = 0"}});
  auto capture = begin();
  ASSERT_FALSE(capture);
  EXPECT_EQ(capture.error().kind, ErrorKind::kRefused);
  EXPECT_NE(capture.error().next.find("ALTER SYSTEM SET wal_level = replica"), std::string::npos);
}

TEST_F(PostgresQuestions, every_table_is_listed_and_what_is_not_counted_says_why) {
  start_server();
  sql("CREATE DATABASE \"other \"\"db\"\"\"");
  sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 100) g");
  sql("CREATE TABLE \"Odd \"\"name\"\"\" (a int); CREATE UNLOGGED TABLE u (a int)");
  sql("CREATE TABLE parent (a int) PARTITION BY RANGE (a);"
      "CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10); INSERT INTO parent VALUES (1), "
      "(2)");
  ASSERT_OK(server_->sql("CREATE TABLE there AS SELECT 1 AS a", "other \"db\""));
  auto counts = count_rows(server_->connect(), {.mode = CountsMode::kAll, .restore_point = "here"},
                           system_clock(), listener_);
  ASSERT_OK(counts);
  EXPECT_EQ(table(*counts, "postgres", "t")->rows, 100u);
  EXPECT_EQ(table(*counts, "postgres", "Odd \"name\"")->rows, 0u);
  EXPECT_EQ(table(*counts, "postgres", "child")->rows, 2u);
  EXPECT_EQ(table(*counts, "postgres", "parent"), nullptr);
  EXPECT_EQ(table(*counts, "other \"db\"", "there")->rows, 1u);
  EXPECT_FALSE(table(*counts, "postgres", "u")->rows);
  EXPECT_NE(table(*counts, "postgres", "u")->uncounted.find("unlogged"), std::string::npos);
  EXPECT_EQ(counts->restore_point, "here");
  EXPECT_GT(counts->restore_point_lsn, 0u);
  EXPECT_TRUE(counts->databases[0].exact);

  auto again = decode_counts(encode_counts(*counts));
  ASSERT_OK(again);
  EXPECT_EQ(encode_counts(*again), encode_counts(*counts));
  EXPECT_FALSE(decode_counts(as_bytes("{\"version\":1}")));

  // A writer under way: its commit may be in the WAL before anyone sees it, so nothing is exact.
  auto writer = Connection::open(server_->connect());
  ASSERT_OK(writer);
  ASSERT_OK(writer->run("BEGIN"));
  ASSERT_OK(writer->run("INSERT INTO public.t VALUES (0)"));
  counts = count_rows(server_->connect(), {.mode = CountsMode::kAll, .restore_point = "there"},
                      system_clock(), listener_);
  ASSERT_OK(counts);
  for (const DatabaseCounts& database : counts->databases) EXPECT_FALSE(database.exact);
  EXPECT_EQ(table(*counts, "postgres", "t")->rows, 100u);

  // A lock costs one table its count, not the others.
  ASSERT_OK(writer->run("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE"));
  counts = count_rows(server_->connect(), {.mode = CountsMode::kAll}, system_clock(), listener_);
  ASSERT_OK(counts);
  EXPECT_EQ(table(*counts, "postgres", "t")->uncounted, "somebody holds a lock on it");
  EXPECT_EQ(table(*counts, "postgres", "child")->rows, 2u);

  counts = count_rows(server_->connect(), {.mode = CountsMode::kTables, .tables = {"public.child"}},
                      system_clock(), listener_);
  ASSERT_OK(counts);
  EXPECT_EQ(table(*counts, "postgres", "child")->rows, 2u);
  EXPECT_EQ(table(*counts, "postgres", "t")->uncounted, "not asked for");
}

TEST_F(PostgresQuestions, a_budget_that_is_used_up_leaves_the_rest_uncounted) {
  start_server();
  sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 100) g");
  auto counts = count_rows(server_->connect(), {.budget = Duration::zero()}, system_clock(), listener_);
  ASSERT_OK(counts);
  EXPECT_FALSE(table(*counts, "postgres", "t")->rows);
  EXPECT_EQ(table(*counts, "postgres", "t")->uncounted, "budget of 0 s used up");
}

// D3: a fresh server as initdb makes it.
TEST_F(PostgresQuestions, the_doctor_finds_what_a_fresh_server_lacks) {
  start_server({.checksums = false});
  auto findings = examine_server(server_->connect());
  ASSERT_OK(findings);
  std::set<std::string> about;
  for (const Finding& finding : *findings) about.insert(finding.about);
  for (const char* wanted : {"archive_mode", "archive_command", "archive_timeout", "data_checksums", "fsync",
                             "wal_keep_size", "max_slot_wal_keep_size"})
    EXPECT_TRUE(about.contains(wanted)) << wanted;
  EXPECT_FALSE(about.contains("wal_level"));
  EXPECT_EQ(findings->front().severity, Severity::kProblem);
  // Its lines work.
  for (const Finding& finding : *findings) {
    if (finding.fix.starts_with("ALTER SYSTEM")) {
      const std::string statement = finding.fix.substr(0, finding.fix.find(';'));
      EXPECT_TRUE(server_->sql(statement)) << statement;
    }
  }
  ASSERT_OK(server_->stop());
  ASSERT_OK(server_->start());
  findings = examine_server(server_->connect());
  ASSERT_OK(findings);
  for (const Finding& finding : *findings)
    EXPECT_FALSE(finding.fix.starts_with("ALTER SYSTEM")) << finding.what;
}

}  // namespace
}  // namespace kuramori::postgres
