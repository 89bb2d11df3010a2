// AWS Signature Version 4 for S3, in the Authorization header, over the whole payload
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "crypto/secret.h"
#include "net/http.h"
#include "net/url.h"

namespace kuramori {

struct S3Credentials {
  std::string access_key;
  Secret secret_key;
  std::string session_token;    // of temporary credentials
  std::optional<Time> expires;  // likewise
  std::string origin;           // for messages: "the profile kuramori"
};

struct RequestToSign {
  std::string_view method;
  std::string_view path;  // encoded, from '/' on
  const QueryParameters& query;
  const std::vector<HttpHeader>& headers;  // all are signed; Host is among them
  std::string_view payload_sha256;         // hexadecimal
};

// "a=1&b=" sorted and encoded: both the canonical and the real query string.
std::string canonical_query(const QueryParameters& query);
std::string amz_date(Time time);  // "20130524T000000Z"

// The Authorization header's value. `headers` must hold x-amz-date (of `time`) and x-amz-content-sha256.
std::string sign_v4(const RequestToSign& request, const S3Credentials& credentials, std::string_view region,
                    Time time);

}  // namespace kuramori
