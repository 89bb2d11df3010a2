#include "source/postgres/control_file.h"

#include <gtest/gtest.h>

#include "codec/crc32c.h"
#include "source/postgres/golden_for_tests.h"

namespace kuramori::postgres {
namespace {

// What pg_controldata printed behind `name` for the same file.
std::string printed(const std::string& text, std::string_view name) {
  const size_t at = text.find(name);
  EXPECT_NE(at, std::string::npos) << name;
  if (at == std::string::npos) return {};
  const size_t begin = text.find_first_not_of(' ', at + name.size());
  return text.substr(begin, text.find('\n', begin) - begin);
}

class ControlFileOf : public testing::TestWithParam<int> {};

TEST_P(ControlFileOf, SaysWhatPgControldataSays) {
  const std::string name = fmt::format("pg_control.{}", GetParam());
  auto file = parse_control_file(golden_bytes(name));
  ASSERT_TRUE(file) << file.error().what << ": " << file.error().why;
  const std::string text = golden(name + ".txt");
  auto expect = [&](std::string_view label, const std::string& value) {
    EXPECT_EQ(printed(text, label), value) << label;
  };
  auto on_off = [](bool flag) { return std::string(flag ? "on" : "off"); };
  EXPECT_EQ(file->major, GetParam());
  expect("pg_control version number:", std::to_string(file->control_version));
  expect("Catalog version number:", std::to_string(file->catalog_version));
  expect("Database system identifier:", std::to_string(file->system_id));
  expect("Database cluster state:", std::string(name_of(file->state)));
  expect("Latest checkpoint location:", format_lsn(file->checkpoint));
  expect("Latest checkpoint's REDO location:", format_lsn(file->redo));
  expect("Latest checkpoint's REDO WAL file:", segment_name(file->timeline, file->redo, file->segment_bytes));
  expect("Latest checkpoint's TimeLineID:", std::to_string(file->timeline));
  expect("Latest checkpoint's PrevTimeLineID:", std::to_string(file->previous_timeline));
  expect("Latest checkpoint's full_page_writes:", on_off(file->full_page_writes));
  expect("Latest checkpoint's NextXID:",
         fmt::format("{}:{}", file->next_xid >> 32, file->next_xid & UINT32_MAX));
  expect("Latest checkpoint's NextOID:", std::to_string(file->next_oid));
  expect("Minimum recovery ending location:", format_lsn(file->min_recovery_point));
  expect("Min recovery ending loc's timeline:", std::to_string(file->min_recovery_timeline));
  expect("Backup start location:", format_lsn(file->backup_start));
  expect("Backup end location:", format_lsn(file->backup_end));
  expect("End-of-backup record required:", file->backup_end_required ? "yes" : "no");
  expect("wal_level setting:", std::string(name_of(file->settings.wal_level)));
  expect("wal_log_hints setting:", on_off(file->settings.wal_log_hints));
  expect("max_connections setting:", std::to_string(file->settings.max_connections));
  expect("max_worker_processes setting:", std::to_string(file->settings.max_worker_processes));
  expect("max_wal_senders setting:", std::to_string(file->settings.max_wal_senders));
  expect("max_prepared_xacts setting:", std::to_string(file->settings.max_prepared_transactions));
  expect("max_locks_per_xact setting:", std::to_string(file->settings.max_locks_per_transaction));
  expect("track_commit_timestamp setting:", on_off(file->settings.track_commit_timestamp));
  expect("Database block size:", std::to_string(file->block_bytes));
  expect("Blocks per segment of large relation:", std::to_string(file->blocks_per_file));
  expect("WAL block size:", std::to_string(file->wal_block_bytes));
  expect("Bytes per WAL segment:", std::to_string(file->segment_bytes));
  expect("Data page checksum version:", std::to_string(file->checksum_version));
  const time_t seconds = std::chrono::system_clock::to_time_t(
      std::chrono::time_point_cast<std::chrono::system_clock::duration>(file->checkpoint_at));
  char when[64];
  tm parts{};
  strftime(when, sizeof when, "%a %b %e %H:%M:%S %Y", gmtime_r(&seconds, &parts));
  expect("Time of latest checkpoint:", when);
}

// P11: a torn or flipped control file is never believed.
TEST_P(ControlFileOf, EveryFlippedBitIsDamageP11) {
  const Bytes good = golden_bytes(fmt::format("pg_control.{}", GetParam()));
  const size_t covered = GetParam() == 18 ? 296 : 292;
  for (size_t bit = 0; bit < covered * 8; ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    auto file = parse_control_file(bad);
    ASSERT_FALSE(file) << bit;
    const bool is_version = bit / 8 >= 8 && bit / 8 < 12;
    EXPECT_EQ(file.error().kind, is_version ? ErrorKind::kRefused : ErrorKind::kDamaged) << bit;
  }
  for (size_t size = 0; size < kControlFileBytesMin; size += 8) {
    EXPECT_EQ(parse_control_file(ByteView(good).first(size)).error().kind, ErrorKind::kDamaged);
  }
}

INSTANTIATE_TEST_SUITE_P(Majors, ControlFileOf, testing::ValuesIn(kMajors),
                         testing::PrintToStringParamName());

Bytes resealed(size_t at, uint32_t value) {
  Bytes bytes = golden_bytes("pg_control.15");
  store_le(&bytes[at], value);
  store_le(&bytes[288], crc32c(ByteView(bytes).first(288)));
  return bytes;
}

TEST(ControlFile, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(parse_control_file(resealed(8, 1201)).error().kind, ErrorKind::kRefused);
  EXPECT_NE(parse_control_file(resealed(8, 1201)).error().what.find("1201"), std::string::npos);
  EXPECT_EQ(parse_control_file(resealed(12, 201909212)).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(parse_control_file(resealed(12, 202406281)).error().kind, ErrorKind::kRefused);  // 17 writes 1700
  EXPECT_EQ(parse_control_file(resealed(204, 4)).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(parse_control_file(resealed(216, 16384)).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(parse_control_file(resealed(228, 3 << 20)).error().kind, ErrorKind::kDamaged);
  EXPECT_EQ(parse_control_file(resealed(16, 7)).error().kind, ErrorKind::kDamaged);
  EXPECT_TRUE(parse_control_file(resealed(228, 1 << 30)));  // P35
}

}  // namespace
}  // namespace kuramori::postgres
