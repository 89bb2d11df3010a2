// An HTTP/1.1 server for a handful of routes (libmicrohttpd).
//
// What is promised, whatever comes in:
//   - a request ends: its head and body must be here, and its answer taken, within `request_max`.
//   - a head and a body that are too large are refused before they are held (413, or the connection ends).
//   - no more than `connections_max` are connected at once; whoever comes beyond that is turned away.
//   - a handler sees whole requests of its own method and path, and no other.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/world.h"
#include "net/http.h"

namespace kuramori {

constexpr size_t kServerHeadBytesMax = size_t{32}
                                       << 10;  // of a request: its line and headers, and room to work
constexpr size_t kServerBodyBytesMax = size_t{1} << 20;  // unless the route says otherwise

// A whole request, as its handler sees it.
struct ServerRequest {
  std::string method, path;         // the path decoded, without the query
  std::vector<HttpHeader> query;    // decoded
  std::vector<HttpHeader> headers;  // names in lower case
  Bytes body;
  std::string peer;  // the address it came from, without a port

  std::string_view header(std::string_view lower_case_name) const;  // "" when there is none
};

struct ServerAnswer {
  int status = 200;
  std::string body;
  std::string type = "text/plain; charset=utf-8";
  std::vector<HttpHeader> headers;
};

struct ServerRoute {
  std::string method;  // "GET" answers HEAD, too
  std::string path;    // exactly; one that ends in '/' has everything below it as well
  // Called by several threads at once, and not to take long: who asks waits, and so does stopping.
  std::function<ServerAnswer(const ServerRequest&)> handle;
  size_t body_bytes_max = kServerBodyBytesMax;
};

struct ServerOptions {
  std::string listen;                      // "127.0.0.1:8787", "[::1]:8787"; port 0: any that is free
  std::string certificate_file, key_file;  // PEM, both: HTTPS. Neither: HTTP
  Duration request_max = std::chrono::seconds(15);
  unsigned connections_max = 64;
  // Makes of every answer what is sent: a handler's, and those the server gives by itself (404, 405, 413).
  std::function<ServerAnswer(ServerAnswer)> finish;
};

class HttpServer {
 public:
  // Listens when it returns. kUsage: the address or the certificate is none. kFailed, kDenied: it cannot
  // listen there.
  static Result<std::unique_ptr<HttpServer>> start(const ServerOptions& options,
                                                   std::vector<ServerRoute> routes);
  // Ends what is being served, and waits for handlers that run.
  virtual ~HttpServer() = default;
  virtual uint16_t port() const = 0;
  // "http://127.0.0.1:8787"
  virtual std::string url() const = 0;
};

}  // namespace kuramori
