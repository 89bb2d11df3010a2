// SHA-256, and HMAC and HKDF over it (OpenSSL; FIPS 180-4, RFC 2104, RFC 5869); AES-CMAC.
#pragma once
#include <array>
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

// SHA-512, for what others name by it. Ours is SHA-256.
class Sha512 {
 public:
  static constexpr size_t kBytes = 64;
  Sha512();
  ~Sha512();
  Sha512(Sha512&&) noexcept;
  void add(ByteView bytes);
  std::array<uint8_t, kBytes> finish();  // and starts anew

 private:
  struct State;
  std::unique_ptr<State> state_;
};

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

// AES-CMAC with a 128-bit key (NIST SP 800-38B), for very many short messages under one key. Not for use by
// two threads at once.
class AesCmac {
 public:
  static constexpr size_t kBytes = 16;
  explicit AesCmac(ByteView key);
  ~AesCmac();
  AesCmac(AesCmac&&) noexcept;
  std::array<uint8_t, kBytes> of(ByteView message);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest hmac_sha256(ByteView key, ByteView message);
// A 32-byte key derived from `key` for one purpose: HKDF-SHA-256 with `salt` and `info`.
Secret hkdf_sha256(ByteView key, ByteView salt, ByteView info);

}  // namespace kuramori
