// HTTP/1.1 requests, one at a time a thread, over connections that are kept (libcurl).
//
// What is promised, whatever the other side does:
//   - every wait ends: to connect, for the first byte, between two bytes, in all (P71).
//   - no `Expect: 100-continue` and no Nagle delay. A connection that carried an error is closed, not used
//     again: what is left in it would be taken for the next answer. (404 and 412 are answers, not errors.)
//   - a body that ends early, or is longer than allowed, is an error, never a short answer.
//   - redirects are not followed.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/world.h"

namespace kuramori {

struct HttpTimeouts {
  Duration connect = std::chrono::seconds(10);     // name, TCP and TLS together
  Duration first_byte = std::chrono::seconds(30);  // from the last byte sent to the first received
  Duration stall = std::chrono::seconds(30);       // no byte either way, once one has come or gone
  Duration total = std::chrono::minutes(10);
};

struct HttpHeader {
  std::string name, value;
};

constexpr size_t kHttpBodyBytesMax = 256 << 20;  // of an answer, unless the request says otherwise

struct HttpAnswer;

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<HttpHeader> headers;
  ByteView body;                              // borrowed; sent for PUT and POST
  size_t body_bytes_max = kHttpBodyBytesMax;  // of the answer
  MutableByteView into;                       // where the body of a 2xx goes, instead of HttpAnswer::body
  // When nothing has come by then, the same request goes out a second time on another connection, and the
  // first answer wins. Only for requests that change nothing.
  std::optional<Duration> hedge_after;
  HttpTimeouts timeouts;
  uint64_t bytes_per_second_max = 0;  // either way, of this request alone; 0: as fast as it goes

  // For what is too large to be held. An error of either ends the request and is its result.
  //
  // Takes the body of a 2xx piece by piece, instead of HttpAnswer::body; the answer has its head by then.
  std::function<Result<void>(const HttpAnswer& head, ByteView bytes)> on_body;
  // Gives `streamed_bytes` in all, instead of `body`: fills some of what it is given and says how much. What
  // was given is not asked for again: a request that broke is the caller's to begin anew.
  std::function<Result<size_t>(MutableByteView)> body_from;
  uint64_t streamed_bytes = 0;
  std::stop_token stop;  // the request ends within a second: kInterrupted
};

struct HttpAnswer {
  int status = 0;
  std::vector<HttpHeader> headers;  // names in lower case
  Bytes body;
  size_t into_bytes = 0;  // how much of `into` was filled
  Duration first_byte{};  // from the start to the first byte of the answer
  Duration total{};
  bool hedged = false;  // a second request was sent

  std::string_view header(std::string_view lower_case_name) const;  // "" when there is none
};

struct HttpOptions {
  std::string ca_file;  // PEM; empty: the system's authorities
};

// Methods may be called from several threads.
class HttpClient {
 public:
  virtual ~HttpClient() = default;
  // Any status is an answer. kFailed: the server was never asked. kUnknown: it may have been, and may have
  // done it. kUsage: its certificate is not trusted, or the URL is none.
  virtual Result<HttpAnswer> send(const HttpRequest& request) = 0;
};

Result<std::unique_ptr<HttpClient>> make_http_client(HttpOptions options = {});

}  // namespace kuramori
