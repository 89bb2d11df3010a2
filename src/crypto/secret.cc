#include "crypto/secret.h"

#include <sodium.h>

#include <utility>

#include "base/check.h"

namespace kuramori {
namespace {
void init_once() {
  static const int ready = sodium_init();
  CHECK(ready >= 0);
}
}  // namespace

Secret::Secret(size_t size) : size_(size) {
  init_once();
  if (size == 0) return;
  data_ = static_cast<uint8_t*>(sodium_malloc(size));
  CHECK(data_ != nullptr);
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    sodium_free(data_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Secret::~Secret() {
  sodium_free(data_);  // wipes first
}

Secret Secret::copy_of(ByteView bytes) {
  Secret secret(bytes.size());
  if (!bytes.empty()) std::memcpy(secret.data_, bytes.data(), bytes.size());
  return secret;
}

Secret Secret::random(size_t size, Random& random) {
  Secret secret(size);
  random.fill(secret.fill());
  return secret;
}

bool equal_secret(ByteView a, ByteView b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

void wipe(MutableByteView bytes) {
  sodium_memzero(bytes.data(), bytes.size());
}

}  // namespace kuramori
