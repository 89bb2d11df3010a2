// What is found in the pg_wal of a real server that died.
#include "source/postgres/salvage.h"

#include "source/postgres/recovery_for_tests.h"

namespace kuramori::postgres {
namespace {

TEST(Salvage, the_commits_since_the_last_archived_segment_come_back) {
  ArchivedServer life;
  life.sql("create tablespace space location '" + life.tablespace + "'");
  life.sql("create table t (n int)");
  life.snapshot();
  life.sql("insert into t select generate_series(1, 10)");
  life.switch_wal();
  life.sql("alter system set archive_command = 'false'");
  life.sql("select pg_reload_conf()");
  life.sql("insert into t select generate_series(11, 60000)");  // several segments nobody archives
  life.sql("insert into t values (60001)");
  const Lsn last = must(parse_lsn(life.lsn()));
  const std::string data = life.server->data_directory();

  auto running = find_salvage(data, life.control.system_id);
  ASSERT_FALSE(running);
  EXPECT_EQ(running.error().kind, ErrorKind::kRefused);

  life.server->kill();
  auto foreign = find_salvage(data, life.control.system_id + 1);
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().kind, ErrorKind::kRefused);

  // Without it, the latest state lacks them.
  EXPECT_EQ(ask(*must(life.sandbox(life.config(must(life.find({.kind = TargetKind::kLatest}))))),
                "select count(*) from t"),
            "10");

  auto report = must(find_salvage(data, life.control.system_id));
  ASSERT_FALSE(report.segments.empty());
  const SalvagedSegment& open = report.segments.back();
  EXPECT_FALSE(open.whole);
  EXPECT_GE(open.to, last);
  EXPECT_LT(open.to, last + 8192);
  for (const auto& segment : report.segments) {
    const std::string archived = life.archive_folder + "/" + segment.name;
    Bytes bytes = must(read_salvaged(segment));
    EXPECT_EQ(bytes.size(), segment.to - segment.start);
    if (auto there = read_file(archived)) {
      EXPECT_TRUE(equal(*there, bytes)) << segment.name;  // P31: what was archived is the same
      continue;
    }
    bytes.resize(kTestSegment);  // what wal get pads with zeros
    must(write_file_durably(archived, bytes, 0644));
  }
  auto latest = must(life.find({.kind = TargetKind::kLatest}));
  EXPECT_EQ(ask(*must(life.sandbox(life.config(latest))), "select count(*) from t"), "60001");
}

TEST(Salvage, a_recycled_file_and_a_torn_record_are_left) {
  PostgresServerOptions options;
  options.wal_segment_mib = 1;
  auto server = must(PostgresServer::create(options));
  must(server->sql("create table t as select generate_series(1, 40000) n"));
  must(server->sql("insert into t select generate_series(1, 40000)"));
  server->kill();
  const std::string data = server->data_directory();
  auto report = must(find_salvage(data, 0));
  ASSERT_GE(report.segments.size(), 3u);
  const SalvagedSegment last = report.segments.back();
  const SalvagedSegment whole = report.segments[report.segments.size() - 2];
  EXPECT_TRUE(whole.whole);
  EXPECT_TRUE(last.follows_previous);

  // A file of the future with the content of the past: what the server keeps for reuse.
  const std::string future = segment_name(last.timeline, last.start + 5 * kTestSegment, kTestSegment);
  shell("cp " + whole.path + " " + data + "/pg_wal/" + future);
  // A flipped bit in the middle of the last whole segment.
  auto file = must(open_file(whole.path, O_RDWR));
  uint8_t byte = 0;
  must(pread_full(file, kTestSegment / 2, MutableByteView(&byte, 1), "segment"));
  byte ^= 0x10;
  must(pwrite_full(file, kTestSegment / 2, ByteView(&byte, 1), "segment"));

  auto damaged = must(find_salvage(data, 0));
  for (const auto& segment : damaged.segments) {
    EXPECT_NE(segment.name, future);
    if (segment.name == whole.name) {
      EXPECT_FALSE(segment.whole);
      EXPECT_LE(segment.to, segment.start + kTestSegment / 2);
    }
    if (segment.name == last.name) {
      EXPECT_FALSE(segment.follows_previous);
    }
  }
  const auto told = [&](const std::string& name) {
    return std::ranges::any_of(damaged.left, [&](const auto& left) { return left.name == name; });
  };
  EXPECT_TRUE(told(future));
  EXPECT_TRUE(told(whole.name));
}

}  // namespace
}  // namespace kuramori::postgres
