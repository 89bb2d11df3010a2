#include "store/s3/credentials.h"

#include <fmt/core.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/time_text.h"
#include "os/file.h"

namespace kuramori {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;
constexpr Duration kRenewBefore = std::chrono::minutes(5);  // the end of temporary credentials
constexpr const char* kMetadataService = "http://169.254.169.254";
constexpr std::string_view kTokenSeconds = "21600";
constexpr size_t kMetadataBytesMax = 64 << 10;
// Where there is no such service nobody answers, and that must not take long.
constexpr HttpTimeouts kMetadataTimeouts{.connect = std::chrono::seconds(1),
                                         .first_byte = std::chrono::seconds(3),
                                         .stall = std::chrono::seconds(3),
                                         .total = std::chrono::seconds(5)};

std::string trimmed(std::string_view text) {
  size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1));
}

// One section of an INI file: the keys of "[name]". nullopt: there is no such section.
std::optional<std::map<std::string, std::string>> read_section(std::string_view text, std::string_view name) {
  std::optional<std::map<std::string, std::string>> found;
  bool inside = false;
  while (!text.empty()) {
    size_t end = text.find('\n');
    std::string line = trimmed(text.substr(0, end));
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      inside = line.back() == ']' && trimmed(std::string_view(line).substr(1, line.size() - 2)) == name;
      if (inside && !found) found.emplace();
      continue;
    }
    size_t equals = line.find('=');
    if (inside && equals != line.npos)
      (*found)[trimmed(line.substr(0, equals))] = trimmed(line.substr(equals + 1));
  }
  return found;
}

using Found = std::shared_ptr<const S3Credentials>;  // shared: a request may still sign with the old ones

Found make(std::string access_key, std::string& secret_key, std::string token, std::string origin,
           std::optional<Time> expires = {}) {
  auto made = std::make_shared<S3Credentials>();
  made->access_key = std::move(access_key);
  made->secret_key = Secret::copy_of(as_bytes(secret_key));
  made->session_token = std::move(token);
  made->origin = std::move(origin);
  made->expires = expires;
  wipe({reinterpret_cast<uint8_t*>(secret_key.data()), secret_key.size()});
  return made;
}

class Finder {
 public:
  Finder(const S3Location& location, const CredentialWorld& world) : location_(location), world_(world) {}

  Result<Found> find() {
    if (!location_.access_key_file.empty()) return from_files();
    if (location_.from_environment) {
      TRY_ASSIGN(Found found, from_environment());
      if (found) return found;
      return fail(ErrorKind::kUsage, "the environment holds no credentials for the store",
                  "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set",
                  "set both, or name a profile: credentials: { profile: NAME }");
    }
    if (!location_.profile.empty()) return from_profile(location_.profile, Missing::kIsError);
    if (location_.from_instance_role) return from_instance_role();

    TRY_ASSIGN(Found found, from_environment());
    if (found) return found;
    std::optional<std::string> named = world_.environment("AWS_PROFILE");
    TRY_ASSIGN(found, from_profile(named.value_or("default"), named ? Missing::kIsError : Missing::kIsNull));
    if (found) return found;
    Result<Found> role = from_instance_role();
    if (role) return role;
    return fail(
        ErrorKind::kUsage, "there are no credentials for the store",
        fmt::format("the environment has no AWS_ACCESS_KEY_ID, {} no profile \"default\"; {}",
                    credentials_file(), role.error().what),
        "name a profile: credentials: { profile: NAME }, or files: { access_key_file, secret_key_file }");
  }

  std::string region() {
    for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"}) {
      if (auto value = world_.environment(name); value && !value->empty()) return *value;
    }
    std::string profile =
        location_.profile.empty() ? world_.environment("AWS_PROFILE").value_or("default") : location_.profile;
    Result<std::map<std::string, std::string>> keys = profile_keys(profile);
    return keys && keys->contains("region") ? keys->at("region") : "";
  }

 private:
  enum class Missing { kIsError, kIsNull };

  Result<Found> from_files() {
    TRY_ASSIGN(std::string access_key, world_.read_file(location_.access_key_file));
    TRY_ASSIGN(std::string secret_key, world_.read_file(location_.secret_key_file));
    std::string clean = trimmed(secret_key);
    wipe({reinterpret_cast<uint8_t*>(secret_key.data()), secret_key.size()});
    if (clean.empty() || trimmed(access_key).empty())
      return fail(ErrorKind::kUsage,
                  fmt::format("{} or {} is empty", location_.access_key_file, location_.secret_key_file));
    return make(trimmed(access_key), clean, {},
                fmt::format("the files {} and {}", location_.access_key_file, location_.secret_key_file));
  }

  Result<Found> from_environment() {
    auto access_key = world_.environment("AWS_ACCESS_KEY_ID");
    auto secret_key = world_.environment("AWS_SECRET_ACCESS_KEY");
    if (!access_key || access_key->empty() || !secret_key || secret_key->empty()) return Found();
    return make(*access_key, *secret_key, world_.environment("AWS_SESSION_TOKEN").value_or(""),
                "the environment");
  }

  std::string home_file(const char* variable, const char* name) {
    if (auto path = world_.environment(variable)) return *path;
    return world_.environment("HOME").value_or("/root") + "/.aws/" + name;
  }
  std::string credentials_file() { return home_file("AWS_SHARED_CREDENTIALS_FILE", "credentials"); }

  // Of both files; what is in `credentials` counts more.
  Result<std::map<std::string, std::string>> profile_keys(const std::string& profile) {
    std::map<std::string, std::string> keys;
    bool found = false;
    std::string config_section = profile == "default" ? profile : "profile " + profile;
    for (auto [path, section] : {std::pair(home_file("AWS_CONFIG_FILE", "config"), config_section),
                                 std::pair(credentials_file(), profile)}) {
      Result<std::string> text = world_.read_file(path);
      if (!text && text.error().kind == ErrorKind::kNotFound) continue;
      if (!text) return std::move(text).error();
      auto here = read_section(*text, section);
      wipe({reinterpret_cast<uint8_t*>(text->data()), text->size()});
      found = found || here;
      if (here)
        for (auto& [key, value] : *here) keys[key] = std::move(value);
    }
    if (!found)
      return fail(ErrorKind::kNotFound, fmt::format("there is no profile \"{}\"", profile),
                  fmt::format("{} has no section [{}]", credentials_file(), profile));
    return keys;
  }

  Result<Found> from_profile(const std::string& profile, Missing missing) {
    auto keys = profile_keys(profile);
    bool absent = keys ? !keys->contains("aws_access_key_id") || !keys->contains("aws_secret_access_key")
                       : keys.error().kind == ErrorKind::kNotFound;
    if (absent && missing == Missing::kIsNull) return Found();
    if (!keys) {
      Error error = std::move(keys).error();
      if (error.kind == ErrorKind::kNotFound) error.kind = ErrorKind::kUsage;
      return error;
    }
    if (absent) {
      bool assumes_role = keys->contains("role_arn") || keys->contains("sso_start_url") ||
                          keys->contains("credential_process");
      return fail(ErrorKind::kUsage, fmt::format("the profile \"{}\" holds no access key", profile),
                  assumes_role ? "it takes its credentials from elsewhere, which this program does not do"
                               : "aws_access_key_id or aws_secret_access_key is missing",
                  "give it both keys, or name another profile");
    }
    return make(keys->at("aws_access_key_id"), keys->at("aws_secret_access_key"),
                (*keys)["aws_session_token"], fmt::format("the profile {}", profile));
  }

  Result<std::string> ask_metadata(const std::string& url, const char* method, HttpHeader header) {
    auto answer = world_.http->send({.method = method,
                                     .url = url,
                                     .headers = {std::move(header)},
                                     .body_bytes_max = kMetadataBytesMax,
                                     .timeouts = kMetadataTimeouts});
    if (!answer) return std::move(answer).error();
    if (answer->status != 200)
      return fail(ErrorKind::kFailed, fmt::format("{} answered {}", url, answer->status));
    return std::string(as_text(answer->body));
  }

  // Version 2 of the instance's metadata service: a token first, which no redirected request can fetch.
  Result<Found> from_instance_role() {
    if (world_.environment("AWS_EC2_METADATA_DISABLED").value_or("") == "true")
      return fail(ErrorKind::kFailed, "the instance's role is not asked for",
                  "AWS_EC2_METADATA_DISABLED is true");
    Result<Found> found = ask_for_role();
    if (found) return found;
    Error error = std::move(found).error();
    error.what = "this machine has no role: " + error.what;
    error.kind = ErrorKind::kFailed;
    return error;
  }

  Result<Found> ask_for_role() {
    std::string service = world_.environment("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or(kMetadataService);
    while (service.ends_with('/')) service.pop_back();
    TRY_ASSIGN(std::string token,
               ask_metadata(service + "/latest/api/token", "PUT",
                            {"X-aws-ec2-metadata-token-ttl-seconds", std::string(kTokenSeconds)}));
    HttpHeader with_token{"X-aws-ec2-metadata-token", trimmed(token)};
    std::string roles = service + "/latest/meta-data/iam/security-credentials/";
    TRY_ASSIGN(std::string names, ask_metadata(roles, "GET", with_token));
    std::string role = trimmed(names.substr(0, names.find('\n')));
    if (role.empty()) return fail(ErrorKind::kFailed, "the instance has no role");
    TRY_ASSIGN(std::string text, ask_metadata(roles + role, "GET", with_token));
    Result<Found> found = parse_role(text, role);
    wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
    return found;
  }

  static Result<Found> parse_role(const std::string& text, const std::string& role) {
    auto json = nlohmann::json::parse(text, nullptr, false);
    auto field = [&](const char* name) -> std::string {
      if (!json.is_object() || !json.contains(name) || !json[name].is_string()) return {};
      return json[name].get<std::string>();
    };
    std::string access_key = field("AccessKeyId"), secret_key = field("SecretAccessKey");
    Result<Moment> expires = parse_moment(field("Expiration"));
    if (access_key.empty() || secret_key.empty() || !expires)
      return fail(ErrorKind::kFailed, fmt::format("the credentials of the role {} cannot be read", role));
    return make(access_key, secret_key, field("Token"), fmt::format("the instance's role {}", role),
                expires->time);
  }

  const S3Location& location_;
  const CredentialWorld& world_;
};

class FoundSource final : public CredentialSource {
 public:
  FoundSource(S3Location location, CredentialWorld world)
      : location_(std::move(location)), world_(std::move(world)) {}

  Result<Found> get() override {
    std::lock_guard hold(mutex_);
    bool old = found_ && found_->expires && world_.clock->now() > *found_->expires - kRenewBefore;
    if (found_ && !old) return found_;
    Result<Found> fresh = Finder(location_, world_).find();
    if (fresh) {
      found_ = *fresh;
    } else if (!found_ || world_.clock->now() > *found_->expires) {
      return fresh;
    }
    return found_;  // perhaps the old ones, which are still good for minutes
  }
  void forget() override {
    std::lock_guard hold(mutex_);
    found_.reset();
  }

 private:
  S3Location location_;
  CredentialWorld world_;
  std::mutex mutex_;
  Found found_;
};

class FixedSource final : public CredentialSource {
 public:
  FixedSource(std::string access_key, Secret secret_key) {
    auto made = std::make_shared<S3Credentials>();
    made->access_key = std::move(access_key);
    made->secret_key = std::move(secret_key);
    made->origin = "the configuration";
    found_ = std::move(made);
  }
  Result<Found> get() override { return found_; }
  void forget() override {}

 private:
  Found found_;
};

}  // namespace

CredentialWorld machine_credential_world(HttpClient& http, Clock& clock) {
  return {.environment = [](const std::string& name) -> std::optional<std::string> {
            const char* value = std::getenv(name.c_str());
            return value == nullptr ? std::nullopt : std::optional<std::string>(value);
          },
          .read_file = [](const std::string& path) -> Result<std::string> {
            TRY_ASSIGN(Bytes bytes, read_file(path, kFileBytesMax));
            std::string text(as_text(bytes));
            wipe(bytes);
            return text;
          },
          .http = &http,
          .clock = &clock};
}

std::unique_ptr<CredentialSource> find_credentials(const S3Location& location, CredentialWorld world) {
  return std::make_unique<FoundSource>(location, std::move(world));
}

std::unique_ptr<CredentialSource> fixed_credentials(std::string access_key, Secret secret_key) {
  return std::make_unique<FixedSource>(std::move(access_key), std::move(secret_key));
}

std::string region_of_environment(const S3Location& location, const CredentialWorld& world) {
  return Finder(location, world).region();
}

}  // namespace kuramori
