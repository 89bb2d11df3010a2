// Which files of a snapshot a server is told of, so that it sends only their changes.
#include "engine/older_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <set>

#include "engine/changes_since.h"
#include "os/file.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

std::vector<postgres::OlderFile> files_of(std::vector<uint64_t> pages) {
  std::vector<postgres::OlderFile> files;
  for (const uint64_t count : pages)
    files.push_back({fmt::format("base/5/{}", 16384 + files.size()), count * kPageBytes});
  return files;
}

uint64_t pages_in(const std::vector<postgres::OlderFile>& files) {
  uint64_t pages = 0;
  for (const auto& file : files) pages += file.bytes / kPageBytes;
  return pages;
}

// P24: some pages come every time, and each time others.
TEST(OlderFiles, a_sample_is_left_out_and_another_the_next_time_P24) {
  std::set<std::string> seen;
  for (int round = 0; round < 40; ++round) {
    const auto all = files_of(std::vector<uint64_t>(1000, 30));
    const auto named = leave_out_sample(all, system_random());
    const uint64_t left_out = pages_in(all) - pages_in(named);
    EXPECT_GE(left_out, kSamplePagesMin);
    EXPECT_LT(left_out, kSamplePagesMin + 30);
    std::set<std::string> names;
    for (const auto& file : named) names.insert(file.path);
    EXPECT_EQ(names.size(), named.size());
    for (const auto& file : all)
      if (!names.contains(file.path)) seen.insert(file.path);
  }
  // Of 1,000 files 34 each time: all are left out but (1 - 0.034)^40 = 25 %.
  EXPECT_GT(seen.size(), 600u);
}

TEST(OlderFiles, a_large_file_is_left_out_only_where_it_is_a_small_part_of_all) {
  for (int round = 0; round < 10; ++round) {
    const auto named = leave_out_sample(files_of({131072, 131072, 20, 20, 0}), system_random());
    EXPECT_EQ(pages_in(named), 2 * 131072u);
    EXPECT_EQ(named.size(), 3u);  // an empty one is no sample
  }
  const auto all = files_of(std::vector<uint64_t>(200, 131072));
  EXPECT_EQ(leave_out_sample(all, system_random()).size(), 199u);
  EXPECT_TRUE(leave_out_sample({}, system_random()).empty());
}

}  // namespace
}  // namespace kuramori
