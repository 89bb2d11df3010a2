#include "testing/rgw_cluster.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace kuramori {
namespace {

// What a listing of the bucket answers to this user.
std::string status_of(RgwCluster& cluster, const RgwUser& user, const std::string& bucket) {
  const Result<std::string> status = cluster.status_of(user, bucket);
  return status ? *status : status.error().why;
}

TEST(RgwCluster, users_and_buckets_are_there_over_tls) {
  const Result<RgwCluster*> cluster = RgwCluster::shared_tls();
  ASSERT_TRUE(cluster) << cluster.error().what << cluster.error().why;
  const Result<RgwUser> owner = (*cluster)->owner();
  ASSERT_TRUE(owner) << owner.error().why;
  for (RgwBucket kind : {RgwBucket::kPlain, RgwBucket::kVersioned, RgwBucket::kLocked}) {
    const Result<std::string> bucket = (*cluster)->create_bucket(kind);
    ASSERT_TRUE(bucket) << bucket.error().why;
    EXPECT_EQ(status_of(**cluster, *owner, *bucket), "200");
  }
  const Result<RgwUser> stranger = (*cluster)->create_user();
  ASSERT_TRUE(stranger) << stranger.error().why;
  EXPECT_EQ(status_of(**cluster, *stranger, "bucket-1"), "403");
}

TEST(RgwCluster, a_killed_gateway_is_started_again) {
  const Result<RgwCluster*> cluster = RgwCluster::shared_tls();
  ASSERT_TRUE(cluster) << cluster.error().what;
  const Result<RgwUser> owner = (*cluster)->owner();
  ASSERT_TRUE(owner);
  const Result<std::string> bucket = (*cluster)->create_bucket();
  ASSERT_TRUE(bucket);
  ASSERT_TRUE((*cluster)->signal(RgwPart::kGateway, SIGKILL));
  EXPECT_EQ(status_of(**cluster, *owner, *bucket), "ConnectionRefusedError");
  ASSERT_TRUE((*cluster)->restart());
  EXPECT_EQ(status_of(**cluster, *owner, *bucket), "200");
}

}  // namespace
}  // namespace kuramori
