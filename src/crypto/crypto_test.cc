// Known answers, and what must not open.
#include <gtest/gtest.h>

#include "crypto/aead.h"
#include "crypto/digest.h"
#include "crypto/keys.h"

namespace kuramori {
namespace {

Bytes hex(std::string_view text) {
  return *from_hex(text);
}

TEST(DigestTest, sha512_is_as_published) {
  Sha512 digest;
  for (int again = 0; again < 2; ++again) {  // finish() starts anew
    digest.add(as_bytes("abc"));             // FIPS 180-4
    EXPECT_EQ(to_hex(digest.finish()),
              "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
              "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
  }
}

TEST(Digests, known_answers) {
  EXPECT_EQ(sha256({}).hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");  // FIPS 180-4
  Sha256 parts;
  parts.add(as_bytes("ab"));
  parts.add(as_bytes("c"));
  EXPECT_EQ(parts.finish().hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(parts.finish(), sha256({})) << "finish starts anew";
  // RFC 4231, test 2
  EXPECT_EQ(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?")).hex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  // RFC 5869, test 1 (its first 32 bytes)
  EXPECT_EQ(to_hex(hkdf_sha256(hex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"),
                               hex("000102030405060708090a0b0c"), hex("f0f1f2f3f4f5f6f7f8f9"))
                       .view()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
}

TEST(AesCmac, known_answers) {  // RFC 4493
  AesCmac mac(hex("2b7e151628aed2a6abf7158809cf4f3c"));
  EXPECT_EQ(to_hex(mac.of({})), "bb1d6929e95937287fa37d129b756746");
  EXPECT_EQ(to_hex(mac.of(hex("6bc1bee22e409f96e93d7e117393172a"))), "070a16b46b4d4144f79bdd9dd04a287c");
  EXPECT_EQ(
      to_hex(mac.of(hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411"))),
      "dfa66747de9ae63030ca32611497c827");
  EXPECT_EQ(to_hex(mac.of({})), "bb1d6929e95937287fa37d129b756746") << "each message begins anew";
}

TEST(FrameCipher, opens_only_what_it_sealed_with_the_same_ordinal_and_binding) {
  Secret key = Secret::random(32, system_random());
  FrameCipher cipher(key);
  Bytes plain = to_bytes(as_bytes("frame")), ad = to_bytes(as_bytes("binding")), sealed, out(plain.size());
  cipher.seal(7, ad, plain, sealed);
  ASSERT_EQ(sealed.size(), plain.size() + kGcmTagBytes);
  ASSERT_TRUE(cipher.open(7, ad, sealed, out));
  EXPECT_EQ(out, plain);
  EXPECT_FALSE(cipher.open(8, ad, sealed, out));
  EXPECT_FALSE(cipher.open(7, as_bytes("bindinG"), sealed, out));
  for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    Bytes bad = sealed;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_FALSE(cipher.open(7, ad, bad, out));
  }
  EXPECT_FALSE(cipher.open(7, ad, ByteView(sealed).first(sealed.size() - 1), out));
  FrameCipher other(Secret::random(32, system_random()));
  EXPECT_FALSE(other.open(7, ad, sealed, out));
  Bytes empty, nothing;
  cipher.seal(9, ad, {}, empty);
  EXPECT_TRUE(cipher.open(9, ad, empty, nothing));
}

// What sealed it: pieces, each opened again. `meddle` may change a piece, or the tag, in between.
std::optional<Bytes> seal_in_pieces(FrameCipher& cipher, uint32_t ordinal, ByteView ad, ByteView plain,
                                    const std::function<void(size_t at, MutableByteView)>& meddle = {}) {
  Bytes out;
  cipher.begin(ordinal, ad);
  while (!plain.empty()) {
    const ByteView piece = plain.first(std::min(plain.size(), FrameCipher::kPieceBytes));
    const MutableByteView sealed = cipher.seal_piece(piece);
    if (meddle) meddle(out.size(), sealed);
    if (!cipher.opens_piece(sealed, piece)) return std::nullopt;
    append(out, sealed);
    plain = plain.subspan(piece.size());
  }
  const MutableByteView tag = cipher.seal_end();
  if (meddle) meddle(out.size(), tag);
  if (!cipher.opens_end(tag)) return std::nullopt;
  append(out, tag);
  return out;
}

TEST(FrameCipher, in_pieces_is_the_same_frame_and_whatever_is_changed_on_the_way_is_found) {
  const Secret key = Secret::random(32, system_random());
  FrameCipher cipher(key);
  const Bytes ad = to_bytes(as_bytes("binding"));
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{65'535}, size_t{65'536}, size_t{65'537}, size_t{200'000}}) {
    Bytes plain(size), whole;
    system_random().fill(plain);
    cipher.seal(3, ad, plain, whole);
    ASSERT_EQ(seal_in_pieces(cipher, 3, ad, plain), whole) << size;
    for (size_t at = 0; at < whole.size(); at += at + 17 < whole.size() ? 9'973 : 1) {
      const auto flip = [&](size_t from, MutableByteView sealed) {
        if (at >= from && at < from + sealed.size()) sealed[at - from] ^= 1;
      };
      EXPECT_FALSE(seal_in_pieces(cipher, 3, ad, plain, flip)) << size << " " << at;
    }
    // What was wrong once keeps nothing from the next.
    EXPECT_EQ(seal_in_pieces(cipher, 3, ad, plain), whole) << size;
    Bytes out(size);
    EXPECT_TRUE(cipher.open(3, ad, whole, out));
    EXPECT_EQ(out, plain);
    EXPECT_FALSE(cipher.open(4, ad, whole, out));
  }
}

TEST(XSeal, opens_only_whole_with_the_same_key_and_binding) {
  Secret key = Secret::random(32, system_random());
  Bytes sealed = xseal(key, as_bytes("name"), as_bytes("record"), system_random());
  EXPECT_EQ(as_text(*xopen(key, as_bytes("name"), sealed)), "record");
  EXPECT_FALSE(xopen(key, as_bytes("nam"), sealed));
  EXPECT_FALSE(xopen(Secret::random(32, system_random()), as_bytes("name"), sealed));
  for (size_t size = 0; size < sealed.size(); ++size)
    EXPECT_FALSE(xopen(key, as_bytes("name"), ByteView(sealed).first(size)));
  EXPECT_NE(xseal(key, {}, as_bytes("record"), system_random()),
            xseal(key, {}, as_bytes("record"), system_random()));
}

TEST(Keys, sealed_boxes_open_with_the_secret_key_alone) {
  BoxKeyPair reader = BoxKeyPair::generate(system_random()), other = BoxKeyPair::generate(system_random());
  Bytes sealed = seal_to(reader.public_key, as_bytes("pack key"));
  EXPECT_EQ(sealed.size(), 8 + kSealedBoxOverhead);
  EXPECT_EQ(as_text(open_sealed(reader, sealed)->view()), "pack key");
  EXPECT_FALSE(open_sealed(other, sealed));
  EXPECT_FALSE(open_sealed(reader, ByteView(sealed).first(20)));
  sealed[40] ^= 1;
  EXPECT_FALSE(open_sealed(reader, sealed));
}

TEST(Keys, signatures_known_answer_and_forgery) {
  // RFC 8032, 7.1, test 1
  SigningKey key =
      SigningKey::from_seed(hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
  EXPECT_EQ(key.verify_key().hex(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  Signature signature = key.sign({});
  EXPECT_EQ(signature.hex().substr(0, 32), "e5564300c360ac729086e2cc806e828a");
  EXPECT_TRUE(verify(key.verify_key(), {}, signature));
  EXPECT_FALSE(verify(key.verify_key(), as_bytes("x"), signature));
  signature.raw[3] ^= 1;
  EXPECT_FALSE(verify(key.verify_key(), {}, signature));
}

TEST(Keys, argon2id_depends_on_each_input) {
  Argon2Parameters quick{.memory_bytes = 64 << 10, .passes = 1};
  Bytes salt(16, 1), salt2(16, 2);
  Secret a = *argon2id(as_bytes("p"), salt, quick);
  EXPECT_TRUE(equal(a.view(), argon2id(as_bytes("p"), salt, quick)->view()));
  EXPECT_FALSE(equal(a.view(), argon2id(as_bytes("q"), salt, quick)->view()));
  EXPECT_FALSE(equal(a.view(), argon2id(as_bytes("p"), salt2, quick)->view()));
  quick.passes = 2;
  EXPECT_FALSE(equal(a.view(), argon2id(as_bytes("p"), salt, quick)->view()));
}

TEST(Secrets, move_and_compare) {
  Secret a = Secret::copy_of(as_bytes("secret"));
  Secret b = std::move(a);
  EXPECT_TRUE(a.empty());
  EXPECT_TRUE(equal_secret(b.view(), as_bytes("secret")));
  EXPECT_FALSE(equal_secret(b.view(), as_bytes("secreT")));
  EXPECT_FALSE(equal_secret(b.view(), as_bytes("secre")));
}

}  // namespace
}  // namespace kuramori
