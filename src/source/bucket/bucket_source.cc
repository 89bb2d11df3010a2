#include "source/bucket/bucket_source.h"

#include <fmt/core.h>

namespace kuramori::bucket {
namespace {

class BucketSource final : public Source {
 public:
  explicit BucketSource(BucketSettings settings) : settings_(std::move(settings)) {}

  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    return begin_capture(settings_, reporter, std::move(stop));
  }
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return restore_bucket(settings_, tree, request, reporter, stop);
  }
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string& sandbox,
                                         Reporter& reporter, std::stop_token stop) override {
    return drill_bucket(tree, sandbox, reporter, stop);
  }
  Result<std::vector<SourceFinding>> doctor() override { return examine_bucket(settings_); }

 private:
  const BucketSettings settings_;
};

}  // namespace

Result<std::unique_ptr<Bucket>> open_bucket(const Place& place, S3Limits limits) {
  S3ClientOptions options{.limits = limits};
  if (place.keys)
    options.credentials = fixed_credentials(place.keys->access_key, place.keys->secret_key.clone());
  TRY_ASSIGN(std::unique_ptr<S3Client> client, open_s3_client(place.location, std::move(options)));
  return std::make_unique<Bucket>(std::move(client));
}

std::unique_ptr<Source> make_source(BucketSettings settings) {
  return std::make_unique<BucketSource>(std::move(settings));
}

}  // namespace kuramori::bucket
