// What image_for_tests.h promises.
#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <thread>

#include "codec/zstd.h"
#include "source/image/image_for_tests.h"

namespace kuramori::image {

int free_port() {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (!fd.valid() || ::bind(fd.get(), any, size) != 0 || ::getsockname(fd.get(), any, &size) != 0)
    throw std::runtime_error("no free port");
  return ntohs(address.sin_port);
}

Bytes gzip_of(ByteView plain) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
  Bytes out(deflateBound(&stream, plain.size()));
  stream.next_in = const_cast<Bytef*>(plain.data());
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

TestRegistry::TestRegistry(std::string more) : more_(std::move(more)) {
  client_ = std::move(Registry::open({.url = url(), .is_written = true})).value();
  start();
}

void TestRegistry::start() {
  const std::string config = folder_ / "registry.yml";
  write_file_durably(
      config, as_bytes(fmt::format(
                  "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n"
                  "http: {{addr: 127.0.0.1:{}}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n{}",
                  folder_ / "data", port_, more_)))
      .value();
  Streams streams;
  streams.errors = open_file(folder_ / "log", O_WRONLY | O_CREAT | O_APPEND).value();
  server_ = std::make_unique<Child>(
      Child::start({.argv = {"docker-registry", "serve", config}, .die_with_us = true}, std::move(streams))
          .value());
  for (int i = 0; i < 500; ++i) {
    auto greeted = client_->greet({});
    if (greeted || greeted.error().kind == ErrorKind::kDenied) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw std::runtime_error("the registry does not start: " +
                           std::string(as_text(*read_file(folder_ / "log"))));
}

void TestRegistry::stop() {
  if (server_) (void)server_->terminate(std::chrono::seconds(1));
  server_.reset();
}

std::string TestRegistry::blob_file(const ContentDigest& digest) const {
  return folder_ / fmt::format("data/docker/registry/v2/blobs/{}/{}/{}/data", digest.algorithm(),
                               digest.hex().substr(0, 2), digest.hex());
}

std::string TestRegistry::link_file(const std::string& repository, const ContentDigest& digest) const {
  return folder_ / fmt::format("data/docker/registry/v2/repositories/{}/_layers/{}/{}/link", repository,
                               digest.algorithm(), digest.hex());
}

std::string TestRegistry::listing(const std::string& without) {
  std::string all;
  const std::vector<std::string> repositories = client_->catalog({}).value();
  for (const std::string& repository : repositories) {
    if (repository.starts_with(without)) continue;
    auto tags = client_->tags(repository, {});
    if (!tags) continue;
    for (const std::string& tag : *tags)
      all += fmt::format("{}:{} {}\n", repository, tag, client_->resolve(repository, tag, {})->digest.text());
  }
  return all;
}

MadeImage make_image(const std::vector<std::string>& layers, const std::string& platform, Packing packing) {
  MadeImage made{.media_type = std::string(kOciManifest), .platform = platform};
  std::string ids, listed;
  for (const std::string& layer : layers) {
    const ByteView plain = as_bytes(layer);
    Bytes packed = packing == Packing::kGzip   ? gzip_of(plain)
                   : packing == Packing::kZstd ? zstd_compress(plain, 3)
                                               : to_bytes(plain);
    const std::string_view suffix = packing == Packing::kGzip   ? "+gzip"
                                    : packing == Packing::kZstd ? "+zstd"
                                                                : "";
    const ContentDigest digest = ContentDigest::sha256_of(packed);
    ids += fmt::format("{}\"{}\"", ids.empty() ? "" : ",", ContentDigest::sha256_of(plain).text());
    listed +=
        fmt::format(R"({}{{"mediaType":"application/vnd.oci.image.layer.v1.tar{}","digest":"{}","size":{}}})",
                    listed.empty() ? "" : ",", suffix, digest.text(), packed.size());
    made.blobs.emplace_back(digest, std::move(packed));
  }
  const size_t slash = platform.find('/');
  const std::string config = fmt::format(
      R"({{"architecture":"{}","os":"{}","config":{{"Env":["SECRET=in the image"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
      platform.substr(slash + 1), platform.substr(0, slash), ids);
  const ContentDigest digest = ContentDigest::sha256_of(as_bytes(config));
  made.manifest = to_bytes(as_bytes(fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}})",
      kOciManifest, digest.text(), config.size(), listed)));
  made.blobs.emplace_back(digest, to_bytes(as_bytes(config)));
  made.digest = ContentDigest::sha256_of(made.manifest);
  return made;
}

MadeImage make_index(std::vector<MadeImage> images) {
  MadeImage made{.media_type = std::string(kOciIndex)};
  std::string listed;
  for (const MadeImage& image : images) {
    const size_t slash = image.platform.find('/');
    listed += fmt::format(
        R"({}{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"{}","architecture":"{}"}}}})",
        listed.empty() ? "" : ",", image.media_type, image.digest.text(), image.manifest.size(),
        image.platform.substr(0, slash), image.platform.substr(slash + 1));
  }
  made.manifest = to_bytes(
      as_bytes(fmt::format(R"({{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}})", kOciIndex, listed)));
  made.digest = ContentDigest::sha256_of(made.manifest);
  made.children = std::move(images);
  return made;
}

MadeImage make_referrer(const MadeImage& subject, const std::string& content) {
  MadeImage made{.media_type = std::string(kOciManifest)};
  const ContentDigest empty = ContentDigest::sha256_of(as_bytes("{}"));
  const ContentDigest digest = ContentDigest::sha256_of(as_bytes(content));
  made.blobs = {{empty, to_bytes(as_bytes("{}"))}, {digest, to_bytes(as_bytes(content))}};
  made.manifest = to_bytes(as_bytes(fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{}","artifactType":"application/x.signature","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"application/x.signature","digest":"{}","size":{}}}],"subject":{{"mediaType":"{}","digest":"{}","size":{}}}}})",
      kOciManifest, empty.text(), digest.text(), content.size(), subject.media_type, subject.digest.text(),
      subject.manifest.size())));
  made.digest = ContentDigest::sha256_of(made.manifest);
  return made;
}

void push(Registry& registry, const std::string& repository, const std::string& tag, const MadeImage& image) {
  for (const MadeImage& child : image.children) push(registry, repository, child.digest.text(), child);
  for (const auto& [digest, bytes] : image.blobs) {
    if (registry.has_blob(repository, digest, {}).value()) continue;
    const auto read = [&](const std::function<Result<void>(ByteView)>& take) { return take(bytes); };
    auto done = registry.upload(repository, digest, bytes.size(), read, {});
    ASSERT_TRUE(done) << done.error().what << ": " << done.error().why;
  }
  auto done = registry.put_manifest(repository, tag, image.manifest, image.media_type, {});
  ASSERT_TRUE(done) << done.error().what << ": " << done.error().why;
}

}  // namespace kuramori::image
