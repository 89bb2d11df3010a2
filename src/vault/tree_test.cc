#include "vault/tree.h"

#include <gtest/gtest.h>

#include "vault/test_support.h"

namespace kuramori {
namespace {

Tree one(std::string path) {
  Tree tree;
  tree.packs = {"packs/00/x-0"};
  tree.nodes.push_back(
      {.entry = {.path = std::move(path), .type = EntryType::kFile, .content = ContentKind::kNone},
       .extents = {}});
  return tree;
}

TEST(Tree, comes_back_as_it_was) {
  test::SeededRandom random(4);
  Tree tree;
  for (int i = 0; i < 5; ++i) tree.packs.push_back("packs/00/p-" + std::to_string(i));
  for (int i = 0; i < 300; ++i) {
    TreeNode node;
    TreeEntry& e = node.entry;
    e.path = "folder/" + std::to_string(i) + std::string("\xff\n odd", 6);
    e.type = static_cast<EntryType>(1 + random.below(3));
    e.mode = static_cast<uint32_t>(random.below(07777));
    e.uid = static_cast<uint32_t>(random.below(1ull << 32));
    e.gid = static_cast<uint32_t>(random.below(1ull << 32));
    e.mtime_ns = static_cast<int64_t>(random.below(UINT64_MAX));
    if (e.type == EntryType::kSymlink) e.link = "../../anywhere/at all";
    if (e.type == EntryType::kFile) {
      e.content = static_cast<ContentKind>(random.below(3));
      if (e.content == ContentKind::kPages) e.size = random.below(1u << 20) * 8192;
      if (e.content == ContentKind::kBytes) {
        for (uint64_t n = random.below(4); n > 0; --n) {
          node.extents.push_back(
              {static_cast<uint32_t>(random.below(5)), static_cast<uint32_t>(random.below(99)),
               static_cast<uint32_t>(random.below(99)), static_cast<uint32_t>(random.below(99))});
          e.size += node.extents.back().bytes;
        }
      }
    }
    tree.nodes.push_back(node);
  }
  auto back = decode_tree(encode_tree(tree));
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(back->packs, tree.packs);
  ASSERT_EQ(back->nodes.size(), tree.nodes.size());
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    const TreeEntry &a = tree.nodes[i].entry, &b = back->nodes[i].entry;
    EXPECT_TRUE(a.path == b.path && a.type == b.type && a.content == b.content && a.mode == b.mode &&
                a.uid == b.uid && a.gid == b.gid && a.mtime_ns == b.mtime_ns && a.size == b.size &&
                a.link == b.link);
    EXPECT_EQ(tree.nodes[i].extents, back->nodes[i].extents);
  }
}

// V27: no path leads out of the target.
TEST(Tree, paths_that_lead_out_are_refused) {
  for (const std::string& path :
       {std::string(""), std::string("/etc/passwd"), std::string("a//b"), std::string("a/"), std::string("."),
        std::string(".."), std::string("../x"), std::string("a/../b"), std::string("a/.."),
        std::string("a/./b"), std::string("a\0b", 3)}) {
    auto back = decode_tree(encode_tree(one(path)));
    ASSERT_FALSE(back) << path;
    EXPECT_EQ(back.error().kind, ErrorKind::kDamaged);
  }
  EXPECT_TRUE(decode_tree(encode_tree(one("...")))) << "three dots are a name";
  EXPECT_TRUE(decode_tree(encode_tree(one("a/b.c/..d"))));
}

// V27: nothing may be written through a link, or below what is no folder, and no name may stand twice.
TEST(Tree, entries_below_a_link_or_a_file_are_refused) {
  for (EntryType type : {EntryType::kSymlink, EntryType::kFile}) {
    Tree tree = one("a/b");
    tree.nodes.insert(
        tree.nodes.begin(),
        {.entry = {.path = "a", .type = type, .link = type == EntryType::kSymlink ? "/etc" : ""},
         .extents = {}});
    EXPECT_FALSE(decode_tree(encode_tree(tree)));
    std::swap(tree.nodes[0], tree.nodes[1]);
    EXPECT_FALSE(decode_tree(encode_tree(tree))) << "in whatever order";
  }
  Tree twice = one("a");
  twice.nodes.push_back(twice.nodes[0]);
  EXPECT_FALSE(decode_tree(encode_tree(twice)));
}

TEST(Tree, contradictions_are_refused) {
  Tree tree = one("a");
  tree.nodes[0].entry.content = ContentKind::kBytes;
  tree.nodes[0].entry.size = 5;
  EXPECT_FALSE(decode_tree(encode_tree(tree))) << "bytes without extents";
  tree.nodes[0].extents = {{0, 0, 0, 5}};
  EXPECT_TRUE(decode_tree(encode_tree(tree)));
  tree.nodes[0].extents = {{1, 0, 0, 5}};
  EXPECT_FALSE(decode_tree(encode_tree(tree))) << "a pack that is not listed";
  tree.nodes[0].extents = {{0, 0, 0, 5}};
  tree.nodes[0].entry.content = ContentKind::kPages;
  EXPECT_FALSE(decode_tree(encode_tree(tree))) << "pages with extents";
  Tree odd = one("a");
  odd.nodes[0].entry.type = static_cast<EntryType>(9);
  EXPECT_FALSE(decode_tree(encode_tree(odd))) << "an unknown type";
}

}  // namespace
}  // namespace kuramori
