#include "source/redis/stream.h"

#include <fmt/core.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>

#include "os/file.h"

namespace kuramori::redis {
namespace {

constexpr Duration kPollStep = std::chrono::milliseconds(100);  // how soon a stop request is noticed

// Waits until `fd` is ready for `events`.
Result<void> await(const Fd& fd, short events, Duration deadline, const std::stop_token& stop,
                   std::string_view name) {
  for (;;) {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
    const Duration left = deadline - system_clock().steady();
    if (left <= Duration::zero()) {
      return fail(ErrorKind::kUnknown, fmt::format("{} does not answer", name),
                  "nothing came within the time-out: it is busy, stopped, or the network is cut");
    }
    pollfd wanted{fd.get(), events, 0};
    const auto step = std::chrono::ceil<std::chrono::milliseconds>(std::min<Duration>(left, kPollStep));
    const int ready = ::poll(&wanted, 1, static_cast<int>(step.count()));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return system_error(fmt::format("wait for {}", name), errno);
  }
}

class PlainStream : public Stream {
 public:
  PlainStream(Fd fd, std::string name, std::stop_token stop)
      : fd_(std::move(fd)), name_(std::move(name)), stop_(std::move(stop)) {}

  Result<size_t> read(MutableByteView into, Duration limit) override {
    const Duration deadline = system_clock().steady() + limit;
    for (;;) {
      const ssize_t got = ::recv(fd_.get(), into.data(), into.size(), 0);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno == EAGAIN) {
        TRY(await(fd_, POLLIN, deadline, stop_, name_));
      } else if (errno == ECONNRESET) {
        return size_t{0};
      } else if (errno != EINTR) {
        return system_error(fmt::format("read from {}", name_), errno);
      }
    }
  }

  Result<void> write(ByteView bytes, Duration limit) override {
    const Duration deadline = system_clock().steady() + limit;
    while (!bytes.empty()) {
      const ssize_t put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put >= 0) {
        bytes = bytes.subspan(static_cast<size_t>(put));
      } else if (errno == EAGAIN) {
        TRY(await(fd_, POLLOUT, deadline, stop_, name_));
      } else if (errno == EPIPE || errno == ECONNRESET) {
        return fail(ErrorKind::kFailed, fmt::format("{} closed the connection", name_),
                    "it was shut down, or it cut us off", "its log says why");
      } else if (errno != EINTR) {
        return system_error(fmt::format("write to {}", name_), errno);
      }
    }
    return {};
  }

 protected:
  Fd fd_;
  std::string name_;
  std::stop_token stop_;
};

// --- TLS -------------------------------------------------------------------------------------------------

// OpenSSL writes with write(2): a peer that is gone would end us. SIGPIPE is held back meanwhile, and taken
// away if it came, so that this also holds in a program that does not ignore it.
class NoSigpipe {
 public:
  NoSigpipe() {
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    if (::sigismember(&before_, SIGPIPE) == 0) {
      const timespec now{};
      (void)::sigtimedwait(&pipe_, nullptr, &now);
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_, before_;
};

std::string why_of_tls() {
  std::string why;
  while (const unsigned long code = ::ERR_get_error()) {
    char text[256];
    ::ERR_error_string_n(code, text, sizeof text);
    why += (why.empty() ? "" : "; ") + std::string(text);
  }
  return why;
}

class TlsStream : public PlainStream {
 public:
  TlsStream(Fd fd, std::string name, std::stop_token stop)
      : PlainStream(std::move(fd), std::move(name), std::move(stop)) {}

  Result<void> handshake(const Endpoint& endpoint, Duration limit) {
    const Duration deadline = system_clock().steady() + limit;
    context_.reset(::SSL_CTX_new(::TLS_client_method()));
    if (!context_) return fail(ErrorKind::kFailed, "start TLS", why_of_tls());
    ::SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
    ::SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    TRY(load_files(endpoint));
    ssl_.reset(::SSL_new(context_.get()));
    if (!ssl_ || ::SSL_set_fd(ssl_.get(), fd_.get()) != 1)
      return fail(ErrorKind::kFailed, "start TLS", why_of_tls());
    ::SSL_set_mode(ssl_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    TRY(expect_host(endpoint.host));
    NoSigpipe quiet;
    for (;;) {
      ::ERR_clear_error();
      const int done = ::SSL_connect(ssl_.get());
      if (done == 1) return {};
      TRY_ASSIGN(const bool again, wait_after(done, deadline));
      if (again) continue;
      const long verdict = ::SSL_get_verify_result(ssl_.get());
      if (verdict != X509_V_OK) {
        return fail(ErrorKind::kDenied, fmt::format("the certificate of {} is not believed", name_),
                    ::X509_verify_cert_error_string(verdict),
                    "name the authority that signed it: ca_file: /path/ca.pem");
      }
      return fail(ErrorKind::kFailed, fmt::format("no TLS with {}", name_), why_of_tls(),
                  "does this port speak TLS (tls-port)? Without it the address begins with redis://");
    }
  }

  Result<size_t> read(MutableByteView into, Duration limit) override {
    const Duration deadline = system_clock().steady() + limit;
    NoSigpipe quiet;
    for (;;) {
      size_t got = 0;
      ::ERR_clear_error();
      const int done = ::SSL_read_ex(ssl_.get(), into.data(), into.size(), &got);
      if (done == 1) return got;
      TRY_ASSIGN(const bool again, wait_after(done, deadline));
      // A server that closes without TLS's good-bye is as gone as one that says it; whether what came was
      // whole is for the reader of it to say.
      if (!again) return size_t{0};
    }
  }

  Result<void> write(ByteView bytes, Duration limit) override {
    const Duration deadline = system_clock().steady() + limit;
    NoSigpipe quiet;
    while (!bytes.empty()) {
      size_t put = 0;
      ::ERR_clear_error();
      const int done = ::SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &put);
      if (done == 1) {
        bytes = bytes.subspan(put);
        continue;
      }
      TRY_ASSIGN(const bool again, wait_after(done, deadline));
      if (!again) return fail(ErrorKind::kFailed, fmt::format("write to {}", name_), why_of_tls());
    }
    return {};
  }

 private:
  Result<void> load_files(const Endpoint& endpoint) {
    const std::string& ca = endpoint.ca_file;
    const bool trusts = ca.empty()
                            ? ::SSL_CTX_set_default_verify_paths(context_.get()) == 1
                            : ::SSL_CTX_load_verify_locations(context_.get(), ca.c_str(), nullptr) == 1;
    if (!trusts) return fail(ErrorKind::kUsage, fmt::format("cannot read ca_file {}", ca), why_of_tls());
    if (endpoint.cert_file.empty() != endpoint.key_file.empty())
      return fail(ErrorKind::kUsage, "cert_file and key_file go together", "one of them is not given");
    if (endpoint.cert_file.empty()) return {};
    if (::SSL_CTX_use_certificate_chain_file(context_.get(), endpoint.cert_file.c_str()) != 1)
      return fail(ErrorKind::kUsage, fmt::format("cannot read cert_file {}", endpoint.cert_file),
                  why_of_tls());
    if (::SSL_CTX_use_PrivateKey_file(context_.get(), endpoint.key_file.c_str(), SSL_FILETYPE_PEM) != 1)
      return fail(ErrorKind::kUsage, fmt::format("cannot use key_file {}", endpoint.key_file), why_of_tls());
    return {};
  }

  Result<void> expect_host(const std::string& host) {
    in6_addr address;
    const bool is_address = ::inet_pton(AF_INET, host.c_str(), &address) == 1 ||
                            ::inet_pton(AF_INET6, host.c_str(), &address) == 1;
    const int set = is_address ? ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl_.get()), host.c_str())
                               : ::SSL_set1_host(ssl_.get(), host.c_str());
    if (set != 1) return fail(ErrorKind::kFailed, "start TLS", why_of_tls());
    if (!is_address) ::SSL_set_tlsext_host_name(ssl_.get(), host.c_str());
    return {};
  }

  // After a call that did not succeed: true when it is to be made again.
  Result<bool> wait_after(int done, Duration deadline) {
    const int reason = ::SSL_get_error(ssl_.get(), done);
    if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE) return false;
    TRY(await(fd_, reason == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline, stop_, name_));
    return true;
  }

  struct Free {
    void operator()(SSL_CTX* context) const { ::SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { ::SSL_free(ssl); }
  };
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<SSL, Free> ssl_;  // goes before its context
};

// --- connecting ------------------------------------------------------------------------------------------

Error unreachable(const Endpoint& endpoint, std::string_view why) {
  return fail(ErrorKind::kFailed, fmt::format("cannot connect to {}", endpoint.describe()), std::string(why),
              endpoint.socket.empty() ? "is the server running, and does it listen there (bind, port)?"
                                      : "is the server running, and is unixsocket set to this path?");
}

Result<Fd> connect_to(const Endpoint& endpoint, const sockaddr* address, socklen_t size, int family,
                      Duration deadline, const std::stop_token& stop) {
  Fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error("make a socket", errno);
  if (::connect(fd.get(), address, size) != 0) {
    if (errno != EINPROGRESS && errno != EAGAIN) return unreachable(endpoint, std::strerror(errno));
    TRY(await(fd, POLLOUT, deadline, stop, endpoint.describe()));
    int code = 0;
    socklen_t length = sizeof code;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &length);
    if (code != 0) return unreachable(endpoint, std::strerror(code));
  }
  if (family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  return fd;
}

Result<Fd> connect_to_socket(const Endpoint& endpoint, Duration deadline, const std::stop_token& stop) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (endpoint.socket.size() >= sizeof address.sun_path)
    return fail(ErrorKind::kUsage, fmt::format("the path {} is too long for a socket", endpoint.socket),
                fmt::format("the system allows {} bytes", sizeof address.sun_path - 1));
  std::memcpy(address.sun_path, endpoint.socket.data(), endpoint.socket.size());
  return connect_to(endpoint, reinterpret_cast<const sockaddr*>(&address), sizeof address, AF_UNIX, deadline,
                    stop);
}

Result<Fd> connect_to_host(const Endpoint& endpoint, Duration deadline, const std::stop_token& stop) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &wanted, &found);
  if (failed != 0) return unreachable(endpoint, ::gai_strerror(failed));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
  Result<Fd> connected = unreachable(endpoint, "the name has no address");
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    connected = connect_to(endpoint, one->ai_addr, one->ai_addrlen, one->ai_family, deadline, stop);
    if (connected || connected.error().kind == ErrorKind::kInterrupted) break;
  }
  return connected;
}

}  // namespace

Result<std::unique_ptr<Stream>> Stream::connect(const Endpoint& endpoint, Duration limit,
                                                std::stop_token stop) {
  const Duration deadline = system_clock().steady() + limit;
  TRY_ASSIGN(Fd fd, endpoint.socket.empty() ? connect_to_host(endpoint, deadline, stop)
                                            : connect_to_socket(endpoint, deadline, stop));
  if (!endpoint.tls)
    return std::unique_ptr<Stream>(new PlainStream(std::move(fd), endpoint.describe(), std::move(stop)));
  auto tls = std::make_unique<TlsStream>(std::move(fd), endpoint.describe(), std::move(stop));
  TRY(tls->handshake(endpoint, limit));
  return std::unique_ptr<Stream>(std::move(tls));
}

}  // namespace kuramori::redis
