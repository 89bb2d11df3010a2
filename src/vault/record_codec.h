// Turns a record's body into an object's bytes and back: compressed, sealed, signed, bound to its name.
// The real one is SealedRecordCodec (vault/envelope.h); the simulation has one without cryptography.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vault/records.h"

namespace kuramori {

struct OpenedRecord {
  RecordType type;
  SignerId signer;
  Bytes body;
  Digest digest;  // of the object's bytes
};

class RecordCodec {
 public:
  virtual ~RecordCodec() = default;
  // `scope`: the resource under whose structure key it is sealed; nothing for records of the whole vault.
  // Two calls give two different byte strings (the nonce is random): encode once, then retry the same bytes.
  virtual Bytes encode(RecordType type, std::string_view name, std::optional<ResourceId> scope,
                       ByteView body) = 0;
  // kDamaged: not authentic, not this name's, cut short; kRefused: a format this program does not know.
  virtual Result<OpenedRecord> decode(std::string_view name, ByteView object) = 0;
};

// Records that need not be read and opened again: what stands at a name never changes.
class KnownRecords {
 public:
  virtual ~KnownRecords() = default;
  // Nothing: read it where it stands.
  virtual std::optional<OpenedRecord> recall(std::string_view full_name) = 0;
  // It was read, with this size, and opens to that.
  virtual void remember(std::string_view full_name, uint64_t object_bytes, const OpenedRecord& record) = 0;
  // These will be asked for next, in this order: several may be read and opened at once.
  virtual void expect(std::span<const std::string_view> full_names) = 0;
  // The record inside of another (a copy's commit): as it opened, if it has this digest.
  virtual std::optional<OpenedRecord> recall_inner(std::string_view full_name, const Digest& digest) = 0;
  virtual void remember_inner(std::string_view full_name, const OpenedRecord& record) = 0;
};

}  // namespace kuramori
