// Captures of a real, busy PostgreSQL, rebuilt and started. KURAMORI_TEST_MAJORS ("13 17") adds majors to the
// first test; all run on 15.
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <set>

#include "capture_fixture.h"
#include "os/file.h"

namespace kuramori::postgres {
namespace {

class PostgresCaptureOfMajor : public PostgresCapture, public ::testing::WithParamInterface<int> {};

INSTANTIATE_TEST_SUITE_P(Majors, PostgresCaptureOfMajor, ::testing::ValuesIn(majors_to_test()),
                         ::testing::PrintToStringParamName());

// P1, P9, P11: under load; the balances that transactions keep equal are equal in the copy.
TEST_P(PostgresCaptureOfMajor, taken_while_clients_write_starts_and_is_consistent) {
  start_server({.major = GetParam(), .settings = {"max_wal_size = 64MB"}});
  ASSERT_TRUE(server_);
  auto filled = server_->run("pgbench", {"-i", "-q", "-s", "5", server_->connect()});
  ASSERT_OK(filled);
  ASSERT_EQ(filled->status, 0) << filled->text;
  sql("CREATE UNLOGGED TABLE scratch AS SELECT g FROM generate_series(1, 10000) g");
  sql("CREATE TABLE small (a int); CREATE TABLE empty (a int)");
  auto clients = server_->start_program("pgbench", {"-n", "-c", "4", "-T", "60", server_->connect()});
  ASSERT_OK(clients);
  while (sql("SELECT count(*) FROM pgbench_history") < "1") {
  }
  auto capture = begin();
  ASSERT_OK(capture);
  EXPECT_EQ((*capture)->start().timeline, 1u);
  EXPECT_EQ(std::to_string((*capture)->start().system_id),
            sql("SELECT system_identifier FROM pg_control_system()"));
  RebuiltCluster rebuilt(place("rebuilt"));
  auto end = rebuilt.take(**capture);
  ASSERT_OK(end);
  EXPECT_TRUE(end->broken_pages.empty());
  EXPECT_GT(end->stop_lsn, (*capture)->start().start_lsn);
  EXPECT_GT(end->bytes_read, uint64_t{50} << 20);
  EXPECT_EQ((*capture)->files().back().entry.path, "global/pg_control");
  EXPECT_EQ(find_file(**capture, "postmaster.pid"), -1);
  capture->reset();
  (*clients)->finish();
  // Nothing is left behind: no slot, no backup mode.
  EXPECT_EQ(sql("SELECT count(*) FROM pg_replication_slots"), "0");
  ASSERT_NO_FATAL_FAILURE(check_rebuilt(rebuilt));
  EXPECT_EQ(
      restored_sql("SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM "
                   "pgbench_history) AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) "
                   "FROM pgbench_history)"),
      "t");
  EXPECT_EQ(restored_sql("SELECT count(*) FROM pgbench_accounts"), "500000");
  EXPECT_EQ(restored_sql("SELECT count(*) FROM scratch"), "0");  // P9: there, and empty
  EXPECT_EQ(restored_sql("SELECT count(*) FROM empty"), "0");    // P10
}

TEST_F(PostgresCapture, destroyed_early_ends_backup_mode) {
  start_server();
  auto capture = begin();
  ASSERT_OK(capture);
  EXPECT_EQ(sql("SELECT count(*) FROM pg_replication_slots WHERE temporary"), "1");
  capture->reset();
  for (int tries = 0; tries < 500 && sql("SELECT count(*) FROM pg_replication_slots") != "0"; ++tries) {
  }
  EXPECT_EQ(sql("SELECT count(*) FROM pg_replication_slots"), "0");
}

// P4, P5, P10: dropped, truncated, cut and grown between the listing and the reading, and in the middle of
// it.
TEST_F(PostgresCapture, files_that_vanish_shrink_and_grow_while_read_restore_exactly) {
  start_server({.settings = {"max_wal_size = 1GB"}});
  sql("CREATE TABLE dropped AS SELECT g, repeat('d', 500) FROM generate_series(1, 20000) g");
  sql("CREATE TABLE cut AS SELECT g, repeat('c', 1000) FROM generate_series(1, 300000) g");
  sql("CREATE TABLE grown AS SELECT g, repeat('g', 500) FROM generate_series(1, 20000) g");
  const std::string dropped = sql("SELECT pg_relation_filepath('dropped')");
  const std::string cut = sql("SELECT pg_relation_filepath('cut')");
  auto capture = begin();
  ASSERT_OK(capture);
  sql("DROP TABLE dropped");
  sql("CHECKPOINT");  // removes the file
  sql("INSERT INTO grown SELECT g, 'more' FROM generate_series(1, 50000) g");
  RebuiltCluster rebuilt(place("rebuilt"));
  std::atomic<bool> done = false;
  rebuilt.on_data = [&](const std::string& path, uint32_t first_page) {
    // Some pages into the second slice: two workers are inside the file.
    if (path == cut && first_page > 8192 + 256 && !done.exchange(true)) {
      EXPECT_TRUE(server_->sql("DELETE FROM cut WHERE g > 1000"));
      EXPECT_TRUE(server_->sql("VACUUM cut"));
      EXPECT_TRUE(server_->sql("INSERT INTO cut SELECT g, 'again' FROM generate_series(1000001, 1001000) g"));
    }
  };
  auto end = rebuilt.take(**capture);
  ASSERT_OK(end);
  EXPECT_TRUE(done);
  EXPECT_TRUE(end->broken_pages.empty());
  const int index = find_file(**capture, dropped);
  ASSERT_GE(index, 0);
  EXPECT_TRUE((*capture)->files()[static_cast<size_t>(index)].vanished);
  ASSERT_NO_FATAL_FAILURE(check_rebuilt(rebuilt));
  EXPECT_EQ(restored_sql("SELECT count(*) FROM grown"), "70000");
  EXPECT_EQ(restored_sql("SELECT count(*), max(g) FROM cut"), "2000|1001000");
  EXPECT_EQ(restored_sql("SELECT to_regclass('dropped') IS NULL"), "t");
}

// P5: a file is cut while two workers are inside it. Slow reads, so that both are; the hole between what the
// one lost and the other still had is filled, and nothing is left for an older snapshot to fill it with.
TEST_F(PostgresCapture, a_file_that_is_cut_short_in_the_middle_has_no_holes) {
  start_server({.settings = {"max_wal_size = 1GB"}});
  sql("CREATE TABLE cut AS SELECT g, repeat('c', 1000) FROM generate_series(1, 160000) g");
  const std::string cut = sql("SELECT pg_relation_filepath('cut')");
  const uint64_t size = static_cast<uint64_t>(std::stoll(sql("SELECT pg_relation_size('cut')")));
  ASSERT_GT(size, uint64_t{2} << 26);  // three slices
  auto capture = begin();
  ASSERT_OK(capture);
  RebuiltCluster rebuilt(place("rebuilt"));
  std::mutex mutex;
  std::condition_variable both;
  std::set<uint32_t> slices;
  bool truncated = false;
  // Each worker waits inside its slice until the other is in one too; then the file loses all but its first
  // pages.
  rebuilt.on_data = [&](const std::string& path, uint32_t first_page) {
    if (path != cut) return;
    std::unique_lock lock(mutex);
    slices.insert(first_page / 8192);
    both.notify_all();
    if (!both.wait_for(lock, std::chrono::seconds(20), [&] { return slices.size() >= 2; })) return;
    if (truncated) return;
    truncated = true;
    EXPECT_TRUE(server_->sql("DELETE FROM cut WHERE g > 1000"));
    EXPECT_TRUE(server_->sql("VACUUM cut"));
  };
  auto end = rebuilt.take(**capture);
  ASSERT_OK(end);
  EXPECT_TRUE(truncated);
  const uint64_t captured = (*capture)->files()[static_cast<size_t>(find_file(**capture, cut))].entry.size;
  EXPECT_LT(captured, size);
  EXPECT_GT(captured, uint64_t{1} << 26);  // the second worker had begun: the first one's slice is whole
  ASSERT_NO_FATAL_FAILURE(check_rebuilt(rebuilt));
  EXPECT_EQ(restored_sql("SELECT count(*) FROM cut"), "1000");
}

// The skip rule: what did not change is not given, all-zero pages and FSM and VM always are.
TEST_F(PostgresCapture, unchanged_pages_are_skipped_and_a_base_completes_them) {
  start_server();
  sql("CREATE TABLE t AS SELECT g, repeat('x', 100) AS pad FROM generate_series(1, 200000) g");
  sql("VACUUM t");
  auto first = begin();
  ASSERT_OK(first);
  RebuiltCluster rebuilt(place("rebuilt"));
  std::map<std::string, uint32_t> pages;
  ASSERT_OK(rebuilt.copy(**first));
  const Lsn base_lsn = (*first)->start().start_lsn;
  for (const CaptureFile& file : (*first)->files())
    pages[file.entry.path] = static_cast<uint32_t>(file.entry.size / 8192);
  first->reset();

  sql("UPDATE t SET pad = 'changed' WHERE g = 100000");
  auto second = begin();
  ASSERT_OK(second);
  std::mutex mutex;
  uint64_t given = 0;
  rebuilt.on_data = [&](const std::string& path, uint32_t) {
    const std::lock_guard lock(mutex);
    if (path.starts_with("base/")) ++given;
  };
  const SkipRule skip = [&](uint32_t, const CaptureFile& file) {
    const auto found = pages.find(file.entry.path);
    return found == pages.end() ? Skip{} : Skip{.unchanged_before = base_lsn, .base_pages = found->second};
  };
  // Over the first copy: it is the base.
  ASSERT_OK(remove_tree(rebuilt.folder() + "/pg_wal"));
  auto end = rebuilt.take(**second, skip);
  ASSERT_OK(end);
  EXPECT_GT(end->pages_skipped, 3000u);
  ASSERT_NO_FATAL_FAILURE(check_rebuilt(rebuilt));
  EXPECT_EQ(restored_sql("SELECT count(*), count(*) FILTER (WHERE pad = 'changed') FROM t"), "200000|1");
}

// P3: a broken page is told loudly and kept as it is.
TEST_F(PostgresCapture, a_broken_page_is_reported_and_its_bytes_are_kept) {
  start_server();
  sql("CREATE TABLE t AS SELECT g, repeat('x', 100) AS pad FROM generate_series(1, 10000) g");
  const std::string path = sql("SELECT pg_relation_filepath('t')");
  ASSERT_OK(server_->stop());
  const std::string file = server_->data_directory() + "/" + path;
  {
    auto fd = open_file(file, O_RDWR);
    ASSERT_OK(fd);
    ASSERT_OK(pwrite_full(*fd, 7 * 8192 + 4000, as_bytes("damage"), file));
  }
  ASSERT_OK(server_->start());
  auto capture = begin();
  ASSERT_OK(capture);
  RebuiltCluster rebuilt(place("rebuilt"));
  auto end = rebuilt.take(**capture);
  ASSERT_OK(end);
  ASSERT_EQ(end->broken_pages.size(), 1u);
  EXPECT_EQ(end->broken_pages[0].path, path);
  EXPECT_EQ(end->broken_pages[0].page, 7u);
  EXPECT_NE(listener_.heard().find("BROKEN PAGE 7 of " + path), std::string::npos);
  EXPECT_EQ(*read_file(rebuilt.folder() + "/" + path), *read_file(file));
}

// P15: another cluster, a stopped one, a clone.
TEST_F(PostgresCapture, only_the_servers_own_data_directory_is_taken) {
  start_server();
  auto other = PostgresServer::create();
  ASSERT_OK(other);
  CaptureOptions wrong = options();
  wrong.data_directory = (*other)->data_directory();
  auto refused = Capture::begin(wrong, system_clock(), listener_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_NE(refused.error().why.find("is of system"), std::string::npos) << refused.error().why;

  auto clone = server_->run("cp", {"-a", server_->data_directory(), place("clone")});
  ASSERT_OK(clone);
  ASSERT_OK(remove_file(place("clone/postmaster.pid")));
  wrong.data_directory = place("clone");
  refused = Capture::begin(wrong, system_clock(), listener_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(refused.error().why, "no server runs on it");
}

TEST_F(PostgresCapture, a_read_limit_is_kept) {
  start_server();
  CaptureOptions slow = options();
  slow.read_bytes_per_second = 16u << 20;
  auto capture = Capture::begin(slow, system_clock(), listener_);
  ASSERT_OK(capture);
  RebuiltCluster rebuilt(place("rebuilt"));
  const Duration before = system_clock().steady();
  auto end = rebuilt.take(**capture);
  ASSERT_OK(end);
  const double seconds = std::chrono::duration<double>(system_clock().steady() - before).count();
  // The last read of each worker may still be paid for.
  const double least = static_cast<double>(end->bytes_read - 2 * (1u << 20)) / (16 << 20);
  EXPECT_GE(seconds, least * 0.95);
}

}  // namespace
}  // namespace kuramori::postgres
