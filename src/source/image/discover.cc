// The order: names first (lists where all tags or patterns are wanted), then each tag's digest, then what
// each manifest refers to — by digest from there on, so that a tag that moves meanwhile moves nothing — and
// last what others say of what was found: signatures and attestations, which stand under tags of their own
// ("sha256-….sig") or are told by the referrers API.
#include "source/image/discover.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "conc/guarded.h"
#include "conc/task_group.h"
#include "os/file.h"

namespace kuramori::image {
namespace {

constexpr size_t kThreads = 4;
constexpr int kRoundsMax = 4;  // signatures of signatures

struct Tagged {
  std::string repository, tag;
  bool is_named = false;  // in the configuration, in so many words: that it is absent is a defect
};

class Discovery {
 public:
  Discovery(Registry& registry, const Selection& selection, ManifestCache& cache, Reporter& reporter,
            std::stop_token stop)
      : registry_(registry),
        selection_(selection),
        cache_(cache),
        reporter_(reporter),
        stop_(std::move(stop)) {}

  Result<Discovered> run() {
    TRY(registry_.greet(stop_));
    reporter_.phase("looking", 0);
    TRY(find_names());
    TRY(resolve());
    TRY(walk(0));
    TRY(find_what_refers());
    auto state = state_.lock();
    Discovered& out = state->out;
    if (out.set.images.empty()) {
      std::string why = "nothing that images: names is there";
      if (!out.defects.empty()) why = fmt::format("{}: {}", out.defects[0].path, out.defects[0].why);
      return fail(ErrorKind::kFailed, fmt::format("{} has no image to keep", registry_.name()), why,
                  "check images:, or the rights of its user");
    }
    out.set.registry = registry_.name();
    std::ranges::sort(out.set.images, {}, [](const Image& image) { return image.name(); });
    std::ranges::sort(out.defects, {}, [](const Defect& defect) { return defect.path + defect.why; });
    // What another image has as its own is not left out.
    std::erase_if(out.set.left_out, [&](const auto& one) { return out.set.blobs.contains(one.first); });
    return std::move(out);
  }

 private:
  struct State {
    Discovered out;
    std::map<std::string, uint32_t> repositories;
    std::set<std::string> names;                                   // of images
    std::set<ContentDigest> met;                                   // manifests
    std::vector<std::pair<std::string, ContentDigest>> manifests;  // met, of repository
    bool too_many = false;
  };

  void defect(std::string path, std::string why) {
    state_.lock()->out.defects.push_back({.path = std::move(path), .why = std::move(why)});
  }
  static std::string said(const Error& error) {
    return error.what + (error.why.empty() ? "" : ": " + error.why);
  }
  // What is of one image and says nothing of the others.
  static bool is_of_one(const Error& error) {
    return error.kind == ErrorKind::kNotFound || error.kind == ErrorKind::kDamaged ||
           error.kind == ErrorKind::kDenied || error.kind == ErrorKind::kUsage;
  }

  // --- names ---------------------------------------------------------------------------------------------
  Result<void> find_names() {
    std::map<std::string, std::vector<const Wanted*>> by_repository;
    std::set<std::string> by_pattern;  // repositories that only a pattern names
    std::optional<std::vector<std::string>> catalog;
    for (const Wanted& wanted : selection_.images) {
      if (!wanted.is_pattern()) continue;
      if (!catalog) {
        auto listed = registry_.catalog(stop_);
        if (!listed) {
          if (!is_of_one(listed.error())) return std::move(listed).error();
          return fail(ErrorKind::kUsage, fmt::format("{} offers no list of repositories", registry_.name()),
                      said(listed.error()), "name each repository in images:, without *");
        }
        catalog = std::move(*listed);
      }
      bool any = false;
      for (const std::string& repository : *catalog) {
        if (!is_repository(repository) || !matches(wanted.repository, repository)) continue;
        any = true;
        by_repository[repository].push_back(&wanted);
        by_pattern.insert(repository);
      }
      if (!any) defect(wanted.repository, "no repository of the registry is called so");
    }
    for (const Wanted& wanted : selection_.images) {
      if (wanted.is_pattern()) continue;
      by_repository[wanted.repository].push_back(&wanted);
      by_pattern.erase(wanted.repository);
    }
    std::vector<std::string> names;
    for (const auto& [repository, wanted] : by_repository) names.push_back(repository);
    return parallel_for(names.size(), kThreads, stop_, [&](size_t i, const std::stop_token&) {
      return find_tags(names[i], by_repository.at(names[i]), by_pattern.contains(names[i]));
    });
  }

  Result<void> find_tags(const std::string& repository, const std::vector<const Wanted*>& wanted,
                         bool only_by_pattern) {
    std::map<std::string, bool> chosen;  // tag → named in so many words
    bool lists = false;
    for (const Wanted* one : wanted) {
      if (!one->digest.empty()) {
        auto names = names_.lock();
        names->pinned.emplace_back(repository, one->digest);
      } else if (one->tag.empty() || one->tag.find('*') != one->tag.npos) {
        lists = true;
      } else {
        chosen[one->tag] = true;
      }
    }
    // Also where single tags are named: signatures stand under tags of their own.
    auto listed = registry_.tags(repository, stop_);
    if (!listed) {
      if (!is_of_one(listed.error())) return std::move(listed).error();
      // A repository of which all tags were deleted stays in the catalog.
      if (lists && !(only_by_pattern && listed.error().kind == ErrorKind::kNotFound))
        defect(repository, said(listed.error()));
    } else {
      size_t impossible = 0;
      std::vector<std::string> signatures;
      for (const std::string& tag : *listed) {
        if (!is_tag(tag)) {
          ++impossible;
          continue;
        }
        if (tag.starts_with("sha256-") || tag.starts_with("sha512-")) signatures.push_back(tag);
        for (const Wanted* one : wanted) {
          if (one->digest.empty() && (one->tag.empty() || matches(one->tag, tag)) && !chosen.contains(tag))
            chosen[tag] = false;
        }
      }
      if (impossible > 0)
        defect(repository, fmt::format("the registry lists {} tag(s) that can be none", impossible));
      if (lists && chosen.empty() && !only_by_pattern) defect(repository, "it has no such tag");
      if (!signatures.empty()) names_.lock()->signatures[repository] = std::move(signatures);
    }
    auto names = names_.lock();
    for (const auto& [tag, is_named] : chosen) names->tags.push_back({repository, tag, is_named});
    if (names->tags.size() > kImagesMax) {
      return fail(ErrorKind::kUsage, fmt::format("these are more than {} images", kImagesMax), "",
                  "make several resources of them, by repository");
    }
    return {};
  }

  // --- digests -------------------------------------------------------------------------------------------
  Result<void> resolve() {
    auto names = names_.lock();
    TRY(parallel_for(names->tags.size(), kThreads, stop_,
                     [&](size_t i, const std::stop_token&) { return resolve(names->tags[i]); }));
    for (const auto& [repository, digest] : names->pinned)
      add_image({.repository = repository, .tag = "", .manifest = {.media_type = "", .digest = digest}});
    return {};
  }

  Result<void> resolve(const Tagged& tagged) {
    auto descriptor = registry_.resolve(tagged.repository, tagged.tag, stop_);
    if (descriptor) {
      add_image({.repository = tagged.repository, .tag = tagged.tag, .manifest = std::move(*descriptor)});
      return {};
    }
    if (!is_of_one(descriptor.error())) return std::move(descriptor).error();
    // Deleted between the list and now: it is not part of what there is.
    if (descriptor.error().kind == ErrorKind::kNotFound && !tagged.is_named) return {};
    defect(tagged.repository + ":" + tagged.tag, descriptor.error().kind == ErrorKind::kNotFound
                                                     ? "the registry has no such tag"
                                                     : said(descriptor.error()));
    return {};
  }

  void add_image(Image image) {
    auto state = state_.lock();
    if (state->names.insert(image.name()).second) state->out.set.images.push_back(std::move(image));
  }

  // --- what they consist of ------------------------------------------------------------------------------
  // From the image of this number on.
  Result<void> walk(size_t begin) {
    std::vector<Image> images;
    {
      auto state = state_.lock();
      images.assign(state->out.set.images.begin() + static_cast<ptrdiff_t>(begin),
                    state->out.set.images.end());
    }
    std::vector<char> is_there(images.size(), 0);
    TRY(parallel_for(images.size(), kThreads, stop_, [&](size_t i, const std::stop_token&) -> Result<void> {
      Image& image = images[i];
      TRY_ASSIGN(is_there[i], walk(image.repository, image.manifest, image.name(), 0));
      return {};
    }));
    auto state = state_.lock();
    auto& all = state->out.set.images;
    all.resize(begin);
    for (size_t i = 0; i < images.size(); ++i) {
      if (is_there[i] != 0) all.push_back(std::move(images[i]));
    }
    if (state->too_many) {
      return fail(ErrorKind::kUsage, fmt::format("these images have more than {} blobs", kBlobsMax), "",
                  "make several resources of them, by repository");
    }
    return {};
  }

  // False: it cannot be kept, and a defect says so. Completes the descriptor.
  Result<bool> walk(const std::string& repository, Descriptor& descriptor, const std::string& image,
                    size_t depth) {
    if (depth > kDepthMax) {
      defect(image, fmt::format("its indexes go deeper than {}", kDepthMax));
      return false;
    }
    const bool is_top = depth == 0;
    auto loaded = load(repository, descriptor.digest);
    Result<Manifest> parsed = loaded ? parse_manifest(loaded->bytes, is_top && !descriptor.media_type.empty()
                                                                         ? descriptor.media_type
                                                                         : loaded->media_type)
                                     : Result<Manifest>(loaded.error());
    if (parsed && !is_top && descriptor.size != loaded->bytes.size())
      parsed = fail(ErrorKind::kDamaged, "it is not as long as its index says");
    if (!parsed) {
      if (!is_of_one(parsed.error())) return std::move(parsed).error();
      defect(image, fmt::format("{}{}: {}", descriptor.digest.brief(),
                                descriptor.platform.empty() ? "" : " of " + descriptor.platform,
                                said(parsed.error())));
      return false;
    }
    const Manifest& manifest = *parsed;
    descriptor.size = loaded->bytes.size();
    if (is_top) descriptor.media_type = manifest.media_type;
    if (!add_blob(repository, descriptor.digest, descriptor.size, true)) return true;  // met before
    if (manifest.form == Manifest::Form::kIndex) return walk_index(repository, manifest, image, depth);
    if (!descriptor.platform.empty()) ++state_.lock()->out.platforms;
    if (manifest.config) add_blob(repository, manifest.config->digest, manifest.config->size, false);
    for (const Descriptor& layer : manifest.layers) {
      if (layer.elsewhere) {
        TRY_ASSIGN(const auto there, registry_.has_blob(repository, layer.digest, stop_));
        if (!there) {
          auto state = state_.lock();
          state->out.set.left_out.emplace(layer.digest, "a foreign layer: the registry does not hold it");
          continue;
        }
      }
      add_blob(repository, layer.digest, layer.size, false);
    }
    return true;
  }

  Result<bool> walk_index(const std::string& repository, const Manifest& index, const std::string& image,
                          size_t depth) {
    std::set<std::string> kept;
    size_t chosen = 0, images = 0;
    for (const bool attestations : {false, true}) {  // these go with what they attest
      for (const Descriptor& listed : index.manifests) {
        if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
        const bool attests = !listed.attests.empty();
        if (attests != attestations) continue;
        if (!attests && !listed.platform.empty()) ++images;
        const bool wanted = attests ? kept.contains(listed.attests) : is_chosen(listed.platform);
        if (!wanted) {
          state_.lock()->out.set.left_out.emplace(
              listed.digest, fmt::format("{} is not among the chosen platforms", listed.platform));
          continue;
        }
        if (!attests && !listed.platform.empty()) ++chosen;
        Descriptor child = listed;
        TRY_ASSIGN(const bool there, walk(repository, child, image, depth + 1));
        if (there) kept.insert(listed.digest.text());
      }
    }
    if (images > 0 && chosen == 0) defect(image, "it has none of the chosen platforms");
    return true;
  }

  bool is_chosen(const std::string& platform) const {
    if (selection_.platforms.empty() || platform.empty() || platform == "unknown/unknown") return true;
    return std::ranges::any_of(selection_.platforms,
                               [&](const std::string& one) { return is_platform(one, platform); });
  }

  Result<FetchedManifest> load(const std::string& repository, const ContentDigest& digest) {
    if (auto known = cache_.get(digest)) {
      ++state_.lock()->out.requests_saved;
      return FetchedManifest{.bytes = std::move(*known), .media_type = "", .digest = digest};
    }
    TRY_ASSIGN(FetchedManifest read, registry_.manifest(repository, digest.text(), stop_));
    cache_.put(digest, read.bytes);
    return read;
  }

  // False: a manifest that was met before.
  bool add_blob(const std::string& repository, const ContentDigest& digest, uint64_t size, bool is_manifest) {
    auto state = state_.lock();
    ImageSet& set = state->out.set;
    const auto [number, is_new] = state->repositories.emplace(repository, set.repositories.size());
    if (is_new) set.repositories.push_back(repository);
    if (set.blobs.size() >= kBlobsMax) {
      state->too_many = true;
      return false;
    }
    Blob& blob = set.blobs[digest];
    if (blob.repositories.empty()) blob.size = size;
    if (std::ranges::count(blob.repositories, number->second) == 0 &&
        blob.repositories.size() < kRepositoriesOfBlobMax)
      blob.repositories.push_back(number->second);
    blob.is_manifest = blob.is_manifest || is_manifest;
    if (!is_manifest) return true;
    const bool first = state->met.insert(digest).second;
    if (first) state->manifests.emplace_back(repository, digest);
    return first;
  }

  // --- what others say of them ---------------------------------------------------------------------------
  Result<void> find_what_refers() {
    size_t asked = 0;
    for (int round = 0; round < kRoundsMax; ++round) {
      std::vector<std::pair<std::string, ContentDigest>> manifests;
      size_t known = 0;
      std::set<std::string> names;
      {
        auto state = state_.lock();
        manifests.assign(state->manifests.begin() + static_cast<ptrdiff_t>(asked), state->manifests.end());
        asked = state->manifests.size();
        known = state->out.set.images.size();
        for (const Image& image : state->out.set.images) names.insert(image.name());
      }
      TRY(parallel_for(manifests.size(), kThreads, stop_, [&](size_t i, const std::stop_token&) {
        return find_what_refers_to(manifests[i].first, manifests[i].second, names);
      }));
      const size_t now = state_.lock()->out.set.images.size();
      if (now == known) return {};
      TRY(walk(known));
    }
    return {};
  }

  Result<void> find_what_refers_to(const std::string& repository, const ContentDigest& digest,
                                   const std::set<std::string>& names) {
    const std::string mark = fmt::format("{}-{}", digest.algorithm(), digest.hex());
    std::vector<std::string> tags;
    {
      auto all = names_.lock();
      const auto found = all->signatures.find(repository);
      if (found != all->signatures.end()) {
        for (const std::string& tag : found->second) {
          if (tag.starts_with(mark) && !names.contains(repository + ":" + tag)) tags.push_back(tag);
        }
      }
    }
    for (const std::string& tag : tags) TRY(resolve({repository, tag, false}));
    TRY_ASSIGN(std::vector<Descriptor> others, registry_.referrers(repository, digest, stop_));
    for (Descriptor& other : others) {
      Image image{.repository = repository, .tag = "", .manifest = std::move(other)};
      image.manifest.platform = "";
      {
        auto state = state_.lock();
        if (state->met.contains(image.manifest.digest)) continue;
      }
      add_image(std::move(image));
    }
    return {};
  }

  struct Names {
    std::vector<Tagged> tags;
    std::vector<std::pair<std::string, ContentDigest>> pinned;
    std::map<std::string, std::vector<std::string>> signatures;  // of each repository: tags named by digests
  };

  Registry& registry_;
  const Selection& selection_;
  ManifestCache& cache_;
  Reporter& reporter_;
  const std::stop_token stop_;
  Guarded<Names> names_;
  Guarded<State> state_;
};

}  // namespace

std::string ManifestCache::path_of(const ContentDigest& digest) const {
  return join_path(folder_, fmt::format("{}-{}", digest.algorithm(), digest.hex()));
}

std::optional<Bytes> ManifestCache::get(const ContentDigest& digest) {
  if (folder_.empty()) return std::nullopt;
  auto bytes = read_file(path_of(digest), kManifestBytesMax);
  if (!bytes) return std::nullopt;
  DigestCheck check(digest);
  check.add(*bytes);
  if (!check.matches()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  used_.insert(path_of(digest));
  return std::move(*bytes);
}

void ManifestCache::put(const ContentDigest& digest, ByteView bytes) {
  if (folder_.empty() || !make_folders(folder_)) return;
  // Not made to survive a crash: a half one is not believed.
  auto fd = open_file(path_of(digest), O_WRONLY | O_CREAT | O_TRUNC);
  if (!fd || !write_full(*fd, bytes, "")) return;
  const std::lock_guard lock(mutex_);
  used_.insert(path_of(digest));
}

void ManifestCache::forget_unused() {
  if (folder_.empty()) return;
  const auto entries = list_folder(folder_);
  if (!entries) return;
  const std::lock_guard lock(mutex_);
  for (const FolderEntry& entry : *entries) {
    const std::string path = join_path(folder_, entry.name);
    if (entry.type == FileType::kFile && entry.name.starts_with("sha") && !used_.contains(path))
      (void)::unlink(path.c_str());
  }
}

Result<Discovered> discover(Registry& registry, const Selection& selection, ManifestCache& cache,
                            Reporter& reporter, std::stop_token stop) {
  return Discovery(registry, selection, cache, reporter, std::move(stop)).run();
}

}  // namespace kuramori::image
