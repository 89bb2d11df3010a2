#include "vault/snapshot_reader.h"

#include <fmt/core.h>

#include "base/check.h"
#include "codec/page_filter.h"
#include "conc/task_group.h"
#include "crypto/digest.h"
#include "vault/older_versions.h"

namespace kuramori {
namespace {

// Held open at once: where many snapshots changed a page here and there, each piece of a file lies in a pack
// of every one of them, and to open one again costs more than what is read of it.
constexpr size_t kOpenPacksMax = 512;       // descriptors
constexpr size_t kOpenFramesMax = 1 << 19;  // in their directories: 12 MiB
// Frames of a stretch that are opened one by one, and held: a neighbour may want what is left of them.
constexpr uint32_t kHeldFramesMax = 4;
constexpr uint32_t kBatchFrames = 24;  // frames fetched with one read in a long run: 1 MiB of pages
// A chunk from here on has its frame for itself (tree_writer.cc), and is opened where it goes, not held.
// Where that no longer agreed it would be slower, not wrong.
constexpr size_t kReadPastHeldBytes = size_t{256} << 10;
constexpr size_t kPacksAhead = 8;          // opened together where everything is read
constexpr uint64_t kNextBytes = 4u << 20;  // on their way of the pack after one that is begun
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

uint64_t place_of(uint32_t pack, uint32_t frame) {
  return uint64_t{pack} << 32 | frame;
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
  std::optional<TreeRoot> root;  // then the tree is in segments
  Secret names_key;
  bool reads_everything = false;
  mutable std::mutex mutex;
  struct OpenPack {
    const LivePack* live;
    std::shared_ptr<PackReader> reader;
  };
  mutable std::list<OpenPack> open_packs;  // most recently used first
  mutable std::unordered_map<const LivePack*, std::list<OpenPack>::iterator> open_at;
  mutable size_t open_frames = 0;
  mutable std::set<const LivePack*> opening;  // by some thread, now: what it opens is for all
  mutable std::condition_variable opened;
  // Of each pack, where everything is read; it stays when one is closed and opened again.
  struct Progress {
    bool begun = false, announced = false;  // somebody reads it; the store was told that it will be read
  };
  mutable std::vector<Progress> progress;
  mutable bool opens_ahead = false;
  mutable std::mutex small_mutex;
  mutable Context small;  // of read_small_file
  mutable std::jthread opener;

  Result<Tree> segment(const TreeRoot::Segment& at, FrameWorkshop& workshop, Bytes* bytes = nullptr) const;
  Result<uint32_t> number_of(std::string_view pack) const;

  const LivePack* packs_end() const { return live.packs.data() + live.packs.size(); }

  Progress& progress_of(const LivePack* pack) const {
    return progress[static_cast<size_t>(pack - live.packs.data())];
  }

  // Under the lock, as all up to open().
  std::list<OpenPack>::iterator find_open(const LivePack* pack) const {
    auto at = open_at.find(pack);
    return at == open_at.end() ? open_packs.end() : at->second;
  }
  void keep_open(OpenPack pack) const {
    if (open_at.contains(pack.live)) return;
    open_frames += pack.reader->frames().size();
    open_packs.push_front(std::move(pack));
    open_at[open_packs.front().live] = open_packs.begin();
    while (open_packs.size() > 1 && (open_packs.size() > kOpenPacksMax || open_frames > kOpenFramesMax)) {
      open_frames -= open_packs.back().reader->frames().size();
      open_at.erase(open_packs.back().live);
      open_packs.pop_back();
    }
  }

  // To open a pack is some requests, one after the other. Those that will be wanted after this one take no
  // longer if they are opened at the same time.
  void open_after(const LivePack* pack) const {
    if (opens_ahead) return;
    std::vector<const LivePack*> closed;
    for (const LivePack* next = pack + 1; next != packs_end() && closed.size() + 1 < kPacksAhead; ++next) {
      if (find_open(next) == open_packs.end() && !opening.contains(next)) closed.push_back(next);
    }
    // Not one by one: again when half of those that were opened together are behind.
    if (closed.empty() || closed.front() > pack + kPacksAhead / 2) return;
    opening.insert(closed.begin(), closed.end());
    opens_ahead = true;
    opener = std::jthread([this, closed = std::move(closed)] {
      // What is wrong with one of them is told when it is asked for.
      (void)parallel_for(closed.size(), closed.size(), {}, [&](size_t i, std::stop_token) -> Result<void> {
        (void)open(closed[i]);
        return {};
      });
      const std::lock_guard lock(mutex);
      opens_ahead = false;
    });
  }

  void announce(const OpenPack& pack, uint64_t bytes) const {
    if (pack.live->frames.empty() || std::exchange(progress_of(pack.live).announced, true)) return;
    uint64_t needed = 0;
    for (const FrameRange& range : pack.live->frames) needed += range.count;
    // Of one of which little is needed, what lies between would be fetched in vain.
    if (2 * needed >= pack.reader->frames().size())
      pack.reader->expect_stream(pack.live->frames.front().first, bytes);
  }

  // Somebody begins to read this one, so the next that is open will be begun soon.
  void begin(const OpenPack& pack) const {
    if (std::exchange(progress_of(pack.live).begun, true)) return;
    announce(pack, 1);
    for (const LivePack* next = pack.live + 1; next != packs_end(); ++next) {
      if (progress_of(next).begun) continue;
      if (const auto it = find_open(next); it != open_packs.end()) announce(*it, kNextBytes);
      break;
    }
    open_after(pack.live);
  }

  Result<std::shared_ptr<PackReader>> open(const LivePack* wanted) const {
    auto found = PackReader::open(store, keys, wanted->name, wanted);
    {
      const std::lock_guard lock(mutex);
      if (found) keep_open({.live = wanted, .reader = *found});
      opening.erase(wanted);
    }
    opened.notify_all();
    return found;
  }

  Result<std::shared_ptr<PackReader>> pack(const std::string& name) const {
    const auto bound = std::ranges::lower_bound(live.packs, name, {}, &LivePack::name);
    if (bound == live.packs.end() || bound->name != name)
      return fail(ErrorKind::kDamaged, fmt::format("the snapshot does not bind {}", name));
    const LivePack* const wanted = &*bound;
    {
      std::unique_lock lock(mutex);
      for (;;) {
        if (const auto it = find_open(wanted); it != open_packs.end()) {
          open_packs.splice(open_packs.begin(), open_packs, it);
          if (reads_everything) begin(*it);
          return it->reader;
        }
        if (!opening.contains(wanted)) break;
        opened.wait(lock);
      }
      opening.insert(wanted);
      if (reads_everything) open_after(wanted);
    }
    auto found = open(wanted);
    if (found && reads_everything) {
      const std::lock_guard lock(mutex);
      begin({.live = wanted, .reader = *found});
    }
    if (found || found.error().kind != ErrorKind::kNotFound) return found;
    return fail(ErrorKind::kDamaged, fmt::format("{} is missing", name),
                "the snapshot cannot be restored without it",
                "kuramori vault scrub names every snapshot that needs it");
  }
};

Result<uint32_t> SnapshotReader::State::number_of(std::string_view pack) const {
  const auto bound = std::ranges::lower_bound(live.packs, pack, {}, &LivePack::name);
  if (bound == live.packs.end() || bound->name != pack)
    return fail(ErrorKind::kDamaged, fmt::format("the snapshot does not bind {}", pack));
  return static_cast<uint32_t>(bound - live.packs.begin());
}

// One segment, with the packs of its extents as this snapshot numbers them.
Result<Tree> SnapshotReader::State::segment(const TreeRoot::Segment& at, FrameWorkshop& workshop,
                                            Bytes* bytes) const {
  TRY_ASSIGN(auto from, pack(root->packs[at.pack]));
  if (at.frame >= from->frames().size() || from->frames()[at.frame].type != FrameType::kTreeSegment)
    return fail(ErrorKind::kDamaged, "the snapshot's tree names what is no segment");
  Bytes encoded;
  TRY(from->read(at.frame, 1, workshop, encoded));
  TRY_ASSIGN(Tree segment, decode_segment(encoded));
  std::vector<uint32_t> numbers;
  for (const std::string& name : segment.packs) {
    TRY_ASSIGN(const uint32_t number, number_of(name));
    numbers.push_back(number);
  }
  for (TreeNode& node : segment.nodes) {
    for (Extent& extent : node.extents) {
      if (extent.pack != kHolePack) extent.pack = numbers[extent.pack];
    }
  }
  if (bytes != nullptr) *bytes = std::move(encoded);
  return segment;
}

SnapshotReader::SnapshotReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
SnapshotReader::~SnapshotReader() = default;
const CommitRecord& SnapshotReader::commit() const {
  return state_->commit;
}
const Tree& SnapshotReader::tree() const {
  return state_->tree;
}
std::vector<TreeNode> SnapshotReader::take_nodes() {
  return std::exchange(state_->tree.nodes, {});
}
void SnapshotReader::expect_everything() {
  state_->reads_everything = true;
  state_->progress.resize(state_->live.packs.size());
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
  state->names_key = path_key(keys, commit.resource);
  Bytes encoded;
  bool in_segments = false;
  FrameWorkshop workshop(kZstdLevel);
  for (const FrameSpan& span : commit.tree) {
    TRY_ASSIGN(auto pack, state->pack(span.pack));
    if (span.first < pack->frames().size())
      in_segments = pack->frames()[span.first].type == FrameType::kTreeRoot;
    TRY(pack->read(span.first, span.count, workshop, encoded));
    if (encoded.size() > kTreeBytesMax)
      return fail(ErrorKind::kDamaged, fmt::format("the tree of {} is too large", commit_name));
  }
  if (in_segments) {
    TRY_ASSIGN(state->root, decode_root(encoded));
  } else {
    TRY_ASSIGN(state->tree, decode_tree(encoded));
  }
  // A tree without pages needs no maps: what the commit names then are runs of the chunk index, for whoever
  // writes the next snapshot. It is the tree that says so: the type byte of an object is nobody's word.
  const auto has_pages = [](const TreeNode& node) { return node.entry.content == ContentKind::kPages; };
  if (std::ranges::any_of(state->tree.nodes, has_pages)) {
    TRY_ASSIGN(auto maps, open_maps(store, keys, commit));
    TRY_ASSIGN(state->pages, resolve(std::move(maps)));
  }
  return std::unique_ptr<SnapshotReader>(new SnapshotReader(std::move(state)));
}

Result<const FilePages*> SnapshotReader::pages_of(const std::string& path) const {
  auto it = state_->pages.files.find(file_key(state_->names_key.view(), path));
  if (it == state_->pages.files.end())
    return fail(ErrorKind::kNotFound, fmt::format("no page map knows {}", path));
  return &it->second;
}

bool SnapshotReader::is_in_segments() const {
  return state_->root.has_value();
}

uint64_t SnapshotReader::entries() const {
  return state_->root ? state_->root->entries : state_->tree.nodes.size();
}

Result<void> SnapshotReader::visit(const NodeVisitor& visit) const {
  if (!state_->root) {
    for (const TreeNode& node : state_->tree.nodes) TRY(visit(TreeNode(node)));
    return {};
  }
  FrameWorkshop workshop(kZstdLevel);
  TreeOrder order;
  uint64_t entries = 0;
  for (const TreeRoot::Segment& at : state_->root->segments) {
    TRY_ASSIGN(Tree segment, state_->segment(at, workshop));
    for (TreeNode& node : segment.nodes) {
      TRY(order.see(node.entry));
      ++entries;
      TRY(visit(std::move(node)));
    }
  }
  if (entries == state_->root->entries) return {};
  return fail(ErrorKind::kDamaged, fmt::format("the snapshot's tree has {} entries and says it has {}",
                                               entries, state_->root->entries));
}

Result<std::optional<TreeNode>> SnapshotReader::find(std::string_view path) const {
  const auto is_it = [&](const TreeNode& node) { return node.entry.path == path; };
  if (!state_->root) {
    const auto& nodes = state_->tree.nodes;
    const auto node = std::ranges::find_if(nodes, is_it);
    return node == nodes.end() ? std::optional<TreeNode>() : *node;
  }
  // It is in the last segment whose first path does not stand behind it.
  const auto& segments = state_->root->segments;
  FrameWorkshop workshop(kZstdLevel);
  size_t from = 0, to = segments.size();
  Tree found;
  while (from < to) {
    const size_t middle = from + (to - from) / 2;
    TRY_ASSIGN(Tree segment, state_->segment(segments[middle], workshop));
    if (segment.nodes.empty()) return fail(ErrorKind::kDamaged, "a segment of the tree is empty");
    if (tree_order(path, segment.nodes.front().entry.path)) {
      to = middle;
    } else {
      from = middle + 1;
      found = std::move(segment);
    }
  }
  const auto node = std::ranges::find_if(found.nodes, is_it);
  if (node == found.nodes.end()) return std::nullopt;
  return std::move(*node);
}

size_t SnapshotReader::segments() const {
  return state_->root ? state_->root->segments.size() : 0;
}

Result<Extent> SnapshotReader::segment_place(size_t number) const {
  CHECK(number < segments());
  const TreeRoot::Segment& at = state_->root->segments[number];
  TRY_ASSIGN(const uint32_t pack, state_->number_of(state_->root->packs[at.pack]));
  return Extent{.pack = pack, .frame = at.frame};
}

const LiveRecord& SnapshotReader::live() const {
  return state_->live;
}

Result<std::vector<TreeNode>> SnapshotReader::segment(size_t number, Context& context, Bytes* encoded) const {
  CHECK(number < segments());
  TRY_ASSIGN(Tree segment, state_->segment(state_->root->segments[number], context.workshop, encoded));
  const auto follows = [](const TreeNode& a, const TreeNode& b) {
    return !tree_order(a.entry.path, b.entry.path);
  };
  if (std::ranges::adjacent_find(segment.nodes, follows) != segment.nodes.end() || segment.nodes.empty())
    return fail(ErrorKind::kDamaged, "a segment of the tree is empty or out of order");
  return std::move(segment.nodes);
}

Result<Bytes> SnapshotReader::read_small_file(std::string_view path) const {
  TRY_ASSIGN(const std::optional<TreeNode> node, find(path));
  if (!node || node->entry.content != ContentKind::kBytes) {
    return fail(ErrorKind::kNotFound,
                fmt::format("snapshot {} has no file {}", state_->commit.snapshot.hex(), path));
  }
  std::lock_guard lock(state_->small_mutex);
  Bytes content;
  for (const Extent& extent : node->extents) TRY(read_extent(extent, state_->small, content));
  return content;
}

Result<std::set<std::string>> SnapshotReader::files_in(const std::string& pack) const {
  const auto number_in = [&](const auto& packs, auto name_of) {
    return static_cast<uint32_t>(std::ranges::find(packs, pack, name_of) - packs.begin());
  };
  const uint32_t in_tree = state_->root ? number_in(state_->live.packs, &LivePack::name)
                                        : number_in(state_->tree.packs, std::identity{});
  const uint32_t in_pages = number_in(state_->pages.packs, std::identity{});
  std::set<std::string> paths;
  TRY(visit([&](TreeNode&& node) -> Result<void> {
    if (node.entry.type != EntryType::kFile) return {};
    bool touched = std::ranges::count(node.extents, in_tree, &Extent::pack) != 0;
    if (node.entry.content == ContentKind::kPages) {
      Result<const FilePages*> pages = pages_of(node.entry.path);
      touched = pages && std::ranges::count((*pages)->runs, in_pages, &PageRun::pack) != 0;
    }
    if (touched) paths.insert(std::move(node.entry.path));
    return {};
  }));
  return paths;
}

// Every page of it: nobody who reads a snapshot once will come for it again.
bool SnapshotReader::Context::is_given(const HeldFrame& frame) {
  const size_t pages = frame.plain.size() / kPageBytes;
  return pages > 0 && pages <= kPagesPerFrame && frame.given == (1u << pages) - 1;
}

bool SnapshotReader::Context::is_met_again(uint64_t place) {
  if (at_.contains(place) || std::ranges::find(met_, place) != met_.end()) return true;
  met_[met_count_++ % met_.size()] = place;
  return false;
}

template <class Fill>
Result<SnapshotReader::Context::HeldFrame*> SnapshotReader::Context::hold(uint64_t place, Fill&& fill) {
  if (auto held = at_.find(place); held != at_.end()) {
    frames_.splice(frames_.begin(), frames_, held->second);
    return &*held->second;
  }
  // The room of the one that goes is used again: fresh memory costs more than a small frame's opening.
  Frames fresh;
  while (!frames_.empty() && (held_bytes_ >= held_bytes_max_ || is_given(frames_.back()))) {
    held_bytes_ -= frames_.back().plain.size();
    at_.erase(frames_.back().place);
    fresh.splice(fresh.begin(), frames_, std::prev(frames_.end()));
    if (held_bytes_ < held_bytes_max_) break;
  }
  if (fresh.empty()) fresh.emplace_front();
  HeldFrame& frame = fresh.front();
  frame.given = 0;
  frame.filter = PageFilter::kNone;
  TRY(fill(frame));
  frame.place = place;
  held_bytes_ += frame.plain.size();
  frames_.splice(frames_.begin(), fresh, fresh.begin());
  at_.emplace(place, frames_.begin());
  return &frames_.front();
}

void SnapshotReader::Context::give(HeldFrame& frame, uint32_t slot, uint32_t count) {
  frame.given |= ((1u << count) - 1) << slot;
  if (is_given(frame)) frames_.splice(frames_.end(), frames_, at_.find(frame.place)->second);
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
      if (frames <= kHeldFramesMax) frames = 1;
      const size_t at = size_t{slot} * kPageBytes;
      const size_t bytes = std::min<size_t>(size_t{until - page} * kPageBytes,
                                            size_t{frames} * kPagesPerFrame * kPageBytes - at);
      auto take = [&](const Bytes& plain, PageFilter filter) -> Result<void> {
        if (plain.size() < at + bytes)
          return fail(ErrorKind::kDamaged, "a frame holds fewer pages than its map says");
        std::memcpy(out.data(), plain.data() + at, bytes);
        unfilter_pages(out.first(bytes), filter);
        return {};
      };
      if (frames > 1) {
        context.batch.clear();
        TRY(pack->read(frame, frames, context.workshop, context.batch));
        TRY(take(context.batch, PageFilter::kNone));
      } else {
        TRY_ASSIGN(Context::HeldFrame * held,
                   context.hold(place_of(run->pack, frame), [&](Context::HeldFrame& fresh) -> Result<void> {
                     TRY(pack->read(frame, 1, context.workshop, fresh.plain, PackReader::Pages::kFiltered));
                     fresh.filter = pack->filter_of(frame);
                     return {};
                   }));
        TRY(take(held->plain, held->filter));
        context.give(*held, slot, static_cast<uint32_t>(bytes / kPageBytes));
      }
      out = out.subspan(bytes);
      page += static_cast<uint32_t>(bytes / kPageBytes);
    }
    ++run;
  }
  return {};
}

Result<void> SnapshotReader::read_extent(const Extent& extent, Context& context, Bytes& out) const {
  if (extent.pack == kHolePack) {
    out.resize(out.size() + extent.bytes);
    return {};
  }
  // Byte frames and page frames are held together: their numbers do not meet, since pack indexes of the tree
  // are kept apart by the high bit.
  const uint64_t place = place_of(extent.pack | 0x80000000u, extent.frame);
  // A large chunk, which has its frame for itself, goes where it belongs: few are met again, and those are
  // held.
  if (extent.bytes >= kReadPastHeldBytes && extent.offset == 0 && !context.is_met_again(place)) {
    TRY_ASSIGN(const std::shared_ptr<PackReader> pack, pack_with(extent));
    if (pack->frames()[extent.frame].plain_bytes == extent.bytes)
      return pack->read(extent.frame, 1, context.workshop, out);
  }
  TRY_ASSIGN(Context::HeldFrame * held, context.hold(place, [&](Context::HeldFrame& fresh) {
    return read_frame(extent, context, fresh.plain);
  }));
  TRY(check_within(extent, held->plain));
  append(out, ByteView(held->plain).subspan(extent.offset, extent.bytes));
  return {};
}

const std::string& SnapshotReader::pack_of(const Extent& extent) const {
  return state_->root ? state_->live.packs[extent.pack].name : state_->tree.packs[extent.pack];
}

// Another extent of a frame that is held may be the one that lies.
Result<void> SnapshotReader::check_within(const Extent& extent, ByteView plain) const {
  if (plain.size() >= uint64_t{extent.offset} + extent.bytes) return {};
  return fail(ErrorKind::kDamaged, fmt::format("frame {} of {} holds fewer bytes than the tree says",
                                               extent.frame, pack_of(extent)));
}

Result<void> SnapshotReader::read_frame(const Extent& extent, Context& context, Bytes& out) const {
  TRY_ASSIGN(const std::shared_ptr<PackReader> pack, pack_with(extent));
  out.clear();
  TRY(pack->read(extent.frame, 1, context.workshop, out));
  return check_within(extent, out);
}

Result<std::shared_ptr<PackReader>> SnapshotReader::pack_with(const Extent& extent) const {
  CHECK(extent.pack != kHolePack);
  TRY_ASSIGN(std::shared_ptr<PackReader> pack, state_->pack(pack_of(extent)));
  if (extent.frame >= pack->frames().size() || pack->frames()[extent.frame].type != FrameType::kBytes)
    return fail(ErrorKind::kDamaged, "the tree names what holds no file's bytes");
  return pack;
}

}  // namespace kuramori
