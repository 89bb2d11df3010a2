// What names content in a registry: an algorithm and the digest's hexadecimal digits.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace kuramori::image {

// "sha256:…" (64 digits) or "sha512:…" (128), lower case. Only parse() makes one, so it is never a path.
class ContentDigest {
 public:
  ContentDigest() = default;
  // kDamaged: it is none, or of another algorithm; nothing of it is repeated.
  static Result<ContentDigest> parse(std::string_view text);
  static ContentDigest sha256_of(ByteView bytes);

  const std::string& text() const { return text_; }
  std::string_view algorithm() const { return std::string_view(text_).substr(0, text_.find(':')); }
  std::string_view hex() const { return std::string_view(text_).substr(text_.find(':') + 1); }
  std::string path() const;   // in an image layout: "blobs/sha256/…"
  std::string brief() const;  // for people: "sha256:0123456789ab"
  bool empty() const { return text_.empty(); }
  auto operator<=>(const ContentDigest&) const = default;

 private:
  std::string text_;
};

// Sees content go by and knows in the end whether it was what its digest says.
class DigestCheck {
 public:
  explicit DigestCheck(const ContentDigest& digest);
  ~DigestCheck();
  void add(ByteView bytes);
  uint64_t bytes() const { return bytes_; }
  bool matches();  // once, at the end

 private:
  struct State;
  const ContentDigest digest_;
  uint64_t bytes_ = 0;
  std::unique_ptr<State> state_;
};

}  // namespace kuramori::image
