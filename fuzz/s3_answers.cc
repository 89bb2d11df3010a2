// Any bytes as an answer of an S3 store, and as a location: values or an error, never a crash; what is
// accepted is whole.
#include "base/check.h"
#include "net/url.h"
#include "store/s3/answers.h"
#include "store/s3/s3_location.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  ByteView bytes(data, size);
  if (auto list = parse_list(bytes)) {
    for (const ObjectInfo& object : list->objects) CHECK(!object.name.empty());
  }
  if (auto versions = parse_versions(bytes)) {
    for (const ObjectVersion& version : versions->versions)
      CHECK(!version.name.empty() && !version.id.empty());
  }
  if (auto uploads = parse_uploads(bytes)) {
    for (const S3Upload& upload : uploads->uploads) CHECK(!upload.key.empty() && !upload.id.empty());
  }
  if (auto list = parse_bucket_list(bytes)) {
    for (const S3Listed& entry : list->entries) CHECK(!entry.key.empty());
  }
  (void)parse_tags(bytes);
  (void)grants_everybody(bytes);
  if (auto rules = parse_lifecycle(bytes)) {
    std::string whole;
    for (const S3LifecycleRule& rule : *rules) whole += rule.xml;
    // What is put back of others' rules is what was read.
    whole = "<LifecycleConfiguration>" + whole + "</LifecycleConfiguration>";
    auto again = parse_lifecycle(as_bytes(whole));
    CHECK(again && again->size() == rules->size());
  }
  if (auto error = parse_s3_error(bytes)) CHECK(!error->code.empty());
  if (auto id = parse_upload_id(bytes)) CHECK(!id->empty());
  (void)is_complete_result(bytes);
  (void)parse_versioning(bytes);
  (void)parse_retention(bytes);
  (void)parse_legal_hold(bytes);
  std::string_view text = as_text(bytes);
  (void)parse_s3_time(text);
  (void)parse_http_date(text);
  (void)parse_endpoint(text);
  if (auto location = parse_s3_location(text)) {
    auto again = parse_s3_location(format_s3_location(*location));
    CHECK(again && format_s3_location(*again) == format_s3_location(*location));
  }
  if (auto decoded = percent_decode(text)) {
    auto again = percent_decode(percent_encode(*decoded));
    CHECK(again && *again == *decoded);
  }
  return 0;
}
