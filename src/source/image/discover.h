// Finds out which images there are in a registry, and what each consists of, without reading a layer.
#pragma once
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "source/image/image_set.h"
#include "source/image/reference.h"
#include "source/image/registry.h"
#include "source/source.h"

namespace kuramori::image {

// Manifests of earlier captures, each in a file of its digest's name: they never change, so an image that is
// as it was costs the look at its tag. Believed only after their digest was computed; one that is lost is
// read again. Methods may be called from several threads at once.
class ManifestCache {
 public:
  explicit ManifestCache(std::string folder) : folder_(std::move(folder)) {}  // "": remembers nothing
  std::optional<Bytes> get(const ContentDigest& digest);
  void put(const ContentDigest& digest, ByteView bytes);
  // Removes what was not asked for since this was made.
  void forget_unused();

 private:
  std::string path_of(const ContentDigest& digest) const;
  const std::string folder_;
  std::mutex mutex_;
  std::set<std::string> used_;
};

struct Selection {
  std::vector<Wanted> images;
  std::vector<std::string> platforms;  // "linux/amd64"; empty: all
};

struct Discovered {
  ImageSet set;
  std::vector<Defect> defects;  // what was asked for and is not there, or not as it should be
  uint64_t platforms = 0;       // manifests of images, of those that have several
  uint64_t requests_saved = 0;  // manifests that were remembered
};

// kFailed where nothing at all is found: an empty snapshot would take the place of the last one.
Result<Discovered> discover(Registry& registry, const Selection& selection, ManifestCache& cache,
                            Reporter& reporter, std::stop_token stop);

}  // namespace kuramori::image
