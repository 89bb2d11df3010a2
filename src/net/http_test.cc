#include "net/http.h"

#include <gtest/gtest.h>

#include <thread>

#include "net/url.h"
#include "testing/http/http_stub.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

std::unique_ptr<HttpClient> client() {
  auto made = make_http_client();
  EXPECT_TRUE(made);
  return std::move(*made);
}

TEST(UrlTest, encodes_all_but_the_unreserved) {
  EXPECT_EQ(percent_encode("aZ0-._~"), "aZ0-._~");
  EXPECT_EQ(percent_encode("a b/=@+%\xc3\xa4"), "a%20b%2F%3D%40%2B%25%C3%A4");
  EXPECT_EQ(percent_encode("a/b=c@d", Slash::kKeep), "a/b%3Dc%40d");
  for (int c = 0; c < 256; ++c) {
    std::string one(1, static_cast<char>(c));
    auto back = percent_decode(percent_encode(one));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, one);
  }
  for (std::string_view bad : {"%", "%4", "a%g0", "%4x"}) EXPECT_FALSE(percent_decode(bad)) << bad;
}

TEST(UrlTest, reads_endpoints_and_queries) {
  auto endpoint = parse_endpoint("http://127.0.0.1:8000/");
  ASSERT_TRUE(endpoint);
  EXPECT_EQ(endpoint->url(), "http://127.0.0.1:8000");
  endpoint = parse_endpoint("s3.example.jp");
  ASSERT_TRUE(endpoint);
  EXPECT_EQ(endpoint->url(), "https://s3.example.jp");
  endpoint = parse_endpoint("https://[::1]:443");
  ASSERT_TRUE(endpoint);
  EXPECT_EQ(endpoint->authority(), "[::1]");
  for (std::string_view bad :
       {"", "http://", "http://h/path", "ftp://h", "http://h:0", "http://h:99999", "a b"})
    EXPECT_FALSE(parse_endpoint(bad)) << bad;
  auto query = parse_query("endpoint=http%3A%2F%2Fh&region=eu&x");
  ASSERT_TRUE(query);
  EXPECT_EQ(*query, (QueryParameters{{"endpoint", "http://h"}, {"region", "eu"}, {"x", ""}}));
}

TEST(UrlTest, a_password_is_not_shown) {
  EXPECT_EQ(masked_url("https://user:secret@host/x"), "https://user:…@host/x");
  EXPECT_EQ(masked_url("https://user@host/x:y"), "https://user@host/x:y");
  EXPECT_EQ(masked_url("redis://:se:c@ret@host:6380"), "redis://:…@host:6380");
  EXPECT_EQ(masked_url("postgresql://u:p@h?a=b&password=x&sslpassword=y#z"),
            "postgresql://u:…@h?a=b&password=…&sslpassword=…");
  EXPECT_EQ(masked_url("s3://bucket/a@b:c?endpoint=https://h:9000"),
            "s3://bucket/a@b:c?endpoint=https://h:9000");
  EXPECT_EQ(masked_url("/srv/a:b@c"), "/srv/a:b@c");
}

TEST(HttpTest, bodies_too_large_to_be_held_pass_in_pieces) {
  HttpStub stub([](const StubRequest& request) {
    if (request.method == "PUT") return StubReply{.body = std::to_string(request.body.size())};
    if (request.target == "/half")
      return StubReply{.body = std::string(1 << 20, 'y'), .end = StubReply::End::kHalfBody};
    return StubReply{.status = request.target == "/absent" ? 404 : 200, .body = std::string(3 << 20, 'x')};
  });
  auto http = client();
  uint64_t taken = 0;
  HttpRequest get{.url = stub.url() + "/"};
  get.on_body = [&](const HttpAnswer& head, ByteView bytes) -> Result<void> {
    EXPECT_EQ(head.status, 200);
    taken += bytes.size();
    return {};
  };
  auto answer = http->send(get);
  ASSERT_TRUE(answer);
  EXPECT_EQ(taken, 3u << 20);
  EXPECT_TRUE(answer->body.empty());
  taken = 0;
  get.url = stub.url() + "/absent";  // an error's body is the answer's
  answer = http->send(get);
  ASSERT_TRUE(answer);
  EXPECT_EQ(taken, 0u);
  EXPECT_EQ(answer->body.size(), 3u << 20);
  get.url = stub.url() + "/half";
  EXPECT_FALSE(http->send(get));
  get.url = stub.url() + "/";
  get.on_body = [&](const HttpAnswer&, ByteView) -> Result<void> {
    return fail(ErrorKind::kNoSpace, "nowhere to put it");
  };
  answer = http->send(get);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kNoSpace);

  HttpRequest put{.method = "PUT", .url = stub.url() + "/"};
  put.streamed_bytes = 5 << 20;
  put.body_from = [&](MutableByteView out) -> Result<size_t> {
    std::fill(out.begin(), out.end(), 'z');
    return out.size();
  };
  answer = http->send(put);
  ASSERT_TRUE(answer);
  EXPECT_EQ(as_text(answer->body), std::to_string(5 << 20));
  put.body_from = [&](MutableByteView) -> Result<size_t> {
    return fail(ErrorKind::kDamaged, "not as written");
  };
  answer = http->send(put);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kDamaged);
}

TEST(HttpTest, a_request_that_is_stopped_ends) {
  HttpStub stub([](const StubRequest&) { return StubReply{.end = StubReply::End::kSilence}; });
  auto http = client();
  std::stop_source stop;
  HttpRequest get{.url = stub.url()};
  get.stop = stop.get_token();
  stop.request_stop();
  auto answer = http->send(get);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kInterrupted);
}

TEST(HttpTest, sends_and_receives_over_one_connection_without_expect) {
  HttpStub stub([](const StubRequest& request) {
    EXPECT_FALSE(request.headers.contains("expect"));
    return StubReply{.headers = {{"X-Size", std::to_string(request.body.size())}}, .body = request.method};
  });
  auto http = client();
  Bytes body(3 << 20, 'x');
  for (std::string method : {"GET", "PUT", "POST", "DELETE", "HEAD", "PUT"}) {
    HttpRequest request{.method = method, .url = stub.url() + "/a%2Fb?c=d"};
    if (method == "PUT" || method == "POST") request.body = body;
    auto answer = http->send(request);
    ASSERT_TRUE(answer) << answer.error().what << answer.error().why;
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->header("x-size"), std::to_string(request.body.size()));
    EXPECT_EQ(as_text(answer->body), method == "HEAD" ? "" : method);
  }
  EXPECT_EQ(stub.connections(), 1u);
}

// A 403 to a PUT whose body the server has not read leaves the rest of it in the connection (Ceph RGW with
// `Expect`): what follows must not be sent there.
TEST(HttpTest, closes_a_connection_after_an_error_and_keeps_it_after_an_answer) {
  std::atomic<int> status = 200;
  HttpStub stub([&](const StubRequest&) { return StubReply{.status = status, .body = "text"}; });
  auto http = client();
  auto connections_used = [&](int with) {
    status = with;
    uint64_t before = stub.connections();
    for (int i = 0; i < 3; ++i) {
      auto answer = http->send({.url = stub.url() + "/"});
      EXPECT_TRUE(answer && answer->status == with);
    }
    return stub.connections() - before;
  };
  EXPECT_EQ(connections_used(200), 1u);
  EXPECT_EQ(connections_used(404), 0u);
  EXPECT_EQ(connections_used(412), 0u);
  EXPECT_EQ(connections_used(403), 2u);
  EXPECT_EQ(connections_used(200), 1u);
  EXPECT_EQ(connections_used(503), 2u);
}

TEST(HttpTest, survives_an_answer_before_the_body_was_sent) {
  HttpStub stub([](const StubRequest&) { return StubReply{.body = "fine"}; },
                [](const StubRequest& request) -> std::optional<StubReply> {
                  if (request.target != "/denied") return std::nullopt;
                  return StubReply{.status = 403, .body = "no"};
                });
  auto http = client();
  Bytes body(20 << 20, 'x');
  // The server closes with bytes unread: the answer may be lost to the reset, but never a hang.
  (void)http->send({.method = "PUT", .url = stub.url() + "/denied", .body = body});
  auto after = http->send({.url = stub.url() + "/fine"});
  ASSERT_TRUE(after) << after.error().what;
  EXPECT_EQ(as_text(after->body), "fine");
}

TEST(HttpTest, every_wait_ends_P71) {
  std::atomic<StubReply::End> end = StubReply::End::kSilence;
  HttpStub stub([&](const StubRequest&) { return StubReply{.body = "0123456789", .end = end}; });
  auto http = client();
  HttpRequest request{.url = stub.url() + "/"};
  request.timeouts.first_byte = 50ms;
  auto silent = http->send(request);
  ASSERT_FALSE(silent);
  EXPECT_EQ(silent.error().kind, ErrorKind::kUnknown);

  end = StubReply::End::kStallInBody;
  request.timeouts = {.stall = 50ms};
  auto stalled = http->send(request);
  ASSERT_FALSE(stalled);
  EXPECT_EQ(stalled.error().kind, ErrorKind::kUnknown);

  request.timeouts = {.total = 50ms};
  EXPECT_FALSE(http->send(request));

  // Nobody answers there (a discarding address would do; a port where nobody listens is sure).
  auto refused = http->send({.url = "http://127.0.0.1:1/"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kFailed) << "nothing was sent, so nothing can have happened";
}

TEST(HttpTest, a_body_that_ends_early_is_no_answer_V1) {
  for (StubReply::End end : {StubReply::End::kHalfBody, StubReply::End::kNoAnswer, StubReply::End::kReset}) {
    HttpStub stub([&](const StubRequest&) { return StubReply{.body = "0123456789", .end = end}; });
    auto http = client();
    auto answer = http->send({.url = stub.url() + "/"});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().kind, ErrorKind::kUnknown);
  }
}

TEST(HttpTest, fills_a_buffer_and_refuses_more_than_fits) {
  HttpStub stub([](const StubRequest& request) {
    return StubReply{.status = request.target == "/error" ? 500 : 206, .body = "0123456789"};
  });
  auto http = client();
  Bytes out(10);
  auto answer = http->send({.url = stub.url() + "/", .into = out});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->into_bytes, 10u);
  EXPECT_EQ(as_text(out), "0123456789");
  answer = http->send({.url = stub.url() + "/error", .into = MutableByteView(out).first(3)});
  ASSERT_TRUE(answer);
  EXPECT_EQ(as_text(answer->body), "0123456789") << "an error's text is no content";
  EXPECT_FALSE(http->send({.url = stub.url() + "/", .into = MutableByteView(out).first(9)}));
  EXPECT_FALSE(http->send({.url = stub.url() + "/", .body_bytes_max = 9}));
}

TEST(HttpTest, the_first_answer_of_a_hedged_read_wins) {
  // The first request of each pair is never answered.
  HttpStub stub([](const StubRequest& request) {
    return StubReply{.body = "content",
                     .end = request.number % 2 == 1 ? StubReply::End::kSilence : StubReply::End::kWhole};
  });
  auto http = client();
  Bytes out(7);
  for (int i = 0; i < 3; ++i) {
    auto answer = http->send({.url = stub.url() + "/", .into = out, .hedge_after = 20ms});
    ASSERT_TRUE(answer) << answer.error().what << answer.error().why;
    EXPECT_TRUE(answer->hedged);
    EXPECT_EQ(as_text(out), "content");
  }
}

TEST(HttpTest, a_hedged_read_takes_the_good_answer_of_two) {
  HttpStub stub([](const StubRequest& request) {
    if (request.number == 1) return StubReply{.body = "slow", .delay = 300ms};
    return StubReply{.status = 503, .body = "busy"};
  });
  auto http = client();
  auto answer = http->send({.url = stub.url() + "/", .hedge_after = 10ms});
  ASSERT_TRUE(answer);
  EXPECT_EQ(as_text(answer->body), "slow");
}

TEST(HttpTest, many_threads_use_one_client) {
  HttpStub stub([](const StubRequest& request) { return StubReply{.body = request.target}; });
  auto http = client();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        std::string target = "/" + std::to_string(t) + "/" + std::to_string(i);
        auto answer = http->send({.url = stub.url() + target});
        ASSERT_TRUE(answer);
        EXPECT_EQ(as_text(answer->body), target);
      }
    });
  }
  threads.clear();
  EXPECT_LE(stub.connections(), 8u);
}

}  // namespace
}  // namespace kuramori
