#include "vault/chunk_index.h"

#include <fmt/core.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "base/check.h"
#include "conc/task_group.h"
#include "crypto/digest.h"
#include "vault/older_versions.h"
#include "vault/page_map.h"

namespace kuramori {
namespace {

constexpr std::string_view kCachePrefix = "chunks-";
constexpr size_t kFetchBytes = size_t{1} << 20;
constexpr uint64_t kMergedAtMost = 2;  // times what is being written: a run that is no larger goes along
constexpr double kDeadShareMax = 0.5;

std::string cache_prefix(std::string_view run) {
  return fmt::format("{}{}.", kCachePrefix, run.substr(run.rfind('/') + 1));
}

// Its name is never used for other bytes, and the digest keeps what somebody else put there apart.
std::string cache_name(const ObjectRef& ref) {
  return cache_prefix(ref.name) + ref.digest.hex().substr(0, 32);
}

// Whether every byte of a cached file is what the commit binds.
bool is_whole(const Fd& file, const ObjectRef& ref, const std::string& path) {
  Sha256 digest;
  Bytes piece;
  for (uint64_t at = 0; at < ref.size; at += piece.size()) {
    piece.resize(std::min<uint64_t>(kFetchBytes, ref.size - at));
    if (!pread_full(file, at, piece, path)) return false;
    digest.add(piece);
  }
  return digest.finish() == ref.digest;
}

// Into `file`, held against what the commit binds on the way.
Result<void> copy_bound(ObjectReader& from, const ObjectRef& ref, const Fd& file, const std::string& path) {
  const auto damaged = [&] {
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is damaged: it is not what its snapshot binds", ref.name));
  };
  if (from.size() != ref.size) return damaged();
  from.expect_stream(0, ref.size);
  Sha256 digest;
  Bytes piece;
  for (uint64_t at = 0; at < ref.size; at += piece.size()) {
    piece.resize(std::min<uint64_t>(kFetchBytes, ref.size - at));
    TRY(from.read(at, piece));
    digest.add(piece);
    TRY(pwrite_full(file, at, piece, path));
  }
  if (digest.finish() != ref.digest) return damaged();
  return {};
}

Result<void> fetch_into(Store& store, const ObjectRef& ref, const Fd& file, const std::string& path) {
  const auto copied = [&](Result<std::unique_ptr<ObjectReader>> object) -> Result<void> {
    if (!object) return std::move(object).error();
    return copy_bound(**object, ref, file, path);
  };
  auto done = first_sound<void>(
      store, ref.name, [&] { return copied(store.open(ref.name)); },
      [&](Versions& versions, const ObjectVersion& version) {
        return copied(versions.open_version(ref.name, version.id));
      });
  if (!done && done.error().kind == ErrorKind::kNotFound)
    return fail(ErrorKind::kDamaged, fmt::format("{} is missing", ref.name), "a snapshot refers to it");
  return done;
}

// A file beside `path` that nobody else has: its name is this process's, and counted.
Result<Fd> new_file_beside(const std::string& path, std::string& name) {
  static std::atomic<uint64_t> counter{0};
  for (;;) {
    name = fmt::format("{}.new-{}-{}", path, ::getpid(), counter++);
    auto file = open_file(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    // Left by a process of this number that was killed.
    if (!file && file.error().kind == ErrorKind::kExists) continue;
    return file;
  }
}

Result<Fd> fetch_unnamed(Store& store, const ObjectRef& ref) {
  const char* chosen = std::getenv("TMPDIR");
  const std::string folder = chosen != nullptr && *chosen != 0 ? chosen : "/var/tmp";
  std::string name;
  TRY_ASSIGN(Fd file, new_file_beside(join_path(folder, cache_name(ref)), name));
  ::unlink(name.c_str());
  TRY(fetch_into(store, ref, file, name));
  return file;
}

Result<Fd> fetch_named(Store& store, const ObjectRef& ref, const std::string& path) {
  std::string name;
  TRY_ASSIGN(Fd file, new_file_beside(path, name));
  if (auto fetched = fetch_into(store, ref, file, name); !fetched) {
    ::unlink(name.c_str());
    return std::move(fetched).error();
  }
  // Not fsynced: a file that did not survive a power cut does not open, and is fetched again. Where another
  // program cleaned up meanwhile there is no name to give it, and the bytes are here all the same.
  if (::rename(name.c_str(), path.c_str()) != 0) ::unlink(name.c_str());
  return file;
}

// Of more than kCachedRunsMax files those that were used longest ago go, but for `keep`. A file that somebody
// else has open stays readable for them.
void remove_old(const std::string& folder, const std::vector<std::string>& keep) {
  const auto entries = list_folder(folder);
  if (!entries || entries->size() <= kCachedRunsMax) return;
  std::vector<std::pair<Time, std::string>> old;
  size_t all = 0;
  for (const FolderEntry& entry : *entries) {
    if (!entry.name.starts_with(kCachePrefix)) continue;
    ++all;
    if (std::ranges::find(keep, entry.name) != keep.end()) continue;
    const std::string path = join_path(folder, entry.name);
    const auto status = status_of(path);
    if (status && status->type == FileType::kFile) old.emplace_back(status->modified, path);
  }
  std::ranges::sort(old);
  const size_t too_many = all - std::min(all, kCachedRunsMax);
  for (size_t i = 0; i < std::min(too_many, old.size()); ++i) ::unlink(old[i].second.c_str());
}

}  // namespace

// --- one run ---------------------------------------------------------------------------------------------

struct ChunkIndex::Run {
  ObjectRef ref;
  std::string path;  // "": it has none
  bool only_cached = false;
  ChunkRun table;
  std::mutex mutex;
  std::shared_ptr<const Fd> file;              // guarded by mutex: replaced when it turns out damaged
  std::vector<const std::string*> pack_names;  // guarded by the index's mutex: those that were asked for

  std::shared_ptr<const Fd> current() {
    const std::lock_guard lock(mutex);
    return file;
  }
  ChunkRun::ReadAt reader(const std::shared_ptr<const Fd>& of) const {
    return [&from = *of, this](uint64_t offset, MutableByteView out) {
      return pread_full(from, offset, out, path.empty() ? ref.name : path);
    };
  }
};

ChunkIndex::ChunkIndex(Store& store, const KeyBundle& keys, std::string cache_folder)
    : store_(store), keys_(keys), cache_folder_(std::move(cache_folder)) {}
ChunkIndex::~ChunkIndex() = default;

Result<std::unique_ptr<ChunkIndex>> ChunkIndex::open(Store& store, const KeyBundle& keys,
                                                     const std::vector<ObjectRef>& runs,
                                                     const std::string& cache_folder,
                                                     std::vector<LostRun>* lost) {
  if (runs.size() > kMapsMax) {
    return fail(
        ErrorKind::kDamaged,
        fmt::format("a snapshot names {} runs of the chunk index, {} are allowed", runs.size(), kMapsMax));
  }
  std::unique_ptr<ChunkIndex> index(new ChunkIndex(store, keys, cache_folder));
  if (!cache_folder.empty()) TRY(make_folders(cache_folder, 0700));
  std::vector<std::string> opened;
  const std::vector<uint8_t> stand = index->look_which_stand(runs);
  for (size_t i = 0; i < runs.size(); ++i) {
    if (auto added = index->add(runs[i], stand[i] != 0); !added) {
      if (lost == nullptr || added.error().kind != ErrorKind::kDamaged) return std::move(added).error();
      lost->push_back({.ref = runs[i], .why = std::move(added).error()});
      continue;
    }
    index->refs_.push_back(runs[i]);
    opened.push_back(cache_name(runs[i]));
  }
  if (!cache_folder.empty()) remove_old(cache_folder, opened);
  return index;
}

void ChunkIndex::forget(const std::string& cache_folder, std::string_view run) {
  const auto entries = list_folder(cache_folder);
  if (!entries) return;
  for (const FolderEntry& entry : *entries) {
    if (entry.name.starts_with(cache_prefix(run))) ::unlink(join_path(cache_folder, entry.name).c_str());
  }
}

// Of those that will not be fetched, since the cache has them: without a look at the vault nobody would
// notice before the cache is lost too. Whatever else the store answers than "not there" says nothing.
std::vector<uint8_t> ChunkIndex::look_which_stand(const std::vector<ObjectRef>& runs) const {
  std::vector<uint8_t> stand(runs.size(), 1);
  if (cache_folder_.empty() || runs.empty()) return stand;
  const auto look = [&](size_t i, std::stop_token) -> Result<void> {
    if (!status_of(join_path(cache_folder_, cache_name(runs[i])))) return {};
    const auto object = store_.head(runs[i].name);
    if (object ? object->size != runs[i].size : object.error().kind == ErrorKind::kNotFound) stand[i] = 0;
    return {};
  };
  CHECK(parallel_for(runs.size(), runs.size(), {}, look));
  return stand;
}

Result<void> ChunkIndex::add(const ObjectRef& ref, bool stands) {
  auto run = std::make_unique<Run>();
  run->ref = ref;
  const auto open_table = [&](Fd file) -> Result<void> {
    run->file = std::make_shared<const Fd>(std::move(file));
    TRY_ASSIGN(run->table, ChunkRun::open(run->reader(run->file), ref.size, keys_, ref.name));
    return {};
  };
  if (!cache_folder_.empty()) {
    run->path = join_path(cache_folder_, cache_name(ref));
    auto cached = open_file(run->path, O_RDONLY | O_NOFOLLOW);
    const auto status = cached ? status_of(*cached, run->path) : Result<FileStatus>(cached.error());
    if (status && status->size == ref.size && open_table(std::move(*cached)) &&
        (stands || is_whole(*run->file, ref, run->path))) {
      run->only_cached = !stands;
      ::futimens(run->file->get(), nullptr);  // that it is in use: remove_old() goes by it
      runs_.push_back(std::move(run));
      return {};
    }
  }
  TRY_ASSIGN(Fd file, run->path.empty() ? fetch_unnamed(store_, ref) : fetch_named(store_, ref, run->path));
  TRY(open_table(std::move(file)));
  runs_.push_back(std::move(run));
  return {};
}

Result<std::vector<ChunkEntry>> ChunkIndex::read_block(size_t number, uint32_t block) {
  Run& run = *runs_[number];
  const auto file = run.current();
  auto entries = run.table.read_block(run.reader(file), block);
  if (entries) return entries;
  // The file rotted, or was tampered with: once more from the vault, and what then does not open is damaged.
  const std::lock_guard fetching(fetching_);
  auto newer = run.current();
  if (newer == file) {
    TRY_ASSIGN(Fd fetched, fetch_again(run));
    newer = std::make_shared<const Fd>(std::move(fetched));
    const std::lock_guard lock(run.mutex);
    run.file = newer;
  }
  return run.table.read_block(run.reader(newer), block);
}

Result<Fd> ChunkIndex::fetch_again(Run& run) {
  if (run.path.empty()) return fetch_unnamed(store_, run.ref);
  auto fetched = fetch_named(store_, run.ref, run.path);
  if (fetched || fetched.error().kind != ErrorKind::kDamaged) return fetched;
  // Both are of no use. Without the one here the next snapshot finds out as it begins, and mends it.
  ::unlink(run.path.c_str());
  Error error = std::move(fetched).error();
  error.why = "what this machine remembered of it is damaged as well";
  error.next = "run the backup again: it writes the chunk index anew";
  return error;
}

bool ChunkIndex::is_only_cached(size_t run) const {
  return runs_[run]->only_cached;
}

// --- looking up ------------------------------------------------------------------------------------------

Result<std::shared_ptr<const std::vector<ChunkEntry>>> ChunkIndex::held_block(size_t run, uint32_t block) {
  {
    const std::lock_guard lock(mutex_);
    const auto known =
        std::ranges::find_if(held_, [&](const Held& one) { return one.run == run && one.block == block; });
    if (known != held_.end()) {
      held_.splice(held_.begin(), held_, known);
      return known->entries;
    }
  }
  TRY_ASSIGN(auto entries, read_block(run, block));
  auto shared = std::make_shared<const std::vector<ChunkEntry>>(std::move(entries));
  const std::lock_guard lock(mutex_);
  held_.push_front({run, block, shared});
  if (held_.size() > kChunkBlocksHeld) held_.pop_back();
  return shared;
}

const std::string& ChunkIndex::pack_name(size_t number, uint32_t pack) {
  Run& run = *runs_[number];
  const std::lock_guard lock(mutex_);
  if (run.pack_names.empty()) run.pack_names.resize(run.table.packs());
  const std::string*& name = run.pack_names[pack];
  if (name == nullptr) name = &*names_.insert(run.table.pack_name(pack)).first;
  return *name;
}

Result<std::optional<ChunkPlace>> ChunkIndex::find(const ChunkId& id, const Usable& usable) {
  for (size_t number = 0; number < runs_.size(); ++number) {
    const ChunkRun& table = runs_[number]->table;
    auto block = table.last_block_for(id);
    while (block) {
      if (table.may_be_in(*block, id)) {
        TRY_ASSIGN(const auto entries, held_block(number, *block));
        const auto found = std::ranges::lower_bound(*entries, id, {}, &ChunkEntry::id);
        if (found != entries->end() && found->id == id) {
          const ChunkPlace place{
              .pack = &pack_name(number, found->pack), .frame = found->frame, .offset = found->offset};
          if (!usable || usable(place)) return std::optional(place);
          break;  // a run has an id once
        }
      }
      block = table.goes_on_before(*block, id) ? std::optional(*block - 1) : std::nullopt;
    }
  }
  return std::optional<ChunkPlace>();
}

uint64_t ChunkIndex::entries_of(size_t run) const {
  return runs_[run]->table.entries();
}
uint64_t ChunkIndex::entries() const {
  uint64_t all = 0;
  for (const auto& run : runs_) all += run->table.entries();
  return all;
}
size_t ChunkIndex::memory_bytes() const {
  size_t bytes = 0;
  for (const auto& run : runs_) bytes += sizeof(Run) + run->table.memory_bytes();
  return bytes;
}

Result<bool> ChunkIndex::Cursor::next() {
  if (at_ + 1 < entries_.size()) {
    ++at_;
    return true;
  }
  if (next_block_ == index_.runs_[run_]->table.blocks()) return false;
  TRY_ASSIGN(entries_, index_.read_block(run_, next_block_++));
  at_ = 0;
  return true;
}

Result<double> ChunkIndex::dead_share(size_t run, const KeepFrame& keep) {
  const uint32_t blocks = runs_[run]->table.blocks();
  const uint32_t looked_at = std::min(blocks, kChunkSampleBlocks);
  size_t all = 0, dead = 0;
  for (uint32_t i = 0; i < looked_at; ++i) {
    TRY_ASSIGN(const auto entries, read_block(run, static_cast<uint32_t>(uint64_t{i} * blocks / looked_at)));
    for (const ChunkEntry& entry : entries) {
      ++all;
      if (!keep(pack_name(run, entry.pack), entry.frame)) ++dead;
    }
  }
  return static_cast<double>(dead) / static_cast<double>(all);
}

// --- levels ----------------------------------------------------------------------------------------------

namespace {

// How many of base's runs, from the newest on, are written anew together with what is fresh.
Result<size_t> runs_to_merge(const ChunkRunOptions& options, uint64_t fresh, ChunkIndex& base) {
  const size_t runs = base.refs().size();
  size_t merged = 0;
  for (size_t run = 0; run < runs; ++run) {
    TRY_ASSIGN(const double dead, base.dead_share(run, options.keep));
    if (dead > kDeadShareMax || base.is_only_cached(run)) merged = run + 1;
  }
  uint64_t writing = fresh;
  for (size_t run = 0; run < merged; ++run) writing += base.entries_of(run);
  if (writing == 0) return size_t{0};
  while (merged < runs &&
         (base.entries_of(merged) <= kMergedAtMost * writing || runs - merged + 1 > kMapsMax))
    writing += base.entries_of(merged++);
  return merged;
}

// Writes a run once there is something to write.
class LateRun {
 public:
  explicit LateRun(const ChunkRunOptions& options) : options_(options) {}
  Result<void> add(ChunkEntry entry, const std::string& pack) {
    if (!writer_) {
      TRY_ASSIGN(writer_, ChunkRunWriter::create(options_.store, options_.keys, options_.random,
                                                 options_.next_name(), options_.scope));
    }
    TRY_ASSIGN(entry.pack, writer_->pack(pack));
    return writer_->add(entry);
  }
  Result<std::optional<ObjectRef>> finish() {
    if (!writer_) return std::optional<ObjectRef>();
    TRY_ASSIGN(ObjectRef ref, writer_->finish());
    return std::optional(std::move(ref));
  }

 private:
  const ChunkRunOptions& options_;
  std::unique_ptr<ChunkRunWriter> writer_;
};

}  // namespace

Result<std::vector<ObjectRef>> add_run(const ChunkRunOptions& options, const std::vector<ChunkEntry>& fresh,
                                       const std::vector<std::string>& packs, ChunkIndex* base) {
  size_t merged = 0;
  if (base != nullptr) {
    TRY_ASSIGN(merged, runs_to_merge(options, fresh.size(), *base));
  }
  LateRun run(options);
  std::vector<ChunkIndex::Cursor> cursors;
  std::vector<bool> has_more;
  for (size_t i = 0; i < merged; ++i) {
    cursors.emplace_back(*base, i);
    TRY_ASSIGN(const bool more, cursors.back().next());
    has_more.push_back(more);
  }
  // The least id of all, from what is fresh or the newest run that has it alive; then everything of that id
  // is passed by.
  for (size_t at = 0;;) {
    const ChunkId* least = at < fresh.size() ? &fresh[at].id : nullptr;
    for (size_t i = 0; i < merged; ++i) {
      if (has_more[i] && (least == nullptr || cursors[i].entry().id < *least)) least = &cursors[i].entry().id;
    }
    if (least == nullptr) break;
    const ChunkId id = *least;
    bool written = false;
    if (at < fresh.size() && fresh[at].id == id) {
      CHECK(fresh[at].pack < packs.size());
      TRY(run.add(fresh[at], packs[fresh[at].pack]));
      written = true;
      ++at;
    }
    for (size_t i = 0; i < merged; ++i) {
      if (!has_more[i] || cursors[i].entry().id != id) continue;
      if (!written && options.keep(cursors[i].pack(), cursors[i].entry().frame)) {
        TRY(run.add(cursors[i].entry(), cursors[i].pack()));
        written = true;
      }
      TRY_ASSIGN(const bool more, cursors[i].next());
      has_more[i] = more;
    }
  }
  std::vector<ObjectRef> refs;
  TRY_ASSIGN(std::optional<ObjectRef> written, run.finish());
  if (written) refs.push_back(std::move(*written));
  if (base != nullptr) {
    refs.insert(refs.end(), base->refs().begin() + static_cast<ptrdiff_t>(merged), base->refs().end());
  }
  return refs;
}

}  // namespace kuramori
