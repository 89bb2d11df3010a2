// Keys for decoders that only see what they authenticated: a target seals its input itself, so that the
// fuzzer gets past the seal to what parses the plain bytes.
#pragma once
#include "codec/zstd.h"
#include "crypto/aead.h"
#include "vault/test_support.h"

namespace kuramori::fuzz {

constexpr size_t kInputBytesMax = 1 << 20;

inline test::SeededRandom& random() {
  static test::SeededRandom random(1);
  return random;
}
inline const KeyBundle& keys() {
  static const KeyBundle keys = KeyBundle::new_owner("fuzz", random());
  return keys;
}
inline const ResourceId& scope() {
  static const ResourceId scope = random().id<ResourceId>();
  return scope;
}
inline void expect(bool holds) {
  if (!holds) __builtin_trap();
}
// What an attacker can do to a checksum without a key.
inline void append_checksum(Bytes& object) {
  Digest digest = sha256(object);
  append(object, digest.view());
}

}  // namespace kuramori::fuzz
