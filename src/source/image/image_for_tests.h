// A real registry for the tests of this folder, and images to put into it.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codec/unpack.h"
#include "os/file.h"
#include "os/process.h"
#include "source/image/image_source.h"
#include "source/image/registry.h"

namespace kuramori::image {

int free_port();
Bytes gzip_of(ByteView plain);

// Debian's docker-registry on the loopback, its content in a folder of its own.
class TestRegistry {
 public:
  // `more`: lines of its configuration.
  explicit TestRegistry(std::string more = {});
  ~TestRegistry() { stop(); }
  TestRegistry(const TestRegistry&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::string target(const std::string& prefix) const {
    return "docker://127.0.0.1:" + std::to_string(port_) + "/" + prefix;
  }
  Registry& client() { return *client_; }
  void start();
  void stop();
  // The file its storage keeps a blob in.
  std::string blob_file(const ContentDigest& digest) const;
  // The file by which a repository of its storage has that blob.
  std::string link_file(const std::string& repository, const ContentDigest& digest) const;
  // "team/app:v1 sha256:…" a line, of all repositories whose names do not begin with `without`.
  std::string listing(const std::string& without = "\n");

 private:
  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-registry");
  const int port_ = free_port();
  std::string more_;
  std::unique_ptr<Child> server_;
  std::unique_ptr<Registry> client_;
};

// A manifest with what it refers to.
struct MadeImage {
  std::string media_type, platform;
  Bytes manifest;
  ContentDigest digest;
  std::vector<std::pair<ContentDigest, Bytes>> blobs;
  std::vector<MadeImage> children;  // of an index
};
// Of layers with this content.
MadeImage make_image(const std::vector<std::string>& layers, const std::string& platform = "linux/amd64",
                     Packing packing = Packing::kGzip);
MadeImage make_index(std::vector<MadeImage> images);
// With `subject` and an artifact's type: a signature.
MadeImage make_referrer(const MadeImage& subject, const std::string& content);
void push(Registry& registry, const std::string& repository, const std::string& tag, const MadeImage& image);

}  // namespace kuramori::image
