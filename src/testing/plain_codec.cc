#include "testing/plain_codec.h"

namespace kuramori::testing {
namespace {

// type (1) · signer (16) · salt (8) · hash over name, the fields before and the body (8) · body
constexpr size_t kSignerAt = 1, kSaltAt = 17, kHashAt = 25, kBodyAt = 33;

uint64_t hash_of(std::string_view name, ByteView object) {
  uint64_t hash = quick_hash(as_bytes(name));
  hash = quick_hash(object.subspan(0, kHashAt), hash);
  return quick_hash(object.subspan(kBodyAt), hash);
}

}  // namespace

uint64_t quick_hash(ByteView bytes, uint64_t seed) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  uint64_t hash = seed ^ (bytes.size() * kOdd);
  auto mix = [&](uint64_t word) {
    unsigned __int128 wide = static_cast<unsigned __int128>(hash ^ word ^ kOdd) * 0xd6e8feb86659fd93;
    hash = static_cast<uint64_t>(wide) ^ static_cast<uint64_t>(wide >> 64);
  };
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) mix(load_le<uint64_t>(bytes.data() + at));
  uint64_t last = 0;
  if (at < bytes.size()) std::memcpy(&last, bytes.data() + at, bytes.size() - at);
  mix(last);
  return hash;
}

Bytes PlainCodec::encode(RecordType type, std::string_view name, std::optional<ResourceId>, ByteView body) {
  Bytes object(kBodyAt + body.size());
  object[0] = static_cast<uint8_t>(type);
  std::copy(signer_.raw.begin(), signer_.raw.end(), object.begin() + kSignerAt);
  store_le(object.data() + kSaltAt, salt_++);
  std::copy(body.begin(), body.end(), object.begin() + kBodyAt);
  store_le(object.data() + kHashAt, hash_of(name, object));
  return object;
}

Result<OpenedRecord> PlainCodec::decode(std::string_view name, ByteView object) {
  if (object.size() < kBodyAt || hash_of(name, object) != load_le<uint64_t>(object.data() + kHashAt)) {
    return fail(ErrorKind::kDamaged, std::string(name) + " is damaged");
  }
  OpenedRecord opened{static_cast<RecordType>(object[0]), {}, to_bytes(object.subspan(kBodyAt)), {}};
  std::copy_n(object.begin() + kSignerAt, opened.signer.raw.size(), opened.signer.raw.begin());
  uint64_t hash = quick_hash(object);
  store_le(opened.digest.raw.data(), hash);
  store_le(opened.digest.raw.data() + 8, ~hash);
  return opened;
}

}  // namespace kuramori::testing
