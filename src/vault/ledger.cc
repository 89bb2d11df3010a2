#include "vault/ledger.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "crypto/digest.h"

namespace kuramori {
namespace {

constexpr size_t kExpectedAtOnce = 512;   // commits, of a few KB each
constexpr size_t kSignerPrefixBytes = 4;  // of a session id: whose it is

bool begins_with_signer(const SessionId& sid, const SignerId& signer) {
  return std::equal(signer.raw.begin(), signer.raw.begin() + kSignerPrefixBytes, sid.raw.begin());
}

// Two places: a session id tells its epoch, so that what a session of an older ledger left behind is known
// for what it is by its name alone.
uint64_t epoch_of(const SessionId& sid) {
  return uint64_t{sid.raw[kSignerPrefixBytes]} << 8 | sid.raw[kSignerPrefixBytes + 1];
}

bool contains(const std::vector<std::string>& sorted, std::string_view name) {
  return std::binary_search(sorted.begin(), sorted.end(), name);
}

// Whether a name was listed, asked for each of very many: one table, nothing allocated for a name. Borrows
// the names.
class ListedNames {
 public:
  explicit ListedNames(const std::vector<std::string>& names)
      : names_(names), slots_(std::bit_ceil(2 * names.size() + 1)) {
    for (size_t i = 0; i < names.size(); ++i) {
      const uint64_t hash = std::hash<std::string_view>{}(names[i]);
      size_t at = hash & (slots_.size() - 1);
      while (slots_[at].number != 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = {static_cast<uint32_t>(hash >> 32), static_cast<uint32_t>(i + 1)};
    }
  }
  bool contains(std::string_view name) const {
    const uint64_t hash = std::hash<std::string_view>{}(name);
    for (size_t at = hash & (slots_.size() - 1); slots_[at].number != 0; at = (at + 1) & (slots_.size() - 1))
      if (slots_[at].hash == hash >> 32 && names_[slots_[at].number - 1] == name) return true;
    return false;
  }

 private:
  struct Slot {
    uint32_t hash = 0, number = 0;  // the upper half; which name, from 1
  };
  const std::vector<std::string>& names_;
  std::vector<Slot> slots_;  // more than half of them free
};

Error unreadable(Error error) {
  if (error.kind == ErrorKind::kNotFound) error.kind = ErrorKind::kUnknown;  // it was listed a moment ago
  if (error.next.empty()) error.next = "nothing was deleted; kuramori scrub tells what is damaged";
  return error;
}

}  // namespace

std::vector<std::string> condemned_by(const std::vector<GcRound>& rounds) {
  std::vector<std::string> all;
  for (const GcRound& round : rounds) all.insert(all.end(), round.objects.begin(), round.objects.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

Result<void> CommitListing::must_be_whole() const {
  if (!unverifiable.empty()) {
    const Unverifiable& first = unverifiable.front();
    return fail(ErrorKind::kDamaged, fmt::format("{} cannot be verified: {}", first.name, first.error.what),
                "what it refers to is not known, so nothing may be deleted",
                fmt::format("if it is worthless: kuramori vault disown {}", first.digest.hex()));
  }
  if (!missing.empty()) {
    return fail(ErrorKind::kDamaged,
                fmt::format("the store did not list {}, which other records name", missing.front()),
                "a commit key is never removed: the listing is not whole, so nothing may be deleted",
                "kuramori vault probe");
  }
  return {};
}

Result<void> Ledger::must_be_keeper(const SignerId& signer, std::string_view name) const {
  if (protocol().may_delete(signer)) return {};
  return fail(ErrorKind::kDamaged, fmt::format("{} is signed by {}, who is no keeper", name, signer.hex()),
              "only keepers and owners may say what is deleted", "kuramori scrub");
}

Result<bool> Ledger::is_disowned(std::string_view name, Digest& digest) {
  const RecordLog::Place place = log_.place_of(name);
  Result<Bytes> bytes = log_.read_bytes(name);
  if (!bytes && !(place.accepted && bytes.error().kind == ErrorKind::kDamaged)) {
    return unreadable(std::move(bytes).error());
  }
  digest = bytes ? sha256(*bytes) : place.accepted->digest;
  std::string word = names::disowned(digest.hex());
  Result<OpenedRecord> opened = log_.read(word, RecordType::kDisowned);
  if (!opened) {
    if (opened.error().kind == ErrorKind::kNotFound) return false;
    return std::move(opened).error();
  }
  TRY(must_be_keeper(opened->signer, word));
  TRY_ASSIGN(DisownedRecord record, decode<DisownedRecord>(opened->body));
  return record.object_digest == digest && record.commit_name == name;
}

Result<GcRecord> Ledger::read_gc_record(const std::string& name, RecordType type, uint64_t n) {
  Result<OpenedRecord> opened = log_.read(name, type);
  Result<void> believed;
  if (opened) believed = must_be_keeper(opened->signer, name);
  if (!opened || !believed) {
    Error error = !opened ? std::move(opened).error() : std::move(believed).error();
    if (error.kind != ErrorKind::kDamaged) return error;
    Digest digest;
    TRY_ASSIGN(bool disowned, is_disowned(name, digest));
    if (disowned) return GcRecord{.number = n};  // its number stays used; it condemns nothing
    return error;
  }
  TRY_ASSIGN(GcRecord record, decode<GcRecord>(opened->body));
  if (record.number != n || !std::is_sorted(record.objects.begin(), record.objects.end()) ||
      !std::ranges::is_sorted(record.replaced, {}, &ReplacedObject::object)) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", name));
  }
  return record;
}

Result<GcRecord> Ledger::read_plan(uint64_t n) {
  return read_gc_record(names::gc_plan(n), RecordType::kGcPlan, n);
}
Result<GcRecord> Ledger::read_sweep(uint64_t n) {
  return read_gc_record(names::gc_sweep(n), RecordType::kGcSweep, n);
}
Result<std::optional<std::vector<std::string>>> Ledger::read_waits(uint64_t n) {
  auto waits = read_gc_record(names::gc_waits(n), RecordType::kGcPlan, n);
  if (waits) return std::optional(std::move(waits->objects));
  if (waits.error().kind == ErrorKind::kNotFound) return std::optional<std::vector<std::string>>{};
  return std::move(waits).error();
}

Result<std::vector<GcRound>> Ledger::read_gc() {
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(names::kGc));
  std::vector<GcRound> rounds;
  for (const ObjectInfo& object : listed) {
    auto n = names::parse_number(object.name, names::kGc);
    if (!n || (object.name != names::gc_plan(*n) && object.name != names::gc_sweep(*n) &&
               object.name != names::gc_waits(*n))) {
      return fail(ErrorKind::kDamaged, fmt::format("{} is no name of a collection", object.name),
                  "a newer program may have put it", "update kuramori, or look who may put under gc/");
    }
    if (rounds.empty() || rounds.back().number != *n) rounds.push_back({*n, false, {}});
    if (object.name == names::gc_sweep(*n)) rounds.back().swept = true;
  }
  bool removed_on_purpose = protocol().bugs.has(PlantedBug::kGcRemoved) ||
                            protocol().bugs.has(PlantedBug::kGcRemovedCarefully) ||
                            protocol().bugs.has(PlantedBug::kIndexCachedBefore) ||
                            protocol().bugs.has(PlantedBug::kParentsNotRead) ||
                            protocol().bugs.has(PlantedBug::kAbandonRemovesPlan);
  for (size_t i = 0; i < rounds.size(); ++i) {
    // Numbers count up from 1 and a plan stands only after the sweep before it: a hole is a listing not
    // whole.
    if (!removed_on_purpose && (rounds[i].number != i + 1 || (i + 1 < rounds.size() && !rounds[i].swept))) {
      return fail(ErrorKind::kDamaged, fmt::format("the store did not list all of collection {}", i + 1),
                  "collections are never removed: the listing is not whole", "kuramori vault probe");
    }
    uint64_t n = rounds[i].number;
    auto record = rounds[i].swept ? read_sweep(n) : read_plan(n);
    if (!record && removed_on_purpose && record.error().kind == ErrorKind::kNotFound) continue;
    if (!record) return unreadable(std::move(record).error());
    rounds[i].objects = std::move(record->objects);
    rounds[i].replaced = std::move(record->replaced);
  }
  // What older ledgers swept stays dead. As round 0, which every numbered one follows.
  if (protocol().epoch && !protocol().epoch->seal.swept.empty()) {
    rounds.insert(rounds.begin(), {0, true, protocol().epoch->seal.swept});
  }
  return rounds;
}

Result<std::vector<std::string>> Ledger::read_prune_record(const std::string& name, RecordType type,
                                                           uint64_t n) {
  Result<OpenedRecord> opened = log_.read(name, type);
  if (!opened) return unreadable(std::move(opened).error());
  TRY(must_be_keeper(opened->signer, name));
  TRY_ASSIGN(PruneRecord record, decode<PruneRecord>(opened->body));
  if (record.number != n || !std::is_sorted(record.commits.begin(), record.commits.end())) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", name));
  }
  return std::move(record.commits);
}

Result<std::vector<PruneRound>> Ledger::read_prunes() {
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(names::kPrune));
  std::vector<PruneRound> rounds;
  for (const ObjectInfo& object : listed) {
    auto n = names::parse_number(object.name, names::kPrune);
    if (!n || (object.name != names::prune_intent(*n) && object.name != names::prune_final(*n))) {
      return fail(ErrorKind::kDamaged, fmt::format("{} is no name of a prune", object.name),
                  "a newer program may have put it", "update kuramori, or look who may put under prune/");
    }
    if (rounds.empty() || rounds.back().number != *n) rounds.push_back({*n, false, {}});
    if (object.name == names::prune_final(*n)) rounds.back().finished = true;
  }
  bool unnumbered = protocol().bugs.has(PlantedBug::kPruneUnnumbered);
  for (size_t i = 0; i < rounds.size(); ++i) {
    PruneRound& round = rounds[i];
    if (!unnumbered && (round.number != i + 1 || (i + 1 < rounds.size() && !round.finished))) {
      return fail(ErrorKind::kDamaged, fmt::format("the store did not list all of prune {}", i + 1),
                  "prunes are never removed: the listing is not whole", "kuramori vault probe");
    }
    auto commits =
        round.finished
            ? read_prune_record(names::prune_final(round.number), RecordType::kPruneFinal, round.number)
            : read_prune_record(names::prune_intent(round.number), RecordType::kPruneIntent, round.number);
    if (!commits) return std::move(commits).error();
    round.commits = std::move(*commits);
  }
  if (protocol().epoch && !protocol().epoch->seal.pruned.empty()) {
    rounds.insert(rounds.begin(), {0, true, protocol().epoch->seal.pruned});
  }
  return rounds;
}

bool Ledger::is_of_older_epoch(const SessionId& sid) const {
  return protocol().epoch && epoch_of(sid) < protocol().epoch->number;
}

Result<void> Ledger::mirror_decided() {
  const Epoch* epoch = protocol().epoch;
  if (!epoch || !epoch->ledger) return {};
  // A sweep counts on the finals before it, a final on the commits before it. So they are listed in this
  // order and mirrored in the other: whatever the objects show was decided on what they show too.
  struct Kind {
    std::string_view prefix, end;
    std::vector<std::string> names;
  };
  Kind kinds[] = {{names::kGc, "/sweep", {}}, {names::kPrune, "/final", {}}, {names::kCommits, "", {}}};
  const std::string in_epoch = names::epoch_prefix(epoch->number);
  for (Kind& kind : kinds) {
    TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(kind.prefix));
    for (ObjectInfo& object : listed) {
      if (object.name.ends_with(kind.end) && !log_.place_of(object.name).accepted) {
        kind.names.push_back(std::move(object.name));
      }
    }
  }
  for (Kind* kind : {&kinds[2], &kinds[1], &kinds[0]}) {
    if (kind->prefix == names::kPrune && protocol().bugs.has(PlantedBug::kTombstoneNotMirrored)) continue;
    if (kind->prefix == names::kGc && protocol().bugs.has(PlantedBug::kSweepNotMirrored)) continue;
    std::erase_if(kind->names, [&](const std::string& name) { return mirrored_.contains(name); });
    if (kind->names.empty()) continue;
    std::set<std::string, std::less<>> there;
    TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list_objects(in_epoch + std::string(kind->prefix)));
    for (ObjectInfo& object : listed) there.insert(object.name.substr(in_epoch.size()));
    for (const std::string& name : kind->names) {
      if (!there.contains(name)) TRY(log_.mirror(name));
      mirrored_.insert(name);
    }
  }
  return {};
}

// The commit inside of a copy, as its writer signed it.
Result<OpenedRecord> Ledger::open_copied(std::string_view name, const CopyRecord& copy) {
  KnownRecords* known = protocol().known;
  if (known == nullptr) return protocol().codec.decode(copy.origin, copy.commit);
  const std::string full_name = log_.place_of(name).name;
  if (auto inner = known->recall_inner(full_name, sha256(copy.commit))) return std::move(*inner);
  Result<OpenedRecord> inner = protocol().codec.decode(copy.origin, copy.commit);
  if (inner) known->remember_inner(full_name, *inner);
  return inner;
}

Result<VisibleCommit> Ledger::open_copy(std::string_view name, const names::CommitName& key,
                                        const OpenedRecord& opened, Detail detail) {
  // A copier is a keeper; what it copied must be as its writer signed it.
  TRY(must_be_keeper(opened.signer, name));
  TRY_ASSIGN(CopyRecord copy, decode<CopyRecord>(opened.body));
  TRY_ASSIGN(OpenedRecord inner, open_copied(name, copy));
  auto in_epoch = names::parse_in_epoch(copy.origin);
  auto origin = names::parse_commit(in_epoch ? in_epoch->name : std::string_view(copy.origin));
  bool may_commit = !protocol().may_commit || protocol().may_commit(inner.signer);
  if (inner.type != RecordType::kCommit || !origin || !begins_with_signer(origin->session, inner.signer) ||
      !may_commit) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not a copy of a writer's commit", name));
  }
  TRY_ASSIGN(CommitRecord record, decode_commit(inner.body, detail));
  if (record.snapshot != key.snapshot || record.resource != key.resource ||
      origin->snapshot != key.snapshot || origin->session != record.session) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", name));
  }
  record.keep_until_ns = copy.keep_until_ns;
  return VisibleCommit{std::string(name), key, std::move(record), inner.signer, opened.digest, copy.origin};
}

Result<const VisibleCommit*> Ledger::read_commit(std::string_view name) {
  if (auto known = commits_.find(name); known != commits_.end()) return &known->second;
  TRY_ASSIGN(VisibleCommit commit, open_commit(name, remembered_));
  return &commits_.emplace(std::string(name), std::move(commit)).first->second;
}

Result<VisibleCommit> Ledger::open_commit(std::string_view name, Detail detail) {
  const auto is_fenced = [&] {
    return fail(ErrorKind::kRefused, fmt::format("{} is fenced", name),
                "this attempt never became a snapshot");
  };
  if (fenced_.contains(name)) return is_fenced();
  auto key = names::parse_commit(name);
  if (!key) return fail(ErrorKind::kDamaged, fmt::format("{} is no name of a commit", name));
  TRY_ASSIGN(OpenedRecord opened, log_.read(name));
  bool own =
      begins_with_signer(key->session, opened.signer) || protocol().bugs.has(PlantedBug::kCopyFencedForEver);
  if (opened.type == RecordType::kFence) {
    if (!own) TRY(must_be_keeper(opened.signer, name));
    fenced_.emplace(name);
    return is_fenced();
  }
  if (opened.type == RecordType::kCopy && own) {
    return open_copy(name, *key, opened, detail);
  }
  bool may_commit = !protocol().may_commit || protocol().may_commit(opened.signer);
  if (opened.type != RecordType::kCommit || !own || !may_commit) {
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is not a commit of the writer whose session it names", name));
  }
  TRY_ASSIGN(CommitRecord record, decode_commit(opened.body, detail));
  if (record.snapshot != key->snapshot || record.session != key->session ||
      record.resource != key->resource) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", name));
  }
  return VisibleCommit{std::string(name), *key, std::move(record), opened.signer, opened.digest, {}};
}

Result<CommitListing> Ledger::read_commits() {
  TRY_ASSIGN(std::vector<PruneRound> prunes, read_prunes());
  return read_commits(prunes);
}

Result<CommitListing> Ledger::read_commits(const std::vector<PruneRound>& prunes) {
  return list_commits(prunes, nullptr);
}

Result<CommitListing> Ledger::visit_commits(const CommitVisit& visit) {
  TRY_ASSIGN(std::vector<PruneRound> prunes, read_prunes());
  return list_commits(prunes, &visit);
}

Result<CommitListing> Ledger::list_commits(const std::vector<PruneRound>& prunes, const CommitVisit* visit) {
  CommitListing listing;
  for (const PruneRound& round : prunes) {
    if (round.finished)
      listing.pruned.insert(listing.pruned.end(), round.commits.begin(), round.commits.end());
  }
  std::sort(listing.pruned.begin(), listing.pruned.end());
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(names::kCommits));
  std::vector<std::string> listed_names;
  listed_names.reserve(listed.size());
  for (ObjectInfo& object : listed) listed_names.push_back(std::move(object.name));
  listed = {};
  if (visit != nullptr && visit->count) visit->count(listed_names.size());
  const ListedNames is_listed(listed_names);
  auto must_be_listed = [&](const std::string& name) {
    if (name.empty() || is_listed.contains(name)) return;
    // An older ledger may have known of it alone. Then it is void, and its ledger's seal says all there is.
    auto key = names::parse_commit(name);
    if (key && is_of_older_epoch(key->session)) return;
    listing.missing.push_back(name);
  };
  auto must_be_rooted = [&](const VisibleCommit& commit) {
    if (commit.is_copy()) return;  // what it names stands in another vault
    must_be_listed(commit.record.previous);
    for (const std::string& parent : commit.record.parents) {
      if (parent != commit.record.previous) must_be_listed(parent);
    }
  };
  auto see = [&](const std::string& name) -> Result<void> {
    if (visit != nullptr) {
      TRY_ASSIGN(VisibleCommit commit, open_commit(name, visit->detail));
      must_be_rooted(commit);
      visit->take(std::move(commit));
    } else {
      TRY_ASSIGN(const VisibleCommit* commit, read_commit(name));
      must_be_rooted(*commit);
      listing.visible.push_back(commit);
    }
    return {};
  };
  if (visit == nullptr) listing.decided.reserve(listed_names.size());
  std::vector<std::string_view> next;  // that were expected, and will be seen
  for (size_t i = 0; i < listed_names.size(); ++i) {
    const std::string& name = listed_names[i];
    if (i % kExpectedAtOnce == 0) {
      next.clear();
      for (size_t k = i; k < std::min(i + kExpectedAtOnce, listed_names.size()); ++k)
        if (!contains(listing.pruned, listed_names[k])) next.push_back(listed_names[k]);
      log_.expect(next);
    }
    if (visit == nullptr) {
      if (auto key = names::parse_commit(name)) listing.decided.insert(key->session);
    }
    if (contains(listing.pruned, name)) continue;
    Result<void> seen = see(name);
    if (seen) continue;
    Error error = std::move(seen).error();
    if (error.kind == ErrorKind::kRefused && fenced_.contains(name)) {
      listing.fenced.push_back(name);
      continue;
    }
    if (protocol().bugs.has(PlantedBug::kUnreadableIsAbsent)) continue;
    // kRefused: a format this program does not know. Both stop deletion (V4); a lost connection stops
    // everything.
    if (error.kind != ErrorKind::kDamaged && error.kind != ErrorKind::kRefused)
      return unreadable(std::move(error));
    Digest digest;
    TRY_ASSIGN(bool disowned, is_disowned(name, digest));
    if (disowned) {
      listing.disowned.push_back(name);
    } else {
      listing.unverifiable.push_back({name, digest, std::move(error)});
    }
  }
  for (const std::string& name : listing.pruned) must_be_listed(name);
  return listing;
}

Result<const LiveRecord*> Ledger::live_of(const VisibleCommit& commit) {
  if (auto known = references_.find(commit.name); known != references_.end()) return &known->second.live;
  References found;
  const ObjectRef& ref = commit.record.live;
  if (!ref.name.empty()) {
    // The commit binds it: another record in its place, though sealed well, must not decide what is garbage
    // (V1).
    Result<OpenedRecord> opened = log_.read_bound(ref, RecordType::kLive);
    if (!opened) {
      Error error = std::move(opened).error();
      if (error.kind == ErrorKind::kNotFound) error.kind = ErrorKind::kDamaged;  // a visible commit needs it
      return std::move(error).within(commit.name);
    }
    TRY_ASSIGN(found.live, decode<LiveRecord>(opened->body));
    found.names.push_back(ref.name);
  }
  for (const LivePack& pack : found.live.packs) found.names.push_back(pack.name);
  for (const ObjectRef& map : found.live.maps) found.names.push_back(map.name);
  for (const ObjectRef& map : commit.record.maps) found.names.push_back(map.name);
  for (const FrameSpan& span : commit.record.tree) found.names.push_back(span.pack);
  std::sort(found.names.begin(), found.names.end());
  found.names.erase(std::unique(found.names.begin(), found.names.end()), found.names.end());
  return &references_.emplace(commit.name, std::move(found)).first->second.live;
}

Result<const std::vector<std::string>*> Ledger::references(const VisibleCommit& commit) {
  TRY(live_of(commit));
  return &references_.find(commit.name)->second.names;
}

Result<SessionListing> Ledger::read_sessions() {
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(names::kSessions));
  SessionListing listing;
  std::set<SessionId> ends;
  for (const ObjectInfo& object : listed) {
    if (auto ended = names::parse_session_end(object.name)) {
      ends.insert(*ended);
      continue;
    }
    auto sid = names::parse_session(object.name);
    if (!sid) {
      listing.unknown.push_back(object.name);
      continue;
    }
    if (auto known = sessions_.find(object.name); known != sessions_.end()) {
      listing.sessions.push_back(known->second);
      continue;
    }
    Result<OpenedRecord> opened = log_.read(object.name, RecordType::kSession);
    if (!opened && opened.error().kind == ErrorKind::kNotFound) {
      listing.vanished.push_back(*sid);
      continue;
    }
    Result<SessionRecord> record = opened ? decode<SessionRecord>(opened->body) : std::move(opened).error();
    bool sound = record && begins_with_signer(*sid, opened->signer);
    if (sound && record->kind != SessionKind::kRead) {
      auto key = names::parse_commit(record->commit_key);
      sound = key && (key->session == *sid || protocol().bugs.has(PlantedBug::kCopyFencedForEver));
    }
    if (!sound) {
      Error error =
          record ? fail(ErrorKind::kDamaged, fmt::format("{} is not a session of its signer", object.name))
                 : std::move(record).error();
      if (error.kind != ErrorKind::kDamaged && error.kind != ErrorKind::kRefused)
        return unreadable(std::move(error));
      Digest digest;
      TRY_ASSIGN(bool disowned, is_disowned(object.name, digest));
      if (!disowned) {
        if (error.next.empty())
          error.next = fmt::format("if it is worthless: kuramori vault disown {}", digest.hex());
        return error;
      }
      listing.disowned.push_back(object.name);
      continue;
    }
    ListedSession session{object.name, *sid, std::move(*record), opened->signer, object.stored_at, false};
    sessions_.emplace(object.name, session);
    listing.sessions.push_back(std::move(session));
  }
  for (ListedSession& session : listing.sessions) {
    if (session.decided) continue;
    if (session.record.kind == SessionKind::kRead) {
      if (!ends.contains(session.id)) continue;
      // An end nobody may have put is no end: the reader stays protected.
      Result<OpenedRecord> end = log_.read(names::session_end(session.id), RecordType::kFence);
      session.decided = end && (end->signer == session.signer || protocol().may_delete(end->signer));
    } else {
      // Whatever stands there: the session's own commit can no longer land, so the session is decided.
      Result<Bytes> key = log_.read_bytes(session.record.commit_key);
      if (!key && key.error().kind != ErrorKind::kNotFound) return unreadable(std::move(key).error());
      session.decided = key.has_value();
    }
    if (session.decided) sessions_.find(session.name)->second.decided = true;
  }
  for (const SessionId& end : ends) {
    if (!std::ranges::any_of(listing.sessions, [&](const ListedSession& s) { return s.id == end; })) {
      listing.stale_ends.push_back(names::session_end(end));
    }
  }
  return listing;
}

Result<void> Ledger::fence(const ListedSession& session, std::string reason) {
  FenceRecord record{std::move(reason), to_unix_ns(protocol().clock.now())};
  bool reads = session.record.kind == SessionKind::kRead;
  std::string name = reads ? names::session_end(session.id) : session.record.commit_key;
  // Exactly one of two puts wins, the fence or the commit; either way the session is decided now.
  TRY(log_.put(RecordType::kFence, name, session.record.resource, encode(record)));
  if (auto known = sessions_.find(session.name); known != sessions_.end()) known->second.decided = true;
  return {};
}

Result<std::set<SnapshotId>> Ledger::read_held() {
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(names::kHolds));
  std::set<SnapshotId> held;
  constexpr std::string_view kReleased = ".released";
  std::set<std::string, std::less<>> all;
  for (ObjectInfo& object : listed) all.insert(std::move(object.name));
  for (const std::string& name : all) {
    if (name.ends_with(kReleased)) continue;
    std::string_view rest = std::string_view(name).substr(names::kHolds.size());
    auto snapshot = SnapshotId::from_hex(rest.substr(0, rest.find('/')));
    if (!snapshot || held.contains(*snapshot)) continue;
    std::string release = name + std::string(kReleased);
    bool released = false;
    if (all.contains(release)) {
      Result<OpenedRecord> word = log_.read(release, RecordType::kHoldRelease);
      if (word && protocol().may_delete(word->signer)) {
        released = true;
      } else if (word) {
        Result<OpenedRecord> placed = log_.read(name, RecordType::kHold);
        released = placed && placed->signer == word->signer;
      }
    }
    if (!released) held.insert(*snapshot);
  }
  return held;
}

Result<ProofListing> Ledger::read_proofs() {
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(names::kProofs));
  ProofListing proofs;
  for (const ObjectInfo& object : listed) {
    std::string_view rest = std::string_view(object.name).substr(names::kProofs.size());
    auto snapshot = SnapshotId::from_hex(rest.substr(0, rest.find('/')));
    if (!snapshot) continue;
    Result<OpenedRecord> opened = log_.read(object.name, RecordType::kProof);
    Result<ProofRecord> proof = opened ? decode<ProofRecord>(opened->body) : std::move(opened).error();
    if (!proof || proof->snapshot != *snapshot) {
      proofs.unreadable.insert(*snapshot);
    } else if (proof->passed) {
      int64_t& latest = proofs.passed.try_emplace(*snapshot, proof->started_ns).first->second;
      latest = std::max(latest, proof->started_ns);
    }
  }
  return proofs;
}

Result<std::map<SnapshotId, int64_t>> Ledger::read_retained() {
  TRY_ASSIGN(std::vector<ObjectInfo> listed, log_.list(names::kRetain));
  std::map<SnapshotId, int64_t> retained;
  for (const ObjectInfo& object : listed) {
    std::string_view rest = std::string_view(object.name).substr(names::kRetain.size());
    auto snapshot = SnapshotId::from_hex(rest.substr(0, rest.find('/')));
    if (!snapshot) continue;
    Result<OpenedRecord> opened = log_.read(object.name, RecordType::kRetain);
    Result<RetainRecord> record = opened ? decode<RetainRecord>(opened->body) : std::move(opened).error();
    int64_t until = record && record->snapshot == *snapshot ? record->keep_until_ns : kKeepForever;
    int64_t& latest = retained.try_emplace(*snapshot, until).first->second;
    latest = std::max(latest, until);
  }
  return retained;
}

}  // namespace kuramori
