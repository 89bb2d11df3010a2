#include "vault/snapshot_reader.h"

#include <fmt/core.h>

#include "base/check.h"
#include "codec/page_filter.h"
#include "conc/task_group.h"
#include "crypto/digest.h"
#include "vault/older_versions.h"

namespace kuramori {
namespace {

constexpr size_t kOpenPacksMax = 64;     // descriptors and directories held at once
constexpr size_t kCachedFramesMax = 48;  // a thread's decoded frames: two batches
constexpr uint32_t kBatchFrames = 24;    // frames fetched with one read in a long run: 1 MiB of pages
constexpr size_t kPacksAhead = 8;        // opened together where everything is read
constexpr uint64_t kTreeBytesMax = 4ull << 30;

Result<std::vector<PageMap>> open_maps(Store& store, const KeyBundle& keys, const CommitRecord& commit) {
  std::vector<PageMap> maps;
  for (const ObjectRef& ref : commit.maps) {
    TRY_ASSIGN(Bytes object, get_bound(store, ref));
    TRY_ASSIGN(PageMap map, decode_map(object, keys, ref.name));
    maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace

Result<LiveRecord> read_live(Store& store, RecordCodec& codec, const CommitRecord& commit) {
  TRY_ASSIGN(Bytes object, get_bound(store, commit.live));
  TRY_ASSIGN(OpenedRecord record, codec.decode(commit.live.name, object));
  if (record.type != RecordType::kLive) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not a live record", commit.live.name));
  }
  return decode<LiveRecord>(record.body);
}

Result<Tree> read_tree(Store& store, const KeyBundle& keys, const LiveRecord& live,
                       const CommitRecord& commit) {
  Bytes encoded;
  FrameWorkshop workshop(kZstdLevel);
  for (const FrameSpan& span : commit.tree) {
    const auto bound = std::ranges::find(live.packs, span.pack, &LivePack::name);
    if (bound == live.packs.end())
      return fail(ErrorKind::kDamaged, fmt::format("the snapshot does not bind {}", span.pack));
    TRY_ASSIGN(auto pack, PackReader::open(store, keys, span.pack, &*bound));
    TRY(pack->read(span.first, span.count, workshop, encoded));
    if (encoded.size() > kTreeBytesMax) return fail(ErrorKind::kDamaged, "a snapshot's tree is too large");
  }
  return decode_tree(encoded);
}

Result<Bytes> get_bound(Store& store, const ObjectRef& ref) {
  auto object = read_sound<Bytes>(store, ref.name, [&](ByteView bytes) -> Result<Bytes> {
    if (bytes.size() == ref.size && sha256(bytes) == ref.digest) return to_bytes(bytes);
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is damaged: it is not what its snapshot binds", ref.name));
  });
  if (!object && object.error().kind == ErrorKind::kNotFound)
    return fail(ErrorKind::kDamaged, fmt::format("{} is missing", ref.name), "a snapshot refers to it");
  return object;
}

Result<BaseSnapshot> open_base(Store& store, const KeyBundle& keys, RecordCodec& codec,
                               std::string commit_name, const CommitRecord& commit) {
  BaseSnapshot base{.commit_name = std::move(commit_name), .commit = commit};
  TRY_ASSIGN(base.live, read_live(store, codec, commit));
  TRY_ASSIGN(auto maps, open_maps(store, keys, commit));
  TRY_ASSIGN(base.pages, resolve(std::move(maps)));
  return base;
}

struct SnapshotReader::State {
  Store& store;
  const KeyBundle& keys;
  CommitRecord commit;
  LiveRecord live;
  ResolvedPages pages;
  Tree tree;
  Secret names_key;
  bool reads_everything = false;
  mutable std::mutex mutex;
  mutable std::list<std::pair<std::string, std::shared_ptr<PackReader>>>
      open_packs;                         // most recently used first
  mutable std::set<std::string> opening;  // by some thread, now: what it opens is for all
  mutable std::condition_variable opened;
  mutable std::mutex small_mutex;
  mutable Context small;  // of read_small_file

  // Under the lock.
  std::shared_ptr<PackReader> find_open(const std::string& name) const {
    for (auto it = open_packs.begin(); it != open_packs.end(); ++it) {
      if (it->first != name) continue;
      open_packs.splice(open_packs.begin(), open_packs, it);
      return it->second;
    }
    return nullptr;
  }

  Result<std::shared_ptr<PackReader>> pack(const std::string& name) const {
    std::vector<const LivePack*> wanted;
    {
      std::unique_lock lock(mutex);
      for (;;) {
        if (auto open = find_open(name)) return open;
        if (!opening.contains(name)) break;
        opened.wait(lock);
      }
      const auto bound = std::ranges::lower_bound(live.packs, name, {}, &LivePack::name);
      if (bound == live.packs.end() || bound->name != name)
        return fail(ErrorKind::kDamaged, fmt::format("the snapshot does not bind {}", name));
      wanted.push_back(&*bound);
      // To open one is some requests, one after the other. Those that will be wanted next take no longer if
      // they are opened at the same time.
      if (reads_everything) {
        const LivePack* end = live.packs.data() + live.packs.size();
        for (const LivePack* next = &*bound + 1; next != end && wanted.size() < kPacksAhead; ++next) {
          if (find_open(next->name) == nullptr && !opening.contains(next->name)) wanted.push_back(next);
        }
      }
      for (const LivePack* pack : wanted) opening.insert(pack->name);
    }
    std::optional<Result<std::shared_ptr<PackReader>>> asked;
    auto open = [&](size_t i, std::stop_token) -> Result<void> {
      auto found = PackReader::open(store, keys, wanted[i]->name, wanted[i]);
      {
        std::lock_guard lock(mutex);
        if (found) open_packs.emplace_front(wanted[i]->name, *found);
        if (open_packs.size() > kOpenPacksMax) open_packs.pop_back();
        opening.erase(wanted[i]->name);
      }
      opened.notify_all();
      // What is wrong with another is told when it is asked for.
      if (i == 0) asked = std::move(found);
      return {};
    };
    if (wanted.size() == 1) {
      TRY(open(0, {}));
    } else {
      TRY(parallel_for(wanted.size(), wanted.size(), {}, open));
    }
    if (*asked || asked->error().kind != ErrorKind::kNotFound) return std::move(*asked);
    return fail(ErrorKind::kDamaged, fmt::format("{} is missing", name),
                "the snapshot cannot be restored without it",
                "kuramori vault scrub names every snapshot that needs it");
  }
};

SnapshotReader::SnapshotReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
SnapshotReader::~SnapshotReader() = default;
const CommitRecord& SnapshotReader::commit() const {
  return state_->commit;
}
const Tree& SnapshotReader::tree() const {
  return state_->tree;
}
void SnapshotReader::expect_everything() {
  state_->reads_everything = true;
}
uint64_t SnapshotReader::stored_bytes() const {
  uint64_t bytes = 0;
  for (const LivePack& pack : state_->live.packs) bytes += pack.size;
  return bytes;
}

Result<std::unique_ptr<SnapshotReader>> SnapshotReader::open(Store& store, const KeyBundle& keys,
                                                             RecordCodec& codec, std::string commit_name,
                                                             const CommitRecord& commit) {
  std::unique_ptr<State> state(new State{.store = store, .keys = keys, .commit = commit});
  TRY_ASSIGN(state->live, read_live(store, codec, commit));
  std::ranges::sort(state->live.packs, {}, &LivePack::name);  // as it was written; nobody has to believe it
  TRY_ASSIGN(auto maps, open_maps(store, keys, commit));
  TRY_ASSIGN(state->pages, resolve(std::move(maps)));
  state->names_key = path_key(keys, commit.resource);
  Bytes encoded;
  FrameWorkshop workshop(kZstdLevel);
  for (const FrameSpan& span : commit.tree) {
    TRY_ASSIGN(auto pack, state->pack(span.pack));
    TRY(pack->read(span.first, span.count, workshop, encoded));
    if (encoded.size() > kTreeBytesMax)
      return fail(ErrorKind::kDamaged, fmt::format("the tree of {} is too large", commit_name));
  }
  TRY_ASSIGN(state->tree, decode_tree(encoded));
  return std::unique_ptr<SnapshotReader>(new SnapshotReader(std::move(state)));
}

Result<const FilePages*> SnapshotReader::pages_of(const std::string& path) const {
  auto it = state_->pages.files.find(file_key(state_->names_key.view(), path));
  if (it == state_->pages.files.end())
    return fail(ErrorKind::kNotFound, fmt::format("no page map knows {}", path));
  return &it->second;
}

Result<Bytes> SnapshotReader::read_small_file(std::string_view path) const {
  for (const TreeNode& node : state_->tree.nodes) {
    if (node.entry.path != path || node.entry.content != ContentKind::kBytes) continue;
    std::lock_guard lock(state_->small_mutex);
    Bytes content;
    for (const Extent& extent : node.extents) TRY(read_extent(extent, state_->small, content));
    return content;
  }
  return fail(ErrorKind::kNotFound,
              fmt::format("snapshot {} has no file {}", state_->commit.snapshot.hex(), path));
}

std::set<std::string> SnapshotReader::files_in(const std::string& pack) const {
  const Tree& tree = state_->tree;
  const auto& page_packs = state_->pages.packs;
  const auto in_tree = static_cast<uint32_t>(std::ranges::find(tree.packs, pack) - tree.packs.begin());
  const auto in_pages = static_cast<uint32_t>(std::ranges::find(page_packs, pack) - page_packs.begin());
  std::set<std::string> paths;
  for (const TreeNode& node : tree.nodes) {
    if (node.entry.type != EntryType::kFile) continue;
    bool touched = std::ranges::count(node.extents, in_tree, &Extent::pack) != 0;
    if (node.entry.content == ContentKind::kPages) {
      Result<const FilePages*> pages = pages_of(node.entry.path);
      touched = pages && std::ranges::count((*pages)->runs, in_pages, &PageRun::pack) != 0;
    }
    if (touched) paths.insert(node.entry.path);
  }
  return paths;
}

Result<void> SnapshotReader::read_pages(const FilePages& file, uint32_t first, MutableByteView out,
                                        Context& context) const {
  CHECK(out.size() % kPageBytes == 0);
  uint32_t end = first + static_cast<uint32_t>(out.size() / kPageBytes);
  if (end > file.pages)
    return fail(ErrorKind::kDamaged,
                fmt::format("a file has {} pages, page {} was asked for", file.pages, end - 1));
  auto run = std::upper_bound(file.runs.begin(), file.runs.end(), first,
                              [](uint32_t page, const PageRun& r) { return page < r.page + r.count; });
  uint32_t page = first;
  while (page < end) {
    CHECK(run != file.runs.end() && run->page <= page);
    uint32_t until = std::min(end, run->page + run->count);
    if (run->pack == kZeroPack) {
      std::memset(out.data(), 0, size_t{until - page} * kPageBytes);
      out = out.subspan(size_t{until - page} * kPageBytes);
      page = until;
      ++run;
      continue;
    }
    TRY_ASSIGN(auto pack, state_->pack(state_->pages.packs[run->pack]));
    while (page < until) {
      uint64_t position = uint64_t{run->frame} * kPagesPerFrame + run->slot + (page - run->page);
      uint32_t frame = static_cast<uint32_t>(position / kPagesPerFrame),
               slot = static_cast<uint32_t>(position % kPagesPerFrame);
      uint64_t last_frame = (position + (until - page) - 1) / kPagesPerFrame;
      uint32_t frames = static_cast<uint32_t>(std::min<uint64_t>(last_frame - frame + 1, kBatchFrames));
      const Bytes* plain = nullptr;
      PageFilter filter = PageFilter::kNone;
      if (frames > 1) {
        context.batch.clear();
        TRY(pack->read(frame, frames, context.workshop, context.batch));
        plain = &context.batch;
      } else {
        // Single frames are likely to be asked for again: a changed page's neighbours lie in the same one.
        auto cached = std::find_if(context.frames.begin(), context.frames.end(),
                                   [&](auto& c) { return c.pack == run->pack && c.frame == frame; });
        if (cached == context.frames.end()) {
          Context::CachedFrame fresh;
          if (context.frames.size() >= kCachedFramesMax) {
            fresh.plain.swap(context.frames.back().plain);
            context.frames.pop_back();
          }
          fresh.pack = kZeroPack;
          TRY(pack->read(frame, 1, context.workshop, fresh.plain, PackReader::Pages::kFiltered));
          fresh.filter = pack->filter_of(frame);
          fresh.pack = run->pack;
          fresh.frame = frame;
          context.frames.push_front(std::move(fresh));
        } else {
          context.frames.splice(context.frames.begin(), context.frames, cached);
        }
        plain = &context.frames.front().plain;
        filter = context.frames.front().filter;
      }
      size_t at = size_t{slot} * kPageBytes;
      size_t bytes = std::min<size_t>(size_t{until - page} * kPageBytes,
                                      size_t{frames} * kPagesPerFrame * kPageBytes - at);
      if (plain->size() < at + bytes)
        return fail(ErrorKind::kDamaged, "a frame holds fewer pages than its map says");
      std::memcpy(out.data(), plain->data() + at, bytes);
      unfilter_pages(out.first(bytes), filter);
      out = out.subspan(bytes);
      page += static_cast<uint32_t>(bytes / kPageBytes);
    }
    ++run;
  }
  return {};
}

Result<void> SnapshotReader::read_extent(const Extent& extent, Context& context, Bytes& out) const {
  const std::string& name = state_->tree.packs[extent.pack];
  TRY_ASSIGN(auto pack, state_->pack(name));
  // Byte frames and page frames share the cache: their numbers do not meet, since pack indexes of the tree
  // are kept apart by the high bit.
  uint32_t pack_id = extent.pack | 0x80000000u;
  auto cached = std::find_if(context.frames.begin(), context.frames.end(),
                             [&](auto& c) { return c.pack == pack_id && c.frame == extent.frame; });
  if (cached == context.frames.end()) {
    SnapshotReader::Context::CachedFrame fresh;
    TRY(pack->read(extent.frame, 1, context.workshop, fresh.plain));
    fresh.pack = pack_id;
    fresh.frame = extent.frame;
    if (context.frames.size() >= kCachedFramesMax) context.frames.pop_back();
    context.frames.push_front(std::move(fresh));
  } else {
    context.frames.splice(context.frames.begin(), context.frames, cached);
  }
  const Bytes& plain = context.frames.front().plain;
  if (plain.size() < uint64_t{extent.offset} + extent.bytes) {
    return fail(ErrorKind::kDamaged,
                fmt::format("frame {} of {} holds fewer bytes than the tree says", extent.frame, name));
  }
  append(out, ByteView(plain).subspan(extent.offset, extent.bytes));
  return {};
}

}  // namespace kuramori
