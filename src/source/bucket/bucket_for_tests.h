// Buckets of a real gateway for tests, filled and read through the client alone, not through the source.
#pragma once
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "source/bucket/bucket_source.h"
#include "testing/rgw_cluster.h"

namespace kuramori::bucket {

inline Place place_of(RgwCluster& cluster, const std::string& bucket, const std::string& prefix = {}) {
  const RgwUser owner = *cluster.owner();
  return {.location = {.bucket = bucket,
                       .prefix = prefix,
                       .endpoint = cluster.endpoint(),
                       .ca_file = cluster.ca_file()},
          .keys = std::make_shared<AccessKeys>(
              AccessKeys{owner.access_key, Secret::copy_of(as_bytes(owner.secret_key))})};
}

// A place below a prefix of its own in a bucket that all tests share.
inline Place new_place(RgwBucket kind, const std::string& name) {
  static std::map<RgwBucket, std::string> buckets;
  static int made = 0;
  RgwCluster& cluster = **RgwCluster::shared();
  if (!buckets.contains(kind)) buckets[kind] = *cluster.create_bucket(kind);
  return place_of(cluster, buckets[kind], fmt::format("{}-{}", name, ++made));
}

class TestBucket {
 public:
  explicit TestBucket(const Place& place) : bucket_(std::move(*open_bucket(place))) {}
  void put(const std::string& key, std::string_view bytes, std::vector<HttpHeader> headers = {}) {
    const auto answer = bucket_->client().send({.method = "PUT",
                                                .key = bucket_->root() + key,
                                                .headers = std::move(headers),
                                                .body = as_bytes(bytes)});
    ASSERT_TRUE(answer && answer->ok()) << key;
  }
  void remove(const std::string& key) { ASSERT_TRUE(bucket_->remove(bucket_->root() + key)); }
  std::string get(const std::string& key, const std::string& version = {}) {
    QueryParameters query;
    if (!version.empty()) query.emplace_back("versionId", version);
    const auto answer = bucket_->client().send({.key = bucket_->root() + key, .query = query});
    return answer && answer->ok() ? std::string(as_text(answer->http.body)) : "none";
  }
  std::string header(const std::string& key, std::string_view name) {
    const auto answer = bucket_->client().send({.method = "HEAD", .key = bucket_->root() + key});
    return answer ? std::string(answer->http.header(name)) : "";
  }
  std::vector<S3Listed> list(bool versions) {
    std::vector<S3Listed> all;
    const auto listed = bucket_->list("", versions, {}, [&](S3Listed&& entry) -> Result<void> {
      entry.key.erase(0, bucket_->root().size());
      all.push_back(std::move(entry));
      return {};
    });
    EXPECT_TRUE(listed) << listed.error().what;
    return all;
  }
  // Each key with its history, oldest first: contents, "-" for a delete marker.
  std::map<std::string, std::vector<std::string>> histories() {
    std::map<std::string, std::vector<std::string>> all;
    for (const S3Listed& entry : list(true)) {
      auto& history = all[entry.key];
      history.insert(history.begin(), entry.delete_marker ? "-" : get(entry.key, entry.version));
    }
    return all;
  }
  Bucket& bucket() { return *bucket_; }

 private:
  std::unique_ptr<Bucket> bucket_;
};

}  // namespace kuramori::bucket
