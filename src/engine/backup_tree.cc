// The order, and why a crash after each step is harmless:
//   1. the session stands                  — a collector now spares what it names; a dead one is fenced later
//   2. packs, runs of the index            — nothing refers to them yet: garbage for the next collection;
//                                            runs that take the place of lost ones are no different
//   3. the live record, then the commit    — the snapshot exists exactly when the commit does
//   4. this machine's memory of the tree   — without it the next snapshot reads everything once
#include "engine/backup_tree.h"

#include <fmt/core.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <unordered_set>

#include "base/throttle.h"
#include "base/time_text.h"
#include "conc/channel.h"
#include "conc/task_group.h"
#include "engine/local_state.h"
#include "engine/locks.h"
#include "engine/open_vault.h"
#include "engine/reading.h"
#include "engine/roles.h"
#include "engine/snapshot_tree.h"
#include "os/file.h"
#include "vault/index_mender.h"
#include "vault/tree_cache.h"
#include "vault/tree_writer.h"

namespace kuramori {
namespace {

// Entries that were met and are not yet in the tree, since one before them is still being read.
constexpr size_t kWaitingEntriesMax = 4096;
// What one worker takes at once: small files that lie together stay together, in one frame.
constexpr size_t kBatchEntries = 64;
constexpr uint64_t kBatchBytes = 1 << 20;
// A file that was written in the same tick of the clock in which it was read may change again with the same
// time. Network filesystems tell the time of their server.
constexpr Duration kSettled = std::chrono::seconds(2);

// One entry on its way from the walk into the tree.
struct Waiting {
  CaptureItem item;
  StoredContent content;
  bool ready = false, left_out = false;  // guarded by the pipeline's mutex
  bool as_before = false;
  bool is_another = false;  // than the walk met: another file has its name by now
  std::string why;          // it is not as it should be, where it is not
};
using Batch = std::vector<Waiting*>;

std::string in_content(std::string_view path) {
  return path.empty() ? std::string(kContentFolder) : fmt::format("{}/{}", kContentFolder, path);
}

// Goes along with the walk in what this machine remembers.
class Remembered {
 public:
  Remembered(const std::string& path, const KeyBundle& keys, const TreeWriter& writer) : writer_(writer) {
    auto reader = TreeCacheReader::open(path, keys);
    if (reader) reader_ = std::move(*reader);
    advance();
  }

  // What is remembered of this path, if it is still so; its extents are the writer's. Paths ascend.
  const CachedNode* find(const CaptureItem& item, std::string_view path) {
    while (now_ && tree_order(now_->node.entry.path, path)) advance();
    if (!now_ || now_->node.entry.path != path) return nullptr;
    const TreeEntry &was = now_->node.entry, &is = item.entry;
    const bool same = item.ctime_ns != 0 && now_->stamp.ctime_ns == item.ctime_ns &&
                      now_->stamp.inode == item.inode && now_->stamp.device == item.device &&
                      was.type == is.type && was.content == is.content && was.size == is.size &&
                      was.mtime_ns == is.mtime_ns && was.mode == is.mode && was.uid == is.uid &&
                      was.gid == is.gid && was.link == is.link && was.rdev == is.rdev;
    return same && refer() ? &*now_ : nullptr;
  }

 private:
  void advance() {
    now_.reset();
    if (!reader_) return;
    auto next = reader_->next();
    // Damaged: from here on everything is read, which is all that a memory is for.
    if (next && *next) {
      now_ = std::move(**next);
    } else {
      reader_.reset();
    }
  }

  // Every frame must still be the base's: a memory is not believed, only compared.
  bool refer() {
    for (Extent& extent : now_->node.extents) {
      if (extent.pack == kHolePack) continue;
      while (numbers_.size() < reader_->packs().size())
        numbers_.push_back(writer_.base_pack(reader_->packs()[numbers_.size()]));
      const std::optional<uint32_t> pack = numbers_[extent.pack];
      if (!pack || !writer_.is_in_base(*pack, extent.frame)) return false;
      extent.pack = *pack;
    }
    return true;
  }

  const TreeWriter& writer_;
  std::unique_ptr<TreeCacheReader> reader_;
  std::optional<CachedNode> now_;
  std::vector<std::optional<uint32_t>> numbers_;  // of the memory's packs, at the writer
};

// Hands content on, no faster than is allowed.
class LaneSink final : public ContentSink {
 public:
  LaneSink(TreeWriter::Lane& lane, Throttle& throttle, Reporter& reporter, std::atomic<uint64_t>& bytes)
      : lane_(lane), throttle_(throttle), reporter_(reporter), bytes_(bytes) {}
  Result<void> add(ByteView bytes) override {
    throttle_.take(bytes.size());
    bytes_ += bytes.size();
    reporter_.advance(bytes.size());
    return lane_.add(bytes);
  }
  Result<void> add_hole(uint64_t bytes) override { return lane_.add_hole(bytes); }
  Result<void> restart() override {
    lane_.restart();
    return {};
  }

 private:
  TreeWriter::Lane& lane_;
  Throttle& throttle_;
  Reporter& reporter_;
  std::atomic<uint64_t>& bytes_;
};

// The walk meets entries, workers read those that changed, and the tree takes them in the walk's order.
class Pipeline {
 public:
  Pipeline(TreeCapture& capture, TreeWriter& writer, Remembered& remembered, TreeCacheWriter* memory,
           Throttle& throttle, Clock& clock, Reporter& reporter, TreeBackupOutcome& outcome)
      : capture_(capture),
        writer_(writer),
        remembered_(remembered),
        memory_(memory),
        throttle_(throttle),
        clock_(clock),
        reporter_(reporter),
        outcome_(outcome) {}

  Result<void> run(unsigned workers, std::stop_token stop) {
    TaskGroup group(stop);
    for (unsigned worker = 0; worker < std::max(1u, workers); ++worker) {
      group.start([this](std::stop_token token) {
        auto done = work(token);
        if (!done) fail_all();
        return done;
      });
    }
    auto walked = walk(group.token());
    if (!walked) {
      // A worker's failure is the reason, where there is one.
      group.request_stop();
      fail_all();
      auto why = group.wait();
      if (!why && why.error().kind != ErrorKind::kInterrupted) return why;
      return walked;
    }
    TRY(group.wait());
    outcome_.bytes_read = bytes_;
    return {};
  }

 private:
  static Error interrupted() {
    return fail(ErrorKind::kInterrupted, "the backup was interrupted",
                "what it had uploaded is removed by the next collection");
  }

  Result<void> walk(const std::stop_token& stop) {
    for (;;) {
      if (stop.stop_requested()) return interrupted();
      TRY_ASSIGN(std::optional<CaptureItem> item, capture_.next());
      if (!item) break;
      auto waiting = std::make_unique<Waiting>(Waiting{.item = std::move(*item)});
      TreeEntry& entry = waiting->item.entry;
      entry.path = in_content(entry.path);
      if (entry.type == EntryType::kHardLink) entry.link = in_content(entry.link);
      if (const CachedNode* known = remembered_.find(waiting->item, entry.path)) {
        entry = known->node.entry;
        waiting->content = {.size = entry.size,
                            .extents = known->node.extents,
                            .digest = known->node.digest.value_or(Digest{})};
        waiting->as_before = waiting->ready = true;
        if (entry.type == EntryType::kFile) ++outcome_.files_as_before;
      } else {
        batch_.push_back(waiting.get());
        batch_bytes_ += entry.content == ContentKind::kBytes ? entry.size : 0;
      }
      waiting_.push_back(std::move(waiting));
      if (batch_.size() >= kBatchEntries || batch_bytes_ >= kBatchBytes) TRY(send_batch());
      TRY(take_ready(kWaitingEntriesMax));
    }
    TRY(send_batch());
    work_.close();
    TRY(take_ready(0));
    if (own_lane_) return own_lane_->finish();
    return {};
  }

  Result<void> send_batch() {
    if (batch_.empty()) return {};
    batch_bytes_ = 0;
    if (!work_.push(std::exchange(batch_, {}))) return interrupted();
    return {};
  }

  // What is ready goes into the tree; waits until no more than `left` are waiting.
  Result<void> take_ready(size_t left) {
    while (!waiting_.empty()) {
      Waiting& first = *waiting_.front();
      if (!first.as_before) {
        std::unique_lock lock(mutex_);
        if (!first.ready && waiting_.size() <= left) return {};
        if (!first.ready && !batch_.empty()) {
          lock.unlock();
          TRY(send_batch());
          lock.lock();
        }
        changed_.wait(lock, [&] { return first.ready || failed_; });
        if (!first.ready) return interrupted();
      }
      TRY(take(first));
      waiting_.pop_front();
    }
    return {};
  }

  Result<void> take(Waiting& entry) {
    TreeEntry& e = entry.item.entry;
    if (!entry.left_out && e.type == EntryType::kHardLink) TRY(look_at_first_name(entry));
    const bool is_defect = !entry.why.empty();
    if (is_defect) {
      outcome_.defects.push_back({.path = e.path.substr(std::min(e.path.size(), kContentFolder.size() + 1)),
                                  .why = std::move(entry.why)});
    }
    if (e.type == EntryType::kFile && (entry.left_out || entry.is_another)) lost_names_.emplace(e.path, "");
    if (entry.left_out) return {};
    ++outcome_.entries;
    if (e.type == EntryType::kFile) ++outcome_.files;
    if (e.content == ContentKind::kBytes) outcome_.bytes += e.size;
    TRY(writer_.add_entry(e, entry.content));
    if (memory_ == nullptr) return {};
    TreeNode node{.entry = e, .extents = std::move(entry.content.extents)};
    if (e.content == ContentKind::kBytes) node.digest = entry.content.digest;
    for (Extent& extent : node.extents) {
      if (extent.pack != kHolePack) extent.pack = memory_number(extent.pack);
    }
    const bool is_settled = !is_defect && (entry.as_before || entry.item.ctime_ns < settled_before_);
    return memory_->add(node, {.device = entry.item.device,
                               .inode = entry.item.inode,
                               .ctime_ns = is_settled ? entry.item.ctime_ns : 0});
  }

  // Another name of a file whose first name is not in the tree, or is another file's by now, would be a link
  // into nothing, or to the wrong content. It is read by its own, and those that follow are names of it.
  Result<void> look_at_first_name(Waiting& entry) {
    const auto lost = lost_names_.find(entry.item.entry.link);
    if (lost == lost_names_.end()) return {};
    if (!lost->second.empty()) {
      entry.item.entry.link = lost->second;
      return {};
    }
    if (!own_lane_) own_lane_ = writer_.lane();
    LaneSink sink(*own_lane_, throttle_, reporter_, bytes_);
    entry.item.entry.type = EntryType::kFile;
    entry.item.entry.content = ContentKind::kBytes;
    entry.item.entry.link.clear();
    entry.as_before = false;
    TRY(read(entry, *own_lane_, sink));
    if (!entry.left_out && !entry.is_another) lost->second = entry.item.entry.path;
    return {};
  }

  uint32_t memory_number(uint32_t pack) {
    const auto [at, is_new] = memory_numbers_.emplace(pack, 0);
    if (is_new) at->second = memory_->pack(writer_.pack_name(pack));
    return at->second;
  }

  Result<void> work(const std::stop_token& stop) {
    auto lane = writer_.lane();
    LaneSink sink(*lane, throttle_, reporter_, bytes_);
    while (std::optional<Batch> batch = work_.pop()) {
      for (Waiting* entry : *batch) {
        if (stop.stop_requested()) return interrupted();
        TRY(read(*entry, *lane, sink));
      }
      const std::lock_guard lock(mutex_);
      for (Waiting* entry : *batch) entry->ready = true;
      changed_.notify_one();
    }
    if (stop.stop_requested()) return interrupted();
    return lane->finish();
  }

  Result<void> read(Waiting& entry, TreeWriter::Lane& lane, ContentSink& sink) {
    // Paths are the source's own while it reads.
    CaptureItem item = entry.item;
    item.entry.path.erase(0, std::min(item.entry.path.size(), kContentFolder.size() + 1));
    auto done = capture_.complete(item);
    if (done && item.entry.content == ContentKind::kBytes) done = capture_.read(item, sink);
    if (!done) {
      lane.restart();
      const ErrorKind kind = done.error().kind;
      if (kind != ErrorKind::kPartial && kind != ErrorKind::kNotFound) return done;
      // A folder stays, for what it holds may have been met already. What is no longer there was deleted
      // meanwhile: it is not part of the tree.
      entry.left_out = item.entry.type != EntryType::kDirectory;
      if (kind == ErrorKind::kPartial)
        entry.why = done.error().why.empty() ? done.error().what : done.error().why;
      return {};
    }
    entry.is_another = item.inode != entry.item.inode;
    item.entry.path = std::move(entry.item.entry.path);
    item.entry.link = std::move(entry.item.entry.link);
    entry.item = std::move(item);
    if (entry.item.entry.content != ContentKind::kBytes) return {};
    TRY_ASSIGN(entry.content, lane.end());
    entry.item.entry.size = entry.content.size;
    return {};
  }

  void fail_all() {
    work_.cancel();
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

  TreeCapture& capture_;
  TreeWriter& writer_;
  Remembered& remembered_;
  TreeCacheWriter* memory_;
  Throttle& throttle_;
  Clock& clock_;
  Reporter& reporter_;
  TreeBackupOutcome& outcome_;
  // Of what changed at or after the walk's begin nobody knows whether it changed again.
  const int64_t settled_before_ = to_unix_ns(clock_.now() - kSettled);

  Channel<Batch> work_{16};
  std::atomic<uint64_t> bytes_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool failed_ = false;  // guarded by mutex_

  // Of the walking thread.
  std::deque<std::unique_ptr<Waiting>> waiting_;
  Batch batch_;
  uint64_t batch_bytes_ = 0;
  std::unordered_map<std::string, std::string> lost_names_;  // of files: which name stands for them, if any
  std::unique_ptr<TreeWriter::Lane> own_lane_;               // for what is read in the tree's turn
  std::unordered_map<uint32_t, uint32_t> memory_numbers_;
};

// What we say of the snapshot, behind what it is of.
Result<void> add_about(TreeWriter& writer, const TreeBackupRequest& request,
                       const std::vector<Defect>& defects) {
  TRY(writer.end_segment());
  TRY(writer.add_entry({.path = std::string(kAboutFolder), .type = EntryType::kDirectory, .mode = 0700}, {}));
  auto lane = writer.lane();
  const auto add = [&](std::string_view name, std::string_view text) -> Result<void> {
    TRY(lane->add(as_bytes(text)));
    TRY_ASSIGN(const StoredContent content, lane->end());
    return writer.add_entry({.path = fmt::format("{}/{}", kAboutFolder, name),
                             .content = ContentKind::kBytes,
                             .mode = 0600,
                             .size = content.size},
                            content);
  };
  std::string lines;
  for (const Defect& defect : defects)
    lines += fmt::format("{}\t{}\n", to_hex(as_bytes(defect.path)), defect.why);
  if (!lines.empty()) TRY(add("defects", lines));
  TRY(add("origin", request.origin));
  return lane->finish();
}

// The tree of a snapshot before, for a source that goes on from it. A session of its own keeps it from being
// collected meanwhile: it may be another one than this snapshot builds on.
class EarlierTree final : public CapturedTree {
 public:
  static Result<std::unique_ptr<CapturedTree>> open(Vault& vault, const SnapshotList& list) {
    if (list.snapshots.empty()) return std::unique_ptr<CapturedTree>();
    TRY(must_be_allowed(vault, Act::kReadContent));
    const Snapshot& newest = list.snapshots.back();
    std::unique_ptr<EarlierTree> tree(new EarlierTree(vault));
    TRY_ASSIGN(tree->reading_,
               ReaderSession::open(tree->protocol_, reader_of(newest.commit.resource, {newest.commit_name})));
    TRY_ASSIGN(tree->snapshot_, SnapshotReader::open(vault.store(), vault.keys(), vault.codec(),
                                                     newest.commit_name, newest.commit));
    tree->tree_ = std::make_unique<SnapshotTree>(*tree->snapshot_);
    return std::unique_ptr<CapturedTree>(std::move(tree));
  }
  // A session that cannot be ended is ended by a collection.
  ~EarlierTree() override {
    if (reading_) (void)reading_->end();
  }

  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override {
    return tree_->visit(visit);
  }
  Result<void> read(std::string_view path, ContentSink& sink) const override {
    return tree_->read(path, sink);
  }
  const std::map<std::string, std::string>& facts() const override { return tree_->facts(); }

 private:
  explicit EarlierTree(Vault& vault) : protocol_(protocol_of(vault)) {}
  const Protocol protocol_;  // which the session refers to
  std::optional<ReaderSession> reading_;
  std::unique_ptr<SnapshotReader> snapshot_;
  std::unique_ptr<SnapshotTree> tree_;
};

// The base's chunk index has lost runs. What they told of is read again and told anew where this key may
// read; else what is met of it is stored again, which is all that an index saves.
Result<void> mend(Vault& vault, TreeBase& base, WriterSession& session, const std::string& cache_folder,
                  Reporter& reporter, std::stop_token stop) {
  const LostRun& first = base.lost.front();
  std::string what = first.why.what;
  if (base.lost.size() > 1) what += fmt::format(", and {} more", base.lost.size() - 1);
  reporter.warning(fmt::format(
      "the chunk index of snapshot {} is not whole: {}; no restore needs it, and this backup mends it",
      base.commit.snapshot.hex(), what));
  const std::string_view stored_again =
      "content that is read now is stored again where the lost part alone knew of it";
  if (!role_may(vault.keys().role, Act::kReadContent)) {
    reporter.note(fmt::format(
        "{}: this key may not read what was stored (one that may, the owner's, would find it again)",
        stored_again));
    return {};
  }
  reporter.phase("finding the chunk index again", 0);
  auto mended = [&]() -> Result<MendedIndex> {
    TRY_ASSIGN(const auto snapshot, SnapshotReader::open(vault.store(), vault.keys(), vault.codec(),
                                                         base.commit_name, base.commit));
    return mend_index(base, *snapshot,
                      {.store = vault.store(),
                       .keys = vault.keys(),
                       .random = vault.random(),
                       .next_name = [&session] { return session.next_map_name(); },
                       .cache_folder = cache_folder,
                       .advance = [&reporter](uint64_t bytes) { reporter.advance(bytes); },
                       .stop = stop});
  }();
  if (mended) {
    reporter.note(fmt::format("{} chunks were found again in {} frames: the index of this snapshot is whole",
                              mended->chunks, mended->frames));
    if (mended->unreadable > 0)
      reporter.warning(fmt::format("{} frames of snapshot {} cannot be read; run kuramori vault scrub",
                                   mended->unreadable, base.commit.snapshot.hex()));
    return {};
  }
  if (mended.error().kind == ErrorKind::kInterrupted) return std::move(mended).error();
  reporter.warning(fmt::format("{}: {}", stored_again, mended.error().what));
  return {};
}

std::string memory_path(const Vault& vault, const ResourceId& resource) {
  return join_path(join_path(state_folder(), "trees"),
                   fmt::format("{}-{}", vault.info().id.hex(), resource.hex()));
}

}  // namespace

Result<TreeBackupOutcome> backup_tree(Vault& vault, Source& source, const TreeBackupRequest& request,
                                      Reporter& reporter, std::stop_token stop) {
  const Duration began = vault.clock().steady();
  TreeBackupOutcome outcome;
  TRY(must_be_allowed(vault, Act::kAddSnapshots));
  TRY_ASSIGN(const ResourceRecord resource, vault.ensure_resource(request.resource, request.kind, ""));
  TRY_ASSIGN(const SnapshotList list, list_snapshots(vault, resource.id));
  const Snapshot* base_snapshot = request.full ? nullptr : newest_to_build_on(vault, list);
  if (request.full)
    outcome.why_full = "as told";
  else if (base_snapshot == nullptr && !list.snapshots.empty())
    outcome.why_full = "the snapshots before were made by another writer";
  if (base_snapshot != nullptr && request.lock) {
    // Somebody who keeps the vault locks on what this snapshot will need, but looks only now and then (V22).
    const Time must_reach = next_look(*request.lock, vault.clock().now());
    TRY_ASSIGN(const std::string why, why_not_locked(vault, *base_snapshot, must_reach, stop));
    if (!why.empty()) {
      outcome.why_full = "the previous snapshot is not locked long enough: " + why;
      base_snapshot = nullptr;
    }
  }

  // The session stands before anything is read of the base: from here on it cannot be collected under us.
  const Protocol protocol = protocol_of(vault);
  WriterOptions options{.kind = SessionKind::kWrite,
                        .resource = resource.id,
                        .snapshot = vault.random().id<SnapshotId>(),
                        .closed = true,
                        .host = host_name()};
  if (base_snapshot != nullptr) options.parents.push_back(base_snapshot->commit_name);
  TRY_ASSIGN(auto session, WriterSession::open(protocol, options));
  GiveUp give_up(*session);

  std::optional<TreeBase> base;
  if (base_snapshot != nullptr && session->parents().empty()) {
    outcome.why_full = "the previous snapshot was just pruned";
  } else if (base_snapshot != nullptr) {
    const std::string index_folder = join_path(state_folder(), "index");
    auto opened = open_tree_base(vault.store(), vault.keys(), vault.codec(), base_snapshot->commit_name,
                                 base_snapshot->commit, index_folder);
    if (opened) {
      base = std::move(*opened);
      outcome.base = base->commit.snapshot.hex();
      if (!base->lost.empty()) TRY(mend(vault, *base, *session, index_folder, reporter, stop));
    } else {
      outcome.why_full = fmt::format("the previous snapshot cannot be built on: {}", opened.error().what);
      reporter.warning(outcome.why_full + "; run kuramori vault scrub");
    }
  }
  if (!outcome.why_full.empty()) reporter.note("everything is read: " + outcome.why_full);

  const int64_t started_ns = to_unix_ns(vault.clock().now());
  source.set_earlier([&] { return EarlierTree::open(vault, list); });
  auto begun = source.capture(reporter, stop);
  source.set_earlier({});  // what it refers to ends with us
  TRY_ASSIGN(const std::unique_ptr<TreeCapture> capture, std::move(begun));
  TreeWriter writer(vault.store(), vault.keys(), vault.random(), vault.clock(), session->id(), resource.id,
                    base ? &*base : nullptr);
  const std::string memory_at = memory_path(vault, resource.id);
  Remembered remembered(memory_at, vault.keys(), writer);
  auto memory = TreeCacheWriter::create(memory_at, vault.keys(), vault.random());
  if (!memory) reporter.note(fmt::format("the next snapshot will read everything: {}", memory.error().what));

  reporter.phase("reading", 0);
  Throttle throttle(request.read_bytes_per_second, vault.clock());
  TRY(Pipeline(*capture, writer, remembered, memory ? memory->get() : nullptr, throttle, vault.clock(),
               reporter, outcome)
          .run(request.workers, stop));
  TRY(capture->finish());
  outcome.read_waited = throttle.waited();
  // Of an entry whose content could not be read, its attributes mostly could not either: named once.
  std::unordered_set<std::string> named;
  for (const Defect& defect : outcome.defects) named.insert(defect.path);
  for (Defect& defect : capture->defects())
    if (!named.contains(defect.path)) outcome.defects.push_back(std::move(defect));
  const int64_t finished_ns = to_unix_ns(vault.clock().now());
  TRY(add_about(writer, request, outcome.defects));

  reporter.phase("committing", 0);
  CommitRecord commit{.kind = request.kind, .started_ns = started_ns, .finished_ns = finished_ns};
  TRY_ASSIGN(const LiveRecord live, writer.finish(commit, [&session] { return session->next_map_name(); }));
  commit.size_bytes = outcome.bytes;  // not of what we say of it
  outcome.bytes_known = writer.bytes_known();
  commit.facts = capture->facts();
  // Which ones and why is told in the tree: names are the reader's.
  if (!outcome.defects.empty())
    commit.defects.push_back(
        fmt::format("{} of its entries are not as they should be", outcome.defects.size()));
  outcome.keep_reason = complete_commit(commit, request, list, vault.clock().now());
  TRY(still_wanted(protocol, request));
  TRY(hold_until_reviewed(protocol, options.snapshot, request));
  TRY_ASSIGN(const CommittedSnapshot committed, session->commit(std::move(commit), live));
  give_up.committed();
  if (memory) {
    if (auto kept = (*memory)->keep(); !kept)
      reporter.note(fmt::format("the next snapshot will read everything: {}", kept.error().what));
  }

  outcome.commit_name = committed.name;
  outcome.commit = committed.record;
  outcome.seconds = std::chrono::duration<double>(vault.clock().steady() - began).count();
  return outcome;
}

}  // namespace kuramori
