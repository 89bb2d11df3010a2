#include "engine/snapshots.h"

#include <fmt/core.h>

#include <charconv>
#include <functional>

#include "crypto/digest.h"
#include "engine/local_state.h"
#include "engine/open_vault.h"
#include "vault/overview.h"

namespace kuramori {
namespace {

constexpr size_t kPrefixCharsMin = 4;

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

Result<std::vector<HoldRecord>> holds_of(const RecordLog& log, const SnapshotId& snapshot,
                                         std::vector<Unverifiable>& unreadable) {
  std::map<std::string, HoldRecord> holds;
  std::set<std::string> released;
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(names::hold(snapshot, "")));
  for (const ObjectInfo& object : listed) {
    TRY_ASSIGN(auto record, open_record(log, object.name, unreadable));
    if (record && record->type == RecordType::kHoldRelease) {
      released.insert(object.name.substr(0, object.name.size() - kReleased.size()));
      continue;
    }
    if (!record && object.name.ends_with(kReleased)) continue;  // releases nothing
    HoldRecord held{.snapshot = snapshot, .name = "unreadable"};
    if (record) {
      if (auto hold = decode<HoldRecord>(record->body)) held = std::move(*hold);
    }
    holds[object.name] = std::move(held);
  }
  std::vector<HoldRecord> in_force;
  for (auto& [name, hold] : holds) {
    if (!released.contains(name)) in_force.push_back(std::move(hold));
  }
  return in_force;
}

Result<std::optional<ProofRecord>> latest_proof(const RecordLog& log, const SnapshotId& snapshot,
                                                SnapshotList& list) {
  std::optional<ProofRecord> latest;
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(names::proof(snapshot, "")));
  for (const ObjectInfo& object : listed) {
    size_t before = list.unreadable.size();
    TRY_ASSIGN(auto record, open_record(log, object.name, list.unreadable));
    auto proof = record && record->type == RecordType::kProof
                     ? decode<ProofRecord>(record->body)
                     : Result<ProofRecord>(fail(ErrorKind::kDamaged, object.name + " is no proof"));
    if (!proof) {
      if (record || list.unreadable.size() > before) list.unreadable_proofs.insert(snapshot);
      continue;
    }
    if (!latest || proof->started_ns > latest->started_ns) latest = std::move(*proof);
  }
  return latest;
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

void leave_out_particulars(CommitRecord& commit) {
  commit.live = {};
  commit.maps = {};
  commit.tree = {};
  commit.parents = {};
  commit.previous = {};
  commit.facts = {};
}

Result<SnapshotList> list_chosen(Vault& vault, Detail detail, const Choice& choose) {
  SnapshotList list;
  OpenedMemory memory(state_folder(), vault.keys(), vault.info().id, vault.random());
  TRY_ASSIGN(auto seen_there, Overview::look(protocol_of(vault), vault.codec().signers(), &memory));
  Ledger ledger(seen_there->protocol());
  const RecordLog& log = ledger.log();
  TRY_ASSIGN(list.resources, resources_of(log));
  TRY_ASSIGN(const std::optional<ResourceId> resource, choose(list.resources));
  if (!resource) {
    // At once: growing, it would be held twice.
    TRY_ASSIGN(const std::vector<ObjectInfo> listed, log.list(names::kCommits));
    list.snapshots.reserve(listed.size());
  }
  auto take = [&](VisibleCommit&& visible) {
    if (resource && visible.key.resource != *resource) return;
    if (detail == Detail::kSummary) leave_out_particulars(visible.record);
    list.snapshots.push_back({.commit_name = std::move(visible.name),
                              .commit_digest = visible.digest,
                              .signer = visible.signer,
                              .commit = std::move(visible.record)});
  };
  TRY_ASSIGN(CommitListing commits, ledger.visit_commits(take));
  list.unverifiable = std::move(commits.unverifiable);
  // Copied twice: it is one snapshot. By name, those of one snapshot lie side by side.
  const auto twins = std::ranges::unique(list.snapshots, [](const Snapshot& a, const Snapshot& b) {
    return a.commit.snapshot == b.commit.snapshot;
  });
  list.snapshots.erase(twins.begin(), twins.end());
  TRY_ASSIGN(auto retained, ledger.read_retained());
  for (Snapshot& snapshot : list.snapshots) {
    const SnapshotId& id = snapshot.commit.snapshot;
    snapshot.keep_until_ns = snapshot.commit.keep_until_ns;
    if (auto later = retained.find(id); later != retained.end()) {
      snapshot.keep_until_ns = std::max(snapshot.keep_until_ns, later->second);
    }
    TRY_ASSIGN(snapshot.holds, holds_of(log, id, list.unreadable));
    TRY_ASSIGN(snapshot.proof, latest_proof(log, id, list));
  }
  std::ranges::sort(list.snapshots, [](const Snapshot& a, const Snapshot& b) {
    return std::tie(a.commit.started_ns, a.commit_name) < std::tie(b.commit.started_ns, b.commit_name);
  });
  // For speed alone: where it cannot be kept, the next look takes longer.
  (void)memory.keep();
  return list;
}

}  // namespace

Result<SnapshotList> list_snapshots(Vault& vault, const std::optional<ResourceId>& resource, Detail detail) {
  return list_chosen(vault, detail, [&](const auto&) { return resource; });
}

Result<ResourceSnapshots> list_snapshots_of(Vault& vault, std::string_view resource) {
  ResourceRecord chosen;
  TRY_ASSIGN(SnapshotList list,
             list_chosen(vault, Detail::kWhole, [&](const auto& all) -> Result<std::optional<ResourceId>> {
               TRY_ASSIGN(chosen, find_resource(all, resource));
               return chosen.id;
             }));
  return ResourceSnapshots{std::move(list), std::move(chosen)};
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
