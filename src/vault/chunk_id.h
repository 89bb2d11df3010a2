// What a chunk of content is known by: a keyed digest, so that the same content is stored once and nobody
// without the key can ask whether a guessed content is there.
#pragma once
#include "crypto/digest.h"
#include "vault/key_bundle.h"

namespace kuramori {

// The first 24 bytes of HMAC-SHA-256(id key, SHA-256(chunk)). 192 bits: two of 2^48 chunks are alike by
// chance once in 2^97.
using ChunkId = Id<24, struct ChunkTag>;

// A chunk's id, and what veils where it begins in its frame: chunks that share one follow each other, so that
// their offsets would tell how long each is, and a small file is one chunk. Whoever has the chunk, and the
// key, has the veil; whoever has the index alone has neither.
struct ChunkName {
  ChunkId id;
  uint32_t veil = 0;  // of kVeilBits bits, from what of the HMAC is not the id; XORed onto the offset
  bool operator==(const ChunkName&) const = default;
};
constexpr int kVeilBits = 22;  // an offset is below kFramePlainBytesMax

// Any thread may ask.
class ChunkNamer {
 public:
  // The id key is derived from the bundle's chunk key, which the writers of one domain share.
  explicit ChunkNamer(const KeyBundle& keys);
  ChunkName name(ByteView chunk) const;
  // Of a chunk whose digest is known already.
  ChunkName name(const Digest& sha256) const;

 private:
  Secret key_;
};

// What a segment of a tree is known by (vault/tree.h). Content that reads like a segment must never stand for
// one, nor the other way round: where a chunk has the SHA-256 of its bytes, a segment has an HMAC under a key
// that nothing else uses.
class SegmentNamer {
 public:
  SegmentNamer(const KeyBundle& keys, const ResourceId& resource);
  ChunkName name(ByteView segment) const;

 private:
  ChunkNamer namer_;
  Secret key_;
};

}  // namespace kuramori
