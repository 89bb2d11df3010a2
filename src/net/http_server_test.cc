#include "net/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "os/file.h"
#include "os/process.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

constexpr size_t kSmall = 1000;

// What handlers were called with.
struct Seen {
  std::mutex mutex;
  std::vector<ServerRequest> requests;
  size_t count() {
    const std::lock_guard hold(mutex);
    return requests.size();
  }
};

class HttpServerTest : public testing::Test {
 protected:
  void start(ServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    const auto echo = [this](const ServerRequest& request) {
      const std::lock_guard hold(seen_.mutex);
      seen_.requests.push_back(request);
      return ServerAnswer{.body = std::string(as_text(request.body)), .headers = {{"X-Own", "yes"}}};
    };
    auto started = HttpServer::start(options, {{"POST", "/hook", echo, kSmall},
                                               {"GET", "/page", echo},
                                               {"GET", "/tree/", echo},
                                               {"PUT", "/page", echo}});
    ASSERT_TRUE(started) << started.error().what << ": " << started.error().why;
    server_ = std::move(*started);
  }

  HttpAnswer send(const std::string& method, const std::string& target, std::string_view body = {},
                  std::vector<HttpHeader> headers = {}) {
    auto client = *make_http_client();
    auto answer = client->send({.method = method,
                                .url = server_->url() + target,
                                .headers = std::move(headers),
                                .body = as_bytes(body)});
    EXPECT_TRUE(answer) << answer.error().what << ": " << answer.error().why;
    return answer ? *answer : HttpAnswer();
  }

  Fd connect() {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static bool give(const Fd& fd, std::string_view bytes) {
    return ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  // All that comes until the other side is done; nothing where it is not within `longest`.
  static std::optional<std::string> rest(const Fd& fd, Duration longest = 10s) {
    const Duration until = system_clock().steady() + longest;
    std::string all;
    for (;;) {
      pollfd ready{fd.get(), POLLIN, 0};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - system_clock().steady());
      if (left <= 0ms || ::poll(&ready, 1, static_cast<int>(left.count())) <= 0) return std::nullopt;
      char buffer[4096];
      const ssize_t got = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (got <= 0) return all;
      all.append(buffer, static_cast<size_t>(got));
    }
  }

  Seen seen_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, gives_whole_requests_to_their_routes) {
  start();
  HttpAnswer answer = send("POST", "/hook?a=1%202&b", std::string(kSmall, 'x'), {{"X-Thing", "value"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(as_text(answer.body), std::string(kSmall, 'x'));
  EXPECT_EQ(answer.header("x-own"), "yes");
  ASSERT_EQ(seen_.count(), 1u);
  const ServerRequest& request = seen_.requests.front();
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/hook");
  EXPECT_EQ(request.header("x-thing"), "value");
  ASSERT_EQ(request.query.size(), 2u);
  EXPECT_EQ(request.query[0].value, "1 2");
  EXPECT_EQ(request.peer, "127.0.0.1");

  EXPECT_EQ(send("GET", "/page").status, 200);
  EXPECT_EQ(send("GET", "/tree/a/b").status, 200);
  EXPECT_EQ(seen_.requests.back().path, "/tree/a/b");
  EXPECT_EQ(send("PUT", "/page", "body").status, 200);
  const size_t before = seen_.count();
  for (const char* absent : {"/", "/hoo", "/hook/", "/hooks", "/tree", "/page/x"})
    EXPECT_EQ(send("GET", absent).status, 404) << absent;
  answer = send("GET", "/hook");
  EXPECT_EQ(answer.status, 405);
  EXPECT_EQ(answer.header("allow"), "POST");
  EXPECT_EQ(send("POST", "/page").header("allow"), "GET, PUT");
  EXPECT_EQ(seen_.count(), before);
}

TEST_F(HttpServerTest, curl_is_served_with_and_without_a_length) {
  start();
  for (const char* encoding : {"", "Transfer-Encoding: chunked", "Expect: 100-continue"}) {
    auto said = run_checked({.argv = {"curl", "-sS", "--fail", "--max-time", "10", "--data-binary", "@-",
                                      "-H", encoding, server_->url() + "/hook"},
                             .input = std::string(900, 'y')});
    ASSERT_TRUE(said) << said.error().why;
    EXPECT_EQ(*said, std::string(900, 'y')) << encoding;
  }
  auto head =
      run_checked({.argv = {"curl", "-sS", "--fail", "--max-time", "10", "-I", server_->url() + "/page"}});
  ASSERT_TRUE(head) << head.error().why;
  EXPECT_TRUE(head->starts_with("HTTP/1.1 200")) << *head;
}

TEST_F(HttpServerTest, what_is_too_large_is_refused_and_reaches_no_handler) {
  start();
  // Its length is told: an answer, before any of it was sent.
  const Fd told = connect();
  ASSERT_TRUE(give(told, "POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n"));
  EXPECT_TRUE(rest(told)->starts_with("HTTP/1.1 413"));
  // It is not: the connection ends.
  const Fd untold = connect();
  ASSERT_TRUE(give(untold, "POST /hook HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
  for (int i = 0; i < 100 && give(untold, "64\r\n" + std::string(100, 'x') + "\r\n"); ++i) continue;
  const auto answer = rest(untold);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->find("200"), std::string::npos) << *answer;
  // A head without end.
  const Fd head = connect();
  (void)give(head, "POST /hook HTTP/1.1\r\nHost: h\r\n");
  for (int i = 0;
       i < 1000 && give(head, "X-Header-" + std::to_string(i) + ": " + std::string(100, 'x') + "\r\n"); ++i)
    continue;
  EXPECT_TRUE(rest(head));
  EXPECT_EQ(seen_.count(), 0u);
  EXPECT_EQ(send("POST", "/hook", "fine").status, 200);
}

// A byte now and then keeps a connection from ever being idle.
TEST_F(HttpServerTest, a_request_that_takes_for_ever_ends) {
  start({.request_max = 1s});
  for (std::string_view text :
       {std::string_view("POST /hook HTTP/1.1\r\nHost: h\r\nX-Slow: "),
        std::string_view("POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n"),
        std::string_view("")}) {
    const Fd slow = connect();
    ASSERT_TRUE(text.empty() || give(slow, text));
    const Duration begun = system_clock().steady();
    bool ended = false;
    std::jthread drip([&](std::stop_token stop) {
      while (!stop.stop_requested() && !text.empty() && give(slow, "x")) std::this_thread::sleep_for(100ms);
    });
    ended = rest(slow).has_value();
    EXPECT_TRUE(ended) << text;
    EXPECT_GE(system_clock().steady() - begun, 900ms) << text;
    EXPECT_LT(system_clock().steady() - begun, 8s) << text;
  }
  EXPECT_EQ(seen_.count(), 0u);
}

TEST_F(HttpServerTest, slow_ones_hold_up_nobody_until_all_places_are_taken_and_then_not_for_long) {
  start({.request_max = 2s, .connections_max = 3});
  const Fd first = connect(), second = connect();
  ASSERT_TRUE(give(first, "POST"));
  ASSERT_TRUE(give(second, "GET /pa"));
  EXPECT_EQ(send("GET", "/page").status, 200);
  std::vector<Fd> more;
  for (int i = 0; i < 5; ++i) more.push_back(connect());
  int turned_away = 0;
  for (const Fd& fd : more) {
    (void)give(fd, "G");
    if (rest(fd, 300ms)) ++turned_away;
  }
  EXPECT_GE(turned_away, 4);
  EXPECT_TRUE(rest(first));
  EXPECT_TRUE(rest(second));
  // A place is free a moment after its connection has ended.
  const Duration until = system_clock().steady() + 10s;
  bool served = false;
  while (!served && system_clock().steady() < until) {
    const Fd fd = connect();
    (void)give(fd, "GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    const auto answer = rest(fd);
    served = answer && answer->starts_with("HTTP/1.1 200");
  }
  EXPECT_TRUE(served);
}

TEST_F(HttpServerTest, nonsense_harms_nobody) {
  start();
  const std::string good = "POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";
  for (std::string_view bad :
       {"\r\n\r\n", "GET\r\n\r\n", "GET /page\r\n\r\n", "GET /page HTTP/9.9\r\n\r\n",
        "POST /hook HTTP/1.1\r\n\r\n", "POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        "POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: abc\r\n\r\n",
        "POST /hook HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST /hook HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nbody\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"}) {
    const Fd fd = connect();
    (void)give(fd, bad);
    ::shutdown(fd.get(), SHUT_WR);
    const auto answer = rest(fd);
    ASSERT_TRUE(answer) << bad;
    EXPECT_EQ(answer->find(" 200 "), std::string::npos) << bad << *answer;
  }
  EXPECT_EQ(seen_.count(), 0u);
  std::mt19937 random(7);
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = good;
    for (int change = static_cast<int>(random() % 4); change >= 0; --change) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, random() % 9);
          break;
        default:
          bytes.insert(at, 1 + random() % 9, static_cast<char>(random()));
      }
      if (bytes.empty()) bytes = "x";
    }
    const Fd fd = connect();
    (void)give(fd, bytes);
    ::shutdown(fd.get(), SHUT_WR);
    ASSERT_TRUE(rest(fd)) << round;
  }
  for (const ServerRequest& request : seen_.requests) {
    EXPECT_TRUE(request.path == "/hook" || request.path == "/page" || request.path.starts_with("/tree/"));
    EXPECT_LE(request.body.size(), kSmall);
  }
  EXPECT_EQ(as_text(send("POST", "/hook", "fine").body), "fine");
}

TEST_F(HttpServerTest, ends_at_once_whoever_is_connected) {
  start();
  const Fd idle = connect(), half = connect();
  ASSERT_TRUE(give(half, "POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo"));
  const Duration begun = system_clock().steady();
  server_.reset();
  EXPECT_LT(system_clock().steady() - begun, 3s);
  EXPECT_TRUE(rest(idle));
  EXPECT_TRUE(rest(half));
}

TEST(HttpServerStart, says_why_it_cannot_listen) {
  for (const char* bad :
       {"", "8787", ":8787", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:80"}) {
    auto server = HttpServer::start({.listen = bad}, {});
    ASSERT_FALSE(server) << bad;
    EXPECT_EQ(server.error().kind, ErrorKind::kUsage) << bad;
  }
  auto first = HttpServer::start({.listen = "127.0.0.1:0"}, {});
  ASSERT_TRUE(first);
  auto second = HttpServer::start({.listen = fmt::format("127.0.0.1:{}", (*first)->port())}, {});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().why.find("in use"), std::string::npos) << second.error().why;
  EXPECT_NE(second.error().next.find("ss -ltnp"), std::string::npos);
  // The port is free again once it ended.
  const uint16_t port = (*first)->port();
  first->reset();
  EXPECT_TRUE(HttpServer::start({.listen = fmt::format("127.0.0.1:{}", port)}, {}));
}

TEST(HttpServerStart, serves_https_with_a_certificate_and_its_key) {
  auto folder = *TemporaryFolder::make("https");
  for (const char* name : {"one", "two"}) {
    auto made = run_checked(
        {.argv = {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                  folder / (std::string(name) + ".key"), "-out", folder / (std::string(name) + ".pem")}});
    ASSERT_TRUE(made) << made.error().why;
  }
  const auto answer_yes = [](const ServerRequest&) { return ServerAnswer{.body = "yes"}; };
  auto server = HttpServer::start(
      {.listen = "127.0.0.1:0", .certificate_file = folder / "one.pem", .key_file = folder / "one.key"},
      {{"GET", "/", answer_yes}});
  ASSERT_TRUE(server) << server.error().what << server.error().why;
  EXPECT_TRUE((*server)->url().starts_with("https://"));
  auto trusting = *make_http_client({.ca_file = folder / "one.pem"});
  auto answer = trusting->send({.url = (*server)->url() + "/"});
  ASSERT_TRUE(answer) << answer.error().what << answer.error().why;
  EXPECT_EQ(as_text(answer->body), "yes");
  auto distrusting = *make_http_client({.ca_file = folder / "two.pem"});
  EXPECT_FALSE(distrusting->send({.url = (*server)->url() + "/"}));

  auto mixed = HttpServer::start(
      {.listen = "127.0.0.1:0", .certificate_file = folder / "one.pem", .key_file = folder / "two.key"}, {});
  ASSERT_FALSE(mixed);
  EXPECT_EQ(mixed.error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(HttpServer::start(
      {.listen = "127.0.0.1:0", .certificate_file = folder / "none.pem", .key_file = folder / "one.key"},
      {}));
}

TEST_F(HttpServerTest, EveryAnswerGoesThroughFinish) {
  ServerOptions options;
  options.finish = [](ServerAnswer answer) {
    answer.headers.push_back({"X-Dressed", std::to_string(answer.status)});
    return answer;
  };
  start(std::move(options));
  EXPECT_EQ(send("GET", "/page").header("x-dressed"), "200");
  EXPECT_EQ(send("GET", "/nothing").header("x-dressed"), "404");
  const HttpAnswer wrong = send("DELETE", "/page");
  EXPECT_EQ(wrong.header("x-dressed"), "405");
  EXPECT_EQ(wrong.header("allow"), "GET, PUT");
  EXPECT_EQ(send("POST", "/hook", std::string(kSmall + 1, 'x')).header("x-dressed"), "413");
}

}  // namespace
}  // namespace kuramori
