#include "store/s3/s3_client.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <charconv>

#include "base/check.h"
#include "base/throttle.h"
#include "base/time_text.h"
#include "crypto/digest.h"

namespace kuramori {
namespace {

constexpr Duration kSkewTold = std::chrono::minutes(2);  // less than stores mind (15 minutes) is left alone
constexpr int kUnansweredLooksMax = 4;

std::optional<Duration> retry_after(const HttpAnswer& answer) {
  std::string_view text = answer.header("retry-after");
  int seconds = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.empty() || error != std::errc{} || seconds < 0) return std::nullopt;
  return std::chrono::seconds(std::min(seconds, 3600));
}

// What a store says when it has too much to do; it has not done it.
bool says_slow_down(const S3Answer& answer) {
  return answer.status == 429 || answer.status == 503 || answer.is("SlowDown") || answer.is("Throttling") ||
         answer.is("RequestLimitExceeded");
}
bool is_worth_repeating(const S3Answer& answer) {
  return says_slow_down(answer) || answer.status >= 500 || answer.is("RequestTimeout") ||
         answer.is("InternalError") || answer.is("OperationAborted") ||
         answer.is("ConditionalRequestConflict") || answer.status == 408 ||
         (answer.status == 409 && answer.is("ConcurrentModification"));
}
// The store knows the request and does not do it: no use in asking again.
bool is_final_server_error(const S3Answer& answer) {
  return answer.status == 501 || answer.is("NotImplemented");
}

}  // namespace

Md5 md5_of(ByteView bytes) {
  static EVP_MD* method = EVP_MD_fetch(nullptr, "MD5", nullptr);
  CHECK(method != nullptr);
  Md5 digest{};
  unsigned size = 0;
  CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, method, nullptr) == 1 && size == 16);
  return digest;
}

Md5Stream::Md5Stream() : state_(EVP_MD_CTX_new()) {
  CHECK(state_ != nullptr && EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(state_), EVP_md5(), nullptr) == 1);
}
Md5Stream::~Md5Stream() {
  EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(state_));
}
void Md5Stream::add(ByteView bytes) {
  CHECK(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(state_), bytes.data(), bytes.size()) == 1);
}
Md5 Md5Stream::finish() {
  Md5 digest{};
  unsigned size = 0;
  auto* context = static_cast<EVP_MD_CTX*>(state_);
  CHECK(EVP_DigestFinal_ex(context, digest.data(), &size) == 1 && size == digest.size());
  CHECK(EVP_DigestInit_ex(context, EVP_md5(), nullptr) == 1);
  return digest;
}

S3Client::S3Client(S3Location location, std::unique_ptr<HttpClient> http,
                   std::unique_ptr<CredentialSource> credentials, std::string region, S3Limits limits,
                   Clock& clock, Random& random)
    : location_(std::move(location)),
      http_(std::move(http)),
      credentials_(std::move(credentials)),
      limits_(limits),
      clock_(clock),
      random_(random),
      region_(std::move(region)) {
  if (!at_amazon()) {
    auto endpoint = parse_endpoint(location_.endpoint);
    CHECK(endpoint);  // it was checked when the location was read
    endpoint_ = *endpoint;
  }
  using Style = S3Location::Style;
  virtual_host_ = location_.style == Style::kVirtualHost;
  // A dot in a bucket's name fits no wildcard certificate (P73).
  if (location_.style == Style::kAutomatic)
    virtual_host_ = at_amazon() && location_.bucket.find('.') == std::string::npos;
}

std::string S3Client::host() const {
  std::string base;
  if (at_amazon()) {
    std::lock_guard hold(mutex_);
    base = fmt::format("s3.{}.amazonaws.com{}", region_, region_.starts_with("cn-") ? ".cn" : "");
  } else {
    base = endpoint_.authority();
  }
  return virtual_host_ ? location_.bucket + "." + base : base;
}

std::string S3Client::place() const {
  return location_.prefix.empty() ? fmt::format("s3://{}", location_.bucket)
                                  : fmt::format("s3://{}/{}", location_.bucket, location_.prefix);
}

Time S3Client::server_now() {
  return clock_.now() + Duration(seen_offset_ns_.load());
}

Result<HttpAnswer> S3Client::send_once(const S3Request& request, std::string_view body_sha256,
                                       const S3Credentials& credentials) {
  Time now = clock_.now() + Duration(clock_offset_ns_.load());
  std::string at = host();
  std::string path = virtual_host_ ? "/" : "/" + percent_encode(location_.bucket);
  if (!request.key.empty()) {
    if (!path.ends_with('/')) path += '/';
    path += percent_encode(request.key, Slash::kKeep);
  }
  std::vector<HttpHeader> headers = request.headers;
  headers.push_back({"Host", at});
  headers.push_back({"x-amz-content-sha256", std::string(body_sha256)});
  headers.push_back({"x-amz-date", amz_date(now)});
  if (request.content_md5) headers.push_back({"Content-MD5", to_base64(*request.content_md5)});
  if (!credentials.session_token.empty())
    headers.push_back({"x-amz-security-token", credentials.session_token});
  std::string region;
  {
    std::lock_guard hold(mutex_);
    region = region_;
  }
  std::string authorization = sign_v4({.method = request.method,
                                       .path = path,
                                       .query = request.query,
                                       .headers = headers,
                                       .payload_sha256 = body_sha256},
                                      credentials, region, now);
  headers.push_back({"Authorization", std::move(authorization)});

  HttpRequest http{.method = std::string(request.method),
                   .url = fmt::format("{}://{}{}", at_amazon() || endpoint_.tls ? "https" : "http", at, path),
                   .headers = std::move(headers),
                   .body = request.body,
                   .body_bytes_max = request.body_bytes_max,
                   .into = request.into,
                   .timeouts = limits_.timeouts};
  if (!request.query.empty()) http.url += "?" + canonical_query(request.query);
  size_t bytes = std::max(request.body.size(), request.into.size());
  // Under a limit a request is no faster than it, so that what the account allows at once does not leave at
  // once.
  http.bytes_per_second_max = network_throttle().rate();
  const double slowest =
      http.bytes_per_second_max == 0
          ? limits_.bytes_per_second_min
          : std::min(limits_.bytes_per_second_min, static_cast<double>(http.bytes_per_second_max) / 2);
  auto for_body = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(static_cast<double>(bytes) / slowest));
  http.timeouts.total = std::max(http.timeouts.total, http.timeouts.first_byte + for_body);
  // A second request for the same bytes is nothing to spend a limited line on.
  if (request.hedge && http.bytes_per_second_max == 0) http.hedge_after = latency_.hedge_after();
  ++requests_;
  Result<HttpAnswer> answer = http_->send(http);
  // What comes back without a known size is paid for by the next request.
  if (answer) network_throttle().spend(answer->body.size());
  if (answer && request.hedge) {
    if (answer->hedged) {
      latency_.hedged();
      ++requests_;
    }
    if (answer->status < 300) latency_.add(answer->first_byte);
  }
  return answer;
}

void S3Client::take_clock(const HttpAnswer& answer) {
  std::optional<Time> date = parse_http_date(answer.header("date"));
  if (date) seen_offset_ns_ = (*date - clock_.now()).count();
}

// Whether something about us was wrong that is now put right: the answer says what.
bool S3Client::mend(const S3Answer& answer) {
  if (answer.is("RequestTimeTooSkewed")) {
    // The clock decides nothing here: the store only wants the date it would write itself.
    Duration offset(seen_offset_ns_.load());
    if (offset < kSkewTold && offset > -kSkewTold) return false;
    clock_offset_ns_ = offset.count();
    return true;
  }
  if (answer.is("ExpiredToken") || answer.is("TokenRefreshRequired") || answer.is("InvalidToken")) {
    credentials_->forget();
    return true;
  }
  std::string region(answer.http.header("x-amz-bucket-region"));
  if (region.empty() && answer.error) region = answer.error->region;
  bool about_region = answer.status == 301 || answer.status == 307 || answer.status == 400;
  if (!about_region || region.empty()) return false;
  std::lock_guard hold(mutex_);
  if (region_ == region) return false;
  region_ = region;
  return true;
}

Result<S3Answer> S3Client::send(const S3Request& request) {
  std::string body_sha256 = sha256(request.body).hex();
  bool changes = request.method != "GET" && request.method != "HEAD";
  using Patience = S3Request::Patience;
  const bool has_little = request.patience == Patience::kLittle;
  int attempts_max = request.patience == Patience::kNone ? 1 : limits_.attempts_max;
  int unanswered = 0;
  Duration begun = clock_.steady();
  bool may_have_happened = false;
  int mended = 0;

  for (int attempt = 1;; ++attempt) {
    TRY_ASSIGN(std::shared_ptr<const S3Credentials> credentials, credentials_->get());
    // Before the date is signed and a place in the window taken; and no part of the patience with the store.
    const Duration asked = clock_.steady();
    network_throttle().take(request.body.size() + request.into.size());
    begun += clock_.steady() - asked;
    window_.enter();
    Result<HttpAnswer> sent = send_once(request, body_sha256, *credentials);
    S3Answer answer{.repeated = may_have_happened};
    std::optional<Duration> pause_asked;
    auto outcome = RequestWindow::Outcome::kOther;
    if (sent) {
      take_clock(*sent);
      answer.status = sent->status;
      answer.http = std::move(*sent);
      if (answer.status >= 300) answer.error = parse_s3_error(answer.http.body);
      if (answer.ok()) outcome = RequestWindow::Outcome::kGood;
      if (says_slow_down(answer)) outcome = RequestWindow::Outcome::kSlowDown;
      pause_asked = retry_after(answer.http);
    }
    window_.leave(outcome, clock_.steady());

    if (sent) {
      if (mended < 2 && mend(answer)) {
        ++mended;
        continue;
      }
      if (!is_worth_repeating(answer) || is_final_server_error(answer)) return answer;
    } else if (sent.error().kind == ErrorKind::kUsage) {
      return std::move(sent).error();
    } else {
      ++unanswered;
    }
    // "Slow down" in the store's own words was not done. Any other server error, or none at all, may hide
    // that it was: a proxy in between answers 502 or 503 for a server whose answer it lost.
    bool certainly_not =
        sent ? says_slow_down(answer) && answer.error.has_value() : sent.error().kind == ErrorKind::kFailed;
    bool lost = changes && !certainly_not;
    may_have_happened = may_have_happened || lost;

    // Little patience is with silence: a store that answers "slow down" is there, and will tell.
    const bool is_short = has_little && unanswered > 0;
    bool last = attempt >= attempts_max || (has_little && unanswered >= kUnansweredLooksMax) ||
                clock_.steady() - begun > (is_short ? limits_.give_up_after / 4 : limits_.give_up_after);
    if (!last) clock_.sleep(back_off(attempt, pause_asked, random_));
    if (lost && request.look) {
      Result<bool> found = request.look();
      if (!found) return std::move(found).error();
      if (*found) return S3Answer{.found_done = true, .repeated = true};
    }
    if (!last) continue;

    if (sent && !may_have_happened) return answer;
    std::string why =
        sent ? fmt::format(
                   "it answered {}{}", answer.status,
                   answer.error ? fmt::format(" {} ({})", answer.error->code, answer.error->message) : "")
             : fmt::format("{}: {}", sent.error().what, sent.error().why);
    return fail(may_have_happened ? ErrorKind::kUnknown : ErrorKind::kFailed,
                fmt::format("the store of {} does not answer as it should", place()),
                fmt::format("{} attempts in {}; the last: {}", attempt,
                            format_duration(clock_.steady() - begun), why),
                "look at the store and the network, then repeat");
  }
}

Error S3Client::error_of(const S3Answer& answer, std::string_view what) {
  std::string says = fmt::format("{}", answer.status);
  if (answer.error) says += " " + answer.error->code;
  if (answer.error && !answer.error->message.empty()) says += ": " + answer.error->message;
  std::string why = fmt::format("the store answered {}", says);
  auto error = [&](ErrorKind kind, std::string next = {}) {
    return fail(kind, fmt::format("cannot {} in {}", what, place()), why, std::move(next));
  };
  if (answer.is("NoSuchBucket"))
    return fail(ErrorKind::kFailed,
                fmt::format("there is no bucket \"{}\" for {}", location_.bucket, place()), why,
                "check bucket, endpoint and region, or make the bucket");
  if (answer.is("InvalidAccessKeyId") || answer.is("SignatureDoesNotMatch") || answer.is("InvalidToken") ||
      answer.is("ExpiredToken") || answer.is("AuthorizationHeaderMalformed")) {
    Result<std::shared_ptr<const S3Credentials>> used = credentials_->get();
    return error(ErrorKind::kUsage, fmt::format("the credentials came from {}: correct them",
                                                used ? (*used)->origin : "nowhere"));
  }
  if (answer.is("RequestTimeTooSkewed"))
    return error(ErrorKind::kFailed, "set this machine's clock: timedatectl status");
  if (answer.is("InvalidObjectState"))
    return error(ErrorKind::kRefused, "it is in cold storage: kuramori thaw SNAPSHOT, then wait");
  if (answer.is("QuotaExceeded") || answer.status == 507)
    return error(ErrorKind::kNoSpace, "raise the store's quota, or free space: kuramori prune");
  if (answer.status == 403 || answer.status == 401)
    return error(ErrorKind::kDenied, "the store's policy for these credentials does not allow it");
  if (answer.status == 501) return error(ErrorKind::kRefused, "this store cannot do it");
  return error(ErrorKind::kFailed);
}

Result<std::unique_ptr<S3Client>> open_s3_client(const S3Location& location, S3ClientOptions options) {
  Clock& clock = options.clock != nullptr ? *options.clock : system_clock();
  Random& random = options.random != nullptr ? *options.random : system_random();
  TRY_ASSIGN(std::unique_ptr<HttpClient> http, make_http_client({.ca_file = location.ca_file}));
  CredentialWorld world = machine_credential_world(*http, clock);
  std::string region = location.region;
  if (region.empty()) region = region_of_environment(location, world);
  if (region.empty()) region = "us-east-1";
  std::unique_ptr<CredentialSource> credentials = std::move(options.credentials);
  if (!credentials) credentials = find_credentials(location, std::move(world));
  return std::make_unique<S3Client>(location, std::move(http), std::move(credentials), std::move(region),
                                    options.limits, clock, random);
}

}  // namespace kuramori
