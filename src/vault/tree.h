// Trees: what a snapshot consists of, by name. For the reader alone: a tree lies in sealed frames, and a
// commit only says in which.
//
// Two forms. A cluster's tree is one piece, written anew with each snapshot. A tree of files is a row of
// segments, each a piece with packs of its own, and a root that says where they lie: a segment in which
// nothing changed is not written again.
#pragma once
#include <optional>
#include <vector>

#include "base/tree_entry.h"
#include "crypto/digest.h"
#include "vault/records.h"

namespace kuramori {

// A stretch of a kBytes file: `bytes` bytes at `offset` of the plain bytes of one frame.
struct Extent {
  uint32_t pack = 0;  // index into Tree::packs; kHolePack: zeros that take no place anywhere
  uint32_t frame = 0;
  uint32_t offset = 0, bytes = 0;
  bool operator==(const Extent&) const = default;
};

constexpr uint32_t kHolePack = UINT32_MAX;

struct TreeNode {
  TreeEntry entry;
  std::vector<Extent> extents;  // of a kBytes file, in order
  // Of a kBytes file in a segment: over its extents (ContentDigest), so that a file can be compared without
  // being fetched.
  std::optional<Digest> digest;
  bool operator==(const TreeNode&) const = default;
};

// What a file's content is told by: SHA-256 over, of each extent, its length, whether it is a hole, and the
// SHA-256 of its bytes (a hole: none).
class ContentDigest {
 public:
  void add(uint32_t bytes, const Digest& of_bytes);
  void add_hole(uint32_t bytes);
  Digest finish() const;

 private:
  Bytes message_;
};

struct Tree {
  std::vector<std::string> packs;
  std::vector<TreeNode> nodes;  // a folder before what it holds
};

Bytes encode_tree(const Tree& tree);
// The same piece by piece, appended to `to`: the packs, then each node.
void put_tree_packs(std::string& to, const std::vector<std::string>& packs);
void put_tree_node(std::string& to, const TreeNode& node);
// One node by itself, as it stands in the field of put_tree_node(); nothing of it is checked.
Result<TreeNode> decode_tree_node(ByteView message);
// Refuses paths that could lead out of a target (V27) and entries that contradict themselves.
Result<Tree> decode_tree(ByteView bytes);

// --- in segments -------------------------------------------------------------------------------------
struct TreeRoot {
  struct Segment {
    uint32_t pack = 0, frame = 0;  // pack: index into `packs`
    bool operator==(const Segment&) const = default;
  };
  std::vector<std::string> packs;
  std::vector<Segment> segments;  // in the order of the tree
  uint64_t entries = 0;
};
Bytes encode_root(const TreeRoot& root);
Result<TreeRoot> decode_root(ByteView bytes);
// One segment, whose nodes stand in tree order. TreeOrder sees to it that segments follow each other.
Result<Tree> decode_segment(ByteView bytes);

// Goes along with a tree's entries: each name stands once, after the folder that holds it, and only folders
// hold others, so that nothing is ever written through a link (V27). Holds as much as the tree is deep.
class TreeOrder {
 public:
  Result<void> see(const TreeEntry& entry);

 private:
  std::string last_;
  bool any_ = false;
  std::vector<size_t> folders_;  // how long the paths of the open folders are, within last_
};

}  // namespace kuramori
