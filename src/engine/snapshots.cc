#include "engine/snapshots.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <optional>
#include <span>

#include "crypto/digest.h"
#include "engine/local_state.h"
#include "engine/open_vault.h"
#include "vault/overview.h"

namespace kuramori {
namespace {

constexpr size_t kPrefixCharsMin = 4;
constexpr size_t kSnapshotsAtOnce = 2048;  // whose holds and proofs are announced together

constexpr std::string_view kReleased = ".released";

// A record that cannot be believed goes to `unreadable`; nothing is returned for it, nor for one that is
// gone.
Result<std::optional<OpenedRecord>> open_record(const RecordLog& log, const std::string& name,
                                                std::vector<Unverifiable>& unreadable) {
  auto record = log.read(name);
  if (record) return std::optional(std::move(*record));
  const ErrorKind kind = record.error().kind;
  if (kind == ErrorKind::kNotFound) return std::optional<OpenedRecord>();
  if (kind != ErrorKind::kDamaged && kind != ErrorKind::kRefused) return record.error();
  auto bytes = log.read_bytes(name);
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return std::optional<OpenedRecord>();
  if (!bytes) return bytes.error();
  unreadable.push_back({name, sha256(*bytes), record.error()});
  return std::optional<OpenedRecord>();
}

// Records that stand below the id of a snapshot ("holds/<id>/…"): listed once for all of them.
class OfSnapshots {
 public:
  Result<void> list(const RecordLog& log, std::string_view prefix) {
    TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(prefix));
    for (ObjectInfo& object : listed) {
      const std::string_view rest = std::string_view(object.name).substr(prefix.size());
      const std::string_view hex = rest.substr(0, rest.find('/'));
      auto id = SnapshotId::from_hex(hex);
      if (!id || id->hex() != hex || hex.size() == rest.size()) continue;
      ids_.push_back(*id);
      names_.push_back(std::move(object.name));
    }
    return {};
  }
  std::span<const std::string> of(const SnapshotId& id) const {
    const auto found = std::ranges::equal_range(ids_, id);  // the order of names is that of ids
    return {names_.data() + (found.begin() - ids_.begin()), found.size()};
  }

 private:
  std::vector<SnapshotId> ids_;
  std::vector<std::string> names_;  // beside them
};

Result<std::vector<HoldRecord>> holds_of(const RecordLog& log, const SnapshotId& snapshot,
                                         std::span<const std::string> listed,
                                         std::vector<Unverifiable>& unreadable) {
  if (listed.empty()) return std::vector<HoldRecord>();
  std::map<std::string, HoldRecord> holds;
  std::set<std::string> released;
  for (const std::string& name : listed) {
    TRY_ASSIGN(auto record, open_record(log, name, unreadable));
    if (record && record->type == RecordType::kHoldRelease) {
      released.insert(name.substr(0, name.size() - kReleased.size()));
      continue;
    }
    if (!record && name.ends_with(kReleased)) continue;  // releases nothing
    HoldRecord held{.snapshot = snapshot, .name = "unreadable"};
    if (record) {
      if (auto hold = decode<HoldRecord>(record->body)) held = std::move(*hold);
    }
    holds[name] = std::move(held);
  }
  std::vector<HoldRecord> in_force;
  for (auto& [name, hold] : holds) {
    if (!released.contains(name)) in_force.push_back(std::move(hold));
  }
  return in_force;
}

Result<void> read_proofs(const RecordLog& log, Snapshot& of, std::span<const std::string> listed,
                         SnapshotList& list) {
  const SnapshotId& snapshot = of.commit.snapshot;
  std::optional<ProofRecord>& latest = of.proof;
  for (const std::string& name : listed) {
    size_t before = list.unreadable.size();
    TRY_ASSIGN(auto record, open_record(log, name, list.unreadable));
    auto proof = record && record->type == RecordType::kProof
                     ? decode<ProofRecord>(record->body)
                     : Result<ProofRecord>(fail(ErrorKind::kDamaged, name + " is no proof"));
    if (!proof) {
      if (record || list.unreadable.size() > before) list.unreadable_proofs.insert(snapshot);
      continue;
    }
    if (!latest) {
      latest = std::move(*proof);
      continue;
    }
    if (proof->started_ns > latest->started_ns) std::swap(*latest, *proof);
    of.earlier_proofs.push_back(std::move(*proof));
  }
  return {};
}

Result<std::vector<ResourceRecord>> resources_of(const RecordLog& log) {
  std::vector<ResourceRecord> resources;
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(names::kResources));
  for (const ObjectInfo& object : listed) {
    TRY_ASSIGN(OpenedRecord opened, log.read(object.name, RecordType::kResource));
    TRY_ASSIGN(ResourceRecord record, decode<ResourceRecord>(opened.body));
    resources.push_back(std::move(record));
  }
  return resources;
}

}  // namespace

namespace {

// Whose snapshots are wanted, once it is known who is there; nothing: everybody's.
using Choice = std::function<Result<std::optional<ResourceId>>(const std::vector<ResourceRecord>&)>;

// The holds and proofs of each, looked up in one listing; some thousand are announced before they are read.
Result<void> read_holds_and_proofs(const RecordLog& log, SnapshotList& list) {
  OfSnapshots holds, proofs;
  TRY(holds.list(log, names::kHolds));
  TRY(proofs.list(log, names::kProofs));
  std::vector<std::string_view> next;
  for (size_t i = 0; i < list.snapshots.size(); ++i) {
    if (i % kSnapshotsAtOnce == 0) {
      next.clear();
      for (size_t k = i; k < std::min(i + kSnapshotsAtOnce, list.snapshots.size()); ++k) {
        const SnapshotId& id = list.snapshots[k].commit.snapshot;
        for (const auto& of : {holds.of(id), proofs.of(id)}) next.insert(next.end(), of.begin(), of.end());
      }
      log.expect(next);
    }
    Snapshot& snapshot = list.snapshots[i];
    const SnapshotId& id = snapshot.commit.snapshot;
    TRY_ASSIGN(snapshot.holds, holds_of(log, id, holds.of(id), list.unreadable));
    TRY(read_proofs(log, snapshot, proofs.of(id), list));
  }
  return {};
}

// Oldest first; those of one moment stay in the order of names, in which they come. A snapshot is large, so
// each is moved once.
void sort_by_age(std::vector<Snapshot>& snapshots) {
  std::vector<std::pair<int64_t, size_t>> order;
  order.reserve(snapshots.size());
  for (size_t i = 0; i < snapshots.size(); ++i) order.emplace_back(snapshots[i].commit.started_ns, i);
  std::ranges::sort(order);
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i].second == i) continue;
    Snapshot first = std::move(snapshots[i]);
    size_t at = i;
    while (order[at].second != i) {  // where `at` belongs to next
      const size_t from = std::exchange(order[at].second, at);
      snapshots[at] = std::move(snapshots[from]);
      at = from;
    }
    order[at].second = at;
    snapshots[at] = std::move(first);
  }
}

// One look at a vault, with what this machine remembers of earlier ones.
class Look {
 public:
  explicit Look(Vault& vault)
      : vault_(vault), memory_(state_folder(), vault.keys(), vault.info().id, vault.random()) {}

  Result<SnapshotList> list(Detail detail, const Choice& choose) {
    SnapshotList list;
    TRY_ASSIGN(seen_there_, Overview::look(protocol_of(vault_), vault_.codec().signers(), &memory_));
    ledger_.emplace(seen_there_->protocol());
    const RecordLog& log = ledger_->log();
    TRY_ASSIGN(list.resources, resources_of(log));
    TRY_ASSIGN(const std::optional<ResourceId> resource, choose(list.resources));
    auto count = [&](size_t listed) {
      if (!resource) list.snapshots.reserve(listed);  // at once: growing, it would be held twice
    };
    auto take = [&](VisibleCommit&& visible) {
      if (resource && visible.key.resource != *resource) return;
      if (detail == Detail::kSummary) {
        visible.record.parents = {};
        visible.record.previous = {};
      }
      list.snapshots.push_back({.commit_name = std::move(visible.name),
                                .commit_digest = visible.digest,
                                .signer = visible.signer,
                                .commit = std::move(visible.record)});
    };
    TRY_ASSIGN(CommitListing commits,
               ledger_->visit_commits({.detail = detail, .count = count, .take = take}));
    list.unverifiable = std::move(commits.unverifiable);
    // Copied twice: it is one snapshot. By name, those of one snapshot lie side by side.
    const auto twins = std::ranges::unique(list.snapshots, [](const Snapshot& a, const Snapshot& b) {
      return a.commit.snapshot == b.commit.snapshot;
    });
    list.snapshots.erase(twins.begin(), twins.end());
    TRY_ASSIGN(auto retained, ledger_->read_retained());
    for (Snapshot& snapshot : list.snapshots) {
      snapshot.keep_until_ns = snapshot.commit.keep_until_ns;
      if (auto later = retained.find(snapshot.commit.snapshot); later != retained.end())
        snapshot.keep_until_ns = std::max(snapshot.keep_until_ns, later->second);
    }
    TRY(read_holds_and_proofs(log, list));
    sort_by_age(list.snapshots);
    // For speed alone: where it cannot be kept, the next look takes longer.
    (void)memory_.keep();
    return list;
  }

  // Of one that was listed, every particular.
  Result<void> complete(Snapshot& snapshot) {
    TRY_ASSIGN(const VisibleCommit* whole, ledger_->read_commit(snapshot.commit_name));
    snapshot.commit = whole->record;
    return {};
  }

 private:
  Vault& vault_;
  OpenedMemory memory_;
  std::unique_ptr<Overview> seen_there_;
  std::optional<Ledger> ledger_;
};

}  // namespace

Result<SnapshotList> list_snapshots(Vault& vault, const std::optional<ResourceId>& resource, Detail detail) {
  return Look(vault).list(detail, [&](const auto&) { return resource; });
}

Result<ResourceSnapshots> list_snapshots_of(Vault& vault, std::string_view resource) {
  ResourceRecord chosen;
  TRY_ASSIGN(SnapshotList list,
             Look(vault).list(Detail::kWhole, [&](const auto& all) -> Result<std::optional<ResourceId>> {
               TRY_ASSIGN(chosen, find_resource(all, resource));
               return chosen.id;
             }));
  return ResourceSnapshots{std::move(list), std::move(chosen)};
}

Result<FoundSnapshot> find_snapshot_in(Vault& vault, const std::optional<std::string>& resource,
                                       std::string_view wanted) {
  Look look(vault);
  auto choose = [&](const auto& all) -> Result<std::optional<ResourceId>> {
    if (!resource) return std::optional<ResourceId>();
    TRY_ASSIGN(const ResourceRecord chosen, find_resource(all, *resource));
    return chosen.id;
  };
  TRY_ASSIGN(SnapshotList list, look.list(Detail::kSummary, choose));
  TRY_ASSIGN(const Snapshot* found, find_snapshot(list.snapshots, wanted));
  FoundSnapshot one{.snapshot = *found, .resource = found->commit.resource.hex()};
  for (const ResourceRecord& known : list.resources)
    if (known.id == found->commit.resource) one.resource = known.name;
  TRY(look.complete(one.snapshot));
  return one;
}

Result<const Snapshot*> find_snapshot(const std::vector<Snapshot>& snapshots, std::string_view wanted) {
  if (snapshots.empty()) {
    return fail(ErrorKind::kUsage, "there is no snapshot yet", "", "make one: kuramori backup RESOURCE");
  }
  if (wanted == "latest") return &snapshots.back();
  auto unknown = [&](std::string why) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" names no snapshot", wanted), std::move(why),
                "kuramori snapshots lists them; latest is a name too");
  };
  if (wanted.size() < kPrefixCharsMin)
    return unknown(fmt::format("a prefix needs at least {} characters", kPrefixCharsMin));
  const Snapshot* found = nullptr;
  for (const Snapshot& snapshot : snapshots) {
    if (!snapshot.commit.snapshot.hex().starts_with(wanted)) continue;
    if (found != nullptr) return unknown("more than one id begins like that");
    found = &snapshot;
  }
  if (found == nullptr) return unknown("no id begins like that");
  return found;
}

Result<std::string> fact(const CommitRecord& commit, const std::string& name) {
  auto it = commit.facts.find(name);
  if (it == commit.facts.end()) {
    return fail(ErrorKind::kDamaged,
                fmt::format("snapshot {} does not say its {}", commit.snapshot.hex(), name));
  }
  return it->second;
}

Result<uint64_t> number_fact(const CommitRecord& commit, const std::string& name) {
  TRY_ASSIGN(std::string text, fact(commit, name));
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(ErrorKind::kDamaged,
                fmt::format("snapshot {} says {} = \"{}\"", commit.snapshot.hex(), name, text));
  }
  return value;
}

}  // namespace kuramori
