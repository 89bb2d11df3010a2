#include "source/image/registry.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <ctime>
#include <map>
#include <mutex>

#include "conc/channel.h"
#include "conc/guarded.h"
#include "conc/task_group.h"
#include "net/http.h"
#include "net/url.h"
#include "source/image/auth.h"
#include "source/image/reference.h"

namespace kuramori::image {
namespace {

constexpr int kTriesMax = 8;           // of one request, or of a blob that gets no further
constexpr int kTriesOfBlobMax = 1000;  // of a blob that does get further each time
constexpr int kTriesOfLookMax = 3;     // of a look that has another way when it gets no good answer
constexpr Duration kFirstWait = std::chrono::milliseconds(200);
constexpr Duration kWaitMax = std::chrono::seconds(10);
constexpr Duration kToldWaitMax = std::chrono::minutes(2);  // of Retry-After
constexpr int kRedirectsMax = 5;
constexpr size_t kPagesMax = 10'000;     // of a list
constexpr size_t kNamesMax = 1'000'000;  // in a list
constexpr size_t kListBytesMax = size_t{4} << 20;
constexpr Duration kTokenMargin = std::chrono::seconds(10);  // renewed so long before it ends
constexpr Duration kBlobLimit = std::chrono::hours(24);
constexpr size_t kPieceBytes = 256 << 10;  // of a blob on its way up
constexpr size_t kPiecesWaiting = 4;

constexpr std::string_view kAccepted =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.artifact.manifest.v1+json, */*;q=0.1";

bool is_this_machine(std::string_view host) {
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

// The parts of an absolute URL that decide whether it is the same server; "" for what is none.
std::string origin_of(std::string_view url) {
  for (std::string_view scheme : {"https://", "http://"}) {
    if (!url.starts_with(scheme)) continue;
    const std::string_view rest = url.substr(scheme.size());
    auto endpoint =
        parse_endpoint(std::string(scheme) + std::string(rest.substr(0, rest.find_first_of("/?#"))));
    if (endpoint) return endpoint->url();
  }
  return {};
}

std::string_view host_of(std::string_view origin) {
  std::string_view rest = origin.substr(origin.find("://") + 3);
  if (rest.starts_with('[')) return rest.substr(0, rest.find(']') + 1);
  return rest.substr(0, rest.find(':'));
}

// `location` as a server at `url` means it.
std::string resolved(const std::string& url, std::string_view location) {
  if (location.find("://") != location.npos) return std::string(location);
  const std::string origin = origin_of(url);
  if (location.starts_with("//")) return origin.substr(0, origin.find("//")) + std::string(location);
  if (location.starts_with('/')) return origin + std::string(location);
  const size_t query = url.find('?');
  if (location.starts_with('?')) return url.substr(0, query) + std::string(location);
  return url.substr(0, url.rfind('/', query) + 1) + std::string(location);
}

// False: it was asked to stop.
bool wait_for(Duration duration, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

Error stopped() {
  return fail(ErrorKind::kInterrupted, "it was stopped");
}

Duration wait_before(int attempt) {
  return std::min(kWaitMax, kFirstWait * (1 << std::min(attempt, 10)));
}

// Whether the same request may go better later.
bool is_passing(int status) {
  return status == 408 || status == 429 || (status >= 500 && status != 501);
}
bool is_passing(const Error& error) {
  return error.kind == ErrorKind::kFailed || error.kind == ErrorKind::kUnknown;
}

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 §5.6.7).
std::optional<Time> parse_date(std::string_view text) {
  std::tm parts{};
  const std::string copy(text);
  const char* end = ::strptime(copy.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return Time(std::chrono::seconds(::timegm(&parts)));
}

class Client final : public Registry {
 public:
  Client(RegistrySettings settings, HttpEndpoint endpoint, std::unique_ptr<HttpClient> http)
      : settings_(std::move(settings)),
        base_(endpoint.url()),
        name_(endpoint.authority()),
        tls_(endpoint.tls),
        http_(std::move(http)) {}

  const std::string& name() const override { return name_; }

  Result<Greeting> greet(std::stop_token stop) override {
    HttpRequest request{.url = base_ + "/v2/"};
    TRY_ASSIGN(const HttpAnswer answer, ask(std::move(request), "", Patience::kNone, stop));
    if (answer.status == 404) {
      return fail(ErrorKind::kFailed, fmt::format("{} is no registry", name_), "it has no /v2/",
                  "check the address in registry:");
    }
    TRY(expect(answer, {200}, "greet"));
    Greeting greeting;
    if (const auto date = parse_date(answer.header("date"))) greeting.ahead = *date - system_clock().now();
    return greeting;
  }

  Result<std::vector<std::string>> catalog(std::stop_token stop) override {
    return list(base_ + "/v2/_catalog?n=1000", "registry:catalog:*", "repositories", "list its repositories",
                stop);
  }

  Result<std::vector<std::string>> tags(const std::string& repository, std::stop_token stop) override {
    return list(fmt::format("{}/v2/{}/tags/list?n=1000", base_, repository), pull(repository), "tags",
                "list the tags of " + repository, stop);
  }

  Result<Descriptor> resolve(const std::string& repository, const std::string& reference,
                             std::stop_token stop) override {
    HttpRequest request{.method = "HEAD", .url = manifest_url(repository, reference), .headers = accepting()};
    TRY_ASSIGN(const HttpAnswer answer, ask(std::move(request), pull(repository), Patience::kAll, stop));
    const std::string what = fmt::format("look up {}", image_name(repository, reference));
    if (answer.status != 405) TRY(expect(answer, {200}, what));
    auto digest = ContentDigest::parse(answer.header("docker-content-digest"));
    if (answer.status == 405 || !digest) {  // not every registry says; the bytes always do
      TRY_ASSIGN(const FetchedManifest whole, manifest(repository, reference, stop));
      return Descriptor{.media_type = whole.media_type, .digest = whole.digest, .size = whole.bytes.size()};
    }
    Descriptor out{.media_type = media_type_of(answer), .digest = std::move(*digest)};
    const std::string_view length = answer.header("content-length");
    std::from_chars(length.data(), length.data() + length.size(), out.size);
    return out;
  }

  Result<FetchedManifest> manifest(const std::string& repository, const std::string& reference,
                                   std::stop_token stop) override {
    HttpRequest request{.url = manifest_url(repository, reference),
                        .headers = accepting(),
                        .body_bytes_max = kManifestBytesMax};
    const std::string what = fmt::format("read the manifest of {}", image_name(repository, reference));
    auto asked = ask(std::move(request), pull(repository), Patience::kAll, stop);
    if (!asked) return std::move(asked).error().within(what);
    HttpAnswer& answer = *asked;
    TRY(expect(answer, {200}, what));
    FetchedManifest out{.media_type = media_type_of(answer)};
    if (const auto wanted = ContentDigest::parse(reference)) {
      DigestCheck check(*wanted);
      check.add(answer.body);
      if (!check.matches()) {
        return fail(ErrorKind::kDamaged, fmt::format("{} gives other bytes than {}", name_, wanted->brief()),
                    "what it has under this digest is damaged, or it lies", "push the image again");
      }
      out.digest = *wanted;
    } else {
      out.digest = ContentDigest::sha256_of(answer.body);
    }
    out.bytes = std::move(answer.body);
    return out;
  }

  Result<std::vector<Descriptor>> referrers(const std::string& repository, const ContentDigest& subject,
                                            std::stop_token stop) override {
    std::vector<Descriptor> out;
    if (no_referrers_) return out;
    std::string url = fmt::format("{}/v2/{}/referrers/{}", base_, repository, subject.text());
    for (size_t page = 0; page < kPagesMax && !url.empty(); ++page) {
      HttpRequest request{.url = url, .headers = accepting(), .body_bytes_max = kManifestBytesMax};
      TRY_ASSIGN(const HttpAnswer answer, ask(std::move(request), pull(repository), Patience::kAll, stop));
      // The specification: 404 says that there is no such API. Others answer as they do to any unknown path.
      if (answer.status == 404 || answer.status == 405 || answer.status == 400 ||
          !answer.header("content-type").starts_with(kOciIndex)) {
        if (page == 0) no_referrers_ = true;
        return out;
      }
      TRY(expect(answer, {200}, "list what refers to " + subject.brief()));
      TRY_ASSIGN(Manifest index, parse_manifest(answer.body, kOciIndex));
      for (Descriptor& one : index.manifests) out.push_back(std::move(one));
      if (out.size() > kNamesMax) break;
      url = next_page(url, answer);
    }
    return out;
  }

  Result<void> blob(const std::string& repository, const ContentDigest& digest, uint64_t size,
                    const std::function<Result<void>(ByteView)>& take, std::stop_token stop) override {
    DigestCheck check(digest);
    int tries = 0;
    for (int all = 0;; ++all) {
      const uint64_t begin = check.bytes();
      uint64_t skip = 0;  // of an answer that begins anew although asked to go on
      std::optional<Error> ours;
      const auto refuse = [&](Error error) {
        ours = error;
        return error;
      };
      bool first = true;
      HttpRequest request{.url = blob_url(repository, digest)};
      request.timeouts.total = kBlobLimit;
      if (begin > 0) request.headers.push_back({"Range", fmt::format("bytes={}-", begin)});
      request.on_body = [&](const HttpAnswer& head, ByteView bytes) -> Result<void> {
        if (first) {
          first = false;
          const bool goes_on =
              head.status == 206 && head.header("content-range").starts_with(fmt::format("bytes {}-", begin));
          if (!goes_on) skip = begin;
        }
        const uint64_t known = std::min<uint64_t>(skip, bytes.size());
        skip -= known;
        bytes = bytes.subspan(known);
        if (bytes.empty()) return {};
        if (bytes.size() > size - check.bytes()) {
          return refuse(fail(ErrorKind::kDamaged,
                             fmt::format("{} sends more than {} is long", name_, digest.brief()),
                             fmt::format("it is {} bytes", size)));
        }
        check.add(bytes);
        if (auto taken = take(bytes); !taken) return refuse(std::move(taken).error());
        return {};
      };
      auto answer = ask(std::move(request), pull(repository), Patience::kNone, stop);
      if (ours) return *ours;
      const bool is_whole = answer && (answer->status == 200 || answer->status == 206);
      if (is_whole || (answer && answer->status == 416)) {
        if (check.bytes() != size) {
          return fail(ErrorKind::kDamaged, fmt::format("{} has not all of {}", name_, digest.brief()),
                      fmt::format("{} bytes of {}", check.bytes(), size));
        }
        if (check.matches()) return {};
        return fail(ErrorKind::kDamaged, fmt::format("{} gives other bytes than {}", name_, digest.brief()),
                    "what it has under this digest is damaged, or it lies");
      }
      if (check.bytes() > begin) tries = 0;
      ++tries;
      const bool passes = answer ? is_passing(answer->status) : is_passing(answer.error());
      if (!passes || tries >= kTriesMax || all >= kTriesOfBlobMax) {
        const std::string what = fmt::format("read {} of {}", digest.brief(), repository);
        if (!answer) return std::move(answer).error().within(what);
        return expect(*answer, {}, what);
      }
      if (!wait_for(answer ? told_wait(*answer, tries) : wait_before(tries), stop)) return stopped();
    }
  }

  Result<std::optional<uint64_t>> has_blob(const std::string& repository, const ContentDigest& digest,
                                           std::stop_token stop) override {
    HttpRequest request{.method = "HEAD", .url = blob_url(repository, digest)};
    const std::string scope = settings_.is_written ? push(repository) : pull(repository);
    const Patience patience = settings_.is_written ? Patience::kAnswersFew : Patience::kAll;
    TRY_ASSIGN(const HttpAnswer answer, ask(std::move(request), scope, patience, stop));
    if (answer.status == 404) return std::optional<uint64_t>();
    // A registry that was torn away in the middle of a write fails for ever at what it has half of, and is
    // well again when it is given the whole: to a writer that counts as not there.
    if (settings_.is_written && answer.status >= 500) return std::optional<uint64_t>();
    TRY(expect(answer, {200}, "look for " + digest.brief()));
    uint64_t size = 0;
    const std::string_view length = answer.header("content-length");
    std::from_chars(length.data(), length.data() + length.size(), size);
    return std::optional(size);
  }

  Result<bool> mount(const std::string& repository, const ContentDigest& digest, const std::string& from,
                     std::stop_token stop) override {
    HttpRequest request{.method = "POST",
                        .url = fmt::format("{}/v2/{}/blobs/uploads/?mount={}&from={}", base_, repository,
                                           digest.text(), percent_encode(from))};
    // Of both repositories: what may not be read in one must not appear in another.
    TRY_ASSIGN(const HttpAnswer answer,
               ask(std::move(request), push(repository) + " " + pull(from), Patience::kAll, stop));
    if (answer.status == 201) return true;
    if (answer.status == 202) {  // it began an upload instead; that is not gone on with
      HttpRequest end{.method = "DELETE", .url = resolved(base_ + "/v2/", answer.header("location"))};
      (void)ask(std::move(end), push(repository), Patience::kNone, stop);
    }
    return false;
  }

  Result<void> upload(const std::string& repository, const ContentDigest& digest, uint64_t size,
                      const BlobReader& read, std::stop_token stop) override {
    const std::string what = fmt::format("write {} to {}", digest.brief(), repository);
    for (int attempt = 1;; ++attempt) {
      auto done = upload_once(repository, digest, size, read, stop);
      if (done) return {};
      if (stop.stop_requested()) return stopped();
      if (!is_passing(done.error()) || attempt >= kTriesMax) return std::move(done).error().within(what);
      if (!wait_for(wait_before(attempt), stop)) return stopped();
      // It may have arrived although no answer came back.
      TRY_ASSIGN(const auto there, has_blob(repository, digest, stop));
      if (there && *there == size) return {};
    }
  }

  Result<void> put_manifest(const std::string& repository, const std::string& reference, ByteView bytes,
                            const std::string& media_type, std::stop_token stop) override {
    HttpRequest request{.method = "PUT",
                        .url = manifest_url(repository, reference),
                        .headers = {{"Content-Type", media_type}},
                        .body = bytes};
    TRY_ASSIGN(const HttpAnswer answer, ask(std::move(request), push(repository), Patience::kAll, stop));
    if (answer.status >= 400 && answer.status < 500 && answer.status != 401 && answer.status != 403 &&
        answer.status != 429) {
      const std::string words = words_of(answer.body);
      return fail(
          ErrorKind::kRefused,
          fmt::format("{} does not take the manifest of {}", name_, image_name(repository, reference)),
          words.empty() ? fmt::format("status {}", answer.status) : words);
    }
    TRY(expect(answer, {200, 201, 202}, "write the manifest of " + image_name(repository, reference)));
    const std::string_view said = answer.header("docker-content-digest");
    if (said.empty()) return {};
    const auto digest = ContentDigest::parse(said);
    if (digest) {
      DigestCheck check(*digest);
      check.add(bytes);
      if (check.matches()) return {};
    }
    return fail(ErrorKind::kDamaged,
                fmt::format("{} stored {} under another digest", name_, image_name(repository, reference)),
                "it changes what it is given, so no digest holds there");
  }

 private:
  // How often what may pass is tried again; kAnswersFew: a far end that does not answer at all as kAll.
  enum class Patience : uint8_t { kNone, kAnswersFew, kAll };

  static std::string pull(const std::string& repository) {
    return fmt::format("repository:{}:pull", repository);
  }
  static std::string push(const std::string& repository) {
    return fmt::format("repository:{}:pull,push", repository);
  }
  static std::vector<HttpHeader> accepting() { return {{"Accept", std::string(kAccepted)}}; }
  static std::string image_name(const std::string& repository, const std::string& reference) {
    return fmt::format("{}{}{}", repository, reference.find(':') == reference.npos ? ":" : "@",
                       reference.substr(0, 19));
  }
  std::string manifest_url(const std::string& repository, const std::string& reference) const {
    return fmt::format("{}/v2/{}/manifests/{}", base_, repository, reference);
  }
  std::string blob_url(const std::string& repository, const ContentDigest& digest) const {
    return fmt::format("{}/v2/{}/blobs/{}", base_, repository, digest.text());
  }
  static std::string media_type_of(const HttpAnswer& answer) {
    std::string_view type = answer.header("content-type");
    type = type.substr(0, type.find_first_of("; "));
    return type.size() > 255 ? "" : std::string(type);
  }

  // An error for every status that is none of `good`.
  Result<void> expect(const HttpAnswer& answer, std::initializer_list<int> good,
                      const std::string& what) const {
    if (std::ranges::count(good, answer.status) != 0) return {};
    std::string why = words_of(answer.body);
    if (why.empty()) why = fmt::format("status {}", answer.status);
    const std::string said = fmt::format("{} does not let us {}", name_, what);
    switch (answer.status) {
      case 401:
      case 403:
        return fail(ErrorKind::kDenied, said, why,
                    settings_.user.empty() ? "give user: and password_file: of one who may"
                                           : "check the rights of its user, and password:");
      case 404:
      case 410:
        return fail(ErrorKind::kNotFound, fmt::format("{} does not have it: {}", name_, what), why);
      default:
        return fail(ErrorKind::kFailed, said, why, "look into the registry's log");
    }
  }

  static Duration told_wait(const HttpAnswer& answer, int attempt) {
    const std::string_view told = answer.header("retry-after");
    int64_t seconds = 0;
    const auto [end, failed] = std::from_chars(told.data(), told.data() + told.size(), seconds);
    if (failed != std::errc() || end != told.data() + told.size() || seconds < 0) return wait_before(attempt);
    return std::clamp<Duration>(std::chrono::seconds(std::min<int64_t>(seconds, 1 << 20)),
                                wait_before(attempt), kToldWaitMax);
  }

  // The answer to a request, with credentials where the registry wants some, behind its redirects.
  Result<HttpAnswer> ask(HttpRequest request, const std::string& scope, Patience patience,
                         const std::stop_token& stop) {
    request.stop = stop;
    for (int attempt = 1;; ++attempt) {
      if (stop.stop_requested()) return stopped();
      auto answer = ask_once(request, scope, stop);
      const bool passes = answer ? is_passing(answer->status) : is_passing(answer.error());
      const int tries = answer && patience == Patience::kAnswersFew ? kTriesOfLookMax : kTriesMax;
      if (!passes || patience == Patience::kNone || attempt >= tries) return answer;
      if (!wait_for(answer ? told_wait(*answer, attempt) : wait_before(attempt), stop)) return stopped();
    }
  }

  Result<HttpAnswer> ask_once(const HttpRequest& request, const std::string& scope,
                              const std::stop_token& stop) {
    std::string used;
    TRY_ASSIGN(HttpAnswer answer, send(request, scope, used, stop));
    if (answer.status != 401) return answer;
    const auto challenge = parse_challenge(answer.header("www-authenticate"));
    if (!challenge) return answer;
    // What was just refused is not tried a second time: a registry counts.
    if (!used.empty() && challenge->scheme == Challenge::Scheme::kBasic) return answer;
    {
      auto state = state_.lock();
      if (challenge->scheme == Challenge::Scheme::kBasic && settings_.user.empty()) return answer;
      state->challenge = *challenge;
      const auto known = state->tokens.find(scope);
      if (known != state->tokens.end() && known->second.header == used) state->tokens.erase(known);
    }
    // Its body may have been begun with: that is the caller's to begin anew.
    if (request.body_from) return fail(ErrorKind::kUnknown, fmt::format("{} wants to know us again", name_));
    return send(request, scope, used, stop);
  }

  // `used`: what it said we are.
  Result<HttpAnswer> send(HttpRequest request, const std::string& scope, std::string& used,
                          const std::stop_token& stop) {
    const bool follows = request.method == "GET" || request.method == "HEAD";
    const std::vector<HttpHeader> headers = request.headers;
    for (int hop = 0;; ++hop) {
      request.headers = headers;
      // Never to another: a redirect to a storage carries its own right in its URL.
      if (origin_of(request.url) == base_) {
        TRY_ASSIGN(used, authorization(scope, stop));
        if (!used.empty()) request.headers.push_back({"Authorization", used});
      }
      TRY_ASSIGN(HttpAnswer answer, http_->send(request));
      const bool moved = answer.status == 301 || answer.status == 302 || answer.status == 303 ||
                         answer.status == 307 || answer.status == 308;
      if (!moved || !follows) return answer;
      if (hop == kRedirectsMax) {
        return fail(ErrorKind::kDamaged, fmt::format("{} sends us around in circles", name_),
                    fmt::format("{} redirects", kRedirectsMax));
      }
      request.url = resolved(request.url, answer.header("location"));
      const std::string origin = origin_of(request.url);
      if (origin.empty() || (tls_ && !settings_.insecure && origin.starts_with("http://"))) {
        return fail(ErrorKind::kRefused, fmt::format("{} sends us to where nothing is safe", name_),
                    "a redirect from TLS to plain HTTP, or to no address", "let its storage be behind TLS");
      }
    }
  }

  struct Kept {
    std::string header;  // "Bearer …"
    Duration until{};    // of the steady clock
  };
  struct AuthState {
    std::optional<Challenge> challenge;  // what the registry last wanted
    std::map<std::string, Kept> tokens;  // by scope
  };

  // The Authorization header for this scope; "": none is wanted as far as we know.
  Result<std::string> authorization(const std::string& scope, const std::stop_token& stop) {
    Challenge challenge;
    {
      auto state = state_.lock();
      if (!state->challenge) return std::string();
      challenge = *state->challenge;
      const auto known = state->tokens.find(scope);
      if (known != state->tokens.end() && known->second.until > system_clock().steady())
        return known->second.header;
    }
    const std::string basic = "Basic " + to_base64(as_bytes(settings_.user + ":" + settings_.password));
    if (challenge.scheme == Challenge::Scheme::kBasic) return basic;

    const std::string origin = origin_of(challenge.realm);
    if (origin.empty() || (origin.starts_with("http://") && !may_be_plain(origin))) {
      return fail(ErrorKind::kRefused, fmt::format("{} sends us for a token to where nothing is safe", name_),
                  "its token server is not behind TLS", "say insecure: true where that is meant");
    }
    std::string url = challenge.realm + (challenge.realm.find('?') == challenge.realm.npos ? '?' : '&');
    url += "service=" + percent_encode(challenge.service);
    std::string_view rest = scope.empty() ? std::string_view(challenge.scope) : std::string_view(scope);
    while (!rest.empty()) {
      const std::string_view one = rest.substr(0, rest.find(' '));
      url += "&scope=" + percent_encode(one);
      rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    }
    HttpRequest request{.url = url, .body_bytes_max = 1 << 20};
    request.stop = stop;
    if (!settings_.user.empty()) request.headers.push_back({"Authorization", basic});
    const Duration begun = system_clock().steady();
    TRY_ASSIGN(const HttpAnswer answer, http_->send(request));
    if (answer.status == 401 || answer.status == 403) {
      return fail(ErrorKind::kDenied, fmt::format("the token server of {} refuses us", name_),
                  settings_.user.empty() ? "no user is given" : "the user or the password is not right",
                  "check user: and password:");
    }
    if (answer.status != 200) {
      const ErrorKind kind = is_passing(answer.status) ? ErrorKind::kUnknown : ErrorKind::kFailed;
      return fail(kind, fmt::format("the token server of {} gave no token", name_),
                  fmt::format("status {}", answer.status));
    }
    TRY_ASSIGN(const Token token, parse_token(answer.body));
    std::string header = "Bearer " + token.text;
    const Duration lasts = token.lasts > kTokenMargin * 2 ? token.lasts - kTokenMargin : token.lasts / 2;
    state_.lock()->tokens[scope] = {.header = header, .until = begun + lasts};
    return header;
  }

  bool may_be_plain(std::string_view origin) const {
    return settings_.insecure || is_this_machine(host_of(origin));
  }

  Result<std::vector<std::string>> list(std::string url, const std::string& scope, const char* key,
                                        const std::string& what, const std::stop_token& stop) {
    std::vector<std::string> names;
    std::string last;
    for (size_t page = 0;; ++page) {
      HttpRequest request{.url = url, .body_bytes_max = kListBytesMax};
      TRY_ASSIGN(const HttpAnswer answer, ask(std::move(request), scope, Patience::kAll, stop));
      TRY(expect(answer, {200}, what));
      TRY_ASSIGN(std::vector<std::string> more, parse_names(answer.body, key));
      for (std::string& name : more) names.push_back(std::move(name));
      url = next_page(url, answer);
      if (url.empty()) break;
      if (more.empty() || page == kPagesMax || names.size() > kNamesMax) {
        return fail(ErrorKind::kDamaged, fmt::format("{} goes on for ever when asked to {}", name_, what),
                    fmt::format("{} pages", page + 1));
      }
    }
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
  }

  // Of `Link: <…>; rel="next"`; "": it was the last page. Only within the registry.
  std::string next_page(const std::string& url, const HttpAnswer& answer) const {
    const std::string_view link = answer.header("link");
    const size_t begin = link.find('<'), end = link.find('>');
    if (begin == link.npos || end == link.npos || end < begin) return {};
    if (link.substr(end).find("next") == link.npos) return {};
    std::string next = resolved(url, link.substr(begin + 1, end - begin - 1));
    return origin_of(next) == base_ && next != url ? next : std::string();
  }

  Result<void> upload_once(const std::string& repository, const ContentDigest& digest, uint64_t size,
                           const BlobReader& read, const std::stop_token& stop) {
    HttpRequest begin{.method = "POST", .url = fmt::format("{}/v2/{}/blobs/uploads/", base_, repository)};
    TRY_ASSIGN(const HttpAnswer begun, ask(std::move(begin), push(repository), Patience::kAll, stop));
    TRY(expect(begun, {202}, "write to " + repository));
    std::string url = resolved(base_ + "/v2/", begun.header("location"));
    const std::string origin = origin_of(url);
    if (origin.empty() || (tls_ && !settings_.insecure && origin.starts_with("http://"))) {
      return fail(ErrorKind::kRefused, fmt::format("{} wants blobs where nothing is safe", name_),
                  "its upload address is not behind TLS", "tell the registry its own address");
    }
    url += (url.find('?') == url.npos ? "?digest=" : "&digest=") + percent_encode(digest.text());

    // The reader pushes and the request pulls: a few pieces wait between them.
    Channel<Bytes> pieces(kPiecesWaiting);
    const CancelOnStop<Bytes> cancel(stop, pieces);
    TaskGroup reading(stop);
    reading.start([&](const std::stop_token& token) -> Result<void> {
      Result<void> done = read([&](ByteView bytes) -> Result<void> {
        for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
          if (token.stop_requested() ||
              !pieces.push(to_bytes(bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at)))))
            return stopped();
        }
        return {};
      });
      if (done)
        pieces.close();
      else
        pieces.cancel();
      return done;
    });
    std::optional<Bytes> piece;
    size_t used = 0;
    bool short_of = false;
    HttpRequest put{.method = "PUT", .url = url, .headers = {{"Content-Type", "application/octet-stream"}}};
    put.timeouts.total = kBlobLimit;
    put.streamed_bytes = size;
    put.body_from = [&](MutableByteView out) -> Result<size_t> {
      while (!piece || used == piece->size()) {
        piece = pieces.pop();
        used = 0;
        if (!piece) {
          short_of = true;
          return fail(ErrorKind::kDamaged, fmt::format("{} is shorter than it should be", digest.brief()));
        }
      }
      const size_t take = std::min(out.size(), piece->size() - used);
      std::memcpy(out.data(), piece->data() + used, take);
      used += take;
      return take;
    };
    auto answer = ask(std::move(put), push(repository), Patience::kNone, stop);
    pieces.cancel();
    const auto read_well = reading.wait();
    // Where the content could not be read, that is the reason.
    if (short_of && !read_well) return read_well;
    if (!answer) return std::move(answer).error();
    if (is_passing(answer->status)) {
      if (!wait_for(told_wait(*answer, 1), stop)) return stopped();
      return fail(ErrorKind::kUnknown, fmt::format("{} did not take it", name_), words_of(answer->body));
    }
    return expect(*answer, {201, 204}, "write " + digest.brief());
  }

  const RegistrySettings settings_;
  const std::string base_, name_;
  const bool tls_;
  std::unique_ptr<HttpClient> http_;
  Guarded<AuthState> state_;
  std::atomic<bool> no_referrers_ = false;
};

Error no_target(std::string_view text) {
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no registry", text.substr(0, 200)), "",
              "--to docker://HOST:PORT/PREFIX");
}

}  // namespace

Result<std::unique_ptr<Registry>> Registry::open(RegistrySettings settings) {
  if (settings.url.find('@') != std::string::npos) {
    return fail(ErrorKind::kUsage, "the registry's address has an @ in it",
                "credentials do not belong into an address", "user: NAME and password_file: FILE");
  }
  TRY_ASSIGN(HttpEndpoint endpoint, parse_endpoint(settings.url));
  if (!endpoint.tls && !settings.insecure && !is_this_machine(endpoint.host)) {
    return fail(ErrorKind::kUsage, fmt::format("{} would be spoken to without TLS", endpoint.authority()),
                "images and credentials could be read and changed on the way",
                "registry: https://…, or insecure: true where that is meant");
  }
  if (settings.user.find(':') != std::string::npos)
    return fail(ErrorKind::kUsage, "a registry's user has no ':' in the name", "", "check user:");
  TRY_ASSIGN(auto http, make_http_client({.ca_file = settings.ca_file}));
  return std::make_unique<Client>(std::move(settings), std::move(endpoint), std::move(http));
}

bool is_registry_url(std::string_view text) {
  return text.starts_with("docker://") || text.starts_with("docker+http://") ||
         text.starts_with("docker+https://");
}

Result<RegistryTarget> parse_target(std::string_view text, bool has_ca_file) {
  if (!is_registry_url(text)) return no_target(text);
  const std::string_view scheme = text.substr(0, text.find(':'));
  std::string_view rest = text.substr(text.find("://") + 3);
  const std::string_view authority = rest.substr(0, rest.find('/'));
  std::string_view prefix = rest.substr(authority.size());
  while (prefix.starts_with('/')) prefix.remove_prefix(1);
  while (prefix.ends_with('/')) prefix.remove_suffix(1);
  if (authority.empty() || (!prefix.empty() && !is_repository(prefix))) return no_target(text);
  const auto endpoint = parse_endpoint(fmt::format("https://{}", authority));
  if (!endpoint) return no_target(text);
  const bool plain =
      scheme == "docker+http" || (scheme == "docker" && !has_ca_file && is_this_machine(endpoint->host));
  return RegistryTarget{.url = fmt::format("{}://{}", plain ? "http" : "https", authority),
                        .prefix = std::string(prefix)};
}

}  // namespace kuramori::image
