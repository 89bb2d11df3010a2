// Gives images to a registry: out of a snapshot, or out of another registry.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "source/image/image_set.h"
#include "source/image/registry.h"
#include "source/source.h"

namespace kuramori::image {

// Where the content comes from. Methods are called by several threads at once.
class ImageOrigin {
 public:
  virtual ~ImageOrigin() = default;
  // Verified, both. kNotFound, kDamaged.
  virtual Result<Bytes> manifest(const std::string& repository, const ContentDigest& digest,
                                 const std::stop_token& stop) = 0;
  virtual Result<void> blob(const std::string& repository, const Descriptor& blob,
                            const std::function<Result<void>(ByteView)>& take,
                            const std::stop_token& stop) = 0;
};

struct PushRequest {
  std::vector<Image> images;
  std::map<ContentDigest, std::string> left_out;  // of indexes and images, on purpose
  std::string prefix;                             // before each repository's name; "": none
  // What a tag that stands for another image there does: it stops all before the first byte, or it is moved.
  enum class Tags : uint8_t { kKeep, kMove } tags = Tags::kKeep;
  // An image whose tag stands for it already is looked at in all its parts, or believed.
  enum class Trust : uint8_t { kLook, kBelieve } trust = Trust::kLook;
  unsigned workers = 2;
};

struct PushOutcome {
  uint64_t images = 0, images_as_before = 0;
  uint64_t manifests = 0, blobs = 0, blobs_there = 0, blobs_mounted = 0, bytes = 0;  // sent; bytes: of blobs
  std::vector<Defect> failed;  // images that could not be given, and why
  std::vector<std::string> notes;
};

// kRefused: a tag there stands for something else. An image that cannot be given is in `failed`, and the
// others are. Every manifest that was given was read back when this returns.
Result<PushOutcome> push_images(ImageOrigin& origin, Registry& target, const PushRequest& request,
                                Reporter& reporter, std::stop_token stop);

}  // namespace kuramori::image
