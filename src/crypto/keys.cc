#include "crypto/keys.h"

#include <fmt/core.h>
#include <sodium.h>

#include "base/check.h"
#include "crypto/digest.h"

namespace kuramori {

BoxKeyPair BoxKeyPair::from_secret(ByteView secret_key) {
  CHECK(secret_key.size() == crypto_box_SECRETKEYBYTES);
  BoxKeyPair pair{.public_key = {}, .secret_key = Secret::copy_of(secret_key)};
  CHECK(crypto_scalarmult_base(pair.public_key.raw.data(), secret_key.data()) == 0);
  return pair;
}

BoxKeyPair BoxKeyPair::generate(Random& random) {
  return from_secret(Secret::random(crypto_box_SECRETKEYBYTES, random).view());
}

Bytes seal_to(const PublicKey& reader, ByteView plain) {
  static_assert(kSealedBoxOverhead == crypto_box_SEALBYTES);
  Bytes sealed(plain.size() + kSealedBoxOverhead);
  CHECK(crypto_box_seal(sealed.data(), plain.data(), plain.size(), reader.raw.data()) == 0);
  return sealed;
}

Result<Secret> open_sealed(const BoxKeyPair& reader, ByteView sealed) {
  if (sealed.size() < kSealedBoxOverhead) return fail(ErrorKind::kDamaged, "a sealed key is truncated");
  Secret plain(sealed.size() - kSealedBoxOverhead);
  if (crypto_box_seal_open(plain.fill().data(), sealed.data(), sealed.size(), reader.public_key.raw.data(),
                           reader.secret_key.view().data()) != 0) {
    return fail(ErrorKind::kDamaged, "a sealed key does not open with this reader key");
  }
  return plain;
}

SigningKey SigningKey::from_seed(ByteView seed) {
  CHECK(seed.size() == crypto_sign_SEEDBYTES);
  SigningKey key;
  key.seed_ = Secret::copy_of(seed);
  key.expanded_ = Secret(crypto_sign_SECRETKEYBYTES);
  CHECK(crypto_sign_seed_keypair(key.verify_key_.raw.data(), key.expanded_.fill().data(), seed.data()) == 0);
  return key;
}

SigningKey SigningKey::generate(Random& random) {
  return from_seed(Secret::random(crypto_sign_SEEDBYTES, random).view());
}

Signature SigningKey::sign(ByteView message) const {
  Signature signature;
  CHECK(crypto_sign_detached(signature.raw.data(), nullptr, message.data(), message.size(),
                             expanded_.view().data()) == 0);
  return signature;
}

bool verify(const VerifyKey& key, ByteView message, const Signature& signature) {
  return crypto_sign_verify_detached(signature.raw.data(), message.data(), message.size(), key.raw.data()) ==
         0;
}

SignerId signer_id(const VerifyKey& key) {
  Digest digest = sha256(key.view());
  SignerId id;
  std::copy_n(digest.raw.begin(), id.raw.size(), id.raw.begin());
  return id;
}

Result<Secret> argon2id(ByteView passphrase, ByteView salt, Argon2Parameters parameters) {
  CHECK(salt.size() == crypto_pwhash_SALTBYTES);
  Secret key(32);
  if (crypto_pwhash(key.fill().data(), key.size(), reinterpret_cast<const char*>(passphrase.data()),
                    passphrase.size(), salt.data(), parameters.passes, parameters.memory_bytes,
                    crypto_pwhash_ALG_ARGON2ID13) != 0) {
    return fail(ErrorKind::kFailed, "the passphrase could not be stretched",
                fmt::format("Argon2id needs {} MiB of memory", parameters.memory_bytes >> 20));
  }
  return key;
}

}  // namespace kuramori
