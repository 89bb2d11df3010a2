#include "vault/signers.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "vault/ledger.h"
#include "vault/test_support.h"
#include "vault/wal_object.h"

namespace kuramori {
namespace {

using test::TestVault;

// A vault, its owner, and the bundles of other roles.
struct SignersTest : testing::Test {
  TestVault t{21};

  KeyBundle make(Role role) { return KeyBundle::new_role(t.keys, role, "other", t.random); }
  void grant(const KeyBundle& keys) {
    GrantRecord record{.key = keys.signing->verify_key(),
                       .role = static_cast<uint32_t>(keys.role),
                       .name = keys.name,
                       .at_ns = 7};
    for (int copy = 1; copy <= names::kSignerCopies; ++copy)
      ASSERT_TRUE(t.vault->put(RecordType::kSigner, names::grant(id_of(keys), copy), {}, encode(record)));
  }
  static SignerId id_of(const KeyBundle& keys) { return signer_id(keys.signing->verify_key()); }
  std::unique_ptr<Vault> open(KeyBundle keys) {
    auto vault =
        Vault::open(std::make_unique<test::BorrowedStore>(t.store), std::move(keys), t.clock, t.random);
    CHECK(vault.has_value());
    return std::move(*vault);
  }
  std::unique_ptr<Vault> open_as_owner() { return open(t.copy_keys()); }
  // What `forger` signs, as the owner of the vault sees it.
  Result<OpenedRecord> seen(const KeyBundle& forger, RecordType type, const std::string& name) {
    SealedRecordCodec codec(forger, t.random);
    Bytes object = codec.encode(type, name, {}, as_bytes("body"));
    return open_as_owner()->codec().decode(name, object);
  }
};

bool holds(std::string_view text, ByteView secret) {
  return text.find(as_text(secret)) != std::string_view::npos;
}

// The table of roles (design.md §5): what each bundle holds, byte by byte, and what nobody can make of it.
TEST_F(SignersTest, bundles_of_writers_and_keepers_do_not_hold_and_cannot_derive_the_readers_secret_O2) {
  Bytes sealed = seal_to(t.keys.reader_public, as_bytes("a pack key"));
  for (Role role : {Role::kWriter, Role::kReader, Role::kKeeper}) {
    KeyBundle keys = make(role);
    std::string text = *write_bundle(keys, nullptr, {}, t.random);
    size_t body_at = text.find("body:\n") + 6;
    std::string body(as_text(*from_base64(text.substr(body_at, text.rfind("check: ") - body_at))));
    EXPECT_EQ(holds(body, t.keys.reader->secret_key.view()), role == Role::kReader) << name_of(role);
    EXPECT_EQ(holds(body, t.keys.chunk.view()), role == Role::kWriter) << name_of(role);
    EXPECT_TRUE(holds(body, t.keys.structure.view())) << name_of(role);
    EXPECT_FALSE(holds(body, t.keys.signing->seed().view())) << "the owner's signing key stays the owner's";
    EXPECT_FALSE(holds(text, t.keys.reader->secret_key.view()));
    // Nothing it holds, taken for a secret key or stretched into one, opens what is sealed to the reader.
    if (role == Role::kReader) {
      EXPECT_TRUE(open_sealed(*keys.reader, sealed));
      continue;
    }
    std::vector<Secret> held;
    held.push_back(keys.structure.clone());
    held.push_back(keys.signing->seed().clone());
    if (!keys.chunk.empty()) held.push_back(keys.chunk.clone());
    held.push_back(structure_key(keys, {}));
    held.push_back(structure_key(keys, t.resource.id));
    held.push_back(path_key(keys, t.resource.id));
    held.push_back(wal_digest_key(keys, t.resource.id));
    for (const Secret& secret : held) {
      EXPECT_FALSE(open_sealed(BoxKeyPair::from_secret(secret.view()), sealed));
      for (std::string_view info : {"kuramori reader 1", "reader", "kuramori structure 1", ""}) {
        Secret derived = hkdf_sha256(secret.view(), keys.family.view(), as_bytes(info));
        EXPECT_FALSE(open_sealed(BoxKeyPair::from_secret(derived.view()), sealed));
      }
    }
    // Every 32 bytes of the bundle, wherever they begin.
    for (size_t at = 0; at + 32 <= body.size(); ++at) {
      EXPECT_FALSE(open_sealed(BoxKeyPair::from_secret(as_bytes(body).subspan(at, 32)), sealed)) << at;
    }
  }
}

TEST_F(SignersTest, a_key_counts_from_its_grant_on) {
  KeyBundle writer = make(Role::kWriter);
  std::string name = names::resource(t.random.id<ResourceId>());
  auto before = seen(writer, RecordType::kResource, name);
  ASSERT_FALSE(before);
  EXPECT_EQ(before.error().kind, ErrorKind::kDamaged);
  grant(writer);
  EXPECT_TRUE(seen(writer, RecordType::kResource, name));
}

// Every role against every type that makes, unmakes or vouches for something.
TEST_F(SignersTest, each_role_signs_what_its_role_may_and_nothing_else) {
  struct Row {
    RecordType type;
    bool writer, reader, keeper;
  };
  const Row rows[] = {
      {RecordType::kSigner, false, false, false},     {RecordType::kRevocation, false, false, false},
      {RecordType::kResource, true, false, false},    {RecordType::kCommit, true, false, false},
      {RecordType::kGcPlan, false, false, true},      {RecordType::kGcSweep, false, false, true},
      {RecordType::kPruneIntent, false, false, true}, {RecordType::kPruneFinal, false, false, true},
      {RecordType::kHold, true, false, true},         {RecordType::kHoldRelease, true, false, true},
      {RecordType::kRetain, true, false, true},       {RecordType::kProof, false, true, false},
      {RecordType::kDisowned, false, false, true},    {RecordType::kSession, true, true, true},
      {RecordType::kFence, true, true, true},         {RecordType::kCopy, false, false, true},
      {RecordType::kEpoch, false, false, false},
  };
  KeyBundle writer = make(Role::kWriter), reader = make(Role::kReader), keeper = make(Role::kKeeper);
  for (const KeyBundle* keys : {&writer, &reader, &keeper}) grant(*keys);
  for (const Row& row : rows) {
    int type = static_cast<int>(row.type);
    EXPECT_EQ(seen(writer, row.type, "x/y").has_value(), row.writer) << "writer, type " << type;
    EXPECT_EQ(seen(reader, row.type, "x/y").has_value(), row.reader) << "reader, type " << type;
    EXPECT_EQ(seen(keeper, row.type, "x/y").has_value(), row.keeper) << "keeper, type " << type;
    EXPECT_TRUE(seen(t.keys, row.type, "x/y")) << "owner, type " << type;
  }
}

// A thief with a writer's key grants itself more: not the owner's signature, so nothing.
TEST_F(SignersTest, a_grant_not_signed_by_the_owner_is_none) {
  KeyBundle writer = make(Role::kWriter), made_up = make(Role::kKeeper);
  grant(writer);
  GrantRecord record{.key = made_up.signing->verify_key(), .role = 4, .name = "", .at_ns = 1};
  SealedRecordCodec forger(writer, t.random);
  for (int copy = 1; copy <= 2; ++copy) {
    std::string name = names::grant(id_of(made_up), copy);
    t.store.objects[name] = forger.encode(RecordType::kSigner, name, {}, encode(record));
  }
  EXPECT_FALSE(seen(made_up, RecordType::kGcPlan, names::gc_plan(1)));
}

// Another's grant put under the thief's id, or with the thief's role changed: the name is bound.
TEST_F(SignersTest, a_grant_counts_only_under_its_own_name_V17) {
  KeyBundle writer = make(Role::kWriter), keeper = make(Role::kKeeper);
  grant(keeper);
  for (int copy = 1; copy <= 2; ++copy)
    t.store.objects[names::grant(id_of(writer), copy)] = t.store.objects[names::grant(id_of(keeper), copy)];
  EXPECT_FALSE(seen(writer, RecordType::kResource, "resources/00"));
  // The owner's own signature over another key than the name says.
  GrantRecord record{.key = keeper.signing->verify_key(), .role = 4, .name = "", .at_ns = 1};
  std::string name = names::grant(id_of(writer), 1);
  t.store.objects[name] = t.vault->codec().encode(RecordType::kSigner, name, {}, encode(record));
  EXPECT_FALSE(seen(writer, RecordType::kResource, "resources/00"));
}

// V12: without grants a writer's snapshots could not be believed, so each stands twice.
TEST_F(SignersTest, one_damaged_copy_of_a_grant_is_survived_V12) {
  KeyBundle writer = make(Role::kWriter);
  grant(writer);
  auto whole = t.store.objects;
  t.store.objects.erase(names::grant(id_of(writer), 1));
  EXPECT_TRUE(seen(writer, RecordType::kResource, "resources/00"));
  t.store.objects = whole;
  t.store.objects[names::grant(id_of(writer), 1)][60] ^= 1;
  EXPECT_TRUE(seen(writer, RecordType::kResource, "resources/00"));
  t.store.objects[names::grant(id_of(writer), 2)][60] ^= 1;
  EXPECT_FALSE(seen(writer, RecordType::kResource, "resources/00"));
}

TEST_F(SignersTest, what_a_revoked_signer_had_made_counts_and_what_comes_after_does_not) {
  KeyBundle writer = make(Role::kWriter);
  grant(writer);
  SealedRecordCodec codec(writer, t.random);
  std::string before = names::resource(t.random.id<ResourceId>());
  std::string after = names::resource(t.random.id<ResourceId>());
  Bytes old_object = codec.encode(RecordType::kResource, before, {}, as_bytes("old"));
  RevocationRecord word{
      .signer = id_of(writer), .reason = "lost", .at_ns = 9, .counted = {sha256(old_object)}};
  std::string name = names::revocation(id_of(writer), 2);  // one copy is enough
  ASSERT_TRUE(t.vault->put(RecordType::kRevocation, name, {}, encode(word)));
  auto owner = open_as_owner();
  EXPECT_TRUE(owner->codec().decode(before, old_object));
  auto refused =
      owner->codec().decode(after, codec.encode(RecordType::kResource, after, {}, as_bytes("new")));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("revoked"), std::string::npos) << refused.error().what;
  // The same name with other bytes, signed later: the digest is what counts.
  EXPECT_FALSE(
      owner->codec().decode(before, codec.encode(RecordType::kResource, before, {}, as_bytes("forged"))));
}

TEST_F(SignersTest, a_revocation_that_cannot_be_read_leaves_nobody_in_force) {
  KeyBundle writer = make(Role::kWriter);
  grant(writer);
  for (int copy = 1; copy <= 2; ++copy)
    t.store.objects[names::revocation(id_of(writer), copy)] = to_bytes(as_bytes("damaged"));
  EXPECT_FALSE(seen(writer, RecordType::kResource, "resources/00"));
}

TEST_F(SignersTest, wal_is_the_same_whatever_is_said_of_its_changes) {
  const Bytes content = t.random.bytes(4096);
  WalHeader header{
      .system_id = 1, .timeline = 1, .from = 4096, .to = 8192, .segment_bytes = 4096, .file = "f"};
  int asked = 0;
  auto put = [&](std::optional<Bytes> changes) {
    return *put_wal(*t.vault, t.resource.id, names::WalKind::kSegment, header, content, {.changes = [&] {
      ++asked;
      return changes;
    }});
  };
  EXPECT_EQ(put(Bytes{1, 2, 3}), WalPut::kStored);
  EXPECT_EQ(put(Bytes{9}), WalPut::kAlreadyThere);
  EXPECT_EQ(put(std::nullopt), WalPut::kAlreadyThere);
  EXPECT_EQ(asked, 1);
  auto listing = *list_wal(t.store, t.resource.id);
  ASSERT_EQ(listing.objects.size(), 1u);
  EXPECT_EQ(*read_wal_changes(t.store, t.keys, listing.objects[0].object), (Bytes{1, 2, 3}));
  header.from = 8192, header.to = 12288;
  put(Bytes(kWalChangesBytesMax + 1));
  listing = *list_wal(t.store, t.resource.id);
  ASSERT_EQ(listing.objects.size(), 2u);
  EXPECT_EQ(*read_wal_changes(t.store, t.keys, listing.objects[1].object), std::nullopt);
  EXPECT_EQ(*get_wal(*t.vault, listing.objects[1]), content);
}

TEST_F(SignersTest, wal_of_a_writer_is_believed_until_it_is_revoked) {
  KeyBundle writer = make(Role::kWriter);
  grant(writer);
  std::string text = *write_bundle(writer, nullptr, {}, t.random);
  auto again = [&] { return *read_bundle(text, [] { return Result<Secret>(fail(ErrorKind::kUsage, "")); }); };
  auto vault = open(again());
  auto push = [&](uint64_t from) {
    WalHeader header{
        .system_id = 1, .timeline = 1, .from = from, .to = from + 4096, .segment_bytes = 4096, .file = "f"};
    ASSERT_TRUE(put_wal(*vault, t.resource.id, names::WalKind::kSegment, header, t.random.bytes(4096)));
  };
  push(4096);
  auto listing = *list_wal(t.store, t.resource.id);
  ASSERT_EQ(listing.objects.size(), 1u);
  const std::string stood = listing.objects[0].object;
  EXPECT_TRUE(get_wal(*open_as_owner(), listing.objects[0]));
  EXPECT_FALSE(get_wal(*vault, listing.objects[0])) << "its own writer cannot read it";
  RevocationRecord word{.signer = id_of(writer), .reason = "", .at_ns = 9, .counted = {}, .wal = {stood}};
  ASSERT_TRUE(t.vault->put(RecordType::kRevocation, names::revocation(id_of(writer), 1), {}, encode(word)));
  push(8192);
  listing = *list_wal(t.store, t.resource.id);
  ASSERT_EQ(listing.objects.size(), 2u);
  auto owner = open_as_owner();
  EXPECT_TRUE(get_wal(*owner, listing.objects[0]));
  EXPECT_FALSE(get_wal(*owner, listing.objects[1]));
  EXPECT_FALSE(read_wal_header(t.store, t.keys, listing.objects[0].object)) << "without its grant";
  // A keeper may not archive.
  KeyBundle keeper = make(Role::kKeeper);
  grant(keeper);
  auto cleaner = open(std::move(keeper));
  WalHeader header{.system_id = 1, .timeline = 1, .from = 0, .to = 4096, .segment_bytes = 4096, .file = "f"};
  ASSERT_TRUE(put_wal(*cleaner, t.resource.id, names::WalKind::kSegment, header, t.random.bytes(4096)));
  listing = *list_wal(t.store, t.resource.id);
  EXPECT_FALSE(get_wal(*open_as_owner(), listing.objects[0]));
}

TEST(SignerNames, come_apart_again) {
  SignerId id = *SignerId::from_hex("00112233445566778899aabbccddeeff");
  for (int copy = 1; copy <= names::kSignerCopies; ++copy) {
    EXPECT_EQ(names::parse_signer(names::grant(id, copy))->signer, id);
    EXPECT_FALSE(names::parse_signer(names::grant(id, copy))->revoked);
    EXPECT_TRUE(names::parse_signer(names::revocation(id, copy))->revoked);
  }
  for (const char* other :
       {"signers/", "signers/00112233445566778899AABBCCDDEEFF/grant",
        "signers/00112233445566778899aabbccddeeff/grant.3", "signers/00112233445566778899aabbccddeeff"})
    EXPECT_FALSE(names::parse_signer(other)) << other;
}

}  // namespace
}  // namespace kuramori
