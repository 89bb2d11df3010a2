// Authenticated encryption: AES-256-GCM for frames (OpenSSL), XChaCha20-Poly1305 for records and wrapped
// keys (libsodium). What each binds, and why its nonces cannot repeat: docs/vault-format.md.
#pragma once
#include <memory>

#include "base/bytes.h"
#include "crypto/secret.h"

namespace kuramori {

constexpr size_t kGcmTagBytes = 16;

// AES-256-GCM under one pack's key. The nonce is the frame's ordinal, so one ordinal must never be sealed
// twice: the caller abandons the pack rather than seal again. Not for use by two threads at once.
class FrameCipher {
 public:
  explicit FrameCipher(const Secret& key);
  ~FrameCipher();
  FrameCipher(FrameCipher&&) noexcept;

  // Appends ciphertext and tag (plain.size() + kGcmTagBytes) to `out`.
  void seal(uint32_t ordinal, ByteView additional, ByteView plain, Bytes& out);
  // Writes the plain bytes to `out`, which must have sealed.size() - kGcmTagBytes. False: not authentic.
  bool open(uint32_t ordinal, ByteView additional, ByteView sealed, MutableByteView out);
  // One frame in pieces, each opened again and compared before it goes on, so that no copy of the frame is
  // held: begin(), then for each piece seal_piece() and opens_piece(), then seal_end() and opens_end(). Only
  // that last word says that the frame is authentic: until then, and for ever if it is no, what was sealed is
  // to be thrown away.
  static constexpr size_t kPieceBytes = size_t{64} << 10;  // it stays in the cache
  void begin(uint32_t ordinal, ByteView additional);
  // At most kPieceBytes. The view is good until the next call of seal_piece() or seal_end().
  MutableByteView seal_piece(ByteView plain);
  bool opens_piece(ByteView sealed, ByteView plain);
  MutableByteView seal_end();  // the tag
  bool opens_end(ByteView tag);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

constexpr size_t kXNonceBytes = 24;
constexpr size_t kXTagBytes = 16;

// XChaCha20-Poly1305 with a random nonce: nonce ‖ ciphertext ‖ tag.
Bytes xseal(const Secret& key, ByteView additional, ByteView plain, Random& random);
Result<Bytes> xopen(const Secret& key, ByteView additional, ByteView sealed);
// The same into room that is used again; false: not authentic.
bool xopen_into(const Secret& key, ByteView additional, ByteView sealed, Bytes& plain);

}  // namespace kuramori
