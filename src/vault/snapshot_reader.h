// Reads one snapshot back: its tree, its pages, its bytes. Everything is checked against what the signed
// commit binds before it is handed out.
#pragma once
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <set>

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
    Context() : workshop(kZstdLevel) {}

   private:
    friend class SnapshotReader;
    struct CachedFrame {
      uint32_t pack = kZeroPack, frame = 0;
      Bytes plain;
      PageFilter filter = PageFilter::kNone;  // undone as pages are taken out
    };
    FrameWorkshop workshop;
    std::list<CachedFrame> frames;  // most recently used first
    Bytes batch;
  };

  // Everything will be read from here on, mostly in order: packs are opened some at a time and before they
  // are asked for, and what they begin with is on its way. Far away, that is what costs.
  // Before the first reading thread begins.
  void expect_everything();

  const CommitRecord& commit() const;
  const Tree& tree() const;
  // The pages of a kPages file; kNotFound when no map knows it.
  Result<const FilePages*> pages_of(const std::string& path) const;
  // Fills `out` (whole pages) with the file's pages from `first` on.
  Result<void> read_pages(const FilePages& file, uint32_t first, MutableByteView out, Context& context) const;
  // Appends the bytes of one extent.
  Result<void> read_extent(const Extent& extent, Context& context, Bytes& out) const;
  // The whole of a small kBytes file; kNotFound. Those that are read for themselves mostly lie in one frame,
  // which is fetched once.
  Result<Bytes> read_small_file(std::string_view path) const;
  // Paths of the files with a page or a byte in `pack`.
  std::set<std::string> files_in(const std::string& pack) const;
  // Bytes of the vault that a restore of everything fetches.
  uint64_t stored_bytes() const;

 private:
  struct State;
  explicit SnapshotReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kuramori
