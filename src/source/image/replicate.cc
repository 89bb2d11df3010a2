// From one registry straight to a second one: what the first has now, by digest.
#include <fmt/core.h>

#include "source/image/discover.h"
#include "source/image/image_source.h"
#include "source/image/push.h"

namespace kuramori::image {
namespace {

constexpr unsigned kWorkers = 3;

class RegistryOrigin final : public ImageOrigin {
 public:
  RegistryOrigin(Registry& registry, ManifestCache& cache) : registry_(registry), cache_(cache) {}
  Result<Bytes> manifest(const std::string& repository, const ContentDigest& digest,
                         const std::stop_token& stop) override {
    if (auto known = cache_.get(digest)) return std::move(*known);
    TRY_ASSIGN(FetchedManifest read, registry_.manifest(repository, digest.text(), stop));
    return std::move(read.bytes);
  }
  Result<void> blob(const std::string& repository, const Descriptor& blob,
                    const std::function<Result<void>(ByteView)>& take, const std::stop_token& stop) override {
    return registry_.blob(repository, blob.digest, blob.size, take, stop);
  }

 private:
  Registry& registry_;
  ManifestCache& cache_;
};

}  // namespace

Result<ReplicateOutcome> replicate(const ImageSettings& settings, Reporter& reporter, std::stop_token stop) {
  if (!settings.replicate) {
    return fail(ErrorKind::kUsage, "there is no second registry to replicate to", "",
                "replicate: { to: docker://HOST:PORT/PREFIX }");
  }
  if (settings.images.empty() || settings.registry.url.empty())
    return fail(ErrorKind::kUsage, "registry: and images: say what is replicated", "one of them is missing",
                "registry: https://registry.example and images: [ team/app ]");
  Selection selection{.images = {}, .platforms = settings.platforms};
  for (const std::string& image : settings.images) {
    TRY_ASSIGN(Wanted wanted, parse_wanted(image));
    selection.images.push_back(std::move(wanted));
  }
  const ReplicaSettings& replica = *settings.replicate;
  TRY_ASSIGN(const RegistryTarget place, parse_target(replica.to, !replica.ca_file.empty()));
  TRY_ASSIGN(const auto source, Registry::open(settings.registry));
  TRY_ASSIGN(const auto target,
             Registry::open({.url = place.url,
                             .user = replica.user,
                             .password = replica.password,
                             .ca_file = replica.ca_file,
                             .insecure = replica.insecure || replica.to.starts_with("docker+http://"),
                             .is_written = true}));
  if (target->name() == source->name() && place.prefix.empty()) {
    return fail(ErrorKind::kRefused, "the second registry is the first one",
                "what is lost there would be lost twice", "name another one in replicate: { to: … }");
  }
  // Of its own: what the backups remember is theirs to forget.
  ManifestCache cache(settings.cache_folder.empty() ? "" : settings.cache_folder + "-replicated");
  TRY_ASSIGN(Discovered found, discover(*source, selection, cache, reporter, stop));
  ReplicateOutcome outcome{.target = replica.to, .defects = std::move(found.defects)};
  RegistryOrigin origin(*source, cache);
  PushRequest push{.images = std::move(found.set.images),
                   .left_out = std::move(found.set.left_out),
                   .prefix = place.prefix,
                   .tags = PushRequest::Tags::kMove,
                   .trust = PushRequest::Trust::kBelieve,
                   .workers = kWorkers};
  TRY_ASSIGN(PushOutcome pushed, push_images(origin, *target, push, reporter, stop));
  cache.forget_unused();
  outcome.images = pushed.images;
  outcome.images_as_before = pushed.images_as_before;
  outcome.blobs = pushed.blobs;
  outcome.blobs_mounted = pushed.blobs_mounted;
  outcome.bytes = pushed.bytes;
  outcome.notes = std::move(pushed.notes);
  for (Defect& failed : pushed.failed) outcome.defects.push_back(std::move(failed));
  return outcome;
}

}  // namespace kuramori::image
