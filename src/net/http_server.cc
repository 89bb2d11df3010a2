#include "net/http_server.h"

#include <fmt/core.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "os/file.h"

namespace kuramori {
namespace {

constexpr int kBacklog = 64;
constexpr size_t kPemBytesMax = size_t{1} << 20;

struct Address {
  std::string host, port;
};

// "host:port", "[::1]:port".
Result<Address> parse_address(const std::string& text) {
  const size_t colon = text.rfind(':');
  unsigned number = 0;
  const char* begin = text.data() + (colon == std::string::npos ? text.size() : colon + 1);
  const auto read = std::from_chars(begin, text.data() + text.size(), number);
  Address address;
  if (colon != std::string::npos && colon > 0) address.host = text.substr(0, colon);
  const bool bracketed = address.host.starts_with('[') && address.host.ends_with(']');
  if (bracketed) address.host = address.host.substr(1, address.host.size() - 2);
  const bool is_number = read.ec == std::errc() && read.ptr == text.data() + text.size() && number <= 65535;
  if (!is_number || address.host.empty() || (!bracketed && address.host.contains(':'))) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no address to listen at", text),
                "it takes a host and a port", "127.0.0.1:8787");
  }
  address.port = std::to_string(number);
  return address;
}

Result<Fd> listen_at(const std::string& text) {
  TRY_ASSIGN(const Address address, parse_address(text));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found); code != 0) {
    return fail(ErrorKind::kUsage, fmt::format("cannot listen at {}", text), ::gai_strerror(code),
                "give an address of this machine: 127.0.0.1:8787");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
  int code = EADDRNOTAVAIL;
  for (const addrinfo* one = list.get(); one != nullptr; one = one->ai_next) {
    Fd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int yes = 1;
    if (socket.valid() && ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        ::bind(socket.get(), one->ai_addr, one->ai_addrlen) == 0 && ::listen(socket.get(), kBacklog) == 0)
      return socket;
    code = errno;
  }
  Error error = system_error(fmt::format("cannot listen at {}", text), code);
  if (code == EADDRINUSE) error.next = fmt::format("see who does: ss -ltnp 'sport = :{}'", address.port);
  return error;
}

uint16_t port_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

Result<std::string> read_pem(const std::string& path) {
  TRY_ASSIGN(const Bytes bytes, read_file(path, kPemBytesMax));
  return std::string(as_text(bytes));
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

MHD_Result add_value(void* to, MHD_ValueKind kind, const char* key, size_t key_size, const char* value,
                     size_t value_size) {
  std::string name(key, key_size);
  if (kind == MHD_HEADER_KIND) name = lower_case(name);
  static_cast<std::vector<HttpHeader>*>(to)->push_back(
      {std::move(name), value == nullptr ? std::string() : std::string(value, value_size)});
  return MHD_YES;
}

bool is_of(const ServerRoute& route, std::string_view path) {
  return path == route.path || (route.path.ends_with('/') && path.starts_with(route.path));
}

MHD_Result send_answer(MHD_Connection* connection, const ServerAnswer& answer) {
  MHD_Response* response = MHD_create_response_from_buffer(
      answer.body.size(), const_cast<char*>(answer.body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  if (!answer.body.empty())
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type.c_str());
  for (const HttpHeader& header : answer.headers)
    (void)MHD_add_response_header(response, header.name.c_str(), header.value.c_str());
  const MHD_Result queued = MHD_queue_response(connection, static_cast<unsigned>(answer.status), response);
  MHD_destroy_response(response);
  return queued;
}

// One request on its way in.
struct Incoming {
  ServerRequest request;
  const ServerRoute* route = nullptr;
};

// The library bounds the time between two bytes. This bounds the time of all of them: who sends one byte a
// second would hold his connection for hours.
class Deadlines {
 public:
  explicit Deadlines(Duration longest)
      : longest_(longest), thread_([this](std::stop_token stop) { watch(std::move(stop)); }) {}

  // Between begin() and end() of a connection its descriptor is open.
  void begin(const void* connection, int socket) {
    const std::lock_guard hold(mutex_);
    all_[connection] = {socket, system_clock().steady() + longest_};
    changed_.notify_all();
  }
  void end(const void* connection) {
    const std::lock_guard hold(mutex_);
    all_.erase(connection);
  }
  // While a handler is at work, its time is its own.
  void pause(const void* connection) { set(connection, std::nullopt); }
  void renew(const void* connection) { set(connection, system_clock().steady() + longest_); }

 private:
  struct One {
    int socket = -1;
    std::optional<Duration> until;
  };

  void set(const void* connection, std::optional<Duration> until) {
    const std::lock_guard hold(mutex_);
    if (const auto found = all_.find(connection); found != all_.end()) found->second.until = until;
    changed_.notify_all();
  }

  void watch(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      const Duration now = system_clock().steady();
      std::optional<Duration> next;
      for (auto& [connection, one] : all_) {
        if (!one.until) continue;
        if (*one.until <= now) {
          (void)::shutdown(one.socket, SHUT_RDWR);  // whoever reads from it sees its end, and closes it
          one.until.reset();
        } else if (!next || *one.until < *next) {
          next = one.until;
        }
      }
      if (next) {
        changed_.wait_for(lock, stop, *next - now, [] { return false; });
      } else {
        bool woken = false;
        changed_.wait(lock, stop, [&] { return std::exchange(woken, true); });
      }
    }
  }

  const Duration longest_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<const void*, One> all_;
  std::jthread thread_;
};

class MicroServer final : public HttpServer {
 public:
  MicroServer(const ServerOptions& options, std::vector<ServerRoute> routes)
      : options_(options), routes_(std::move(routes)), deadlines_(options.request_max) {}
  MicroServer(const MicroServer&) = delete;
  MicroServer& operator=(const MicroServer&) = delete;
  ~MicroServer() override {
    if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
  }

  Result<void> begin() {
    const bool tls = !options_.certificate_file.empty() || !options_.key_file.empty();
    if (tls) {
      TRY_ASSIGN(certificate_, read_pem(options_.certificate_file));
      TRY_ASSIGN(key_, read_pem(options_.key_file));
    }
    TRY_ASSIGN(Fd socket, listen_at(options_.listen));
    port_ = port_of(socket.get());
    // A thread each: a slow one holds up nobody, and handlers may wait.
    const unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                           MHD_USE_ERROR_LOG | (tls ? static_cast<unsigned>(MHD_USE_TLS) : 0u);
    const auto idle = std::chrono::ceil<std::chrono::seconds>(options_.request_max).count();
    std::vector<MHD_OptionItem> more;
    if (tls) {
      more.push_back({MHD_OPTION_HTTPS_MEM_KEY, 0, key_.data()});
      more.push_back({MHD_OPTION_HTTPS_MEM_CERT, 0, certificate_.data()});
      more.push_back({MHD_OPTION_HTTPS_PRIORITIES, 0, const_cast<char*>(kTlsPriorities)});
    }
    more.push_back({MHD_OPTION_END, 0, nullptr});
    daemon_ = MHD_start_daemon(flags, 0, nullptr, nullptr, &MicroServer::on_request, this,  //
                               MHD_OPTION_EXTERNAL_LOGGER, &MicroServer::on_log,
                               this,                                        // first: it hears of the others
                               MHD_OPTION_LISTEN_SOCKET, socket.release(),  // closed when it ends
                               MHD_OPTION_CONNECTION_MEMORY_LIMIT, kServerHeadBytesMax,          //
                               MHD_OPTION_CONNECTION_LIMIT, options_.connections_max,            //
                               MHD_OPTION_CONNECTION_TIMEOUT, static_cast<unsigned>(idle),       //
                               MHD_OPTION_STRICT_FOR_CLIENT, 1,                                  //
                               MHD_OPTION_NOTIFY_CONNECTION, &MicroServer::on_connection, this,  //
                               MHD_OPTION_NOTIFY_COMPLETED, &MicroServer::on_completed, this,    //
                               MHD_OPTION_ARRAY, more.data(), MHD_OPTION_END);
    const std::lock_guard hold(said_mutex_);
    is_begun_ = true;
    if (daemon_ != nullptr) return {};
    return fail(tls ? ErrorKind::kUsage : ErrorKind::kFailed,
                fmt::format("cannot serve at {}", options_.listen), said_,
                tls ? fmt::format("is {} the key of {}?", options_.key_file, options_.certificate_file) : "");
  }

  uint16_t port() const override { return port_; }
  std::string url() const override {
    return fmt::format("{}://{}:{}", certificate_.empty() ? "http" : "https",
                       options_.listen.substr(0, options_.listen.rfind(':')), port_);
  }

 private:
  static constexpr const char* kTlsPriorities = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

  static void on_log(void* self, const char* format, va_list arguments) {
    std::array<char, 512> text{};
    (void)std::vsnprintf(text.data(), text.size(), format, arguments);
    auto& server = *static_cast<MicroServer*>(self);
    const std::lock_guard hold(server.said_mutex_);
    if (server.is_begun_) return;  // what clients do wrong is no news
    server.said_ = text.data();
    while (server.said_.ends_with('\n')) server.said_.pop_back();
  }

  static void on_connection(void* self, MHD_Connection* connection, void**,
                            MHD_ConnectionNotificationCode code) {
    Deadlines& deadlines = static_cast<MicroServer*>(self)->deadlines_;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) return deadlines.end(connection);
    if (const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        info != nullptr)
      deadlines.begin(connection, info->connect_fd);
  }

  static void on_completed(void* self, MHD_Connection* connection, void** incoming,
                           MHD_RequestTerminationCode) {
    delete static_cast<Incoming*>(*incoming);
    *incoming = nullptr;
    static_cast<MicroServer*>(self)->deadlines_.renew(connection);
  }

  MHD_Result reply(MHD_Connection* connection, ServerAnswer answer) const {
    return send_answer(connection, options_.finish ? options_.finish(std::move(answer)) : std::move(answer));
  }

  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* url, const char* method,
                               const char*, const char* bytes, size_t* size, void** incoming) {
    auto& server = *static_cast<MicroServer*>(self);
    if (*incoming == nullptr) {
      auto begun = std::make_unique<Incoming>();
      auto& one = *begun;
      *incoming = begun.release();  // on_completed deletes it
      return server.begin_request(connection, url, method, one);
    }
    auto& one = *static_cast<Incoming*>(*incoming);
    if (*size > 0) {
      // A length was not given, or was a lie: no answer can be given before the end of this body.
      if (one.request.body.size() + *size > one.route->body_bytes_max) return MHD_NO;
      append(one.request.body, {reinterpret_cast<const uint8_t*>(bytes), *size});
      *size = 0;
      return MHD_YES;
    }
    server.deadlines_.pause(connection);
    ServerAnswer answer = one.route->handle(one.request);
    server.deadlines_.renew(connection);
    return server.reply(connection, std::move(answer));
  }

  // What is refused is refused before its body is taken.
  MHD_Result begin_request(MHD_Connection* connection, const char* url, const char* method, Incoming& one) {
    one.request.method = method;
    one.request.path = url;
    std::string allowed;
    for (const ServerRoute& route : routes_) {
      if (!is_of(route, one.request.path)) continue;
      allowed += (allowed.empty() ? "" : ", ") + route.method;
      const bool is_asked = route.method == one.request.method ||
                            (route.method == "GET" && one.request.method == MHD_HTTP_METHOD_HEAD);
      if (is_asked && one.route == nullptr) one.route = &route;
    }
    if (allowed.empty()) return reply(connection, {.status = 404, .body = "there is nothing here\n"});
    if (one.route == nullptr) {
      return reply(
          connection,
          {.status = 405, .body = fmt::format("this takes {}\n", allowed), .headers = {{"Allow", allowed}}});
    }
    (void)MHD_get_connection_values_n(connection, MHD_HEADER_KIND, &add_value, &one.request.headers);
    (void)MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, &add_value, &one.request.query);
    const std::string_view length = one.request.header("content-length");
    uint64_t bytes = 0;
    (void)std::from_chars(length.data(), length.data() + length.size(), bytes);
    if (bytes > one.route->body_bytes_max) {
      return reply(connection,
                   {.status = 413, .body = fmt::format("at most {} bytes\n", one.route->body_bytes_max)});
    }
    if (const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        info != nullptr && info->client_addr != nullptr) {
      std::array<char, NI_MAXHOST> host{};
      const socklen_t address_bytes =
          info->client_addr->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
      if (::getnameinfo(info->client_addr, address_bytes, host.data(), host.size(), nullptr, 0,
                        NI_NUMERICHOST) == 0)
        one.request.peer = host.data();
    }
    return MHD_YES;
  }

  const ServerOptions options_;
  const std::vector<ServerRoute> routes_;
  std::string certificate_, key_;  // which the library refers to
  std::mutex said_mutex_;
  std::string said_;       // guarded by said_mutex_
  bool is_begun_ = false;  // guarded by said_mutex_
  uint16_t port_ = 0;
  Deadlines deadlines_;
  MHD_Daemon* daemon_ = nullptr;
};

}  // namespace

std::string_view ServerRequest::header(std::string_view lower_case_name) const {
  for (const HttpHeader& header : headers)
    if (header.name == lower_case_name) return header.value;
  return {};
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const ServerOptions& options,
                                                      std::vector<ServerRoute> routes) {
  auto server = std::make_unique<MicroServer>(options, std::move(routes));
  TRY(server->begin());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace kuramori
