#include "engine/maintenance.h"

#include <fmt/core.h>

#include <set>

#include "crypto/digest.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "engine/thaw.h"
#include "vault/catalog.h"
#include "vault/holds.h"
#include "vault/leases.h"
#include "vault/thin_packs.h"

namespace kuramori {
namespace {

// The timelines of a PostgreSQL resource as histories that forked; the vault itself knows no kind.
std::string history_of(const CommitRecord& commit) {
  auto system = commit.facts.find("postgres.system_id");
  auto timeline = commit.facts.find("postgres.timeline");
  if (system == commit.facts.end() || timeline == commit.facts.end()) return "";
  return system->second + "/" + timeline->second;
}

// The hold of its label stands on it.
bool awaits_review(const Snapshot& snapshot) {
  return !snapshot.commit.label.empty() &&
         std::ranges::count(snapshot.holds, label_hold(snapshot.commit.label), &HoldRecord::name) != 0;
}

}  // namespace

PruneQuestion prune_question(const SnapshotList& list, const ResourceRecord& resource, const Promise& promise,
                             Time now) {
  PruneQuestion question{
      .resource = resource.name, .window = promise.window, .keep_last = promise.keep_last, .now = now};
  for (const Snapshot& snapshot : list.snapshots) {
    if (snapshot.commit.resource != resource.id) continue;
    SnapshotFacts facts{.id = snapshot.commit.snapshot,
                        .lineage = history_of(snapshot.commit),
                        .time = from_unix_ns(snapshot.commit.started_ns),
                        .stop = from_unix_ns(snapshot.commit.finished_ns),
                        .keep_until = from_unix_ns(snapshot.keep_until_ns),
                        .holds = {},
                        .label = snapshot.commit.label,
                        .proven = (snapshot.proof && snapshot.proof->passed) ||
                                  list.unreadable_proofs.contains(snapshot.commit.snapshot)};
    for (const HoldRecord& hold : snapshot.holds) facts.holds.push_back(hold.name);
    if (snapshot.proof && snapshot.proof->passed) facts.proven_at = from_unix_ns(snapshot.proof->started_ns);
    question.snapshots.push_back(std::move(facts));
  }
  return question;
}

Result<PruneFacts> prune_facts(Vault& vault, const Promises& promises) {
  TRY_ASSIGN(SnapshotList list, list_snapshots(vault, {}));
  if (!list.unverifiable.empty()) {
    const Unverifiable& first = list.unverifiable.front();
    return fail(
        ErrorKind::kDamaged, fmt::format("nothing is pruned: {} cannot be verified", first.name),
        first.error.what,
        fmt::format("kuramori vault scrub, then kuramori vault disown VAULT {} if it is lost", first.name));
  }
  // Age is the earlier of what the snapshot says and what the store saw (P61, V20).
  std::map<std::string, Time> stored_at;
  Protocol protocol = protocol_of(vault);
  TRY_ASSIGN(std::vector<ObjectInfo> listed, RecordLog(protocol).list(names::kCommits));
  for (const ObjectInfo& object : listed) {
    if (object.stored_at) stored_at[object.name] = *object.stored_at;
  }
  // What a prune that was stopped has begun to let go is let go by the next one: nothing may count on it.
  TRY_ASSIGN(const std::vector<PruneRound> prunes, Ledger(protocol).read_prunes());
  std::multimap<ResourceId, Snapshot> going;
  if (!prunes.empty() && !prunes.back().finished) {
    std::erase_if(list.snapshots, [&](Snapshot& snapshot) {
      if (!std::ranges::binary_search(prunes.back().commits, snapshot.commit_name)) return false;
      going.emplace(snapshot.commit.resource, std::move(snapshot));
      return true;
    });
  }
  PruneFacts facts;
  for (const Snapshot& snapshot : list.snapshots) {
    facts.commit_names[snapshot.commit.snapshot] = snapshot.commit_name;
    if (awaits_review(snapshot)) facts.labelled[snapshot.commit.snapshot] = snapshot;
  }
  for (const ResourceRecord& resource : list.resources) {
    auto promise = promises.find(resource.name);
    PruneQuestion question = prune_question(
        list, resource, promise == promises.end() ? Promise{} : promise->second, vault.clock().now());
    for (SnapshotFacts& one : question.snapshots) {
      auto seen = stored_at.find(facts.commit_names[one.id]);
      if (seen != stored_at.end()) one.stored_at = seen->second;
    }
    const auto [first, last] = going.equal_range(resource.id);
    for (auto one = first; one != last; ++one) facts.going[resource.name].push_back(std::move(one->second));
    facts.questions.push_back(std::move(question));
  }
  return facts;
}

namespace {

// A prune as it was decided on one listing.
struct DecidedPrune {
  PruneFacts facts;
  PruneOutcome outcome;
  std::vector<PruneProposal> proposals;
};

Result<DecidedPrune> decide(Vault& vault, const Promises& promises, Budgets budgets) {
  DecidedPrune decided;
  TRY_ASSIGN(decided.facts, prune_facts(vault, promises));
  const PruneFacts& facts = decided.facts;
  for (const PruneQuestion& question : facts.questions) {
    TRY_ASSIGN(auto lines, decide_prune(question));
    const auto drops = static_cast<size_t>(std::ranges::count(lines, true, &PruneLine::drop));
    auto promise = promises.find(question.resource);
    PruneOutcome::Resource resource{.name = question.resource, .lines = std::move(lines), .refused = {}};
    if (budgets == Budgets::kKept && promise != promises.end())
      resource.refused =
          over_budget(promise->second.budget, question.resource, drops, question.snapshots.size());
    for (const PruneLine& line : resource.lines) {
      if (!line.drop || resource.refused) continue;
      decided.proposals.push_back({facts.commit_names.at(line.id), line.reason});
      auto labelled = facts.labelled.find(line.id);
      if (!line.reviewed_hold.empty() && labelled != facts.labelled.end())
        decided.outcome.reviewed.push_back(labelled->second);
    }
    if (const auto going = facts.going.find(question.resource); going != facts.going.end())
      for (const Snapshot& snapshot : going->second)
        resource.lines.insert(resource.lines.begin(), {.id = snapshot.commit.snapshot,
                                                       .time = from_unix_ns(snapshot.commit.started_ns),
                                                       .keep_until = from_unix_ns(snapshot.keep_until_ns),
                                                       .drop = true,
                                                       .reason = "a prune that was stopped lets it go"});
    decided.outcome.resources.push_back(std::move(resource));
  }
  return decided;
}

}  // namespace

Result<PruneOutcome> prune_vault(Vault& vault, const Promises& promises, Pruner::Mode mode, Budgets budgets) {
  if (mode == Pruner::Mode::kPrune) TRY(must_be_allowed(vault, Act::kPrune));
  int finished_others = 0;
  std::vector<Snapshot> reviewed;
  for (int round = 0; round < kPruneRoundsMax; ++round) {
    TRY_ASSIGN(DecidedPrune decided, decide(vault, promises, budgets));
    PruneOutcome& outcome = decided.outcome;
    const bool is_nothing_left = decided.proposals.empty() && decided.facts.going.empty();
    if (mode == Pruner::Mode::kPrune && !is_nothing_left) {
      // Before the prune, which goes by the holds that stand: whoever is stopped in between leaves a snapshot
      // that is due and held by nothing.
      for (const Snapshot& snapshot : outcome.reviewed)
        TRY(remove_hold(vault, snapshot, label_hold(snapshot.commit.label),
                        "a newer one of its label is proven"));
      std::ranges::move(outcome.reviewed, std::back_inserter(reviewed));
      Protocol protocol = protocol_of(vault);
      Pruner pruner(protocol);
      bool is_outdated = false;
      // Decided on the listing above. Where another prune took something since, what was kept because of it
      // would go and what took its place was not kept: all is decided anew.
      const auto policy = [&](const CommitListing& commits) -> Result<std::vector<PruneProposal>> {
        std::set<std::string_view> there;
        for (const VisibleCommit* commit : commits.visible) there.insert(commit->name);
        is_outdated = std::ranges::any_of(decided.facts.commit_names,
                                          [&](const auto& one) { return !there.contains(one.second); });
        return is_outdated ? std::vector<PruneProposal>() : decided.proposals;
      };
      TRY_ASSIGN(outcome.report, pruner.run(policy, mode));
      finished_others += outcome.report.finished_others;
      if (is_outdated) continue;
      outcome.report.finished_others = finished_others;
    }
    if (mode == Pruner::Mode::kPrune) outcome.reviewed = std::move(reviewed);
    return std::move(outcome);
  }
  return fail(ErrorKind::kFailed, fmt::format("{} other prunes were first", kPruneRoundsMax), "",
              "run the command again");
}

namespace {

constexpr size_t kMeasuredAtOnce = 16;  // packs
constexpr int kFollowingRunsMax = 3;

void add(Amount& to, const Amount& from) {
  to.objects += from.objects;
  to.bytes += from.bytes;
}

// Of two runs, one after the other: what both did, and how it stands after the second.
void add(CollectReport& to, CollectReport later) {
  using Outcome = CollectReport::Outcome;
  // What was freed was freed, though there is nothing more, or it has to wait.
  const bool keeps = to.outcome == Outcome::kSwept && later.outcome == Outcome::kNothingToDo;
  if (!keeps) {
    to.outcome = later.outcome;
    to.number = later.number;
  }
  for (auto amount :
       {&CollectReport::planned, &CollectReport::rescued, &CollectReport::deleted, &CollectReport::replaced})
    add(to.*amount, later.*amount);
  to.standing_in += later.standing_in;
  to.more = later.more;
  // What stays is met by each run anew.
  to.retained = later.retained;
  to.retained_why = std::move(later.retained_why);
  to.left = later.left;
  to.waiting_for = std::move(later.waiting_for);
  to.fenced.insert(to.fenced.end(), later.fenced.begin(), later.fenced.end());
  to.sessions_removed += later.sessions_removed;
  to.given_up = std::move(later.given_up);
  to.warnings.insert(to.warnings.end(), later.warnings.begin(), later.warnings.end());
}

uint64_t bytes_of(const std::vector<ObjectInfo>& objects) {
  uint64_t bytes = 0;
  for (const ObjectInfo& object : objects) bytes += object.size;
  return bytes;
}

}  // namespace

Result<CollectOutcome> collect_vault(Vault& vault, const CollectRequest& request) {
  if (!request.dry_run) TRY(must_be_allowed(vault, Act::kCollect));
  Protocol protocol = protocol_of(vault);
  StoredThinPacks thin(vault.store(), vault.keys(), vault.codec().signers(), vault.clock());
  // Of very many snapshots what is remembered counts: one memory for both, and none left for the catalog.
  auto ledger = std::make_shared<Ledger>(protocol, Detail::kNeeds);
  std::optional<Collector> collector(std::in_place, ledger, &thin);
  const CollectOptions options{
      .mode = request.dry_run ? CollectOptions::Mode::kDryRun : CollectOptions::Mode::kCollect,
      .sweep_share_max = request.sweep_share_max,
      .is_dead = dead_after(request.dead_after, vault.clock().now())};
  CollectOutcome outcome;
  CollectReport& report = outcome.collected;
  TRY_ASSIGN(report, collector->run(options));
  auto at_rest = [](const CollectReport& one) {
    return one.outcome != CollectReport::Outcome::kWaiting && one.outcome != CollectReport::Outcome::kGivenUp;
  };
  if (request.compact && at_rest(report)) {
    put_readable(vault.store());  // it is read back, and once more before anything goes for it
    // Half of what the breaker lets through: the collection that follows must not trip it.
    TRY_ASSIGN(const std::vector<ObjectInfo> packs, RecordLog(protocol).list(names::kPacks));
    const double bytes = static_cast<double>(bytes_of(packs));
    auto go_on = [&]() -> Result<void> {
      if (!request.stop.stop_requested()) return {};
      return fail(ErrorKind::kInterrupted, "the collection was interrupted", "what was compacted stays so",
                  "run the same command again: it goes on from there");
    };
    TRY_ASSIGN(outcome.compacted,
               Compactor(ledger, thin)
                   .run({.freed_bytes_max = static_cast<uint64_t>(request.sweep_share_max / 2 * bytes),
                         .pack_bytes_max = static_cast<uint64_t>(request.sweep_share_max * bytes),
                         .looks_at_once = kMeasuredAtOnce,
                         .dry_run = request.dry_run,
                         .host = host_name(),
                         .go_on = go_on}));
    for (const std::string& warning : outcome.compacted.warnings) report.warnings.push_back(warning);
  }
  if (request.dry_run) return outcome;
  TRY(remove_old_leases(protocol));
  // What thin packs stand in for goes when nothing is garbage: so one run may have to follow another. What is
  // thinned in one run of the command goes in it, unless somebody works on it just now.
  bool more = request.compact && at_rest(report) && (outcome.compacted.packs > 0 || report.more);
  for (int run = 0; more && run < kFollowingRunsMax; ++run) {
    TRY_ASSIGN(CollectReport later, collector->run(options));
    more = at_rest(later) && later.more;
    add(report, std::move(later));
  }
  report.more = more;
  // Uploads that were never finished are no objects: no list shows them, and they are paid for.
  Result<size_t> unfinished = vault.store().remove_unfinished(request.dead_after);
  if (!unfinished)
    report.warnings.push_back(fmt::format("uploads that were never finished were not removed: {} ({})",
                                          unfinished.error().what, unfinished.error().why));
  collector.reset();
  ledger.reset();
  // The last thing, and only for speed: nothing that was decided depends on it.
  auto catalog = refresh_catalog(protocol, vault.codec().signers());
  if (!catalog)
    report.warnings.push_back(
        fmt::format("the catalog was not written, so opening the vault takes longer: {} ({})",
                    catalog.error().what, catalog.error().why));
  return outcome;
}

Result<std::string> add_hold(Vault& vault, const Snapshot& snapshot, const std::string& name,
                             const std::string& reason) {
  TRY(must_be_allowed(vault, Act::kHold));
  return place_hold(protocol_of(vault), snapshot.commit.snapshot, name, reason);
}

Result<void> remove_hold(Vault& vault, const Snapshot& snapshot, const std::string& name,
                         const std::string& reason) {
  TRY(must_be_allowed(vault, Act::kRelease));
  const SnapshotId& id = snapshot.commit.snapshot;
  std::string prefix = names::hold(id, "");
  constexpr std::string_view kReleased = ".released";
  std::vector<std::string> found;
  std::set<std::string> released;
  TRY(for_each_object(vault.store(), prefix, [&](const ObjectInfo& object) -> Result<void> {
    if (object.name.ends_with(kReleased)) {
      released.insert(
          object.name.substr(prefix.size(), object.name.size() - prefix.size() - kReleased.size()));
      return {};
    }
    TRY_ASSIGN(HoldRecord hold, vault.read<HoldRecord>(object.name, RecordType::kHold));
    if (hold.name == name) found.push_back(object.name.substr(prefix.size()));
    return {};
  }));
  std::erase_if(found, [&](const std::string& hold_id) { return released.contains(hold_id); });
  if (found.empty()) {
    return fail(ErrorKind::kUsage, fmt::format("snapshot {} has no hold \"{}\"", id.hex(), name), "",
                fmt::format("kuramori show {} lists its holds", id.hex()));
  }
  for (const std::string& hold_id : found) TRY(release_hold(protocol_of(vault), id, hold_id, reason));
  return {};
}

Result<std::vector<AwaitedReview>> awaited_reviews(Vault& vault, const std::string& resource) {
  TRY_ASSIGN(const SnapshotList list, list_snapshots(vault, {}));
  std::vector<AwaitedReview> awaited;
  for (auto one = list.snapshots.begin(); one != list.snapshots.end(); ++one) {
    if (!awaits_review(*one)) continue;
    AwaitedReview review{.snapshot = *one, .resource = one->commit.resource.hex(), .newer = {}};
    for (const ResourceRecord& known : list.resources)
      if (known.id == one->commit.resource) review.resource = known.name;
    if (!resource.empty() && review.resource != resource) continue;
    for (auto newer = one + 1; newer != list.snapshots.end(); ++newer) {
      if (newer->commit.resource != one->commit.resource || newer->commit.label != one->commit.label ||
          !awaits_review(*newer))
        continue;
      review.newer = *newer;
      review.newer_is_proven |= newer->proof && newer->proof->passed;
    }
    awaited.push_back(std::move(review));
  }
  return awaited;
}

Result<void> review_snapshot(Vault& vault, const SnapshotId& snapshot) {
  TRY_ASSIGN(const std::vector<AwaitedReview> awaited, awaited_reviews(vault, ""));
  auto found = std::ranges::find_if(
      awaited, [&](const AwaitedReview& one) { return one.snapshot.commit.snapshot == snapshot; });
  if (found == awaited.end())
    return fail(ErrorKind::kUsage, fmt::format("snapshot {} waits for no review", snapshot.hex()),
                "it has no label, or was reviewed already", "kuramori review lists those that wait");
  const std::string& label = found->snapshot.commit.label;
  if (!found->newer)
    return fail(ErrorKind::kRefused,
                fmt::format("snapshot {} is the newest \"{}\" of {}", snapshot.hex(), label, found->resource),
                "it stays until there is a newer one to go back to",
                fmt::format("kuramori backup {} --label {}, or by name: kuramori hold remove {} --name {}",
                            found->resource, label, snapshot.hex(), label_hold(label)));
  return remove_hold(vault, found->snapshot, label_hold(label), "reviewed");
}

Result<void> extend_snapshot(Vault& vault, const Snapshot& snapshot, Time keep_until) {
  TRY(must_be_allowed(vault, Act::kExtend));
  if (to_unix_ns(keep_until) < snapshot.keep_until_ns) {
    return fail(ErrorKind::kRefused,
                fmt::format("snapshot {} is already kept longer", snapshot.commit.snapshot.hex()),
                "a promise to keep is extended, never shortened", "give a later moment");
  }
  return retain_until(protocol_of(vault), snapshot.commit.snapshot, keep_until);
}

Result<void> disown_commit(Vault& vault, const std::string& commit_name, const std::string& reason) {
  TRY(must_be_allowed(vault, Act::kDisown));
  Protocol protocol = protocol_of(vault);
  RecordLog log(protocol);
  TRY_ASSIGN(Bytes object, log.read_bytes(commit_name));
  auto opened = log.read(commit_name);
  if (opened && (opened->type == RecordType::kCommit || opened->type == RecordType::kCopy)) {
    return fail(ErrorKind::kRefused, fmt::format("{} is whole and signed", commit_name),
                "only what cannot be verified is disowned",
                "to let a good snapshot go, let its time run out and prune");
  }
  DisownedRecord record{.commit_name = commit_name,
                        .object_digest = sha256(object),
                        .reason = reason,
                        .at_ns = to_unix_ns(vault.clock().now())};
  auto put =
      vault.put(RecordType::kDisowned, names::disowned(record.object_digest.hex()), {}, encode(record));
  if (!put && put.error().kind != ErrorKind::kExists) return put.error();
  return {};
}

}  // namespace kuramori
