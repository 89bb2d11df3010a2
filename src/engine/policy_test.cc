#include "engine/policy.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kuramori {
namespace {

PolicyRequest request(Role role, PolicyForm form) {
  return {.role = role,
          .signer = *SignerId::from_hex("0123456789abcdef0123456789abcdef"),
          .form = form,
          .objects = {"kuramori-osaka-with-a-long-name", "production/tokyo"},
          .ledger = StorePlace{"kuramori-osaka-with-a-long-name-ledger", "production/tokyo"},
          .lock_days = 14};
}

// The largest of them all must still fit where Amazon keeps it.
TEST(Policy, fits_into_a_managed_policy) {
  for (Role role : {Role::kWriter, Role::kReader, Role::kKeeper}) {
    for (PolicyForm form : {PolicyForm::kAws, PolicyForm::kCeph}) {
      std::string text = policy_document(request(role, form));
      size_t bytes =
          static_cast<size_t>(std::ranges::count_if(text, [](char c) { return c != ' ' && c != '\n'; }));
      EXPECT_LE(bytes, kPolicyBytesMax) << name_of(role);
    }
  }
}

TEST(Policy, a_writers_names_carry_its_own_id) {
  std::string text = policy_document(request(Role::kWriter, PolicyForm::kCeph));
  for (const char* name : {"production/tokyo/packs/?"
                           "?/01234567*",
                           "production/tokyo/maps/?"
                           "?/01234567*",
                           "production/tokyo/?????????"
                           "?/commits/*.01234567*",
                           "-ledger/production/tokyo/?????????"
                           "?/sessions/01234567*"})
    EXPECT_NE(text.find(name), std::string::npos) << name << "\n" << text;
  EXPECT_EQ(text.find("production/tokyo/sessions/01234567*"), std::string::npos)
      << "where there are two places";
}

TEST(Policy, a_folder_has_none) {
  auto none = policy_for_places("/srv/vault", "", Time());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(none.error().next.empty());
}

TEST(Policy, what_a_location_says_is_taken_from_it) {
  auto ceph = policy_for_places("s3://bucket/p?endpoint=https://s3.osaka.example.jp&lock=14d",
                                "s3://ledger/q", Time());
  ASSERT_TRUE(ceph) << ceph.error().what << ceph.error().why;
  EXPECT_EQ(ceph->form, PolicyForm::kCeph);
  EXPECT_EQ(ceph->objects.bucket, "bucket");
  EXPECT_EQ(ceph->objects.prefix, "p");
  EXPECT_EQ(ceph->ledger->bucket, "ledger");
  EXPECT_EQ(ceph->lock_days, 15);
  auto amazon = policy_for_places("s3://bucket", "", Time());
  ASSERT_TRUE(amazon);
  EXPECT_EQ(amazon->form, PolicyForm::kAws);
  EXPECT_FALSE(amazon->ledger);
}

}  // namespace
}  // namespace kuramori
