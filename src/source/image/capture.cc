// Captures images: what there is was found before the first entry is given; then each blob is read once,
// verified as it passes, and never again, since what a digest names does not change.
#include <fmt/core.h>

#include <algorithm>

#include "source/image/discover.h"
#include "source/image/image_source.h"

namespace kuramori::image {
namespace {

// Stands for the time of a blob's last change, which has none: long ago, and not zero.
constexpr int64_t kUnchanging = 1;

// The first bytes of a digest: the path has the others.
uint64_t number_of(const ContentDigest& digest) {
  uint64_t number = 0;
  for (const char c : digest.hex().substr(0, 16))
    number = number << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  return number;
}

class ImageCapture final : public TreeCapture {
 public:
  ImageCapture(std::unique_ptr<Registry> registry, std::unique_ptr<ManifestCache> cache, Discovered found,
               std::stop_token stop)
      : registry_(std::move(registry)),
        cache_(std::move(cache)),
        found_(std::move(found)),
        stop_(std::move(stop)),
        next_blob_(found_.set.blobs.begin()) {
    documents_ = {{std::string(kIndexName), index_json(found_.set.images)},
                  {std::string(kNotesName), notes_json(found_.set)},
                  {std::string(kLayoutName), layout_json()}};
    // What of the tree comes before the blobs of each algorithm; in tree order as digests are sorted.
    folders_ = {"", std::string(kBlobsFolder)};
  }

  Result<std::optional<CaptureItem>> next() override {
    if (stop_.stop_requested()) return stopped();
    if (next_folder_ < folders_.size()) return folder(folders_[next_folder_++]);
    if (next_blob_ != found_.set.blobs.end()) {
      const auto& [digest, blob] = *next_blob_;
      if (digest.algorithm() != algorithm_) {
        algorithm_ = digest.algorithm();
        return folder(fmt::format("{}/{}", kBlobsFolder, algorithm_));
      }
      ++next_blob_;
      CaptureItem item = file(digest.path(), blob.size);
      item.inode = number_of(digest);
      item.ctime_ns = kUnchanging;
      return std::optional(std::move(item));
    }
    if (next_document_ < documents_.size()) {
      const auto& [name, text] = documents_[next_document_++];
      return std::optional(file(name, text.size()));
    }
    return std::optional<CaptureItem>();
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    if (stop_.stop_requested()) return stopped();
    for (const auto& [name, text] : documents_) {
      if (name == item.entry.path) return sink.add(as_bytes(text));
    }
    const ContentDigest digest = digest_of_path(item.entry.path);
    const auto found = found_.set.blobs.find(digest);
    if (digest.empty() || found == found_.set.blobs.end())
      return fail(ErrorKind::kFailed, fmt::format("{} is not of this capture", item.entry.path));
    return read_blob(digest, found->second, sink);
  }

  Result<void> finish() override {
    if (stop_.stop_requested()) return stopped();
    cache_->forget_unused();
    return {};
  }
  std::vector<Defect> defects() const override { return found_.defects; }
  std::map<std::string, std::string> facts() const override {
    const ImageSet& set = found_.set;
    const auto manifests =
        std::ranges::count_if(set.blobs, [](const auto& b) { return b.second.is_manifest; });
    uint64_t bytes = 0;
    for (const auto& [digest, blob] : set.blobs) bytes += blob.size;
    return {{"images", std::to_string(set.images.size())},
            {"repositories", std::to_string(set.repositories.size())},
            {"manifests", std::to_string(manifests)},
            {"platforms", std::to_string(found_.platforms)},
            {"blobs", std::to_string(set.blobs.size())},
            {"blob_bytes", std::to_string(bytes)},
            {"left_out", std::to_string(set.left_out.size())}};
  }

 private:
  static Error stopped() { return fail(ErrorKind::kInterrupted, "the capture was stopped"); }

  static std::optional<CaptureItem> folder(std::string path) {
    return CaptureItem{.entry = {.path = std::move(path), .type = EntryType::kDirectory, .mode = 0755}};
  }
  static CaptureItem file(std::string path, uint64_t size) {
    return {.entry = {.path = std::move(path),
                      .type = EntryType::kFile,
                      .content = ContentKind::kBytes,
                      .mode = 0644,
                      .size = size}};
  }

  Result<void> read_blob(const ContentDigest& digest, const Blob& blob, ContentSink& sink) {
    if (blob.is_manifest) {
      if (const auto known = cache_->get(digest)) return sink.add(*known);
    }
    std::optional<Error> why;
    for (const uint32_t number : blob.repositories) {
      const std::string& repository = found_.set.repositories[number];
      if (why) TRY(sink.restart());
      Result<void> done = blob.is_manifest ? read_manifest(repository, digest, sink)
                                           : registry_->blob(
                                                 repository, digest, blob.size,
                                                 [&](ByteView bytes) { return sink.add(bytes); }, stop_);
      if (done) return {};
      why = std::move(done).error();
      if (why->kind == ErrorKind::kInterrupted || stop_.stop_requested()) return stopped();
      if (!is_of_this_blob(*why)) return *why;
    }
    if (why->kind == ErrorKind::kNotFound)
      why->why = "the registry no longer has it: what removes unused layers ran there, or lost it";
    else
      why->why = why->what + (why->why.empty() ? "" : ": " + why->why);
    return fail(ErrorKind::kPartial, fmt::format("{} could not be read", digest.brief()), why->why,
                "push the image again");
  }

  Result<void> read_manifest(const std::string& repository, const ContentDigest& digest, ContentSink& sink) {
    TRY_ASSIGN(const FetchedManifest manifest, registry_->manifest(repository, digest.text(), stop_));
    return sink.add(manifest.bytes);
  }

  // Whether others may do better: what the registry says of this one, and not that it is gone.
  bool is_of_this_blob(const Error& error) {
    switch (error.kind) {
      case ErrorKind::kNotFound:
      case ErrorKind::kDamaged:
      case ErrorKind::kDenied:
        return true;
      case ErrorKind::kFailed:
      case ErrorKind::kUnknown:
        return registry_->greet(stop_).has_value();
      default:
        return false;
    }
  }

  const std::unique_ptr<Registry> registry_;
  const std::unique_ptr<ManifestCache> cache_;
  const Discovered found_;
  const std::stop_token stop_;
  std::vector<std::string> folders_;
  std::vector<std::pair<std::string, std::string>> documents_;  // name and text
  size_t next_folder_ = 0, next_document_ = 0;
  std::string algorithm_;
  std::map<ContentDigest, Blob>::const_iterator next_blob_;
};

}  // namespace

Result<std::unique_ptr<TreeCapture>> capture_images(const ImageSettings& settings, Reporter& reporter,
                                                    std::stop_token stop) {
  if (settings.images.empty()) {
    return fail(ErrorKind::kUsage, "images: names nothing", "nothing would be kept",
                "images: [ team/app, team/api:v1 ], or [ \"**\" ] for all");
  }
  if (settings.registry.url.empty())
    return fail(ErrorKind::kUsage, "there is no registry:", "", "registry: https://registry.example");
  Selection selection{.images = {}, .platforms = settings.platforms};
  for (const std::string& image : settings.images) {
    TRY_ASSIGN(Wanted wanted, parse_wanted(image));
    selection.images.push_back(std::move(wanted));
  }
  TRY_ASSIGN(auto registry, Registry::open(settings.registry));
  auto cache = std::make_unique<ManifestCache>(settings.cache_folder);
  TRY_ASSIGN(Discovered found, discover(*registry, selection, *cache, reporter, stop));
  if (!found.set.left_out.empty()) {
    reporter.note(
        fmt::format("{} manifest(s) or layer(s) are left out; {} in the snapshot says which and why",
                    found.set.left_out.size(), kNotesName));
  }
  return std::make_unique<ImageCapture>(std::move(registry), std::move(cache), std::move(found),
                                        std::move(stop));
}

}  // namespace kuramori::image
