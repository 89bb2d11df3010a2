#include "store/s3/s3_location.h"

#include <fmt/core.h>

#include "net/url.h"
#include "store/store.h"

namespace kuramori {
namespace {

constexpr std::string_view kScheme = "s3://";
constexpr size_t kBucketMin = 3, kBucketMax = 63;  // characters
constexpr std::string_view kParameters =
    "endpoint, region, ca_file, profile, access_key_file, secret_key_file, credentials, style, class, "
    "sse_kms, "
    "lock, lock_mode, acl, conditional";

bool is_bucket_name(std::string_view name) {
  if (name.size() < kBucketMin || name.size() > kBucketMax) return false;
  auto letter_or_digit = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (char c : name) {
    // Capitals and '_' are from the early days; some stores still have such buckets.
    if (!letter_or_digit(c) && c != '-' && c != '.' && c != '_' && !(c >= 'A' && c <= 'Z')) return false;
  }
  return name.front() != '-' && name.front() != '.' && name.back() != '.' && name.find("..") == name.npos;
}

Error bad(std::string_view text, std::string why, std::string next = {}) {
  if (next.empty()) next = "write s3://bucket/prefix?endpoint=https://…&region=…";
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no place in an S3 store", text.substr(0, 300)),
              std::move(why), std::move(next));
}

Result<void> take_parameter(S3Location& location, std::string_view text, const std::string& key,
                            const std::string& value) {
  if (value.empty()) return bad(text, fmt::format("{} is empty", key));
  auto one_of = [&](std::string_view choices) {
    return bad(text, fmt::format("{} cannot be \"{}\"", key, value),
               fmt::format("{} is one of: {}", key, choices));
  };
  if (key == "endpoint") {
    TRY(parse_endpoint(value));
    location.endpoint = value;
  } else if (key == "region") {
    location.region = value;
  } else if (key == "ca_file") {
    location.ca_file = value;
  } else if (key == "profile") {
    location.profile = value;
  } else if (key == "access_key_file") {
    location.access_key_file = value;
  } else if (key == "secret_key_file") {
    location.secret_key_file = value;
  } else if (key == "credentials") {
    if (value != "env" && value != "instance") return one_of("env, instance");
    (value == "env" ? location.from_environment : location.from_instance_role) = true;
  } else if (key == "style") {
    if (value != "path" && value != "virtual") return one_of("path, virtual");
    location.style = value == "path" ? S3Location::Style::kPath : S3Location::Style::kVirtualHost;
  } else if (key == "class") {
    location.storage_class = value;
  } else if (key == "sse_kms") {
    location.sse_kms_key = value;
  } else if (key == "lock") {
    TRY_ASSIGN(location.lock, parse_period(value));
    if (location.lock->endless)
      return bad(text, "a lock must end some day", "write lock=14d: it is extended as long as it is needed");
  } else if (key == "lock_mode") {
    if (value != "compliance" && value != "governance") return one_of("compliance, governance");
    location.lock_governance = value == "governance";
  } else if (key == "acl") {
    if (value != "none" && value != "owner") return one_of("owner, none");
    location.grant_to_owner = value == "owner";
  } else if (key == "conditional") {
    if (value != "yes" && value != "no") return one_of("yes, no");
    location.conditional = value == "yes";
  } else {
    return bad(text, fmt::format("nothing is known of \"{}\"", key.substr(0, 60)),
               fmt::format("known are: {}", kParameters));
  }
  return {};
}

}  // namespace

Result<S3Location> parse_s3_location(std::string_view text) {
  if (!text.starts_with(kScheme)) return bad(text, "it does not begin with s3://");
  S3Location location;
  std::string_view rest = text.substr(kScheme.size());
  size_t question = rest.find('?');
  std::string_view place = rest.substr(0, question);
  size_t slash = place.find('/');
  location.bucket = place.substr(0, slash);
  if (!is_bucket_name(location.bucket))
    return bad(text, fmt::format("\"{}\" cannot be the name of a bucket", location.bucket));
  if (slash != place.npos) {
    std::string_view prefix = place.substr(slash + 1);
    if (prefix.ends_with('/')) prefix.remove_suffix(1);
    location.prefix = prefix;
    // "a//b" is a key of its own for S3 and none for most tools (P73).
    if (!prefix.empty())
      if (auto good = check_object_name(prefix); !good) return bad(text, std::move(good.error().what));
  }
  if (question != rest.npos) {
    TRY_ASSIGN(QueryParameters parameters, parse_query(rest.substr(question + 1)));
    for (const auto& [key, value] : parameters) TRY(take_parameter(location, text, key, value));
  }
  if (location.access_key_file.empty() != location.secret_key_file.empty())
    return bad(text, "of access_key_file and secret_key_file one is missing", "give both");
  int sources = (location.profile.empty() ? 0 : 1) + (location.access_key_file.empty() ? 0 : 1) +
                (location.from_environment ? 1 : 0) + (location.from_instance_role ? 1 : 0);
  if (sources > 1) return bad(text, "it names several places for the credentials", "keep one of them");
  return location;
}

std::string format_s3_location(const S3Location& location) {
  std::string text = fmt::format("{}{}", kScheme, location.bucket);
  if (!location.prefix.empty()) text += "/" + location.prefix;
  char separator = '?';
  auto add = [&](std::string_view key, std::string_view value) {
    if (value.empty()) return;
    // What needs no quoting in a URL's query stays readable.
    std::string encoded;
    for (char c : value) encoded += c == '/' || c == ':' ? std::string(1, c) : percent_encode({&c, 1});
    text += fmt::format("{}{}={}", separator, key, encoded);
    separator = '&';
  };
  add("endpoint", location.endpoint);
  add("region", location.region);
  add("ca_file", location.ca_file);
  add("profile", location.profile);
  add("access_key_file", location.access_key_file);
  add("secret_key_file", location.secret_key_file);
  add("credentials", location.from_environment ? "env" : location.from_instance_role ? "instance" : "");
  using Style = S3Location::Style;
  add("style", location.style == Style::kPath          ? "path"
               : location.style == Style::kVirtualHost ? "virtual"
                                                       : "");
  add("class", location.storage_class);
  add("sse_kms", location.sse_kms_key);
  add("lock", location.lock ? format_period(*location.lock) : "");
  add("lock_mode", location.lock_governance ? "governance" : "");
  add("acl", location.grant_to_owner ? "" : "none");
  add("conditional", location.conditional ? "" : "no");
  return text;
}

}  // namespace kuramori
