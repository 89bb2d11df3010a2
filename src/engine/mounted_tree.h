// One snapshot's tree as a filesystem asks for it: by parent and name, entry by entry, at an offset. No FUSE
// in it.
//
// Nothing is kept of an entry between two questions. Its number says where it stands: in which segment of the
// tree and as which of its nodes (docs/adr/0018-mount.md). Segments and opened frames are read when they are
// asked for and kept as long as there is room, so that a tree of a million entries takes as much memory as
// one of a thousand, and a kernel that forgets an entry has nothing to tell us.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "conc/channel.h"
#include "conc/shared_cache.h"
#include "vault/snapshot_reader.h"

namespace kuramori {

// Where an entry stands. Numbers are below kNodeIds, and the same at each mount of a snapshot.
using NodeId = uint64_t;
constexpr NodeId kNodeIds = NodeId{1} << 44;
constexpr NodeId kRootNode = kNodeIds - 1;

// What mounts of one process share: room for what is opened, and threads that read ahead. Outlives the trees.
class MountMemory {
 public:
  MountMemory();
  ~MountMemory();
  MountMemory(const MountMemory&) = delete;

 private:
  friend class MountedTree;
  struct Place {
    uint64_t tree = 0, a = 0, b = 0;
    bool operator==(const Place&) const = default;
  };
  struct PlaceHash {
    size_t operator()(const Place& place) const noexcept;
  };
  // In the background, or not at all when there is enough to do.
  void ahead(std::function<void()> work);

  using Nodes = std::vector<TreeNode>;
  SharedCache<Place, Nodes, PlaceHash> segments_;
  SharedCache<Place, Bytes, PlaceHash> blocks_;
  std::atomic<uint64_t> trees_{0};
  Channel<std::function<void()>> ahead_;
  std::atomic<size_t> waiting_{0};
  std::vector<std::jthread> threads_;
};

// An entry. Its node is another's where it is a further name of a file: they have one number.
struct MountedNode {
  NodeId id = 0;
  std::shared_ptr<const TreeNode> node;
  uint64_t links = 1;  // names of a file
  const TreeEntry& entry() const { return node->entry; }
  uint64_t allocated() const;  // bytes that are not holes
};

struct MountedTreeOptions {
  std::string root;  // the path of the tree that is shown as the root: "content"; "" — all
  // Of a tree in one piece: what is shown. Absent: everything.
  std::function<bool(const TreeEntry&)> shows;
  // Of a root that the tree has no entry of.
  TreeEntry bare_root;
  // Whether files may have several names, which are counted then, in the background.
  bool may_have_links = true;
};

class MountedTree {
 public:
  // `memory` outlives it.
  static Result<std::unique_ptr<MountedTree>> open(std::unique_ptr<SnapshotReader> snapshot,
                                                   MountedTreeOptions options, MountMemory& memory);
  ~MountedTree();

  // kNotFound: a number that no entry has.
  Result<MountedNode> node(NodeId id);
  // What `folder` has under `name`; nothing: there is none. A name with a '/', "." and ".." are none.
  Result<std::optional<MountedNode>> lookup(NodeId folder, std::string_view name);

  // Entries of `folder` from `from` on (0: the first), until `visit` says false. `next` is where to go on
  // after this entry, and holds for ever. Of a further name of a file, what stands under that name: follow()
  // finds the file.
  struct Listed {
    std::string_view name;
    MountedNode node;
    uint64_t next = 0;
  };
  Result<void> list(NodeId folder, uint64_t from, const std::function<Result<bool>(const Listed&)>& visit);
  // The file that a further name is of; others as they are.
  Result<MountedNode> follow(MountedNode node);
  // Below the root, for people.
  std::string shown_path(const MountedNode& node) const;

  // A file whose content is read. Any number of threads may do so at once.
  class File;
  Result<std::shared_ptr<File>> open_file(NodeId id);
  // Fills `out` from `offset`, up to the end of the file: how many bytes there were. kDamaged when they are
  // not those that were written; then `out` is nothing to believe.
  Result<size_t> read(File& file, uint64_t offset, MutableByteView out);
  // The first byte from `offset` on that is in a hole, or in none; the end of the file counts as a hole.
  // Nothing: there is none before its end, or `offset` lies beyond.
  enum class Seek { kData, kHole };
  std::optional<uint64_t> seek(const File& file, uint64_t offset, Seek seek) const;

  const CommitRecord& commit() const { return snapshot_->commit(); }
  uint64_t entries() const { return entries_; }

 private:
  struct Position {
    size_t segment = 0, index = 0;
  };
  using Nodes = MountMemory::Nodes;
  using HeldNodes = std::shared_ptr<const Nodes>;
  class Borrowed;

  MountedTree(std::unique_ptr<SnapshotReader> snapshot, MountedTreeOptions options, MountMemory& memory);
  Result<void> find_root();
  size_t segments() const { return snapshot_->is_in_segments() ? snapshot_->segments() : 1; }
  Result<HeldNodes> segment(size_t number);
  Result<std::string> first_path(size_t number);
  // The first entry that `is_before` does not hold for; true for all up to it.
  using Before = std::function<bool(std::string_view path)>;
  Result<Position> first_not(const Before& is_before);
  Result<std::optional<MountedNode>> at(Position position);
  Result<std::optional<MountedNode>> find(std::string_view path);
  std::string below(std::string_view folder, std::string_view name) const;
  Result<Position> behind(std::string_view folder);
  uint64_t links_of(const TreeNode& node);
  void count_links(const std::stop_token& stop);

  Result<std::shared_ptr<const Bytes>> frame(const Extent& extent);
  Result<std::shared_ptr<const Bytes>> page_block(const File& file, uint64_t number);
  Result<size_t> read_bytes(File& file, uint64_t offset, MutableByteView out);
  Result<size_t> read_pages(File& file, uint64_t offset, MutableByteView out);
  void read_ahead(File& file, uint64_t from);

  std::unique_ptr<SnapshotReader> snapshot_;
  const MountedTreeOptions options_;
  MountMemory& memory_;
  const uint64_t number_;  // among the trees of `memory_`
  uint64_t entries_ = 0;
  MountedNode root_;
  std::shared_ptr<const Nodes> piece_;  // of a tree in one piece, in tree order

  std::mutex firsts_mutex_;
  std::vector<std::string> firsts_;  // paths that segments begin with; "": not known yet

  std::mutex contexts_mutex_;
  std::vector<std::unique_ptr<SnapshotReader::Context>> contexts_;  // that nobody uses

  // Of each further name, a digest of the path it names; sorted, once they are all known.
  std::mutex links_mutex_;
  std::condition_variable links_known_;
  bool links_are_known_ = false;
  std::vector<uint64_t> links_;

  // What is read ahead must end before the tree does.
  std::mutex ahead_mutex_;
  std::condition_variable ahead_done_;
  size_t ahead_ = 0;
  std::jthread counter_;
};

}  // namespace kuramori
