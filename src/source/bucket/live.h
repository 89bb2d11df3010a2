// What is done to the bucket itself: deletions undone, older versions brought back, a prefix set back to a
// moment, rules switched on. Nothing here takes a version away: what stood there stays as an older one, so
// each of them asks for a bucket that keeps versions.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "source/bucket/bucket_source.h"

namespace kuramori::bucket {

// One thing that is done, or would be.
struct LiveChange {
  std::string key;      // without the root
  std::string what;     // "undeleted", "brought back", "deleted"
  std::string version;  // that it is now
};
struct LiveRequest {
  bool only_say = false;  // change nothing
  std::function<void(const LiveChange&)> tell;
};
struct LiveOutcome {
  uint64_t changed = 0, as_they_should_be = 0;
};

// Takes away the delete markers that hide `what`, a key or all keys below it. kNotFound: nothing of the kind
// is there.
Result<LiveOutcome> undelete(Bucket& bucket, const std::string& what, const LiveRequest& request,
                             const std::stop_token& stop);
// Makes an older version the newest again.
Result<LiveOutcome> bring_back(Bucket& bucket, const std::string& key, const std::string& version,
                               const LiveRequest& request);
// Everything below `only` (all: empty) as it stood at a moment: by older versions, and by delete markers over
// what was not there then.
Result<LiveOutcome> set_back(Bucket& bucket, const std::vector<std::string>& only, Time moment,
                             const LiveRequest& request, const std::stop_token& stop);

// All versions of a key, or of the keys below it, in the list's order.
Result<void> visit_versions(Bucket& bucket, const std::string& what, const std::stop_token& stop,
                            const std::function<Result<void>(const S3Listed&)>& visit);

struct FixRequest {
  bool versioning = false;           // switched on
  std::optional<int> expire_days;    // objects go then
  std::optional<int> versions_days;  // older versions go then
  bool only_say = false;
};
struct FixOutcome {
  std::string versioning_before, versioning_after;  // "on", "off", "suspended"
  std::vector<S3LifecycleRule> rules_before, rules_after;
  std::vector<std::string> done;  // sentences
};
// Rules of others stay as they are; ours have ids of their own. Reads back what it did: kBrokenPromise where
// the store said yes and it is not so.
Result<FixOutcome> fix_bucket(Bucket& bucket, const FixRequest& request);

}  // namespace kuramori::bucket
