#include "vault/content_writer.h"

#include <fmt/core.h>

#include <thread>

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

struct FileOutcome {
  std::vector<PageRun> runs;    // pack: number within the session
  std::vector<Extent> extents;  // likewise
};

}  // namespace

struct ContentWriter::Shared {
  Store& store;
  const KeyBundle& keys;
  Random& random;
  Clock& clock;
  SessionId session;
  ResourceId resource;
  std::atomic<uint32_t> next_pack{0};
  std::atomic<uint64_t> stored{0};
  PipelineFaults* faults = nullptr;
  std::mutex mutex;
  std::map<uint32_t, LivePack> packs;               // finished ones, by number; guarded by mutex
  std::unordered_map<uint32_t, FileOutcome> files;  // guarded by mutex
};

// A full pack whose last bytes are still on their way: a store at a distance takes several round trips to
// confirm one, and its lane does not wait for them. One a lane, so that memory stays bounded.
class PackEnd {
 public:
  PackEnd(std::unique_ptr<PackWriter> pack, uint32_t number)
      : number_(number), thread_([this, pack = std::move(pack)] { result_ = pack->finish(); }) {}
  ~PackEnd() {
    if (thread_.joinable()) thread_.join();
  }
  uint32_t number() const { return number_; }
  Result<LivePack> wait() {
    thread_.join();
    return std::move(result_);
  }

 private:
  uint32_t number_;
  Result<LivePack> result_ = fail(ErrorKind::kInterrupted, "a pack was not finished");
  std::thread thread_;  // last: it begins with all of the above in place
};

struct ContentWriter::Lane::State {
  Shared& shared;
  FrameWorkshop workshop{kZstdLevel};
  std::unique_ptr<PackWriter> pack;
  uint32_t pack_number = 0;
  std::unique_ptr<PackEnd> ending;  // of the pack before
  Bytes pages, bytes;               // the frames being filled
  // Runs and extents whose frame is not written yet; slot and offset are known.
  std::vector<std::pair<uint32_t, PageRun>> open_runs;
  std::vector<std::pair<uint32_t, Extent>> open_extents;
  std::vector<std::pair<uint32_t, PageRun>> runs;
  std::vector<std::pair<uint32_t, Extent>> extents;
  bool finished = false;

  Result<uint32_t> write_frame(FrameType type, ByteView plain) {
    if (!pack) {
      pack_number = shared.next_pack++;
      TRY_ASSIGN(pack, PackWriter::create(shared.store, shared.keys, shared.random, shared.clock,
                                          names::pack(shared.session, pack_number), shared.resource));
    }
    return pack->add(type, plain, workshop);
  }

  Result<void> close_pack_if(uint64_t at_least) {
    if (!pack || (pack->bytes() < at_least && pack->frames() < kPackFramesMax)) return {};
    if (at_least == 0) return keep(pack_number, std::exchange(pack, nullptr)->finish());
    TRY(end_pack());
    ending = std::make_unique<PackEnd>(std::move(pack), pack_number);
    return {};
  }

  // Waits for the pack before.
  Result<void> end_pack() {
    if (!ending) return {};
    std::unique_ptr<PackEnd> last = std::move(ending);
    return keep(last->number(), last->wait());
  }

  Result<void> keep(uint32_t number, Result<LivePack> live) {
    if (!live) return std::move(live).error();
    shared.stored += live->size;
    std::lock_guard lock(shared.mutex);
    shared.packs[number] = std::move(*live);
    return {};
  }

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
    TRY_ASSIGN(uint32_t frame, write_frame(FrameType::kPages, pages));
    for (auto& [file, run] : open_runs) {
      run.pack = pack_number;
      run.frame = frame;
      keep_run(file, run);
    }
    open_runs.clear();
    pages.clear();
    return close_pack_if(kPackBytesTarget);
  }

  Result<void> flush_bytes(FrameType type) {
    if (bytes.empty()) return {};
    TRY_ASSIGN(uint32_t frame, write_frame(type, bytes));
    for (auto& [file, extent] : open_extents) {
      extent.pack = pack_number;
      extent.frame = frame;
      extents.emplace_back(file, extent);
    }
    open_extents.clear();
    bytes.clear();
    return close_pack_if(kPackBytesTarget);
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
  TRY(s.close_pack_if(0));
  TRY(s.end_pack());
  s.finished = true;
  std::lock_guard lock(s.shared.mutex);
  for (auto& [file, run] : s.runs) s.shared.files[file].runs.push_back(run);
  for (auto& [file, extent] : s.extents) s.shared.files[file].extents.push_back(extent);
  return {};
}

ContentWriter::ContentWriter(Store& store, const KeyBundle& keys, Random& random, Clock& clock,
                             SessionId session, ResourceId resource)
    : shared_(new Shared{.store = store,
                         .keys = keys,
                         .random = random,
                         .clock = clock,
                         .session = session,
                         .resource = resource}) {}
ContentWriter::~ContentWriter() = default;

std::unique_ptr<ContentWriter::Lane> ContentWriter::lane() {
  auto state = std::unique_ptr<Lane::State>(new Lane::State{.shared = *shared_});
  state->workshop.faults = shared_->faults;
  return std::unique_ptr<Lane>(new Lane(std::move(state)));
}

void ContentWriter::provoke(PipelineFaults* faults) {
  shared_->faults = faults;
}

uint64_t ContentWriter::bytes_stored() const {
  return shared_->stored;
}

Result<LiveRecord> ContentWriter::finish(std::vector<CapturedFile> files, const BaseSnapshot* base,
                                         CommitRecord& commit) {
  Shared& s = *shared_;
  uint64_t size_bytes = 0;

  // 1. The page map: what this snapshot's own packs hold, over the base's.
  Secret names_key = path_key(s.keys, s.resource);
  PageMap map;
  std::unordered_map<FileKey, bool> present;
  for (const CapturedFile& file : files) {
    size_bytes += file.entry.content == ContentKind::kNone ? 0 : file.entry.size;
    if (file.entry.content != ContentKind::kPages) continue;
    FilePages entry{.key = file_key(names_key.view(), file.entry.path),
                    .state = file.on_base ? FileState::kDelta : FileState::kFull,
                    .pages = static_cast<uint32_t>(file.entry.size / kPageBytes),
                    .inode = file.inode,
                    .birth_ns = file.birth_ns};
    present[entry.key] = true;
    if (auto outcome = s.files.find(file.index); outcome != s.files.end()) {
      entry.runs = outcome->second.runs;
      std::sort(entry.runs.begin(), entry.runs.end(), [](auto& a, auto& b) { return a.page < b.page; });
      // A file that shrank while it was read: pages past its captured end are not part of it.
      while (!entry.runs.empty() && entry.runs.back().page >= entry.pages) entry.runs.pop_back();
      if (!entry.runs.empty()) {
        PageRun& last = entry.runs.back();
        last.count = std::min(last.count, entry.pages - last.page);
      }
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
      if (same) continue;
    }
    // Proves that every page is somewhere before anything says so.
    if (auto whole = overlay(*under, entry.runs, entry.pages); !whole) {
      return std::move(whole.error()).within(file.entry.path);
    }
    map.files.push_back(std::move(entry));
  }
  if (base != nullptr) {
    for (const auto& [key, file] : base->pages.files) {
      if (!present.contains(key)) map.files.push_back({.key = key, .state = FileState::kRemoved});
    }
  }
  std::sort(map.files.begin(), map.files.end(), [](auto& a, auto& b) { return a.key < b.key; });

  // 2. The tree, into packs of its own session.
  Tree tree;
  for (auto& [number, pack] : s.packs) {
    while (tree.packs.size() < number)
      tree.packs.push_back(names::pack(s.session, static_cast<uint32_t>(tree.packs.size())));
    tree.packs.push_back(pack.name);
  }
  map.packs = tree.packs;  // runs and extents use the session's own numbers
  for (CapturedFile& file : files) {
    TreeNode node{.entry = std::move(file.entry)};
    if (node.entry.content == ContentKind::kBytes) {
      if (auto outcome = s.files.find(file.index); outcome != s.files.end())
        node.extents = std::move(outcome->second.extents);
      uint64_t have = 0;
      for (const Extent& extent : node.extents) have += extent.bytes;
      if (have != node.entry.size) {
        return fail(ErrorKind::kFailed,
                    fmt::format("{} has {} bytes, {} were captured", node.entry.path, node.entry.size, have));
      }
    }
    tree.nodes.push_back(std::move(node));
  }
  {
    Bytes encoded = encode_tree(tree);
    auto writer = lane();
    Lane::State& l = *writer->state_;
    for (size_t at = 0; at < encoded.size(); at += kTreeFrameBytes) {
      TRY_ASSIGN(uint32_t frame,
                 l.write_frame(FrameType::kTree, ByteView(encoded).subspan(
                                                     at, std::min(kTreeFrameBytes, encoded.size() - at))));
      std::string pack = names::pack(s.session, l.pack_number);
      if (!commit.tree.empty() && commit.tree.back().pack == pack) {
        ++commit.tree.back().count;
      } else {
        commit.tree.push_back({pack, frame, 1});
      }
      TRY(l.close_pack_if(kPackBytesTarget));
    }
    TRY(writer->finish());
  }

  // 3. The maps, at most kMapsMax of them: when they would be more, this snapshot gets one that says it all.
  auto put_map = [&](const PageMap& content) -> Result<ObjectRef> {
    std::string name = names::map(s.session, 0);
    Bytes object = encode_map(content, s.keys, s.random, name, s.resource);
    // Opened again and compared, like a frame.
    TRY_ASSIGN(PageMap again, decode_map(object, s.keys, name));
    if (again.packs != content.packs || again.files != content.files) {
      return fail(ErrorKind::kDamaged, fmt::format("{} did not come back when opened again", name),
                  "a bit flipped in memory or the processor erred; nothing was committed",
                  "run the backup again");
    }
    ObjectRef ref{.name = name, .size = object.size(), .digest = sha256(object)};
    TRY(s.store.put_if_absent(name, object));
    s.stored += object.size();
    return ref;
  };
  std::vector<PageMap> all{map};
  if (base != nullptr) all.insert(all.end(), base->maps.begin(), base->maps.end());
  bool merge = all.size() > kMapsMax;
  ResolvedPages resolved;
  if (merge) {
    // The new map over what the base already resolved to: the same result as over all its maps.
    PageMap under{.packs = base->pages.packs};
    for (const auto& [key, file] : base->pages.files) under.files.push_back(file);
    TRY_ASSIGN(resolved, resolve({map, under}));
    PageMap whole{.packs = resolved.packs};
    for (const auto& [key, file] : resolved.files) whole.files.push_back(file);
    std::sort(whole.files.begin(), whole.files.end(), [](auto& a, auto& b) { return a.key < b.key; });
    TRY_ASSIGN(ObjectRef ref, put_map(whole));
    commit.maps = {ref};
  } else {
    TRY_ASSIGN(resolved, resolve(all));
    if (map.files.empty() && base != nullptr) {
      commit.maps = base->commit.maps;
    } else {
      TRY_ASSIGN(ObjectRef ref, put_map(map));
      commit.maps = {ref};
      if (base != nullptr)
        commit.maps.insert(commit.maps.end(), base->commit.maps.begin(), base->commit.maps.end());
    }
  }

  // 4. What keeps it alive: every pack and frame, own and foreign, that this snapshot needs.
  LiveRecord live;
  for (auto& [number, pack] : s.packs) live.packs.push_back(pack);
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
  commit.added_bytes = s.stored;
  return live;
}

}  // namespace kuramori
