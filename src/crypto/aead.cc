#include "crypto/aead.h"

#include <openssl/evp.h>
#include <sodium.h>

#include "base/check.h"
#include "base/cpu_limit.h"

namespace kuramori {
namespace {
const EVP_CIPHER* gcm_method() {
  static const EVP_CIPHER* method = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  CHECK(method != nullptr);
  return method;
}

// 96-bit nonce: eight zero bytes, then the ordinal, most significant byte first.
std::array<uint8_t, 12> nonce_of(uint32_t ordinal) {
  std::array<uint8_t, 12> nonce{};
  for (int i = 0; i < 4; ++i) nonce[8 + i] = static_cast<uint8_t>(ordinal >> (24 - 8 * i));
  return nonce;
}
}  // namespace

// Contexts are keyed once and only re-nonced per frame: keying costs more than sealing a small frame.
struct FrameCipher::State {
  EVP_CIPHER_CTX* seal = EVP_CIPHER_CTX_new();
  EVP_CIPHER_CTX* open = EVP_CIPHER_CTX_new();
  ~State() {
    EVP_CIPHER_CTX_free(seal);
    EVP_CIPHER_CTX_free(open);
  }
};

FrameCipher::FrameCipher(const Secret& key) : state_(std::make_unique<State>()) {
  CHECK(key.size() == 32);
  CHECK(EVP_EncryptInit_ex2(state_->seal, gcm_method(), key.view().data(), nullptr, nullptr) == 1);
  CHECK(EVP_DecryptInit_ex2(state_->open, gcm_method(), key.view().data(), nullptr, nullptr) == 1);
}
FrameCipher::~FrameCipher() = default;
FrameCipher::FrameCipher(FrameCipher&&) noexcept = default;

void FrameCipher::seal(uint32_t ordinal, ByteView additional, ByteView plain, Bytes& out) {
  auto nonce = nonce_of(ordinal);
  EVP_CIPHER_CTX* context = state_->seal;
  size_t at = out.size();
  out.resize(at + plain.size() + kGcmTagBytes);
  int size = 0;
  CHECK(EVP_EncryptInit_ex2(context, nullptr, nullptr, nonce.data(), nullptr) == 1);
  CHECK(EVP_EncryptUpdate(context, nullptr, &size, additional.data(), static_cast<int>(additional.size())) ==
        1);
  if (!plain.empty()) {
    CHECK(EVP_EncryptUpdate(context, out.data() + at, &size, plain.data(), static_cast<int>(plain.size())) ==
          1);
  }
  CHECK(EVP_EncryptFinal_ex(context, out.data() + at + plain.size(), &size) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kGcmTagBytes, out.data() + at + plain.size()) ==
        1);
}

bool FrameCipher::open(uint32_t ordinal, ByteView additional, ByteView sealed, MutableByteView out) {
  pause_for_cpu();
  if (sealed.size() < kGcmTagBytes || out.size() != sealed.size() - kGcmTagBytes) return false;
  auto nonce = nonce_of(ordinal);
  EVP_CIPHER_CTX* context = state_->open;
  ByteView tag = sealed.last(kGcmTagBytes);
  int size = 0;
  CHECK(EVP_DecryptInit_ex2(context, nullptr, nullptr, nonce.data(), nullptr) == 1);
  CHECK(EVP_DecryptUpdate(context, nullptr, &size, additional.data(), static_cast<int>(additional.size())) ==
        1);
  if (!out.empty()) {
    CHECK(EVP_DecryptUpdate(context, out.data(), &size, sealed.data(), static_cast<int>(out.size())) == 1);
  }
  CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kGcmTagBytes, const_cast<uint8_t*>(tag.data())) ==
        1);
  uint8_t none[16];
  return EVP_DecryptFinal_ex(context, none, &size) == 1;
}

Bytes xseal(const Secret& key, ByteView additional, ByteView plain, Random& random) {
  CHECK(key.size() == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
  Bytes sealed(kXNonceBytes + plain.size() + kXTagBytes);
  random.fill(MutableByteView(sealed).first(kXNonceBytes));
  unsigned long long size = 0;
  CHECK(crypto_aead_xchacha20poly1305_ietf_encrypt(sealed.data() + kXNonceBytes, &size, plain.data(),
                                                   plain.size(), additional.data(), additional.size(),
                                                   nullptr, sealed.data(), key.view().data()) == 0);
  return sealed;
}

bool xopen_into(const Secret& key, ByteView additional, ByteView sealed, Bytes& plain) {
  CHECK(key.size() == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
  if (sealed.size() < kXNonceBytes + kXTagBytes) return false;
  plain.resize(sealed.size() - kXNonceBytes - kXTagBytes);
  unsigned long long size = 0;
  return crypto_aead_xchacha20poly1305_ietf_decrypt(
             plain.data(), &size, nullptr, sealed.data() + kXNonceBytes, sealed.size() - kXNonceBytes,
             additional.data(), additional.size(), sealed.data(), key.view().data()) == 0;
}

Result<Bytes> xopen(const Secret& key, ByteView additional, ByteView sealed) {
  if (sealed.size() < kXNonceBytes + kXTagBytes)
    return fail(ErrorKind::kDamaged, "sealed bytes are truncated");
  Bytes plain;
  if (!xopen_into(key, additional, sealed, plain))
    return fail(ErrorKind::kDamaged, "sealed bytes are not authentic");
  return plain;
}

}  // namespace kuramori
