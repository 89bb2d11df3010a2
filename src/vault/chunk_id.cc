#include "vault/chunk_id.h"

#include <algorithm>

namespace kuramori {

ChunkNamer::ChunkNamer(const KeyBundle& keys)
    : key_(hkdf_sha256(keys.chunk.view(), keys.family.view(), as_bytes("kuramori chunk id 1"))) {}

ChunkId ChunkNamer::name(ByteView chunk) const {
  return name(sha256(chunk));
}

ChunkId ChunkNamer::name(const Digest& sha256) const {
  const Digest digest = hmac_sha256(key_.view(), sha256.view());
  ChunkId id;
  std::copy_n(digest.raw.begin(), id.raw.size(), id.raw.begin());
  return id;
}

}  // namespace kuramori
