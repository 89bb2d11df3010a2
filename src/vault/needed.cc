#include "vault/needed.h"

#include <algorithm>

namespace kuramori {
namespace {

bool has_name(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

}  // namespace

bool Needed::contains(const std::string& name) const {
  if (auto wal = names::parse_wal(name)) {
    if (wal->kind == names::WalKind::kHistory) return true;
    auto floor = wal_floors.find(wal->resource);
    return floor == wal_floors.end() || wal->to > floor->second;
  }
  // By origin: of something needed, every incarnation stays.
  if (names.contains(names::origin_of(name))) return true;
  if (owners.empty()) return false;
  auto owner = names::owner_of(name);
  return owner && owners.contains(*owner);
}

Result<Needed> find_needed(Ledger& ledger, const CommitListing& commits, const SessionListing& sessions,
                           const std::vector<std::string>& swept, const WhichPacks& which) {
  Needed needed;
  auto need_frames = [&](const VisibleCommit& commit) -> Result<void> {
    if (!which) return {};
    TRY_ASSIGN(const LiveRecord* live, ledger.live_of(commit));
    for (const LivePack& pack : live->packs) {
      if (!which(pack.name)) continue;
      auto [at, fresh] = needed.packs.try_emplace(pack.name, PackNeed{pack, commit.key.resource});
      LivePack& known = at->second.pack;
      if (fresh) {
        known.frames = normal_ranges(std::move(known.frames));
        continue;
      }
      if (known.size != pack.size || known.trailer_digest != pack.trailer_digest)
        at->second.contradicted = true;
      known.frames = united(known.frames, normal_ranges(pack.frames));
    }
    return {};
  };
  auto lower_floor = [&](const ResourceId& resource, uint64_t lsn) {
    uint64_t& floor = needed.wal_floors.try_emplace(resource, lsn).first->second;
    floor = std::min(floor, lsn);
  };
  auto need = [&](const VisibleCommit& commit) -> Result<void> {
    TRY_ASSIGN(const std::vector<std::string>* references, ledger.references(commit));
    needed.names.insert(references->begin(), references->end());
    TRY(need_frames(commit));
    if (commit.record.wal) lower_floor(commit.key.resource, commit.record.wal->from);
    return {};
  };
  // A pruned snapshot that was swept is past keeping: a reader that came too late, or was refused and died.
  auto need_pruned = [&](const VisibleCommit& commit) -> Result<void> {
    const std::string& live = commit.record.live.name;
    auto first = std::lower_bound(swept.begin(), swept.end(), live);
    if (first == swept.end() || names::origin_of(*first) != live) return need(commit);
    TRY_ASSIGN(std::vector<ObjectInfo> standing, ledger.log().list(live));
    if (std::ranges::all_of(standing, [&](auto& object) { return has_name(swept, object.name); })) return {};
    return need(commit);
  };
  for (const VisibleCommit* commit : commits.visible) TRY(need(*commit));
  // No hold stands on a pruned snapshot, unless a prune went wrong. Then its data stays.
  TRY_ASSIGN(std::set<SnapshotId> held, ledger.read_held());
  if (!held.empty()) {
    for (const std::string& name : commits.pruned) {
      auto key = names::parse_commit(name);
      if (!key || !held.contains(key->snapshot)) continue;
      TRY_ASSIGN(const VisibleCommit* commit, ledger.read_commit(name));
      TRY(need_pruned(*commit));
    }
  }
  for (const ListedSession& session : sessions.sessions) {
    if (session.decided) continue;
    if (session.record.kind == SessionKind::kRead) {
      for (const std::string& name : session.record.parents) {
        Result<const VisibleCommit*> commit = ledger.read_commit(name);
        if (commit) {
          TRY(need_pruned(**commit));
        } else if (commit.error().kind != ErrorKind::kNotFound &&
                   commit.error().kind != ErrorKind::kRefused) {
          return std::move(commit).error();
        }
      }
      continue;
    }
    needed.owners.insert(session.id);
    needed.names.insert(session.record.foreign.begin(), session.record.foreign.end());
    needed.declared.insert(session.record.foreign.begin(), session.record.foreign.end());
    // Only lowers a floor that is there: with no visible base, no WAL goes anyway.
    if (session.record.wal_timeline == 0 || ledger.protocol().bugs.has(PlantedBug::kWalIgnoresSessions))
      continue;
    auto floor = needed.wal_floors.find(session.record.resource);
    if (floor != needed.wal_floors.end()) floor->second = std::min(floor->second, session.record.wal_floor);
  }
  return needed;
}

}  // namespace kuramori
