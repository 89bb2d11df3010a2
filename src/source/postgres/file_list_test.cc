#include "source/postgres/file_list.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "os/file.h"

namespace kuramori::postgres {
namespace {

TEST(RelationNames, are_told_from_other_files) {
  const auto init = parse_relation_name("16384_init");
  ASSERT_TRUE(init);
  EXPECT_EQ(init->number, "16384");
  EXPECT_EQ(init->fork, RelationFork::kInit);
  const auto segment = parse_relation_name("2619_vm.12");
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->fork, RelationFork::kVisibility);
  EXPECT_EQ(segment->segment, 12u);
  const auto temporary = parse_relation_name("t3_16384_fsm");
  ASSERT_TRUE(temporary);
  EXPECT_TRUE(temporary->temporary);
  EXPECT_EQ(temporary->fork, RelationFork::kFreeSpace);
  // P2: near misses are ordinary files.
  for (const char* name :
       {"pg_filenode.map", "PG_VERSION", "pg_internal.init.123", "16384.", "16384.x", "16384_main",
        "16384_vm_vm", "t_16384", "tx_16384", "", ".1", "16384.99999999999", "16384.1.2", "+1"})
    EXPECT_FALSE(parse_relation_name(name)) << name;
}

class FileListTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TemporaryFolder::make("file-list-");
    ASSERT_TRUE(made);
    folder_.emplace(std::move(*made));
    for (const char* name : {"data/base/5", "data/global", "data/pg_tblspc", "data/pg_wal", "data/pg_xact"})
      ASSERT_TRUE(make_folders(*folder_ / name));
    options_.data_directory = *folder_ / "data";
    options_.tablespace_folder = "PG_15_202209061";
  }
  void put(const std::string& path, size_t bytes) {
    ASSERT_TRUE(write_new_file(*folder_ / path, Bytes(bytes)));
  }
  std::map<std::string, CaptureFile> list() {
    auto listed = list_files(options_);
    EXPECT_TRUE(listed) << listed.error().what;
    std::map<std::string, CaptureFile> files;
    if (!listed) return files;
    EXPECT_EQ(listed->files.size(), listed->sources.size());
    for (const CaptureFile& file : listed->files) EXPECT_TRUE(files.emplace(file.entry.path, file).second);
    return files;
  }

  std::optional<TemporaryFolder> folder_;
  FileListOptions options_;
};

TEST_F(FileListTest, P9_of_an_unlogged_relation_only_the_init_fork_is_kept) {
  for (const char* name : {"16384", "16384.1", "16384_fsm", "16384_vm", "16384_init", "16385", "163841"})
    put(std::string("data/base/5/") + name, 8192);
  const auto files = list();
  EXPECT_FALSE(files.contains("base/5/16384"));
  EXPECT_FALSE(files.contains("base/5/16384.1"));
  EXPECT_FALSE(files.contains("base/5/16384_fsm"));
  EXPECT_FALSE(files.contains("base/5/16384_vm"));
  EXPECT_TRUE(files.contains("base/5/16384_init"));
  EXPECT_TRUE(files.contains("base/5/16385"));
  EXPECT_TRUE(files.contains("base/5/163841"));
}

TEST_F(FileListTest, P5_a_half_made_page_at_the_end_does_not_count) {
  put("data/base/5/16384", 3 * 8192 + 100);
  put("data/base/5/16385", 100);
  put("data/base/5/pg_filenode.map", 512);
  const auto files = list();
  EXPECT_EQ(files.at("base/5/16384").entry.size, 3 * 8192u);
  EXPECT_EQ(files.at("base/5/16385").entry.size, 0u);
  EXPECT_EQ(files.at("base/5/16384").entry.content, ContentKind::kPages);
  EXPECT_EQ(files.at("base/5/pg_filenode.map").entry.content, ContentKind::kBytes);
}

TEST_F(FileListTest, maps_of_free_space_and_visibility_are_always_whole) {
  for (const char* name : {"16384", "16384.3", "16384_fsm", "16384_vm"})
    put(std::string("data/base/5/") + name, 8192);
  const auto files = list();
  EXPECT_FALSE(files.at("base/5/16384").always_whole);
  EXPECT_TRUE(files.at("base/5/16384_fsm").always_whole);
  EXPECT_TRUE(files.at("base/5/16384_vm").always_whole);
  EXPECT_EQ(files.at("base/5/16384.3").segment, 3u);
}

TEST_F(FileListTest, a_log_folder_that_is_the_data_directory_or_a_part_of_it_costs_nothing) {
  put("data/base/5/16384", 8192);
  options_.left_out_folders = {".", "base", *folder_ / "data"};
  EXPECT_TRUE(list().contains("base/5/16384"));
}

TEST_F(FileListTest, P16_links_in_a_circle_are_refused_in_words) {
  ASSERT_EQ(symlink(".", (*folder_ / "data/loop").c_str()), 0);
  auto listed = list_files(options_);
  ASSERT_FALSE(listed);
  EXPECT_EQ(listed.error().kind, ErrorKind::kRefused);
  EXPECT_NE(listed.error().what.find("circle"), std::string::npos);
}

TEST_F(FileListTest, P16_other_majors_in_a_tablespace_are_not_ours) {
  ASSERT_TRUE(make_folders(*folder_ / "ts/PG_15_202209061/5"));
  ASSERT_TRUE(make_folders(*folder_ / "ts/PG_14_202107181/5"));
  put("ts/PG_15_202209061/5/16400", 8192);
  put("ts/PG_14_202107181/5/16400", 8192);
  ASSERT_EQ(symlink((*folder_ / "ts").c_str(), (*folder_ / "data/pg_tblspc/16390").c_str()), 0);
  const auto files = list();
  EXPECT_EQ(files.at("pg_tblspc/16390").entry.type, EntryType::kSymlink);
  EXPECT_EQ(files.at("pg_tblspc/16390").entry.link, *folder_ / "ts");
  EXPECT_EQ(files.at("pg_tblspc/16390/PG_15_202209061/5/16400").entry.content, ContentKind::kPages);
  for (const auto& [path, file] : files) EXPECT_EQ(path.find("PG_14"), std::string::npos);
}

TEST_F(FileListTest, V13_a_tablespace_that_leads_nowhere_is_an_error) {
  ASSERT_EQ(symlink((*folder_ / "gone").c_str(), (*folder_ / "data/pg_tblspc/16390").c_str()), 0);
  auto listed = list_files(options_);
  ASSERT_FALSE(listed);
  EXPECT_NE(listed.error().what.find("pg_tblspc/16390"), std::string::npos);
}

TEST_F(FileListTest, pg_control_comes_last_and_so_is_not_listed) {
  put("data/global/pg_control", 8192);
  put("data/global/1262", 8192);
  const auto files = list();
  EXPECT_FALSE(files.contains("global/pg_control"));
  EXPECT_EQ(files.at("global/1262").entry.content, ContentKind::kPages);
}

}  // namespace
}  // namespace kuramori::postgres
