// The order, and why a break after each step is harmless:
//   1. every tag of the target is looked at       — a refusal comes before the first byte
//   2. blobs                                      — nothing refers to them: a registry's own collection's
//   3. manifests by digest, children first        — no tag leads to them yet
//   4. tags                                       — each is whole when it appears
//   5. every tag is read back and its digest computed
// A second run finds what is there by its digest and sends the rest.
#include "source/image/push.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "conc/guarded.h"
#include "conc/task_group.h"

namespace kuramori::image {
namespace {

constexpr size_t kNamesToldMax = 5;

using Place = std::pair<std::string, ContentDigest>;  // a repository here, and what it is to have

class Push {
 public:
  Push(ImageOrigin& origin, Registry& target, const PushRequest& request, Reporter& reporter,
       std::stop_token stop)
      : origin_(origin), target_(target), request_(request), reporter_(reporter), stop_(std::move(stop)) {}

  Result<PushOutcome> run() {
    if (stop_.stop_requested()) return stopped();
    TRY(target_.greet(stop_));
    TRY(look_at_tags());
    TRY(plan_all());
    TRY(send_blobs());
    TRY(send_manifests());
    auto state = state_.lock();
    return std::move(state->out);
  }

 private:
  struct State {
    PushOutcome out;
    std::set<Place> planned, manifests;  // met, given
    std::map<Place, Descriptor> blobs;   // to be given
    std::map<Place, std::string> lost;   // could not be, and why
  };
  enum class Tag : uint8_t { kAbsent, kSame, kOther };

  static Error stopped() { return fail(ErrorKind::kInterrupted, "it was stopped"); }
  static std::string said(const Error& error) {
    return error.what + (error.why.empty() ? "" : ": " + error.why);
  }
  static bool is_of_one(const Error& error) {
    return error.kind == ErrorKind::kNotFound || error.kind == ErrorKind::kDamaged ||
           error.kind == ErrorKind::kRefused || error.kind == ErrorKind::kUsage;
  }
  std::string there(const std::string& repository) const {
    return request_.prefix.empty() ? repository : request_.prefix + "/" + repository;
  }

  Result<void> look_at_tags() {
    tags_.assign(request_.images.size(), Tag::kAbsent);
    TRY(parallel_for(request_.images.size(), request_.workers, stop_,
                     [&](size_t i, const std::stop_token&) -> Result<void> {
                       const Image& image = request_.images[i];
                       auto now = target_.resolve(
                           there(image.repository),
                           image.tag.empty() ? image.manifest.digest.text() : image.tag, stop_);
                       if (now)
                         tags_[i] = now->digest == image.manifest.digest ? Tag::kSame : Tag::kOther;
                       else if (now.error().kind != ErrorKind::kNotFound)
                         return std::move(now).error();
                       return {};
                     }));
    if (request_.tags == PushRequest::Tags::kMove) return {};
    std::string others;
    const auto count = std::ranges::count(tags_, Tag::kOther);
    for (size_t i = 0, told = 0; i < tags_.size() && told < kNamesToldMax; ++i) {
      if (tags_[i] != Tag::kOther) continue;
      others += fmt::format("{}{}", told++ == 0 ? "" : ", ", there(request_.images[i].name()));
    }
    if (count == 0) return {};
    return fail(ErrorKind::kRefused,
                fmt::format("{} of these tags stand for other images at {}", count, target_.name()), others,
                "choose another place, docker://HOST/PREFIX, or say --overwrite: these tags are moved");
  }

  // --- what is to be given -------------------------------------------------------------------------------
  Result<void> plan_all() {
    reporter_.phase("looking", 0);
    return parallel_for(request_.images.size(), request_.workers, stop_,
                        [&](size_t i, const std::stop_token&) -> Result<void> {
                          if (is_believed(i)) return {};
                          const Image& image = request_.images[i];
                          auto planned =
                              plan(image.repository, image.manifest.digest, image.manifest.media_type, 0);
                          if (planned || !is_of_one(planned.error())) return planned;
                          lose({image.repository, image.manifest.digest}, said(planned.error()));
                          return {};
                        });
  }

  bool is_believed(size_t i) const {
    return request_.trust == PushRequest::Trust::kBelieve && tags_[i] == Tag::kSame;
  }
  void lose(Place place, std::string why) { state_.lock()->lost.emplace(std::move(place), std::move(why)); }

  Result<void> plan(const std::string& repository, const ContentDigest& digest, const std::string& media_type,
                    size_t depth) {
    if (stop_.stop_requested()) return stopped();
    if (depth > kDepthMax) return fail(ErrorKind::kDamaged, "its indexes go too deep");
    if (!state_.lock()->planned.insert({repository, digest}).second) return {};
    TRY_ASSIGN(const Bytes bytes, origin_.manifest(repository, digest, stop_));
    TRY_ASSIGN(const Manifest manifest, parse_manifest(bytes, media_type));
    for (const Descriptor& child : manifest.manifests) {
      if (request_.left_out.contains(child.digest)) continue;
      auto planned = plan(repository, child.digest, child.media_type, depth + 1);
      if (planned) continue;
      if (!is_of_one(planned.error())) return planned;
      lose({repository, child.digest}, said(planned.error()));
    }
    auto state = state_.lock();
    const auto add = [&](const Descriptor& blob) {
      if (!request_.left_out.contains(blob.digest))
        state->blobs.emplace(Place{repository, blob.digest}, blob);
    };
    if (manifest.config) add(*manifest.config);
    for (const Descriptor& layer : manifest.layers) add(layer);
    return {};
  }

  // --- blobs ---------------------------------------------------------------------------------------------
  Result<void> send_blobs() {
    std::vector<Place> first, further;  // further places of the same content take it from the first
    std::map<ContentDigest, std::string> have;
    uint64_t bytes = 0;
    {
      auto state = state_.lock();
      for (const auto& [place, blob] : state->blobs) {
        const bool is_new = have.emplace(place.second, place.first).second;
        (is_new ? first : further).push_back(place);
        if (is_new) bytes += blob.size;
      }
    }
    reporter_.phase("sending", bytes);
    for (const auto* places : {&first, &further}) {
      TRY(parallel_for(places->size(), request_.workers, stop_,
                       [&](size_t i, const std::stop_token&) -> Result<void> {
                         const Place& place = (*places)[i];
                         const bool is_first = places == &first;
                         auto sent = send_blob(place, is_first ? "" : have.at(place.second));
                         if (sent || !is_of_one(sent.error())) return sent;
                         lose(place, said(sent.error()));
                         return {};
                       }));
    }
    return {};
  }

  Result<void> send_blob(const Place& place, const std::string& also_in) {
    const auto& [repository, digest] = place;
    const Descriptor blob = state_.lock()->blobs.at(place);
    const std::string name = there(repository);
    TRY_ASSIGN(const auto size, target_.has_blob(name, digest, stop_));
    if (size && *size == blob.size) {
      ++state_.lock()->out.blobs_there;
      if (also_in.empty()) reporter_.advance(blob.size);
      return {};
    }
    if (!also_in.empty()) {
      TRY_ASSIGN(const bool mounted, target_.mount(name, digest, there(also_in), stop_));
      if (mounted) {
        ++state_.lock()->out.blobs_mounted;
        return {};
      }
    }
    const BlobReader read = [&](const std::function<Result<void>(ByteView)>& take) {
      return origin_.blob(repository, blob, take, stop_);
    };
    TRY(target_.upload(name, digest, blob.size, read, stop_));
    reporter_.advance(blob.size);
    auto state = state_.lock();
    ++state->out.blobs;
    state->out.bytes += blob.size;
    return {};
  }

  // --- manifests and tags --------------------------------------------------------------------------------
  Result<void> send_manifests() {
    reporter_.phase("naming", 0);
    for (size_t i = 0; i < request_.images.size(); ++i) {
      const Image& image = request_.images[i];
      if (stop_.stop_requested()) return stopped();
      if (is_believed(i)) {
        auto state = state_.lock();
        ++state->out.images;
        ++state->out.images_as_before;
        continue;
      }
      Result<void> given = give(image, tags_[i]);
      if (!given) {
        if (!is_of_one(given.error())) return given;
        state_.lock()->out.failed.push_back({.path = image.name(), .why = said(given.error())});
        continue;
      }
      auto state = state_.lock();
      ++state->out.images;
      if (tags_[i] == Tag::kSame) ++state->out.images_as_before;
    }
    return {};
  }

  Result<void> give(const Image& image, Tag tag) {
    const std::string name = there(image.repository);
    const std::string reference = image.tag.empty() ? image.manifest.digest.text() : image.tag;
    TRY(give_manifest(image.repository, image.manifest.digest, image.manifest.media_type, 0));
    if (!image.tag.empty() && tag != Tag::kSame) {
      TRY_ASSIGN(const Bytes bytes, origin_.manifest(image.repository, image.manifest.digest, stop_));
      TRY_ASSIGN(const Manifest manifest, parse_manifest(bytes, image.manifest.media_type));
      TRY(target_.put_manifest(name, image.tag, bytes, manifest.media_type, stop_));
    }
    TRY_ASSIGN(const FetchedManifest back, target_.manifest(name, reference, stop_));
    DigestCheck check(image.manifest.digest);
    check.add(back.bytes);
    if (check.matches()) return {};
    return fail(ErrorKind::kDamaged, fmt::format("{} gives other bytes than it was given", target_.name()),
                "read back, the digest is another");
  }

  // Children before what lists them: a registry refuses what refers to nothing.
  Result<void> give_manifest(const std::string& repository, const ContentDigest& digest,
                             const std::string& media_type, size_t depth) {
    if (stop_.stop_requested()) return stopped();
    const Place place{repository, digest};
    {
      auto state = state_.lock();
      if (const auto lost = state->lost.find(place); lost != state->lost.end())
        return fail(ErrorKind::kNotFound, lost->second);
      if (state->manifests.contains(place)) return {};
    }
    if (depth > kDepthMax) return fail(ErrorKind::kDamaged, "its indexes go too deep");
    TRY_ASSIGN(const Bytes bytes, origin_.manifest(repository, digest, stop_));
    TRY_ASSIGN(const Manifest manifest, parse_manifest(bytes, media_type));
    bool is_sparse = false;
    for (const Descriptor& child : manifest.manifests) {
      if (request_.left_out.contains(child.digest)) {
        is_sparse = true;
        continue;
      }
      TRY(give_manifest(repository, child.digest, child.media_type, depth + 1));
    }
    {
      auto state = state_.lock();
      std::vector<Descriptor> blobs = manifest.layers;
      if (manifest.config) blobs.push_back(*manifest.config);
      for (const Descriptor& blob : blobs) {
        if (const auto lost = state->lost.find({repository, blob.digest}); lost != state->lost.end())
          return fail(ErrorKind::kNotFound, lost->second);
      }
    }
    Result<void> put =
        target_.put_manifest(there(repository), digest.text(), bytes, manifest.media_type, stop_);
    if (!put && is_sparse) {
      put.error().what = fmt::format(
          "{} takes no index some of whose platforms were left out; those that were chosen are there by "
          "their "
          "digests",
          target_.name());
    }
    TRY(std::move(put));
    auto state = state_.lock();
    state->manifests.insert(place);
    ++state->out.manifests;
    return {};
  }

  ImageOrigin& origin_;
  Registry& target_;
  const PushRequest& request_;
  Reporter& reporter_;
  const std::stop_token stop_;
  std::vector<Tag> tags_;  // of each image of the request, at the target
  Guarded<State> state_;
};

}  // namespace

Result<PushOutcome> push_images(ImageOrigin& origin, Registry& target, const PushRequest& request,
                                Reporter& reporter, std::stop_token stop) {
  return Push(origin, target, request, reporter, std::move(stop)).run();
}

}  // namespace kuramori::image
