#include "engine/survival.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "vault/names.h"

namespace kuramori {
namespace {

std::tuple<uint32_t, uint64_t, uint64_t> claim_of(const HeldWal& wal) {
  return {wal.timeline, wal.from, wal.to};
}

// What several vaults hold together.
HeldResource joined(const std::vector<const Holdings*>& vaults, const std::string& resource) {
  HeldResource all;
  std::set<std::string> ids;
  std::map<std::tuple<uint32_t, uint64_t, uint64_t>, HeldWal> wal;
  for (const Holdings* vault : vaults) {
    auto held = vault->resources.find(resource);
    if (held == vault->resources.end()) continue;
    for (const HeldSnapshot& snapshot : held->second.snapshots) {
      if (ids.insert(snapshot.id).second) all.snapshots.push_back(snapshot);
    }
    for (const HeldWal& stretch : held->second.wal) wal.emplace(claim_of(stretch), stretch);
  }
  for (auto& [claim, stretch] : wal) all.wal.push_back(stretch);
  return all;
}

Loss loss_of(const std::string& resource, const HeldResource& burns, const HeldResource& kept) {
  Loss loss{.resource = resource};
  std::set<std::string> kept_ids;
  for (const HeldSnapshot& snapshot : kept.snapshots) kept_ids.insert(snapshot.id);
  std::vector<const HeldSnapshot*> lost;
  for (const HeldSnapshot& snapshot : burns.snapshots) {
    if (!kept_ids.contains(snapshot.id)) lost.push_back(&snapshot);
  }
  loss.snapshots = lost.size();
  if (kept.snapshots.empty()) {
    // WAL without a snapshot brings nothing back.
    loss.wal_objects = burns.wal.size();
    if (!burns.snapshots.empty()) loss.kind = Loss::Kind::kEverything;
    return loss;
  }
  const HeldSnapshot& newest = *std::ranges::max_element(kept.snapshots, {}, &HeldSnapshot::finished);
  std::set<std::tuple<uint32_t, uint64_t, uint64_t>> kept_wal;
  uint64_t reached = 0;
  for (const HeldWal& wal : kept.wal) {
    kept_wal.insert(claim_of(wal));
    reached = std::max(reached, wal.to);
  }
  // Up to where the WAL that is kept follows the newest snapshot that is kept, by the clock of who stored it.
  Time until = newest.finished;
  bool is_cut = false;
  for (const HeldWal& wal : burns.wal) {
    if (wal.to <= newest.wal_end) continue;
    if (!kept_wal.contains(claim_of(wal))) {
      ++loss.wal_objects;
      is_cut = true;
    } else if (!is_cut && wal.stored_at) {
      until = std::max(until, *wal.stored_at);
    }
  }
  const bool newer_is_lost = std::ranges::any_of(lost, [&](const HeldSnapshot* snapshot) {
    return snapshot->finished > newest.finished && (snapshot->wal_end == 0 || snapshot->wal_end > reached);
  });
  if (is_cut || newer_is_lost) {
    loss.kind = Loss::Kind::kNewer;
    loss.newer_than = until;
  } else if (!lost.empty()) {
    loss.kind = Loss::Kind::kSnapshots;
  }
  return loss;
}

std::string site_of(const Holdings& vault) {
  return vault.site.empty() ? vault.vault : vault.site;
}

}  // namespace

Result<Holdings> holdings_of(Vault& vault, const SnapshotList& list, std::string name, std::string site) {
  Holdings holdings{.vault = std::move(name), .site = std::move(site)};
  for (const ResourceRecord& resource : list.resources) {
    HeldResource& held = holdings.resources[resource.name];
    for (const Snapshot& snapshot : list.snapshots) {
      if (snapshot.commit.resource != resource.id) continue;
      const CommitRecord& commit = snapshot.commit;
      const Time finished = from_unix_ns(commit.finished_ns);
      held.snapshots.push_back({.id = commit.snapshot.hex(),
                                .finished = finished,
                                .wal_end = commit.wal ? commit.wal->to : 0,
                                .timeline = commit.wal ? commit.wal->timeline : 0,
                                .as_of = commit.wal ? finished : from_unix_ns(commit.started_ns)});
    }
    TRY(for_each_object(
        vault.store(), names::wal_prefix(resource.id), [&](const ObjectInfo& object) -> Result<void> {
          auto wal = names::parse_wal(object.name);
          if (wal && (wal->kind == names::WalKind::kSegment || wal->kind == names::WalKind::kPart))
            held.wal.push_back({wal->timeline, wal->from, wal->to, object.stored_at});
          return {};
        }));
  }
  return holdings;
}

std::vector<CopiesScore> score_copies(const std::vector<Holdings>& vaults,
                                      const std::vector<Original>& originals) {
  std::vector<CopiesScore> scores;
  for (const Original& original : originals) {
    CopiesScore score{.resource = original.resource, .media = {original.medium}};
    for (const Holdings& vault : vaults) {
      auto held = vault.resources.find(original.resource);
      if (held == vault.resources.end() || held->second.snapshots.empty()) continue;
      score.vaults.push_back(vault.vault);
      if (std::ranges::count(score.media, vault.medium) == 0) score.media.push_back(vault.medium);
      if (site_of(vault) != original.site) score.offsite.push_back(vault.vault);
    }
    scores.push_back(std::move(score));
  }
  return scores;
}

std::vector<SiteLoss> losses_by_site(const std::vector<Holdings>& vaults) {
  std::set<std::string> sites;
  for (const Holdings& vault : vaults) sites.insert(site_of(vault));
  std::vector<SiteLoss> all;
  for (const std::string& site : sites) {
    SiteLoss one{.site = site};
    std::vector<const Holdings*> burns, stay;
    std::set<std::string> resources;
    for (const Holdings& vault : vaults) {
      const bool here = site_of(vault) == site;
      (here ? burns : stay).push_back(&vault);
      if (!here) continue;
      one.vaults.push_back(vault.vault);
      for (const auto& [resource, held] : vault.resources) resources.insert(resource);
    }
    for (const std::string& resource : resources)
      one.losses.push_back(loss_of(resource, joined(burns, resource), joined(stay, resource)));
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace kuramori
