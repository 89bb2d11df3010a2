// A RecordCodec without cryptography: fast, and as strict as the real one about names, damage and signers.
// For the simulation and for tests that are not about keys. What `signer` says is believed.
#pragma once
#include "vault/record_codec.h"

namespace kuramori::testing {

// A fast hash; not a cryptographic one.
uint64_t quick_hash(ByteView bytes, uint64_t seed = 0);

class PlainCodec : public RecordCodec {
 public:
  explicit PlainCodec(SignerId signer, uint64_t first_salt = 1) : signer_(signer), salt_(first_salt) {}
  Bytes encode(RecordType type, std::string_view name, std::optional<ResourceId> scope,
               ByteView body) override;
  Result<OpenedRecord> decode(std::string_view name, ByteView object) override;
  void set_signer(SignerId signer) { signer_ = signer; }

 private:
  SignerId signer_;
  uint64_t salt_;  // two encodings of one body differ, as with a random nonce
};

}  // namespace kuramori::testing
