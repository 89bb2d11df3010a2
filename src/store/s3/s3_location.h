// Where a vault in an S3-compatible store is, as one line of text: s3://bucket/prefix?endpoint=…&region=…
//
// Everything a process needs to get there stands in it, except secrets, which it only points to: so that the
// line which a restore writes into restore_command works years later, without a configuration.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/units.h"

namespace kuramori {

struct S3Location {
  std::string bucket;
  std::string prefix;    // no slash at either end; "" for a whole bucket
  std::string endpoint;  // "https://s3.example.jp"; "": Amazon's of the region
  std::string region;    // "": the profile's, AWS_REGION, else us-east-1
  std::string ca_file;

  std::string profile;                           // of ~/.aws/credentials
  std::string access_key_file, secret_key_file;  // both or none
  bool from_environment = false;                 // only AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
  bool from_instance_role = false;               // only the machine's own role

  enum class Style { kAutomatic, kPath, kVirtualHost };
  Style style = Style::kAutomatic;  // automatic: virtual host at Amazon, path elsewhere

  std::string storage_class;  // "STANDARD_IA"
  // Names that get it begin with this: what is small or needed to find the rest stays where it can be read at
  // once, and costs less there too. Empty: all.
  std::string class_prefix;
  std::string sse_kms_key;       // the store encrypts with this key; "aws:kms" asks for its default key
  std::optional<Period> lock;    // everything put is retained for so long, from the first second
  bool lock_governance = false;  // who may bypass it can delete; default: nobody can (compliance)

  // Objects that another account puts belong to it: without this the bucket's owner cannot read them.
  bool grant_to_owner = true;
  // False: the store knows no conditional put, and a put looks first. Two at once may both succeed: only for
  // a place whose ledger stands elsewhere.
  bool conditional = true;
};

// kUsage naming what is wrong: an unknown parameter, a bucket's name that none can have, a bad endpoint.
Result<S3Location> parse_s3_location(std::string_view text);
// What parse_s3_location() reads back.
std::string format_s3_location(const S3Location& location);

inline bool is_s3_location(std::string_view text) {
  return text.starts_with("s3://");
}

}  // namespace kuramori
