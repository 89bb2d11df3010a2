// The kind `bucket`: an S3 bucket, or what lies below a prefix of one, with metadata, tags and versions.
//
// As a tree: objects/<path> is what stands there now, versions/<path>/<name> every older version and delete
// marker, named by its time; <path> is the key's (key_path.h). What an object is besides its bytes are
// attributes of its entry (object.h).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/world.h"
#include "source/bucket/bucket.h"
#include "source/source.h"

namespace kuramori::bucket {

// An access key of the configuration; nothing where the location says where it is found.
struct AccessKeys {
  std::string access_key;
  Secret secret_key;
};

// A bucket and how it is reached.
struct Place {
  S3Location location;
  std::shared_ptr<const AccessKeys> keys;
};
Result<std::unique_ptr<Bucket>> open_bucket(const Place& place, S3Limits limits = {});

enum class Versions { kWhereKept, kAll, kCurrent };

struct BucketSettings {
  Place place;
  Versions versions = Versions::kWhereKept;
  // What was overwritten or deleted must stay in the bucket for at least so long.
  std::optional<Duration> keep_versions;
  S3Limits limits;
};

// Connects to nothing yet.
std::unique_ptr<Source> make_source(BucketSettings settings);

// --- what its parts share ------------------------------------------------------------------------------

constexpr std::string_view kObjects = "objects", kVersions = "versions";

Result<std::unique_ptr<TreeCapture>> begin_capture(const BucketSettings& settings, Reporter& reporter,
                                                   std::stop_token stop);
Result<SourceRestoreOutcome> restore_bucket(const BucketSettings& settings, const CapturedTree& tree,
                                            const SourceRestoreRequest& request, Reporter& reporter,
                                            const std::stop_token& stop);
Result<std::vector<CheckResult>> drill_bucket(const CapturedTree& tree, const std::string& sandbox,
                                              Reporter& reporter, const std::stop_token& stop);
Result<std::vector<SourceFinding>> examine_bucket(const BucketSettings& settings);

}  // namespace kuramori::bucket
