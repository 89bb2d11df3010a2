// What a chunk of content is known by: a keyed digest, so that the same content is stored once and nobody
// without the key can ask whether a guessed content is there.
#pragma once
#include "crypto/digest.h"
#include "vault/key_bundle.h"

namespace kuramori {

// The first 24 bytes of HMAC-SHA-256(id key, SHA-256(chunk)). 192 bits: two of 2^48 chunks are alike by
// chance once in 2^97.
using ChunkId = Id<24, struct ChunkTag>;

// Any thread may ask.
class ChunkNamer {
 public:
  // The id key is derived from the bundle's chunk key, which the writers of one domain share.
  explicit ChunkNamer(const KeyBundle& keys);
  ChunkId name(ByteView chunk) const;
  // Of a chunk whose digest is known already.
  ChunkId name(const Digest& sha256) const;

 private:
  Secret key_;
};

}  // namespace kuramori
