#include "engine/copy.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "crypto/digest.h"
#include "engine/open_vault.h"
#include "engine/reading.h"
#include "engine/roles.h"
#include "engine/thaw.h"
#include "engine/transfer.h"
#include "vault/copier.h"
#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/thin_pack.h"
#include "vault/wal_object.h"

namespace kuramori {
namespace {

constexpr int kAttemptsMax = 3;  // at one snapshot, when the replica's collector fenced the session

class VaultTransfer final : public CopyTransfer {
 public:
  VaultTransfer(Vault& source, Vault& replica, Reporter& reporter, std::stop_token stop)
      : source_(source), replica_(replica), reporter_(reporter), stop_(std::move(stop)) {}
  Result<uint64_t> send(const LivePack& pack, const std::string& to) override {
    Result<uint64_t> sent = send_from_source(pack, to);
    // Given up while it was being read, for a thin one that a collection put beside it. Nothing stands at
    // `to` before all of it is there.
    if (!sent && sent.error().kind == ErrorKind::kNotFound) sent = send_from_source(pack, to);
    return sent;
  }
  Result<void> check(const LivePack& pack, const std::string& at) override {
    Result<void> whole = read_back(replica_.store(), at, pack);
    if (whole || whole.error().kind != ErrorKind::kDamaged) return whole;
    // Whose fault it is: verbatim copies carry damage along, and it is caught here.
    Result<void> there = verify_pack_bytes(source_.store(), pack.name, &pack);
    if (!there) return std::move(there).error().within(source_.store().location());
    return std::move(whole).error().within(replica_.store().location());
  }
  bool fits(const ObjectRef& ref, ByteView bytes) override {
    return bytes.size() == ref.size && sha256(bytes) == ref.digest;
  }
  Result<void> go_on() override {
    if (!stop_.stop_requested()) return {};
    return fail(ErrorKind::kInterrupted, "the copy was interrupted", "what was sent stays",
                "run the same command again: it goes on from there");
  }

 private:
  Result<uint64_t> send_from_source(const LivePack& pack, const std::string& to) {
    TRY_ASSIGN(const std::string from, find_at_source(pack));
    return send_object(source_.store(), from, replica_.store(), to, reporter_);
  }

  // Where the original is gone, an incarnation that is whole or, of the thin ones, holds what this snapshot
  // needs. Read back in the replica, so its bytes need no look here.
  Result<std::string> find_at_source(const LivePack& pack) {
    Store& store = source_.store();
    // A whole one, as nearly always: under its own name or found there.
    const auto head = store.head(pack.name);
    if (head && head->size == pack.size) return pack.name;
    std::string found;
    TRY(for_each_object(store, pack.name, [&](const ObjectInfo& object) -> Result<void> {
      if (!found.empty() || names::origin_of(object.name) != pack.name) return {};
      if (object.size == pack.size) {
        found = object.name;
        return {};
      }
      TRY_ASSIGN(const bool holds, is_thin_with(store, object.name, pack));
      if (holds) found = object.name;
      return {};
    }));
    // Nothing that fits: what stands under its own name is sent, and what is wrong with it told.
    return found.empty() ? pack.name : found;
  }

  Vault& source_;
  Vault& replica_;
  Reporter& reporter_;
  std::stop_token stop_;
};

bool overlaps(const names::WalName& wal, const WalSpan& span) {
  return wal.timeline == span.timeline && wal.from < span.to && wal.to > span.from;
}

// One resource on its way.
class ResourceCopy {
 public:
  ResourceCopy(Vault& source, Vault& replica, const ResourceRecord& resource, const CopyRule& rule,
               Ledger& from, Ledger& to, Reporter& reporter, VaultTransfer& transfer, CopyOutcome& outcome)
      : source_(source),
        replica_(replica),
        resource_(resource),
        rule_(rule),
        from_(from),
        to_(to),
        reporter_(reporter),
        transfer_(transfer),
        outcome_(outcome) {}

  // Looks at both sides anew.
  Result<void> look() {
    here_.clear();
    missing_.clear();
    wal_.clear();
    floor_.reset();
    TRY_ASSIGN(CommitListing there, from_.read_commits());
    TRY_ASSIGN(CommitListing here, to_.read_commits());
    TRY_ASSIGN(auto retained, from_.read_retained());
    TRY_ASSIGN(std::vector<GcRound> rounds, to_.read_gc());
    condemned_ = condemned_by(rounds);
    for (const Unverifiable& bad : there.unverifiable) {
      if (names::parse_commit(bad.name) && names::parse_commit(bad.name)->resource == resource_.id)
        skip(fmt::format("{} cannot be verified: {}", bad.name, bad.error.what));
    }
    std::set<SnapshotId> shown, pruned;
    std::vector<ExistingSnapshot> existing;
    for (const VisibleCommit* commit : here.visible) {
      if (commit->key.resource != resource_.id || !shown.insert(commit->key.snapshot).second) continue;
      here_.insert(commit->key.snapshot);
      existing.push_back(
          {from_unix_ns(commit->record.started_ns), from_unix_ns(commit->record.keep_until_ns)});
      lower_floor(*commit);
    }
    for (const std::string& name : here.pruned) {
      if (auto key = names::parse_commit(name)) pruned.insert(key->snapshot);
    }
    std::vector<const VisibleCommit*> visible;
    std::set<SnapshotId> twice;
    for (const VisibleCommit* commit : there.visible) {
      if (commit->key.resource == resource_.id && twice.insert(commit->key.snapshot).second)
        visible.push_back(commit);
    }
    std::ranges::sort(visible, {}, [](const VisibleCommit* c) { return c->record.started_ns; });
    for (const VisibleCommit* commit : visible) {
      if (shown.contains(commit->key.snapshot) || pruned.contains(commit->key.snapshot)) continue;
      auto until = kept_until(*commit, visible, existing, retained);
      if (!until) continue;
      existing.push_back({from_unix_ns(commit->record.started_ns), from_unix_ns(*until)});
      missing_.push_back({commit, *until});
      lower_floor(*commit);
    }
    return look_at_wal();
  }

  void add_to(CopyLag& lag) const {
    auto since = [&](Time time) { lag.oldest = lag.oldest ? std::min(*lag.oldest, time) : time; };
    for (const Missing& missing : missing_) {
      ++lag.snapshots;
      lag.bytes += missing.commit->record.added_bytes;
      since(from_unix_ns(missing.commit->record.finished_ns));
    }
    for (const auto& [name, wal] : wal_) {
      ++lag.wal_objects;
      lag.bytes += wal.stored_bytes;
      if (auto at = stored_at_.find(name); at != stored_at_.end()) since(at->second);
    }
  }

  Result<void> copy_snapshots() {
    if (missing_.empty()) return {};
    Protocol source = protocol_of(source_), replica = protocol_of(replica_);
    Copier copier(replica, from_, transfer_);
    for (const Missing& missing : missing_) {
      const std::string id = missing.commit->key.snapshot.hex();
      reporter_.phase(fmt::format("copying snapshot {} of {}", id, resource_.name), 0);
      // Where the key may not say so, the copy reads unprotected: it fails in words if the snapshot goes.
      auto reading = ReaderSession::open(source, reader_of(resource_.id, {missing.commit->name}));
      if (!reading) {
        skip(fmt::format("snapshot {}: {}", id, reading.error().what));
        continue;
      }
      Copier::Options options{
          .keep_until_ns = missing.keep_until_ns, .from = source_.info().id.hex(), .host = host_name()};
      options.before_commit = [&](const WriterSession&) { return copy_wal_of(*missing.commit); };
      Result<CopyResult> copied = copier.copy(*missing.commit, options);
      for (int attempt = 1; !copied && copied.error().kind == ErrorKind::kRefused && attempt < kAttemptsMax;
           ++attempt) {
        copied = copier.copy(*missing.commit, options);
      }
      (void)reading->end();  // tidiness; a keeper ends it otherwise
      if (copied) {
        ++outcome_.snapshots;
        outcome_.sent_objects += copied->sent_objects;
        outcome_.sent_bytes += copied->sent_bytes;
        outcome_.found_objects += copied->found_objects;
        outcome_.found_bytes += copied->found_bytes;
        here_.insert(missing.commit->key.snapshot);
        continue;
      }
      ErrorKind kind = copied.error().kind;
      if (kind != ErrorKind::kDamaged && kind != ErrorKind::kNotFound && kind != ErrorKind::kRefused)
        return std::move(copied).error();
      // One that is damaged, or whose WAL was collected there, must not keep the others from being copied.
      skip(fmt::format("snapshot {}: {}{}{}", id, copied.error().what, copied.error().why.empty() ? "" : ": ",
                       copied.error().why));
    }
    return {};
  }

  Result<void> copy_rest_of_wal() {
    if (here_.empty()) {
      return {};  // without a base it would serve nothing
    }
    uint64_t bytes = 0;
    for (const auto& [name, wal] : wal_) bytes += wal.stored_bytes;
    if (bytes != 0) reporter_.phase(fmt::format("copying the WAL of {}", resource_.name), bytes);
    while (!wal_.empty()) {
      const std::string name = wal_.begin()->first;
      Result<void> copied = copy_wal(name);
      if (copied) continue;
      if (copied.error().kind != ErrorKind::kDamaged || wal_.contains(name)) return copied;
      skip(copied.error().what);
    }
    return {};
  }

  // Holds, their releases, proofs: of snapshots that are here.
  Result<void> copy_words() {
    for (std::string_view prefix : {names::kHolds, names::kProofs}) {
      TRY_ASSIGN(std::vector<ObjectInfo> there, from_.log().list(prefix));
      if (there.empty()) continue;
      TRY_ASSIGN(std::vector<ObjectInfo> here, to_.log().list(prefix));
      for (const ObjectInfo& object : there) {
        std::string_view rest = std::string_view(object.name).substr(prefix.size());
        auto snapshot = SnapshotId::from_hex(rest.substr(0, rest.find('/')));
        bool stands = std::ranges::binary_search(here, object.name, {}, &ObjectInfo::name);
        if (!snapshot || !here_.contains(*snapshot) || stands) continue;
        TRY(copy_verbatim(object.name));
        if (prefix == names::kHolds) outcome_.held.insert(*snapshot);
      }
    }
    return {};
  }

  // A small object under its own name: it says the same wherever it stands.
  Result<void> copy_verbatim(const std::string& name) {
    TRY(transfer_.go_on());
    TRY_ASSIGN(Bytes bytes, from_.log().read_bytes(name));
    Result<Bytes> there = to_.log().read_bytes(name);
    if (there && equal(*there, bytes)) return {};
    if (there) {
      skip(fmt::format("{} stands there with other bytes", name));
      return {};
    }
    if (there.error().kind != ErrorKind::kNotFound) return std::move(there).error();
    TRY(to_.log().put_bytes(name, bytes));
    ++outcome_.sent_objects;
    outcome_.sent_bytes += bytes.size();
    return {};
  }

 private:
  struct Missing {
    const VisibleCommit* commit;
    int64_t keep_until_ns;
  };

  void skip(std::string text) {
    if (std::ranges::find(outcome_.skipped, text) == outcome_.skipped.end())
      outcome_.skipped.push_back(std::move(text));
  }

  void lower_floor(const VisibleCommit& commit) {
    if (!commit.record.wal) return;
    floor_ = floor_ ? std::min(*floor_, commit.record.wal->from) : commit.record.wal->from;
  }

  std::optional<int64_t> kept_until(const VisibleCommit& commit,
                                    const std::vector<const VisibleCommit*>& visible,
                                    const std::vector<ExistingSnapshot>& existing,
                                    const std::map<SnapshotId, int64_t>& retained) const {
    int64_t until = commit.record.keep_until_ns;
    if (auto later = retained.find(commit.key.snapshot); later != retained.end())
      until = std::max(until, later->second);
    std::vector<int64_t> all;
    for (const VisibleCommit* other : visible) all.push_back(other->record.started_ns);
    return copy_kept_until(rule_, commit.record.started_ns, until, all, existing, source_.clock().now());
  }

  Result<void> look_at_wal() {
    if (!floor_) return {};  // no base, neither here nor on its way: WAL would serve nothing
    std::map<std::string, uint64_t> here;
    std::map<std::string, std::string> digests;  // range and kind → digest
    TRY_ASSIGN(std::vector<ObjectInfo> listed_here, to_.log().list(names::wal_prefix(resource_.id)));
    for (const ObjectInfo& object : listed_here) {
      here[object.name] = object.size;
      if (auto wal = names::parse_wal(object.name)) digests[names::wal_claim(*wal)] = wal->digest;
    }
    TRY_ASSIGN(std::vector<ObjectInfo> listed, from_.log().list(names::wal_prefix(resource_.id)));
    for (const ObjectInfo& object : listed) {
      auto wal = names::parse_wal(object.name);
      if (!wal || here.contains(object.name)) continue;
      // Below the floor it would be collected at once; what was condemned must not come again.
      bool history = wal->kind == names::WalKind::kHistory;
      if (!history && wal->to <= *floor_) continue;
      if (!history && rule_.is_archive() && !is_needed(*wal)) continue;
      if (std::ranges::binary_search(condemned_, object.name)) continue;
      auto rival = digests.find(names::wal_claim(*wal));
      if (rival != digests.end() && wal->kind != names::WalKind::kLabel && rival->second != wal->digest) {
        skip(fmt::format("{}: the other vault holds the same WAL with other content (split brain)",
                         object.name));
        continue;
      }
      wal_.emplace(object.name, WalObject{*wal, object.name, object.size});
      if (object.stored_at) stored_at_[object.name] = *object.stored_at;
    }
    return {};
  }

  // Whether a snapshot that is on its way cannot do without it.
  bool is_needed(const names::WalName& wal) const {
    return std::ranges::any_of(missing_, [&](const Missing& missing) {
      return missing.commit->record.wal && overlaps(wal, *missing.commit->record.wal);
    });
  }

  // Everything that the snapshot's own recovery needs, before the snapshot exists here.
  Result<void> copy_wal_of(const VisibleCommit& commit) {
    std::vector<std::string> needed;
    for (const auto& [name, wal] : wal_) {
      bool history = wal.name.kind == names::WalKind::kHistory;
      if (history || (commit.record.wal && overlaps(wal.name, *commit.record.wal))) needed.push_back(name);
    }
    for (const std::string& name : needed) TRY(copy_wal(name));
    // Some of it may have been collected there: whoever stands still long enough is taken for dead, and what
    // it read is not kept any more.
    if (commit.record.wal) TRY(must_hold_wal(replica_.store(), resource_.id, *commit.record.wal));
    return {};
  }

  Result<void> copy_wal(const std::string& name) {
    TRY(transfer_.go_on());
    auto wal = wal_.find(name);
    // WAL keeps its name, so nothing damaged may ever be put under it.
    Result<void> sound = verify_pack_bytes(source_.store(), name, nullptr);
    if (!sound) {
      wal_.erase(wal);
      if (sound.error().kind == ErrorKind::kNotFound) return {};  // collected since it was listed
      return std::move(sound).error().within(source_.store().location());
    }
    TRY_ASSIGN(uint64_t sent, send_object(source_.store(), name, replica_.store(), name, reporter_));
    if (auto whole = verify_pack_bytes(replica_.store(), name, nullptr); !whole)
      return std::move(whole).error().within(replica_.store().location());
    ++outcome_.wal_objects;
    ++outcome_.sent_objects;
    outcome_.sent_bytes += sent;
    wal_.erase(wal);
    return {};
  }

  Vault& source_;
  Vault& replica_;
  const ResourceRecord& resource_;
  const CopyRule& rule_;
  Ledger& from_;
  Ledger& to_;
  Reporter& reporter_;
  VaultTransfer& transfer_;
  CopyOutcome& outcome_;
  std::set<SnapshotId> here_;
  std::vector<Missing> missing_;
  std::map<std::string, WalObject> wal_;  // missing in the replica
  std::map<std::string, Time> stored_at_;
  std::vector<std::string> condemned_;
  std::optional<uint64_t> floor_;
};

Result<void> must_be_two_of_a_family(Vault& source, Vault& replica) {
  if (source.info().id == replica.info().id) {
    return fail(ErrorKind::kRefused, "a vault cannot be copied to itself",
                fmt::format("both are {}", source.info().id.hex()), "name another vault: --to VAULT");
  }
  if (source.info().family == replica.info().family) return {};
  return fail(ErrorKind::kRefused, "the two vaults are of different key families",
              fmt::format("{} is of {}, {} of {}", source.store().location(), source.info().family.hex(),
                          replica.store().location(), replica.info().family.hex()),
              "make the second vault with the key file of the first, or name a key that can read the first");
}

}  // namespace

Result<CopyOutcome> copy_vault(Vault& source, Vault& replica, const CopyRequest& request, Reporter& reporter,
                               std::stop_token stop) {
  const bool measure = request.mode == CopyRequest::Mode::kMeasure;
  if (!measure) TRY(must_be_allowed(replica, Act::kPrune));
  TRY(must_be_two_of_a_family(source, replica));
  Duration began = source.clock().steady();
  CopyOutcome outcome;
  TRY_ASSIGN(std::vector<ResourceRecord> resources, source.resources());
  if (!request.resource.empty()) {
    TRY_ASSIGN(ResourceRecord only, source.resource(request.resource));
    resources = {only};
  }
  Protocol from_protocol = protocol_of(source), to_protocol = protocol_of(replica);
  Ledger from(from_protocol), to(to_protocol);
  put_readable(replica.store());
  VaultTransfer transfer(source, replica, reporter, stop);
  const CopyRule as_in_source;
  auto with = [&](const ResourceRecord& resource) {
    auto rule = request.rules.find(resource.name);
    return ResourceCopy(source, replica, resource, rule == request.rules.end() ? as_in_source : rule->second,
                        from, to, reporter, transfer, outcome);
  };
  for (const ResourceRecord& resource : resources) {
    ResourceCopy copy = with(resource);
    TRY(copy.look());
    copy.add_to(outcome.before);
    if (measure) continue;
    // Who may have signed what, before anything that was signed.
    TRY_ASSIGN(std::vector<ObjectInfo> signers, from.log().list(names::kSigners));
    for (const ObjectInfo& object : signers) TRY(copy.copy_verbatim(object.name));
    auto there = replica.read<ResourceRecord>(names::resource(resource.id), RecordType::kResource);
    if (!there && there.error().kind == ErrorKind::kNotFound) {
      TRY(copy.copy_verbatim(names::resource(resource.id)));
    } else if (!there) {
      return std::move(there).error();
    } else if (*there != resource) {
      return fail(ErrorKind::kRefused,
                  fmt::format("{} is another resource in the second vault", resource.name),
                  fmt::format("its system is {} there, {} here", there->system, resource.system),
                  "copy to a vault of its own");
    }
    TRY(copy.copy_snapshots());
    TRY(copy.copy_rest_of_wal());
    TRY(copy.copy_words());
    TRY(copy.look());
    copy.add_to(outcome.after);
  }
  if (measure) outcome.after = outcome.before;
  outcome.seconds = std::chrono::duration<double>(source.clock().steady() - began).count();
  return outcome;
}

}  // namespace kuramori
