#include "engine/untouched_maps.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

using postgres::CaptureFile;
using postgres::ChangedBlocks;
using postgres::Fork;
using postgres::RelationFile;

constexpr int64_t kBaseStart = 1'800'000'000'000'000'000, kHour = 3'600'000'000'000;
constexpr RelationFile kRelation{1663, 5, 16384};

CaptureFile file_of(const RelationFile& relation, bool is_map, int64_t written = kBaseStart - kHour) {
  CaptureFile file{.relation = relation, .always_whole = is_map};
  file.birth_ns = kBaseStart - 2 * kHour;
  file.entry.mtime_ns = written;
  return file;
}

bool is_left_out(const ChangedBlocks& changed, const CaptureFile& map, bool same_relation_file = true) {
  const std::vector<CaptureFile> files = {file_of(map.relation, false), map};
  const FilePages base;
  return UntouchedMaps(
             changed, files, [&](const CaptureFile&) { return same_relation_file ? &base : nullptr; },
             kBaseStart)
      .has(map);
}

TEST(UntouchedMaps, are_those_of_relations_without_any_record) {
  ChangedBlocks changed;
  EXPECT_TRUE(is_left_out(changed, file_of(kRelation, true)));
  EXPECT_FALSE(is_left_out(changed, file_of(kRelation, false)));
  changed.forks[{{1663, 5, 16383}, Fork::kMain}].blocks = {0};
  changed.forks[{{1663, 5, 16385}, Fork::kMain}].blocks = {0};
  EXPECT_TRUE(is_left_out(changed, file_of(kRelation, true)));
}

TEST(UntouchedMaps, P26_a_record_of_any_fork_or_of_the_whole_database_is_a_mention) {
  ChangedBlocks of_block, of_limit, of_init, of_maps_alone, of_database;
  of_block.forks[{kRelation, Fork::kMain}].blocks = {7};
  of_limit.forks[{kRelation, Fork::kMain}].limit = 3;
  of_init.forks[{kRelation, Fork::kInit}].blocks = {0};
  of_maps_alone.forks[{kRelation, Fork::kMain}] = {};
  of_database.whole_databases.emplace(kRelation.tablespace, kRelation.database);
  for (const auto& changed : {of_block, of_limit, of_init, of_maps_alone, of_database})
    EXPECT_FALSE(is_left_out(changed, file_of(kRelation, true)));
}

TEST(UntouchedMaps, a_file_that_was_written_since_or_is_another_is_read) {
  const ChangedBlocks changed;
  EXPECT_FALSE(is_left_out(changed, file_of(kRelation, true, kBaseStart)));
  EXPECT_FALSE(is_left_out(changed, file_of(kRelation, true, kBaseStart + kHour)));
  CaptureFile copied = file_of(kRelation, true);  // with its old time of writing
  copied.birth_ns = kBaseStart + kHour;
  EXPECT_FALSE(is_left_out(changed, copied));
  copied.birth_ns = 0;  // a file system that does not tell
  EXPECT_FALSE(is_left_out(changed, copied));
  EXPECT_FALSE(is_left_out(changed, file_of(kRelation, true), false));
}

}  // namespace
}  // namespace kuramori
