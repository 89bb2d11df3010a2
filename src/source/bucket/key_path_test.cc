#include "source/bucket/key_path.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace kuramori::bucket {
namespace {

// Every part must be one that a filesystem takes.
void expect_parts(const std::string& path, const std::string& key) {
  size_t from = 0;
  for (;;) {
    const size_t slash = path.find('/', from);
    const std::string part = path.substr(from, slash - from);
    EXPECT_FALSE(part.empty() || part == "." || part == "..") << key;
    EXPECT_LE(part.size(), 255u) << key;
    EXPECT_EQ(part.find('\0'), std::string::npos) << key;
    if (slash == std::string::npos) return;
    from = slash + 1;
  }
}

TEST(KeyPath, an_ordinary_key_is_its_own_path) {
  for (const char* key :
       {"a", "photos/2024/a.jpg", "with space/ü.txt", "50%off.txt", "a%20b", "a..b/.hidden", "..."})
    EXPECT_EQ(path_of_key(key), key);
}

TEST(KeyPath, what_no_path_can_be_is_escaped_and_comes_back_P73) {
  std::vector<std::string> keys = {"/",
                                   "//",
                                   "a/",
                                   "/a",
                                   "a//b",
                                   "./a",
                                   "../a",
                                   "a/..",
                                   "a/.",
                                   "%2E",
                                   "%-",
                                   "a%",
                                   "%=",
                                   "%v1",
                                   "%25",
                                   "a%+",
                                   "%2",
                                   std::string("a\0b", 3),
                                   std::string(1024, 'x'),
                                   std::string(200, 'x') + ".",
                                   std::string(200, 'x') + "..",
                                   std::string(200, 'x') + "/..",
                                   std::string(199, 'x') + "%-",
                                   std::string(400, '%'),
                                   "\xff\xfe/\x01",
                                   "a\nb",
                                   "caf\xc3\xa9"};
  std::mt19937 random(7);
  const std::string letters = std::string("/./%-+=v2E50a") + '\0' + "\xff";
  for (int i = 0; i < 20'000; ++i) {
    std::string key;
    const size_t length = 1 + random() % (i % 10 == 0 ? 1024 : 12);
    for (size_t j = 0; j < length; ++j) key += letters[random() % letters.size()];
    keys.push_back(std::move(key));
  }
  std::set<std::string> seen_keys, seen_paths;
  for (const std::string& key : keys) {
    const std::string path = path_of_key(key);
    expect_parts(path, key);
    const auto back = key_of_path(path);
    ASSERT_TRUE(back) << key << " as " << path;
    EXPECT_EQ(*back, key) << path;
    EXPECT_EQ(seen_keys.insert(key).second, seen_paths.insert(path).second)
        << "two keys with one path: " << path;
    // Beside what no key gives.
    const auto self = key_of_path(path + "/" + std::string(kSelf));
    ASSERT_TRUE(self);
    EXPECT_EQ(*self, key);
    const std::string last = path.substr(path.rfind('/') + 1);
    EXPECT_FALSE(last == kSelf || last.starts_with(kVersionMark)) << path;
  }
}

TEST(KeyPath, a_path_of_no_key_is_damage) {
  for (const char* path : {"", "a//b", "%v1", "%=", "a%+", "/a"}) {
    const auto key = key_of_path(path);
    ASSERT_FALSE(key) << path;
    EXPECT_EQ(key.error().kind, ErrorKind::kDamaged);
  }
}

}  // namespace
}  // namespace kuramori::bucket
