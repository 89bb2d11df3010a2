#include "engine/protection.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "base/time_text.h"
#include "engine/maintenance.h"
#include "vault/audit_log.h"

namespace kuramori {
namespace {

// A drill that began late and takes long is not overdue yet.
constexpr Duration kDrillGrace = std::chrono::hours(6);

using Claim = std::tuple<uint32_t, uint64_t, uint64_t>;  // of WAL: timeline, from, to
using StoredAt = std::map<Claim, Time>;

Claim claim_of(const HeldWal& wal) {
  return {wal.timeline, wal.from, wal.to};
}

// When each stretch was first stored anywhere: a copy's own time tells when it was copied.
StoredAt first_stored(const std::vector<VaultHoldings>& vaults, const std::string& resource) {
  StoredAt first;
  for (const VaultHoldings& vault : vaults) {
    const auto held = vault.held.resources.find(resource);
    if (held == vault.held.resources.end()) continue;
    for (const HeldWal& wal : held->second.wal) {
      if (!wal.stored_at) continue;
      const auto [it, added] = first.emplace(claim_of(wal), *wal.stored_at);
      if (!added) it->second = std::min(it->second, *wal.stored_at);
    }
  }
  return first;
}

// Up to when the WAL that follows `snapshot` without a gap reaches. It stays on a timeline as long as there
// is more of it and goes on with a newer one: a stretch of the old one that a promotion left behind is short.
Time reached_from(const HeldSnapshot& snapshot, const HeldResource& held, const StoredAt& stored) {
  Time until = snapshot.as_of;
  if (snapshot.wal_end == 0) return until;
  std::vector<const HeldWal*> by_place;
  for (const HeldWal& wal : held.wal) {
    if (wal.timeline >= snapshot.timeline && wal.to > snapshot.wal_end) by_place.push_back(&wal);
  }
  std::ranges::sort(by_place, {}, [](const HeldWal* wal) { return std::tuple(wal->timeline, wal->from); });
  uint64_t at = snapshot.wal_end;
  for (const HeldWal* wal : by_place) {
    if (wal->from > at || wal->to <= at) continue;
    at = wal->to;
    if (const auto when = stored.find(claim_of(*wal)); when != stored.end())
      until = std::max(until, when->second);
  }
  return until;
}

// Holes in the WAL that follows the oldest snapshot, of each timeline by itself: where one timeline ends and
// the next begins is the archive's business (source/postgres/archive).
size_t count_gaps(const HeldResource& held) {
  uint64_t begin = UINT64_MAX;
  for (const HeldSnapshot& snapshot : held.snapshots)
    if (snapshot.wal_end != 0) begin = std::min(begin, snapshot.wal_end);
  std::map<uint32_t, std::vector<std::pair<uint64_t, uint64_t>>> by_timeline;
  for (const HeldWal& wal : held.wal)
    if (wal.to > begin) by_timeline[wal.timeline].emplace_back(wal.from, wal.to);
  size_t gaps = 0;
  for (auto& [timeline, stretches] : by_timeline) {
    std::ranges::sort(stretches);
    uint64_t reached = stretches.front().second;
    for (const auto& [from, to] : stretches) {
      gaps += from > reached;
      reached = std::max(reached, to);
    }
  }
  return gaps;
}

Protection::Place place_of(const VaultHoldings& vault, const std::string& resource, const StoredAt& stored) {
  Protection::Place place{.vault = vault.held.vault, .site = vault.held.site};
  if (vault.trouble) place.trouble = vault.trouble->what;
  const auto held = vault.held.resources.find(resource);
  if (held == vault.held.resources.end() || held->second.snapshots.empty()) return place;
  place.snapshots = held->second.snapshots.size();
  if (const auto known = vault.resources.find(resource); known != vault.resources.end())
    place.added_bytes = known->second.added_bytes;
  const HeldSnapshot& newest = *std::ranges::max_element(held->second.snapshots, {}, &HeldSnapshot::finished);
  place.newest = newest.finished;
  place.oldest = std::ranges::min_element(held->second.snapshots, {}, &HeldSnapshot::finished)->finished;
  place.restorable_to = reached_from(newest, held->second, stored);
  place.wal_gaps = count_gaps(held->second);
  for (const HeldWal& wal : held->second.wal)
    if (wal.stored_at && (!place.newest_wal || *wal.stored_at > *place.newest_wal))
      place.newest_wal = wal.stored_at;
  return place;
}

std::string age(Time since, Time now) {
  return format_duration(
      std::max<Duration>(Duration(0), std::chrono::floor<std::chrono::seconds>(now - since)));
}

Duration seconds(double count) {
  return std::chrono::milliseconds(static_cast<int64_t>(count * 1000));
}

class Judge {
 public:
  Judge(ProtectionPromise promise, const std::vector<VaultHoldings>& vaults, Time now)
      : vaults_(vaults), now_(now) {
    out_.promise = std::move(promise);
  }

  Protection judge() {
    look();
    weigh_places();
    find_lags();
    find_next_run();
    weigh_age();
    weigh_proofs();
    if (out_.restorable_to)
      out_.state = out_.broken.empty() ? Protection::State::kProtected : Protection::State::kAtRisk;
    return std::move(out_);
  }

 private:
  const ProtectionPromise& promise() const { return out_.promise; }
  bool is_wanted_in(const std::string& vault) const {
    return std::ranges::count(promise().vaults, vault) != 0;
  }

  void look() {
    const StoredAt stored = first_stored(vaults_, promise().resource);
    for (const VaultHoldings& vault : vaults_) {
      Protection::Place place = place_of(vault, promise().resource, stored);
      if (place.restorable_to && (!out_.restorable_to || *place.restorable_to > *out_.restorable_to)) {
        out_.restorable_to = place.restorable_to;
        out_.best = place.vault;
      }
      if (place.oldest && (!oldest_ || *place.oldest < *oldest_)) oldest_ = place.oldest;
      if (place.snapshots > 0 || is_wanted_in(place.vault)) out_.places.push_back(std::move(place));
      const auto known = vault.resources.find(promise().resource);
      if (known == vault.resources.end()) continue;
      for (const LastProof& proof : known->second.proofs) {
        if (!out_.proof || proof.at > out_.proof->at) out_.proof = proof;
        if (proof.passed && (!out_.passed || proof.at > out_.passed->at)) out_.passed = proof;
      }
      const auto& going = known->second.next_to_go;
      if (going && (!out_.next_to_go || going->second < out_.next_to_go->at))
        out_.next_to_go = {vault.held.vault, going->first, going->second};
    }
  }

  void weigh_places() {
    if (!promise().is_planned) out_.broken.push_back("no plan protects it");
    for (const std::string& wanted : promise().vaults) {
      const auto place = std::ranges::find(out_.places, wanted, &Protection::Place::vault);
      if (place == out_.places.end())
        out_.broken.push_back(fmt::format("nobody looked at {}", wanted));
      else if (!place->trouble.empty())
        out_.broken.push_back(fmt::format("{} cannot be looked at: {}", wanted, place->trouble));
      else if (place->snapshots == 0)
        out_.broken.push_back(fmt::format("{} has no snapshot of it", wanted));
    }
  }

  // A copy is compared with the vault of the plans: what that has and the copy has not, although newer.
  void find_lags() {
    if (promise().vaults.empty()) return;
    const auto own = std::ranges::find(vaults_, promise().vaults.front(),
                                       [](const VaultHoldings& one) { return one.held.vault; });
    if (own == vaults_.end()) return;
    const auto held = own->held.resources.find(promise().resource);
    if (held == own->held.resources.end()) return;
    for (Protection::Place& place : out_.places) {
      if (place.vault == own->held.vault || !is_wanted_in(place.vault) || !place.trouble.empty()) continue;
      for (const HeldSnapshot& snapshot : held->second.snapshots) {
        if (place.newest && snapshot.finished <= *place.newest) continue;
        if (!place.behind_since || snapshot.finished < *place.behind_since)
          place.behind_since = snapshot.finished;
      }
    }
  }

  void find_next_run() {
    for (const When& when : promise().runs) {
      // A period that no clock tells counts from the last run: the newest snapshot is what it left.
      std::optional<Time> newest;
      for (const Protection::Place& place : out_.places)
        if (place.newest && (!newest || *place.newest > *newest)) newest = place.newest;
      std::optional<Time> next = next_run(when, when.is_by_clock() || !newest ? now_ : *newest);
      if (next && *next < now_) next = now_;
      if (next && (!out_.next_run || *next < *out_.next_run)) out_.next_run = next;
    }
  }

  void weigh_age() {
    if (!out_.restorable_to) {
      if (out_.broken.empty()) out_.broken.push_back("there is no snapshot of it");
      return;
    }
    if (!promise().rpo) return;
    if (later(*out_.restorable_to, *promise().rpo) >= now_) return;
    out_.broken.push_back(fmt::format("what is newer than {} cannot be restored, promised: {}",
                                      age(*out_.restorable_to, now_), format_period(*promise().rpo)));
  }

  void weigh_proofs() {
    weigh_dues();
    if (out_.proof && !out_.proof->passed)
      out_.broken.push_back(fmt::format("its last proof failed, {} ago", age(out_.proof->at, now_)));
    if (!out_.passed || !promise().rto) return;
    const Duration took = seconds(out_.passed->seconds_to_open);
    if (later(now_, *promise().rto) >= now_ + took) return;
    out_.broken.push_back(fmt::format("it took {} to open when it was last proven, promised: {}",
                                      format_duration(took), format_period(*promise().rto)));
  }

  // A drill is due after the last proof, or after there was something to prove.
  void weigh_dues() {
    const std::optional<Time> since = out_.proof ? std::optional(out_.proof->at) : oldest_;
    if (!since) return;
    for (const When& drill : promise().drills) {
      const std::optional<Time> due = next_run(drill, *since);
      if (due && (!out_.proof_due || *due < *out_.proof_due)) out_.proof_due = due;
    }
    for (const When& drill : promise().drills) {
      const std::optional<Time> due = next_run(drill, *since);
      if (!due || now_ - *due < kDrillGrace) continue;
      out_.broken.push_back(fmt::format(
          "{}, and a drill was due {} ago",
          out_.proof ? fmt::format("its last proof is {} old", age(*since, now_)) : "it was never proven",
          age(*due, now_)));
      return;
    }
  }

  const std::vector<VaultHoldings>& vaults_;
  std::optional<Time> oldest_;  // when its first snapshot was finished, of those that stand
  const Time now_;
  Protection out_;
};

}  // namespace

Result<VaultHoldings> what_vault_holds(Vault& vault, const std::string& name, const std::string& site,
                                       const Promises& promises) {
  TRY_ASSIGN(const SnapshotList list, list_snapshots(vault, std::nullopt, Detail::kSummary));
  VaultHoldings out;
  TRY_ASSIGN(out.held, holdings_of(vault, list, name, site));
  out.family = vault.info().family.hex();
  out.created = from_unix_ns(vault.info().created_ns);
  // Where this cannot be read, all the rest is known nevertheless.
  if (const auto kit = newest_key_act(vault, kAuditKitMade)) {
    out.is_kit_known = true;
    if (*kit) out.kit_made = (*kit)->at;
  }
  std::map<ResourceId, VaultHoldings::Resource*> by_id;
  for (const ResourceRecord& record : list.resources) {
    VaultHoldings::Resource& resource = out.resources[record.name];
    resource.kind = record.kind;
    by_id[record.id] = &resource;
  }
  for (const Snapshot& snapshot : list.snapshots) {
    const auto resource = by_id.find(snapshot.commit.resource);
    if (resource == by_id.end()) continue;
    resource->second->added_bytes += snapshot.commit.added_bytes;
    if (!snapshot.proof) continue;
    resource->second->proofs.push_back({.vault = name,
                                        .snapshot = snapshot.commit.snapshot,
                                        .at = from_unix_ns(snapshot.proof->started_ns),
                                        .passed = snapshot.proof->passed,
                                        .seconds_to_open = snapshot.proof->seconds_to_open,
                                        .seconds_total = snapshot.proof->seconds_total});
  }
  if (!list.unverifiable.empty()) return out;  // then nothing is pruned
  for (const ResourceRecord& record : list.resources) {
    const auto promise = promises.find(record.name);
    // Clocks that cannot be believed: nothing goes.
    const auto going = next_drop(prune_question(
        list, record, promise == promises.end() ? Promise{} : promise->second, vault.clock().now()));
    if (going && *going) out.resources[record.name].next_to_go = {(*going)->id.hex(), (*going)->at};
  }
  return out;
}

std::vector<Protection> judge_protection(const std::vector<ProtectionPromise>& promises,
                                         const std::vector<VaultHoldings>& vaults, Time now) {
  std::vector<Protection> all;
  std::set<std::string> named;
  for (const ProtectionPromise& promise : promises) {
    named.insert(promise.resource);
    all.push_back(Judge(promise, vaults, now).judge());
  }
  std::map<std::string, std::string> others;  // nobody speaks of; their kinds
  for (const VaultHoldings& vault : vaults) {
    for (const auto& [name, resource] : vault.resources) {
      if (!named.contains(name)) others.emplace(name, resource.kind);
    }
  }
  for (const auto& [name, kind] : others)
    all.push_back(Judge({.resource = name, .kind = kind}, vaults, now).judge());
  return all;
}

}  // namespace kuramori
