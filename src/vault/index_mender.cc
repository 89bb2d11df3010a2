#include "vault/index_mender.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <tuple>

#include "base/check.h"
#include "conc/task_group.h"

namespace kuramori {
namespace {

// A chunk whose name is not known yet.
struct Place {
  uint32_t pack = 0, frame = 0, offset = 0, bytes = 0;
  auto operator<=>(const Place&) const = default;
};

// That these bytes cannot be had, and others may.
bool is_of_the_frame(const Error& error) {
  return error.kind == ErrorKind::kDamaged || error.kind == ErrorKind::kNotFound ||
         error.kind == ErrorKind::kRefused;
}

class Mender {
 public:
  Mender(TreeBase& base, const SnapshotReader& snapshot, const MendOptions& options)
      : base_(base),
        snapshot_(snapshot),
        options_(options),
        namer_(options.keys),
        segment_namer_(options.keys, base.commit.resource) {
    for (const LivePack& pack : base.live.packs) packs_.push_back(pack.name);
  }

  Result<MendedIndex> run() {
    TRY(see_what_is_left());
    SnapshotReader::Context context;
    for (size_t number = 0; number < snapshot_.segments(); ++number) {
      TRY(go_on());
      TRY(see_segment(number, context));
    }
    TRY(end_batch());
    // Where nothing was found, what is left is all there is.
    if (index_) base_.index = std::move(index_);
    base_.lost.clear();
    return MendedIndex{.chunks = chunks_, .frames = frames_, .unreadable = unreadable_};
  }

 private:
  Result<void> go_on() const {
    if (!options_.stop.stop_requested()) return {};
    return fail(ErrorKind::kInterrupted, "the backup was interrupted",
                "what it had uploaded is removed by the next collection");
  }

  ChunkIndex& index() const { return index_ ? *index_ : *base_.index; }

  Result<void> see_what_is_left() {
    told_.resize(packs_.size());
    for (size_t run = 0; run < base_.index->refs().size(); ++run) {
      ChunkIndex::Cursor at(*base_.index, run);
      for (;;) {
        TRY(go_on());
        TRY_ASSIGN(const bool more, at.next());
        if (!more) break;
        if (const auto pack = base_.pack(at.pack())) tell(*pack, at.entry().frame);
      }
    }
    return {};
  }
  void tell(uint32_t pack, uint32_t frame) {
    if (told_[pack].size() <= frame) told_[pack].resize(frame + 1);
    told_[pack][frame] = true;
  }
  bool is_told(uint32_t pack, uint32_t frame) const {
    return frame < told_[pack].size() && told_[pack][frame];
  }

  Result<void> see_segment(size_t number, SnapshotReader::Context& context) {
    Bytes encoded;
    TRY_ASSIGN(const Extent place, snapshot_.segment_place(number));
    auto nodes = snapshot_.segment(number, context, &encoded);
    if (!nodes) {
      if (!is_of_the_frame(nodes.error())) return std::move(nodes).error();
      ++unreadable_;
      return {};
    }
    if (!is_told(place.pack, place.frame)) {
      const ChunkName name = segment_namer_.name(encoded);
      entries_.push_back({.id = name.id, .pack = place.pack, .frame = place.frame, .offset = name.veil});
      read(encoded.size());
    }
    for (const TreeNode& node : *nodes) {
      for (const Extent& extent : node.extents) {
        if (extent.pack == kHolePack || is_told(extent.pack, extent.frame)) continue;
        places_.push_back({extent.pack, extent.frame, extent.offset, extent.bytes});
        if (places_.size() + entries_.size() >= options_.batch_chunks) TRY(end_batch());
      }
    }
    return {};
  }

  void read(size_t bytes) {
    ++frames_;
    if (options_.advance) options_.advance(bytes);
  }

  // A run of what was seen since the last.
  Result<void> end_batch() {
    std::ranges::sort(places_);
    places_.erase(std::unique(places_.begin(), places_.end()), places_.end());
    TRY(name_places());
    places_.clear();
    std::ranges::sort(entries_, {}, &ChunkEntry::id);
    const auto twice = std::ranges::unique(entries_, {}, &ChunkEntry::id);
    entries_.erase(twice.begin(), twice.end());
    if (entries_.empty()) return {};
    const auto is_kept = [this](const std::string& name, uint32_t frame) {
      const auto pack = base_.pack(name);
      return pack && base_.keeps(*pack, frame);
    };
    TRY_ASSIGN(const std::vector<ObjectRef> runs, add_run({.store = options_.store,
                                                           .keys = options_.keys,
                                                           .random = options_.random,
                                                           .scope = base_.commit.resource,
                                                           .next_name = options_.next_name,
                                                           .keep = is_kept},
                                                          entries_, packs_, &index()));
    TRY_ASSIGN(index_, ChunkIndex::open(options_.store, options_.keys, runs, options_.cache_folder));
    chunks_ += entries_.size();
    entries_.clear();
    return {};
  }

  // Each lane takes a stretch of the places, and no frame is in two of them.
  Result<void> name_places() {
    std::vector<size_t> begins;
    for (size_t lane = 0; lane < kMendLanes; ++lane) {
      size_t at = places_.size() * lane / kMendLanes;
      while (at > 0 && at < places_.size() && same_frame(places_[at - 1], places_[at])) ++at;
      begins.push_back(at);
    }
    begins.push_back(places_.size());
    return parallel_for(kMendLanes, kMendLanes, options_.stop,
                        [&](size_t lane, std::stop_token) -> Result<void> {
                          SnapshotReader::Context context;
                          Bytes plain;
                          for (size_t at = begins[lane]; at < begins[lane + 1];) {
                            TRY(go_on());
                            size_t end = at + 1;
                            while (end < places_.size() && same_frame(places_[at], places_[end])) ++end;
                            TRY(name_frame(std::span(places_).subspan(at, end - at), context, plain));
                            at = end;
                          }
                          return {};
                        });
  }
  static bool same_frame(const Place& a, const Place& b) {
    return std::tie(a.pack, a.frame) == std::tie(b.pack, b.frame);
  }

  Result<void> name_frame(std::span<const Place> places, SnapshotReader::Context& context, Bytes& plain) {
    const Place& first = places.front();
    const Extent extent{
        .pack = first.pack, .frame = first.frame, .offset = first.offset, .bytes = first.bytes};
    if (auto got = snapshot_.read_frame(extent, context, plain); !got) {
      if (!is_of_the_frame(got.error())) return got;
      ++unreadable_;
      return {};
    }
    read(plain.size());
    std::vector<ChunkEntry> named;
    for (const Place& place : places) {
      // The tree is the reader's word for where a chunk lies; one that lies beyond its frame is nowhere.
      if (uint64_t{place.offset} + place.bytes > plain.size()) continue;
      const ChunkName name = namer_.name(ByteView(plain).subspan(place.offset, place.bytes));
      named.push_back(
          {.id = name.id, .pack = place.pack, .frame = place.frame, .offset = place.offset ^ name.veil});
    }
    const std::lock_guard lock(mutex_);
    entries_.insert(entries_.end(), named.begin(), named.end());
    return {};
  }

  TreeBase& base_;
  const SnapshotReader& snapshot_;
  const MendOptions& options_;
  const ChunkNamer namer_;
  const SegmentNamer segment_namer_;
  std::vector<std::string> packs_;       // as the base numbers them
  std::vector<std::vector<bool>> told_;  // by pack: frames that a run which is left tells of
  std::vector<Place> places_;            // of this batch, as are the entries
  std::mutex mutex_;
  std::vector<ChunkEntry> entries_;  // while lanes are at work guarded by mutex_
  std::unique_ptr<ChunkIndex> index_;
  uint64_t chunks_ = 0;
  std::atomic<uint64_t> frames_{0}, unreadable_{0};
};

}  // namespace

Result<MendedIndex> mend_index(TreeBase& base, const SnapshotReader& snapshot, const MendOptions& options) {
  CHECK(snapshot.live().packs.size() == base.live.packs.size());
  return Mender(base, snapshot, options).run();
}

}  // namespace kuramori
