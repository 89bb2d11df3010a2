// Turns a record's body into an object's bytes and back: compressed, sealed, signed, bound to its name.
// The real one is SealedRecordCodec (vault/envelope.h); the simulation has one without cryptography.
#pragma once
#include <optional>

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

}  // namespace kuramori
