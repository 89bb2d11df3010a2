// Trees: what a snapshot consists of, by name. For the reader alone: a tree lies in sealed frames, and a
// commit only says in which.
#pragma once
#include <vector>

#include "base/tree_entry.h"
#include "vault/records.h"

namespace kuramori {

// A stretch of a kBytes file: `bytes` bytes at `offset` of the plain bytes of one frame.
struct Extent {
  uint32_t pack = 0;  // index into Tree::packs
  uint32_t frame = 0;
  uint32_t offset = 0, bytes = 0;
  bool operator==(const Extent&) const = default;
};

struct TreeNode {
  TreeEntry entry;
  std::vector<Extent> extents;  // of a kBytes file, in order
};

struct Tree {
  std::vector<std::string> packs;
  std::vector<TreeNode> nodes;  // a folder before what it holds
};

Bytes encode_tree(const Tree& tree);
// The same piece by piece, appended to `to`: the packs, then each node.
void put_tree_packs(std::string& to, const std::vector<std::string>& packs);
void put_tree_node(std::string& to, const TreeNode& node);
// Refuses paths that could lead out of a target (V27) and entries that contradict themselves.
Result<Tree> decode_tree(ByteView bytes);

}  // namespace kuramori
