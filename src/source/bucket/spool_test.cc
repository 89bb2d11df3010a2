#include "source/bucket/spool.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/tree_entry.h"

namespace kuramori::bucket {
namespace {

TEST(Spool, a_list_larger_than_memory_comes_out_in_tree_order) {
  std::mt19937 random(3);
  for (const size_t run_bytes : {size_t{1} << 30, size_t{20'000}}) {
    Spool spool(run_bytes);
    std::vector<std::string> paths;
    for (int i = 0; i < 3000; ++i) {
      std::string path = fmt::format("d{}{}f{}", random() % 40, "-./!"[random() % 4], i);
      ASSERT_TRUE(spool.add({.path = path,
                             .object = {.key = path,
                                        .version = fmt::format("v{}", i),
                                        .etag = "e" + path,
                                        .size = static_cast<uint64_t>(i),
                                        .modified = from_unix_ns(i),
                                        .storage_class = "STANDARD",
                                        .latest = i % 2 == 0,
                                        .delete_marker = i % 3 == 0}}));
      paths.push_back(std::move(path));
    }
    ASSERT_TRUE(spool.end());
    std::ranges::sort(paths, tree_order);
    for (const std::string& path : paths) {
      auto record = spool.next();
      ASSERT_TRUE(record && *record);
      EXPECT_EQ((*record)->path, path);
      const int i = std::stoi(path.substr(path.find('f') + 1));
      EXPECT_EQ((*record)->object.etag, "e" + path);
      EXPECT_EQ((*record)->object.version, fmt::format("v{}", i));
      EXPECT_EQ((*record)->object.size, static_cast<uint64_t>(i));
      EXPECT_EQ((*record)->object.latest, i % 2 == 0);
      EXPECT_EQ((*record)->object.delete_marker, i % 3 == 0);
      EXPECT_EQ((*record)->object.modified, from_unix_ns(i));
    }
    auto end = spool.next();
    ASSERT_TRUE(end);
    EXPECT_FALSE(*end);
  }
}

}  // namespace
}  // namespace kuramori::bucket
