// What a writer remembers of a tree it captured, so that what did not change is neither read nor sent: the
// nodes of the last snapshot, each with what moves whenever its file does.
//
// It lies on the machine that holds the files, beside the other memory of past runs. Losing it costs one
// reading of everything: content that is in the vault is found there again by the index. It is sealed and
// bound to its own beginning, middle and end: a flipped bit or a cut makes it worthless, never wrong (V24).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/world.h"
#include "vault/key_bundle.h"
#include "vault/tree.h"

namespace kuramori {

// Equal for a path: the file is what it was. Zero ctime: nobody can say.
struct EntryStamp {
  uint64_t device = 0, inode = 0;
  int64_t ctime_ns = 0;
  bool operator==(const EntryStamp&) const = default;
};

struct CachedNode {
  TreeNode node;  // packs of extents: TreeCacheReader::packs()
  EntryStamp stamp;
};

class TreeCacheWriter {
 public:
  // A new file beside `path`.
  static Result<std::unique_ptr<TreeCacheWriter>> create(const std::string& path, const KeyBundle& keys,
                                                         Random& random);
  ~TreeCacheWriter();  // removes it unless it was kept
  // The number of a pack in the nodes to come.
  uint32_t pack(const std::string& name);
  Result<void> add(const TreeNode& node, const EntryStamp& stamp);
  // Takes the place of the one before. Not fsynced: after a power cut it may be gone.
  Result<void> keep();

 private:
  struct State;
  explicit TreeCacheWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class TreeCacheReader {
 public:
  // kNotFound: there is none; kDamaged: it is of no use.
  static Result<std::unique_ptr<TreeCacheReader>> open(const std::string& path, const KeyBundle& keys);
  ~TreeCacheReader();
  // In tree order; nothing at the end.
  Result<std::optional<CachedNode>> next();
  const std::vector<std::string>& packs() const;

 private:
  struct State;
  explicit TreeCacheReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kuramori
