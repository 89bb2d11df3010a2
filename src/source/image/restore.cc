// Restores images: into a folder, as the image layout that the snapshot is, or into a registry.
#include <fmt/core.h>

#include <algorithm>

#include "source/files/write_tree.h"
#include "source/image/image_source.h"
#include "source/image/push.h"
#include "source/image/reference.h"
#include "source/image/tree_images.h"
#include "source/tree/views.h"

namespace kuramori::image {
namespace {

constexpr size_t kToldMax = 10;

// A snapshot's tree whose blobs are what their digests say, or their reading fails. With some images chosen:
// theirs alone, and an index.json of them. Borrows the tree.
class LayoutTree final : public CapturedTree {
 public:
  explicit LayoutTree(const CapturedTree& tree) : tree_(tree) {}
  LayoutTree(const CapturedTree& tree, std::map<ContentDigest, uint64_t> blobs, std::string index)
      : tree_(tree), is_part_(true), blobs_(std::move(blobs)), index_(std::move(index)) {}

  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override {
    return tree_.visit([&](const TreeEntry& entry) -> Result<void> {
      if (!is_part_) return visit(entry);
      const ContentDigest digest = digest_of_path(entry.path);
      if (!digest.empty() && !blobs_.contains(digest)) return {};
      if (entry.path != kIndexName) return visit(entry);
      TreeEntry other = entry;
      other.size = index_.size();
      return visit(other);
    });
  }
  Result<void> read(std::string_view path, ContentSink& sink) const override {
    if (is_part_ && path == kIndexName) return sink.add(as_bytes(index_));
    const ContentDigest digest = digest_of_path(path);
    if (digest.empty()) return tree_.read(path, sink);
    DigestCheck check(digest);
    Checked checked(check, sink);
    TRY(tree_.read(path, checked));
    if (check.matches()) return {};
    return fail(ErrorKind::kDamaged, fmt::format("{} is not what its digest says", digest.brief()),
                "the snapshot's bytes are others", "kuramori vault scrub VAULT, or restore another snapshot");
  }
  const std::map<std::string, std::string>& facts() const override { return tree_.facts(); }

 private:
  class Checked final : public ContentSink {
   public:
    Checked(DigestCheck& check, ContentSink& to) : check_(check), to_(to) {}
    Result<void> add(ByteView bytes) override {
      check_.add(bytes);
      return to_.add(bytes);
    }
    Result<void> add_hole(uint64_t bytes) override {
      static const Bytes kZeros(size_t{64} << 10);
      for (uint64_t left = bytes; left > 0; left -= std::min<uint64_t>(left, kZeros.size()))
        check_.add(ByteView(kZeros).first(std::min<uint64_t>(left, kZeros.size())));
      return to_.add_hole(bytes);
    }
    Result<void> restart() override { return fail(ErrorKind::kFailed, "a snapshot's content began anew"); }

   private:
    DigestCheck& check_;
    ContentSink& to_;
  };

  const CapturedTree& tree_;
  const bool is_part_ = false;
  const std::map<ContentDigest, uint64_t> blobs_;
  const std::string index_;
};

bool is_path_of_tree(const std::string& only) {
  return only == kIndexName || only == kLayoutName || only == kNotesName || only == kBlobsFolder ||
         only.starts_with(std::string(kBlobsFolder) + "/sha");
}

Result<SourceRestoreOutcome> restore_to_folder(const CapturedTree& tree, const SourceRestoreRequest& request,
                                               Reporter& reporter, const std::stop_token& stop) {
  if (request.only.empty() || std::ranges::all_of(request.only, is_path_of_tree)) {
    const LayoutTree whole(tree);
    return files::write_tree(PrivateTree(whole), request, {}, reporter, stop);
  }
  TRY_ASSIGN(const TreeImages images, TreeImages::open(tree, stop));
  TRY_ASSIGN(const std::vector<Image> chosen, images.chosen(request.only));
  std::map<ContentDigest, uint64_t> blobs;
  std::map<ContentDigest, std::string> missing;
  for (const Image& image : chosen) TRY(images.collect(image, blobs, missing));
  const LayoutTree part(tree, std::move(blobs), index_json(chosen));
  SourceRestoreRequest plain = request;
  plain.only.clear();
  TRY_ASSIGN(SourceRestoreOutcome outcome, files::write_tree(PrivateTree(part), plain, {}, reporter, stop));
  outcome.notes.insert(outcome.notes.begin(), fmt::format("{} image(s)", chosen.size()));
  if (missing.empty()) return outcome;
  return fail(ErrorKind::kPartial,
              fmt::format("{} of the blobs of these images are not in the snapshot", missing.size()),
              fmt::format("{}: {}", missing.begin()->first.text(), missing.begin()->second),
              fmt::format("what there is stands in {}; another snapshot may have the rest", request.to));
}

// --- into a registry -------------------------------------------------------------------------------------

class TreeOrigin final : public ImageOrigin {
 public:
  explicit TreeOrigin(const TreeImages& images) : images_(images) {}
  Result<Bytes> manifest(const std::string&, const ContentDigest& digest, const std::stop_token&) override {
    return images_.manifest(digest);
  }
  Result<void> blob(const std::string&, const Descriptor& blob,
                    const std::function<Result<void>(ByteView)>& take, const std::stop_token&) override {
    return images_.blob(blob.digest, take);
  }

 private:
  const TreeImages& images_;
};

// "registry.example:5000" of any way to write its address.
std::string authority_of(std::string_view url) {
  const size_t begin = url.find("://");
  if (begin != url.npos) url.remove_prefix(begin + 3);
  return std::string(url.substr(0, url.find('/')));
}

// With the credentials that belong to that registry, and no other's.
Result<std::unique_ptr<Registry>> open_target(const ImageSettings& settings, std::string_view to,
                                              std::string& prefix) {
  RegistrySettings target{
      .user = settings.target_user, .password = settings.target_password, .is_written = true};
  const std::string authority = authority_of(to);
  if (settings.replicate && authority_of(settings.replicate->to) == authority) {
    target.user = settings.replicate->user;
    target.password = settings.replicate->password;
    target.ca_file = settings.replicate->ca_file;
    target.insecure = settings.replicate->insecure;
  } else if (authority_of(settings.registry.url) == authority) {
    target.user = settings.registry.user;
    target.password = settings.registry.password;
    target.ca_file = settings.registry.ca_file;
    target.insecure = settings.registry.insecure;
  }
  TRY_ASSIGN(const RegistryTarget place, parse_target(to, !target.ca_file.empty()));
  target.url = place.url;
  // Whoever writes docker+http:// says so in so many words.
  if (to.starts_with("docker+http://")) target.insecure = true;
  prefix = place.prefix;
  return Registry::open(std::move(target));
}

Result<SourceRestoreOutcome> restore_to_registry(const ImageSettings& settings, const CapturedTree& tree,
                                                 const SourceRestoreRequest& request, Reporter& reporter,
                                                 const std::stop_token& stop) {
  TRY_ASSIGN(const TreeImages images, TreeImages::open(tree, stop));
  PushRequest push{.left_out = images.left_out(), .workers = std::max(1u, request.workers)};
  TRY_ASSIGN(push.images, images.chosen(request.only));
  if (request.overwrite) push.tags = PushRequest::Tags::kMove;
  TRY_ASSIGN(const std::unique_ptr<Registry> target, open_target(settings, request.to, push.prefix));
  TreeOrigin origin(images);
  TRY_ASSIGN(const PushOutcome pushed, push_images(origin, *target, push, reporter, stop));
  if (!pushed.failed.empty()) {
    std::string why;
    for (size_t i = 0; i < std::min(pushed.failed.size(), kToldMax); ++i)
      why += fmt::format("{}{}: {}", i == 0 ? "" : "; ", pushed.failed[i].path, pushed.failed[i].why);
    return fail(
        ErrorKind::kPartial,
        fmt::format("{} of {} images are not in {}", pushed.failed.size(), push.images.size(), request.to),
        why, "restore them from another snapshot, or into a folder");
  }
  SourceRestoreOutcome outcome{.target = request.to, .bytes = pushed.bytes, .notes = pushed.notes};
  outcome.entries = request.only.empty() ? images.entries() : pushed.images;
  outcome.notes.insert(
      outcome.notes.begin(),
      fmt::format("{} image(s), {} of them there already; {} blobs sent, {} there already, {} mounted; every "
                  "digest read back",
                  pushed.images, pushed.images_as_before, pushed.blobs, pushed.blobs_there,
                  pushed.blobs_mounted));
  return outcome;
}

}  // namespace

Result<SourceRestoreOutcome> restore_images(const ImageSettings& settings, const CapturedTree& tree,
                                            const SourceRestoreRequest& request, Reporter& reporter,
                                            std::stop_token stop) {
  if (is_registry_url(request.to)) return restore_to_registry(settings, tree, request, reporter, stop);
  if (!request.to.starts_with('/')) {
    return fail(ErrorKind::kUsage, fmt::format("cannot restore to \"{}\"", request.to),
                "it is neither an absolute path nor a registry",
                "--to /path or --to docker://HOST:PORT/PREFIX");
  }
  return restore_to_folder(tree, request, reporter, stop);
}

}  // namespace kuramori::image
