// The order, and why a crash after each step is harmless:
//   1. the session stands                       — a collector now spares what it names; a dead one is fenced
//   later
//   2. pg_backup_start, copy, pg_backup_stop    — the server's backup mode ends with our connection
//   3. packs, maps                              — nothing refers to them yet: garbage for the next collection
//   4. the WAL from start to stop               — filed like any other WAL
//   5. the live record, then the commit         — the snapshot exists exactly when the commit does
#include "engine/backup.h"

#include <fmt/core.h>
#include <malloc.h>

#include <algorithm>
#include <mutex>
#include <numeric>
#include <utility>

#include "conc/task_group.h"
#include "crypto/digest.h"
#include "engine/changes_since.h"
#include "engine/locks.h"
#include "engine/older_files.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "engine/snapshots.h"
#include "engine/untouched_maps.h"
#include "engine/wal.h"
#include "os/file.h"
#include "source/postgres/backup_label.h"
#include "source/postgres/checks.h"
#include "source/postgres/connection.h"
#include "source/postgres/server.h"
#include "vault/content_writer.h"
#include "vault/holds.h"
#include "vault/session.h"
#include "vault/snapshot_reader.h"

namespace kuramori {
namespace {

using postgres::Capture;
using postgres::CaptureFile;

// Files that we add to the server's own, numbered past any of the source's.
constexpr uint32_t kOwnFilesFrom = 0xf0000000;
constexpr std::string_view kOwnFolder = ".kuramori";
constexpr uint32_t kChangesAreSentFrom = 170000;  // PG_VERSION_NUM: over the wire
constexpr std::string_view kTablespaceFolder = "pg_tblspc/";
constexpr Duration kStandbyWalLimit =
    std::chrono::minutes(10);  // until the primary has filled the last segment
constexpr Duration kStandbyWalPause = std::chrono::milliseconds(500);

// The lane a source writes to, in the vault's words.
class VaultLane final : public CaptureLane {
 public:
  VaultLane(ContentWriter& writer, Reporter& reporter, std::stop_token stop)
      : lane_(writer.lane()), reporter_(reporter), stop_(std::move(stop)) {}
  Result<void> add_pages(uint32_t file, uint32_t first_page, ByteView pages) override {
    TRY(go_on());
    return lane_->add_pages(file, first_page, pages);
  }
  Result<void> add_bytes(uint32_t file, ByteView bytes) override {
    TRY(go_on());
    return lane_->add_bytes(file, bytes);
  }
  Result<void> finish() { return lane_->finish(); }

 private:
  Result<void> go_on() {
    if (!stop_.stop_requested()) return {};
    return fail(ErrorKind::kInterrupted, "the backup was interrupted",
                "what it had uploaded is removed by the next collection");
  }
  std::unique_ptr<ContentWriter::Lane> lane_;
  Reporter& reporter_;
  std::stop_token stop_;
};

// Keeps the lanes that the capture's threads use, so that they can be finished when those are done.
class Lanes {
 public:
  Lanes(ContentWriter& writer, Reporter& reporter, std::stop_token stop)
      : writer_(writer), reporter_(reporter), stop_(std::move(stop)) {}

  std::unique_ptr<CaptureLane> make() {
    auto lane = std::make_shared<VaultLane>(writer_, reporter_, stop_);
    std::lock_guard lock(mutex_);
    lanes_.push_back(lane);
    return std::make_unique<Handle>(lane);
  }
  Result<void> finish() {
    for (auto& lane : std::exchange(lanes_, {})) TRY(lane->finish());
    return {};
  }

 private:
  // shared_ptr: the capture drops its handle when a worker ends, the lane must live until finish().
  struct Handle final : CaptureLane {
    explicit Handle(std::shared_ptr<VaultLane> to) : lane(std::move(to)) {}
    Result<void> add_pages(uint32_t file, uint32_t first_page, ByteView pages) override {
      return lane->add_pages(file, first_page, pages);
    }
    Result<void> add_bytes(uint32_t file, ByteView bytes) override { return lane->add_bytes(file, bytes); }
    std::shared_ptr<VaultLane> lane;
  };
  ContentWriter& writer_;
  Reporter& reporter_;
  std::stop_token stop_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<VaultLane>> lanes_;
};

// May the new snapshot leave out pages whose LSN did not move since `base`? Empty: yes; otherwise why not
// (details.md, "A page is unchanged by its LSN only if").
Result<std::string> why_not_on(const CommitRecord& base, const postgres::CaptureStart& now) {
  TRY_ASSIGN(uint64_t timeline, number_fact(base, "postgres.timeline"));
  TRY_ASSIGN(uint64_t checksums, number_fact(base, "postgres.checksums"));
  TRY_ASSIGN(uint64_t version, number_fact(base, "postgres.version"));
  TRY_ASSIGN(uint64_t start, number_fact(base, "postgres.start_lsn"));
  TRY_ASSIGN(std::string wal_level, fact(base, "postgres.wal_level"));
  if (timeline != now.timeline)
    return fmt::format("the timeline changed from {} to {}", timeline, now.timeline);
  if (checksums != now.checksum_version) return std::string("page checksums were switched on or off");
  if (version / 10000 != now.server_version / 10000) return std::string("the server's major version changed");
  if (start > now.start_lsn) return std::string("the base lies in this cluster's future: it was set back");
  if (wal_level == "minimal" || now.wal_level == "minimal") return std::string("wal_level is or was minimal");
  if (!base.defects.empty()) return std::string("the base has damaged pages");
  return std::string();
}

// What the archive holds of one segment, when it is there and can be believed. A snapshot that rests on WAL
// which two servers wrote differently, or which was not written with this vault's keys, could not be
// restored.
Result<const WalObject*> find_archived(Vault& vault, const WalListing& listing, uint64_t from,
                                       std::string_view name) {
  const WalObject* found = nullptr;
  for (const WalObject& object : listing.objects) {
    if (object.name.kind != names::WalKind::kSegment || object.name.from != from) continue;
    if (found != nullptr && found->name.digest != object.name.digest) {
      return fail(ErrorKind::kRefused, fmt::format("the archive holds {} with two contents", name),
                  fmt::format("two servers write this timeline: {}, {}", found->object, object.object),
                  "stop the one that should not run, see kuramori wal show; then run the backup again");
    }
    found = &object;
  }
  if (found != nullptr)
    TRY(read_wal_header(vault.store(), vault.keys(), found->object, &vault.codec().signers()));
  return found;
}

// What was archived of a finished segment is what the server has, or it is of another history: of a second
// server with this timeline, or of this one before its disks were set back. From such WAL nothing that is
// captured now could be brought to a consistent state.
Result<void> must_be_archived_from_here(Vault& vault, const ResourceRecord& resource, Capture& capture,
                                        const WalObject& object, std::string_view name) {
  auto bytes = capture.wal_segment_so_far(name);
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return {};  // archived from here, and recycled
  if (!bytes) return bytes.error();
  const Digest digest = hmac_sha256(wal_digest_key(vault.keys(), resource.id).view(), *bytes);
  if (digest.hex().starts_with(object.name.digest)) return {};
  return fail(ErrorKind::kRefused,
              fmt::format("{} is archived with other content than this server has", name),
              fmt::format("the archive holds {} of another history: a second server writes this timeline, or "
                          "this cluster was set back by its disks",
                          object.object),
              "stop the one that should not run; one that was set back needs a timeline of its own: stop it, "
              "touch standby.signal in its data directory, start it, pg_ctl promote");
}

// The same of the segment in which the capture begins, before a terabyte is read for nothing: only this
// server can have ended it.
Result<void> must_begin_in_this_history(Vault& vault, const ResourceRecord& resource, Capture& capture) {
  const postgres::CaptureStart& start = capture.start();
  if (start.in_recovery) return {};
  const uint64_t from = postgres::segment_number(start.start_lsn, start.segment_bytes) * start.segment_bytes;
  const std::string name = postgres::segment_name(start.timeline, from, start.segment_bytes);
  TRY_ASSIGN(const WalListing listing, list_wal(vault.store(), resource.id, start.timeline));
  TRY_ASSIGN(const WalObject* there, find_archived(vault, listing, from, name));
  if (there == nullptr) return {};
  return must_be_archived_from_here(vault, resource, capture, *there, name);
}

// Whatever of the snapshot's WAL the archiver has not delivered yet, taken from the server itself: a snapshot
// never depends on an archiver that may be behind or broken. A standby's last segment is still being
// received, though: it is awaited, since half of it under its name would bar the whole one from the archive
// for ever.
Result<uint64_t> complete_wal(Vault& vault, const ResourceRecord& resource, Capture& capture,
                              const postgres::CaptureStart& start, postgres::Lsn stop, Reporter& reporter,
                              const std::stop_token& interrupted) {
  TRY_ASSIGN(WalListing listing, list_wal(vault.store(), resource.id, start.timeline));
  const uint64_t last = postgres::segment_number_before(stop, start.segment_bytes);
  const Duration deadline = vault.clock().steady() + kStandbyWalLimit;
  const postgres::ReadEarlierWal earlier = capture.earlier_wal();
  const uint64_t first = postgres::segment_number(start.start_lsn, start.segment_bytes);
  uint64_t added = 0;
  bool told = false;
  for (uint64_t number = first; number <= last;) {
    const uint64_t from = number * start.segment_bytes;
    const std::string name = postgres::segment_name(start.timeline, from, start.segment_bytes);
    TRY_ASSIGN(const WalObject* there, find_archived(vault, listing, from, name));
    // An archiver stops at the first segment that another history has: the ends tell of those between. (A
    // standby's copy may differ behind the last record.)
    if (there != nullptr && !start.in_recovery && (number == first || number == last))
      TRY(must_be_archived_from_here(vault, resource, capture, *there, name));
    if (there == nullptr) {
      auto content = capture.wal_segment(name);
      if (!content && content.error().kind == ErrorKind::kPartial) {
        if (interrupted.stop_requested()) return fail(ErrorKind::kInterrupted, "the backup was interrupted");
        if (vault.clock().steady() > deadline) {
          content.error().kind = ErrorKind::kFailed;
          return content.error();
        }
        if (!told) reporter.note(content.error().what + ": waiting for it; " + content.error().next);
        told = true;
        vault.clock().sleep(kStandbyWalPause);
        TRY_ASSIGN(listing, list_wal(vault.store(), resource.id, start.timeline));
        continue;
      }
      if (!content) return content.error();
      TRY_ASSIGN(WalPut put, push_wal_bytes(vault, resource, name, *content, earlier));
      if (put == WalPut::kStored) ++added;
    }
    ++number;
  }
  return added;
}

// Of a file that is always read whole: what tells the next snapshot that it did not change. Its inode and
// birth do not, so the page map has this in their places (docs/vault-format.md, "Page maps").
struct WholeFile {
  std::array<uint64_t, 2> digest;
  bool is_as_before = false;
};
WholeFile whole_file(ByteView path_key, ByteView pages) {
  Bytes message(1);  // no path begins with a zero byte
  append(message, pages);
  const Digest digest = hmac_sha256(path_key, message);
  return {.digest = {load_le<uint64_t>(digest.raw.data()), load_le<uint64_t>(digest.raw.data() + 8)}};
}

// Facts of the server that the commit may tell whoever holds the structure key. Everything else — paths,
// locales, ports — lies in the tree, for the reader alone.
constexpr const char* kTellableFacts[] = {"server_version",       "data_checksums", "data_directory_mode",
                                          "in_place_tablespaces", "in_recovery",    "wal_level"};

CapturedFile own_file(std::string_view name, uint32_t index, size_t size, int64_t now_ns) {
  return {.entry = {.path = fmt::format("{}/{}", kOwnFolder, name),
                    .type = EntryType::kFile,
                    .content = ContentKind::kBytes,
                    .mode = 0600,
                    .mtime_ns = now_ns,
                    .size = size},
          .index = index};
}

}  // namespace

postgres::CaptureWay capture_way(const ResourceConfig& resource) {
  switch (resource.postgres.capture) {
    case PostgresConfig::Capture::kHost:
      return postgres::CaptureWay::kHost;
    case PostgresConfig::Capture::kReplication:
      return postgres::CaptureWay::kReplication;
    case PostgresConfig::Capture::kAuto:
      break;
  }
  return postgres::CaptureWay::kAuto;
}

std::string restore_point_name(const SnapshotId& snapshot) {
  return "kuramori-" + snapshot.hex();
}

namespace {

// Why an attempt that failed is made once more, whole. The second one says so.
struct Again {
  std::string contradicted;   // what was said to have changed was not all: by whom
  std::string contradiction;  // and which page tells
  std::string why;            // or without blame: the server sends changes, and they cannot be built on
  bool wanted() const { return !contradiction.empty() || !why.empty(); }
};

// `again`: as input, of the attempt before.
Result<BackupOutcome> attempt(Vault& vault, const BackupRequest& request, Again& again, Reporter& reporter,
                              std::stop_token stop) {
  Duration began = vault.clock().steady();
  BackupOutcome outcome;

  TRY(must_be_allowed(vault, Act::kAddSnapshots));
  // Who the server is, and from where on its WAL must be kept, before anything is begun.
  TRY_ASSIGN(auto connection, postgres::Connection::open(request.connect));
  TRY_ASSIGN(auto facts, postgres::read_server_facts(connection));
  TRY_ASSIGN(ResourceRecord resource,
             vault.ensure_resource(request.resource, "postgres", std::to_string(facts.system_id)));
  TRY_ASSIGN(std::string redo_text,
             connection.value("select redo_lsn from pg_catalog.pg_control_checkpoint()"));
  TRY_ASSIGN(postgres::Lsn redo, postgres::parse_lsn(redo_text));

  TRY_ASSIGN(SnapshotList list, list_snapshots(vault, resource.id));
  const Snapshot* base_snapshot = newest_to_build_on(vault, list);
  if (base_snapshot == nullptr && !list.snapshots.empty() && !request.full)
    outcome.why_full = "the snapshots before were made by another writer";
  if (request.full) {
    base_snapshot = nullptr;
    outcome.why_full = again.why;
  }

  // The session stands before anything is read of the base: from here on it cannot be collected under us.
  Protocol protocol = protocol_of(vault);
  WriterOptions options{.kind = SessionKind::kWrite,
                        .resource = resource.id,
                        .snapshot = vault.random().id<SnapshotId>(),
                        .closed = true,
                        .wal_timeline = facts.timeline,
                        .wal_floor = redo,
                        .host = host_name()};
  if (base_snapshot != nullptr) options.parents.push_back(base_snapshot->commit_name);
  TRY_ASSIGN(auto session, WriterSession::open(protocol, options));

  GiveUp give_up(*session);

  std::optional<BaseSnapshot> base;
  if (base_snapshot != nullptr && session->parents().empty()) {
    outcome.why_full = "the previous snapshot was just pruned";
  } else if (base_snapshot != nullptr) {
    auto opened = open_base(vault.store(), vault.keys(), vault.codec(), base_snapshot->commit_name,
                            base_snapshot->commit);
    if (opened) {
      base = std::move(*opened);
    } else {
      outcome.why_full = fmt::format("the previous snapshot cannot be built on: {}", opened.error().what);
      reporter.warning(outcome.why_full + "; run kuramori vault scrub");
    }
  }

  // What rules the base out before the server is asked for changes since it; the rest is known once it began.
  std::string why_no_older = outcome.why_full.empty() ? "there is no snapshot to build on" : outcome.why_full;
  if (request.full && !again.wanted()) why_no_older = "the snapshot builds on none";
  if (!again.contradiction.empty()) why_no_older = again.contradicted;
  std::optional<postgres::OlderSnapshot> older;
  if (base) {
    TRY_ASSIGN(const uint64_t timeline, number_fact(base->commit, "postgres.timeline"));
    TRY_ASSIGN(const postgres::Lsn since, number_fact(base->commit, "postgres.start_lsn"));
    if (!base->commit.defects.empty()) {
      why_no_older = "the base has damaged pages";
    } else {
      older = {.timeline = static_cast<postgres::Timeline>(timeline), .start = since, .files = [&] {
                 return older_files(vault, resource.id, *base);
               }};
    }
  }

  reporter.phase("starting backup mode", 0);
  TRY_ASSIGN(
      auto capture,
      Capture::begin({.connect = request.connect,
                      .label = request.label.empty() ? "kuramori " + options.snapshot.hex() : request.label,
                      .workers = request.workers,
                      .read_bytes_per_second = request.read_bytes_per_second,
                      .way = request.way,
                      .older = std::move(older),
                      .why_no_older = std::move(why_no_older),
                      .stop = stop},
                     vault.clock(), reporter));
  const postgres::CaptureStart& start = capture->start();
  if (start.system_id != facts.system_id) {
    return fail(ErrorKind::kRefused, "the server was exchanged while the backup began", "", "run it again");
  }
  if (start.timeline != facts.timeline || start.start_lsn < redo) {
    return fail(ErrorKind::kRefused, "the server was promoted or set back while the backup began", "",
                "run it again");
  }
  if (base) {
    TRY_ASSIGN(outcome.why_full, why_not_on(base->commit, start));
    if (!outcome.why_full.empty()) base.reset();
  }
  if (base && request.lock) {
    // Somebody who keeps the vault locks on what this snapshot will need, but looks only now and then (V22).
    const Time must_reach = next_look(*request.lock, vault.clock().now());
    TRY_ASSIGN(std::string why, why_not_locked(vault, *base_snapshot, must_reach, stop));
    if (!why.empty()) {
      outcome.why_full = "the previous snapshot is not locked long enough: " + why;
      base.reset();
    }
  }
  if (!outcome.why_full.empty()) reporter.note("everything is read: " + outcome.why_full);

  postgres::Lsn base_start = 0;
  if (base) {
    TRY_ASSIGN(base_start, number_fact(base->commit, "postgres.start_lsn"));
  }
  Secret names_key = path_key(vault.keys(), resource.id);
  auto base_file = [&](const CaptureFile& file) -> const FilePages* {
    if (!base || file.always_whole || file.entry.content != ContentKind::kPages) return nullptr;
    auto it = base->pages.files.find(file_key(names_key.view(), file.entry.path));
    if (it == base->pages.files.end()) return nullptr;
    // Without inodes the WAL says it alone, or nothing is left to the base (find_changes).
    if (!capture->start().on_host) return &it->second;
    // Dropped and made anew, or copied as a file, since then: another inode or birth (P6).
    bool same = it->second.inode == file.inode && it->second.birth_ns == file.birth_ns && file.birth_ns != 0;
    return same ? &it->second : nullptr;
  };
  ChangesKnown changes{.why_not = outcome.why_full};
  if (base) {
    reporter.phase("asking the WAL what changed", 0);
    TRY_ASSIGN(changes, find_changes(vault, resource.id, *capture, base_start, base_file, reporter, stop));
    if (changes.by == ChangesBy::kWhole) {
      outcome.why_full = changes.why_not;
      base.reset();
    }
  }
  if (!base) TRY(must_begin_in_this_history(vault, resource, *capture));
  if (start.sends_changes && !base) {
    again.why = outcome.why_full;
    return fail(ErrorKind::kFailed, "the server sends changes since a snapshot that cannot be built on",
                again.why, "run the backup again");
  }
  if (base) outcome.base = base->commit.snapshot.hex();
  outcome.changes = changes.text();
  outcome.pages_sampled = changes.pages_sampled;
  outcome.changes_contradicted = changes.contradicted || !again.contradiction.empty();
  // The page's path is a name, and the commit's reader need not know it.
  if (outcome.changes_contradicted && !changes.contradicted) outcome.changes = "whole: " + again.contradicted;
  outcome.over_replication = !start.on_host;
  if (!start.on_host) outcome.sent = start.sends_changes ? "changes" : "everything: " + start.why_everything;

  ContentWriter writer(vault.store(), vault.keys(), vault.random(), vault.clock(), session->id(),
                       resource.id);
  Lanes lanes(writer, reporter, stop);
  // Maps and init forks are read whole and mostly are as they were: those are not stored again.
  std::map<uint32_t, WholeFile> whole;  // by file
  std::mutex whole_mutex;
  std::optional<UntouchedMaps> untouched;
  if (base && changes.blocks && start.on_host)
    untouched.emplace(*changes.blocks, capture->files(), base_file, base->commit.started_ns);
  auto skip = [&](uint32_t index, const CaptureFile& file) -> postgres::Skip {
    if (file.always_whole) {
      const FilePages* before = nullptr;
      if (base) {
        auto it = base->pages.files.find(file_key(names_key.view(), file.entry.path));
        if (it != base->pages.files.end()) before = &it->second;
      }
      if (before != nullptr && untouched && untouched->has(file) &&
          uint64_t{before->pages} * kPageBytes == file.entry.size) {
        const std::lock_guard lock(whole_mutex);
        whole[index] = WholeFile{.digest = {before->inode, static_cast<uint64_t>(before->birth_ns)},
                                 .is_as_before = true};
        return {.base_pages = before->pages, .changed = {{}}};
      }
      return {.is_as_before = [&whole, &whole_mutex, &names_key, index, before](ByteView pages) {
        WholeFile kept = whole_file(names_key.view(), pages);
        kept.is_as_before = before != nullptr && before->inode == kept.digest[0] &&
                            static_cast<uint64_t>(before->birth_ns) == kept.digest[1] &&
                            uint64_t{before->pages} * kPageBytes == pages.size();
        const std::lock_guard lock(whole_mutex);
        whole[index] = kept;
        return kept.is_as_before;
      }};
    }
    const FilePages* pages = base_file(file);
    if (pages == nullptr) return {};
    if (!changes.blocks) return {.unchanged_before = base_start, .base_pages = pages->pages, .changed = {}};
    postgres::Skip known =
        changed_pages(*changes.blocks, file, pages->pages, base_start).value_or(postgres::Skip{});
    if (start.sends_changes) add_certainty(known, changes.surely ? *changes.surely : *changes.blocks, file);
    return known;
  };
  auto copied =
      capture->copy(skip, [&](unsigned) -> Result<std::unique_ptr<CaptureLane>> { return lanes.make(); });
  if (!copied) {
    again = {};
    if (capture->was_contradicted())
      again = {.contradicted = copied.error().what, .contradiction = copied.error().why, .why = ""};
    else if (capture->must_be_whole())
      again.why = copied.error().what + ": " + copied.error().why;
    return std::move(copied).error();
  }

  TRY(lanes.finish());  // what they filled is put while the server ends its backup mode

  reporter.phase("ending backup mode", 0);
  auto last_lane = lanes.make();
  TRY_ASSIGN(postgres::CaptureEnd end, capture->finish(*last_lane));
  if (end.stop_timeline != start.timeline) {
    return fail(ErrorKind::kFailed, "the timeline changed while the backup ran", "the server was promoted",
                "run it again");
  }

  // Rows are counted after the copy's end: recovery cannot stop before it is consistent, and a proof stops at
  // the restore point that is made while the counting transaction is still open.
  Bytes counts, answers;
  postgres::Lsn wal_needed = end.stop_lsn;
  postgres::Lsn counted_at = 0;
  if (request.counts.mode != postgres::CountsMode::kOff) {
    reporter.phase("counting rows", 0);
    postgres::CountsOptions counting = request.counts;
    counting.restore_point = restore_point_name(options.snapshot);
    auto counted = postgres::count_rows(request.connect, counting, vault.clock(), reporter);
    if (!counted) {
      reporter.warning(
          fmt::format("rows were not counted: {} {}", counted.error().what, counted.error().why));
    } else {
      counts = postgres::encode_counts(*counted);
      // The restore point's segment must be whole to be archived now; where that is not allowed, the drill
      // compares at the snapshot's end and says "bounded".
      auto switched = counted->restore_point_lsn == 0 ? Result<void>(fail(ErrorKind::kDenied, ""))
                                                      : connection.run("select pg_catalog.pg_switch_wal()");
      if (switched) {
        counted_at = counted->restore_point_lsn;
        wal_needed = std::max(wal_needed, counted_at);
      }
    }
  }
  for (const std::string& query : request.unchanged_queries) {
    auto answer = postgres::answer_of(request.connect, query);
    if (!answer) {
      reporter.warning(
          fmt::format("\"{}\" has no answer to compare with later: {}", query, answer.error().what));
      continue;
    }
    append(answers, as_bytes(fmt::format("{} {}\n", to_hex(as_bytes(query)), to_hex(as_bytes(*answer)))));
  }

  // What lies in a tablespace is below its folder; where that was is in tablespace_map. A tree in which
  // anything lies below a link is not one (V27). A tablespace made after backup mode began is not in the map:
  // redo makes it and all that is in it, and would stumble over what were there already (P16).
  TRY_ASSIGN(auto mapped, postgres::parse_tablespace_map(end.tablespace_map));
  std::set<std::string> unmapped;
  std::vector<CaptureFile> captured_files = capture->take_files();
  if (!start.on_host && start.server_version >= kChangesAreSentFrom && !vault.keys().reader)
    remember_relation_files(vault.info(), resource.id, captured_files, reporter);
  ::malloc_trim(0);  // what the workers read into is not needed any more
  for (const CaptureFile& file : captured_files) {
    const bool is_tablespace =
        file.entry.type == EntryType::kSymlink && file.entry.path.starts_with(kTablespaceFolder);
    if (is_tablespace && std::ranges::none_of(mapped, [&](const auto& link) {
          return file.entry.path == fmt::format("{}{}", kTablespaceFolder, link.oid);
        }))
      unmapped.insert(file.entry.path);
  }
  // As a server sends them, they stand in no order; a tree has a folder before what it holds.
  std::vector<uint32_t> order(captured_files.size());
  std::iota(order.begin(), order.end(), 0u);
  if (!start.on_host)
    std::ranges::sort(order, {},
                      [&](uint32_t number) { return std::string_view(captured_files[number].entry.path); });
  // As the vault keeps it; nothing for what vanished and what redo makes anew. A path is handed on, not
  // copied: of a million files each is held once.
  const auto kept_as = [&](uint32_t number) -> std::optional<CapturedFile> {
    CaptureFile& file = captured_files[number];
    if (file.vanished) return std::nullopt;
    const bool on_base = base_file(file) != nullptr;
    TreeEntry entry = std::move(file.entry);
    if (entry.path.starts_with(kTablespaceFolder)) {
      if (unmapped.contains(entry.path.substr(0, entry.path.find('/', kTablespaceFolder.size()))))
        return std::nullopt;
      if (entry.type == EntryType::kSymlink) {
        entry.type = EntryType::kDirectory;
        entry.mode = 0700;
        entry.link.clear();
      }
    }
    CapturedFile captured{.entry = std::move(entry),
                          .index = number,
                          .inode = file.inode,
                          .birth_ns = file.birth_ns,
                          .on_base = on_base};
    if (const auto kept = whole.find(number); kept != whole.end()) {
      captured.inode = kept->second.digest[0];
      captured.birth_ns = static_cast<int64_t>(kept->second.digest[1]);
      captured.on_base = kept->second.is_as_before;
    }
    return captured;
  };
  std::vector<CapturedFile> own_files;  // behind those of the cluster
  int64_t now_ns = to_unix_ns(vault.clock().now());
  own_files.push_back({.entry = {.path = std::string(kOwnFolder),
                                 .type = EntryType::kDirectory,
                                 .mode = 0700,
                                 .mtime_ns = now_ns},
                       .index = kOwnFilesFrom});
  // Content and names are the reader's: what the server is called by lies in the tree, not in the commit.
  // The role that initdb made always has this number; a sandbox logs in as it.
  TRY_ASSIGN(std::string superuser,
             connection.value("select rolname from pg_catalog.pg_roles where oid = 10"));
  TRY_ASSIGN(std::string database, connection.value("select pg_catalog.current_database()"));
  std::string origin = fmt::format("data_directory={}\nsuperuser={}\ndatabase={}\nconnect_host={}\nhost={}\n",
                                   start.data_directory, superuser, database,
                                   facts.setting("unix_socket_directories"), host_name());
  for (const auto& [name, value] : end.facts) {
    if (value.find('\n') == std::string::npos) origin += fmt::format("fact {}={}\n", name, value);
  }
  TRY(last_lane->add_bytes(kOwnFilesFrom + 1, as_bytes(origin)));
  own_files.push_back(own_file("origin", kOwnFilesFrom + 1, origin.size(), now_ns));
  if (!counts.empty()) {
    TRY(last_lane->add_bytes(kOwnFilesFrom + 2, counts));
    own_files.push_back(own_file("counts.json", kOwnFilesFrom + 2, counts.size(), now_ns));
  }
  if (!answers.empty()) {
    TRY(last_lane->add_bytes(kOwnFilesFrom + 3, answers));
    own_files.push_back(own_file("answers", kOwnFilesFrom + 3, answers.size(), now_ns));
  }
  TRY(lanes.finish());

  // Packs, tree and map are put meanwhile: neither needs the other, and the commit comes after both.
  reporter.phase("completing the WAL", 0);
  TaskGroup completing(stop);
  completing.start([&](std::stop_token interrupted) -> Result<void> {
    TRY_ASSIGN(outcome.wal_segments_added,
               complete_wal(vault, resource, *capture, start, wal_needed, reporter, interrupted));
    return {};
  });

  CommitRecord commit{.kind = "postgres", .started_ns = start.started_ns, .finished_ns = end.finished_ns};
  uint32_t next_file = 0;
  size_t next_own = 0;
  const auto next = [&]() -> std::optional<CapturedFile> {
    while (next_file < order.size()) {
      if (auto file = kept_as(order[next_file++])) return file;
    }
    if (!order.empty()) {
      // All were handed on; of a million, what is left of them takes as much as the map that is made now.
      captured_files = {};
      order = {};
      next_file = 0;
      ::malloc_trim(0);  // their names were small pieces; free, they still would be held
    }
    if (next_own == own_files.size()) return std::nullopt;
    return std::move(own_files[next_own++]);
  };
  TRY_ASSIGN(LiveRecord live, writer.finish(next, base ? &*base : nullptr, commit));
  TRY(completing.wait());

  reporter.phase("committing", 0);
  commit.wal = WalSpan{start.timeline, start.start_lsn, wal_needed};
  for (const char* name : kTellableFacts) {
    if (auto it = end.facts.find(name); it != end.facts.end()) commit.facts[name] = it->second;
  }
  commit.facts["postgres.system_id"] = std::to_string(start.system_id);
  commit.facts["postgres.version"] = std::to_string(start.server_version);
  commit.facts["postgres.timeline"] = std::to_string(start.timeline);
  commit.facts["postgres.start_lsn"] = std::to_string(start.start_lsn);
  commit.facts["postgres.stop_lsn"] = std::to_string(end.stop_lsn);
  commit.facts["postgres.segment_bytes"] = std::to_string(start.segment_bytes);
  commit.facts["postgres.checksums"] = std::to_string(start.checksum_version);
  commit.facts["postgres.wal_level"] = start.wal_level;
  commit.facts["postgres.changes"] = outcome.changes;
  if (outcome.changes_contradicted) commit.facts["postgres.changes_contradicted"] = "yes";
  if (counted_at != 0) commit.facts["postgres.counted_lsn"] = std::to_string(counted_at);
  for (const auto& page : end.broken_pages) {
    // The path is a name and a checksum tells of the content: neither is the commit's to tell. The outcome
    // has both.
    commit.defects.push_back(fmt::format("page {} of a relation file is broken", page.page));
  }
  outcome.keep_reason = complete_commit(commit, request, list, vault.clock().now());
  // A page broke since the last good copy: that copy must outlive this one (P3). Held before the commit: once
  // the new snapshot counts, a prune may let the old one go at any moment.
  // One that is damaged itself needs no hold: a page that stays broken would fill the vault with held
  // snapshots.
  if (!end.broken_pages.empty() && !list.snapshots.empty() && list.snapshots.back().commit.defects.empty()) {
    const CommitRecord& good = list.snapshots.back().commit;
    auto held = place_hold(protocol, good.snapshot, "before-damage",
                           fmt::format("snapshot {} found broken pages", options.snapshot.hex()));
    if (held)
      outcome.held.push_back(good.snapshot.hex());
    else
      reporter.warning(fmt::format("the previous snapshot could not be put on hold: {}", held.error().what));
  }
  TRY(still_wanted(protocol, request));
  TRY(hold_until_reviewed(protocol, options.snapshot, request));
  TRY_ASSIGN(CommittedSnapshot committed, session->commit(std::move(commit), live));
  give_up.committed();

  outcome.commit_name = committed.name;
  outcome.commit = committed.record;
  outcome.bytes_read = end.bytes_read;
  outcome.relation_bytes_read = end.relation_bytes_read;
  outcome.read_waited = end.read_waited;
  outcome.pages_stored = end.pages_given;
  outcome.pages_unchanged = end.pages_skipped;
  outcome.pages_sampled += end.pages_looked_at;
  outcome.broken_pages = end.broken_pages;
  outcome.seconds = std::chrono::duration<double>(vault.clock().steady() - began).count();
  return outcome;
}

}  // namespace

Result<BackupOutcome> backup_postgres(Vault& vault, const BackupRequest& request, Reporter& reporter,
                                      std::stop_token stop) {
  Again again;
  auto outcome = attempt(vault, request, again, reporter, stop);
  if (outcome || !again.wanted()) return outcome;
  if (!again.contradiction.empty()) {
    // Found out in passing, after much was left to a base that nobody can vouch for any more.
    reporter.warning(fmt::format(
        "ALARM: {}: {}. Snapshots that were built on such records may lack changes: kuramori drill; this one "
        "is taken again, whole",
        again.contradicted, again.contradiction));
  } else {
    reporter.note("the server is asked for everything: " + again.why);
  }
  BackupRequest whole = request;
  whole.full = true;
  return attempt(vault, whole, again, reporter, std::move(stop));
}

}  // namespace kuramori
