// The order is a backup's (engine/backup.h), with a snapshot in place of a server: session, packs, maps, the
// WAL of the snapshot's own span, then the commit. A crash leaves what the second vault's next collection
// removes.
#include "engine/reseal.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "crypto/digest.h"
#include "engine/locks.h"
#include "engine/open_vault.h"
#include "engine/reading.h"
#include "engine/roles.h"
#include "engine/snapshots.h"
#include "engine/thaw.h"
#include "vault/content_writer.h"
#include "vault/holds.h"
#include "vault/ledger.h"
#include "vault/session.h"
#include "vault/snapshot_reader.h"
#include "vault/tree_writer.h"
#include "vault/wal_object.h"

namespace kuramori {
namespace {

constexpr uint32_t kPagesAtOnce = 128;  // 1 MiB
constexpr int kAttemptsMax = 3;         // at one snapshot, when the replica's collector fenced the session

// Where each page of a file lies: equal places of one vault hold equal pages, since no place is used twice.
struct Place {
  uint32_t pack = kZeroPack;
  uint64_t slot = 0;
  bool operator==(const Place&) const = default;
};
using PackNumbers = std::unordered_map<std::string, uint32_t>;

std::vector<Place> places_of(const ResolvedPages& pages, const FilePages& file, PackNumbers& numbers) {
  std::vector<Place> places(file.pages);
  for (const PageRun& run : file.runs) {
    if (run.pack == kZeroPack) continue;
    const auto number = static_cast<uint32_t>(numbers.size());
    const uint32_t pack = numbers.try_emplace(pages.packs[run.pack], number).first->second;
    const uint64_t first = uint64_t{run.frame} * kPagesPerFrame + run.slot;
    for (uint32_t i = 0; i < run.count && run.page + i < file.pages; ++i)
      places[run.page + i] = {pack, first + i};
  }
  return places;
}

bool overlaps(const names::WalName& wal, const WalSpan& span) {
  return wal.timeline == span.timeline && wal.from < span.to && wal.to > span.from;
}

class ResourceReseal {
 public:
  ResourceReseal(Vault& source, Vault& replica, ResourceRecord from, ResourceRecord to, const CopyRule& rule,
                 const std::optional<Period>& lock, Reporter& reporter, std::stop_token stop,
                 CopyOutcome& outcome)
      : source_(source),
        replica_(replica),
        from_(std::move(from)),
        to_(std::move(to)),
        rule_(rule),
        lock_(lock),
        reporter_(reporter),
        stop_(std::move(stop)),
        outcome_(outcome) {}

  // Looks at both sides anew.
  Result<void> look() {
    missing_.clear();
    wal_.clear();
    TRY_ASSIGN(there_, list_snapshots(source_, from_.id));
    TRY_ASSIGN(here_, list_snapshots(replica_, to_.id));
    for (const Unverifiable& bad : there_.unverifiable)
      skip(fmt::format("{} cannot be verified: {}", bad.name, bad.error.what));
    Protocol protocol = protocol_of(replica_);
    Ledger ledger(protocol);
    std::set<SnapshotId> known;
    TRY_ASSIGN(const CommitListing commits, ledger.read_commits());
    for (const std::string& name : commits.pruned) {
      if (auto key = names::parse_commit(name)) known.insert(key->snapshot);
    }
    std::optional<uint64_t> floor;
    auto lower = [&](const CommitRecord& commit) {
      if (commit.wal) floor = floor ? std::min(*floor, commit.wal->from) : commit.wal->from;
    };
    std::vector<ExistingSnapshot> existing;
    for (const Snapshot& snapshot : here_.snapshots) {
      known.insert(snapshot.commit.snapshot);
      existing.push_back({from_unix_ns(snapshot.commit.started_ns), from_unix_ns(snapshot.keep_until_ns)});
      lower(snapshot.commit);
    }
    std::vector<int64_t> all;
    for (const Snapshot& snapshot : there_.snapshots) all.push_back(snapshot.commit.started_ns);
    for (const Snapshot& snapshot : there_.snapshots) {
      if (known.contains(snapshot.commit.snapshot)) continue;
      auto until = copy_kept_until(rule_, snapshot.commit.started_ns, snapshot.keep_until_ns, all, existing,
                                   source_.clock().now());
      if (!until) continue;
      existing.push_back({from_unix_ns(snapshot.commit.started_ns), from_unix_ns(*until)});
      missing_.push_back({&snapshot, *until});
      lower(snapshot.commit);
    }
    return look_at_wal(ledger, floor);
  }

  void add_to(CopyLag& lag) const {
    auto since = [&](int64_t ns) {
      const Time time = from_unix_ns(ns);
      lag.oldest = lag.oldest ? std::min(*lag.oldest, time) : time;
    };
    for (const Missing& missing : missing_) {
      ++lag.snapshots;
      lag.bytes += missing.snapshot->commit.added_bytes;
      since(missing.snapshot->commit.finished_ns);
    }
    for (const WalObject& wal : wal_) {
      ++lag.wal_objects;
      lag.bytes += wal.stored_bytes;
    }
  }

  Result<void> copy() {
    for (const Missing& missing : missing_) {
      Result<void> done = copy_snapshot(missing);
      for (int attempt = 1; !done && done.error().kind == ErrorKind::kRefused && attempt < kAttemptsMax;
           ++attempt)
        done = copy_snapshot(missing);
      if (done) continue;
      const Error& error = done.error();
      if (error.kind != ErrorKind::kDamaged && error.kind != ErrorKind::kNotFound &&
          error.kind != ErrorKind::kRefused)
        return done;
      // One that is damaged must not keep the others from being copied.
      skip(fmt::format("snapshot {}: {}{}{}", missing.snapshot->commit.snapshot.hex(), error.what,
                       error.why.empty() ? "" : ": ", error.why));
    }
    if (!here_.snapshots.empty()) TRY(copy_wal([](const WalObject&) { return true; }));
    return copy_holds();
  }

 private:
  struct Missing {
    const Snapshot* snapshot;
    int64_t keep_until_ns;
  };

  // What the new one builds on: the newest before it that both vaults have, of a writer that this key
  // believes.
  struct Base {
    const Snapshot* there = nullptr;
    const Snapshot* here = nullptr;
  };

  void skip(std::string text) {
    if (std::ranges::find(outcome_.skipped, text) == outcome_.skipped.end())
      outcome_.skipped.push_back(std::move(text));
  }

  Result<void> go_on() {
    if (!stop_.stop_requested()) return {};
    return fail(ErrorKind::kInterrupted, "the copy was interrupted", "whole snapshots stay",
                "run the same command again: it goes on from there");
  }

  Result<void> look_at_wal(Ledger& ledger, std::optional<uint64_t> floor) {
    std::map<std::string, int> held;
    TRY_ASSIGN(const WalListing here, list_wal(replica_.store(), to_.id));
    for (const WalObject& object : here.objects) ++held[names::wal_claim(object.name)];
    // What was condemned must not come again.
    TRY_ASSIGN(const std::vector<GcRound> rounds, ledger.read_gc());
    for (const std::string& name : condemned_by(rounds)) {
      if (auto wal = names::parse_wal(name); wal && wal->resource == to_.id) ++held[names::wal_claim(*wal)];
    }
    TRY_ASSIGN(WalListing there, list_wal(source_.store(), from_.id));
    for (WalObject& object : there.objects) {
      if (--held[names::wal_claim(object.name)] >= 0) continue;
      const bool history = object.name.kind == names::WalKind::kHistory;
      if (!history && (!floor || object.name.to <= *floor)) continue;  // it would be collected at once
      wal_.push_back(std::move(object));
    }
    return {};
  }

  Base base_for(const Snapshot& snapshot) const {
    const SignerId self = signer_id(replica_.keys().signing->verify_key());
    const SignerId owner = signer_id(replica_.keys().owner_verify);
    Base base;
    for (const Snapshot& here : here_.snapshots) {
      if (here.commit.started_ns >= snapshot.commit.started_ns ||
          (here.signer != self && here.signer != owner))
        continue;
      auto there = std::ranges::find(there_.snapshots, here.commit.snapshot,
                                     [](const Snapshot& one) { return one.commit.snapshot; });
      if (there != there_.snapshots.end()) base = {&*there, &here};
    }
    return base;
  }

  Result<void> copy_snapshot(const Missing& missing) {
    TRY(go_on());
    const Snapshot& snapshot = *missing.snapshot;
    const std::string id = snapshot.commit.snapshot.hex();
    reporter_.phase(fmt::format("sealing snapshot {} of {} anew", id, from_.name),
                    snapshot.commit.size_bytes);
    Protocol from_protocol = protocol_of(source_), to_protocol = protocol_of(replica_);
    TRY_ASSIGN(ReaderSession reading,
               ReaderSession::open(from_protocol, reader_of(from_.id, {snapshot.commit_name})));
    struct EndReading {
      ReaderSession& session;
      ~EndReading() { (void)session.end(); }  // tidiness; a keeper ends it otherwise
    } end_reading{reading};
    Base wanted = base_for(snapshot);
    WriterOptions options{.kind = SessionKind::kWrite,
                          .resource = to_.id,
                          .snapshot = snapshot.commit.snapshot,
                          .closed = true,
                          .host = host_name()};
    if (snapshot.commit.wal) {
      options.wal_timeline = snapshot.commit.wal->timeline;
      options.wal_floor = snapshot.commit.wal->from;
    }
    if (wanted.here) options.parents.push_back(wanted.here->commit_name);
    TRY_ASSIGN(auto session, WriterSession::open(to_protocol, std::move(options)));
    struct GiveUp {
      WriterSession& session;
      bool armed = true;
      ~GiveUp() {
        if (armed) (void)session.abandon("the copy failed or was interrupted");
      }
    } give_up{*session};
    if (session->parents().empty()) wanted = {};
    TRY(drop_unlocked(wanted));

    ContentWriter writer(replica_.store(), replica_.keys(), replica_.random(), replica_.clock(),
                         session->id(), to_.id);
    CommitRecord commit{.kind = snapshot.commit.kind,
                        .started_ns = snapshot.commit.started_ns,
                        .finished_ns = snapshot.commit.finished_ns,
                        .keep_until_ns = missing.keep_until_ns,
                        .plan = snapshot.commit.plan,
                        .label = snapshot.commit.label,
                        .tags = snapshot.commit.tags,
                        .wal = snapshot.commit.wal,
                        .facts = snapshot.commit.facts,
                        .defects = snapshot.commit.defects};
    TRY_ASSIGN(const LiveRecord live, seal_content(snapshot, wanted, *session, writer, commit));
    TRY(read_back(live, commit, *session));
    if (snapshot.commit.wal) {
      TRY(copy_wal([&](const WalObject& wal) {
        return wal.name.kind == names::WalKind::kHistory || overlaps(wal.name, *snapshot.commit.wal);
      }));
      // Some of it may have been collected there meanwhile, or not be what it says.
      TRY(must_hold_wal(replica_.store(), to_.id, *snapshot.commit.wal));
    }
    if (!here_.snapshots.empty()) {
      commit.previous = here_.snapshots.back().commit_name;
      commit.previous_digest = here_.snapshots.back().commit_digest;
    }
    give_up.armed = false;
    const uint64_t added = commit.added_bytes;
    TRY(session->commit(std::move(commit), live));
    ++outcome_.snapshots;
    outcome_.sent_objects += live.packs.size();
    outcome_.sent_bytes += added;
    // The next one may build on it.
    TRY_ASSIGN(here_, list_snapshots(replica_, to_.id));
    return {};
  }

  // Somebody who keeps the vault locks on what the new one will need, but looks only now and then (V22).
  Result<void> drop_unlocked(Base& base) {
    if (!base.here || !lock_) return {};
    const Time must_reach = next_look(*lock_, replica_.clock().now());
    TRY_ASSIGN(const std::string why, why_not_locked(replica_, *base.here, must_reach, stop_));
    if (!why.empty()) base = {};
    return {};
  }

  // A tree's content is cut anew, since cuts and ids are the other family's: what is there already is found
  // by its chunks, not by where it stood.
  Result<LiveRecord> seal_tree(const SnapshotReader& reader, const Base& wanted, WriterSession& session,
                               CommitRecord& commit) {
    std::optional<TreeBase> base;
    if (wanted.here) {
      TRY_ASSIGN(base, open_tree_base(replica_.store(), replica_.keys(), replica_.codec(),
                                      wanted.here->commit_name, wanted.here->commit, ""));
    }
    TreeWriter writer(replica_.store(), replica_.keys(), replica_.random(), replica_.clock(), session.id(),
                      to_.id, base ? &*base : nullptr);
    auto lane = writer.lane();
    SnapshotReader::Context context;
    Bytes bytes;
    TRY(reader.visit([&](TreeNode&& node) -> Result<void> {
      TRY(go_on());
      StoredContent content;
      if (node.entry.content == ContentKind::kBytes) {
        for (const Extent& extent : node.extents) {
          if (extent.pack == kHolePack) {
            TRY(lane->add_hole(extent.bytes));
            continue;
          }
          bytes.clear();
          TRY(reader.read_extent(extent, context, bytes));
          TRY(lane->add(bytes));
          reporter_.advance(bytes.size());
        }
        TRY_ASSIGN(content, lane->end());
      }
      return writer.add_entry(node.entry, content);
    }));
    TRY(lane->finish());
    TRY_ASSIGN(LiveRecord live, writer.finish(commit, [&session] { return session.next_map_name(); }));
    commit.size_bytes = reader.commit().size_bytes;
    return live;
  }

  Result<LiveRecord> seal_content(const Snapshot& snapshot, const Base& wanted, WriterSession& session,
                                  ContentWriter& writer, CommitRecord& commit) {
    TRY_ASSIGN(auto reader, SnapshotReader::open(source_.store(), source_.keys(), source_.codec(),
                                                 snapshot.commit_name, snapshot.commit));
    if (reader->is_in_segments()) return seal_tree(*reader, wanted, session, commit);
    auto open_pages = [](Vault& vault, const Snapshot& one) {
      return open_base(vault.store(), vault.keys(), vault.codec(), one.commit_name, one.commit);
    };
    TRY_ASSIGN(const BaseSnapshot now, open_pages(source_, snapshot));
    std::optional<BaseSnapshot> older, base;
    if (wanted.here) {
      TRY_ASSIGN(older, open_pages(source_, *wanted.there));
      TRY_ASSIGN(base, open_pages(replica_, *wanted.here));
    }
    const Secret source_names = path_key(source_.keys(), from_.id), names = path_key(replica_.keys(), to_.id);
    auto lane = writer.lane();
    SnapshotReader::Context context;
    PackNumbers packs;
    std::vector<CapturedFile> files;
    for (const TreeNode& node : reader->tree().nodes) {
      TRY(go_on());
      CapturedFile file{.entry = node.entry, .index = static_cast<uint32_t>(files.size())};
      if (node.entry.content == ContentKind::kBytes) {
        for (const Extent& extent : node.extents) {
          Bytes bytes;
          TRY(reader->read_extent(extent, context, bytes));
          TRY(lane->add_bytes(file.index, bytes));
          reporter_.advance(bytes.size());
        }
      } else if (node.entry.content == ContentKind::kPages) {
        TRY_ASSIGN(const FilePages* pages, reader->pages_of(node.entry.path));
        file.inode = pages->inode;
        file.birth_ns = pages->birth_ns;
        std::vector<Place> before;
        const FileKey key = file_key(source_names.view(), node.entry.path);
        if (base) {
          auto was = older->pages.files.find(key);
          auto stands = base->pages.files.find(file_key(names.view(), node.entry.path));
          file.on_base = was != older->pages.files.end() && stands != base->pages.files.end() &&
                         was->second.pages == stands->second.pages;
          if (file.on_base) before = places_of(older->pages, was->second, packs);
        }
        auto entry = now.pages.files.find(key);
        if (entry == now.pages.files.end()) {
          return fail(ErrorKind::kDamaged,
                      fmt::format("no page map of {} knows {}", snapshot.commit_name, key.hex()));
        }
        const std::vector<Place> after = places_of(now.pages, entry->second, packs);
        TRY(seal_pages(*reader, *pages, before, after, file, *lane, context));
      }
      files.push_back(std::move(file));
    }
    TRY(lane->finish());
    return writer.finish(std::move(files), base ? &*base : nullptr, commit);
  }

  // Those that the base does not hold already.
  Result<void> seal_pages(const SnapshotReader& reader, const FilePages& pages,
                          const std::vector<Place>& before, const std::vector<Place>& after,
                          const CapturedFile& file, ContentWriter::Lane& lane,
                          SnapshotReader::Context& context) {
    const auto count = static_cast<uint32_t>(after.size());
    auto is_there = [&](uint32_t page) {
      return file.on_base && page < before.size() && before[page] == after[page];
    };
    Bytes bytes;
    for (uint32_t page = 0; page < count;) {
      if (is_there(page)) {
        ++page;
        continue;
      }
      uint32_t end = page + 1;
      while (end < count && end - page < kPagesAtOnce && !is_there(end)) ++end;
      TRY(go_on());
      bytes.resize(size_t{end - page} * kPageBytes);
      TRY(reader.read_pages(pages, page, bytes, context));
      TRY(lane.add_pages(file.index, page, bytes));
      reporter_.advance(bytes.size());
      page = end;
    }
    return {};
  }

  // What this session put, from the store: a copy is checked by reading it, not by having been sent.
  Result<void> read_back(const LiveRecord& live, const CommitRecord& commit, const WriterSession& session) {
    for (const LivePack& pack : live.packs) {
      if (names::owner_of(pack.name) != session.id()) continue;
      TRY(go_on());
      if (auto whole = ::kuramori::read_back(replica_.store(), pack.name, pack); !whole)
        return std::move(whole).error().within(replica_.store().location());
    }
    for (const ObjectRef& map : commit.maps) TRY(get_bound(replica_.store(), map));
    return {};
  }

  template <class Wanted>
  Result<void> copy_wal(Wanted&& wanted) {
    std::vector<WalObject> left;
    for (WalObject& object : wal_) {
      if (!wanted(object)) {
        left.push_back(std::move(object));
        continue;
      }
      TRY(go_on());
      Result<void> done = copy_wal_object(object);
      if (done) continue;
      ErrorKind kind = done.error().kind;
      if (kind == ErrorKind::kNotFound) continue;  // collected since it was listed
      if (kind != ErrorKind::kDamaged && kind != ErrorKind::kRefused) return done;
      skip(done.error().what);
    }
    wal_ = std::move(left);
    return {};
  }

  Result<void> copy_wal_object(const WalObject& object) {
    TRY_ASSIGN(WalHeader header,
               read_wal_header(source_.store(), source_.keys(), object.object, &source_.codec().signers()));
    TRY_ASSIGN(const Bytes content, get_wal(source_, object));
    names::WalName name = object.name;
    TRY_ASSIGN(const WalPut put, put_wal(replica_, to_.id, name.kind, std::move(header), content));
    if (put == WalPut::kAlreadyThere) return {};
    // Read back, under the name it was given there.
    name.resource = to_.id;
    name.digest = hmac_sha256(wal_digest_key(replica_.keys(), to_.id).view(), content)
                      .hex()
                      .substr(0, name.digest.size());
    const std::string stored = names::wal(name);
    TRY(read_wal_header(replica_.store(), replica_.keys(), stored, &replica_.codec().signers()));
    if (auto whole = verify_pack_bytes(replica_.store(), stored, nullptr); !whole)
      return std::move(whole).error().within(replica_.store().location());
    TRY_ASSIGN(const ObjectInfo info, replica_.store().head(stored));
    outcome_.sent_bytes += info.size;
    ++outcome_.wal_objects;
    ++outcome_.sent_objects;
    return {};
  }

  // By name; a hold that was released there is left to people here.
  Result<void> copy_holds() {
    Protocol protocol = protocol_of(replica_);
    for (const Snapshot& there : there_.snapshots) {
      auto here = std::ranges::find(here_.snapshots, there.commit.snapshot,
                                    [](const Snapshot& one) { return one.commit.snapshot; });
      if (here == here_.snapshots.end()) continue;
      for (const HoldRecord& hold : there.holds) {
        if (std::ranges::find(here->holds, hold.name, &HoldRecord::name) != here->holds.end()) continue;
        if (auto may = must_be_allowed(replica_, Act::kHold); !may) {
          skip(fmt::format("the hold {} of snapshot {}: {}", hold.name, there.commit.snapshot.hex(),
                           may.error().what));
          continue;
        }
        TRY(place_hold(protocol, there.commit.snapshot, hold.name, hold.reason));
        outcome_.held.insert(there.commit.snapshot);
      }
    }
    return {};
  }

  Vault& source_;
  Vault& replica_;
  const ResourceRecord from_, to_;
  const CopyRule& rule_;
  const std::optional<Period>& lock_;
  Reporter& reporter_;
  std::stop_token stop_;
  CopyOutcome& outcome_;
  SnapshotList there_, here_;
  std::vector<Missing> missing_;  // oldest first
  std::vector<WalObject> wal_;    // missing in the replica
};

}  // namespace

Result<CopyOutcome> reseal_vault(Vault& source, Vault& replica, const CopyRequest& request,
                                 const std::optional<Period>& lock, Reporter& reporter,
                                 std::stop_token stop) {
  const bool measure = request.mode == CopyRequest::Mode::kMeasure;
  auto may =
      measure ? Result<void>() : must_be_allowed(source, Act::kReadContent);  // measuring opens nothing
  if (!may) {
    Error error = std::move(may).error();
    error.why =
        "the two vaults are of different key families: what is copied must be opened and sealed anew" +
        (error.why.empty() ? "" : "; " + error.why);
    error.next = "name a reader's key of the first vault, or make the second with the key file of the first";
    return error;
  }
  if (!measure) {
    put_readable(replica.store());
    TRY(must_be_allowed(replica, Act::kAddSnapshots));
    TRY(must_be_allowed(replica, Act::kArchive));
  }
  const Duration began = source.clock().steady();
  CopyOutcome outcome;
  TRY_ASSIGN(std::vector<ResourceRecord> resources, source.resources());
  if (!request.resource.empty()) {
    TRY_ASSIGN(ResourceRecord only, source.resource(request.resource));
    resources = {only};
  }
  const CopyRule as_in_source;
  for (const ResourceRecord& resource : resources) {
    ResourceRecord to;
    if (measure) {
      auto there = replica.resource(resource.name);
      if (!there && there.error().kind != ErrorKind::kUsage) return std::move(there).error();
      if (there) to = *there;
    } else {
      TRY_ASSIGN(to, replica.ensure_resource(resource.name, resource.kind, resource.system));
    }
    auto rule = request.rules.find(resource.name);
    ResourceReseal copy(source, replica, resource, to,
                        rule == request.rules.end() ? as_in_source : rule->second, lock, reporter, stop,
                        outcome);
    TRY(copy.look());
    copy.add_to(outcome.before);
    if (measure) continue;
    TRY(copy.copy());
    TRY(copy.look());
    copy.add_to(outcome.after);
  }
  if (measure) outcome.after = outcome.before;
  outcome.seconds = std::chrono::duration<double>(source.clock().steady() - began).count();
  return outcome;
}

}  // namespace kuramori
