#include "vault/envelope.h"

#include <fmt/core.h>

#include "base/check.h"
#include "codec/zstd.h"
#include "crypto/aead.h"
#include "crypto/digest.h"

namespace kuramori {
namespace {

constexpr std::string_view kMagic = "KMRI";
constexpr int kRecordLevel = 3;             // zstd; records are small and written once
constexpr size_t kCompressFromBytes = 256;  // below, zstd's own frame costs more than it saves
constexpr size_t kStructureKeysMax = 256;   // held at once: each has guarded pages of its own

Bytes with_context(std::string_view context, const FamilyId& family, ByteView rest) {
  Bytes bytes = to_bytes(as_bytes(context));
  append(bytes, family.view());
  append(bytes, rest);
  return bytes;
}

Secret derive(const KeyBundle& keys, std::string_view purpose, const std::optional<ResourceId>& scope) {
  Bytes info = to_bytes(as_bytes(purpose));
  if (scope) append(info, scope->view());
  return hkdf_sha256(keys.structure.view(), keys.family.view(), info);
}

constexpr std::string_view kSignatureContext = "kuramori signature 1";

Error not_authentic(std::string_view name, std::string_view why) {
  return fail(ErrorKind::kDamaged, fmt::format("{} is not authentic: {}", name, why));
}

// Opens the seal of an envelope whose signature, if it needs one, has been checked.
// `digest`: of the whole object.
Result<OpenedRecord> open_envelope(const FamilyId& family, const Secret& key, const Envelope& e,
                                   const Digest& digest) {
  if (!(e.flags & kSealed)) return not_authentic(e.name, "it is not sealed");
  auto plain = xopen(key, with_context("kuramori record 1", family, e.head), e.body);
  if (!plain) return not_authentic(e.name, "it was not sealed with this vault's keys");
  OpenedRecord opened{.type = e.type, .signer = e.signer, .body = {}, .digest = digest};
  if (e.flags & kCompressed) {
    TRY_ASSIGN(opened.body, zstd_decompress(*plain, kRecordBytesMax));
  } else {
    opened.body = std::move(*plain);
  }
  return opened;
}

// Records whose author matters: everything that makes or unmakes a snapshot, or vouches for one.
bool is_signed(RecordType type) {
  return type != RecordType::kLive && type != RecordType::kPageMap && type != RecordType::kChunkRun &&
         type != RecordType::kPack;
}

}  // namespace

Secret structure_key(const KeyBundle& keys, const std::optional<ResourceId>& scope) {
  return derive(keys, "kuramori structure 1", scope);
}
Secret path_key(const KeyBundle& keys, const ResourceId& resource) {
  return derive(keys, "kuramori path 1", resource);
}
Secret wal_digest_key(const KeyBundle& keys, const ResourceId& resource) {
  return derive(keys, "kuramori wal digest 1", resource);
}

FileKey file_key(ByteView key, std::string_view path) {
  Digest digest = hmac_sha256(key, as_bytes(path));
  FileKey id;
  std::copy_n(digest.raw.begin(), id.raw.size(), id.raw.begin());
  return id;
}

Bytes envelope_head(RecordType type, uint16_t flags, std::string_view name,
                    const std::optional<ResourceId>& scope) {
  Bytes head = to_bytes(as_bytes(kMagic));
  head.push_back(static_cast<uint8_t>(type));
  head.push_back(kFormatVersion);
  append_le<uint16_t>(head, flags);
  append_le<uint16_t>(head, static_cast<uint16_t>(name.size()));
  append(head, as_bytes(name));
  head.push_back(scope ? ResourceId::kBytes : 0);
  if (scope) append(head, scope->view());
  return head;
}

Result<Envelope> parse_envelope(std::string_view name, ByteView object, bool whole) {
  auto damaged = [&](std::string_view why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name, why));
  };
  ByteReader reader(object);
  auto field = [&]<class T>(T) { return reader.take_le<T>(); };
  auto magic = reader.take(kMagic.size());
  if (!magic || as_text(*magic) != kMagic) return damaged("it does not begin as an object of a vault");
  Envelope e{};
  auto type = field(uint8_t{}), version = field(uint8_t{});
  auto flags = field(uint16_t{}), name_size = field(uint16_t{});
  if (!type || !version || !flags || !name_size) return damaged("truncated in its head");
  if (*version != kFormatVersion) {
    return fail(ErrorKind::kRefused, fmt::format("{} has format version {}", name, *version),
                fmt::format("this program knows version {}", kFormatVersion),
                "use a newer kuramori to read this vault");
  }
  auto stored_name = reader.take(*name_size);
  auto scope_size = field(uint8_t{});
  if (!stored_name || !scope_size) return damaged("truncated in its head");
  if (*scope_size != 0 && *scope_size != ResourceId::kBytes)
    return damaged("its scope has an impossible size");
  auto scope = reader.take(*scope_size);
  auto body_size = field(uint32_t{});
  if (!scope || !body_size) return damaged("truncated in its head");
  e.type = static_cast<RecordType>(*type);
  e.flags = *flags;
  e.name = as_text(*stored_name);
  if (*scope_size != 0) e.scope = *ResourceId::from_bytes(*scope);
  size_t body_at = object.size() - reader.left();
  e.head = object.first(body_at - sizeof(uint32_t));
  auto body = reader.take(*body_size);
  if (!body) return damaged(fmt::format("truncated: its body has {} of {} bytes", reader.left(), *body_size));
  e.body = *body;
  e.signed_part = object.first(body_at + *body_size);
  if (e.flags & kSigned) {
    auto signer = reader.take(SignerId::kBytes);
    auto signature = reader.take(Signature::kBytes);
    if (!signer || !signature) return damaged("truncated in its signature");
    e.signer = *SignerId::from_bytes(*signer);
    e.signature = *Signature::from_bytes(*signature);
  }
  size_t checked = object.size() - reader.left();
  auto checksum = reader.take(Digest::kBytes);
  if (!checksum) return damaged("truncated in its checksum");
  if (whole && reader.left() != 0) return damaged(fmt::format("{} bytes follow its end", reader.left()));
  if (!equal(sha256(object.first(checked)).view(), *checksum)) return damaged("its checksum does not fit");
  if (e.name != name) return damaged(fmt::format("it is {}, put here under another name", e.name));
  e.size = object.size() - reader.left();
  return e;
}

SealedRecordCodec::SealedRecordCodec(const KeyBundle& keys, Random& random)
    : keys_(keys), random_(random), signers_(keys) {
  CHECK(keys.signing.has_value());
}

bool SealedRecordCodec::may_delete(const SignerId& signer) const {
  auto found = signers_.find(signer);
  return found && may_sign((*found)->role, RecordType::kGcSweep);
}

bool SealedRecordCodec::may_commit(const SignerId& signer) const {
  auto found = signers_.find(signer);
  return found && may_sign((*found)->role, RecordType::kCommit);
}

std::shared_ptr<const Secret> SealedRecordCodec::key_of(const std::optional<ResourceId>& scope) {
  const std::lock_guard hold(mutex_);
  if (auto known = structure_keys_.find(scope); known != structure_keys_.end()) return known->second;
  auto key = std::make_shared<const Secret>(structure_key(keys_, scope));
  if (structure_keys_.size() < kStructureKeysMax) structure_keys_.emplace(scope, key);
  return key;
}

Bytes SealedRecordCodec::encode(RecordType type, std::string_view name, std::optional<ResourceId> scope,
                                ByteView body) {
  uint16_t flags = kSealed | (is_signed(type) ? kSigned : 0);
  Bytes compressed;
  ByteView plain = body;
  if (body.size() >= kCompressFromBytes) {
    compressed = zstd_compress(body, kRecordLevel);
    if (compressed.size() < body.size()) {
      plain = compressed;
      flags |= kCompressed;
    }
  }
  Bytes object = envelope_head(type, flags, name, scope);
  Bytes sealed =
      xseal(*key_of(scope), with_context("kuramori record 1", keys_.family, object), plain, random_);
  append_le<uint32_t>(object, static_cast<uint32_t>(sealed.size()));
  append(object, sealed);
  if (flags & kSigned) {
    Signature signature = keys_.signing->sign(with_context(kSignatureContext, keys_.family, object));
    append(object, signer_id(keys_.signing->verify_key()).view());
    append(object, signature.view());
  }
  append(object, sha256(object).view());
  return object;
}

Result<OpenedRecord> SealedRecordCodec::decode(std::string_view name, ByteView object) {
  TRY_ASSIGN(Envelope e, parse_envelope(name, object));
  const Digest digest = sha256(object);
  if (!is_signed(e.type)) return open_envelope(keys_.family, *key_of(e.scope), e, digest);
  if (!(e.flags & kSigned)) return not_authentic(name, "it is not signed");
  auto signer =
      signers_.verified(e.signer, with_context(kSignatureContext, keys_.family, e.signed_part), e.signature);
  if (!signer) {
    // What the store did not answer says nothing about the record.
    if (signer.error().kind != ErrorKind::kDamaged) return std::move(signer.error()).within(name);
    return not_authentic(name, signer.error().what);
  }
  if (!may_sign((*signer)->role, e.type)) {
    return not_authentic(name, fmt::format("its signer {} is a {}, whose word does not count here",
                                           e.signer.hex(), name_of((*signer)->role)));
  }
  if (!(*signer)->counts(digest)) {
    return not_authentic(name,
                         fmt::format("its signer {} was revoked, and it did not stand then", e.signer.hex()));
  }
  return open_envelope(keys_.family, *key_of(e.scope), e, digest);
}

Result<OpenedRecord> open_record_of(const KeyBundle& keys, const VerifyKey& signer, std::string_view name,
                                    ByteView object) {
  TRY_ASSIGN(Envelope e, parse_envelope(name, object));
  if (!(e.flags & kSigned) || e.signer != signer_id(signer) ||
      !verify(signer, with_context(kSignatureContext, keys.family, e.signed_part), e.signature)) {
    return not_authentic(name, "its signature is not the one it must carry");
  }
  return open_envelope(keys.family, structure_key(keys, e.scope), e, sha256(object));
}

}  // namespace kuramori
