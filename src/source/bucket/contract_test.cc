// The kind `bucket` keeps the contract of sources, with versions into a bucket and without them into a
// folder.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "os/file.h"
#include "source/bucket/bucket_for_tests.h"
#include "source/bucket/layout.h"
#include "testing/source_contract.h"

namespace kuramori::bucket {
namespace {

class BucketFixture : public SourceFixture {
 public:
  explicit BucketFixture(bool has_versions) : has_versions_(has_versions), bucket_(place_) {
    put("a", "the letter a");
    put("a/b", "below a");
    put("a.b", "beside a");
    put("photos/one.jpg", std::string(100'000, 'x'));
    put("photos/two.jpg", "");
    put("//odd/../key", "odd");
    put("old", "the first");
    put("old", "the second");
    put("gone", "was here");
    bucket_.remove("gone");
    source_ = make_source(settings(place_));
  }
  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override {
    Place place = place_;
    place.location.bucket = "no-such-bucket";
    return make_source(settings(place));
  }
  void change() override {
    ++generation_;
    put("a", fmt::format("a of generation {}", generation_));
    put("photos/one.jpg", std::string(100'000, static_cast<char>('a' + generation_ % 20)));
    put(fmt::format("new{}", generation_), "new");
    bucket_.remove("old");
  }
  bool was_ever(const TreeEntry& entry, std::string_view content) override {
    const auto key = key_of_entry(entry.path);
    if (!attribute(entry, kMarkerAttribute).empty()) return content.empty();
    return key && history_[*key].contains(std::string(content));
  }
  std::string new_target() override {
    const std::string name = fmt::format("new{}", ++targets_);
    if (!has_versions_) return ground_ / name;
    return url_of(target(name));
  }
  std::string occupied_target() override {
    const std::string to = new_target();
    if (has_versions_) {
      TestBucket(place_at(to)).put("something", "x");
    } else {
      (void)make_folders(to);
      (void)write_file_durably(to + "/something", as_bytes("x"));
    }
    return to;
  }
  std::vector<std::string> differences(const std::string& to) override {
    std::vector<std::string> found;
    if (has_versions_) {
      const auto here = bucket_.histories(), there = TestBucket(place_at(to)).histories();
      for (const auto& [key, history] : here)
        if (!there.contains(key) || there.at(key) != history) found.push_back(key);
      for (const auto& [key, history] : there)
        if (!here.contains(key)) found.push_back(key);
      return found;
    }
    const std::map<std::string, std::string> files = {{"a/%=", "the letter a"},
                                                      {"a/b", "below a"},
                                                      {"a.b", "beside a"},
                                                      {"photos/two.jpg", ""},
                                                      {"%-/%-/odd/%2E./key", "odd"},
                                                      {"old", "the second"},
                                                      {"photos/one.jpg", std::string(100'000, 'x')}};
    size_t there = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(to))
      there += entry.is_regular_file() ? 1 : 0;
    for (const auto& [path, content] : files) {
      const auto bytes = read_file(to + "/" + path);
      if (!bytes || as_text(*bytes) != content) found.push_back(path);
    }
    if (there != files.size()) found.push_back(fmt::format("{} files", there));
    return found;
  }
  std::string surroundings(const std::string& to) override {
    std::string all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(ground_.path()))
      if (!entry.path().string().starts_with(to) || to.empty()) all += entry.path().string() + "\n";
    Place every = targets_place_;
    for (const S3Listed& entry : TestBucket(every).list(true)) {
      const std::string prefix = to.empty() ? "" : to.substr(to.rfind('/') + 1);
      if (to.empty() || has_versions_ == false || !entry.key.starts_with(name_of_target(to) + "/"))
        all += entry.key + " " + entry.version + "\n";
    }
    for (const S3Listed& entry : bucket_.list(true)) all += entry.key + " " + entry.version + "\n";
    return all;
  }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override {
    (void)make_folders(ground_ / "sandbox");
    return ground_ / "sandbox";
  }
  std::vector<std::string> secrets() override {
    return {"photos", "letter", place_.location.bucket, place_.location.prefix, place_.keys->access_key};
  }

 private:
  BucketSettings settings(const Place& place) const {
    BucketSettings settings{.place = place, .versions = has_versions_ ? Versions::kAll : Versions::kCurrent};
    settings.limits.give_up_after = std::chrono::seconds(2);
    return settings;
  }
  Place target(const std::string& name) const {
    Place place = targets_place_;
    place.location.prefix += "/" + name;
    return place;
  }
  static std::string url_of(const Place& place) {
    return fmt::format("s3://{}/{}", place.location.bucket, place.location.prefix);
  }
  static std::string name_of_target(const std::string& to) { return to.substr(to.rfind('/') + 1); }
  Place place_at(const std::string& to) const { return target(name_of_target(to)); }
  void put(const std::string& key, const std::string& content) {
    bucket_.put(key, content,
                {{"Content-Type", "text/plain"}, {"x-amz-meta-of", "me"}, {"x-amz-tagging", "k=v"}});
    history_[key].insert(content);
  }

  const bool has_versions_;
  TemporaryFolder ground_ = *TemporaryFolder::make("bucket-contract");
  Place place_ = new_place(RgwBucket::kVersioned, "source");
  Place targets_place_ = new_place(RgwBucket::kVersioned, "targets");
  TestBucket bucket_;
  std::unique_ptr<Source> source_;
  size_t generation_ = 0, targets_ = 0;
  std::map<std::string, std::set<std::string>> history_;
};

TEST(BucketContract, a_bucket_with_its_versions_keeps_the_contract_of_sources_V13_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<BucketFixture>(true); }),
            std::vector<std::string>{});
}
TEST(BucketContract, a_bucket_without_them_keeps_it_into_a_folder_V13_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<BucketFixture>(false); }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori::bucket
