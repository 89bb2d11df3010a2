#include "vault/key_bundle.h"

#include <gtest/gtest.h>

#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::SeededRandom;
constexpr Argon2Parameters kQuick{.memory_bytes = 64 << 10, .passes = 1};

PassphraseSource says(std::string_view phrase) {
  return [phrase] { return Result<Secret>(Secret::copy_of(as_bytes(phrase))); };
}
Result<Secret> must_not_ask() {
  ADD_FAILURE() << "asked for a passphrase";
  return fail(ErrorKind::kUsage, "none");
}
bool same(const KeyBundle& a, const KeyBundle& b) {
  return a.role == b.role && a.family == b.family && a.name == b.name && a.reader_public == b.reader_public &&
         a.reader.has_value() == b.reader.has_value() &&
         (!a.reader || equal(a.reader->secret_key.view(), b.reader->secret_key.view())) &&
         equal(a.structure.view(), b.structure.view()) && equal(a.chunk.view(), b.chunk.view()) &&
         a.signing.has_value() == b.signing.has_value() &&
         (!a.signing || equal(a.signing->seed().view(), b.signing->seed().view())) &&
         a.owner_verify == b.owner_verify;
}

struct KeyBundleTest : testing::Test {
  SeededRandom random{9};
  KeyBundle owner = KeyBundle::new_owner("tokyo.owner", random);
};

TEST_F(KeyBundleTest, comes_back_from_plain_text) {
  std::string text = *write_bundle(owner, nullptr, {}, random);
  auto back = read_bundle(text, must_not_ask);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_TRUE(same(*back, owner));
}

TEST_F(KeyBundleTest, comes_back_from_a_passphrase) {
  Secret phrase = Secret::copy_of(as_bytes("correct horse"));
  std::string text = *write_bundle(owner, &phrase, kQuick, random);
  auto back = read_bundle(text, says("correct horse"));
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_TRUE(same(*back, owner));
  EXPECT_EQ(text.find(to_base64(owner.structure.view())), std::string::npos);
}

TEST_F(KeyBundleTest, a_wrong_passphrase_is_told_from_damage) {
  Secret phrase = Secret::copy_of(as_bytes("correct horse"));
  std::string text = *write_bundle(owner, &phrase, kQuick, random);
  auto back = read_bundle(text, says("battery staple"));
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().kind, ErrorKind::kUsage);
  EXPECT_NE(back.error().what.find("passphrase"), std::string::npos);
}

// V12: a truncated key file is named as one, before any of it is used.
TEST_F(KeyBundleTest, every_truncation_is_noticed) {
  Secret phrase = Secret::copy_of(as_bytes("correct horse"));
  for (const std::string& text :
       {*write_bundle(owner, nullptr, {}, random), *write_bundle(owner, &phrase, kQuick, random)}) {
    for (size_t size = 0; size + 1 < text.size();
         ++size) {  // the last byte is a line end that may be missing
      auto back = read_bundle(text.substr(0, size), must_not_ask);
      ASSERT_FALSE(back) << size;
      EXPECT_EQ(back.error().kind, ErrorKind::kUsage);
      EXPECT_FALSE(back.error().next.empty()) << "says what to do next";
    }
  }
}

TEST_F(KeyBundleTest, every_edit_is_noticed) {
  std::string text = *write_bundle(owner, nullptr, {}, random);
  for (size_t at = 0; at + 1 < text.size(); ++at) {
    std::string edited = text;
    edited[at] = edited[at] == 'x' ? 'y' : 'x';
    auto back = read_bundle(edited, must_not_ask);
    ASSERT_FALSE(back) << at;
  }
}

TEST_F(KeyBundleTest, each_role_keeps_what_it_holds_and_no_more) {
  for (Role role : {Role::kWriter, Role::kReader, Role::kKeeper}) {
    KeyBundle bundle;
    bundle.role = role;
    bundle.family = owner.family;
    bundle.name = "x";
    bundle.reader_public = owner.reader_public;
    bundle.structure = owner.structure.clone();
    if (role == Role::kReader) bundle.reader = BoxKeyPair::from_secret(owner.reader->secret_key.view());
    if (role == Role::kWriter) bundle.chunk = owner.chunk.clone();
    bundle.signing = SigningKey::generate(random);
    bundle.owner_verify = owner.owner_verify;
    auto back = read_bundle(*write_bundle(bundle, nullptr, {}, random), must_not_ask);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_TRUE(same(*back, bundle));
    EXPECT_EQ(back->reader.has_value(), role == Role::kReader);
  }
}

// A file from elsewhere must not take all memory.
TEST_F(KeyBundleTest, impossible_parameters_are_refused) {
  Secret phrase = Secret::copy_of(as_bytes("x"));
  std::string text = *write_bundle(owner, &phrase, kQuick, random);
  size_t at = text.find("memory=65536");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 12, "memory=65536000000000");
  size_t check = text.rfind("check: ");
  text = text.substr(0, check);
  text += "check: " + sha256(as_bytes(text)).hex().substr(0, 16) + "\n";
  auto back = read_bundle(text, must_not_ask);
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace kuramori
