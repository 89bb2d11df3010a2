// What an S3 store answers in XML, as values. The bytes come from a server that may be wrong or hostile: what
// is not well-formed, or says less than it must, is an error, never a short list (V1, V2).
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/store.h"

namespace kuramori {

struct S3ErrorAnswer {
  std::string code;  // "NoSuchKey", "SlowDown"
  std::string message;
  std::string region;  // of AuthorizationHeaderMalformed: the right one
};
// nullopt: this is no error of an S3 store (a proxy's page, a body that is content).
std::optional<S3ErrorAnswer> parse_s3_error(ByteView body);

struct S3ListAnswer {
  std::vector<ObjectInfo> objects;  // names are whole keys
  bool truncated = false;
};
Result<S3ListAnswer> parse_list(ByteView body);

struct S3VersionsAnswer {
  std::vector<ObjectVersion> versions;  // in the order given: by key, newest first; names are whole keys
  bool truncated = false;
  std::string next_key, next_id;
};
Result<S3VersionsAnswer> parse_versions(ByteView body);

// One line of a list of a bucket, with all that a list tells.
struct S3Listed {
  std::string key, version;  // version: "" in a list without versions
  std::string etag;          // without its quotes
  uint64_t size = 0;
  Time modified;  // by the store's clock
  std::string storage_class;
  bool latest = true;
  bool delete_marker = false;
};
struct S3BucketAnswer {
  std::vector<S3Listed> entries;  // by key; versions of one key newest first
  bool truncated = false;
  std::string next_key, next_version;  // of a list of versions
  std::string next_token;              // of one without
};
// Of ListObjectsV2 and of ListObjectVersions. What stands there twice, or out of order, is the caller's to
// see.
Result<S3BucketAnswer> parse_bucket_list(ByteView body);

using S3Tags = std::vector<std::pair<std::string, std::string>>;
Result<S3Tags> parse_tags(ByteView body);

// One rule of a bucket's lifecycle, as far as it takes something away.
struct S3LifecycleRule {
  std::string id;
  std::string prefix;  // "": the whole bucket
  bool enabled = false;
  std::optional<int> days;             // then objects expire
  std::optional<int> noncurrent_days;  // then versions go that were overwritten or deleted
  std::string xml;                     // the rule as it stands there
};
Result<std::vector<S3LifecycleRule>> parse_lifecycle(ByteView body);

// Whether everybody, or everybody with an account, has a right by this access control list.
Result<bool> grants_everybody(ByteView acl);

struct S3Upload {
  std::string key, id;
  std::optional<Time> begun;
};
struct S3UploadsAnswer {
  std::vector<S3Upload> uploads;
  bool truncated = false;
  std::string next_key, next_id;
};
Result<S3UploadsAnswer> parse_uploads(ByteView body);

Result<std::string> parse_upload_id(ByteView body);  // of CreateMultipartUpload
// Whether CompleteMultipartUpload says that it did it: a 200 may hold an error.
bool is_complete_result(ByteView body);
// "Enabled", "Suspended" or "" (never versioned).
Result<std::string> parse_versioning(ByteView body);
struct S3RetentionAnswer {
  std::string mode;  // "COMPLIANCE", "GOVERNANCE"
  Time until;
};
Result<S3RetentionAnswer> parse_retention(ByteView body);
Result<bool> parse_legal_hold(ByteView body);

// "2026-02-11T03:00:00.000Z" of XML, "Wed, 11 Feb 2026 03:00:00 GMT" of headers.
std::optional<Time> parse_s3_time(std::string_view text);
std::optional<Time> parse_http_date(std::string_view text);

}  // namespace kuramori
