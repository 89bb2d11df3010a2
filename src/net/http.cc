#include "net/http.h"

#include <curl/curl.h>
#include <fmt/core.h>

#include <algorithm>
#include <mutex>

#include "base/check.h"

namespace kuramori {
namespace {

constexpr long kBufferBytes = 256 << 10;     // of libcurl, a direction
constexpr long kIdleConnectionSeconds = 15;  // an older one may be dead on the other side
constexpr Duration kPollMax = std::chrono::milliseconds(500);
constexpr size_t kHeaderBytesMax = 64 << 10;  // of an answer, all of them
constexpr size_t kWiresKeptMax = 64;          // idle connections

int64_t ms_of(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

// Answers after which the connection is in order: the server has read all of the request.
bool keeps_connection(int status) {
  return status < 400 || status == 404 || status == 412 || status == 416;
}

// One request on its way, of the one or two that are sent for an HttpRequest.
struct Exchange {
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  const HttpRequest* request = nullptr;
  Exchange** winner = nullptr;  // of the two, the one whose answer counts
  HttpAnswer answer;
  uint64_t sent = 0;
  size_t header_bytes = 0;
  std::optional<Error> refused;  // by whoever takes or gives a streamed body
  bool head_complete = false;
  bool too_long = false;
  Duration started{}, last_progress{};
  bool running = false;
  CURLcode code = CURLE_OK;
  char reason[CURL_ERROR_SIZE] = {};

  bool wins() {
    if (*winner == nullptr) *winner = this;
    return *winner == this;
  }
  void progress() { last_progress = system_clock().steady(); }
  uint64_t to_send() const { return request->body_from ? request->streamed_bytes : request->body.size(); }
};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() &&
         (text.back() == ' ' || text.back() == '\t' || text.back() == '\r' || text.back() == '\n'))
    text.remove_suffix(1);
  return text;
}

size_t on_header(char* data, size_t size, size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  std::string_view line(data, size * count);
  exchange.progress();
  exchange.header_bytes += line.size();
  if (exchange.header_bytes > kHeaderBytesMax) return 0;
  if (line.starts_with("HTTP/")) {  // the first line, again after a 100
    exchange.answer.headers.clear();
    exchange.answer.status = 0;
    size_t space = line.find(' ');
    if (space != line.npos) exchange.answer.status = std::atoi(std::string(line.substr(space + 1)).c_str());
    if (exchange.answer.first_byte == Duration{})
      exchange.answer.first_byte = system_clock().steady() - exchange.started;
    return line.size();
  }
  std::string_view content = trim(line);
  if (content.empty()) {
    exchange.head_complete = exchange.answer.status >= 200;
    if (!keeps_connection(exchange.answer.status)) curl_easy_setopt(exchange.easy, CURLOPT_FORBID_REUSE, 1L);
    return line.size();
  }
  size_t colon = content.find(':');
  if (colon != content.npos)
    exchange.answer.headers.push_back(
        {lower(trim(content.substr(0, colon))), std::string(trim(content.substr(colon + 1)))});
  return line.size();
}

size_t on_body(char* data, size_t size, size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  ByteView bytes(reinterpret_cast<const uint8_t*>(data), size * count);
  exchange.progress();
  HttpAnswer& answer = exchange.answer;
  // A server error does not win: the other request may do better.
  bool counts =
      answer.status < 500 ? exchange.wins() : *exchange.winner == nullptr || *exchange.winner == &exchange;
  if (!counts) return 0;
  const HttpRequest& request = *exchange.request;
  if (request.on_body && answer.status >= 200 && answer.status < 300) {
    if (auto taken = request.on_body(answer, bytes); !taken) {
      exchange.refused = std::move(taken).error();
      return 0;
    }
    exchange.progress();  // whoever takes it may have waited for others
    return bytes.size();
  }
  if (!request.into.empty() && answer.status >= 200 && answer.status < 300) {
    if (bytes.size() > request.into.size() - answer.into_bytes) {
      exchange.too_long = true;
      return 0;
    }
    std::memcpy(request.into.data() + answer.into_bytes, bytes.data(), bytes.size());
    answer.into_bytes += bytes.size();
    return bytes.size();
  }
  if (bytes.size() > request.body_bytes_max - std::min(request.body_bytes_max, answer.body.size())) {
    exchange.too_long = true;
    return 0;
  }
  append(answer.body, bytes);
  return bytes.size();
}

size_t on_send(char* out, size_t size, size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  if (exchange.request->body_from) {
    const uint64_t left = exchange.to_send() - exchange.sent;
    if (left == 0) return 0;
    auto given = exchange.request->body_from(
        {reinterpret_cast<uint8_t*>(out), static_cast<size_t>(std::min<uint64_t>(left, size * count))});
    if (!given) {
      exchange.refused = std::move(given).error();
      return CURL_READFUNC_ABORT;
    }
    exchange.sent += *given;
    exchange.progress();
    return *given;
  }
  ByteView rest = exchange.request->body.subspan(exchange.sent);
  size_t take = std::min(rest.size(), size * count);
  if (take > 0) std::memcpy(out, rest.data(), take);
  exchange.sent += take;
  exchange.progress();
  return take;
}

int on_seek(void* self, curl_off_t offset, int origin) {
  auto& exchange = *static_cast<Exchange*>(self);
  if (origin != SEEK_SET || offset < 0) return CURL_SEEKFUNC_FAIL;
  const auto at = static_cast<uint64_t>(offset);
  // What was streamed is gone.
  if (exchange.request->body_from ? at != exchange.sent : at > exchange.to_send()) return CURL_SEEKFUNC_FAIL;
  exchange.sent = at;
  return CURL_SEEKFUNC_OK;
}

// The connections of one thread at a time: a request, and its second one when it is hedged.
struct Wire {
  CURLM* multi = curl_multi_init();
  Exchange exchanges[2];

  Wire() {
    CHECK(multi != nullptr);
    for (Exchange& exchange : exchanges) {
      exchange.easy = curl_easy_init();
      CHECK(exchange.easy != nullptr);
    }
  }
  ~Wire() {
    for (Exchange& exchange : exchanges) {
      end(exchange);
      curl_easy_cleanup(exchange.easy);
    }
    curl_multi_cleanup(multi);
  }
  Wire(const Wire&) = delete;

  void begin(Exchange& exchange, const HttpRequest& request, const HttpOptions& options, Exchange** winner) {
    CURL* easy = exchange.easy;
    exchange = Exchange{.easy = easy, .request = &request, .winner = winner};
    exchange.started = exchange.last_progress = system_clock().steady();
    curl_easy_reset(easy);
    auto set = [&](auto option, auto value) { CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK); };
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_URL, request.url.c_str());
    set(CURLOPT_PATH_AS_IS, 1L);  // the path was signed as it stands
    set(CURLOPT_TCP_NODELAY, 1L);
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_PROXY, "");  // never through what the environment names: the vault's credentials go here
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (!options.ca_file.empty()) {
      set(CURLOPT_CAINFO, options.ca_file.c_str());
      curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
    }
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(ms_of(request.timeouts.connect)));
    set(CURLOPT_MAXAGE_CONN, kIdleConnectionSeconds);
    set(CURLOPT_BUFFERSIZE, kBufferBytes);
    set(CURLOPT_UPLOAD_BUFFERSIZE, kBufferBytes);
    set(CURLOPT_ERRORBUFFER, exchange.reason);
    if (request.bytes_per_second_max > 0) {
      const auto rate = static_cast<curl_off_t>(request.bytes_per_second_max);
      set(CURLOPT_MAX_SEND_SPEED_LARGE, rate);
      set(CURLOPT_MAX_RECV_SPEED_LARGE, rate);
    }
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&exchange));
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&exchange));
    if (request.method == "HEAD") {
      set(CURLOPT_NOBODY, 1L);
    } else if (request.method == "PUT" || request.method == "POST") {
      set(CURLOPT_UPLOAD, 1L);
      set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(exchange.to_send()));
      set(CURLOPT_READFUNCTION, &on_send);
      set(CURLOPT_READDATA, static_cast<void*>(&exchange));
      set(CURLOPT_SEEKFUNCTION, &on_seek);
      set(CURLOPT_SEEKDATA, static_cast<void*>(&exchange));
      if (request.method == "POST") set(CURLOPT_CUSTOMREQUEST, "POST");
    } else {
      set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
    auto add = [&](const std::string& line) {
      curl_slist* longer = curl_slist_append(exchange.headers, line.c_str());
      CHECK(longer != nullptr);
      exchange.headers = longer;
    };
    add("Expect:");
    add("Accept:");
    for (const HttpHeader& header : request.headers) {
      // A header without a value needs the semicolon, or libcurl removes it.
      add(header.value.empty() ? header.name + ";" : fmt::format("{}: {}", header.name, header.value));
    }
    set(CURLOPT_HTTPHEADER, exchange.headers);
    CHECK(curl_multi_add_handle(multi, easy) == CURLM_OK);
    exchange.running = true;
  }

  // In the middle of an answer this closes the connection.
  void end(Exchange& exchange) {
    if (exchange.running) curl_multi_remove_handle(multi, exchange.easy);
    exchange.running = false;
    curl_slist_free_all(exchange.headers);
    exchange.headers = nullptr;
  }

  void collect_finished() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      for (Exchange& exchange : exchanges) {
        if (!exchange.running || exchange.easy != message->easy_handle) continue;
        exchange.code = message->data.result;
        end(exchange);
        break;  // `message` is gone with the handle
      }
    }
  }
};

const char* what_took_too_long(const Exchange& exchange, Duration now) {
  const HttpTimeouts& limits = exchange.request->timeouts;
  if (now - exchange.started > limits.total) return "it was not done in time";
  curl_off_t connect_us = 0;
  curl_easy_getinfo(exchange.easy, CURLINFO_PRETRANSFER_TIME_T, &connect_us);
  if (connect_us == 0) return nullptr;  // libcurl watches the time to connect
  bool waits = !exchange.head_complete && exchange.sent >= exchange.to_send();
  Duration quiet = now - exchange.last_progress;
  if (waits && quiet > limits.first_byte) return "no answer came";
  if (!waits && quiet > limits.stall) return "the connection stalled";
  return nullptr;
}

Error transport_error(const Exchange& exchange, const std::string& host) {
  std::string reason = exchange.reason[0] != 0 ? exchange.reason : curl_easy_strerror(exchange.code);
  switch (exchange.code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return fail(ErrorKind::kUsage, fmt::format("{} cannot show that it is who it says", host), reason,
                  "name the authority that signed its certificate: ca_file: FILE");
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return fail(ErrorKind::kUsage, fmt::format("{} is no address", host), reason);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
      return fail(ErrorKind::kFailed, fmt::format("{} cannot be reached", host), reason);
    default:
      break;
  }
  if (exchange.too_long)
    return fail(ErrorKind::kUnknown, fmt::format("{} sent more than was asked for", host), reason);
  curl_off_t connect_us = 0;
  curl_easy_getinfo(exchange.easy, CURLINFO_PRETRANSFER_TIME_T, &connect_us);
  bool asked = exchange.code != CURLE_OPERATION_TIMEDOUT || connect_us > 0;
  return fail(asked ? ErrorKind::kUnknown : ErrorKind::kFailed,
              fmt::format("the connection to {} broke", host), reason);
}

class CurlClient final : public HttpClient {
 public:
  explicit CurlClient(HttpOptions options) : options_(std::move(options)) {}

  Result<HttpAnswer> send(const HttpRequest& request) override {
    CHECK(request.body.empty() || request.method == "PUT" || request.method == "POST");
    CHECK(!request.hedge_after || request.method == "GET" || request.method == "HEAD");
    CHECK(!request.hedge_after || !request.on_body);  // whose bytes would it be?
    CHECK(!request.body_from || request.method == "PUT" || request.method == "POST");
    std::unique_ptr<Wire> wire = take();
    Result<HttpAnswer> answer = send_on(*wire, request);
    give_back(std::move(wire));
    return answer;
  }

 private:
  Result<HttpAnswer> send_on(Wire& wire, const HttpRequest& request) {
    Exchange* winner = nullptr;
    Exchange &first = wire.exchanges[0], &second = wire.exchanges[1];
    wire.begin(first, request, options_, &winner);
    second.running = false;
    bool hedged = false;
    Duration begun = first.started;
    for (;;) {
      int running = 0;
      if (curl_multi_perform(wire.multi, &running) != CURLM_OK)
        return broken(wire, request, "the HTTP library failed");
      wire.collect_finished();
      Duration now = system_clock().steady();

      for (Exchange* exchange : {&first, &second}) {
        bool is_done = exchange == &first || hedged;
        if (!is_done || exchange->running || exchange->code != CURLE_OK) continue;
        if (exchange->answer.status >= 200 && (!other_may_do_better(*exchange, wire, hedged))) {
          if (!exchange->wins()) continue;
          return finish(wire, *exchange, begun, hedged);
        }
      }
      if (winner != nullptr) {
        for (Exchange& exchange : wire.exchanges) {
          if (&exchange != winner) wire.end(exchange);
        }
        if (!winner->running) {
          if (winner->code == CURLE_OK) return finish(wire, *winner, begun, hedged);
          return ended_badly(wire, *winner, request);
        }
      } else if (!first.running && !(hedged && second.running)) {
        return ended_badly(wire, hedged && second.code != CURLE_OK ? second : first, request);
      }

      if (request.stop.stop_requested()) {
        for (Exchange& each : wire.exchanges) wire.end(each);
        return fail(ErrorKind::kInterrupted,
                    fmt::format("the request to {} was stopped", host_of(request.url)));
      }
      for (Exchange& exchange : wire.exchanges) {
        if (!exchange.running) continue;
        const char* late = what_took_too_long(exchange, now);
        if (late == nullptr) continue;
        if (&exchange == &first && hedged && second.running && winner != &first) {
          wire.end(first);  // the second one may still answer
          first.code = CURLE_OPERATION_TIMEDOUT;
          continue;
        }
        return broken(wire, request, late);
      }

      Duration wait = kPollMax;
      if (request.hedge_after && !hedged && winner == nullptr && first.running && !first.head_complete) {
        Duration due = begun + *request.hedge_after;
        if (now >= due) {
          wire.begin(second, request, options_, &winner);
          hedged = true;
          wait = Duration{};
        } else {
          wait = std::min(wait, due - now);
        }
      }
      // Rounded up: a poll of 0 ms until a moment in the same millisecond would spin.
      int wait_ms = wait == Duration{} ? 0 : static_cast<int>(ms_of(wait)) + 1;
      if (curl_multi_poll(wire.multi, nullptr, 0, wait_ms, nullptr) != CURLM_OK)
        return broken(wire, request, "the HTTP library failed");
    }
  }

  // A server error is no reason to give up on the other request.
  static bool other_may_do_better(const Exchange& exchange, const Wire& wire, bool hedged) {
    if (!hedged || exchange.answer.status < 500) return false;
    const Exchange& other = &exchange == &wire.exchanges[0] ? wire.exchanges[1] : wire.exchanges[0];
    return other.running || (other.code == CURLE_OK && other.answer.status < 500);
  }

  static Result<HttpAnswer> finish(Wire& wire, Exchange& exchange, Duration begun, bool hedged) {
    for (Exchange& each : wire.exchanges) wire.end(each);
    HttpAnswer answer = std::move(exchange.answer);
    Duration now = system_clock().steady();
    answer.first_byte += exchange.started - begun;
    answer.total = now - begun;
    answer.hedged = hedged;
    return answer;
  }

  static Error ended_badly(Wire& wire, Exchange& exchange, const HttpRequest& request) {
    Error error = exchange.refused ? std::move(*exchange.refused)
                  : exchange.code == CURLE_OK
                      ? fail(ErrorKind::kUnknown, fmt::format("{} gave no answer", host_of(request.url)))
                      : transport_error(exchange, host_of(request.url));
    for (Exchange& each : wire.exchanges) wire.end(each);
    return error;
  }

  static Error broken(Wire& wire, const HttpRequest& request, const char* why) {
    for (Exchange& each : wire.exchanges) wire.end(each);
    return fail(ErrorKind::kUnknown, fmt::format("no answer from {}", host_of(request.url)), why);
  }

  static std::string host_of(std::string_view url) {
    size_t begin = url.find("://");
    begin = begin == url.npos ? 0 : begin + 3;
    return std::string(url.substr(begin, url.find_first_of("/?", begin) - begin));
  }

  std::unique_ptr<Wire> take() {
    {
      std::lock_guard hold(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Wire> wire = std::move(idle_.back());
        idle_.pop_back();
        return wire;
      }
    }
    return std::make_unique<Wire>();
  }
  void give_back(std::unique_ptr<Wire> wire) {
    std::lock_guard hold(mutex_);
    if (idle_.size() < kWiresKeptMax) idle_.push_back(std::move(wire));
  }

  HttpOptions options_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Wire>> idle_;  // the last used is used next: its connection is the freshest
};

}  // namespace

std::string_view HttpAnswer::header(std::string_view lower_case_name) const {
  for (const HttpHeader& header : headers) {
    if (header.name == lower_case_name) return header.value;
  }
  return {};
}

Result<std::unique_ptr<HttpClient>> make_http_client(HttpOptions options) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  CHECK(ready);
  return std::unique_ptr<HttpClient>(new CurlClient(std::move(options)));
}

}  // namespace kuramori
