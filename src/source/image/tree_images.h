// The images of a snapshot: its tree read as the OCI image layout that it is.
#pragma once
#include <map>
#include <mutex>
#include <stop_token>

#include "source/image/image_set.h"
#include "source/source.h"

namespace kuramori::image {

// A small file of the tree as a whole. kDamaged: it is larger than `max`.
Result<Bytes> read_small(const CapturedTree& tree, std::string_view path, size_t max);

// Borrows the tree. Methods may be called from several threads at once.
class TreeImages {
 public:
  static Result<TreeImages> open(const CapturedTree& tree, const std::stop_token& stop);

  const std::vector<Image>& images() const { return images_; }
  // Those that `only` names (all, if it is empty). kNotFound for one that names none.
  Result<std::vector<Image>> chosen(const std::vector<std::string>& only) const;
  const std::map<ContentDigest, std::string>& left_out() const { return left_out_; }
  uint64_t entries() const { return entries_; }

  // The size of a blob in the tree, if it is there.
  std::optional<uint64_t> size_of(const ContentDigest& digest) const;
  // Verified. kNotFound: the snapshot does not have it; kDamaged.
  Result<Bytes> manifest(const ContentDigest& digest) const;
  // Verified on return. kNotFound, kDamaged.
  Result<void> blob(const ContentDigest& digest, const std::function<Result<void>(ByteView)>& take) const;
  // All blobs an image consists of, manifests among them, added to `into`. What the snapshot does not have
  // goes to `missing`, unless it was left out on purpose.
  Result<void> collect(const Image& image, std::map<ContentDigest, uint64_t>& into,
                       std::map<ContentDigest, std::string>& missing) const;

 private:
  Result<void> collect(const ContentDigest& digest, std::string_view media_type, size_t depth,
                       std::map<ContentDigest, uint64_t>& into,
                       std::map<ContentDigest, std::string>& missing) const;

  const CapturedTree* tree_ = nullptr;
  std::vector<Image> images_;
  std::map<ContentDigest, std::string> left_out_;
  std::map<ContentDigest, uint64_t> blobs_;
  uint64_t entries_ = 0;
};

}  // namespace kuramori::image
