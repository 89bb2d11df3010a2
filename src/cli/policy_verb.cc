#include <fmt/core.h>

#include "cli/vault_access.h"
#include "cli/verbs.h"
#include "engine/keys.h"
#include "engine/policy.h"
#include "engine/roles.h"

namespace kuramori {
namespace {

// The key the policy is for: the one named, or the only one of its role that is in force.
Result<KeyEntry> key_of(Context& context, Vault& vault, Role role) {
  if (context.line().has("key")) {
    TRY_ASSIGN(KeyEntry key, find_key(vault, context.line().value("key")));
    if (key.role == role && key.defect.empty()) return key;
    return fail(ErrorKind::kUsage, fmt::format("{} is no {} key in force", key.name, name_of(role)),
                key.defect.empty() ? fmt::format("it is a {}'s", name_of(key.role)) : key.defect,
                "kuramori vault key list shows them");
  }
  TRY_ASSIGN(std::vector<KeyEntry> keys, list_keys(vault));
  std::erase_if(
      keys, [&](const KeyEntry& key) { return key.role != role || key.revoked_ns || !key.defect.empty(); });
  if (keys.size() == 1) return keys.front();
  return fail(ErrorKind::kUsage,
              keys.empty() ? fmt::format("the vault has no {} key", name_of(role))
                           : fmt::format("the vault has {} {} keys", keys.size(), name_of(role)),
              "a policy names the objects of one key",
              keys.empty() ? fmt::format("kuramori vault key new NAME --role {} --to FILE", name_of(role))
                           : "say which: --key NAME");
}

}  // namespace

Result<int> run_vault_policy(Context& context) {
  TRY_ASSIGN(VaultChoice choice, context.choose_vault(context.line().argument(0)));
  auto role = role_of(context.line().value("role"));
  if (!role) return fail(ErrorKind::kUsage, "that is no role", "", "writer, reader or keeper");
  VaultAddress address = address_of(context, choice);
  TwoLocations places = split_location(address.location);
  if (places.ledger.empty()) places.ledger = address.ledger;
  TRY_ASSIGN(PolicyRequest request, policy_for_places(places.objects, places.ledger, context.clock().now()));
  request.role = *role;
  if (context.line().has("form"))
    request.form = context.line().value("form") == "aws" ? PolicyForm::kAws : PolicyForm::kCeph;
  TRY_ASSIGN(std::unique_ptr<Vault> vault, open_chosen(context, choice));
  TRY(must_be_allowed(*vault, Act::kManageKeys));
  TRY_ASSIGN(KeyEntry key, key_of(context, *vault, *role));
  request.signer = key.id;
  context.console().print(policy_document(request));
  if (request.form == PolicyForm::kAws)
    context.console().note(
        fmt::format("attach it to the user of {}: aws iam put-user-policy, or a managed policy",
                    key.name.empty() ? key.id.hex() : key.name));
  else
    context.console().note(
        "attach it with IAM's PutUserPolicy at the gateway's endpoint, as a user with the caps "
        "user-policy=*; and "
        "let the user make no buckets: radosgw-admin user modify --uid=USER --max-buckets=-1");
  return 0;
}

}  // namespace kuramori
