// The store's own policy for a role: what makes a bucket refuse what the key's signatures refuse.
//
// A writer puts only under names that carry its own id, and reads no pack; a reader puts sessions and proofs;
// a keeper deletes content and sessions, never what says what happened. The document is an identity policy:
// it is attached to the store's user who has the role's access key.
#pragma once
#include <optional>
#include <string>

#include "vault/vault.h"

namespace kuramori {

enum class PolicyForm : uint8_t {
  kAws,   // with conditions: on prefixes, on how long may be locked, on what is put in the ledger
  kCeph,  // Ceph's gateway: PutUserPolicy, no such conditions
};

struct StorePlace {
  std::string bucket, prefix;  // no slash at the prefix's ends
};

struct PolicyRequest {
  Role role = Role::kWriter;  // not the owner's: that one may all
  SignerId signer;            // whose names: of a writer and a reader
  PolicyForm form = PolicyForm::kAws;
  StorePlace objects;
  std::optional<StorePlace> ledger;  // where there are two places
  std::optional<int> lock_days;      // how long what is put is locked for
};

// Places, lock and form as a vault's locations say them ("" : no ledger); role and signer are still to be
// set. kUsage: a folder, which has no policies.
Result<PolicyRequest> policy_for_places(const std::string& objects, const std::string& ledger, Time now);

// A JSON document, indented; at most kPolicyBytesMax without white space.
std::string policy_document(const PolicyRequest& request);
constexpr size_t kPolicyBytesMax = 6144;  // of a managed policy at Amazon

}  // namespace kuramori
