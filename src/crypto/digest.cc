#include "crypto/digest.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/check.h"
#include "base/cpu_limit.h"

namespace kuramori {
namespace {

constexpr size_t kWorkBytes = 64 << 10;  // from here on a digest is work for the processor

// Fetched once: an implicit fetch costs more than hashing a small record.
const EVP_MD* sha256_method() {
  static const EVP_MD* method = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  CHECK(method != nullptr);
  return method;
}
EVP_MAC* hmac_method() {
  static EVP_MAC* method = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  CHECK(method != nullptr);
  return method;
}
}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  CHECK(EVP_DigestInit_ex2(state_->context, sha256_method(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(ByteView bytes) {
  if (bytes.size() >= kWorkBytes) pause_for_cpu();
  CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

Digest Sha256::finish() {
  Digest digest;
  unsigned size = 0;
  CHECK(EVP_DigestFinal_ex(state_->context, digest.raw.data(), &size) == 1 && size == digest.raw.size());
  CHECK(EVP_DigestInit_ex2(state_->context, sha256_method(), nullptr) == 1);
  return digest;
}

Digest sha256(ByteView bytes) {
  if (bytes.size() >= kWorkBytes) pause_for_cpu();
  Digest digest;
  unsigned size = 0;
  CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.raw.data(), &size, sha256_method(), nullptr) == 1);
  return digest;
}

struct Sha512::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha512::Sha512() : state_(std::make_unique<State>()) {
  CHECK(EVP_DigestInit_ex2(state_->context, EVP_sha512(), nullptr) == 1);
}
Sha512::~Sha512() = default;
Sha512::Sha512(Sha512&&) noexcept = default;

void Sha512::add(ByteView bytes) {
  if (bytes.size() >= kWorkBytes) pause_for_cpu();
  CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::array<uint8_t, Sha512::kBytes> Sha512::finish() {
  std::array<uint8_t, kBytes> digest{};
  unsigned size = 0;
  CHECK(EVP_DigestFinal_ex(state_->context, digest.data(), &size) == 1 && size == digest.size());
  CHECK(EVP_DigestInit_ex2(state_->context, EVP_sha512(), nullptr) == 1);
  return digest;
}

struct HmacSha256::State {
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(hmac_method());
  ~State() { EVP_MAC_CTX_free(context); }
};

HmacSha256::HmacSha256(ByteView key) : state_(std::make_unique<State>()) {
  char name[] = "SHA256";
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                             OSSL_PARAM_construct_end()};
  CHECK(EVP_MAC_init(state_->context, key.data(), key.size(), parameters) == 1);
}
HmacSha256::~HmacSha256() = default;
HmacSha256::HmacSha256(HmacSha256&&) noexcept = default;

void HmacSha256::add(ByteView bytes) {
  CHECK(EVP_MAC_update(state_->context, bytes.data(), bytes.size()) == 1);
}

Digest HmacSha256::finish() {
  Digest digest;
  size_t size = 0;
  CHECK(EVP_MAC_final(state_->context, digest.raw.data(), &size, digest.raw.size()) == 1);
  return digest;
}

struct AesCmac::State {
  static EVP_MAC* method() {
    static EVP_MAC* method = EVP_MAC_fetch(nullptr, "CMAC", nullptr);
    CHECK(method != nullptr);
    return method;
  }
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(method());
  ~State() { EVP_MAC_CTX_free(context); }
};

AesCmac::AesCmac(ByteView key) : state_(std::make_unique<State>()) {
  CHECK(key.size() == kBytes);
  char name[] = "AES-128-CBC";
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, name, 0),
                             OSSL_PARAM_construct_end()};
  CHECK(EVP_MAC_init(state_->context, key.data(), key.size(), parameters) == 1);
}
AesCmac::~AesCmac() = default;
AesCmac::AesCmac(AesCmac&&) noexcept = default;

std::array<uint8_t, AesCmac::kBytes> AesCmac::of(ByteView message) {
  std::array<uint8_t, kBytes> mac{};
  size_t size = 0;
  // Without a key: it stays, and so do the subkeys.
  CHECK(EVP_MAC_init(state_->context, nullptr, 0, nullptr) == 1);
  CHECK(EVP_MAC_update(state_->context, message.data(), message.size()) == 1);
  CHECK(EVP_MAC_final(state_->context, mac.data(), &size, mac.size()) == 1 && size == mac.size());
  return mac;
}

Digest hmac_sha256(ByteView key, ByteView message) {
  HmacSha256 hmac(key);
  hmac.add(message);
  return hmac.finish();
}

Secret hkdf_sha256(ByteView key, ByteView salt, ByteView info) {
  static EVP_KDF* method = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  EVP_KDF_CTX* context = EVP_KDF_CTX_new(method);
  CHECK(context != nullptr);
  char name[] = "SHA256";
  auto octets = [](const char* id, ByteView view) {
    return OSSL_PARAM_construct_octet_string(id, const_cast<uint8_t*>(view.data()), view.size());
  };
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, name, 0),
                             octets(OSSL_KDF_PARAM_KEY, key), octets(OSSL_KDF_PARAM_SALT, salt),
                             octets(OSSL_KDF_PARAM_INFO, info), OSSL_PARAM_construct_end()};
  Secret derived(32);
  int ok = EVP_KDF_derive(context, derived.fill().data(), derived.size(), parameters);
  EVP_KDF_CTX_free(context);
  CHECK(ok == 1);
  return derived;
}

}  // namespace kuramori
