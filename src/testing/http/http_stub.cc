#include "testing/http/http_stub.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "base/check.h"

namespace kuramori {
namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace

struct HttpStub::State {
  Handler answer;
  std::function<std::optional<StubReply>(const StubRequest&)> before_body;
  int listener = -1;
  int port = 0;
  std::atomic<bool> stopping = false;
  std::atomic<uint64_t> connections = 0, requests = 0;
  std::mutex mutex;
  std::vector<std::thread> threads;
  std::thread acceptor;

  // False: the client left or we stop.
  bool receive(int socket, std::string& buffer) {
    for (;;) {
      pollfd waiting{socket, POLLIN, 0};
      int ready = ::poll(&waiting, 1, 20);
      if (stopping) return false;
      if (ready <= 0) continue;
      char bytes[65536];
      ssize_t got = ::recv(socket, bytes, sizeof bytes, 0);
      if (got <= 0) return false;
      buffer.append(bytes, static_cast<size_t>(got));
      return true;
    }
  }

  bool read_head(int socket, std::string& buffer, StubRequest& request) {
    size_t end;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
      if (!receive(socket, buffer)) return false;
    }
    std::string head = buffer.substr(0, end);
    buffer.erase(0, end + 4);
    size_t line_end = head.find("\r\n");
    std::string first = head.substr(0, line_end);
    size_t one = first.find(' '), two = first.find(' ', one + 1);
    request.method = first.substr(0, one);
    request.target = first.substr(one + 1, two - one - 1);
    while (line_end != std::string::npos) {
      size_t begin = line_end + 2;
      line_end = head.find("\r\n", begin);
      std::string line = head.substr(begin, line_end == std::string::npos ? line_end : line_end - begin);
      size_t colon = line.find(':');
      if (colon == std::string::npos) continue;
      size_t value = line.find_first_not_of(' ', colon + 1);
      request.headers[lower(line.substr(0, colon))] = value == std::string::npos ? "" : line.substr(value);
    }
    return true;
  }

  bool reply_to(int socket, const StubRequest& request, const StubReply& reply) {
    if (reply.delay > Duration{}) std::this_thread::sleep_for(reply.delay);
    using End = StubReply::End;
    if (reply.end == End::kNoAnswer) return false;
    if (reply.end == End::kReset) {
      linger at_once{1, 0};
      ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      return false;
    }
    std::string ignored;
    if (reply.end == End::kSilence) {
      while (receive(socket, ignored)) ignored.clear();
      return false;
    }
    std::string head = fmt::format("HTTP/1.1 {} X\r\n", reply.status);
    bool sized = false;
    for (const auto& [name, value] : reply.headers) {
      head += fmt::format("{}: {}\r\n", name, value);
      sized = sized || lower(name) == "content-length";
    }
    if (!sized && reply.status != 204) head += fmt::format("Content-Length: {}\r\n", reply.body.size());
    head += "\r\n";
    std::string_view body = request.method == "HEAD" ? std::string_view() : std::string_view(reply.body);
    if (reply.end != End::kWhole) body = body.substr(0, body.size() / 2);
    if (!send_all(socket, head) || !send_all(socket, body)) return false;
    if (reply.end == End::kStallInBody) {
      while (receive(socket, ignored)) ignored.clear();
    }
    return reply.end == End::kWhole;
  }

  void serve(int socket, uint64_t connection) {
    int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::string buffer;
    for (;;) {
      StubRequest request{.connection = connection};
      if (!read_head(socket, buffer, request)) break;
      request.number = ++requests;
      if (before_body) {
        if (std::optional<StubReply> early = before_body(request)) {
          reply_to(socket, request, *early);
          break;
        }
      }
      size_t size = 0;
      if (auto length = request.headers.find("content-length"); length != request.headers.end())
        size = std::stoull(length->second);
      bool whole = true;
      while (whole && buffer.size() < size) whole = receive(socket, buffer);
      if (!whole) break;
      request.body = buffer.substr(0, size);
      buffer.erase(0, size);
      if (!reply_to(socket, request, answer(request))) break;
    }
    ::close(socket);
  }

  void accept_all() {
    while (!stopping) {
      pollfd waiting{listener, POLLIN, 0};
      if (::poll(&waiting, 1, 20) <= 0) continue;
      int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0) continue;
      uint64_t connection = ++connections;
      std::lock_guard hold(mutex);
      threads.emplace_back([this, socket, connection] { serve(socket, connection); });
    }
  }
};

HttpStub::HttpStub(Handler answer, std::function<std::optional<StubReply>(const StubRequest&)> before_body)
    : state_(std::make_unique<State>()) {
  state_->answer = std::move(answer);
  state_->before_body = std::move(before_body);
  state_->listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  CHECK(state_->listener >= 0);
  CHECK(::bind(state_->listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
  CHECK(::listen(state_->listener, 64) == 0);
  CHECK(::getsockname(state_->listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  state_->port = ntohs(address.sin_port);
  state_->acceptor = std::thread([state = state_.get()] { state->accept_all(); });
}

HttpStub::~HttpStub() {
  state_->stopping = true;
  state_->acceptor.join();
  for (std::thread& thread : state_->threads) thread.join();
  ::close(state_->listener);
}

int HttpStub::port() const {
  return state_->port;
}
std::string HttpStub::url() const {
  return fmt::format("http://127.0.0.1:{}", state_->port);
}
uint64_t HttpStub::connections() const {
  return state_->connections;
}
uint64_t HttpStub::requests() const {
  return state_->requests;
}

}  // namespace kuramori
