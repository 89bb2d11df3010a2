// The checks of a drill on a real restored server, and each way in which they must fail.
#include "source/postgres/checks.h"

#include <unistd.h>

#include "source/postgres/recovery_for_tests.h"

namespace kuramori::postgres {
namespace {

class ChecksTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    life_ = std::make_unique<ArchivedServer>();
    life_->sql("create tablespace space location '" + life_->tablespace + "'");
    life_->sql("create table lines (n int primary key, text text)");
    life_->sql("insert into lines select i, repeat('x', 100) from generate_series(1, 3000) i");
    life_->sql("create table small (n int)");
    life_->sql("insert into small values (1), (2)");
    life_->sql("create unlogged table scratch (n int)");
    life_->sql("create database other");
    life_->snapshot();
    life_->sql("insert into small values (3)");
    life_->sql("select pg_create_restore_point('counted')");
    life_->sql("insert into lines values (5000)");
    life_->sql("create table newer (n int)");
    life_->switch_wal();
    life_->sql("checkpoint");
    life_->switch_wal();
  }
  static void TearDownTestSuite() { life_.reset(); }

  static CheckPlan plan() {
    return {.tables = {{.database = "postgres", .schema = "public", .name = "lines", .rows = 3000},
                       {.database = "postgres", .schema = "public", .name = "small", .rows = 3},
                       {.database = "postgres", .schema = "public", .name = "scratch", .rows = 0}},
            .at_restore_point = true};
  }
  static std::unique_ptr<Sandbox> sandbox(TargetKind kind) {
    auto found = must(life_->find({.kind = kind, .name = "counted"}));
    return must(life_->sandbox(life_->config(found)));
  }
  static std::vector<CheckResult> check(const Sandbox& on, const CheckPlan& plan) {
    return must(
        run_checks([&](const std::string& database) { return on.connect(database); }, plan, system_clock()));
  }
  static const CheckResult& named(const std::vector<CheckResult>& results, std::string_view name) {
    for (const auto& result : results) {
      if (result.name.find(name) != std::string::npos) return result;
    }
    static const CheckResult none{"none", Verdict::kFailed, "no such check"};
    ADD_FAILURE() << "no check is named " << name;
    return none;
  }
  static std::unique_ptr<ArchivedServer> life_;
};
std::unique_ptr<ArchivedServer> ChecksTest::life_;

TEST_F(ChecksTest, S32_at_the_restore_point_every_table_is_equal_and_amcheck_finds_nothing) {
  auto copy = sandbox(TargetKind::kName);
  CheckPlan wanted = plan();
  wanted.sql = {{.query = "select count(*) from lines", .expect = "unchanged", .at_capture = "3000"},
                {.query = "select max(n) > 2 from small", .expect = "t"},
                {.query = "select n, 'a' from small order by n limit 2", .expect = "1|a\n2|a"}};
  auto results = check(*copy, wanted);
  for (const auto& result : results) {
    EXPECT_NE(result.verdict, Verdict::kFailed) << result.name << ": " << result.detail;
  }
  EXPECT_EQ(named(results, "public.lines").verdict, Verdict::kPassed);
  EXPECT_EQ(named(results, "public.small").detail, "3 rows, as at the snapshot");
  EXPECT_EQ(named(results, "public.scratch").verdict, Verdict::kUncounted);  // unlogged
  EXPECT_EQ(named(results, "sql: select count").verdict, Verdict::kPassed);
  EXPECT_EQ(named(results, "amcheck postgres").verdict, Verdict::kPassed)
      << named(results, "amcheck postgres").detail;
  EXPECT_EQ(named(results, "database other").verdict, Verdict::kPassed);
  EXPECT_EQ(overall(results), Verdict::kUncounted);
}

TEST_F(ChecksTest, S32_one_row_deleted_a_table_missing_or_one_too_many_fails) {
  auto copy = sandbox(TargetKind::kName);
  auto connection = must(Connection::open(copy->connect()));
  must(connection.run("delete from public.lines where n = 1234"));
  auto results = check(*copy, plan());
  EXPECT_EQ(named(results, "public.lines").verdict, Verdict::kFailed);
  EXPECT_EQ(named(results, "public.lines").detail, "2999 rows, but 3000 at the snapshot");
  EXPECT_EQ(overall(results), Verdict::kFailed);

  must(connection.run("create table public.extra (n int)"));
  must(connection.run("drop table public.small"));
  results = check(*copy, plan());
  EXPECT_EQ(named(results, "public.small").verdict, Verdict::kFailed);
  EXPECT_NE(named(results, "public.small").detail.find("missing"), std::string::npos);
  EXPECT_EQ(named(results, "public.extra").verdict, Verdict::kFailed);

  CheckPlan wanted = plan();
  wanted.tables.push_back({.database = "gone", .schema = "public", .name = "t", .rows = 1});
  wanted.sql = {{.query = "select count(*) from lines", .expect = "3000"},
                {.query = "select count(*) from lines", .expect = "unchanged", .at_capture = "3000"},
                {.query = "select nonsense", .expect = "1"},
                {.query = "delete from lines", .expect = ""}};
  results = check(*copy, wanted);
  EXPECT_EQ(named(results, "gone.public.t").verdict, Verdict::kFailed);
  size_t failed = 0;
  for (const auto& result : results)
    failed += result.name.starts_with("sql: ") && result.verdict == Verdict::kFailed;
  EXPECT_EQ(failed, 4u);
  EXPECT_EQ(ask(*copy, "select count(*) from lines"), "2999");  // a check changes nothing
}

TEST_F(ChecksTest, elsewhere_than_the_restore_point_counts_are_bounded_and_bounds_are_held) {
  auto copy = sandbox(TargetKind::kLatest);
  CheckPlan wanted = plan();
  wanted.at_restore_point = false;
  wanted.with_amcheck = false;
  auto results = check(*copy, wanted);
  EXPECT_EQ(named(results, "public.lines").verdict, Verdict::kBounded);
  EXPECT_NE(named(results, "public.lines").detail.find("3001"), std::string::npos);
  EXPECT_EQ(named(results, "public.newer").verdict, Verdict::kUncounted);
  wanted.tables[0].fewest = 3000;
  wanted.tables[0].most = 3001;
  wanted.tables[1].fewest = wanted.tables[1].most = 3;
  results = check(*copy, wanted);
  EXPECT_EQ(named(results, "public.lines").verdict, Verdict::kBounded);
  EXPECT_EQ(named(results, "public.small").verdict, Verdict::kPassed);
  wanted.tables[0].most = 3000;
  EXPECT_EQ(named(check(*copy, wanted), "public.lines").verdict, Verdict::kFailed);
  wanted.count_budget = Duration::zero();
  EXPECT_EQ(named(check(*copy, wanted), "public.lines").verdict, Verdict::kUncounted);
}

TEST_F(ChecksTest, S32_the_counts_of_a_snapshot_are_what_is_asked) {
  Counts counts;
  counts.databases = {{.name = "postgres",
                       .tables = {{.schema = "public", .table = "lines", .rows = 3000, .touched = false},
                                  {.schema = "public", .table = "small", .rows = 2, .touched = true},
                                  {.schema = "public", .table = "scratch", .uncounted = "unlogged"}}},
                      {.name = "other", .uncounted = "no connection"}};
  CheckPlan wanted{.at_restore_point = true, .with_amcheck = false};
  expect_counts(counts, nullptr, wanted);
  auto copy = sandbox(TargetKind::kName);
  auto results = check(*copy, wanted);
  EXPECT_EQ(named(results, "public.lines").verdict, Verdict::kPassed);
  EXPECT_EQ(named(results, "public.small").verdict, Verdict::kBounded);  // somebody wrote to it meanwhile
  EXPECT_EQ(overall(results), Verdict::kUncounted);
  must(must(Connection::open(copy->connect("other"))).run("create table public.t (n int)"));
  EXPECT_EQ(named(check(*copy, wanted), "other.public.t").verdict, Verdict::kUncounted);
  wanted.tables[1].fewest = 4;
  wanted.tables[1].most = 5;
  EXPECT_EQ(named(check(*copy, wanted), "public.small").verdict, Verdict::kFailed);
}

TEST_F(ChecksTest, P44_a_recovery_that_ended_too_early_fails_although_every_query_works) {
  auto found = must(life_->find({.kind = TargetKind::kLatest}));
  CheckPlan wanted{.knows_tables = false, .with_amcheck = false};
  wanted.must_reach = found.reached;
  {
    auto copy = must(life_->sandbox(life_->config(found)));
    EXPECT_EQ(named(check(*copy, wanted), "recovery").verdict, Verdict::kPassed)
        << named(check(*copy, wanted), "recovery").detail;
  }
  auto config = life_->config(found);
  const std::string spool = life_->server->folder() + "/it's a spool";
  must(make_folders(spool, 0755));
  must(PostgresServer::give_to_server_user(spool));
  for (const auto& segment : found.segments) {
    const std::string name = segment_name(segment.timeline, segment.start, kTestSegment);
    must(write_file_durably(spool + "/" + name, must(read_file(life_->archive_folder + "/" + name)), 0644));
  }
  config.restore_command = spool_restore_command(spool);
  EXPECT_EQ(named(check(*must(life_->sandbox(config)), wanted), "recovery").verdict, Verdict::kPassed);
  const auto& last = found.segments.back();
  must(remove_file(spool + "/" + segment_name(last.timeline, last.start, kTestSegment)));
  EXPECT_EQ(named(check(*must(life_->sandbox(config)), wanted), "recovery").verdict, Verdict::kFailed);
}

TEST_F(ChecksTest, amcheck_finds_an_index_that_lacks_a_row) {
  auto copy = sandbox(TargetKind::kName);
  // An index that lacks a row the table has.
  auto connection = must(Connection::open(copy->connect()));
  must(
      connection.run("update pg_index set indisready = false, indisvalid = false where indexrelid = "
                     "'public.lines_pkey'::regclass"));
  must(connection.run("insert into public.lines values (9999)"));
  must(
      connection.run("update pg_index set indisready = true, indisvalid = true where indexrelid = "
                     "'public.lines_pkey'::regclass"));
  CheckPlan wanted = plan();
  wanted.tables.clear();
  wanted.knows_tables = false;
  auto results = check(*copy, wanted);
  EXPECT_EQ(named(results, "index postgres.public.lines_pkey").verdict, Verdict::kFailed);
  EXPECT_EQ(named(results, "amcheck postgres").verdict, Verdict::kFailed);
  EXPECT_EQ(overall(results), Verdict::kFailed);
}

}  // namespace
}  // namespace kuramori::postgres
