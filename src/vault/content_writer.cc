#include "vault/content_writer.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>

#include "base/check.h"
#include "crypto/digest.h"
#include "vault/names.h"

namespace kuramori {
namespace {

constexpr size_t kFramePageBytes = size_t{kPagesPerFrame} * kPageBytes;
constexpr size_t kByteFrameBytes = 128 << 10;  // plain bytes of small files gathered into one frame
constexpr size_t kTreeFrameBytes = 256 << 10;

bool is_zero(ByteView page) {
  return page[0] == 0 && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

// What lanes stored of files, each with the file's number; pack: number within the session. One list instead
// of one a file: a million of those weigh five times as much.
template <class Part>
using FileParts = std::vector<std::pair<uint32_t, Part>>;

// Those of one file, of a list that is sorted by file.
template <class Part>
std::span<const std::pair<uint32_t, Part>> parts_of(const FileParts<Part>& all, uint32_t file) {
  const auto found = std::ranges::equal_range(all, file, {}, &std::pair<uint32_t, Part>::first);
  return {found.begin(), found.end()};
}

}  // namespace

struct ContentWriter::Shared {
  Store& store;
  const KeyBundle& keys;
  Random& random;
  SessionId session;
  ResourceId resource;
  SessionPacks packs;
  std::atomic<uint64_t> stored_maps{0};
  std::mutex mutex;
  FileParts<PageRun> runs;    // guarded by mutex
  FileParts<Extent> extents;  // guarded by mutex
};

struct ContentWriter::Lane::State {
  Shared& shared;
  std::unique_ptr<SessionPacks::Lane> packs;
  Bytes pages, bytes;  // the frames being filled
  // Runs and extents whose frame is not written yet; slot and offset are known.
  std::vector<std::pair<uint32_t, PageRun>> open_runs;
  std::vector<std::pair<uint32_t, Extent>> open_extents;
  std::vector<std::pair<uint32_t, PageRun>> runs;
  std::vector<std::pair<uint32_t, Extent>> extents;
  bool finished = false;

  // A run goes on only where the frame before it was used to its last slot, so that slots can be counted
  // through.
  void keep_run(uint32_t file, const PageRun& run) {
    if (!runs.empty()) {
      auto& [last_file, last] = runs.back();
      bool joins = last_file == file && last.page + last.count == run.page && last.pack == run.pack &&
                   (run.pack == kZeroPack || uint64_t{last.frame} * kPagesPerFrame + last.slot + last.count ==
                                                 uint64_t{run.frame} * kPagesPerFrame + run.slot);
      if (joins) {
        last.count += run.count;
        return;
      }
    }
    runs.emplace_back(file, run);
  }

  Result<void> flush_pages() {
    if (pages.empty()) return {};
    TRY_ASSIGN(const FramePlace place, packs->write(FrameType::kPages, pages));
    for (auto& [file, run] : open_runs) {
      run.pack = place.pack;
      run.frame = place.frame;
      keep_run(file, run);
    }
    open_runs.clear();
    pages.clear();
    return {};
  }

  Result<void> flush_bytes(FrameType type) {
    if (bytes.empty()) return {};
    TRY_ASSIGN(const FramePlace place, packs->write(type, bytes));
    for (auto& [file, extent] : open_extents) {
      extent.pack = place.pack;
      extent.frame = place.frame;
      extents.emplace_back(file, extent);
    }
    open_extents.clear();
    bytes.clear();
    return {};
  }
};

ContentWriter::Lane::Lane(std::unique_ptr<State> state) : state_(std::move(state)) {}
ContentWriter::Lane::~Lane() = default;

Result<void> ContentWriter::Lane::add_pages(uint32_t file, uint32_t first_page, ByteView pages) {
  State& s = *state_;
  CHECK(!s.finished && pages.size() % kPageBytes == 0);
  for (uint32_t page = first_page; !pages.empty(); ++page, pages = pages.subspan(kPageBytes)) {
    ByteView bytes = pages.first(kPageBytes);
    if (is_zero(bytes)) {
      s.keep_run(file, {.page = page, .count = 1});
      continue;
    }
    uint32_t slot = static_cast<uint32_t>(s.pages.size() / kPageBytes);
    bool joins = !s.open_runs.empty() && s.open_runs.back().first == file &&
                 s.open_runs.back().second.page + s.open_runs.back().second.count == page;
    if (joins) {
      ++s.open_runs.back().second.count;
    } else {
      s.open_runs.emplace_back(file, PageRun{.page = page, .count = 1, .slot = slot});
    }
    append(s.pages, bytes);
    if (s.pages.size() == kFramePageBytes) TRY(s.flush_pages());
  }
  return {};
}

Result<void> ContentWriter::Lane::add_bytes(uint32_t file, ByteView bytes) {
  State& s = *state_;
  CHECK(!s.finished);
  while (!bytes.empty()) {
    size_t part = std::min(bytes.size(), kByteFrameBytes - s.bytes.size());
    s.open_extents.emplace_back(
        file, Extent{.offset = static_cast<uint32_t>(s.bytes.size()), .bytes = static_cast<uint32_t>(part)});
    append(s.bytes, bytes.first(part));
    bytes = bytes.subspan(part);
    if (s.bytes.size() == kByteFrameBytes) TRY(s.flush_bytes(FrameType::kBytes));
  }
  return {};
}

Result<void> ContentWriter::Lane::finish() {
  State& s = *state_;
  CHECK(!s.finished);
  TRY(s.flush_pages());
  TRY(s.flush_bytes(FrameType::kBytes));
  s.finished = true;
  TRY(s.packs->finish());
  std::lock_guard lock(s.shared.mutex);
  s.shared.runs.insert(s.shared.runs.end(), s.runs.begin(), s.runs.end());
  s.shared.extents.insert(s.shared.extents.end(), s.extents.begin(), s.extents.end());
  s.runs = {};
  s.extents = {};
  return {};
}

ContentWriter::ContentWriter(Store& store, const KeyBundle& keys, Random& random, Clock& clock,
                             SessionId session, ResourceId resource)
    : shared_(new Shared{.store = store,
                         .keys = keys,
                         .random = random,
                         .session = session,
                         .resource = resource,
                         .packs = {store, keys, random, clock, session, resource}}) {}
ContentWriter::~ContentWriter() = default;

std::unique_ptr<ContentWriter::Lane> ContentWriter::lane() {
  auto state = std::unique_ptr<Lane::State>(new Lane::State{.shared = *shared_});
  state->packs = shared_->packs.lane();
  return std::unique_ptr<Lane>(new Lane(std::move(state)));
}

void ContentWriter::provoke(PipelineFaults* faults) {
  shared_->packs.provoke(faults);
}

uint64_t ContentWriter::bytes_stored() const {
  return shared_->packs.bytes_stored() + shared_->stored_maps;
}

Result<LiveRecord> ContentWriter::finish(std::vector<CapturedFile> files, BaseSnapshot* base,
                                         CommitRecord& commit) {
  size_t at = 0;
  return finish(
      [&]() -> std::optional<CapturedFile> {
        if (at == files.size()) return std::nullopt;
        return std::move(files[at++]);
      },
      base, commit);
}

Result<LiveRecord> ContentWriter::finish(const NextFile& next, BaseSnapshot* base, CommitRecord& commit) {
  Shared& s = *shared_;
  uint64_t size_bytes = 0;
  // Pages of one file come from several lanes; bytes of one from one lane, in order.
  std::ranges::sort(s.runs, {}, [](const auto& part) { return std::pair(part.first, part.second.page); });
  std::ranges::stable_sort(s.extents, {}, [](const auto& part) { return part.first; });

  // 1. File by file: its entry of the page map, which says what this snapshot's own packs hold over the
  // base's, and its node of the tree, into packs of the same session.
  Secret names_key = path_key(s.keys, s.resource);
  PageMap map;  // runs and extents use the session's own numbers
  for (uint32_t number = 0; number < s.packs.begun(); ++number) map.packs.push_back(s.packs.name_of(number));
  std::vector<FileKey> present;  // only where there is a base
  const auto map_file = [&](const CapturedFile& file) -> Result<void> {
    FilePages entry{.key = file_key(names_key.view(), file.entry.path),
                    .state = file.on_base ? FileState::kDelta : FileState::kFull,
                    .pages = static_cast<uint32_t>(file.entry.size / kPageBytes),
                    .inode = file.inode,
                    .birth_ns = file.birth_ns};
    if (base != nullptr) present.push_back(entry.key);
    const auto own = parts_of(s.runs, file.index);
    entry.runs.reserve(own.size());
    // A file that shrank while it was read: pages past its captured end are not part of it.
    for (const auto& [number, run] : own) {
      if (run.page < entry.pages) entry.runs.push_back(run);
    }
    if (!entry.runs.empty()) {
      PageRun& last = entry.runs.back();
      last.count = std::min(last.count, entry.pages - last.page);
    }
    const std::vector<PageRun> nothing;
    const std::vector<PageRun>* under = &nothing;
    if (file.on_base) {
      CHECK(base != nullptr);
      auto older = base->pages.files.find(entry.key);
      if (older == base->pages.files.end()) {
        return fail(ErrorKind::kFailed,
                    fmt::format("{} was captured on a base that does not have it", file.entry.path));
      }
      under = &older->second.runs;
      bool same = entry.runs.empty() && older->second.pages == entry.pages &&
                  older->second.inode == entry.inode && older->second.birth_ns == entry.birth_ns;
      if (same) return {};
    }
    // Proves that every page is somewhere before anything says so.
    if (auto whole = overlay(*under, entry.runs, entry.pages); !whole) {
      return std::move(whole.error()).within(file.entry.path);
    }
    map.files.push_back(std::move(entry));
    return {};
  };

  // The tree lives as long as the snapshot, pages as long as any that builds on it: not in one pack.
  s.packs.end_open_packs();
  auto writer = s.packs.lane();
  std::string encoded;  // of the tree, what is not yet in a frame
  const auto write_tree = [&](size_t at_least) -> Result<void> {
    size_t at = 0;
    for (; encoded.size() - at >= std::max<size_t>(at_least, 1);) {
      const std::string_view plain = std::string_view(encoded).substr(at, kTreeFrameBytes);
      TRY_ASSIGN(const FramePlace place, writer->write(FrameType::kTree, as_bytes(plain)));
      std::string pack = s.packs.name_of(place.pack);
      if (!commit.tree.empty() && commit.tree.back().pack == pack) {
        ++commit.tree.back().count;
      } else {
        commit.tree.push_back({pack, place.frame, 1});
      }
      at += plain.size();
    }
    encoded.erase(0, at);
    return {};
  };
  put_tree_packs(encoded, map.packs);
  while (std::optional<CapturedFile> file = next()) {
    size_bytes += file->entry.content == ContentKind::kNone ? 0 : file->entry.size;
    if (file->entry.content == ContentKind::kPages) TRY(map_file(*file));
    TreeNode node{.entry = std::move(file->entry)};
    if (node.entry.content == ContentKind::kBytes) {
      uint64_t have = 0;
      for (const auto& [number, extent] : parts_of(s.extents, file->index)) {
        node.extents.push_back(extent);
        have += extent.bytes;
      }
      if (have != node.entry.size) {
        return fail(ErrorKind::kFailed,
                    fmt::format("{} has {} bytes, {} were captured", node.entry.path, node.entry.size, have));
      }
    }
    put_tree_node(encoded, node);
    TRY(write_tree(kTreeFrameBytes));
  }
  TRY(write_tree(0));
  TRY(writer->finish());
  TRY(s.packs.await());
  s.runs = {};
  s.extents = {};

  // 2. What the base has and this snapshot does not.
  if (base != nullptr) {
    std::ranges::sort(present);
    for (const auto& [key, file] : base->pages.files) {
      if (!std::ranges::binary_search(present, key))
        map.files.push_back({.key = key, .state = FileState::kRemoved});
    }
    present = {};
  }
  std::ranges::sort(map.files, {}, &FilePages::key);

  // 3. The maps, at most kMapsMax of them: when they would be more, this snapshot gets one that says it all.
  auto put_map = [&](const PageMap& content) -> Result<ObjectRef> {
    std::string name = names::map(s.session, 0);
    Bytes object = encode_map(content, s.keys, s.random, name, s.resource);
    // Opened again and compared, like a frame.
    bool same = true;
    size_t at = 0;
    MapVisitor compare;
    compare.packs = [&](std::vector<std::string> packs) -> Result<void> {
      same = same && packs == content.packs;
      return {};
    };
    compare.file = [&](FilePages file) -> Result<void> {
      same = same && at < content.files.size() && file == content.files[at];
      ++at;
      return {};
    };
    TRY(visit_map(object, s.keys, name, compare));
    if (!same || at != content.files.size()) {
      return fail(ErrorKind::kDamaged, fmt::format("{} did not come back when opened again", name),
                  "a bit flipped in memory or the processor erred; nothing was committed",
                  "run the backup again");
    }
    ObjectRef ref{.name = name, .size = object.size(), .digest = sha256(object)};
    TRY(s.store.put_if_absent(name, object));
    s.stored_maps += object.size();
    return ref;
  };
  ResolvedPages resolved;
  if (base != nullptr) resolved = std::move(base->pages);
  if (base != nullptr && base->commit.maps.size() >= kMapsMax) {
    TRY(lay_over(resolved, std::move(map)));
    PageMap whole{.packs = resolved.packs};
    whole.files.reserve(resolved.files.size());
    // Lent, not copied.
    for (auto& [key, file] : resolved.files) whole.files.push_back(std::move(file));
    std::ranges::sort(whole.files, {}, &FilePages::key);
    TRY_ASSIGN(ObjectRef ref, put_map(whole));
    commit.maps = {ref};
    for (FilePages& file : whole.files) resolved.files.at(file.key) = std::move(file);
  } else {
    if (map.files.empty() && base != nullptr) {
      commit.maps = base->commit.maps;
    } else {
      TRY_ASSIGN(ObjectRef ref, put_map(map));
      commit.maps = {ref};
      if (base != nullptr)
        commit.maps.insert(commit.maps.end(), base->commit.maps.begin(), base->commit.maps.end());
    }
    // A first snapshot needs its own packs, which are known: nothing is to be found out by laying it over.
    if (base != nullptr) TRY(lay_over(resolved, std::move(map)));
  }

  // 4. What keeps it alive: every pack and frame, own and foreign, that this snapshot needs.
  LiveRecord live;
  for (auto& [number, pack] : s.packs.finished()) live.packs.push_back(pack);
  LiveFrames frames;
  for (const auto& [key, file] : resolved.files) {
    for (const PageRun& run : file.runs) add_live(frames, run);
  }
  if (base != nullptr) {
    std::unordered_map<std::string, const LivePack*> known;
    for (const LivePack& pack : base->live.packs) known[pack.name] = &pack;
    for (auto& [index, ranges] : frames) {
      const std::string& name = resolved.packs[index];
      if (names::owner_of(name) == s.session) continue;
      auto it = known.find(name);
      if (it == known.end()) return fail(ErrorKind::kFailed, fmt::format("the base does not bind {}", name));
      LivePack pack = *it->second;
      normalise(ranges);
      pack.frames = ranges;
      live.packs.push_back(std::move(pack));
    }
  }
  live.maps = commit.maps;
  std::sort(live.packs.begin(), live.packs.end(), [](auto& a, auto& b) { return a.name < b.name; });
  commit.size_bytes = size_bytes;
  commit.added_bytes = bytes_stored();
  return live;
}

}  // namespace kuramori
