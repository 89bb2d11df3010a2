#include "vault/envelope.h"

#include <gtest/gtest.h>

#include "crypto/aead.h"
#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::SeededRandom;

struct EnvelopeTest : testing::Test {
  SeededRandom random{5};
  KeyBundle keys = KeyBundle::new_owner("test", random);
  SealedRecordCodec codec{keys, random};
  ResourceId scope = random.id<ResourceId>();
  std::string name = "commits/0011223344556677/8899aabbccddeeff.00112233445566778899aabbccddeeff";
  Bytes body = to_bytes(as_bytes("what the record says"));

  // Makes the plain checksum right again, as an attacker would.
  static void mend(Bytes& object) {
    Digest digest = sha256(ByteView(object).first(object.size() - Digest::kBytes));
    std::copy(digest.raw.begin(), digest.raw.end(), object.end() - Digest::kBytes);
  }
};

TEST_F(EnvelopeTest, gives_back_what_was_put_in) {
  for (RecordType type : {RecordType::kCommit, RecordType::kLive, RecordType::kSession}) {
    for (const auto& s : {std::optional<ResourceId>(scope), std::optional<ResourceId>()}) {
      for (size_t size : {size_t{0}, size_t{1}, size_t{255}, size_t{256}, size_t{100'000}}) {
        for (const Bytes& content : {Bytes(size, 'x'), random.bytes(size)}) {
          Bytes object = codec.encode(type, name, s, content);
          auto opened = codec.decode(name, object);
          ASSERT_TRUE(opened) << opened.error().what;
          EXPECT_EQ(opened->body, content);
          EXPECT_EQ(opened->type, type);
          EXPECT_EQ(opened->digest, sha256(object));
        }
      }
    }
  }
}

TEST_F(EnvelopeTest, two_encodings_of_one_body_differ) {
  EXPECT_NE(codec.encode(RecordType::kCommit, name, scope, body),
            codec.encode(RecordType::kCommit, name, scope, body));
}

TEST_F(EnvelopeTest, every_flipped_bit_is_found_with_and_without_a_mended_checksum) {
  for (RecordType type : {RecordType::kCommit, RecordType::kLive}) {
    Bytes object = codec.encode(type, name, scope, body);
    for (size_t bit = 0; bit < object.size() * 8; ++bit) {
      Bytes bad = object;
      bad[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
      EXPECT_FALSE(codec.decode(name, bad)) << "bit " << bit;
      mend(bad);
      if (bad == object) continue;  // the bit was one of the checksum's
      EXPECT_FALSE(codec.decode(name, bad)) << "bit " << bit << ", checksum mended";
    }
  }
}

TEST_F(EnvelopeTest, every_truncation_is_found) {
  Bytes object = codec.encode(RecordType::kCommit, name, scope, body);
  for (size_t size = 0; size < object.size(); ++size) {
    auto opened = codec.decode(name, ByteView(object).first(size));
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().kind, ErrorKind::kDamaged);
  }
  Bytes longer = object;
  longer.push_back(0);
  EXPECT_FALSE(codec.decode(name, longer));
}

// V15, V17: a record stands for its own name only.
TEST_F(EnvelopeTest, a_record_put_under_another_name_is_refused) {
  std::string other = "commits/0011223344556677/8899aabbccddeeff.ffeeddccbbaa99887766554433221100";
  Bytes object = codec.encode(RecordType::kCommit, name, scope, body);
  auto opened = codec.decode(other, object);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().what.find(name), std::string::npos) << "names what it really is";
  // With the name inside rewritten too, the seal and the signature do not fit.
  std::copy(other.begin(), other.end(), object.begin() + 10);
  mend(object);
  EXPECT_FALSE(codec.decode(other, object));
}

TEST_F(EnvelopeTest, another_familys_record_is_refused) {
  KeyBundle others = KeyBundle::new_owner("other", random);
  SealedRecordCodec other(others, random);
  EXPECT_FALSE(codec.decode(name, other.encode(RecordType::kCommit, name, scope, body)));
  EXPECT_FALSE(codec.decode(name, other.encode(RecordType::kLive, name, scope, body)));
  // The same signing key in another family: the family is bound as well.
  KeyBundle cousin = KeyBundle::new_owner("cousin", random);
  cousin.structure = keys.structure.clone();
  cousin.signing = SigningKey::from_seed(keys.signing->seed().view());
  cousin.owner_verify = keys.owner_verify;
  SealedRecordCodec third(cousin, random);
  EXPECT_FALSE(codec.decode(name, third.encode(RecordType::kCommit, name, scope, body)));
  EXPECT_FALSE(codec.decode(name, third.encode(RecordType::kLive, name, scope, body)));
}

// Who holds the structure key can seal; only the owner's signature makes it a record.
TEST_F(EnvelopeTest, a_foreign_signer_is_refused) {
  KeyBundle thief = KeyBundle::new_owner("thief", random);
  thief.family = keys.family;
  thief.structure = keys.structure.clone();
  SealedRecordCodec forger(thief, random);
  auto opened = codec.decode(name, forger.encode(RecordType::kCommit, name, scope, body));
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().what.find("signer"), std::string::npos);
  EXPECT_FALSE(codec.may_delete(signer_id(thief.owner_verify)));
  EXPECT_FALSE(codec.may_commit(signer_id(thief.owner_verify)));
  EXPECT_TRUE(codec.may_delete(signer_id(keys.owner_verify)));
}

TEST_F(EnvelopeTest, an_unsigned_record_is_refused_where_the_author_matters) {
  // A live record (unsigned by type) with its type rewritten: the seal binds the type, and no signature is
  // there.
  Bytes object = codec.encode(RecordType::kLive, name, scope, body);
  object[4] = static_cast<uint8_t>(RecordType::kCommit);
  mend(object);
  EXPECT_FALSE(codec.decode(name, object));
}

// V4: a newer format is refused in words, never guessed at.
TEST_F(EnvelopeTest, an_unknown_version_is_refused) {
  Bytes object = codec.encode(RecordType::kCommit, name, scope, body);
  object[5] = kFormatVersion + 1;
  mend(object);
  auto opened = codec.decode(name, object);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kRefused);
  EXPECT_NE(opened.error().next.find("newer kuramori"), std::string::npos);
}

TEST_F(EnvelopeTest, resources_have_keys_of_their_own) {
  ResourceId other = random.id<ResourceId>();
  EXPECT_FALSE(equal(structure_key(keys, scope).view(), structure_key(keys, other).view()));
  EXPECT_FALSE(equal(structure_key(keys, scope).view(), structure_key(keys, {}).view()));
  EXPECT_FALSE(equal(path_key(keys, scope).view(), wal_digest_key(keys, scope).view()));
  EXPECT_NE(file_key(path_key(keys, scope).view(), "base/1/2"),
            file_key(path_key(keys, other).view(), "base/1/2"));
}

}  // namespace
}  // namespace kuramori
