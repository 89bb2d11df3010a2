// The kind `image` keeps the contract of sources, on a real registry.
#include <fmt/core.h>
#include <unistd.h>

#include <set>

#include "source/image/image_for_tests.h"
#include "source/image/image_set.h"
#include "testing/source_contract.h"

namespace kuramori::image {
namespace {

enum class To : uint8_t { kFolder, kRegistry };

class ImageFixture : public SourceFixture {
 public:
  explicit ImageFixture(To to) : to_(to) {
    for (const char* name : {"targets", "outside", "sandbox"}) make_folders(ground_ / name).value();
    write_new_file(ground_ / "outside/precious", as_bytes("not to be touched")).value();
    change();
    source_ = make_source({.registry = {.url = registry_.url()}, .images = {"team/*"}}).value();
  }

  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override {
    return make_source(
               {.registry = {.url = fmt::format("http://127.0.0.1:{}", free_port())}, .images = {"team/app"}})
        .value();
  }
  void change() override {
    ++generation_;
    const std::string number = std::to_string(generation_);
    const MadeImage one = make_image({"base", "layer " + number});
    const MadeImage other = make_image({"base", "arm " + number}, "linux/arm64", Packing::kZstd);
    keep(make_index({one, other}), "team/app", "v1");
    keep(one, "team/api", "latest");
    keep(make_image({"only " + number}), "team/api", "v" + number);
  }
  bool was_ever(const TreeEntry& entry, std::string_view content) override {
    const ContentDigest digest = digest_of_path(entry.path);
    if (!digest.empty()) return content == as_text(contents_[digest]);
    if (entry.path != kIndexName) return true;
    auto images = parse_index(as_bytes(content));
    if (!images) return false;
    for (const Image& image : *images) {
      if (!contents_.contains(image.manifest.digest)) return false;
    }
    return true;
  }
  std::vector<std::string> make_unreadable() override {
    const ContentDigest digest = make_image({"base"}).blobs[0].first;
    (void)::unlink(registry_.blob_file(digest).c_str());
    return {digest.path()};
  }

  std::string new_target() override {
    const std::string name = fmt::format("new{}", ++targets_);
    return to_ == To::kFolder ? ground_ / ("targets/" + name) : registry_.target("restored/" + name);
  }
  std::string occupied_target() override {
    const std::string target = new_target();
    if (to_ == To::kFolder) {
      make_folders(target).value();
      write_new_file(target + "/something", as_bytes("x")).value();
    } else {
      push(registry_.client(), fmt::format("restored/new{}/team/app", targets_), "v1",
           make_image({"of another"}));
    }
    return target;
  }
  std::vector<std::string> differences(const std::string& target) override {
    const std::string here = registry_.listing("restored/");
    std::string there;
    if (to_ == To::kFolder) {
      const Bytes index = read_file(target + "/index.json").value();
      const std::vector<Image> images = parse_index(index).value();
      for (const Image& image : images)
        there += fmt::format("{} {}\n", image.name(), image.manifest.digest.text());
      for (const auto& [digest, content] : contents_of_tags()) {
        const auto bytes = read_file(join_path(target, digest.path()));
        if (!bytes || !equal(*bytes, content)) there += "without " + digest.text() + "\n";
      }
    } else {
      const std::string prefix = target.substr(target.find("restored/")) + "/";
      for (std::string rest = registry_.listing(); !rest.empty(); rest.erase(0, rest.find('\n') + 1)) {
        const std::string line = rest.substr(0, rest.find('\n') + 1);
        if (line.starts_with(prefix)) there += line.substr(prefix.size());
      }
    }
    if (here == there) return {};
    return {there + "is not\n" + here};
  }
  std::string surroundings(const std::string& target) override {
    std::string all = registry_.listing(
        to_ == To::kRegistry && !target.empty() ? target.substr(target.find("restored/")) : "\n");
    list(ground_.path(), target, all);
    return all;
  }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override { return ground_ / "sandbox"; }
  std::vector<std::string> secrets() override {
    return {"team", "app", "latest", "127.0.0.1", "SECRET", "sha256:"};
  }

 private:
  void keep(const MadeImage& image, const std::string& repository, const std::string& tag) {
    remember(image);
    push(registry_.client(), repository, tag, image);
  }
  void remember(const MadeImage& image) {
    contents_[image.digest] = image.manifest;
    for (const auto& [digest, bytes] : image.blobs) contents_[digest] = bytes;
    for (const MadeImage& child : image.children) remember(child);
  }
  // What the registry's tags stand for now, with the blobs of the last generation.
  std::map<ContentDigest, Bytes> contents_of_tags() {
    std::map<ContentDigest, Bytes> out;
    const std::string number = std::to_string(generation_);
    for (const MadeImage& image : {make_image({"base", "layer " + number}),
                                   make_image({"base", "arm " + number}, "linux/arm64", Packing::kZstd)}) {
      out[image.digest] = image.manifest;
      for (const auto& [digest, bytes] : image.blobs) out[digest] = bytes;
    }
    return out;
  }
  static void list(const std::string& folder, const std::string& without, std::string& into) {
    const std::vector<FolderEntry> entries = list_folder(folder).value();
    for (const FolderEntry& entry : entries) {
      const std::string path = join_path(folder, entry.name);
      if (path == without) continue;
      into += path + "\n";
      if (entry.type == FileType::kFolder) list(path, without, into);
      if (entry.type == FileType::kFile) into += as_text(read_file(path).value());
    }
  }

  const To to_;
  TemporaryFolder ground_ = *TemporaryFolder::make("kuramori-image-contract");
  TestRegistry registry_;
  std::unique_ptr<Source> source_;
  std::map<ContentDigest, Bytes> contents_;
  int generation_ = 0, targets_ = 0;
};

TEST(ImageContract, images_keep_the_contract_of_sources_I5_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<ImageFixture>(To::kFolder); }),
            std::vector<std::string>{});
}
TEST(ImageContract, also_where_they_are_restored_to_a_registry_I5) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<ImageFixture>(To::kRegistry); }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori::image
