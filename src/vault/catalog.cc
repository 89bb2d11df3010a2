#include "vault/catalog.h"

#include <algorithm>
#include <functional>
#include <set>

#include "vault/ledger.h"

namespace kuramori {
namespace {

// Of records under this prefix, by name: "proofs/<snapshot>/…".
std::optional<SnapshotId> snapshot_of(std::string_view name, std::string_view prefix) {
  name.remove_prefix(prefix.size());
  auto snapshot = SnapshotId::from_hex(name.substr(0, name.find('/')));
  return snapshot ? std::optional(*snapshot) : std::nullopt;
}

// What an opening reads, in the order of its worth should not all fit: only of what is never removed and
// never changes.
Result<std::vector<std::string>> wanted_records(Ledger& ledger) {
  const RecordLog& log = ledger.log();
  std::vector<std::string> wanted;
  auto take = [&](std::string_view prefix, auto&& is_wanted) -> Result<void> {
    TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(prefix));
    for (ObjectInfo& object : listed) {
      if (is_wanted(object.name)) wanted.push_back(std::move(object.name));
    }
    return {};
  };
  auto all = [](const std::string&) { return true; };
  TRY_ASSIGN(std::vector<PruneRound> prunes, ledger.read_prunes());
  std::set<std::string, std::less<>> pruned;
  for (const PruneRound& round : prunes) {
    if (round.finished) pruned.insert(round.commits.begin(), round.commits.end());
  }
  TRY(take(names::kSigners, all));
  TRY(take(names::kResources, all));
  // Of the numbered rounds only what ended them: a plan or intent is looked at while it has no end.
  TRY(take(names::kPrune, [](const std::string& name) { return name.ends_with("/final"); }));
  TRY(take(names::kGc, [](const std::string& name) { return name.ends_with("/sweep"); }));
  std::set<SnapshotId> visible;
  TRY(take(names::kCommits, [&](const std::string& name) {
    if (pruned.contains(name)) return false;
    if (auto key = names::parse_commit(name)) visible.insert(key->snapshot);
    return true;
  }));
  for (std::string_view prefix : {names::kRetain, names::kHolds, names::kProofs}) {
    TRY(take(prefix, [&](const std::string& name) {
      auto snapshot = snapshot_of(name, prefix);
      return snapshot && visible.contains(*snapshot);
    }));
  }
  return wanted;
}

Result<size_t> remove_older(const Protocol& protocol, const Overview& overview, uint64_t number) {
  RecordLog log(protocol);
  std::set<std::string> old(overview.catalogs_refused().begin(), overview.catalogs_refused().end());
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(names::kCatalog));
  for (const ObjectInfo& object : listed) {
    auto n = names::parse_catalog(object.name);
    if (n && *n + 1 < number) old.insert(object.name);
  }
  size_t removed = 0;
  for (const std::string& name : old) {
    Result<void> gone = log.remove(name);
    if (gone) ++removed;
    // Under a lock it stays until that ends, and is in nobody's way; the next run tries again.
    if (!gone && gone.error().kind == ErrorKind::kInterrupted) return std::move(gone).error();
  }
  return removed;
}

}  // namespace

Result<CatalogReport> refresh_catalog(const Protocol& protocol, const Signers& signers) {
  TRY_ASSIGN(auto overview, Overview::look(protocol, signers));
  CatalogReport report{.number = overview->catalog_number()};
  Ledger ledger(overview->protocol());
  TRY_ASSIGN(std::vector<std::string> wanted, wanted_records(ledger));
  auto is_at_hand = [&](const std::string& name) {
    return overview->is_at_hand(ledger.log().place_of(name).name);
  };
  size_t fresh = std::ranges::count_if(wanted, std::not_fn(is_at_hand));
  if (fresh >= kCatalogWorthRecords && report.number < kCatalogNumberMax) {
    CatalogRecord catalog{.number = report.number + 1, .at_ns = to_unix_ns(protocol.clock.now())};
    size_t bytes = 0;
    fresh = 0;
    for (const std::string& name : wanted) {
      const RecordLog::Place place = ledger.log().place_of(name);
      Result<Bytes> object = place.store->get(place.name);
      if (!object && object.error().kind == ErrorKind::kNotFound)
        continue;  // of signers, one of two may be lost
      if (!object) return std::move(object).error();
      // What does not open is not handed on: who meets it shall look where it stands.
      if (bytes + object->size() > kCatalogBytesMax || !protocol.codec.decode(place.name, *object)) continue;
      bytes += object->size();
      if (!is_at_hand(name)) ++fresh;
      catalog.entries.push_back({place.name, std::move(*object)});
    }
    if (fresh >= kCatalogWorthRecords) {
      std::ranges::sort(catalog.entries, {}, &CatalogRecord::Entry::name);
      report = {.number = catalog.number, .written = true, .records = catalog.entries.size()};
      const std::string name = names::catalog(catalog.number, protocol.random.id<names::CatalogId>());
      const Bytes body = encode(catalog);
      catalog = {};  // a copy less in memory
      TRY(RecordLog(protocol).put(RecordType::kCatalog, name, {}, body));
    }
  }
  if (!report.written && overview->catalogs_refused().empty()) return report;
  // Only now: whoever finds the old one gone finds the new one.
  TRY_ASSIGN(report.removed, remove_older(protocol, *overview, report.number));
  return report;
}

}  // namespace kuramori
