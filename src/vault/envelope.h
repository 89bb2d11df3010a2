// How a record becomes an object: framed, compressed, sealed, signed and bound to its name.
//
//   "KMRI" type:u8 version:u8 flags:u16 name_len:u16 name scope_len:u8 scope   — the head
//   body_len:u32 body                                                          — sealed when flags say so
//   signer:16 signature:64                                                     — when flags say so
//   sha256:32 of everything before                                             — integrity without any key
//
// Integers are little-endian. docs/vault-format.md has the particulars and a worked example.
#pragma once
#include <map>
#include <memory>
#include <mutex>

#include "crypto/keys.h"
#include "vault/key_bundle.h"
#include "vault/record_codec.h"
#include "vault/signers.h"

namespace kuramori {

constexpr size_t kRecordBytesMax = 256u << 20;

enum EnvelopeFlags : uint16_t { kSealed = 1, kSigned = 2, kCompressed = 4 };

struct Envelope {
  RecordType type;
  uint16_t flags = 0;
  std::string_view name;
  std::optional<ResourceId> scope;
  ByteView head;         // the bytes of the head
  ByteView body;         // as stored
  ByteView signed_part;  // head, length and body
  SignerId signer;
  Signature signature;
  size_t size = 0;  // of the whole envelope, in case bytes follow it
};

// The head's bytes, as they begin an object of this type and name.
Bytes envelope_head(RecordType type, uint16_t flags, std::string_view name,
                    const std::optional<ResourceId>& scope);
// Checks framing, version, checksum and name; opens nothing. `whole`: no bytes may follow.
Result<Envelope> parse_envelope(std::string_view name, ByteView object, bool whole = true);

// Opens a record that this key, and no other, must have signed.
Result<OpenedRecord> open_record_of(const KeyBundle& keys, const VerifyKey& signer, std::string_view name,
                                    ByteView object);

class SealedRecordCodec final : public RecordCodec {
 public:
  // Borrows the bundle, which must outlive it.
  SealedRecordCodec(const KeyBundle& keys, Random& random);

  Bytes encode(RecordType type, std::string_view name, std::optional<ResourceId> scope,
               ByteView body) override;
  Result<OpenedRecord> decode(std::string_view name, ByteView object) override;

  // May this signer delete (plans, sweeps, prunes, fences)? What it signed has been decoded before, so a
  // revoked one is asked about here only for what still counts.
  bool may_delete(const SignerId& signer) const;
  // May this signer make snapshots exist?
  bool may_commit(const SignerId& signer) const;
  Signers& signers() { return signers_; }

 private:
  // Derived once: of very many records each is of one of a few resources. Any thread may ask.
  std::shared_ptr<const Secret> key_of(const std::optional<ResourceId>& scope);

  const KeyBundle& keys_;
  Random& random_;
  Signers signers_;
  std::mutex mutex_;
  std::map<std::optional<ResourceId>, std::shared_ptr<const Secret>> structure_keys_;
};

// The structure key of one resource (or, without one, of the whole vault's records).
Secret structure_key(const KeyBundle& keys, const std::optional<ResourceId>& scope);
// Keyed digest of a path: names a file in a page map without telling its name.
FileKey file_key(ByteView path_key, std::string_view path);
// The key for file_key() of one resource.
Secret path_key(const KeyBundle& keys, const ResourceId& resource);
// The key of the digests over plain WAL, by which a writer knows the same content without reading.
Secret wal_digest_key(const KeyBundle& keys, const ResourceId& resource);

}  // namespace kuramori
