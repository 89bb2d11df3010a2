// Proves that a snapshot's images can be used, from the snapshot alone: every name leads to manifests and
// blobs that are what their digests say, and every layer, unpacked, is what its configuration says.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "codec/unpack.h"
#include "source/image/image_source.h"
#include "source/image/tree_images.h"

namespace kuramori::image {
namespace {

constexpr size_t kToldMax = 3;

// How a layer is packed; nothing: we cannot tell what it is when it is unpacked.
std::optional<Packing> packing_of(std::string_view media_type) {
  if (media_type.ends_with("+encrypted")) return std::nullopt;
  if (media_type.ends_with("+gzip") || media_type.ends_with(".gzip")) return Packing::kGzip;
  if (media_type.ends_with("+zstd") || media_type.ends_with(".zstd")) return Packing::kZstd;
  if (media_type.ends_with(".tar")) return Packing::kNone;
  return std::nullopt;
}

// The first few of what went wrong, and how many more.
class Failures {
 public:
  void add(std::string text) {
    if (told_.size() < kToldMax) told_.push_back(std::move(text));
    ++count_;
  }
  uint64_t count() const { return count_; }
  std::string text() const {
    std::string out;
    for (const std::string& one : told_) out += (out.empty() ? "" : "; ") + one;
    if (count_ > told_.size()) out += fmt::format("; and {} more", count_ - told_.size());
    return out;
  }

 private:
  std::vector<std::string> told_;
  uint64_t count_ = 0;
};

class Drill {
 public:
  Drill(const TreeImages& images, const CapturedTree& tree, Reporter& reporter, std::stop_token stop)
      : images_(images), tree_(tree), reporter_(reporter), stop_(std::move(stop)) {}

  Result<std::vector<CheckResult>> run() {
    for (const Image& image : images_.images()) {
      if (stop_.stop_requested()) return stopped();
      Failures wrong;
      TRY(walk(image.manifest.digest, image.manifest.media_type, 0, wrong));
      if (wrong.count() > 0) unresolved_.add(fmt::format("{}: {}", image.name(), wrong.text()));
    }
    reporter_.phase("unpacking", 0);
    TRY(read_all());
    std::vector<CheckResult> checks;
    checks.push_back(check("every image resolves, for each platform", unresolved_,
                           fmt::format("{} images, {} manifests of platforms, {} parts left out on purpose",
                                       images_.images().size(), platforms_, left_out_.size())));
    const std::string captured = fact("images");
    Failures lost;
    if (captured != std::to_string(images_.images().size()))
      lost.add(fmt::format("{} now, {} captured", images_.images().size(), captured));
    checks.push_back(check("images are those that were captured", lost,
                           fmt::format("{} now, {} captured", images_.images().size(), captured)));
    checks.push_back(check("every blob is what its digest says", wrong_blobs_,
                           fmt::format("{} blobs, {} bytes", blobs_, bytes_)));
    CheckResult layers = check("layers unpack to what their configurations say", wrong_layers_,
                               fmt::format("{} layers, {} bytes unpacked", layers_, unpacked_));
    if (uncounted_ > 0) {
      layers.detail += fmt::format("; {} of another form are not looked into", uncounted_);
      if (layers.verdict == "passed") layers.verdict = layers_ > 0 ? "bounded" : "uncounted";
    }
    checks.push_back(std::move(layers));
    return checks;
  }

 private:
  struct Layer {
    Packing packing = Packing::kNone;
    std::set<ContentDigest> unpacked;  // what configurations say it is; more than one is more than one lie
  };

  static Error stopped() { return fail(ErrorKind::kInterrupted, "the drill was stopped"); }
  static CheckResult check(std::string name, const Failures& failures, std::string good) {
    const bool holds = failures.count() == 0;
    return {std::move(name), holds ? "passed" : "failed", holds ? std::move(good) : failures.text()};
  }
  std::string fact(const std::string& name) const {
    const auto found = tree_.facts().find(name);
    return found == tree_.facts().end() ? "?" : found->second;
  }

  // Whether it is there in full, as far as sizes tell; what each layer is to be, is noted.
  Result<void> walk(const ContentDigest& digest, std::string_view media_type, size_t depth, Failures& wrong) {
    if (stop_.stop_requested()) return stopped();
    if (images_.left_out().contains(digest)) {
      left_out_.insert(digest);
      return {};
    }
    // Met before: what was wrong of it is wrong of this image, too.
    if (const auto known = met_.find(digest); known != met_.end()) {
      if (!known->second.empty()) wrong.add(known->second);
      return {};
    }
    if (depth > kDepthMax) {
      wrong.add("its indexes go too deep");
      return {};
    }
    met_[digest] = "";
    Failures own;
    TRY(look_into(digest, media_type, depth, own));
    if (own.count() > 0) {
      met_[digest] = own.text();
      wrong.add(own.text());
    }
    return {};
  }

  Result<void> look_into(const ContentDigest& digest, std::string_view media_type, size_t depth,
                         Failures& own) {
    auto bytes = images_.manifest(digest);
    auto parsed = bytes ? parse_manifest(*bytes, media_type) : Result<Manifest>(bytes.error());
    if (!parsed) {
      if (parsed.error().kind != ErrorKind::kNotFound && parsed.error().kind != ErrorKind::kDamaged)
        return std::move(parsed).error();
      own.add(parsed.error().what);
      return {};
    }
    const Manifest& manifest = *parsed;
    for (const Descriptor& child : manifest.manifests) {
      const auto size = images_.size_of(child.digest);
      if (size && *size != child.size) own.add(fmt::format("{} is of another size", child.digest.brief()));
      TRY(walk(child.digest, child.media_type, depth + 1, own));
    }
    if (manifest.form == Manifest::Form::kImage) ++platforms_;
    if (manifest.config) expect(*manifest.config, own);
    for (const Descriptor& layer : manifest.layers) expect(layer, own);
    if (manifest.config && images_.size_of(manifest.config->digest)) return expect_layers(manifest, own);
    return {};
  }

  void expect(const Descriptor& blob, Failures& own) {
    if (images_.left_out().contains(blob.digest)) {
      left_out_.insert(blob.digest);
      return;
    }
    const auto size = images_.size_of(blob.digest);
    if (!size) own.add(fmt::format("{} is not in the snapshot", blob.digest.brief()));
    if (size && *size != blob.size) own.add(fmt::format("{} is of another size", blob.digest.brief()));
  }

  // What the configuration says of each layer. Of one that is none (of a signature) nothing is said.
  Result<void> expect_layers(const Manifest& manifest, Failures& own) {
    if (manifest.config->size > kConfigBytesMax) {
      own.add("its configuration is too large to be one");
      return {};
    }
    auto config = read_small(tree_, manifest.config->digest.path(), kConfigBytesMax);
    if (!config) {
      if (config.error().kind != ErrorKind::kDamaged) return std::move(config).error();
      return {};  // the digests tell
    }
    const bool is_image = manifest.config->media_type == "application/vnd.oci.image.config.v1+json" ||
                          manifest.config->media_type == "application/vnd.docker.container.image.v1+json";
    if (!is_image) return {};
    auto ids = parse_diff_ids(*config);
    if (!ids) {
      own.add("its configuration cannot be read");
      return {};
    }
    if (ids->empty() && manifest.layers.empty()) return {};
    if (ids->size() != manifest.layers.size()) {
      own.add(fmt::format("its configuration has {} layers, its manifest {}", ids->size(),
                          manifest.layers.size()));
      return {};
    }
    for (size_t i = 0; i < ids->size(); ++i) {
      const Descriptor& layer = manifest.layers[i];
      const auto packing = packing_of(layer.media_type);
      if (!packing) {
        ++uncounted_;
        continue;
      }
      Layer& expected = expected_[layer.digest];
      expected.packing = *packing;
      expected.unpacked.insert((*ids)[i]);
    }
    return {};
  }

  // Each blob once, whatever number of images share it.
  Result<void> read_all() {
    std::vector<std::pair<ContentDigest, uint64_t>> all;
    TRY(tree_.visit([&](const TreeEntry& entry) -> Result<void> {
      if (ContentDigest digest = digest_of_path(entry.path); !digest.empty())
        all.emplace_back(std::move(digest), entry.size);
      return {};
    }));
    for (const auto& [digest, size] : all) {
      if (stop_.stop_requested()) return stopped();
      TRY(read_one(digest, size));
    }
    return {};
  }

  Result<void> read_one(const ContentDigest& digest, uint64_t size) {
    const auto expected = expected_.find(digest);
    uint64_t bytes = 0;
    std::optional<DigestCheck> unpacked;
    std::optional<Unpacker> unpacker;
    std::optional<Error> not_packed;
    if (expected != expected_.end()) {
      unpacked.emplace(*expected->second.unpacked.begin());
      unpacker.emplace(expected->second.packing, [&](ByteView plain) -> Result<void> {
        if (stop_.stop_requested()) return stopped();
        unpacked->add(plain);
        return {};
      });
    }
    auto read = images_.blob(digest, [&](ByteView piece) -> Result<void> {
      if (stop_.stop_requested()) return stopped();
      bytes += piece.size();
      reporter_.advance(piece.size());
      if (unpacker && !not_packed) {
        if (auto done = unpacker->add(piece); !done) not_packed = std::move(done).error();
      }
      return {};
    });
    if (stop_.stop_requested()) return stopped();
    ++blobs_;
    bytes_ += bytes;
    if (!read) {
      if (read.error().kind != ErrorKind::kDamaged && read.error().kind != ErrorKind::kNotFound) return read;
      wrong_blobs_.add(read.error().what);
      return {};
    }
    if (bytes != size) wrong_blobs_.add(fmt::format("{} is of another size", digest.brief()));
    if (!unpacker) return {};
    ++layers_;
    if (!not_packed) {
      if (auto done = unpacker->finish(); !done) not_packed = std::move(done).error();
    }
    unpacked_ += unpacked->bytes();
    if (not_packed)
      wrong_layers_.add(fmt::format("{}: {}: {}", digest.brief(), not_packed->what, not_packed->why));
    else if (expected->second.unpacked.size() > 1 || !unpacked->matches())
      wrong_layers_.add(fmt::format("{} unpacks to something else", digest.brief()));
    return {};
  }

  const TreeImages& images_;
  const CapturedTree& tree_;
  Reporter& reporter_;
  const std::stop_token stop_;
  std::map<ContentDigest, std::string> met_;  // manifests, and what is wrong of each
  std::map<ContentDigest, Layer> expected_;
  std::set<ContentDigest> left_out_;
  Failures unresolved_, wrong_blobs_, wrong_layers_;
  uint64_t platforms_ = 0, uncounted_ = 0, blobs_ = 0, bytes_ = 0, layers_ = 0, unpacked_ = 0;
};

}  // namespace

Result<std::vector<CheckResult>> drill_images(const CapturedTree& tree, Reporter& reporter,
                                              std::stop_token stop) {
  reporter.phase("looking", 0);
  TRY_ASSIGN(const TreeImages images, TreeImages::open(tree, stop));
  return Drill(images, tree, reporter, std::move(stop)).run();
}

}  // namespace kuramori::image
