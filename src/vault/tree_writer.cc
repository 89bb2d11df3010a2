#include "vault/tree_writer.h"

#include <fmt/core.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "base/check.h"
#include "vault/chunker.h"
#include "vault/page_map.h"
#include "vault/snapshot_reader.h"

namespace kuramori {
namespace {

// A chunk that is this large is a frame of its own; smaller ones share one. Small files compress better
// together, and who wants one of them opens no more than this.
constexpr size_t kOwnFrameFromBytes = size_t{256} << 10;
constexpr size_t kSharedFrameBytes = size_t{512} << 10;

// Beside the largest chunk, what is at hand of a file: what is left of it moves to the front once for as
// much.
constexpr size_t kReadAheadBytes = size_t{2} << 20;

// A segment ends where a keyed digest of the path says so: what is added or removed elsewhere moves no cut.
constexpr size_t kSegmentBytesMin = size_t{64} << 10;
constexpr size_t kSegmentBytesMax = size_t{512} << 10;
constexpr uint32_t kSegmentCutMask = 0x1ff;  // once in so many entries
constexpr size_t kRootFrameBytes = size_t{1} << 20;

// The session's own packs, beside those of the base.
constexpr uint32_t kOwnPacksFrom = 0x80000000;

// From the chunk key, which keepers do not hold: they see how large segments are, and could hold names they
// guess against cuts they can compute.
Secret cuts_key(const KeyBundle& keys, const ResourceId& resource) {
  Bytes info = to_bytes(as_bytes("kuramori tree cuts 1"));
  append(info, resource.view());
  return hkdf_sha256(keys.chunk.view(), keys.family.view(), info);
}

}  // namespace

Result<TreeBase> open_tree_base(Store& store, const KeyBundle& keys, RecordCodec& codec,
                                std::string commit_name, const CommitRecord& commit,
                                const std::string& cache_folder) {
  TreeBase base{
      .commit_name = std::move(commit_name), .commit = commit, .live = {}, .index = nullptr, .lost = {}};
  TRY_ASSIGN(base.live, read_live(store, codec, commit));
  std::ranges::sort(base.live.packs, {}, &LivePack::name);
  TRY_ASSIGN(base.index, ChunkIndex::open(store, keys, commit.maps, cache_folder, &base.lost));
  return base;
}

std::optional<uint32_t> TreeBase::pack(std::string_view name) const {
  const auto found = std::ranges::lower_bound(live.packs, name, {}, &LivePack::name);
  if (found == live.packs.end() || found->name != name) return std::nullopt;
  return static_cast<uint32_t>(found - live.packs.begin());
}

bool TreeBase::keeps(uint32_t pack, uint32_t frame) const {
  if (pack >= live.packs.size()) return false;
  const std::vector<FrameRange>& ranges = live.packs[pack].frames;
  const auto after = std::ranges::upper_bound(ranges, frame, {}, &FrameRange::first);
  return after != ranges.begin() && frame - std::prev(after)->first < std::prev(after)->count;
}

struct TreeWriter::Shared {
  Store& store;
  const KeyBundle& keys;
  Random& random;
  ResourceId resource;
  const TreeBase* base;
  SessionPacks packs;
  ChunkNamer namer;
  std::atomic<uint64_t> known{0};
  std::atomic<uint64_t> stored_runs{0};
  PipelineFaults* faults = nullptr;

  std::mutex mutex;
  // What this session stored, by its own numbers of packs.
  struct Fresh {
    Extent extent;
    uint32_t veil = 0;
  };
  std::unordered_map<ChunkId, Fresh> fresh;  // guarded by mutex

  // Of the one thread that adds entries.
  std::unique_ptr<SessionPacks::Lane> tree_lane;
  SegmentNamer segment_namer;
  AesCmac cuts;
  TreeOrder order;
  std::string nodes;                       // of the segment that is being filled
  std::vector<std::string> segment_packs;  // and the packs it names
  std::unordered_map<uint32_t, uint32_t> segment_numbers;
  TreeRoot root;
  std::unordered_map<uint32_t, uint32_t> root_numbers;
  std::map<uint32_t, std::vector<bool>> live;  // by pack: its frames that the snapshot needs
  uint64_t size_bytes = 0;

  Shared(Store& store_, const KeyBundle& keys_, Random& random_, Clock& clock, SessionId session,
         ResourceId resource_, const TreeBase* base_)
      : store(store_),
        keys(keys_),
        random(random_),
        resource(resource_),
        base(base_),
        packs(store_, keys_, random_, clock, session, resource_),
        namer(keys_),
        segment_namer(keys_, resource_),
        cuts(cuts_key(keys_, resource_).view().first(AesCmac::kBytes)) {}

  std::optional<uint32_t> base_pack(std::string_view name) const {
    return base == nullptr ? std::nullopt : base->pack(name);
  }

  bool is_in_base(uint32_t pack, uint32_t frame) const { return base != nullptr && base->keeps(pack, frame); }

  std::string pack_name(uint32_t pack) const {
    return pack >= kOwnPacksFrom ? packs.name_of(pack - kOwnPacksFrom) : base->live.packs[pack].name;
  }

  // Where it is already: of this session or of the base.
  Result<std::optional<Extent>> find(const ChunkName& name, uint32_t bytes) {
    {
      const std::lock_guard lock(mutex);
      if (const auto there = fresh.find(name.id); there != fresh.end()) return there->second.extent;
    }
    if (base == nullptr) return std::nullopt;
    Extent extent;
    TRY_ASSIGN(const auto place, base->index->find(name.id, [&](const ChunkPlace& at) {
      const auto pack = base_pack(*at.pack);
      if (!pack || !is_in_base(*pack, at.frame)) return false;
      extent = {.pack = *pack, .frame = at.frame, .offset = at.offset ^ name.veil, .bytes = bytes};
      return true;
    }));
    if (!place) return std::nullopt;
    return extent;
  }

  // Two lanes may store the same chunk at once: then it stands twice, and the first one known counts.
  Extent keep(const ChunkName& name, const Extent& extent) {
    const std::lock_guard lock(mutex);
    return fresh.emplace(name.id, Fresh{.extent = extent, .veil = name.veil}).first->second.extent;
  }

  void need(uint32_t pack, uint32_t frame) {
    std::vector<bool>& frames = live[pack];
    if (frames.size() <= frame) frames.resize(frame + 1);
    frames[frame] = true;
  }

  uint32_t number_in_segment(uint32_t pack) {
    const auto [at, is_new] = segment_numbers.emplace(pack, static_cast<uint32_t>(segment_packs.size()));
    if (is_new) segment_packs.push_back(pack_name(pack));
    return at->second;
  }

  Result<void> end_segment() {
    if (nodes.empty()) return {};
    std::string encoded;
    put_tree_packs(encoded, segment_packs);
    encoded += nodes;
    nodes.clear();
    segment_packs.clear();
    segment_numbers.clear();
    const ChunkName name = segment_namer.name(as_bytes(encoded));
    TRY_ASSIGN(std::optional<Extent> place, find(name, static_cast<uint32_t>(encoded.size())));
    if (!place) {
      if (!tree_lane) tree_lane = packs.lane();
      TRY_ASSIGN(const FramePlace at, tree_lane->write(FrameType::kTreeSegment, as_bytes(encoded)));
      place = keep(name, {.pack = kOwnPacksFrom + at.pack,
                          .frame = at.frame,
                          .offset = 0,
                          .bytes = static_cast<uint32_t>(encoded.size())});
    }
    need(place->pack, place->frame);
    const auto [number, is_new] = root_numbers.emplace(place->pack, static_cast<uint32_t>(root.packs.size()));
    if (is_new) root.packs.push_back(pack_name(place->pack));
    root.segments.push_back({.pack = number->second, .frame = place->frame});
    return {};
  }
};

struct TreeWriter::Lane::State {
  Shared& shared;
  Chunker chunker;
  // Chunks that share a frame, and those that have their own, are put into different packs: of one that is
  // being filled the place is known, and no other frame may come between.
  std::unique_ptr<SessionPacks::Lane> small, large;
  Bytes shared_frame;  // chunks that wait for others
  FramePlace shared_place;
  Bytes buffer;  // of the file, what is not cut yet, from `begin` on
  size_t begin = 0;
  StoredContent content;
  ContentDigest digest;
  bool finished = false;

  explicit State(Shared& s) : shared(s), chunker(s.keys) {
    const auto workshop = std::make_shared<FrameWorkshop>(kZstdLevel);
    small = s.packs.lane(workshop);
    large = s.packs.lane(workshop);
  }

  ByteView uncut() const { return ByteView(buffer).subspan(begin); }
  size_t cut() {
    const bool elsewhere = shared.faults != nullptr && shared.faults->cut;
    return elsewhere ? shared.faults->cut(uncut()) : chunker.cut(uncut());
  }

  Result<void> flush_shared() {
    if (shared_frame.empty()) return {};
    shared_frame.resize(rounded_up(shared_frame.size()));
    TRY_ASSIGN(const FramePlace place, small->write(FrameType::kBytes, shared_frame, FrameSize::kRounded));
    CHECK(place.pack == shared_place.pack && place.frame == shared_place.frame);
    shared_frame.clear();
    return {};
  }

  // `ends`: it is the last of its file, whose size must not be told by it.
  Result<void> store(ByteView chunk, bool ends) {
    const Digest plain = sha256(chunk);
    const auto bytes = static_cast<uint32_t>(chunk.size());
    content.size += bytes;
    digest.add(bytes, plain);
    const ChunkName name = shared.namer.name(plain);
    TRY_ASSIGN(const std::optional<Extent> there, shared.find(name, bytes));
    if (there) {
      shared.known += bytes;
      content.extents.push_back(*there);
      return {};
    }
    Extent extent{.bytes = bytes};
    const bool tells_size = shared.faults != nullptr && shared.faults->tells_sizes;
    if (chunk.size() >= kOwnFrameFromBytes || tells_size) {
      // The size of what ends a file would say how long the file is.
      const FrameSize size = ends ? FrameSize::kRounded : FrameSize::kExact;
      Bytes padded;
      if (ends && !tells_size) {
        padded.reserve(rounded_up(chunk.size()));
        append(padded, chunk);
        padded.resize(rounded_up(chunk.size()));
        chunk = padded;
      }
      TRY_ASSIGN(const FramePlace place, large->write(FrameType::kBytes, chunk, size));
      extent.pack = kOwnPacksFrom + place.pack;
      extent.frame = place.frame;
    } else {
      if (shared_frame.empty()) {
        TRY_ASSIGN(shared_place, small->next());
      }
      extent.pack = kOwnPacksFrom + shared_place.pack;
      extent.frame = shared_place.frame;
      extent.offset = static_cast<uint32_t>(shared_frame.size());
      append(shared_frame, chunk);
    }
    content.extents.push_back(shared.keep(name, extent));
    return shared_frame.size() >= kSharedFrameBytes ? flush_shared() : Result<void>{};
  }

  Result<void> cut_to_end() {
    while (!uncut().empty()) {
      const size_t size = cut();
      const bool ends = size == uncut().size();
      TRY(store(uncut().first(size), ends));
      begin += size;
    }
    buffer.clear();
    begin = 0;
    return {};
  }
};

TreeWriter::Lane::Lane(std::unique_ptr<State> state) : state_(std::move(state)) {}
TreeWriter::Lane::~Lane() = default;

Result<void> TreeWriter::Lane::add(ByteView bytes) {
  State& s = *state_;
  CHECK(!s.finished);
  // What the chunker is given reaches to the content's end or holds its largest chunk.
  const size_t enough = s.chunker.sizes().max() + kReadAheadBytes;
  if (s.buffer.capacity() < enough && s.uncut().size() + bytes.size() > kOwnFrameFromBytes)
    s.buffer.reserve(enough);
  while (!bytes.empty()) {
    const size_t part = std::min(bytes.size(), enough - s.uncut().size());
    if (s.begin > 0 && s.buffer.size() + part > enough) {
      s.buffer.erase(s.buffer.begin(), s.buffer.begin() + static_cast<ptrdiff_t>(s.begin));
      s.begin = 0;
    }
    append(s.buffer, bytes.first(part));
    bytes = bytes.subspan(part);
    while (s.uncut().size() > s.chunker.sizes().max()) {
      const size_t size = s.cut();
      TRY(s.store(s.uncut().first(size), false));
      s.begin += size;
    }
  }
  return {};
}

Result<void> TreeWriter::Lane::add_hole(uint64_t bytes) {
  State& s = *state_;
  CHECK(!s.finished);
  TRY(s.cut_to_end());
  s.content.size += bytes;
  while (bytes > 0) {
    const auto part = static_cast<uint32_t>(std::min<uint64_t>(bytes, uint64_t{1} << 31));
    s.content.extents.push_back({.pack = kHolePack, .bytes = part});
    s.digest.add_hole(part);
    bytes -= part;
  }
  return {};
}

void TreeWriter::Lane::restart() {
  State& s = *state_;
  s.buffer.clear();
  s.begin = 0;
  s.content = {};
  s.digest = {};
}

Result<StoredContent> TreeWriter::Lane::end() {
  State& s = *state_;
  TRY(s.cut_to_end());
  s.content.digest = s.digest.finish();
  StoredContent content = std::move(s.content);
  restart();
  return content;
}

Result<void> TreeWriter::Lane::finish() {
  State& s = *state_;
  CHECK(!s.finished && s.uncut().empty());
  s.finished = true;
  TRY(s.flush_shared());
  TRY(s.small->finish());
  return s.large->finish();
}

TreeWriter::TreeWriter(Store& store, const KeyBundle& keys, Random& random, Clock& clock, SessionId session,
                       ResourceId resource, const TreeBase* base)
    : shared_(new Shared(store, keys, random, clock, session, resource, base)) {}
TreeWriter::~TreeWriter() = default;

std::unique_ptr<TreeWriter::Lane> TreeWriter::lane() {
  return std::unique_ptr<Lane>(new Lane(std::make_unique<Lane::State>(*shared_)));
}
void TreeWriter::provoke(PipelineFaults* faults) {
  shared_->faults = faults;
  shared_->packs.provoke(faults);
}
std::optional<uint32_t> TreeWriter::base_pack(std::string_view name) const {
  return shared_->base_pack(name);
}
bool TreeWriter::is_in_base(uint32_t pack, uint32_t frame) const {
  return shared_->is_in_base(pack, frame);
}
std::string TreeWriter::pack_name(uint32_t pack) const {
  return shared_->pack_name(pack);
}
uint64_t TreeWriter::bytes_stored() const {
  return shared_->packs.bytes_stored() + shared_->stored_runs;
}
uint64_t TreeWriter::bytes_known() const {
  return shared_->known;
}

Result<void> TreeWriter::add_entry(const TreeEntry& entry, const StoredContent& content) {
  Shared& s = *shared_;
  TRY(s.order.see(entry));
  TreeNode node{.entry = entry};
  if (entry.content == ContentKind::kBytes) {
    if (content.size != entry.size) {
      return fail(ErrorKind::kFailed,
                  fmt::format("{} has {} bytes, {} were captured", entry.path, entry.size, content.size));
    }
    node.extents.reserve(content.extents.size());
    for (Extent extent : content.extents) {
      if (extent.pack != kHolePack) {
        CHECK(extent.pack >= kOwnPacksFrom || s.is_in_base(extent.pack, extent.frame));
        s.need(extent.pack, extent.frame);
        extent.pack = s.number_in_segment(extent.pack);
      }
      node.extents.push_back(extent);
    }
    node.digest = content.digest;
    s.size_bytes += entry.size;
  }
  put_tree_node(s.nodes, node);
  ++s.root.entries;
  if (s.nodes.size() < kSegmentBytesMin) return {};
  const bool ends = s.nodes.size() >= kSegmentBytesMax ||
                    (load_le<uint32_t>(s.cuts.of(as_bytes(entry.path)).data()) & kSegmentCutMask) == 0;
  return ends ? s.end_segment() : Result<void>{};
}

Result<void> TreeWriter::end_segment() {
  return shared_->end_segment();
}

Result<LiveRecord> TreeWriter::finish(CommitRecord& commit,
                                      const std::function<std::string()>& next_map_name) {
  Shared& s = *shared_;
  TRY(s.end_segment());
  // The root is each snapshot's own: it goes last, behind the segments that are new.
  if (!s.tree_lane) s.tree_lane = s.packs.lane();
  const Bytes root = encode_root(s.root);
  for (size_t at = 0; at < root.size() || at == 0; at += kRootFrameBytes) {
    const ByteView part = ByteView(root).subspan(at, std::min(kRootFrameBytes, root.size() - at));
    TRY_ASSIGN(const FramePlace place, s.tree_lane->write(FrameType::kTreeRoot, part));
    s.need(kOwnPacksFrom + place.pack, place.frame);
    const std::string pack = s.packs.name_of(place.pack);
    if (!commit.tree.empty() && commit.tree.back().pack == pack) {
      ++commit.tree.back().count;
    } else {
      commit.tree.push_back({pack, place.frame, 1});
    }
  }
  TRY(s.tree_lane->finish());
  TRY(s.packs.await());

  // What keeps it alive: of the base's packs the frames that are needed, of its own all: a chunk of them may
  // be asked for by the index of whoever builds on this.
  LiveRecord live;
  for (const auto& [number, pack] : s.packs.finished()) live.packs.push_back(pack);
  for (const auto& [number, frames] : s.live) {
    if (number >= kOwnPacksFrom) continue;
    LivePack pack = s.base->live.packs[number];
    pack.frames.clear();
    for (uint32_t frame = 0; frame < frames.size(); ++frame) {
      if (frames[frame]) pack.frames.push_back({frame, 1});
    }
    normalise(pack.frames);
    live.packs.push_back(std::move(pack));
  }
  std::ranges::sort(live.packs, {}, &LivePack::name);

  std::vector<ChunkEntry> entries;
  entries.reserve(s.fresh.size());
  for (const auto& [id, one] : s.fresh) {
    entries.push_back({.id = id,
                       .pack = one.extent.pack - kOwnPacksFrom,
                       .frame = one.extent.frame,
                       .offset = one.extent.offset ^ one.veil});
  }
  s.fresh = {};
  std::ranges::sort(entries, {}, &ChunkEntry::id);
  std::vector<std::string> own_packs;
  for (uint32_t number = 0; number < s.packs.begun(); ++number) own_packs.push_back(s.packs.name_of(number));
  const auto is_kept = [&](const std::string& pack, uint32_t frame) {
    const auto number = s.base_pack(pack);
    if (!number) return false;  // of another, older snapshot; what is fresh is not asked about
    const auto frames = s.live.find(*number);
    return frames != s.live.end() && frame < frames->second.size() && frames->second[frame];
  };
  TRY_ASSIGN(commit.maps, add_run({.store = s.store,
                                   .keys = s.keys,
                                   .random = s.random,
                                   .scope = s.resource,
                                   .next_name = next_map_name,
                                   .keep = is_kept},
                                  entries, own_packs, s.base != nullptr ? s.base->index.get() : nullptr));
  live.maps = commit.maps;
  for (const ObjectRef& run : commit.maps) {
    const bool is_new = s.base == nullptr || std::ranges::count(s.base->commit.maps, run) == 0;
    if (is_new) s.stored_runs += run.size;
  }
  commit.size_bytes = s.size_bytes;
  commit.added_bytes = bytes_stored();
  return live;
}

}  // namespace kuramori
