// A second person's word for what cannot be taken back. Who wants to do it puts a request that says exactly
// what would be done; others, with keys of their own, put their approval of that very object; then it may be
// done once, while what would be done is still the same. docs/vault-format.md, "Approvals".
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "policy/approval_time.h"
#include "vault/names.h"
#include "vault/vault.h"

namespace kuramori {

struct PlannedAct {
  std::string act;                 // of approved_acts()
  std::vector<std::string> lines;  // exactly what would be done; the same world gives the same lines
};
struct ApprovalRules {
  int people = 2;                     // who asks counted in
  std::vector<std::string> by;        // names of keys that may agree; none: any but a writer's
  Period valid_for = kApprovalHolds;  // of a request, from its making
};

// Returns once the act may be done, and has used the approval up: what fails after that is asked for anew.
// kRefused otherwise, saying what to type: a request was made; it waits for so many; it is over; what would
// be done is no longer what was approved.
Result<void> use_approval(Vault& vault, const ApprovalRules& rules, const PlannedAct& planned,
                          const std::string& vault_name);

struct SeenApproval {
  SignerId signer;
  std::string key_name, host, user;
  Time at;
};
struct SeenRequest {
  ApprovalRequestRecord record;
  Digest digest;
  SignerId signer;
  std::string key_name;
  std::vector<SeenApproval> approvals;  // that count: each of another key than the request's
  bool used = false;
  Time until;  // by the earlier of what it says and what the store says of its making
};
// Newest first. What cannot be verified is no request and no approval.
Result<std::vector<SeenRequest>> list_requests(Vault& vault);

// This key agrees to the request whose id begins so. kRefused: its own request, over, used; kUsage: none.
Result<SeenRequest> approve_request(Vault& vault, const std::string& id);

}  // namespace kuramori
