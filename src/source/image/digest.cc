#include "source/image/digest.h"

#include <algorithm>
#include <optional>

#include "crypto/digest.h"

namespace kuramori::image {
namespace {

constexpr size_t kBriefDigits = 12;

}  // namespace

Result<ContentDigest> ContentDigest::parse(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view algorithm = text.substr(0, colon);
  const std::string_view digits = colon == text.npos ? std::string_view() : text.substr(colon + 1);
  const size_t wanted = algorithm == "sha256" ? 64 : algorithm == "sha512" ? 128 : 0;
  const bool is_hex =
      std::ranges::all_of(digits, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (wanted == 0 || digits.size() != wanted || !is_hex) {
    return fail(ErrorKind::kDamaged, "what stands for a digest is none",
                "it is sha256: and 64 hexadecimal digits, or sha512: and 128, in lower case");
  }
  ContentDigest digest;
  digest.text_ = text;
  return digest;
}

ContentDigest ContentDigest::sha256_of(ByteView bytes) {
  ContentDigest digest;
  digest.text_ = "sha256:" + to_hex(sha256(bytes).raw);
  return digest;
}

std::string ContentDigest::path() const {
  std::string path = "blobs/" + text_;
  path[path.find(':')] = '/';
  return path;
}

std::string ContentDigest::brief() const {
  return text_.substr(0, text_.find(':') + 1 + kBriefDigits);
}

struct DigestCheck::State {
  std::optional<Sha256> sha256;
  std::optional<Sha512> sha512;
};

DigestCheck::DigestCheck(const ContentDigest& digest) : digest_(digest), state_(std::make_unique<State>()) {
  if (digest.algorithm() == "sha512")
    state_->sha512.emplace();
  else
    state_->sha256.emplace();
}
DigestCheck::~DigestCheck() = default;

void DigestCheck::add(ByteView bytes) {
  bytes_ += bytes.size();
  if (state_->sha256) state_->sha256->add(bytes);
  if (state_->sha512) state_->sha512->add(bytes);
}

bool DigestCheck::matches() {
  return to_hex(state_->sha256 ? ByteView(state_->sha256->finish().raw) : ByteView()) == digest_.hex() ||
         (state_->sha512 && to_hex(state_->sha512->finish()) == digest_.hex());
}

}  // namespace kuramori::image
