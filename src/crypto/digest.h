// SHA-256, and HMAC and HKDF over it (OpenSSL; FIPS 180-4, RFC 2104, RFC 5869).
#pragma once
#include <initializer_list>
#include <memory>
#include <string_view>

#include "base/id.h"
#include "crypto/secret.h"

namespace kuramori {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void add(ByteView bytes);
  Digest finish();  // and starts anew

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest sha256(ByteView bytes);

class HmacSha256 {
 public:
  explicit HmacSha256(ByteView key);
  ~HmacSha256();
  HmacSha256(HmacSha256&&) noexcept;
  void add(ByteView bytes);
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest hmac_sha256(ByteView key, ByteView message);
// A 32-byte key derived from `key` for one purpose: HKDF-SHA-256 with `salt` and `info`.
Secret hkdf_sha256(ByteView key, ByteView salt, ByteView info);

}  // namespace kuramori
