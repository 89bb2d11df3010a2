// Reads one snapshot back: its tree, its pages, its bytes. Everything is checked against what the signed
// commit binds before it is handed out.
#pragma once
#include <array>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>

#include "vault/content_writer.h"
#include "vault/tree.h"

namespace kuramori {

// Opens what a new snapshot may build on, with the structure key alone.
Result<BaseSnapshot> open_base(Store& store, const KeyBundle& keys, RecordCodec& codec,
                               std::string commit_name, const CommitRecord& commit);
// Exactly which packs, maps and frames the snapshot needs.
Result<LiveRecord> read_live(Store& store, RecordCodec& codec, const CommitRecord& commit);
// What the snapshot consists of; for keys that open content.
Result<Tree> read_tree(Store& store, const KeyBundle& keys, const LiveRecord& live,
                       const CommitRecord& commit);
// The object that `ref` names, if its bytes are the ones bound.
Result<Bytes> get_bound(Store& store, const ObjectRef& ref);

class SnapshotReader {
 public:
  static Result<std::unique_ptr<SnapshotReader>> open(Store& store, const KeyBundle& keys, RecordCodec& codec,
                                                      std::string commit_name, const CommitRecord& commit);
  ~SnapshotReader();

  // The working memory of one reading thread.
  class Context {
   public:
    // `held_bytes_max`: of frames that are kept opened. Whoever reads a whole snapshot that many others
    // changed here and there meets each frame again a little later: one of every older snapshot's should have
    // room.
    explicit Context(size_t held_bytes_max) : workshop(kZstdLevel), held_bytes_max_(held_bytes_max) {}
    Context() : Context(size_t{2} << 20) {}

   private:
    friend class SnapshotReader;
    struct HeldFrame {
      uint64_t place = 0;  // pack and frame
      Bytes plain;
      PageFilter filter = PageFilter::kNone;  // undone as pages are taken out
      uint32_t given = 0;                     // of its pages, a bit each
    };
    using Frames = std::list<HeldFrame>;
    static bool is_given(const HeldFrame& frame);
    // The frame at `place`, opened by `fill` where it is not held.
    template <class Fill>
    Result<HeldFrame*> hold(uint64_t place, Fill&& fill);
    // Whether it is held or was asked for a little while ago. Notes that it was asked for.
    bool is_met_again(uint64_t place);
    // Its pages from `slot` on were handed out. One that has no others left goes first.
    void give(HeldFrame& frame, uint32_t slot, uint32_t count);

    FrameWorkshop workshop;
    Bytes batch;
    Frames frames_;  // what is to go last, first
    std::unordered_map<uint64_t, Frames::iterator> at_;
    size_t held_bytes_ = 0, held_bytes_max_;
    std::array<uint64_t, 64> met_ = {};  // the last ones that were not held, from anywhere on
    size_t met_count_ = 0;
  };

  // Everything will be read from here on, mostly in order: packs are opened some at a time and before they
  // are asked for, and what they begin with is on its way. Far away, that is what costs.
  // Before the first reading thread begins.
  void expect_everything();

  const CommitRecord& commit() const;
  // Of a tree that is one piece; one in segments has none.
  const Tree& tree() const;
  // The nodes of such a tree, for who keeps them himself: tree(), visit() and find() know none afterwards.
  std::vector<TreeNode> take_nodes();
  bool is_in_segments() const;
  uint64_t entries() const;
  // Every node in order, until `visit` fails; the tree is held segment by segment. Extents are as
  // read_extent() takes them.
  using NodeVisitor = std::function<Result<void>(TreeNode&& node)>;
  Result<void> visit(const NodeVisitor& visit) const;
  // The node of this path; nothing: there is none.
  Result<std::optional<TreeNode>> find(std::string_view path) const;
  // Of a tree in segments, how many there are; and the nodes of one, in order (checked). For who looks here
  // and there.
  size_t segments() const;
  // `encoded`, where it is given: the segment as it was written.
  Result<std::vector<TreeNode>> segment(size_t number, Context& context, Bytes* encoded = nullptr) const;
  // Where a segment lies: its frame holds nothing else.
  Result<Extent> segment_place(size_t number) const;
  // What keeps the snapshot alive: packs by name, and the pack of an extent is its number among them (of a
  // tree in segments).
  const LiveRecord& live() const;
  // The pages of a kPages file; kNotFound when no map knows it.
  Result<const FilePages*> pages_of(const std::string& path) const;
  // Fills `out` (whole pages) with the file's pages from `first` on.
  Result<void> read_pages(const FilePages& file, uint32_t first, MutableByteView out, Context& context) const;
  // Appends the bytes of one extent.
  Result<void> read_extent(const Extent& extent, Context& context, Bytes& out) const;
  // All plain bytes of the frame that holds an extent, which may be no hole: `out` is replaced, nothing is
  // held. The extent is known to lie within them.
  Result<void> read_frame(const Extent& extent, Context& context, Bytes& out) const;
  // The whole of a small kBytes file; kNotFound. Those that are read for themselves mostly lie in one frame,
  // which is fetched once.
  Result<Bytes> read_small_file(std::string_view path) const;
  // Paths of the files with a page or a byte in `pack`.
  Result<std::set<std::string>> files_in(const std::string& pack) const;
  // Bytes of the vault that a restore of everything fetches.
  uint64_t stored_bytes() const;

 private:
  struct State;
  explicit SnapshotReader(std::unique_ptr<State> state);
  const std::string& pack_of(const Extent& extent) const;
  Result<void> check_within(const Extent& extent, ByteView plain) const;
  Result<std::shared_ptr<PackReader>> pack_with(const Extent& extent) const;
  std::unique_ptr<State> state_;
};

}  // namespace kuramori
