// Public-key primitives (libsodium): Ed25519 signatures, sealed boxes to an X25519 key, Argon2id.
#pragma once
#include "base/id.h"
#include "crypto/secret.h"

namespace kuramori {

using PublicKey = Id<32, struct PublicKeyTag>;  // X25519
using VerifyKey = Id<32, struct VerifyKeyTag>;  // Ed25519
using Signature = Id<64, struct SignatureTag>;

// X25519: what is sealed to the public key, only the secret key opens.
struct BoxKeyPair {
  PublicKey public_key;
  Secret secret_key;  // 32 bytes
  static BoxKeyPair generate(Random& random);
  static BoxKeyPair from_secret(ByteView secret_key);
};
Bytes seal_to(const PublicKey& reader, ByteView plain);
Result<Secret> open_sealed(const BoxKeyPair& reader, ByteView sealed);
constexpr size_t kSealedBoxOverhead = 48;

class SigningKey {
 public:
  static SigningKey generate(Random& random);
  static SigningKey from_seed(ByteView seed);  // 32 bytes
  const VerifyKey& verify_key() const { return verify_key_; }
  const Secret& seed() const { return seed_; }
  Signature sign(ByteView message) const;

 private:
  VerifyKey verify_key_;
  Secret seed_;
  Secret expanded_;
};
bool verify(const VerifyKey& key, ByteView message, const Signature& signature);
// First half of SHA-256 of the key: how records name their signer.
SignerId signer_id(const VerifyKey& key);

struct Argon2Parameters {
  uint64_t memory_bytes = 256ull << 20;
  uint32_t passes = 3;
};
Result<Secret> argon2id(ByteView passphrase, ByteView salt /* 16 bytes */, Argon2Parameters parameters);

}  // namespace kuramori
