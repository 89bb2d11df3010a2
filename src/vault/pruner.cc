#include "vault/pruner.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "vault/epochs.h"

namespace kuramori {
namespace {

bool contains(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

PruneRecord make_record(uint64_t n, std::vector<PruneProposal> proposals, Time now) {
  std::ranges::sort(proposals, {}, &PruneProposal::commit);
  PruneRecord record{.number = n, .at_ns = to_unix_ns(now)};
  for (PruneProposal& proposal : proposals) {
    record.commits.push_back(std::move(proposal.commit));
    record.reasons.push_back(std::move(proposal.reason));
  }
  return record;
}

// Views into it.
std::set<std::string_view> names_of(const std::vector<KeptSnapshot>& kept) {
  std::set<std::string_view> names;
  for (const KeptSnapshot& one : kept) names.insert(one.commit);
  return names;
}

// Two attempts at copying a snapshot may both have succeeded: they go together.
void add_twins(const CommitListing& commits, std::vector<PruneProposal>& proposals) {
  std::multimap<SnapshotId, const VisibleCommit*> of_snapshot;
  for (const VisibleCommit* commit : commits.visible) of_snapshot.emplace(commit->key.snapshot, commit);
  std::set<std::string, std::less<>> there;
  for (const PruneProposal& proposal : proposals) there.insert(proposal.commit);
  const size_t proposed = proposals.size();
  for (size_t i = 0; i < proposed; ++i) {
    auto key = names::parse_commit(proposals[i].commit);
    if (!key) continue;
    const auto [first, last] = of_snapshot.equal_range(key->snapshot);
    for (auto twin = first; twin != last; ++twin) {
      if (there.insert(twin->second->name).second)
        proposals.push_back({twin->second->name, proposals[i].reason});
    }
  }
}

}  // namespace

Result<std::vector<KeptSnapshot>> Pruner::read_protected(const std::vector<std::string>& intent,
                                                         const CommitListing& commits) {
  TRY_ASSIGN(std::set<SnapshotId> held, ledger_.read_held());
  TRY_ASSIGN(auto retained, ledger_.read_retained());
  TRY_ASSIGN(ProofListing proofs, ledger_.read_proofs());
  int64_t now = to_unix_ns(ledger_.protocol().clock.now());

  struct OfResource {
    const VisibleCommit* last_proven = nullptr;
    int64_t proven_at = INT64_MIN;
    const VisibleCommit* newest = nullptr;
    std::set<SnapshotId> left;  // visible, and not in the intent; two copies are one snapshot
  };
  std::map<ResourceId, OfResource> resources;
  for (const VisibleCommit* commit : commits.visible) {
    OfResource& of = resources[commit->key.resource];
    auto proof = proofs.passed.find(commit->key.snapshot);
    if (proof != proofs.passed.end() && proof->second > of.proven_at) {
      of.last_proven = commit;
      of.proven_at = proof->second;
    }
    if (!of.newest || commit->record.finished_ns >= of.newest->record.finished_ns) of.newest = commit;
    if (!contains(intent, commit->name)) of.left.insert(commit->key.snapshot);
  }
  std::vector<KeptSnapshot> kept;
  for (const VisibleCommit* commit : commits.visible) {
    if (!contains(intent, commit->name)) continue;
    OfResource& of = resources[commit->key.resource];
    const size_t kept_before = kept.size();
    auto until = retained.find(commit->key.snapshot);
    if (held.contains(commit->key.snapshot)) {
      kept.push_back({commit->name, "held"});
    } else if (commit == of.last_proven) {
      kept.push_back({commit->name, "the last proven snapshot of its resource"});
    } else if (proofs.unreadable.contains(commit->key.snapshot)) {
      kept.push_back({commit->name, "a proof of it cannot be read"});
    } else if (until != retained.end() && until->second > now) {
      kept.push_back({commit->name, "its retention was extended"});
    }
    if (kept.size() > kept_before) of.left.insert(commit->key.snapshot);
  }
  for (const auto& [resource, of] : resources) {
    if (of.left.empty()) kept.push_back({of.newest->name, "the only snapshot of its resource"});
  }
  return kept;
}

Result<std::vector<std::string>> Pruner::finish(uint64_t n, PruneReport& report) {
  TRY_ASSIGN(OpenedRecord opened, ledger_.log().read(names::prune_intent(n), RecordType::kPruneIntent));
  if (!ledger_.protocol().may_delete(opened.signer)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is signed by {}, who is no keeper",
                                                 names::prune_intent(n), opened.signer.hex()));
  }
  TRY_ASSIGN(PruneRecord intent, decode<PruneRecord>(opened.body));
  // Prunes follow one another, so what was decided at the intent still holds; holds, proofs and retention are
  // read only now, because only from here on does whoever adds one see the intent.
  TRY_ASSIGN(CommitListing commits, ledger_.read_commits());
  TRY(commits.must_be_whole());
  TRY_ASSIGN(std::vector<KeptSnapshot> kept, read_protected(intent.commits, commits));
  const std::set<std::string_view> stays = names_of(kept);
  std::vector<PruneProposal> remaining;
  for (size_t i = 0; i < intent.commits.size(); ++i) {
    if (!stays.contains(intent.commits[i]))
      remaining.push_back({intent.commits[i], i < intent.reasons.size() ? intent.reasons[i] : ""});
  }
  PruneRecord record = make_record(n, std::move(remaining), ledger_.protocol().clock.now());
  TRY_ASSIGN(PutResult put,
             ledger_.log().put(RecordType::kPruneFinal, names::prune_final(n), {}, encode(record)));
  report.number = n;
  if (put.ours()) {
    TRY(make_certain());
    report.kept.insert(report.kept.end(), kept.begin(), kept.end());
    return std::move(record.commits);
  }
  TRY_ASSIGN(PruneRecord stored, decode<PruneRecord>(put.theirs->body));
  TRY(make_certain());
  return std::move(stored.commits);
}

Result<void> Pruner::make_certain() {
  TRY(ledger_.mirror_decided());
  return must_be_in_force(ledger_.log());
}

Result<void> Pruner::remove_keys(const std::vector<std::string>& commits) {
  for (const std::string& commit : commits) TRY(ledger_.log().remove(commit));
  return {};
}

Result<PruneReport> Pruner::run(const PrunePolicy& policy, Mode mode) {
  const Protocol& protocol = ledger_.protocol();
  const ProtocolBugs& bugs = protocol.bugs;
  PruneReport report;
  if (mode == Mode::kPrune) TRY(ledger_.mirror_decided());
  for (int round = 0; round < kPruneRoundsMax; ++round) {
    TRY_ASSIGN(std::vector<PruneRound> prunes, ledger_.read_prunes());
    if (!prunes.empty() && !prunes.back().finished && !bugs.has(PlantedBug::kPruneUnnumbered) &&
        mode == Mode::kPrune) {
      TRY(finish(prunes.back().number, report));
      ++report.finished_others;
      continue;
    }
    uint64_t n = prunes.empty() ? 1 : prunes.back().number + 1;
    TRY_ASSIGN(CommitListing commits, ledger_.read_commits(prunes));
    TRY(commits.must_be_whole());
    TRY_ASSIGN(std::vector<PruneProposal> proposals, policy(commits));
    add_twins(commits, proposals);
    std::vector<std::string> intent;
    for (const PruneProposal& proposal : proposals) intent.push_back(proposal.commit);
    std::ranges::sort(intent);
    TRY_ASSIGN(std::vector<KeptSnapshot> kept, read_protected(intent, commits));
    std::set<std::string_view> visible;
    for (const VisibleCommit* commit : commits.visible) visible.insert(commit->name);
    const std::set<std::string_view> stays = names_of(kept);
    std::erase_if(proposals, [&](const PruneProposal& proposal) {
      return !visible.contains(proposal.commit) || stays.contains(proposal.commit);
    });
    report.kept = std::move(kept);
    if (mode == Mode::kDryRun) {
      report.number = n;
      for (PruneProposal& proposal : proposals) report.pruned.push_back(std::move(proposal.commit));
      return report;
    }
    if (proposals.empty()) return report;
    PruneRecord record = make_record(n, std::move(proposals), protocol.clock.now());
    if (bugs.has(PlantedBug::kPruneRemovesCommit)) {
      TRY(remove_keys(record.commits));
      return report;
    }
    if (bugs.has(PlantedBug::kPruneUnnumbered)) {
      Bytes any(4);
      protocol.random.fill(any);
      record.number = n = load_le<uint32_t>(any.data());
    }
    TRY_ASSIGN(PutResult put,
               ledger_.log().put(RecordType::kPruneIntent, names::prune_intent(n), {}, encode(record)));
    if (!put.ours()) continue;  // another pruner was first: its prune is finished, then this one decides anew
    if (bugs.has(PlantedBug::kHoldsReadFirst) || bugs.has(PlantedBug::kPruneUnnumbered)) {
      TRY_ASSIGN(put, ledger_.log().put(RecordType::kPruneFinal, names::prune_final(n), {}, encode(record)));
      return report;
    }
    TRY_ASSIGN(report.pruned, finish(n, report));
    return report;
  }
  return fail(ErrorKind::kFailed, fmt::format("{} other prunes were first", kPruneRoundsMax), "",
              "run the command again");
}

}  // namespace kuramori
