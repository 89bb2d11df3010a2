#include "vault/chunk_id.h"

#include <algorithm>

namespace kuramori {

ChunkNamer::ChunkNamer(const KeyBundle& keys)
    : key_(hkdf_sha256(keys.chunk.view(), keys.family.view(), as_bytes("kuramori chunk id 1"))) {}

ChunkName ChunkNamer::name(ByteView chunk) const {
  return name(sha256(chunk));
}

ChunkName ChunkNamer::name(const Digest& sha256) const {
  const Digest digest = hmac_sha256(key_.view(), sha256.view());
  ChunkName name;
  std::copy_n(digest.raw.begin(), ChunkId::kBytes, name.id.raw.begin());
  name.veil = load_le<uint32_t>(digest.raw.data() + ChunkId::kBytes) & ((1u << kVeilBits) - 1);
  return name;
}

SegmentNamer::SegmentNamer(const KeyBundle& keys, const ResourceId& resource) : namer_(keys) {
  Bytes info = to_bytes(as_bytes("kuramori tree segments 1"));
  append(info, resource.view());
  key_ = hkdf_sha256(keys.chunk.view(), keys.family.view(), info);
}

ChunkName SegmentNamer::name(ByteView segment) const {
  return namer_.name(hmac_sha256(key_.view(), segment));
}

}  // namespace kuramori
