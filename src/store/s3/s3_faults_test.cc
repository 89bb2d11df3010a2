// The store against a server that answers as the test says: lost answers, errors in disguise, lists that lie.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>

#include "crypto/digest.h"
#include "store/s3/s3_store.h"
#include "testing/http/http_stub.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;
using End = StubReply::End;

std::string xml_error(std::string_view code) {
  return fmt::format("<?xml version=\"1.0\"?><Error><Code>{}</Code><Message>m</Message></Error>", code);
}
StubReply error(int status, std::string_view code) {
  return {.status = status, .body = xml_error(code)};
}

// A server that keeps what it is sent, and asks the test first: a reply instead of its own, done or not done.
class StubS3 {
 public:
  struct Twist {
    bool instead = false;  // the request is not done at all
    StubReply reply;
  };
  // Called for every request, with its number from 1. nullopt: answer honestly.
  using Choose = std::function<std::optional<Twist>(int number, const StubRequest&)>;

  explicit StubS3(Choose choose = {})
      : choose_(std::move(choose)), stub_([this](const StubRequest& request) { return answer(request); }) {}

  std::unique_ptr<Store> store(std::function<void(S3Location&, S3StoreOptions&)> change = {}) {
    S3Location location{.bucket = "bucket", .prefix = "v", .endpoint = stub_.url()};
    S3StoreOptions options;
    options.credentials = fixed_credentials("AK", Secret::copy_of(as_bytes("SK")));
    options.limits.timeouts = {.connect = 2s, .first_byte = 200ms, .stall = 200ms, .total = 5s};
    options.limits.attempts_max = 4;
    if (change) change(location, options);
    auto opened = open_s3_store(location, std::move(options));
    EXPECT_TRUE(opened);
    return std::move(*opened);
  }
  std::vector<StubRequest> requests() {
    std::lock_guard hold(mutex_);
    return requests_;
  }
  size_t count(std::string_view method) {
    size_t count = 0;
    for (const StubRequest& request : requests()) count += request.method == method ? 1 : 0;
    return count;
  }
  // Something stands there all at once, also while requests come.
  void stand(const std::string& target, std::string body) {
    std::lock_guard hold(mutex_);
    objects[target] = std::move(body);
  }
  std::map<std::string, std::string> objects;  // by target; touched between requests alone

 private:
  StubReply answer(const StubRequest& request) {
    int number;
    {
      std::lock_guard hold(mutex_);
      requests_.push_back(request);
      number = static_cast<int>(requests_.size());
    }
    std::optional<Twist> twist = choose_ ? choose_(number, request) : std::nullopt;
    if (twist && twist->instead) return twist->reply;
    StubReply honest = do_it(request);
    return twist ? twist->reply : honest;
  }
  StubReply do_it(const StubRequest& request) {
    std::lock_guard hold(mutex_);
    std::string target = request.target.substr(0, request.target.find('?'));
    if (request.target.find("?versioning") != std::string::npos)
      return {.body = "<VersioningConfiguration/>"};
    if (request.method == "PUT") {
      if (request.headers.contains("if-none-match") && objects.contains(target))
        return error(412, "PreconditionFailed");
      objects[target] = request.body;
      tokens_[target] = request.headers.at("x-amz-meta-kuramori-put");
      return {};
    }
    if (request.method == "DELETE") {
      objects.erase(target);
      return {.status = 204};
    }
    auto at = objects.find(target);
    if (at == objects.end()) return error(404, "NoSuchKey");
    return {.headers = {{"x-amz-meta-kuramori-put", tokens_[target]}}, .body = at->second};
  }

  Choose choose_;
  std::mutex mutex_;
  std::vector<StubRequest> requests_;
  std::map<std::string, std::string> tokens_;
  HttpStub stub_;
};

constexpr const char* kTarget = "/bucket/v/commits/a";

TEST(S3FaultsTest, a_put_says_how_it_must_be_kept_V28_P73) {
  StubS3 server;
  auto store = server.store([](S3Location& location, S3StoreOptions&) {
    location.storage_class = "STANDARD_IA";
    location.sse_kms_key = "alias/kuramori";
  });
  ASSERT_TRUE(store->put_if_absent("commits/a", as_bytes("Hello")));
  StubRequest put = server.requests().at(0);
  EXPECT_EQ(put.target, kTarget);
  EXPECT_EQ(put.headers.at("content-md5"), "ixqZU8RhEpaoJ6v4xHgE1w==");
  EXPECT_EQ(put.headers.at("x-amz-content-sha256"), sha256(as_bytes("Hello")).hex());
  EXPECT_EQ(put.headers.at("if-none-match"), "*");
  EXPECT_EQ(put.headers.at("x-amz-acl"), "bucket-owner-full-control");
  EXPECT_EQ(put.headers.at("x-amz-storage-class"), "STANDARD_IA");
  EXPECT_EQ(put.headers.at("x-amz-server-side-encryption"), "aws:kms");
  EXPECT_EQ(put.headers.at("x-amz-server-side-encryption-aws-kms-key-id"), "alias/kuramori");
  EXPECT_EQ(put.headers.at("content-length"), "5");
  EXPECT_FALSE(put.headers.contains("expect"));
  // What is needed to find the rest stays where it is read at once.
  auto cold = server.store([](S3Location& location, S3StoreOptions&) {
    location.storage_class = "GLACIER";
    location.class_prefix = "packs/";
  });
  ASSERT_TRUE(cold->put_if_absent("packs/00/a", as_bytes("Hello")));
  ASSERT_TRUE(cold->put_if_absent("commits/b", as_bytes("Hello")));
  ASSERT_EQ(server.requests().size(), 3u);
  EXPECT_EQ(server.requests()[1].headers.at("x-amz-storage-class"), "GLACIER");
  EXPECT_FALSE(server.requests()[2].headers.contains("x-amz-storage-class"));
  EXPECT_FALSE(put.headers.contains("transfer-encoding"));
  // All of it is signed: nobody on the way can change it.
  for (const char* name : {"content-md5", "if-none-match", "x-amz-acl", "x-amz-storage-class",
                           "x-amz-content-sha256", "x-amz-meta-kuramori-put"})
    EXPECT_NE(put.headers.at("authorization").find(name), std::string::npos) << name;
}

// The answer is lost in every way it can be, after the put was done and before.
TEST(S3FaultsTest, a_lost_answer_is_looked_for_and_never_assumed) {
  for (bool done : {true, false}) {
    for (int how = 0; how < 5; ++how) {
      StubReply lost = how == 0   ? StubReply{.end = End::kNoAnswer}
                       : how == 1 ? StubReply{.end = End::kReset}
                       : how == 2 ? StubReply{.end = End::kSilence}
                       : how == 3 ? error(500, "InternalError")
                                  : StubReply{.status = 502, .body = "<html>bad gateway</html>"};
      StubS3 server([&](int number, const StubRequest&) -> std::optional<StubS3::Twist> {
        if (number == 1) return StubS3::Twist{.instead = !done, .reply = lost};
        return std::nullopt;
      });
      auto store = server.store();
      Result<void> put = store->put_if_absent("commits/a", as_bytes("mine"));
      ASSERT_TRUE(put) << how << done << put.error().what << put.error().why;
      EXPECT_EQ(server.objects.at(kTarget), "mine");
      // libcurl may send what a reused connection lost again on its own: also then it happened once.
      EXPECT_EQ(server.count("HEAD"), 1u) << how << done;
    }
  }
}

// What a kept connection lost without a byte of answer, libcurl sends again on its own: the refusal that
// follows is about the first try.
TEST(S3FaultsTest, what_the_library_sends_again_happened_once) {
  StubS3 server([&](int number, const StubRequest&) -> std::optional<StubS3::Twist> {
    if (number == 2) return StubS3::Twist{.reply = {.end = End::kNoAnswer}};
    return std::nullopt;
  });
  auto store = server.store();
  ASSERT_TRUE(store->put_if_absent("commits/warm", as_bytes("1")));
  Result<void> put = store->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_TRUE(put) << put.error().what << put.error().why;
  EXPECT_EQ(server.objects.at(kTarget), "mine");
}

TEST(S3FaultsTest, a_lost_answer_while_another_wins_is_exists) {
  StubS3* self = nullptr;
  StubS3 server([&](int number, const StubRequest& request) -> std::optional<StubS3::Twist> {
    if (number != 1) return std::nullopt;
    (void)request;
    self->stand(kTarget, "theirs");
    return StubS3::Twist{.instead = true, .reply = {.end = End::kNoAnswer}};
  });
  self = &server;
  Result<void> put = server.store()->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kExists);
  EXPECT_EQ(server.objects.at(kTarget), "theirs");
}

TEST(S3FaultsTest, what_cannot_be_found_out_is_unknown) {
  StubS3 server([](int, const StubRequest&) {
    return StubS3::Twist{.instead = true, .reply = {.end = End::kNoAnswer}};
  });
  Result<void> put = server.store()->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kUnknown);
}

// Found on a line that answered one request in five with 503: looks gave up after four of them.
TEST(S3FaultsTest, a_look_is_patient_with_a_busy_store) {
  int looks = 0;
  StubS3 server([&](int number, const StubRequest& request) -> std::optional<StubS3::Twist> {
    if (number == 1) return StubS3::Twist{.reply = {.end = End::kNoAnswer}};
    if (request.method == "HEAD" && ++looks <= 5)
      return StubS3::Twist{.instead = true, .reply = {.status = 503}};
    return std::nullopt;
  });
  auto store = server.store([](S3Location&, S3StoreOptions& options) { options.limits.attempts_max = 8; });
  Result<void> put = store->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_TRUE(put) << put.error().what << put.error().why;
  EXPECT_EQ(looks, 6);
  EXPECT_EQ(server.count("PUT"), 1u);
}

// Who may only put cannot look: then a refusal after a lost answer may be about the own attempt.
TEST(S3FaultsTest, a_refusal_that_may_be_ones_own_is_unknown_to_who_may_not_look) {
  for (bool lost : {false, true}) {
    StubS3 server([&](int number, const StubRequest& request) -> std::optional<StubS3::Twist> {
      if (request.method != "PUT") return StubS3::Twist{.instead = true, .reply = error(403, "AccessDenied")};
      if (lost && number == 1) return StubS3::Twist{.reply = {.end = End::kNoAnswer}};
      return std::nullopt;
    });
    auto store = server.store();
    if (!lost) server.objects[kTarget] = "theirs";
    Result<void> put = store->put_if_absent("commits/a", as_bytes("mine"));
    ASSERT_FALSE(put);
    EXPECT_EQ(put.error().kind, lost ? ErrorKind::kUnknown : ErrorKind::kExists) << put.error().what;
  }
}

TEST(S3FaultsTest, a_refusal_tells_nothing_of_the_attempt_that_was_lost_before_it) {
  StubS3 server([](int number, const StubRequest& request) -> std::optional<StubS3::Twist> {
    if (request.method == "HEAD") return StubS3::Twist{.instead = true, .reply = {.status = 404}};
    if (number == 1) return StubS3::Twist{.instead = true, .reply = {.end = End::kNoAnswer}};
    return StubS3::Twist{.instead = true, .reply = error(403, "AccessDenied")};
  });
  Result<void> put = server.store()->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kUnknown);
}

TEST(S3FaultsTest, a_success_that_says_error_is_none) {
  StubS3 server([](int, const StubRequest&) {
    return StubS3::Twist{.instead = true, .reply = {.body = xml_error("InternalError")}};
  });
  Result<void> put = server.store()->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kUnknown);
}

TEST(S3FaultsTest, bytes_that_changed_on_the_way_are_noticed_V28) {
  StubS3 server([](int, const StubRequest&) {
    return StubS3::Twist{.reply = {.headers = {{"ETag", "\"00000000000000000000000000000000\""}}}};
  });
  Result<void> put = server.store()->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kDamaged);
}

TEST(S3FaultsTest, slow_down_is_obeyed_and_goes_away) {
  StubS3 server([](int number, const StubRequest&) -> std::optional<StubS3::Twist> {
    if (number > 3) return std::nullopt;
    return StubS3::Twist{.instead = true, .reply = error(number == 1 ? 429 : 503, "SlowDown")};
  });
  Result<void> put = server.store()->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_TRUE(put) << put.error().what;
  EXPECT_EQ(server.count("PUT"), 4u);
  EXPECT_EQ(server.count("HEAD"), 0u) << "what was refused did not happen: no need to look";

  StubS3 never([](int, const StubRequest&) {
    return StubS3::Twist{.instead = true, .reply = error(503, "SlowDown")};
  });
  put = never.store()->put_if_absent("commits/a", as_bytes("mine"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kFailed) << "certainly not done";
}

TEST(PaceTest, the_window_grows_slowly_and_halves_once_for_a_burst) {
  RequestWindow window;
  auto outcome = [&](RequestWindow::Outcome what, Duration at) {
    window.enter();
    window.leave(what, at);
  };
  for (int i = 0; i < 8; ++i) outcome(RequestWindow::Outcome::kSlowDown, 1s + i * 1ms);
  EXPECT_EQ(window.width(), 8);
  for (int i = 1; i < 20; ++i) outcome(RequestWindow::Outcome::kSlowDown, 1s * (i + 1));
  EXPECT_EQ(window.width(), 1);
  for (int i = 0; i < 50; ++i) outcome(RequestWindow::Outcome::kGood, 60s);
  EXPECT_GT(window.width(), 8);
  EXPECT_LT(window.width(), 16);
  for (int i = 0; i < 100'000; ++i) outcome(RequestWindow::Outcome::kGood, 60s);
  EXPECT_EQ(window.width(), RequestWindow::kMost);
}

TEST(PaceTest, a_pause_is_jittered_doubles_and_is_never_shorter_than_asked) {
  for (int attempt = 1; attempt < 12; ++attempt) {
    Duration length = std::min<Duration>(50ms * (1 << (attempt - 1)), 5s);
    for (int i = 0; i < 20; ++i) {
      Duration pause = back_off(attempt, {}, system_random());
      EXPECT_GE(pause, length / 2);
      EXPECT_LE(pause, length);
    }
  }
  EXPECT_EQ(back_off(1, 3s, system_random()), 3s);
  EXPECT_EQ(back_off(1, 3600s, system_random()), 30s);
}

TEST(PaceTest, late_is_later_than_almost_all_and_few_reads_are_hedged) {
  ReadLatency latency;
  EXPECT_FALSE(latency.hedge_after());
  for (int i = 0; i < 128; ++i) latency.add(i % 20 == 0 ? 500ms : 20ms + i * 1us);
  auto late = latency.hedge_after();
  ASSERT_TRUE(late);
  EXPECT_GE(*late, 20ms);
  EXPECT_LE(*late, 500ms);
  int hedged = 0;
  for (; latency.hedge_after(); ++hedged) latency.hedged();
  EXPECT_LE(hedged, 10);
}

// V1, P68: deletion follows from absence, so only the store's own word is absence.
TEST(S3FaultsTest, only_the_stores_word_is_absence) {
  std::string body;
  int status = 404;
  StubS3 server([&](int, const StubRequest&) {
    return StubS3::Twist{.instead = true, .reply = {.status = status, .body = body}};
  });
  auto store = server.store();
  for (std::string page : {std::string("<html>no such page</html>"), std::string(), xml_error("NoSuchBucket"),
                           std::string("<Error><Code>NoSuchKey"), xml_error("NoSuchUpload")}) {
    body = page;
    EXPECT_EQ(store->get("a").error().kind, ErrorKind::kFailed) << page;
    EXPECT_EQ(store->head("a").error().kind, ErrorKind::kFailed) << page;
    EXPECT_EQ(store->open("a").error().kind, ErrorKind::kFailed) << page;
  }
  body = xml_error("NoSuchKey");
  EXPECT_EQ(store->get("a").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(store->head("a").error().kind, ErrorKind::kNotFound);
  status = 403;
  body = xml_error("AccessDenied");
  EXPECT_EQ(store->get("a").error().kind, ErrorKind::kDenied);
  EXPECT_EQ(store->remove("a").error().kind, ErrorKind::kDenied);
}

TEST(S3FaultsTest, a_list_that_lies_is_refused_V2) {
  std::string body;
  StubS3 server(
      [&](int, const StubRequest&) { return StubS3::Twist{.instead = true, .reply = {.body = body}}; });
  auto store = server.store();
  auto listing = [](std::string_view truncated, std::vector<std::string> keys) {
    std::string out = "<ListBucketResult>" + std::string(truncated);
    for (const std::string& key : keys)
      out += fmt::format("<Contents><Key>{}</Key><Size>1</Size></Contents>", key);
    return out + "</ListBucketResult>";
  };
  const std::string no = "<IsTruncated>false</IsTruncated>", yes = "<IsTruncated>true</IsTruncated>";
  body = listing(no, {"v/a", "v/b"});
  EXPECT_TRUE(store->list("", "", 10));
  for (std::string lie :
       {listing(no, {"v/b", "v/a"}), listing(no, {"v/a", "v/a"}), listing(no, {"elsewhere/a"}),
        listing("", {"v/a"}), listing(yes, {}), listing(no, {"v/a"}).substr(0, 60), std::string("<html/>"),
        std::string(),
        std::string("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>v/a</Key></Contents>"
                    "</ListBucketResult>")}) {
    body = lie;
    auto page = store->list("", "", 10);
    ASSERT_FALSE(page) << lie;
    EXPECT_EQ(page.error().kind, ErrorKind::kFailed);
  }
}

TEST(S3FaultsTest, names_are_decoded_and_pages_filled) {
  StubS3 server([&](int, const StubRequest& request) {
    EXPECT_NE(request.target.find("encoding-type=url"), std::string::npos);
    bool second = request.target.find("start-after=v%2Fb%3Dc") != std::string::npos;
    std::string body =
        second ? "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</"
                 "IsTruncated><Contents><Key>"
                 "v/d%40e</Key><Size>2</Size><LastModified>2026-02-11T03:00:00.000Z</LastModified></Contents>"
                 "</ListBucketResult>"
               : "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</"
                 "IsTruncated><Contents><Key>"
                 "v/b%3Dc</Key><Size>1</Size></Contents></ListBucketResult>";
    return StubS3::Twist{.instead = true, .reply = {.body = body}};
  });
  auto page = server.store()->list("", "", 10);  // the store gave less than was asked for
  ASSERT_TRUE(page) << page.error().what;
  ASSERT_EQ(page->objects.size(), 2u);
  EXPECT_EQ(page->objects[0].name, "b=c");
  EXPECT_EQ(page->objects[1].name, "d@e");
  EXPECT_TRUE(page->objects[1].stored_at);
  EXPECT_FALSE(page->more);
}

TEST(S3FaultsTest, a_read_that_is_short_or_of_elsewhere_is_damage_V1) {
  constexpr size_t kSize = 100'000, kTail = 65'536;
  std::string object(kSize, '.');
  for (size_t i = 0; i < kSize; ++i) object[i] = static_cast<char>('a' + i % 23);
  const std::string whole_tail = "bytes 34464-99999/100000";
  std::string range;
  std::string body;
  StubS3 server([&](int, const StubRequest&) -> std::optional<StubS3::Twist> {
    return StubS3::Twist{.instead = true,
                         .reply = {.status = 206, .headers = {{"Content-Range", range}}, .body = body}};
  });
  auto store = server.store();
  // The request that opens brings the end.
  range = whole_tail, body = object.substr(kSize - kTail);
  auto reader = store->open("p");
  ASSERT_TRUE(reader) << reader.error().what;
  EXPECT_EQ((*reader)->size(), kSize);
  Bytes out(4);
  body = "none";  // of the end nothing is asked again
  ASSERT_TRUE((*reader)->read(kSize - 4, out));
  EXPECT_EQ(as_text(out), object.substr(kSize - 4));
  ASSERT_TRUE((*reader)->read(kSize - kTail, out));
  EXPECT_EQ(as_text(out), object.substr(kSize - kTail, 4));
  EXPECT_FALSE((*reader)->read(kSize - 3, out)) << "beyond the end";
  range = "bytes 2-5/100000", body = "2345";
  ASSERT_TRUE((*reader)->read(2, out));
  EXPECT_EQ(as_text(out), "2345");
  body = "234";
  EXPECT_FALSE((*reader)->read(2, out));
  range = "bytes 3-6/100000", body = "3456";
  EXPECT_EQ((*reader)->read(2, out).error().kind, ErrorKind::kDamaged);
  range = "bytes 2-5/9", body = "2345";
  EXPECT_EQ((*reader)->read(2, out).error().kind, ErrorKind::kDamaged) << "the object is another one";
  body = "23456789";
  EXPECT_FALSE((*reader)->read(2, out));
  // An end that is not the end, or not as long as it says.
  for (const char* wrong : {"bytes 34463-99998/100000", "bytes 34464-99999/99999", "bytes 34464-99999/1",
                            "bytes 34464-99999/*", "bytes */100000", "", "34464"}) {
    range = wrong, body = object.substr(kSize - kTail);
    auto refused = store->open("p");
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().kind, ErrorKind::kDamaged) << wrong;
  }
  range = whole_tail, body = object.substr(kSize - kTail + 1);
  EXPECT_FALSE(store->open("p"));
  // What is smaller is there as a whole.
  range = "bytes 0-9/10", body = "0123456789";
  reader = store->open("p");
  ASSERT_TRUE(reader) << reader.error().what;
  ASSERT_TRUE((*reader)->read(2, out));
  EXPECT_EQ(as_text(out), "2345");
}

TEST(S3FaultsTest, a_skewed_clock_is_mended_by_the_stores_own_date_P61_P73) {
  StubS3 server([](int number, const StubRequest& request) -> std::optional<StubS3::Twist> {
    if (number > 1) {
      EXPECT_TRUE(request.headers.at("x-amz-date").starts_with("20200101T"))
          << request.headers.at("x-amz-date");
      return std::nullopt;
    }
    StubReply skewed = error(403, "RequestTimeTooSkewed");
    skewed.headers = {{"Date", "Wed, 01 Jan 2020 00:00:00 GMT"}};
    return StubS3::Twist{.instead = true, .reply = skewed};
  });
  ASSERT_TRUE(server.store()->put_if_absent("commits/a", as_bytes("mine")));
}

// A store that passes over what it does not know would take the words of a lock for the object (seen at
// OpenStack Swift).
TEST(S3FaultsTest, a_store_without_locks_is_never_asked_to_lock_P73) {
  StubS3 server;
  auto store = server.store();
  ASSERT_TRUE(store->put_if_absent("packs/00/a", as_bytes("Hello")));
  Retention& retention = *store->retention();
  EXPECT_EQ(retention.retained_until("packs/00/a").error().kind, ErrorKind::kRefused);
  EXPECT_EQ(retention.retain_until("packs/00/a", system_clock().now() + 1h).error().kind,
            ErrorKind::kRefused);
  EXPECT_EQ(retention.legal_hold("packs/00/a").error().kind, ErrorKind::kRefused);
  EXPECT_EQ(retention.set_legal_hold("packs/00/a", true).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(server.count("PUT"), 1u);
  EXPECT_EQ(as_text(*store->get("packs/00/a")), "Hello");
}

TEST(S3FaultsTest, the_region_that_the_store_names_is_taken) {
  StubS3 server([](int number, const StubRequest& request) -> std::optional<StubS3::Twist> {
    if (number > 1) {
      EXPECT_NE(request.headers.at("authorization").find("/ap-northeast-1/s3/"), std::string::npos);
      return std::nullopt;
    }
    return StubS3::Twist{
        .instead = true,
        .reply = {.status = 400,
                  .body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message/><Region>"
                          "ap-northeast-1</Region></Error>"}};
  });
  ASSERT_TRUE(server.store()->put_if_absent("commits/a", as_bytes("mine")));
}

TEST(S3FaultsTest, path_and_virtual_host_style_and_dots_P73) {
  StubS3 server;
  server.objects["/v/a"] = "1";
  auto store = server.store([](S3Location& location, S3StoreOptions&) {
    location.style = S3Location::Style::kVirtualHost;
    // A name below localhost is this machine's for libcurl too.
    location.endpoint.replace(location.endpoint.find("127.0.0.1"), 9, "localhost");
  });
  ASSERT_TRUE(store->get("a"));
  StubRequest request = server.requests().at(0);
  EXPECT_TRUE(request.headers.at("host").starts_with("bucket.localhost")) << request.headers.at("host");
  EXPECT_EQ(request.target, "/v/a");
}

TEST(S3FaultsTest, what_lies_in_cold_storage_is_refused_with_the_next_step) {
  bool thawing = false;
  StubS3 server([&](int, const StubRequest& request) -> std::optional<StubS3::Twist> {
    auto with = [](StubReply reply) { return StubS3::Twist{.instead = true, .reply = std::move(reply)}; };
    if (request.method == "HEAD") {
      StubReply head{.headers = {{"x-amz-storage-class", "GLACIER"}}, .body = "12345"};
      if (thawing) head.headers.push_back({"x-amz-restore", "ongoing-request=\"true\""});
      return with(head);
    }
    if (request.method == "POST") {
      EXPECT_EQ(request.target, "/bucket/v/p?restore=");
      EXPECT_NE(request.body.find("<Days>3</Days>"), std::string::npos);
      if (thawing) return with(error(409, "RestoreAlreadyInProgress"));
      thawing = true;
      return with({.status = 202});
    }
    return with(error(403, "InvalidObjectState"));
  });
  auto store = server.store();
  Result<Bytes> got = store->get("p");
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::kRefused);
  EXPECT_NE(got.error().next.find("kuramori thaw"), std::string::npos);
  EXPECT_EQ(store->tiers()->tier("p")->state, Tiers::State::kCold);
  EXPECT_EQ(store->tiers()->tier("p")->storage_class, "GLACIER");
  ASSERT_TRUE(store->tiers()->thaw("p", 3, Tiers::Speed::kBulk));
  EXPECT_EQ(store->tiers()->tier("p")->state, Tiers::State::kThawing);
  ASSERT_TRUE(store->tiers()->thaw("p", 3, Tiers::Speed::kBulk)) << "asking again is no error";
}

// What must be read back first is put where it can be, and moved then: by a copy onto itself, which a store
// may begin to answer with 200 and end with an error.
TEST(S3FaultsTest, what_goes_cold_is_moved_after_it_was_read_back_B9) {
  std::string stands_in = "STANDARD", says = "<CopyObjectResult/>";
  StubS3 server([&](int, const StubRequest& request) -> std::optional<StubS3::Twist> {
    auto with = [](StubReply reply) { return StubS3::Twist{.instead = true, .reply = std::move(reply)}; };
    if (request.method == "HEAD")
      return with({.headers = {{"x-amz-storage-class", stands_in}}, .body = "12345"});
    if (request.headers.contains("x-amz-copy-source")) return with({.body = says});
    return {};
  });
  auto in_class = [](S3Location& location, S3StoreOptions&) {
    location.storage_class = "GLACIER";
    location.class_prefix = "packs/";
  };
  auto store = server.store(in_class);
  store->tiers()->put_readable();
  ASSERT_TRUE(store->put_if_absent("packs/00/a", as_bytes("Hello")));
  EXPECT_FALSE(server.requests().at(0).headers.contains("x-amz-storage-class"));
  ASSERT_TRUE(store->tiers()->settle("packs/00/a"));
  const StubRequest move = server.requests().back();
  EXPECT_EQ(move.method, "PUT");
  EXPECT_EQ(move.target, "/bucket/v/packs/00/a");
  EXPECT_EQ(move.headers.at("x-amz-copy-source"), "bucket/v/packs/00/a");
  EXPECT_EQ(move.headers.at("x-amz-metadata-directive"), "COPY");
  EXPECT_EQ(move.headers.at("x-amz-storage-class"), "GLACIER");
  EXPECT_EQ(move.headers.at("x-amz-acl"), "bucket-owner-full-control");
  EXPECT_TRUE(move.body.empty());
  says = "<Error><Code>InternalError</Code></Error>";
  EXPECT_FALSE(store->tiers()->settle("packs/00/a"));
  // What lies there already, and what never goes there, is left alone.
  const size_t requests = server.requests().size();
  ASSERT_TRUE(store->tiers()->settle("commits/a"));
  EXPECT_EQ(server.requests().size(), requests);
  stands_in = "GLACIER";
  ASSERT_TRUE(store->tiers()->settle("packs/00/a"));
  EXPECT_EQ(server.requests().back().method, "HEAD");
  // A lock would keep the first version too.
  stands_in = "STANDARD";
  auto locked = server.store([&](S3Location& location, S3StoreOptions& options) {
    in_class(location, options);
    location.lock = Period::of_seconds(86400);
  });
  ASSERT_TRUE(locked->tiers()->settle("packs/00/a"));
  EXPECT_EQ(server.requests().back().method, "HEAD");
}

// --- uploads -----------------------------------------------------------------------------------------

// Uploads of several parts, on a server that loses answers where it is told to.
class StubUploads {
 public:
  explicit StubUploads(std::function<std::optional<StubReply>(const StubRequest&, int attempt)> lose)
      : lose_(std::move(lose)), stub_([this](const StubRequest& request) { return answer(request); }) {}

  Result<void> write(ByteView bytes) {
    S3Location location{.bucket = "bucket", .prefix = "v", .endpoint = stub_.url()};
    S3StoreOptions options;
    options.part_bytes = 1000;
    options.credentials = fixed_credentials("AK", Secret::copy_of(as_bytes("SK")));
    options.limits.timeouts = {.connect = 2s, .first_byte = 300ms, .stall = 300ms, .total = 5s};
    options.limits.attempts_max = 4;
    TRY_ASSIGN(std::unique_ptr<Store> store, open_s3_store(location, std::move(options)));
    TRY_ASSIGN(std::unique_ptr<ObjectWriter> writer, store->create("p"));
    TRY(writer->append(bytes));
    return writer->commit();
  }
  std::optional<std::string> object;
  int aborts = 0;

 private:
  StubReply answer(const StubRequest& request) {
    std::lock_guard hold(mutex_);
    std::string what = request.method + " " + request.target;
    int attempt = ++attempts_[what];
    std::optional<StubReply> lost = lose_(request, attempt);
    if (lost && lost->status == 0) {  // not done at all
      lost->status = 500;
      return *lost;
    }
    StubReply honest = do_it(request);
    return lost ? *lost : honest;
  }
  StubReply do_it(const StubRequest& request) {
    if (request.method == "HEAD") {
      if (!object) return error(404, "NoSuchKey");
      return {.headers = {{"x-amz-meta-kuramori-put", token_}}, .body = *object};
    }
    if (request.target.find("?uploads") != std::string::npos) {
      begun_token_ = request.headers.at("x-amz-meta-kuramori-put");
      return {.body =
                  "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"};
    }
    size_t number_at = request.target.find("partNumber=");
    if (number_at != std::string::npos) {
      int number = std::stoi(request.target.substr(number_at + 11));
      EXPECT_TRUE(!parts_.contains(number) || parts_[number] == request.body)
          << "other bytes under the same number";
      parts_[number] = request.body;
      return {.headers = {{"ETag", fmt::format("\"part-{}\"", number)}}};
    }
    if (request.method == "DELETE") {
      ++aborts;
      return {.status = 204};
    }
    if (object) return error(404, "NoSuchUpload");
    std::string whole;
    for (auto& [number, bytes] : parts_) {
      EXPECT_NE(request.body.find(fmt::format("<PartNumber>{}</PartNumber>", number)), std::string::npos);
      whole += bytes;
    }
    object = whole;
    token_ = begun_token_;
    return {.body = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"};
  }

  std::function<std::optional<StubReply>(const StubRequest&, int)> lose_;
  std::mutex mutex_;
  std::map<std::string, int> attempts_;
  std::map<int, std::string> parts_;
  std::string token_, begun_token_;
  HttpStub stub_;
};

std::string many_bytes() {
  std::string bytes;
  while (bytes.size() < 7'300) bytes += fmt::format("{} ", bytes.size());
  return bytes;
}

TEST(S3UploadTest, parts_whose_answer_is_lost_are_sent_again_byte_for_byte) {
  StubUploads server([](const StubRequest& request, int attempt) -> std::optional<StubReply> {
    bool third_or_fifth = request.target.find("partNumber=3") != std::string::npos ||
                          request.target.find("partNumber=5") != std::string::npos;
    if (third_or_fifth && attempt < 3)
      return StubReply{.status = attempt == 1 ? 0 : 200, .end = End::kNoAnswer};
    return std::nullopt;
  });
  std::string bytes = many_bytes();
  Result<void> written = server.write(as_bytes(bytes));
  ASSERT_TRUE(written) << written.error().what << written.error().why;
  EXPECT_EQ(server.object, bytes);
  EXPECT_EQ(server.aborts, 0);
}

TEST(S3UploadTest, an_end_whose_answer_is_lost_is_found) {
  for (bool done : {true, false}) {
    StubUploads server([&](const StubRequest& request, int attempt) -> std::optional<StubReply> {
      bool end = request.method == "POST" && request.target.find("uploadId=") != std::string::npos;
      if (end && attempt == 1) return StubReply{.status = done ? 200 : 0, .end = End::kNoAnswer};
      return std::nullopt;
    });
    std::string bytes = many_bytes();
    Result<void> written = server.write(as_bytes(bytes));
    ASSERT_TRUE(written) << written.error().what << written.error().why;
    EXPECT_EQ(server.object, bytes);
  }
}

TEST(S3UploadTest, an_end_that_says_error_in_a_200_is_no_success_P30) {
  StubUploads server([&](const StubRequest& request, int) -> std::optional<StubReply> {
    bool end = request.method == "POST" && request.target.find("uploadId=") != std::string::npos;
    if (!end) return std::nullopt;
    return StubReply{.status = 0, .body = ""};
  });
  EXPECT_FALSE(server.write(as_bytes(many_bytes())));
  EXPECT_FALSE(server.object);
  EXPECT_EQ(server.aborts, 1);

  StubUploads lying([&](const StubRequest& request, int) -> std::optional<StubReply> {
    // As Amazon does it: 200 first, the error in the body; and the object is not there.
    if (request.method == "HEAD") return error(404, "NoSuchKey");
    bool end = request.method == "POST" && request.target.find("uploadId=") != std::string::npos;
    if (!end) return std::nullopt;
    return StubReply{.status = 200, .body = xml_error("InternalError")};
  });
  Result<void> written = lying.write(as_bytes(many_bytes()));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kUnknown);
}

TEST(S3UploadTest, what_others_made_meanwhile_stands) {
  StubUploads server([](const StubRequest&, int) { return std::nullopt; });
  server.object = "theirs";
  Result<void> written = server.write(as_bytes(many_bytes()));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kExists);
  EXPECT_EQ(server.object, "theirs");
  EXPECT_EQ(server.aborts, 1);
}

TEST(S3UploadTest, a_part_that_fails_for_good_fails_the_object_and_leaves_nothing) {
  StubUploads server([](const StubRequest& request, int) -> std::optional<StubReply> {
    if (request.target.find("partNumber=2") == std::string::npos) return std::nullopt;
    return error(403, "AccessDenied");
  });
  Result<void> written = server.write(as_bytes(many_bytes()));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kDenied);
  EXPECT_FALSE(server.object);
  EXPECT_EQ(server.aborts, 1);
}

}  // namespace
}  // namespace kuramori
