#include "source/image/tree_images.h"

#include <fmt/core.h>

#include <algorithm>

#include "source/image/reference.h"

namespace kuramori::image {
namespace {

class SmallSink final : public ContentSink {
 public:
  explicit SmallSink(size_t max) : max_(max) {}
  Result<void> add(ByteView bytes) override {
    if (bytes.size() > max_ - content.size()) return fail(ErrorKind::kDamaged, "it is larger than it can be");
    append(content, bytes);
    return {};
  }
  Result<void> add_hole(uint64_t bytes) override {
    if (bytes > max_ - content.size()) return fail(ErrorKind::kDamaged, "it is larger than it can be");
    content.resize(content.size() + bytes);
    return {};
  }
  Result<void> restart() override {
    content.clear();
    return {};
  }
  Bytes content;

 private:
  const size_t max_;
};

class PassingSink final : public ContentSink {
 public:
  explicit PassingSink(const std::function<Result<void>(ByteView)>& take) : take_(take) {}
  Result<void> add(ByteView bytes) override { return take_(bytes); }
  Result<void> add_hole(uint64_t bytes) override {
    static const Bytes kZeros(size_t{64} << 10);
    for (uint64_t left = bytes; left > 0;) {
      const size_t now = std::min<uint64_t>(left, kZeros.size());
      TRY(take_(ByteView(kZeros).first(now)));
      left -= now;
    }
    return {};
  }
  Result<void> restart() override { return fail(ErrorKind::kFailed, "a snapshot's content began anew"); }

 private:
  const std::function<Result<void>(ByteView)>& take_;
};

Error not_as_named(const ContentDigest& digest) {
  return fail(ErrorKind::kDamaged, fmt::format("{} is not what its digest says", digest.brief()),
              "the snapshot's bytes are others", "kuramori vault scrub VAULT, or restore another snapshot");
}

Error not_there(const ContentDigest& digest) {
  return fail(ErrorKind::kNotFound, fmt::format("the snapshot does not have {}", digest.brief()),
              "it could not be read when the snapshot was made");
}

}  // namespace

Result<Bytes> read_small(const CapturedTree& tree, std::string_view path, size_t max) {
  SmallSink sink(max);
  if (auto done = tree.read(path, sink); !done) return std::move(done).error().within(path);
  return std::move(sink.content);
}

Result<TreeImages> TreeImages::open(const CapturedTree& tree, const std::stop_token& stop) {
  TreeImages out;
  out.tree_ = &tree;
  bool has_index = false, has_notes = false;
  TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "it was stopped");
    ++out.entries_;
    if (entry.type != EntryType::kFile) return {};
    if (entry.path == kIndexName) has_index = true;
    if (entry.path == kNotesName) has_notes = true;
    if (ContentDigest digest = digest_of_path(entry.path); !digest.empty())
      out.blobs_.emplace(std::move(digest), entry.size);
    return {};
  }));
  if (!has_index) {
    return fail(ErrorKind::kDamaged, "the snapshot has no index.json",
                "without it nobody knows which images these were", "restore another snapshot");
  }
  TRY_ASSIGN(const Bytes index, read_small(tree, kIndexName, kIndexBytesMax));
  TRY_ASSIGN(out.images_, parse_index(index));
  if (has_notes) {
    TRY_ASSIGN(const Bytes notes, read_small(tree, kNotesName, kIndexBytesMax));
    TRY_ASSIGN(out.left_out_, parse_notes(notes));
  }
  return out;
}

Result<std::vector<Image>> TreeImages::chosen(const std::vector<std::string>& only) const {
  if (only.empty()) return images_;
  for (const std::string& one : only) {
    if (std::ranges::none_of(images_, [&](const Image& image) { return names_image(one, image.name()); })) {
      std::string known;
      for (size_t i = 0; i < std::min<size_t>(images_.size(), 5); ++i)
        known += (i == 0 ? "" : ", ") + images_[i].name();
      if (images_.size() > 5) known += ", …";
      return fail(ErrorKind::kNotFound, fmt::format("the snapshot has no image {}", one),
                  fmt::format("it has {}: {}", images_.size(), known),
                  "kuramori restore RESOURCE --only index.json --to FOLDER lists them all");
    }
  }
  std::vector<Image> out;
  for (const Image& image : images_) {
    if (std::ranges::any_of(only, [&](const std::string& one) { return names_image(one, image.name()); }))
      out.push_back(image);
  }
  return out;
}

std::optional<uint64_t> TreeImages::size_of(const ContentDigest& digest) const {
  const auto found = blobs_.find(digest);
  return found == blobs_.end() ? std::nullopt : std::optional(found->second);
}

Result<Bytes> TreeImages::manifest(const ContentDigest& digest) const {
  if (!blobs_.contains(digest)) return not_there(digest);
  TRY_ASSIGN(Bytes bytes, read_small(*tree_, digest.path(), kManifestBytesMax));
  DigestCheck check(digest);
  check.add(bytes);
  if (!check.matches()) return not_as_named(digest);
  return bytes;
}

Result<void> TreeImages::blob(const ContentDigest& digest,
                              const std::function<Result<void>(ByteView)>& take) const {
  if (!blobs_.contains(digest)) return not_there(digest);
  DigestCheck check(digest);
  const std::function<Result<void>(ByteView)> checked = [&](ByteView bytes) {
    check.add(bytes);
    return take(bytes);
  };
  PassingSink sink(checked);
  TRY(tree_->read(digest.path(), sink));
  if (!check.matches()) return not_as_named(digest);
  return {};
}

Result<void> TreeImages::collect(const Image& image, std::map<ContentDigest, uint64_t>& into,
                                 std::map<ContentDigest, std::string>& missing) const {
  return collect(image.manifest.digest, image.manifest.media_type, 0, into, missing);
}

Result<void> TreeImages::collect(const ContentDigest& digest, std::string_view media_type, size_t depth,
                                 std::map<ContentDigest, uint64_t>& into,
                                 std::map<ContentDigest, std::string>& missing) const {
  if (into.contains(digest) || left_out_.contains(digest)) return {};
  const auto size = size_of(digest);
  if (!size || depth > kDepthMax) {
    missing.emplace(digest, size ? "its indexes go too deep" : "it is not in the snapshot");
    return {};
  }
  auto bytes = manifest(digest);
  auto parsed = bytes ? parse_manifest(*bytes, media_type) : Result<Manifest>(bytes.error());
  if (!parsed) {
    if (parsed.error().kind != ErrorKind::kDamaged) return std::move(parsed).error();
    missing.emplace(digest, parsed.error().what);
    return {};
  }
  into.emplace(digest, *size);
  for (const Descriptor& child : parsed->manifests)
    TRY(collect(child.digest, child.media_type, depth + 1, into, missing));
  std::vector<Descriptor> blobs = std::move(parsed->layers);
  if (parsed->config) blobs.push_back(*parsed->config);
  for (const Descriptor& blob : blobs) {
    if (left_out_.contains(blob.digest)) continue;
    const auto there = size_of(blob.digest);
    if (there && *there == blob.size)
      into.emplace(blob.digest, *there);
    else
      missing.emplace(blob.digest, there ? "it is of another size" : "it is not in the snapshot");
  }
  return {};
}

}  // namespace kuramori::image
