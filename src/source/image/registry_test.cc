// The client, against registries that want tokens, turn away, break off and lie. What answers are is written
// here; that real registries answer so is for contract_test.cc and servers_test.cc.
#include "source/image/registry.h"

#include <fmt/core.h>

#include <atomic>
#include <thread>

#include "source/image/auth.h"
#include "source/image/discover.h"
#include "source/image/image_for_tests.h"
#include "testing/http/http_stub.h"

namespace kuramori::image {
namespace {

std::unique_ptr<Registry> client_of(const HttpStub& stub, RegistrySettings settings = {}) {
  settings.url = stub.url();
  return std::move(Registry::open(std::move(settings))).value();
}

StubReply not_found() {
  return {.status = 404,
          .headers = {},
          .body = R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})"};
}

Result<Bytes> read_blob(Registry& registry, const ContentDigest& digest, uint64_t size) {
  Bytes out;
  auto take = [&](ByteView bytes) -> Result<void> {
    append(out, bytes);
    return {};
  };
  TRY(registry.blob("team/app", digest, size, take, {}));
  return out;
}

TEST(ImageNames, are_names_and_nothing_else) {
  for (const char* good : {"a", "team/app", "a.b/c_d/e__f/g--h", "0"})
    EXPECT_TRUE(is_repository(good)) << good;
  for (const char* bad : {"", "/a", "a/", "a//b", "A", "a/../b", "..", "a.", "a___b", "a:b", "a b", "a/."})
    EXPECT_FALSE(is_repository(bad)) << bad;
  EXPECT_FALSE(is_repository(std::string(256, 'a')));
  for (const char* good : {"v1", "_x", "1.0-rc.1", "LATEST"}) EXPECT_TRUE(is_tag(good)) << good;
  for (const char* bad : {"", ".x", "-x", "a/b", "../x", "a b", "a\nb"}) EXPECT_FALSE(is_tag(bad)) << bad;
  const std::string digits(64, 'a');
  EXPECT_TRUE(ContentDigest::parse("sha256:" + digits));
  EXPECT_TRUE(ContentDigest::parse("sha512:" + digits + digits));
  for (const std::string& bad :
       {"sha256:" + digits + "a", "sha256:" + std::string(64, 'A'), "md5:" + digits,
        "sha256:../../../" + digits.substr(9), std::string("sha256"), digits, std::string()})
    EXPECT_FALSE(ContentDigest::parse(bad)) << bad;
}

TEST(ImageNames, are_wanted_as_a_person_writes_them) {
  auto wanted = parse_wanted("team/api:v1");
  ASSERT_TRUE(wanted);
  EXPECT_EQ(wanted->repository, "team/api");
  EXPECT_EQ(wanted->tag, "v1");
  wanted = parse_wanted("base:v1@sha256:" + std::string(64, '0'));
  ASSERT_TRUE(wanted);
  EXPECT_EQ(wanted->repository, "base");
  EXPECT_EQ(wanted->digest.hex(), std::string(64, '0'));
  for (const char* good : {"team/*", "**", "app:v*", "team/*:1.*"}) EXPECT_TRUE(parse_wanted(good)) << good;
  for (const char* bad : {"", "Team/app", "app:", "app@sha256:1", "https://h/app", "a*@sha256:1", "app:a b"})
    EXPECT_FALSE(parse_wanted(bad)) << bad;
  EXPECT_TRUE(matches("team/*", "team/app"));
  EXPECT_FALSE(matches("team/*", "team/app/x"));
  EXPECT_TRUE(matches("**", "team/app/x"));
  EXPECT_TRUE(matches("te*/a*p", "team/app"));
  EXPECT_FALSE(matches("team", "team/app"));
  EXPECT_TRUE(names_image("team/app", "team/app:v1"));
  EXPECT_TRUE(names_image("team/app:v*", "team/app:v1"));
  EXPECT_FALSE(names_image("team/app", "team/app2:v1"));
}

TEST(ImageManifests, that_cannot_be_meant_are_damaged) {
  const auto kind_of = [](std::string_view text) {
    auto parsed = parse_manifest(as_bytes(text), "");
    return parsed ? std::string("read") : std::string(name_of(parsed.error().kind));
  };
  const std::string digest = "sha256:" + std::string(64, '1');
  const std::string layer = fmt::format(R"({{"layers":[{{"digest":"{}","size":SIZE}}]}})", digest);
  const auto with = [&](std::string_view size) {
    std::string text = layer;
    return text.replace(text.find("SIZE"), 4, size);
  };
  const std::string damaged(name_of(ErrorKind::kDamaged));
  EXPECT_EQ(kind_of(with("7")), "read");
  for (const char* size : {"-1", "1.5", "\"7\"", "null", "18446744073709551615"})
    EXPECT_EQ(kind_of(with(size)), damaged) << size;
  EXPECT_EQ(kind_of(R"({"layers":[{"digest":"sha256:../../etc/passwd","size":1}]})"), damaged);
  EXPECT_EQ(kind_of(R"({"layers":{}})"), damaged);
  EXPECT_EQ(kind_of(R"({"manifests":[1]})"), damaged);
  EXPECT_EQ(kind_of("[]"), damaged);
  EXPECT_EQ(kind_of("{"), damaged);
  EXPECT_EQ(kind_of(R"({"schemaVersion":1,"fsLayers":[]})"), name_of(ErrorKind::kUsage));
  EXPECT_EQ(kind_of(std::string(100'000, '[')), damaged);
  EXPECT_EQ(kind_of("{\"a\":[" + std::string(600'000, ',')), damaged);
  auto opaque = parse_manifest(as_bytes(R"({"anything":"else"})"), "application/x.unknown");
  ASSERT_TRUE(opaque);
  EXPECT_EQ(opaque->form, Manifest::Form::kOpaque);
  EXPECT_EQ(opaque->media_type, "application/x.unknown");
}

TEST(ImageAuth, reads_challenges) {
  auto challenge = parse_challenge(
      R"(Bearer realm="https://auth.example/token",service="registry, of us",scope="repository:a:pull,push")");
  ASSERT_TRUE(challenge);
  EXPECT_EQ(challenge->realm, "https://auth.example/token");
  EXPECT_EQ(challenge->service, "registry, of us");
  EXPECT_EQ(challenge->scope, "repository:a:pull,push");
  challenge = parse_challenge(R"(Basic realm="x", bearer Realm="https://a/t" , service=s)");
  ASSERT_TRUE(challenge);
  EXPECT_EQ(challenge->scheme, Challenge::Scheme::kBearer);
  EXPECT_EQ(challenge->service, "s");
  challenge = parse_challenge("Basic");
  ASSERT_TRUE(challenge);
  EXPECT_EQ(challenge->scheme, Challenge::Scheme::kBasic);
  for (const char* none : {"", "Negotiate", "Bearer", ",,,", "Digest realm=\"x\"", "\"", "Bearer realm"})
    EXPECT_FALSE(parse_challenge(none)) << none;
  EXPECT_FALSE(parse_token(as_bytes("{}")));
  EXPECT_FALSE(parse_token(as_bytes("{\"token\":\"a\\r\\nX: y\"}")));
  EXPECT_EQ(words_of(as_bytes("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"\\u001b[31mno\"}]}")),
            "DENIED: ?[31mno");
}

TEST(ImageAuth, a_token_is_asked_for_once_and_again_when_it_ends) {
  std::atomic<int> tokens = 0, unwanted = 0;
  std::string base;
  HttpStub stub([&](const StubRequest& request) -> StubReply {
    const auto given = request.headers.find("authorization");
    const std::string authorization = given == request.headers.end() ? "" : given->second;
    if (request.target.starts_with("/token")) {
      if (authorization != "Basic " + to_base64(as_bytes("joe:secret"))) return {.status = 401};
      if (request.target.find("scope=repository%3Ateam%2Fapp%3Apull") == std::string::npos) ++unwanted;
      return {.body = fmt::format(R"({{"token":"t{}","expires_in":300}})", ++tokens)};
    }
    if (authorization != fmt::format("Bearer t{}", tokens.load()) || tokens == 0) {
      return {.status = 401,
              .headers = {{"WWW-Authenticate", fmt::format(R"(Bearer realm="{}/token",service="s")", base)}}};
    }
    return {.body = R"({"name":"team/app","tags":["v1"]})"};
  });
  base = stub.url();
  auto registry = client_of(stub, {.user = "joe", .password = "secret"});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(registry->tags("team/app", {}));
  EXPECT_EQ(tokens, 1);
  ++tokens;  // the old one counts no longer
  ASSERT_TRUE(registry->tags("team/app", {}));
  EXPECT_EQ(tokens, 3);
  EXPECT_EQ(unwanted, 0);
  auto stranger = client_of(stub, {.user = "joe", .password = "wrong"});
  auto refused = stranger->tags("team/app", {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kDenied);
  EXPECT_EQ((refused.error().what + refused.error().why).find("wrong"), std::string::npos);
}

TEST(ImageAuth, credentials_do_not_follow_to_where_blobs_are_stored) {
  const Bytes content = to_bytes(as_bytes("layer"));
  const ContentDigest digest = ContentDigest::sha256_of(content);
  std::atomic<int> leaked = 0, asked = 0;
  HttpStub storage([&](const StubRequest& request) -> StubReply {
    ++asked;
    if (request.headers.contains("authorization")) ++leaked;
    return {.body = "layer"};
  });
  HttpStub stub([&](const StubRequest& request) -> StubReply {
    if (!request.headers.contains("authorization"))
      return {.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
    return {.status = 307, .headers = {{"Location", storage.url() + "/bucket/key?signature=x"}}};
  });
  auto registry = client_of(stub, {.user = "joe", .password = "secret"});
  auto read = read_blob(*registry, digest, content.size());
  ASSERT_TRUE(read) << read.error().what;
  EXPECT_EQ(*read, content);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(leaked, 0);
}

TEST(ImageAuth, nothing_secret_goes_without_TLS_to_another_machine) {
  EXPECT_FALSE(Registry::open({.url = "http://registry.example"}));
  EXPECT_TRUE(Registry::open({.url = "http://registry.example", .insecure = true}));
  EXPECT_TRUE(Registry::open({.url = "https://registry.example"}));
  EXPECT_FALSE(Registry::open({.url = "https://joe:secret@registry.example"}));
  HttpStub stub([](const StubRequest&) -> StubReply {
    return {.status = 401,
            .headers = {{"WWW-Authenticate", R"(Bearer realm="http://token.example/token",service="s")"}}};
  });
  auto registry = client_of(stub, {.user = "joe", .password = "secret"});
  auto refused = registry->tags("team/app", {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  HttpStub circles(
      [](const StubRequest&) -> StubReply { return {.status = 302, .headers = {{"Location", "/v2/"}}}; });
  auto around = client_of(circles)->tags("team/app", {});
  ASSERT_FALSE(around);
  EXPECT_NE(around.error().what.find("circles"), std::string::npos);
}

TEST(ImageTargets, say_what_they_mean) {
  auto target = parse_target("docker://127.0.0.1:5000/a/b/", false);
  ASSERT_TRUE(target);
  EXPECT_EQ(target->url, "http://127.0.0.1:5000");
  EXPECT_EQ(target->prefix, "a/b");
  EXPECT_EQ(parse_target("docker://127.0.0.1:5000", true)->url, "https://127.0.0.1:5000");
  EXPECT_EQ(parse_target("docker://registry.example", false)->url, "https://registry.example");
  EXPECT_EQ(parse_target("docker+http://registry.example", false)->url, "http://registry.example");
  for (const char* bad :
       {"docker://", "docker:///a", "docker://h/A", "docker://h/../x", "http://h", "docker://a b/c"})
    EXPECT_FALSE(parse_target(bad, false)) << bad;
}

// A blob in every way a line or a registry can spoil it.
TEST(ImageBlobs, that_break_off_are_gone_on_with_where_they_stopped) {
  std::string text(1 << 20, 'x');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * 7 % 23);
  const ContentDigest digest = ContentDigest::sha256_of(as_bytes(text));
  for (const bool knows_ranges : {true, false}) {
    std::atomic<int> number = 0;
    std::atomic<uint64_t> given = 0;
    HttpStub stub([&](const StubRequest& request) -> StubReply {
      const bool breaks = ++number <= 3;
      StubReply reply{.body = text};
      const auto range = request.headers.find("range");
      if (range != request.headers.end() && knows_ranges) {
        const size_t from = std::stoul(range->second.substr(6));
        reply.status = 206;
        reply.headers = {
            {"Content-Range", fmt::format("bytes {}-{}/{}", from, text.size() - 1, text.size())}};
        reply.body = text.substr(from);
      }
      if (breaks) reply.end = StubReply::End::kHalfBody;
      given += breaks ? reply.body.size() / 2 : reply.body.size();
      return reply;
    });
    auto registry = client_of(stub);
    auto read = read_blob(*registry, digest, text.size());
    ASSERT_TRUE(read) << read.error().what << read.error().why;
    EXPECT_EQ(as_text(*read), text);
    EXPECT_EQ(number, 4);
    if (knows_ranges) {
      EXPECT_EQ(given, text.size());  // nothing came twice
    }
  }
}

TEST(ImageBlobs, that_are_not_what_their_digest_says_are_never_good) {
  const std::string text = "the layer";
  const ContentDigest digest = ContentDigest::sha256_of(as_bytes(text));
  struct Lie {
    const char* what;
    std::string body;
  };
  for (const Lie& lie : {Lie{"other bytes", "the Layer"}, Lie{"too few", "the"},
                         Lie{"too many", text + std::string(1 << 20, '!')}, Lie{"none", ""}}) {
    HttpStub stub([&](const StubRequest& request) -> StubReply {
      if (request.headers.contains("range")) return {.status = 416};
      return {.body = lie.body};
    });
    auto read = read_blob(*client_of(stub), digest, text.size());
    ASSERT_FALSE(read) << lie.what;
    EXPECT_EQ(read.error().kind, ErrorKind::kDamaged) << lie.what;
  }
  HttpStub gone([](const StubRequest&) { return not_found(); });
  auto read = read_blob(*client_of(gone), digest, text.size());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kNotFound);
  HttpStub lying([&](const StubRequest&) -> StubReply {
    return {.headers = {{"Content-Type", std::string(kOciManifest)}},
            .body = R"({"schemaVersion":2,"layers":[]})"};
  });
  auto manifest = client_of(lying)->manifest("team/app", digest.text(), {});
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().kind, ErrorKind::kDamaged);
}

TEST(ImageRegistry, waits_as_it_is_told_and_tries_again) {
  std::atomic<int> asked = 0;
  HttpStub stub([&](const StubRequest&) -> StubReply {
    if (++asked == 1) return {.status = 429, .headers = {{"Retry-After", "1"}}};
    if (asked == 2) return {.status = 503};
    return {.body = R"({"tags":["v1"]})"};
  });
  const Duration begun = system_clock().steady();
  auto tags = client_of(stub)->tags("team/app", {});
  ASSERT_TRUE(tags);
  EXPECT_EQ(asked, 3);
  EXPECT_GE(system_clock().steady() - begun, std::chrono::seconds(1));
  // Whoever is asked to stop does not wait to the end.
  HttpStub busy(
      [&](const StubRequest&) -> StubReply { return {.status = 429, .headers = {{"Retry-After", "100"}}}; });
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.request_stop();
  });
  auto stopped = client_of(busy)->tags("team/app", stop.get_token());
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
}

TEST(ImageRegistry, lists_go_over_pages_and_end) {
  HttpStub stub([&](const StubRequest& request) -> StubReply {
    if (request.target.find("last=b") != std::string::npos) return {.body = R"({"tags":["c"]})"};
    return {.headers = {{"Link", "</v2/team/app/tags/list?n=1000&last=b>; rel=\"next\""}},
            .body = R"({"tags":["b","a","a"]})"};
  });
  auto tags = client_of(stub)->tags("team/app", {});
  ASSERT_TRUE(tags);
  EXPECT_EQ(*tags, (std::vector<std::string>{"a", "b", "c"}));
  std::atomic<int> page = 0;
  HttpStub endless([&](const StubRequest&) -> StubReply {
    return {.headers = {{"Link", fmt::format("</v2/team/app/tags/list?page={}>; rel=\"next\"", ++page)}},
            .body = R"({"tags":[]})"};
  });
  auto refused = client_of(endless)->tags("team/app", {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kDamaged);
  // A next page on another server is none of this registry.
  HttpStub elsewhere([&](const StubRequest&) -> StubReply {
    return {.headers = {{"Link", "<http://127.0.0.1:1/x>; rel=\"next\""}}, .body = R"({"tags":["a"]})"};
  });
  EXPECT_EQ(client_of(elsewhere)->tags("team/app", {})->size(), 1u);
}

// A registry in a few lines: what it is asked for by path.
class Scripted {
 public:
  std::map<std::string, StubReply> answers;
  void add(const std::string& repository, const MadeImage& image, const std::string& tag = "") {
    const StubReply reply{
        .headers = {{"Content-Type", image.media_type}, {"Docker-Content-Digest", image.digest.text()}},
        .body = std::string(as_text(image.manifest))};
    answers[fmt::format("/v2/{}/manifests/{}", repository, image.digest.text())] = reply;
    if (!tag.empty()) answers[fmt::format("/v2/{}/manifests/{}", repository, tag)] = reply;
    for (const auto& [digest, bytes] : image.blobs)
      answers[fmt::format("/v2/{}/blobs/{}", repository, digest.text())] = {.body =
                                                                                std::string(as_text(bytes))};
    for (const MadeImage& child : image.children) add(repository, child);
  }
  HttpStub stub{[this](const StubRequest& request) -> StubReply {
    const std::string path = request.target.substr(0, request.target.find('?'));
    if (path == "/v2/") return {.body = "{}"};
    const auto found = answers.find(path);
    return found == answers.end() ? not_found() : found->second;
  }};
  Result<Discovered> discover(const std::vector<std::string>& images,
                              std::vector<std::string> platforms = {}) {
    auto registry = client_of(stub);
    ManifestCache cache("");
    Selection selection{.images = {}, .platforms = std::move(platforms)};
    for (const std::string& one : images) selection.images.push_back(parse_wanted(one).value());
    return image::discover(*registry, selection, cache, silent_reporter(), {});
  }
};

TEST(ImageDiscovery, names_of_a_hostile_list_go_nowhere) {
  Scripted registry;
  const MadeImage image = make_image({"a"});
  registry.add("team/app", image, "v1");
  registry.answers["/v2/team/app/tags/list"] = {.body = R"({"tags":["v1","../../../etc/passwd","a b",""]})"};
  auto found = registry.discover({"team/app"});
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_EQ(found->set.images.size(), 1u);
  ASSERT_EQ(found->defects.size(), 1u);
  EXPECT_NE(found->defects[0].why.find("3 tag(s)"), std::string::npos) << found->defects[0].why;
}

TEST(ImageDiscovery, indexes_that_go_too_deep_end) {
  Scripted registry;
  MadeImage image = make_image({"a"});
  for (int i = 0; i < 20; ++i) {
    image.platform = "linux/amd64";
    image = make_index({image});
  }
  registry.add("team/app", image, "v1");
  registry.add("team/app", make_image({"b"}), "v2");
  auto found = registry.discover({"team/app:v1", "team/app:v2"});
  ASSERT_TRUE(found) << found.error().what;
  ASSERT_EQ(found->defects.size(), 1u);
  EXPECT_NE(found->defects[0].why.find("deeper"), std::string::npos);
}

TEST(ImageDiscovery, what_is_not_there_is_named_and_the_rest_is_kept) {
  Scripted registry;
  const MadeImage there = make_image({"a"}), absent = make_image({"b"}, "linux/arm64");
  MadeImage index = make_index({there, absent});
  index.children.pop_back();
  registry.add("team/app", index, "v1");
  auto found = registry.discover({"team/app:v1", "team/app:v9"});
  ASSERT_TRUE(found) << found.error().what;
  ASSERT_EQ(found->defects.size(), 2u);
  EXPECT_NE(found->defects[0].why.find("linux/arm64"), std::string::npos) << found->defects[0].why;
  EXPECT_EQ(found->defects[1].path, "team/app:v9");
  EXPECT_EQ(found->set.images.size(), 1u);
  // Nothing at all is no snapshot.
  EXPECT_FALSE(registry.discover({"team/app:v9"}));
  EXPECT_FALSE(registry.discover({"team/none"}));
}

TEST(ImageDiscovery, chosen_platforms_leave_the_index_as_it_is) {
  Scripted registry;
  const MadeImage amd = make_image({"amd"}), arm = make_image({"arm"}, "linux/arm64");
  const MadeImage index = make_index({amd, arm});
  registry.add("team/app", index, "v1");
  auto found = registry.discover({"team/app:v1"}, {"linux/arm64"});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->set.images[0].manifest.digest, index.digest);
  EXPECT_TRUE(found->set.blobs.contains(arm.digest));
  EXPECT_FALSE(found->set.blobs.contains(amd.digest));
  EXPECT_TRUE(found->set.left_out.contains(amd.digest));
  EXPECT_TRUE(found->defects.empty());
  found = registry.discover({"team/app:v1"}, {"windows/amd64"});
  ASSERT_TRUE(found);
  ASSERT_EQ(found->defects.size(), 1u);
}

TEST(ImageDiscovery, signatures_come_along) {
  Scripted registry;
  const MadeImage image = make_image({"a"}), by_tag = make_image({"signature by tag"}),
                  by_api = make_referrer(image, "signature by the API");
  registry.add("team/app", image, "v1");
  const std::string tag = fmt::format("sha256-{}.sig", image.digest.hex());
  registry.add("team/app", by_tag, tag);
  registry.add("team/app", by_api);
  registry.answers["/v2/team/app/tags/list"] = {.body = fmt::format(R"({{"tags":["v1","v2","{}"]}})", tag)};
  registry.answers[fmt::format("/v2/team/app/referrers/{}", image.digest.text())] = {
      .headers = {{"Content-Type", std::string(kOciIndex)}},
      .body =
          fmt::format(R"({{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":{}}}]}})",
                      kOciManifest, by_api.digest.text(), by_api.manifest.size())};
  auto found = registry.discover({"team/app:v1"});
  ASSERT_TRUE(found) << found.error().what;
  std::vector<std::string> names;
  for (const Image& one : found->set.images) names.push_back(one.name());
  EXPECT_EQ(names,
            (std::vector<std::string>{"team/app:" + tag, "team/app:v1", "team/app@" + by_api.digest.text()}));
  EXPECT_TRUE(found->set.blobs.contains(by_api.blobs[1].first));
}

TEST(ImageDiscovery, a_foreign_layer_is_told_and_left_out) {
  Scripted registry;
  MadeImage image = make_image({"a", "foreign"});
  std::string text(as_text(image.manifest));
  const std::string type = "application/vnd.oci.image.layer.v1.tar+gzip";
  text.replace(text.rfind(type), type.size(), "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
  const ContentDigest foreign = image.blobs[1].first;
  image.manifest = to_bytes(as_bytes(text));
  image.digest = ContentDigest::sha256_of(image.manifest);
  image.blobs.erase(image.blobs.begin() + 1);
  registry.add("team/app", image, "v1");
  auto found = registry.discover({"team/app:v1"});
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_TRUE(found->set.left_out.contains(foreign));
  EXPECT_TRUE(found->defects.empty());
}

}  // namespace
}  // namespace kuramori::image
