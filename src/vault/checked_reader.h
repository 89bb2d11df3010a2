// An object whose bytes are held against checksums of its stripes as they are read: what comes out is what
// was hashed, not what an earlier look found.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "crypto/digest.h"
#include "store/store.h"

namespace kuramori {

class CheckedReader final : public ObjectReader {
 public:
  static constexpr uint64_t kStripeBytes = 1u << 20;
  // `stripes`: a SHA256 of each mebibyte of the first `checked_bytes`; what follows is read as it is.
  CheckedReader(std::unique_ptr<ObjectReader> inner, uint64_t checked_bytes, std::vector<Digest> stripes,
                std::string name)
      : inner_(std::move(inner)),
        checked_bytes_(checked_bytes),
        stripes_(std::move(stripes)),
        name_(std::move(name)) {}
  uint64_t size() const override { return inner_->size(); }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    while (!out.empty() && offset < checked_bytes_) {
      TRY(hold(offset / kStripeBytes));
      const uint64_t skip = offset % kStripeBytes;
      const size_t part = std::min<size_t>(out.size(), stripe_.size() - static_cast<size_t>(skip));
      std::memcpy(out.data(), stripe_.data() + skip, part);
      offset += part;
      out = out.subspan(part);
    }
    return out.empty() ? Result<void>() : inner_->read(offset, out);
  }

 private:
  Result<void> hold(uint64_t index) {
    if (held_ == index) return {};
    held_ = UINT64_MAX;
    const uint64_t begin = index * kStripeBytes;
    stripe_.resize(static_cast<size_t>(std::min(kStripeBytes, checked_bytes_ - begin)));
    TRY(inner_->read(begin, stripe_));
    if (index >= stripes_.size() || sha256(stripe_) != stripes_[index])
      return fail(ErrorKind::kDamaged, name_ + " is damaged: bytes " + std::to_string(begin) + " to " +
                                           std::to_string(begin + stripe_.size()) +
                                           " are not what was written");
    held_ = index;
    return {};
  }

  std::unique_ptr<ObjectReader> inner_;
  uint64_t checked_bytes_;
  std::vector<Digest> stripes_;
  std::string name_;
  Bytes stripe_;
  uint64_t held_ = UINT64_MAX;
};

}  // namespace kuramori
