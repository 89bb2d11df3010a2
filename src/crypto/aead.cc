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
  Bytes sealed_piece, opened_piece;  // of one that only reads there is none
  ~State() {
    EVP_CIPHER_CTX_free(seal);
    EVP_CIPHER_CTX_free(open);
  }
  void begin_to_seal(uint32_t ordinal, ByteView additional) const;
  void seal_into(ByteView plain, uint8_t* out) const;
  void end_sealing(uint8_t* tag) const;
  void begin_to_open(uint32_t ordinal, ByteView additional) const;
  void open_into(ByteView sealed, uint8_t* out) const;
  bool end_opening(ByteView tag) const;
};

FrameCipher::FrameCipher(const Secret& key) : state_(std::make_unique<State>()) {
  CHECK(key.size() == 32);
  CHECK(EVP_EncryptInit_ex2(state_->seal, gcm_method(), key.view().data(), nullptr, nullptr) == 1);
  CHECK(EVP_DecryptInit_ex2(state_->open, gcm_method(), key.view().data(), nullptr, nullptr) == 1);
}
FrameCipher::~FrameCipher() = default;
FrameCipher::FrameCipher(FrameCipher&&) noexcept = default;

void FrameCipher::State::begin_to_seal(uint32_t ordinal, ByteView additional) const {
  const auto nonce = nonce_of(ordinal);
  int size = 0;
  CHECK(EVP_EncryptInit_ex2(seal, nullptr, nullptr, nonce.data(), nullptr) == 1);
  CHECK(EVP_EncryptUpdate(seal, nullptr, &size, additional.data(), static_cast<int>(additional.size())) == 1);
}

void FrameCipher::State::seal_into(ByteView plain, uint8_t* out) const {
  int size = 0;
  if (!plain.empty())
    CHECK(EVP_EncryptUpdate(seal, out, &size, plain.data(), static_cast<int>(plain.size())) == 1);
}

void FrameCipher::State::end_sealing(uint8_t* tag) const {
  int size = 0;
  CHECK(EVP_EncryptFinal_ex(seal, tag, &size) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(seal, EVP_CTRL_AEAD_GET_TAG, kGcmTagBytes, tag) == 1);
}

void FrameCipher::State::begin_to_open(uint32_t ordinal, ByteView additional) const {
  const auto nonce = nonce_of(ordinal);
  int size = 0;
  CHECK(EVP_DecryptInit_ex2(open, nullptr, nullptr, nonce.data(), nullptr) == 1);
  CHECK(EVP_DecryptUpdate(open, nullptr, &size, additional.data(), static_cast<int>(additional.size())) == 1);
}

void FrameCipher::State::open_into(ByteView sealed, uint8_t* out) const {
  int size = 0;
  if (!sealed.empty())
    CHECK(EVP_DecryptUpdate(open, out, &size, sealed.data(), static_cast<int>(sealed.size())) == 1);
}

bool FrameCipher::State::end_opening(ByteView tag) const {
  CHECK(EVP_CIPHER_CTX_ctrl(open, EVP_CTRL_AEAD_SET_TAG, kGcmTagBytes, const_cast<uint8_t*>(tag.data())) ==
        1);
  uint8_t none[16];
  int size = 0;
  return EVP_DecryptFinal_ex(open, none, &size) == 1;
}

void FrameCipher::seal(uint32_t ordinal, ByteView additional, ByteView plain, Bytes& out) {
  const size_t at = out.size();
  out.resize(at + plain.size() + kGcmTagBytes);
  state_->begin_to_seal(ordinal, additional);
  state_->seal_into(plain, out.data() + at);
  state_->end_sealing(out.data() + at + plain.size());
}

bool FrameCipher::open(uint32_t ordinal, ByteView additional, ByteView sealed, MutableByteView out) {
  pause_for_cpu();
  if (sealed.size() < kGcmTagBytes || out.size() != sealed.size() - kGcmTagBytes) return false;
  state_->begin_to_open(ordinal, additional);
  state_->open_into(sealed.first(out.size()), out.data());
  return state_->end_opening(sealed.last(kGcmTagBytes));
}

void FrameCipher::begin(uint32_t ordinal, ByteView additional) {
  pause_for_cpu();
  state_->sealed_piece.resize(kPieceBytes);
  state_->opened_piece.resize(kPieceBytes);
  state_->begin_to_seal(ordinal, additional);
  state_->begin_to_open(ordinal, additional);
}

MutableByteView FrameCipher::seal_piece(ByteView plain) {
  CHECK(plain.size() <= kPieceBytes);
  state_->seal_into(plain, state_->sealed_piece.data());
  return MutableByteView(state_->sealed_piece).first(plain.size());
}

bool FrameCipher::opens_piece(ByteView sealed, ByteView plain) {
  CHECK(sealed.size() <= kPieceBytes);
  state_->open_into(sealed, state_->opened_piece.data());
  return equal(ByteView(state_->opened_piece).first(sealed.size()), plain);
}

MutableByteView FrameCipher::seal_end() {
  state_->end_sealing(state_->sealed_piece.data());
  return MutableByteView(state_->sealed_piece).first(kGcmTagBytes);
}

bool FrameCipher::opens_end(ByteView tag) {
  return tag.size() == kGcmTagBytes && state_->end_opening(tag);
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
