// Probes of a real S3 store: a plain bucket can hold a vault alone, versioned and locked ones cannot (P73).
#include <gtest/gtest.h>

#include "engine/probe.h"
#include "store/s3/s3_store.h"
#include "testing/rgw_cluster.h"

namespace kuramori {
namespace {

class ProbeOnRgw : public ::testing::Test {
 protected:
  void SetUp() override {
    auto cluster = RgwCluster::shared();
    ASSERT_TRUE(cluster) << cluster.error().what << cluster.error().why;
    cluster_ = *cluster;
    auto owner = cluster_->owner();
    ASSERT_TRUE(owner);
    owner_ = *owner;
  }

  // Through its own connections, as another program would.
  Result<std::unique_ptr<Store>> open(const std::string& bucket) {
    S3Location location{
        .bucket = bucket, .prefix = "vault", .endpoint = cluster_->endpoint(), .region = "us-east-1"};
    S3StoreOptions options;
    options.credentials = fixed_credentials(owner_.access_key, Secret::copy_of(as_bytes(owner_.secret_key)));
    return open_s3_store(location, std::move(options));
  }

  Result<ProbeReport> probe(RgwBucket kind, ProbeOptions options = {}) {
    TRY_ASSIGN(const std::string bucket, cluster_->create_bucket(kind));
    TRY_ASSIGN(auto store, open(bucket));
    TRY_ASSIGN(auto other, open(bucket));
    options.other_endpoint = other.get();
    return probe_store(*store, options, system_clock(), system_random(), silent_reporter());
  }

  static std::string told(const ProbeReport& report) {
    std::string text;
    for (const ProbeFinding& finding : report.findings)
      text += finding.name + (finding.verdict == ProbeFinding::Verdict::kHolds ? " holds: " : " does not: ") +
              finding.detail + "\n";
    return text;
  }

  RgwCluster* cluster_ = nullptr;
  RgwUser owner_;
};

TEST_F(ProbeOnRgw, a_plain_bucket_holds_everything) {
  const auto report = probe(RgwBucket::kPlain);
  ASSERT_TRUE(report) << report.error().what << report.error().why;
  EXPECT_TRUE(report->creates_once()) << told(*report);
  EXPECT_EQ(report->broken_contract(), nullptr) << told(*report);
  EXPECT_TRUE(report->holds(probe_names::kPaging)) << told(*report);
  EXPECT_TRUE(report->holds(probe_names::kClock)) << told(*report);
  EXPECT_TRUE(report->holds(probe_names::kChecksum)) << told(*report);
  EXPECT_FALSE(report->versioned);
  EXPECT_FALSE(report->can_retain);
  EXPECT_EQ(report->left_behind, 0u);
  EXPECT_TRUE(accept_places(*report, nullptr, false));
  EXPECT_FALSE(accept_places(*report, nullptr, true)) << "it cannot lock";
}

TEST_F(ProbeOnRgw, versioned_and_locked_buckets_need_a_ledger_P73_V21) {
  const auto ledger = probe(RgwBucket::kPlain, {.page_objects = 0});
  ASSERT_TRUE(ledger);
  for (RgwBucket kind : {RgwBucket::kVersioned, RgwBucket::kLocked}) {
    const bool locked = kind == RgwBucket::kLocked;
    SCOPED_TRACE(locked ? "locked" : "versioned");
    const auto report = probe(kind, {.page_objects = 50});
    ASSERT_TRUE(report) << report.error().what << report.error().why;
    EXPECT_FALSE(report->creates_once()) << "the gateway ignores conditions here:\n" << told(*report);
    EXPECT_EQ(report->broken_contract(), nullptr) << told(*report);
    EXPECT_TRUE(report->versioned);
    EXPECT_EQ(report->can_retain, locked);
    // The one object that the probe itself locked, for two seconds.
    EXPECT_LE(report->left_behind, locked ? 1u : 0u);
    const auto alone = accept_places(*report, nullptr, locked);
    ASSERT_FALSE(alone);
    EXPECT_EQ(alone.error().kind, ErrorKind::kRefused);
    EXPECT_NE(alone.error().next.find("ledger:"), std::string::npos);
    const auto together = accept_places(*report, &*ledger, locked);
    EXPECT_TRUE(together) << together.error().what;
    EXPECT_FALSE(accept_places(*ledger, &*report, false)) << "as a ledger it will not do";
  }
}

}  // namespace
}  // namespace kuramori
