#include "engine/accounts.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/time_text.h"
#include "engine/keys.h"
#include "engine/locks.h"
#include "engine/open_vault.h"
#include "engine/snapshots.h"
#include "vault/names.h"
#include "vault/record_log.h"

namespace kuramori {
namespace {

std::string shown_key(const std::vector<KeyEntry>& keys, const SignerId& id) {
  const auto key = std::ranges::find(keys, id, &KeyEntry::id);
  if (key == keys.end()) return id.hex().substr(0, 8);
  if (!key->name.empty()) return key->name;
  return fmt::format("{} {}", name_of(key->role), id.hex().substr(0, 8));
}

bool is_owner(const std::vector<KeyEntry>& keys, const SignerId& id) {
  const auto key = std::ranges::find(keys, id, &KeyEntry::id);
  return key != keys.end() && key->role == Role::kOwner;
}

// What prunes let go, and whose word that was.
Result<std::vector<VaultAccount::Deletion>> deletions_of(Vault& vault, const std::vector<KeyEntry>& keys,
                                                         const std::map<ResourceId, std::string>& names) {
  std::vector<VaultAccount::Deletion> all;
  const Protocol protocol = protocol_of(vault);
  const RecordLog log(protocol);
  TRY_ASSIGN(const std::vector<ObjectInfo> listed, log.list(names::kPrune));
  for (const ObjectInfo& object : listed) {
    if (!object.name.ends_with("/final")) continue;
    TRY_ASSIGN(const OpenedRecord opened, log.read(object.name, RecordType::kPruneFinal));
    TRY_ASSIGN(const PruneRecord record, decode<PruneRecord>(opened.body));
    for (size_t i = 0; i < record.commits.size(); ++i) {
      const auto commit = names::parse_commit(record.commits[i]);
      if (!commit) continue;
      const auto name = names.find(commit->resource);
      all.push_back({from_unix_ns(record.at_ns), name == names.end() ? commit->resource.hex() : name->second,
                     commit->snapshot.hex(), i < record.reasons.size() ? record.reasons[i] : "",
                     shown_key(keys, opened.signer)});
    }
  }
  std::ranges::stable_sort(all, {}, &VaultAccount::Deletion::at);
  return all;
}

VaultAccount::Newest look_at_newest(Vault& vault, const Snapshot& snapshot, const AccountRequest& request,
                                    const std::vector<KeyEntry>& keys) {
  VaultAccount::Newest newest{.key = shown_key(keys, snapshot.signer),
                              .is_owner = is_owner(keys, snapshot.signer)};
  if (vault.store().retention() == nullptr || !request.lock) {
    newest.why_not_locked = "nothing is locked there";
    return newest;
  }
  // What the plan asks for: the snapshot's own end, or the vault's lock where that is sooner.
  const Time until = std::min(from_unix_ns(snapshot.keep_until_ns),
                              later(from_unix_ns(snapshot.commit.started_ns), *request.lock));
  auto why = why_not_locked(vault, snapshot, until, request.stop);
  if (why && why->empty())
    newest.locked_until = until;
  else
    newest.why_not_locked = why ? *why : why.error().what;
  return newest;
}

void add_acts(VaultFacts& facts, const VaultAccount& account) {
  for (const AuditEntry& entry : account.acts) {
    if (!facts.audit_oldest || entry.at < *facts.audit_oldest) facts.audit_oldest = entry.at;
  }
  facts.audit_records = account.acts.size();
}

VaultFacts facts_of(const VaultAccount& account, Vault& vault, const std::vector<KeyEntry>& keys) {
  VaultFacts facts{.vault = account.name, .site = account.site};
  facts.family = account.holdings.family;
  facts.kit_made = account.holdings.kit_made;
  facts.created = from_unix_ns(vault.info().created_ns);
  for (const KeyEntry& key : keys) {
    if (key.revoked_ns || !key.defect.empty()) continue;
    facts.has_writer |= key.role == Role::kWriter;
    facts.has_keeper |= key.role == Role::kKeeper;
  }
  add_acts(facts, account);
  for (const AuditFinding& finding : account.findings)
    facts.audit_findings.push_back(fmt::format("{}: {}", finding.object, finding.what));
  for (const AuditHead& head : account.heads)
    facts.audit_evidence +=
        fmt::format("{}{}/{} {}", facts.audit_evidence.empty() ? "" : ", ", head.signer.hex().substr(0, 8),
                    head.number, head.digest.hex().substr(0, 16));
  return facts;
}

}  // namespace

Result<VaultAccount> account_of(Vault& vault, const AccountRequest& request) {
  VaultAccount out{.name = request.name, .site = request.site, .medium = request.medium};
  TRY_ASSIGN(const SnapshotList list, list_snapshots(vault, std::nullopt));
  TRY_ASSIGN(out.holdings, what_vault_holds(vault, request.name, request.site));
  out.holdings.held.medium = request.medium;
  TRY_ASSIGN(const std::vector<KeyEntry> keys, list_keys(vault));
  std::map<ResourceId, std::string> names;
  for (const ResourceRecord& record : list.resources) names[record.id] = record.name;
  std::map<std::string, const Snapshot*> newest;
  for (const Snapshot& snapshot : list.snapshots) {
    const CommitRecord& commit = snapshot.commit;
    const auto name = names.find(commit.resource);
    VaultAccount::Made made{.resource = name == names.end() ? commit.resource.hex() : name->second,
                            .id = commit.snapshot.hex(),
                            .commit = snapshot.commit_digest,
                            .began = from_unix_ns(commit.started_ns),
                            .finished = from_unix_ns(commit.finished_ns),
                            .keep_until = from_unix_ns(snapshot.keep_until_ns),
                            .key = shown_key(keys, snapshot.signer),
                            .label = commit.label,
                            .plan = commit.plan,
                            .size_bytes = commit.size_bytes,
                            .added_bytes = commit.added_bytes,
                            .proofs = snapshot.earlier_proofs,
                            .facts = commit.facts};
    if (snapshot.proof) made.proofs.push_back(*snapshot.proof);
    std::ranges::sort(made.proofs, {}, &ProofRecord::started_ns);
    made.is_by_owner = is_owner(keys, snapshot.signer);
    for (const HoldRecord& hold : snapshot.holds) made.holds.push_back(hold.name);
    newest[made.resource] = &snapshot;  // oldest first
    out.snapshots.push_back(std::move(made));
  }
  for (const auto& [resource, snapshot] : newest)
    out.newest[resource] = look_at_newest(vault, *snapshot, request, keys);
  TRY_ASSIGN(out.deletions, deletions_of(vault, keys, names));
  TRY_ASSIGN(AuditReading log, read_audit(vault));
  out.acts = std::move(log.entries);
  out.findings = std::move(log.findings);
  out.heads = std::move(log.heads);
  out.facts = facts_of(out, vault, keys);
  return out;
}

VaultAccount as_of(VaultAccount account, Time at) {
  std::erase_if(account.snapshots, [&](const VaultAccount::Made& made) { return made.finished > at; });
  std::map<std::string, uint64_t> added;
  for (VaultAccount::Made& made : account.snapshots) {
    std::erase_if(made.proofs, [&](const ProofRecord& proof) { return from_unix_ns(proof.started_ns) > at; });
    added[made.resource] += made.added_bytes;
    const auto newest = account.newest.find(made.resource);  // oldest first: the last one says
    if (newest == account.newest.end()) continue;
    newest->second.key = made.key;
    newest->second.is_owner = made.is_by_owner;
  }
  std::erase_if(account.newest, [&](const auto& one) { return !added.contains(one.first); });
  for (auto& [name, held] : account.holdings.held.resources) {
    std::erase_if(held.snapshots, [&](const HeldSnapshot& one) { return one.finished > at; });
    std::erase_if(held.wal, [&](const HeldWal& one) { return one.stored_at && *one.stored_at > at; });
  }
  for (auto& [name, resource] : account.holdings.resources) {
    resource.added_bytes = added[name];
    resource.proofs.clear();
    // What a prune would have dropped then is not known; what it drops now was not known then.
    resource.next_to_go.reset();
    for (const VaultAccount::Made& made : account.snapshots) {
      if (made.resource != name) continue;
      for (const ProofRecord& proof : made.proofs)
        resource.proofs.push_back({.vault = account.name,
                                   .snapshot = proof.snapshot,
                                   .at = from_unix_ns(proof.started_ns),
                                   .passed = proof.passed,
                                   .seconds_to_open = proof.seconds_to_open,
                                   .seconds_total = proof.seconds_total});
    }
  }
  std::erase_if(account.deletions, [&](const VaultAccount::Deletion& gone) { return gone.at > at; });
  std::erase_if(account.acts, [&](const AuditEntry& entry) { return entry.at > at; });
  // The last kit alone is known without the log.
  if (account.facts.kit_made && *account.facts.kit_made > at) {
    account.facts.kit_made.reset();
    for (const AuditEntry& entry : account.acts)
      if (!entry.chain && entry.act && entry.act->verb == kAuditKitMade) account.facts.kit_made = entry.at;
    account.holdings.kit_made = account.facts.kit_made;
  }
  account.facts.audit_oldest.reset();
  add_acts(account.facts, account);
  return account;
}

ComplianceFacts compliance_facts(const Config& config, const std::vector<VaultAccount>& vaults,
                                 const std::vector<Protection>& all) {
  ComplianceFacts facts{.demands = config.compliance};
  if (config.audit && config.audit->online) facts.audit_online = *config.audit->online;
  if (config.audit && config.audit->archive) facts.audit_archive = *config.audit->archive;
  for (const VaultAccount& vault : vaults) {
    facts.vaults.push_back(vault.facts);
    facts.vaults.back().vault = vault.name;
    facts.vaults.back().site = vault.site;
    facts.vaults.back().trouble = vault.trouble;
  }
  for (const Protection& protection : all) {
    const std::string& name = protection.promise.resource;
    ResourceFacts one{.resource = name,
                      .is_planned = protection.promise.is_planned,
                      .rpo = protection.promise.rpo,
                      .rto = protection.promise.rto,
                      .restorable_to = protection.restorable_to,
                      .restorable_from = protection.best};
    for (const PlanConfig* plan : config.plans_of(name)) one.plans.push_back(plan->name);
    if (auto resource = config.resource(name)) one.site = (*resource)->site;
    if (one.plans.empty()) one.is_planned = false;
    for (const VaultAccount& vault : vaults) {
      for (const VaultAccount::Made& made : vault.snapshots) {
        if (made.resource != name) continue;
        one.snapshots.push_back({made.id, vault.name, made.began, made.keep_until, !made.holds.empty()});
        for (const ProofRecord& proof : made.proofs)
          one.proofs.push_back(
              {vault.name, made.id, from_unix_ns(proof.started_ns), proof.passed, proof.seconds_to_open});
      }
      const auto newest = vault.newest.find(name);
      if (newest == vault.newest.end()) continue;
      one.made_by.push_back({vault.name, newest->second.key, newest->second.is_owner});
      if (newest->second.locked_until)
        one.locked.push_back({vault.name, *newest->second.locked_until});
      else
        one.not_locked.push_back(fmt::format("{}: {}", vault.name, newest->second.why_not_locked));
    }
    facts.resources.push_back(std::move(one));
  }
  for (const ScenarioConfig& scenario : config.scenarios) {
    std::vector<const ResourceFacts*> wanted;
    for (const ResourceFacts& resource : facts.resources) {
      const bool named = scenario.resources.empty()
                             ? config.resource(resource.resource).has_value()
                             : std::ranges::count(scenario.resources, resource.resource) != 0;
      if (named) wanted.push_back(&resource);
    }
    facts.exercises.push_back(find_exercise(scenario.name, scenario.from, wanted));
  }
  return facts;
}

}  // namespace kuramori
