// Identifiers: fixed-size random byte strings, each kind a type of its own, written as lower-case hex.
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace kuramori {

template <size_t kSize, class Tag>
struct Id {
  static constexpr size_t kBytes = kSize;
  std::array<uint8_t, kSize> raw{};

  auto operator<=>(const Id&) const = default;
  ByteView view() const { return raw; }
  std::string hex() const { return to_hex(raw); }
  bool is_zero() const { return *this == Id{}; }

  static Result<Id> from_hex(std::string_view text) {
    TRY_ASSIGN(Bytes bytes, kuramori::from_hex(text));
    return from_bytes(bytes);
  }
  static Result<Id> from_bytes(ByteView bytes) {
    if (bytes.size() != kSize) return fail(ErrorKind::kUsage, "an id of the wrong length");
    Id id;
    std::copy(bytes.begin(), bytes.end(), id.raw.begin());
    return id;
  }
};

using FamilyId = Id<16, struct FamilyTag>;     // vaults that share keys and copy verbatim
using VaultId = Id<16, struct VaultTag>;       // one place
using SessionId = Id<16, struct SessionTag>;   // one run of one writer; never used twice
using SnapshotId = Id<8, struct SnapshotTag>;  // one restorable state
using ResourceId = Id<8, struct ResourceTag>;  // one protected thing
using SignerId = Id<16, struct SignerTag>;     // first half of SHA-256 of an Ed25519 public key
using Digest = Id<32, struct DigestTag>;       // SHA-256
using FileKey = Id<16, struct FileTag>;  // keyed digest of a path: names a file without telling its name

template <size_t kSize, class Tag>
struct IdHash {
  size_t operator()(const Id<kSize, Tag>& id) const {
    size_t hash;
    std::memcpy(&hash, id.raw.data(), sizeof hash);
    return hash;
  }
};

}  // namespace kuramori

template <size_t kSize, class Tag>
struct std::hash<kuramori::Id<kSize, Tag>> : kuramori::IdHash<kSize, Tag> {};
