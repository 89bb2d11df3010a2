#include "store/s3/sigv4.h"

#include <fmt/core.h>

#include <algorithm>
#include <ctime>

#include "crypto/digest.h"

namespace kuramori {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";
constexpr std::string_view kKeyPrefix = "AWS4";

std::string canonical_value(std::string_view value) {
  std::string out;
  bool space = false;
  for (char c : value) {
    if (c == ' ' || c == '\t') {
      space = !out.empty();
      continue;
    }
    if (space) out += ' ';
    space = false;
    out += c;
  }
  return out;
}

Digest signing_key(const S3Credentials& credentials, std::string_view day, std::string_view region) {
  Secret first(kKeyPrefix.size() + credentials.secret_key.size());
  std::copy(kKeyPrefix.begin(), kKeyPrefix.end(), first.fill().begin());
  std::ranges::copy(credentials.secret_key.view(), first.fill().begin() + kKeyPrefix.size());
  Digest key = hmac_sha256(first.view(), as_bytes(day));
  key = hmac_sha256(key.view(), as_bytes(region));
  key = hmac_sha256(key.view(), as_bytes("s3"));
  return hmac_sha256(key.view(), as_bytes("aws4_request"));
}

}  // namespace

std::string canonical_query(const QueryParameters& query) {
  std::vector<std::pair<std::string, std::string>> encoded;
  for (const auto& [key, value] : query) encoded.emplace_back(percent_encode(key), percent_encode(value));
  std::sort(encoded.begin(), encoded.end());
  std::string out;
  for (const auto& [key, value] : encoded) out += fmt::format("{}{}={}", out.empty() ? "" : "&", key, value);
  return out;
}

std::string amz_date(Time time) {
  std::time_t seconds = to_unix_ns(time) / 1'000'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &parts);
  return text;
}

std::string sign_v4(const RequestToSign& request, const S3Credentials& credentials, std::string_view region,
                    Time time) {
  std::vector<std::pair<std::string, std::string>> headers;
  for (const HttpHeader& header : request.headers) {
    std::string name = header.name;
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    headers.emplace_back(std::move(name), canonical_value(header.value));
  }
  std::sort(headers.begin(), headers.end());
  std::string canonical_headers, signed_headers;
  for (const auto& [name, value] : headers) {
    canonical_headers += fmt::format("{}:{}\n", name, value);
    signed_headers += (signed_headers.empty() ? "" : ";") + name;
  }
  std::string canonical =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, request.path, canonical_query(request.query),
                  canonical_headers, signed_headers, request.payload_sha256);
  std::string moment = amz_date(time);
  std::string day = moment.substr(0, 8);
  std::string scope = fmt::format("{}/{}/s3/aws4_request", day, region);
  std::string to_sign =
      fmt::format("{}\n{}\n{}\n{}", kAlgorithm, moment, scope, sha256(as_bytes(canonical)).hex());
  Digest key = signing_key(credentials, day, region);
  std::string signature = hmac_sha256(key.view(), as_bytes(to_sign)).hex();
  wipe(key.raw);
  return fmt::format("{} Credential={}/{},SignedHeaders={},Signature={}", kAlgorithm, credentials.access_key,
                     scope, signed_headers, signature);
}

}  // namespace kuramori
