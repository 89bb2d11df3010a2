// What a vault can show of what was done with it: snapshots, proofs, deletions and by whom, its audit log,
// and the facts that compliance is judged by. Read only.
#pragma once
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/audit.h"
#include "engine/protection.h"
#include "policy/compliance.h"
#include "policy/config.h"

namespace kuramori {

struct VaultAccount {
  std::string name, site, medium;
  std::string trouble;  // it could not be looked at: the rest is empty
  VaultHoldings holdings;
  struct Made {
    std::string resource, id;
    Digest commit;  // SHA-256 of the commit object
    Time began, finished, keep_until;
    std::vector<std::string> holds;
    std::string key, label, plan;
    uint64_t size_bytes = 0, added_bytes = 0;
    bool is_by_owner = false;         // signed by an owner's key
    std::vector<ProofRecord> proofs;  // oldest first
    const ProofRecord* proof() const { return proofs.empty() ? nullptr : &proofs.back(); }
    std::map<std::string, std::string> facts;
  };
  std::vector<Made> snapshots;  // oldest first
  struct Deletion {
    Time at;
    std::string resource, snapshot, reason, key;
  };
  std::vector<Deletion> deletions;  // by prune, oldest first
  std::vector<AuditEntry> acts;
  std::vector<AuditFinding> findings;
  std::vector<AuditHead> heads;
  VaultFacts facts;
  // Of the newest snapshot of each resource.
  struct Newest {
    std::optional<Time> locked_until;
    std::string why_not_locked;
    std::string key;
    bool is_owner = false;
  };
  std::map<std::string, Newest> newest;
};

// `lock`: what the vault asks its store to lock for, nothing where it asks for nothing. Up to then of what is
// needed of each newest snapshot is asked of the store.
struct AccountRequest {
  std::string name, site, medium;
  std::optional<Period> lock;
  std::stop_token stop;
};
Result<VaultAccount> account_of(Vault& vault, const AccountRequest& request);
// What it could have shown at an earlier moment, as far as that can be told from what stands now: without
// what came later. What was pruned since is missing; keys, holds, locks and ends are those of now.
VaultAccount as_of(VaultAccount account, Time at);

// What compliance is judged by: the configuration's promises beside what the vaults showed. `all`: as
// judge_protection() has them.
ComplianceFacts compliance_facts(const Config& config, const std::vector<VaultAccount>& vaults,
                                 const std::vector<Protection>& all);

}  // namespace kuramori
