#include "source/postgres/backup_label.h"

#include <gtest/gtest.h>

namespace kuramori::postgres {
namespace {

constexpr std::string_view kLabel =  // of a PostgreSQL 15
    "START WAL LOCATION: 0/6400028 (file 000000010000000000000019)\n"
    "CHECKPOINT LOCATION: 0/6400060\n"
    "BACKUP METHOD: streamed\n"
    "BACKUP FROM: primary\n"
    "START TIME: 2026-11-21 12:07:59 UTC\n"
    "LABEL: a label: with # = [everything]\n"
    "START TIMELINE: 1\n";

TEST(BackupLabel, ReadsWhatServersWrite) {
  auto label = parse_backup_label(kLabel);
  ASSERT_TRUE(label) << label.error().what;
  EXPECT_EQ(label->start, 0x6400028u);
  EXPECT_EQ(label->start_file, "000000010000000000000019");
  EXPECT_EQ(label->checkpoint, 0x6400060u);
  EXPECT_EQ(label->label, "a label: with # = [everything]");  // P18
  EXPECT_EQ(label->timeline, 1u);
  EXPECT_FALSE(label->from_standby);
  EXPECT_EQ(compose_backup_label(*label), kLabel);

  std::string old(kLabel);  // 13 says master
  old.replace(old.find("primary"), 7, "master");
  EXPECT_FALSE(parse_backup_label(old)->from_standby);
  old.replace(old.find("master"), 6, "standby");
  EXPECT_TRUE(parse_backup_label(old)->from_standby);
}

TEST(BackupLabel, SaysThatACopyIsIncremental) {
  const std::string text = std::string(kLabel) + "INCREMENTAL FROM LSN: 0/5000028\nINCREMENTAL FROM TLI: 1\n";
  auto label = parse_backup_label(text);
  ASSERT_TRUE(label);
  EXPECT_EQ(label->incremental_from, 0x5000028u);
  EXPECT_EQ(compose_backup_label(*label), text);
  EXPECT_FALSE(parse_backup_label(std::string(kLabel) + "INCREMENTAL FROM LSN: 0/5000028\n"));
}

// P12: an edited or cut label is damage, never half believed.
TEST(BackupLabel, NamesDamageP12) {
  const std::string good(kLabel);
  std::vector<std::string> broken = {"", good + "START TIMELINE: 1\n", good + "NEW LINE: 1\n",
                                     good + "garbage\n"};
  for (std::string_view line : {"START WAL LOCATION", "CHECKPOINT LOCATION", "START TIMELINE"}) {
    std::string cut = good;
    const size_t at = cut.find(line);
    cut.erase(at, cut.find('\n', at) - at + 1);
    broken.push_back(cut);
  }
  for (auto [from, to] : {std::pair{"0/6400028 (file", "0/64000x8 (file"},
                          {"000000019)", "00000001)"},
                          {"TIMELINE: 1", "TIMELINE: 0"},
                          {"TIMELINE: 1", "TIMELINE: 1x"},
                          {"primary", "somewhere"},
                          {"0/6400060", "6400060"},
                          {"0/6400060\n", "0/6400060\r\n"}}) {
    std::string text = good;
    text.replace(text.find(from), std::string_view(from).size(), to);
    broken.push_back(text);
  }
  for (const auto& text : broken) {
    auto label = parse_backup_label(text);
    ASSERT_FALSE(label) << text;
    EXPECT_EQ(label.error().kind, ErrorKind::kDamaged);
  }
}

TEST(BackupHistory, TellsWhereABackupEnded) {
  const std::string text =
      "START WAL LOCATION: 0/5600028 (file 000000010000000000000056)\n"
      "STOP WAL LOCATION: 0/5600100 (file 000000010000000000000056)\n"
      "CHECKPOINT LOCATION: 0/5600060\nBACKUP METHOD: streamed\nBACKUP FROM: master\n"
      "START TIME: 2026-11-21 12:07:50 UTC\nLABEL: a label\nSTART TIMELINE: 1\n"
      "STOP TIME: 2026-11-21 12:07:51 UTC\nSTOP TIMELINE: 1\n";
  auto history = parse_backup_history(text);
  ASSERT_TRUE(history) << history.error().what;
  EXPECT_EQ(history->stop, 0x5600100u);
  EXPECT_EQ(history->stop_time, "2026-11-21 12:07:51 UTC");
  EXPECT_EQ(history->label.label, "a label");
  EXPECT_FALSE(parse_backup_history(kLabel));
}

// P16, P18: paths with every character a path may hold.
TEST(TablespaceMap, KeepsEveryPathP18) {
  const std::vector<TablespaceLink> links = {
      {16433, "/srv/ts"}, {16434, "/srv/with space # [x]=\\ and\nnewline\r"}, {16435, " leading"}};
  const std::string text = compose_tablespace_map(links);
  EXPECT_EQ(text.substr(0, text.find('\n') + 1), "16433 /srv/ts\n");
  auto back = parse_tablespace_map(text);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(*back, links);
  EXPECT_TRUE(parse_tablespace_map("")->empty());
  EXPECT_EQ((*parse_tablespace_map("1 /a\\b\n"))[0].path, "/a\\b");  // as 13 and 14 write it
  for (std::string_view bad : std::initializer_list<std::string_view>{
           "16433\n", "x /a\n", "0 /a\n", "1 /a\n1 /b\n", "1 /a", "1 \n", "1 /a\\", "4294967296 /a\n",
           std::string_view("1 /a\\\0\n", 8)}) {
    auto map = parse_tablespace_map(bad);
    ASSERT_FALSE(map) << bad;
    EXPECT_EQ(map.error().kind, ErrorKind::kDamaged);
  }
}

}  // namespace
}  // namespace kuramori::postgres
