#include "vault/catalog.h"

#include <algorithm>
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

// `keep`: what stands for the one that was written, or is in use. What is older than that goes.
Result<size_t> remove_older(const Protocol& protocol, const Overview& overview, uint64_t number,
                            const std::set<std::string>& keep) {
  RecordLog log(protocol);
  std::set<std::string> old(overview.catalogs_refused().begin(), overview.catalogs_refused().end());
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log.list(names::kCatalog));
  for (const ObjectInfo& object : listed) {
    auto n = names::parse_catalog(object.name);
    if (n && *n < number && !keep.contains(object.name)) old.insert(object.name);
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

// Writes catalogs one after the other, each when it is full; the last names the others.
class Writing {
 public:
  Writing(const Protocol& protocol, uint64_t number) : protocol_(protocol), number_(number) {}

  Result<void> add(const std::string& name, Bytes object) {
    bytes_ += object.size();
    entries_.push_back({name, std::move(object)});
    if (bytes_ < kCatalogPartBytes) return {};
    TRY(put_one());
    return {};
  }
  void go_on_in(const std::string& catalog) { parts_.push_back(catalog); }
  // Puts the one to be found, after all that it names.
  Result<void> finish() {
    for (const std::string& part : parts_) entries_.push_back({part, {}});
    return put_one();
  }
  uint64_t number() const { return number_; }
  const std::vector<std::string>& parts() const { return parts_; }

 private:
  Result<void> put_one() {
    std::ranges::sort(entries_, {}, &CatalogRecord::Entry::name);
    CatalogRecord catalog{.number = ++number_, .at_ns = to_unix_ns(protocol_.clock.now()), .entries = {}};
    catalog.entries = std::exchange(entries_, {});
    bytes_ = 0;
    const std::string name = names::catalog(number_, protocol_.random.id<names::CatalogId>());
    const Bytes body = encode(catalog);
    catalog = {};  // a copy less in memory
    TRY(RecordLog(protocol_).put(RecordType::kCatalog, name, {}, body));
    parts_.push_back(name);
    return {};
  }

  const Protocol& protocol_;
  uint64_t number_;
  size_t bytes_ = 0;
  std::vector<CatalogRecord::Entry> entries_;
  std::vector<std::string> parts_;
};

}  // namespace

Result<CatalogReport> refresh_catalog(const Protocol& protocol, const Signers& signers) {
  TRY_ASSIGN(auto overview, Overview::look(protocol, signers));
  CatalogReport report{.number = overview->catalog_number()};
  Ledger ledger(overview->protocol());
  TRY_ASSIGN(std::vector<std::string> wanted, wanted_records(ledger));
  const std::vector<Overview::Catalog>& standing = overview->catalogs();
  std::vector<size_t> wanted_records_of(standing.size());
  std::vector<std::optional<size_t>> held_in(wanted.size());
  size_t fresh = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    held_in[i] = overview->catalog_of(ledger.log().place_of(wanted[i]).name);
    if (held_in[i])
      ++wanted_records_of[*held_in[i]];
    else
      ++fresh;
  }
  std::set<std::string> keep;
  for (const Overview::Catalog& catalog : standing) keep.insert(catalog.name);
  if (fresh >= kCatalogWorthRecords && report.number + kCatalogPartsMax < kCatalogNumberMax) {
    // A large one of which most is still wanted is gone on in as it is; the others are written anew. So a
    // hundred thousand snapshots do not cost a hundred megabytes for every eight that come.
    std::vector<bool> stays(standing.size());
    for (size_t i = 0; i < standing.size(); ++i) {
      stays[i] =
          standing[i].bytes >= kCatalogPartBytes / 2 && wanted_records_of[i] * 2 >= standing[i].records;
    }
    Writing writing(protocol, report.number);
    size_t bytes = 0, records = 0;
    fresh = 0;
    for (size_t i = 0; i < standing.size(); ++i) {
      if (!stays[i]) continue;
      writing.go_on_in(standing[i].name);
      bytes += standing[i].bytes;
      records += wanted_records_of[i];
    }
    std::vector<size_t> to_write;
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (!held_in[i] || !stays[*held_in[i]]) to_write.push_back(i);
    }
    // Nothing is put before it is known that it is worth it: what cannot be verified is in none.
    std::vector<std::pair<std::string, Bytes>> first;
    auto put_first = [&]() -> Result<void> {
      for (auto& [name, object] : std::exchange(first, {})) TRY(writing.add(name, std::move(object)));
      return {};
    };
    for (size_t i : to_write) {
      const RecordLog::Place place = ledger.log().place_of(wanted[i]);
      Result<Bytes> object = place.store->get(place.name);
      if (!object && object.error().kind == ErrorKind::kNotFound)
        continue;  // of signers, one of two may be lost
      if (!object) return std::move(object).error();
      // What does not open is not handed on: who meets it shall look where it stands.
      if (bytes + object->size() > kCatalogBytesMax || !protocol.codec.decode(place.name, *object)) continue;
      bytes += object->size();
      ++records;
      if (!held_in[i]) ++fresh;
      first.emplace_back(place.name, std::move(*object));
      if (fresh >= kCatalogWorthRecords) TRY(put_first());
    }
    if (fresh >= kCatalogWorthRecords) {
      TRY(put_first());
      TRY(writing.finish());
      report = {.number = writing.number(), .written = true, .records = records};
      // For whoever has just listed the one before, that and what it goes on in stays until the next.
      keep.insert(writing.parts().begin(), writing.parts().end());
    }
  }
  if (!report.written && overview->catalogs_refused().empty()) return report;
  // Only now: whoever finds the old one gone finds the new one.
  TRY_ASSIGN(report.removed, remove_older(protocol, *overview, report.number, keep));
  return report;
}

}  // namespace kuramori
