#include "engine/mounted_tree.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/check.h"

namespace kuramori {
namespace {

// Of all trees of a mount. A segment as it is held takes about five times what it takes in the vault.
constexpr size_t kSegmentsBytesMax = size_t{12} << 20;
constexpr size_t kBlocksBytesMax = size_t{20} << 20;
constexpr size_t kHeldBytesMax = size_t{1} << 20;  // of opened page frames, a thread

constexpr unsigned kIndexBits = 20;                      // of a node's number: which of its segment
constexpr uint64_t kPageBlockBytes = uint64_t{1} << 20;  // of a page file, when it is read in order
constexpr uint64_t kPageBlockBit = uint64_t{1} << 63;    // tells their places from those of frames
constexpr uint64_t kAheadBytes = uint64_t{4} << 20;      // beyond what was asked for
constexpr uint32_t kInOrderFrom = 2;                     // reads, each where the last one ended
constexpr size_t kAheadThreads = 2;
constexpr size_t kAheadWaitingMax = 8;

// Where a listing goes on: 0 — the beginning; else the place of an entry, and whether what it holds is to be
// passed.
constexpr uint64_t kListBegin = 0;
constexpr uint64_t offset_of(NodeId place, bool passes) {
  return (place << 1 | uint64_t{passes}) + 1;
}

NodeId id_of(size_t segment, size_t index) {
  return uint64_t{segment} << kIndexBits | index;
}

bool lies_below(std::string_view path, std::string_view folder) {
  return folder.empty() ||
         (path.size() > folder.size() && path[folder.size()] == '/' && path.starts_with(folder));
}

size_t cost_of(const std::vector<TreeNode>& nodes) {
  size_t bytes = 0;
  for (const TreeNode& node : nodes) {
    const TreeEntry& e = node.entry;
    bytes += sizeof node + e.path.capacity() + e.link.capacity() + node.extents.capacity() * sizeof(Extent);
    for (const auto& [name, value] : e.attributes) bytes += 64 + name.capacity() + value.capacity();
  }
  return bytes;
}

uint64_t digest_of(std::string_view path) {
  return std::hash<std::string_view>{}(path);
}

Error no_entry() {
  return fail(ErrorKind::kNotFound, "the snapshot has no such entry");
}

}  // namespace

size_t MountMemory::PlaceHash::operator()(const Place& place) const noexcept {
  uint64_t mixed = place.tree * 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ place.a) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 29) ^ place.b) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 32);
}

MountMemory::MountMemory()
    : segments_(kSegmentsBytesMax), blocks_(kBlocksBytesMax), ahead_(kAheadWaitingMax + 1) {
  for (size_t i = 0; i < kAheadThreads; ++i) {
    threads_.emplace_back([this] {
      while (auto work = ahead_.pop()) {
        (*work)();
        --waiting_;
      }
    });
  }
}

MountMemory::~MountMemory() {
  ahead_.close();
}

void MountMemory::ahead(std::function<void()> work) {
  // Never waits: who reads is waiting already.
  if (++waiting_ > kAheadWaitingMax) {
    --waiting_;
    return;
  }
  (void)ahead_.push(std::move(work));
}

uint64_t MountedNode::allocated() const {
  uint64_t bytes = node->entry.type == EntryType::kFile ? node->entry.size : 0;
  for (const Extent& extent : node->extents) {
    if (extent.pack == kHolePack) bytes -= extent.bytes;
  }
  return bytes;
}

class MountedTree::File {
 public:
  MountedNode node;
  std::vector<Extent> extents;
  std::vector<uint64_t> starts;      // of the extents, within the file
  const FilePages* pages = nullptr;  // of a page file; the reader's
  std::atomic<uint64_t> ended{0};    // where the last read ended
  std::atomic<uint32_t> in_order{0};
  std::atomic<uint64_t> ahead_to{0};  // up to where something was read ahead
  uint64_t size() const { return node.entry().size; }
  // The extent that holds this byte.
  size_t extent_at(uint64_t offset) const {
    return static_cast<size_t>(std::ranges::upper_bound(starts, offset) - starts.begin()) - 1;
  }
};

// A context that no other thread uses meanwhile.
class MountedTree::Borrowed {
 public:
  explicit Borrowed(MountedTree& tree) : tree_(tree) {
    {
      const std::lock_guard lock(tree.contexts_mutex_);
      if (!tree.contexts_.empty()) {
        context_ = std::move(tree.contexts_.back());
        tree.contexts_.pop_back();
      }
    }
    if (!context_) context_ = std::make_unique<SnapshotReader::Context>(kHeldBytesMax);
  }
  ~Borrowed() {
    const std::lock_guard lock(tree_.contexts_mutex_);
    tree_.contexts_.push_back(std::move(context_));
  }
  SnapshotReader::Context& operator*() { return *context_; }

 private:
  MountedTree& tree_;
  std::unique_ptr<SnapshotReader::Context> context_;
};

MountedTree::MountedTree(std::unique_ptr<SnapshotReader> snapshot, MountedTreeOptions options,
                         MountMemory& memory)
    : snapshot_(std::move(snapshot)),
      options_(std::move(options)),
      memory_(memory),
      number_(++memory.trees_) {}

MountedTree::~MountedTree() {
  std::unique_lock lock(ahead_mutex_);
  ahead_done_.wait(lock, [&] { return ahead_ == 0; });
}

Result<std::unique_ptr<MountedTree>> MountedTree::open(std::unique_ptr<SnapshotReader> snapshot,
                                                       MountedTreeOptions options, MountMemory& memory) {
  std::unique_ptr<MountedTree> tree(new MountedTree(std::move(snapshot), std::move(options), memory));
  tree->entries_ = tree->snapshot_->entries();
  if (tree->snapshot_->is_in_segments()) {
    if (tree->snapshot_->segments() >= kNodeIds >> kIndexBits)
      return fail(ErrorKind::kRefused, "the snapshot has too many entries to be mounted");
    tree->firsts_.resize(tree->snapshot_->segments());
  } else {
    // In order, it is one segment.
    auto nodes = std::make_shared<Nodes>(tree->snapshot_->take_nodes());
    if (tree->options_.shows)
      std::erase_if(*nodes, [&](const TreeNode& node) { return !tree->options_.shows(node.entry); });
    std::ranges::sort(
        *nodes, [](const TreeNode& a, const TreeNode& b) { return tree_order(a.entry.path, b.entry.path); });
    tree->piece_ = std::move(nodes);
  }
  TRY(tree->find_root());
  tree->links_are_known_ = !tree->options_.may_have_links;
  if (tree->options_.may_have_links)
    tree->counter_ =
        std::jthread([raw = tree.get()](const std::stop_token& stop) { raw->count_links(stop); });
  return tree;
}

Result<void> MountedTree::find_root() {
  auto bare = std::make_shared<TreeNode>();
  bare->entry = options_.bare_root;
  bare->entry.path = options_.root;
  bare->entry.type = EntryType::kDirectory;
  if (!options_.root.empty() && segments() > 0) {
    TRY_ASSIGN(std::optional<MountedNode> found, find(options_.root));
    if (found && found->entry().type == EntryType::kDirectory) bare->entry = found->entry();
  }
  root_ = {.id = kRootNode, .node = std::move(bare), .links = 1};
  return {};
}

Result<MountedTree::HeldNodes> MountedTree::segment(size_t number) {
  if (piece_) return piece_;
  auto held = memory_.segments_.get({number_, number, 0}, [&]() -> Result<std::pair<Nodes, size_t>> {
    Borrowed context(*this);
    TRY_ASSIGN(Nodes nodes, snapshot_->segment(number, *context));
    if (nodes.size() >> kIndexBits != 0)
      return fail(ErrorKind::kRefused, "a segment of the tree has too many entries to be mounted");
    const size_t cost = cost_of(nodes);
    return std::pair(std::move(nodes), cost);
  });
  if (!held) return std::move(held).error();
  const std::lock_guard lock(firsts_mutex_);
  if (firsts_[number].empty()) firsts_[number] = (*held)->front().entry.path;
  return *held;
}

Result<std::string> MountedTree::first_path(size_t number) {
  {
    const std::lock_guard lock(firsts_mutex_);
    if (!firsts_[number].empty()) return firsts_[number];
  }
  TRY_ASSIGN(const HeldNodes nodes, segment(number));
  return nodes->front().entry.path;
}

Result<MountedTree::Position> MountedTree::first_not(const Before& is_before) {
  size_t in = 0;
  if (!piece_) {
    // The last segment that begins with what is before it; the entry is in it, or begins the next.
    size_t from = 0, to = segments();
    while (from < to) {
      const size_t middle = from + (to - from) / 2;
      TRY_ASSIGN(const std::string first, first_path(middle));
      if (is_before(first))
        from = middle + 1;
      else
        to = middle;
    }
    if (from == 0) return Position{};
    in = from - 1;
  }
  TRY_ASSIGN(const HeldNodes nodes, segment(in));
  const auto found =
      std::ranges::partition_point(*nodes, [&](const TreeNode& node) { return is_before(node.entry.path); });
  Position position{in, static_cast<size_t>(found - nodes->begin())};
  if (found == nodes->end()) position = {in + 1, 0};
  return position;
}

Result<std::optional<MountedNode>> MountedTree::at(Position position) {
  if (position.segment >= segments()) return std::nullopt;
  TRY_ASSIGN(const HeldNodes nodes, segment(position.segment));
  if (position.index >= nodes->size()) return std::nullopt;
  return MountedNode{.id = id_of(position.segment, position.index),
                     .node = std::shared_ptr<const TreeNode>(nodes, &(*nodes)[position.index])};
}

Result<std::optional<MountedNode>> MountedTree::find(std::string_view path) {
  TRY_ASSIGN(const Position position,
             first_not([&](std::string_view other) { return tree_order(other, path); }));
  TRY_ASSIGN(std::optional<MountedNode> found, at(position));
  if (found && found->entry().path != path) return std::nullopt;
  return found;
}

std::string MountedTree::below(std::string_view folder, std::string_view name) const {
  return folder.empty() ? std::string(name) : fmt::format("{}/{}", folder, name);
}

// The first entry that stands behind all that `folder` holds.
Result<MountedTree::Position> MountedTree::behind(std::string_view folder) {
  return first_not([&](std::string_view path) {
    return path == folder || lies_below(path, folder) || tree_order(path, folder);
  });
}

Result<MountedNode> MountedTree::node(NodeId id) {
  if (id == kRootNode) return root_;
  TRY_ASSIGN(std::optional<MountedNode> found, at({id >> kIndexBits, id & ((NodeId{1} << kIndexBits) - 1)}));
  if (!found) return no_entry();
  return follow(std::move(*found));
}

Result<std::optional<MountedNode>> MountedTree::lookup(NodeId folder, std::string_view name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos)
    return std::nullopt;
  TRY_ASSIGN(const MountedNode above, node(folder));
  if (above.entry().type != EntryType::kDirectory) return std::nullopt;
  TRY_ASSIGN(std::optional<MountedNode> found, find(below(above.entry().path, name)));
  if (!found) return std::nullopt;
  TRY_ASSIGN(MountedNode followed, follow(std::move(*found)));
  return followed;
}

Result<MountedNode> MountedTree::follow(MountedNode node) {
  if (node.entry().type == EntryType::kHardLink) {
    TRY_ASSIGN(std::optional<MountedNode> first, find(node.entry().link));
    if (!first || first->entry().type == EntryType::kHardLink || first->entry().type == EntryType::kDirectory)
      return fail(ErrorKind::kDamaged,
                  fmt::format("{} is a name of what is not in the tree", shown_path(node)));
    node = std::move(*first);
  }
  if (node.entry().type != EntryType::kDirectory) node.links = links_of(*node.node);
  return node;
}

std::string MountedTree::shown_path(const MountedNode& node) const {
  std::string_view path = node.entry().path;
  if (!options_.root.empty()) path.remove_prefix(std::min(path.size(), options_.root.size() + 1));
  return std::string(path);
}

Result<void> MountedTree::list(NodeId folder, uint64_t from,
                               const std::function<Result<bool>(const Listed&)>& visit) {
  TRY_ASSIGN(const MountedNode above, node(folder));
  const std::string& path = above.entry().path;
  if (above.entry().type != EntryType::kDirectory) return no_entry();
  Position position;
  bool passes = false;
  if (from == kListBegin) {
    TRY_ASSIGN(position,
               first_not([&](std::string_view other) { return other == path || tree_order(other, path); }));
    if (path.empty()) position = {};
  } else {
    const uint64_t place = (from - 1) >> 1;
    position = {place >> kIndexBits, place & ((NodeId{1} << kIndexBits) - 1)};
    passes = ((from - 1) & 1) != 0;
  }
  for (;;) {
    TRY_ASSIGN(std::optional<MountedNode> found, at(position));
    if (!found) {
      // The end of a segment, where the next one begins; or of the tree.
      if (position.index == 0 || position.segment + 1 >= segments()) return {};
      position = {position.segment + 1, 0};
      continue;
    }
    const std::string& full = found->entry().path;
    if (!lies_below(full, path)) return {};
    const size_t begin = path.empty() ? 0 : path.size() + 1;
    const size_t slash = full.find('/', begin);
    const bool is_child = slash == std::string::npos;
    if (!passes && is_child) {
      const bool is_folder = found->entry().type == EntryType::kDirectory;
      const uint64_t next = is_folder ? offset_of(found->id, true)
                                      : offset_of(id_of(position.segment, position.index + 1), false);
      const std::string name = full.substr(begin);
      TRY_ASSIGN(const bool goes_on, visit({.name = name, .node = *found, .next = next}));
      if (!goes_on) return {};
    }
    if (!is_child) {
      TRY_ASSIGN(position, behind(std::string_view(full).substr(0, slash)));
    } else if (found->entry().type == EntryType::kDirectory) {
      TRY_ASSIGN(position, behind(full));
    } else {
      ++position.index;
    }
    passes = false;
  }
}

// --- how many names a file has ------------------------------------------------------------------------
// The tree names the first of them in each further one, and says nothing in the first: so all are looked at
// once.
void MountedTree::count_links(const std::stop_token& stop) {
  std::vector<uint64_t> links;
  const auto take = [&](const Nodes& nodes) {
    for (const TreeNode& node : nodes) {
      if (node.entry.type == EntryType::kHardLink) links.push_back(digest_of(node.entry.link));
    }
  };
  if (piece_) {
    take(*piece_);
  } else {
    SnapshotReader::Context context(0);
    for (size_t number = 0; number < segments() && !stop.stop_requested(); ++number) {
      // What cannot be read is told when somebody asks for it.
      if (auto nodes = snapshot_->segment(number, context)) take(*nodes);
    }
  }
  std::ranges::sort(links);
  {
    const std::lock_guard lock(links_mutex_);
    links_ = std::move(links);
    links_are_known_ = true;
  }
  links_known_.notify_all();
}

uint64_t MountedTree::links_of(const TreeNode& node) {
  std::unique_lock lock(links_mutex_);
  links_known_.wait(lock, [&] { return links_are_known_; });
  if (links_.empty()) return 1;
  const auto found = std::ranges::equal_range(links_, digest_of(node.entry.path));
  return 1 + static_cast<uint64_t>(found.size());
}

// --- content ------------------------------------------------------------------------------------------
Result<std::shared_ptr<MountedTree::File>> MountedTree::open_file(NodeId id) {
  auto file = std::make_shared<File>();
  TRY_ASSIGN(file->node, node(id));
  const TreeEntry& entry = file->node.entry();
  if (entry.type != EntryType::kFile) return no_entry();
  if (entry.content == ContentKind::kPages) {
    TRY_ASSIGN(file->pages, snapshot_->pages_of(entry.path));
    if (uint64_t{file->pages->pages} * kPageBytes != entry.size)
      return fail(ErrorKind::kDamaged,
                  fmt::format("the snapshot contradicts itself about {}", shown_path(file->node)));
    return file;
  }
  // A copy: the segment must not stay for as long as somebody holds the file open.
  file->extents = file->node.node->extents;
  file->starts.reserve(file->extents.size());
  uint64_t at = 0;
  for (const Extent& extent : file->extents) {
    file->starts.push_back(at);
    at += extent.bytes;
  }
  auto slim = std::make_shared<TreeNode>();
  slim->entry = entry;
  file->node.node = std::move(slim);
  return file;
}

Result<std::shared_ptr<const Bytes>> MountedTree::frame(const Extent& extent) {
  return memory_.blocks_.get({number_, extent.pack, extent.frame}, [&]() -> Result<std::pair<Bytes, size_t>> {
    Borrowed context(*this);
    Bytes plain;
    TRY(snapshot_->read_frame(extent, *context, plain));
    const size_t cost = plain.capacity();
    return std::pair(std::move(plain), cost);
  });
}

Result<std::shared_ptr<const Bytes>> MountedTree::page_block(const File& file, uint64_t number) {
  return memory_.blocks_.get(
      {number_, file.node.id | kPageBlockBit, number}, [&]() -> Result<std::pair<Bytes, size_t>> {
        Borrowed context(*this);
        const uint64_t from = number * kPageBlockBytes;
        Bytes plain(std::min(kPageBlockBytes, file.size() - from));
        TRY(snapshot_->read_pages(*file.pages, static_cast<uint32_t>(from / kPageBytes), plain, *context));
        const size_t cost = plain.size();
        return std::pair(std::move(plain), cost);
      });
}

Result<size_t> MountedTree::read(File& file, uint64_t offset, MutableByteView out) {
  if (offset >= file.size()) return 0;
  out = out.first(static_cast<size_t>(std::min<uint64_t>(out.size(), file.size() - offset)));
  // The kernel asks for pieces side by side, which may come in another order.
  const uint64_t before = file.ended.exchange(offset + out.size());
  const bool follows = offset + kPageBlockBytes >= before && offset <= before + kPageBlockBytes;
  const bool in_order = follows && (before != 0 || offset == 0);
  if (!in_order) {
    file.in_order = 0;
  } else if (++file.in_order >= kInOrderFrom) {
    read_ahead(file, offset + out.size());
  }
  return file.pages != nullptr ? read_pages(file, offset, out) : read_bytes(file, offset, out);
}

Result<size_t> MountedTree::read_bytes(File& file, uint64_t offset, MutableByteView out) {
  size_t done = 0;
  for (size_t i = file.extent_at(offset); done < out.size(); ++i) {
    const Extent& extent = file.extents[i];
    const uint64_t skip = offset + done - file.starts[i];
    const size_t bytes = std::min<size_t>(out.size() - done, extent.bytes - static_cast<size_t>(skip));
    if (bytes == 0) continue;
    if (extent.pack == kHolePack) {
      std::memset(out.data() + done, 0, bytes);
    } else {
      TRY_ASSIGN(const auto plain, frame(extent));
      if (plain->size() < uint64_t{extent.offset} + extent.bytes)
        return fail(ErrorKind::kDamaged, "a frame holds fewer bytes than the tree says");
      std::memcpy(out.data() + done, plain->data() + extent.offset + skip, bytes);
    }
    done += bytes;
  }
  return done;
}

Result<size_t> MountedTree::read_pages(File& file, uint64_t offset, MutableByteView out) {
  if (file.in_order >= kInOrderFrom) {
    size_t done = 0;
    while (done < out.size()) {
      const uint64_t at = offset + done, skip = at % kPageBlockBytes;
      TRY_ASSIGN(const auto block, page_block(file, at / kPageBlockBytes));
      const size_t bytes = std::min<size_t>(out.size() - done, block->size() - static_cast<size_t>(skip));
      std::memcpy(out.data() + done, block->data() + skip, bytes);
      done += bytes;
    }
    return done;
  }
  // Here and there: the pages that are wanted, and no others.
  const auto first = static_cast<uint32_t>(offset / kPageBytes);
  const auto end = static_cast<uint32_t>((offset + out.size() + kPageBytes - 1) / kPageBytes);
  Borrowed context(*this);
  if (offset % kPageBytes == 0 && out.size() % kPageBytes == 0) {
    TRY(snapshot_->read_pages(*file.pages, first, out, *context));
    return out.size();
  }
  Bytes pages(size_t{end - first} * kPageBytes);
  TRY(snapshot_->read_pages(*file.pages, first, pages, *context));
  std::memcpy(out.data(), pages.data() + offset % kPageBytes, out.size());
  return out.size();
}

// What comes next is opened while what was asked for is on its way to who asked. A failure is told when it is
// asked for.
void MountedTree::read_ahead(File& file, uint64_t from) {
  const uint64_t to = std::min(from + kAheadBytes, file.size());
  uint64_t begin = std::max(from, file.ahead_to.load());
  if (begin > to + kAheadBytes) begin = from;  // it went back in the file
  const auto start = [&](std::function<void()> work) {
    {
      const std::lock_guard lock(ahead_mutex_);
      ++ahead_;
    }
    // Whether it is done or dropped, the tree may go afterwards.
    std::shared_ptr<void> ends(nullptr, [this](void*) {
      const std::lock_guard lock(ahead_mutex_);
      --ahead_;
      ahead_done_.notify_all();
    });
    memory_.ahead([work = std::move(work), ends = std::move(ends)] { work(); });
  };
  while (begin < to) {
    if (file.pages != nullptr) {
      const uint64_t block = begin / kPageBlockBytes;
      if (!memory_.blocks_.has({number_, file.node.id | kPageBlockBit, block})) {
        // The file may be closed before its turn comes.
        auto copy = std::make_shared<File>();
        copy->node = file.node;
        copy->pages = file.pages;
        start([this, copy, block] { (void)page_block(*copy, block); });
      }
      begin = (block + 1) * kPageBlockBytes;
    } else {
      const size_t i = file.extent_at(begin);
      const Extent extent = file.extents[i];
      if (extent.pack != kHolePack && !memory_.blocks_.has({number_, extent.pack, extent.frame}))
        start([this, extent] { (void)frame(extent); });
      begin = file.starts[i] + std::max(extent.bytes, 1u);
    }
  }
  file.ahead_to = begin;
}

std::optional<uint64_t> MountedTree::seek(const File& file, uint64_t offset, Seek wanted) const {
  if (offset >= file.size()) return std::nullopt;
  if (file.pages != nullptr) return wanted == Seek::kData ? offset : file.size();
  for (size_t i = file.extent_at(offset); i < file.extents.size(); ++i) {
    if (file.extents[i].bytes == 0) continue;
    const bool is_hole = file.extents[i].pack == kHolePack;
    if (is_hole == (wanted == Seek::kHole)) return std::max(offset, file.starts[i]);
  }
  return wanted == Seek::kHole ? std::optional(file.size()) : std::nullopt;
}

}  // namespace kuramori
