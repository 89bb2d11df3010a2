#include "vault/tree.h"
#include "vault/wire.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

namespace kuramori {
namespace {

Result<void> check_path(std::string_view path) {
  auto refuse = [&] {
    return fail(ErrorKind::kDamaged,
                fmt::format("the snapshot's tree holds the impossible path \"{}\"", path));
  };
  if (path.empty() || path.find('\0') != std::string_view::npos) return refuse();
  while (true) {
    size_t slash = path.find('/');
    std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return refuse();
    if (slash == std::string_view::npos) return {};
    path.remove_prefix(slash + 1);
  }
}

// A name stands once, and only folders hold others: nothing is ever written through a link (V27).
Result<void> check_shape(const Tree& tree) {
  // Sorted numbers instead of a table: a million names cost 4 MB.
  std::vector<uint32_t> order(tree.nodes.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto path_of = [&](uint32_t node) -> std::string_view { return tree.nodes[node].entry.path; };
  std::ranges::sort(order, {}, path_of);
  const auto twice = std::ranges::adjacent_find(order, {}, path_of);
  if (twice != order.end()) {
    return fail(ErrorKind::kDamaged, fmt::format("the snapshot's tree holds {} twice", path_of(*twice)));
  }
  std::string_view good;  // the folder that the last one lay in: the next mostly does too
  for (const TreeNode& node : tree.nodes) {
    const std::string_view path = node.entry.path;
    const size_t last = path.rfind('/');
    if (last == std::string_view::npos || (!good.empty() && path.substr(0, last) == good)) continue;
    for (size_t slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/', slash + 1)) {
      const std::string_view name = path.substr(0, slash);
      const auto above = std::ranges::lower_bound(order, name, {}, path_of);
      const bool there = above != order.end() && path_of(*above) == name;
      if (there && tree.nodes[*above].entry.type != EntryType::kDirectory) {
        return fail(ErrorKind::kDamaged,
                    fmt::format("the snapshot's tree holds {} below {}, which is no folder", path, name));
      }
    }
    good = path.substr(0, last);
  }
  return {};
}

// Throws what the library throws.
TreeNode parse_node(protozero::pbf_reader n) {
  TreeNode node;
  TreeEntry& e = node.entry;
  while (n.next()) {
    switch (n.tag()) {
      case 1:
        e.path = n.get_string();
        break;
      case 2:
        e.type = static_cast<EntryType>(n.get_uint64());
        break;
      case 3:
        e.content = static_cast<ContentKind>(n.get_uint64());
        break;
      case 4:
        e.mode = static_cast<uint32_t>(n.get_uint64());
        break;
      case 5:
        e.uid = static_cast<uint32_t>(n.get_uint64());
        break;
      case 6:
        e.gid = static_cast<uint32_t>(n.get_uint64());
        break;
      case 7:
        e.mtime_ns = n.get_sint64();
        break;
      case 8:
        e.size = n.get_uint64();
        break;
      case 9:
        e.link = n.get_string();
        break;
      case 10: {
        auto numbers = n.get_packed_uint32();
        for (auto it = numbers.begin(); it != numbers.end();) {
          uint32_t four[4];
          for (uint32_t& number : four) {
            if (it == numbers.end()) throw protozero::end_of_buffer_exception();
            number = *it++;
          }
          node.extents.push_back({four[0], four[1], four[2], four[3]});
        }
        break;
      }
      case 11:
        e.rdev = n.get_uint64();
        break;
      case 12:
        e.user = n.get_string();
        break;
      case 13:
        e.group = n.get_string();
        break;
      case 14: {
        auto& [name, value] = e.attributes.emplace_back();
        protozero::pbf_reader attribute = n.get_message();
        while (attribute.next()) {
          if (attribute.tag() == 1)
            name = attribute.get_string();
          else if (attribute.tag() == 2)
            value = attribute.get_string();
          else
            attribute.skip();
        }
        break;
      }
      case 15: {
        const protozero::data_view raw = n.get_view();
        Digest digest;
        if (raw.size() != digest.raw.size()) throw protozero::invalid_length_exception();
        std::memcpy(digest.raw.data(), raw.data(), raw.size());
        node.digest = digest;
        break;
      }
      default:
        n.skip();
    }
  }
  return node;
}

Result<Tree> parse(ByteView bytes) {
  Tree tree;
  try {
    protozero::pbf_reader r(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          tree.packs.push_back(r.get_string());
          break;
        case 2:
          tree.nodes.push_back(parse_node(r.get_message()));
          break;
        default:
          r.skip();
      }
    }
  } catch (const std::exception& error) {
    return fail(ErrorKind::kDamaged, fmt::format("the snapshot's tree cannot be read: {}", error.what()));
  }
  return tree;
}

// What each node says by itself.
Result<void> check_nodes(const Tree& tree, EntryType last_type) {
  for (const TreeNode& node : tree.nodes) {
    TRY(check_path(node.entry.path));
    const TreeEntry& e = node.entry;
    bool known = e.type >= EntryType::kDirectory && e.type <= last_type && e.content <= ContentKind::kPages;
    if (!known || (e.type != EntryType::kFile && e.content != ContentKind::kNone)) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("the snapshot's tree says impossible things about {}", e.path));
    }
    uint64_t bytes_sum = 0;
    for (const Extent& extent : node.extents) {
      bytes_sum += extent.bytes;
      if (extent.pack >= tree.packs.size() && extent.pack != kHolePack)
        return fail(ErrorKind::kDamaged, "the snapshot's tree names a pack it does not list");
    }
    bool fits =
        node.entry.content == ContentKind::kBytes ? bytes_sum == node.entry.size : node.extents.empty();
    if (!fits)
      return fail(ErrorKind::kDamaged,
                  fmt::format("the snapshot's tree contradicts itself about {}", node.entry.path));
  }
  return {};
}

}  // namespace

// message Tree { repeated bytes pack = 1; repeated Node node = 2; }
// message Node { path 1, type 2, content 3, mode 4, uid 5, gid 6, mtime_ns 7 (sint), size 8, link 9,
//                extents 10 (packed: pack, frame, offset, bytes), rdev 11, user 12, group 13,
//                attribute 14 (repeated message { name 1, value 2 }), digest 15 }
// message TreeRoot { repeated bytes pack = 1; segments 18 (packed: pack, frame); entries 19 }
void put_tree_packs(std::string& to, const std::vector<std::string>& packs) {
  protozero::pbf_writer w(to);
  for (const std::string& pack : packs) w.add_bytes(1, pack.data(), pack.size());
}

void put_tree_node(std::string& to, const TreeNode& node) {
  std::string buffer;
  protozero::pbf_writer n(buffer);
  const TreeEntry& e = node.entry;
  n.add_bytes(1, e.path.data(), e.path.size());
  n.add_uint64(2, static_cast<uint64_t>(e.type));
  n.add_uint64(3, static_cast<uint64_t>(e.content));
  n.add_uint64(4, e.mode);
  n.add_uint64(5, e.uid);
  n.add_uint64(6, e.gid);
  n.add_sint64(7, e.mtime_ns);
  n.add_uint64(8, e.size);
  if (!e.link.empty()) n.add_bytes(9, e.link.data(), e.link.size());
  std::vector<uint32_t> numbers;
  for (const Extent& extent : node.extents)
    numbers.insert(numbers.end(), {extent.pack, extent.frame, extent.offset, extent.bytes});
  if (!numbers.empty()) n.add_packed_uint32(10, numbers.begin(), numbers.end());
  if (e.rdev != 0) n.add_uint64(11, e.rdev);
  if (!e.user.empty()) n.add_bytes(12, e.user.data(), e.user.size());
  if (!e.group.empty()) n.add_bytes(13, e.group.data(), e.group.size());
  for (const auto& [name, value] : e.attributes) {
    protozero::pbf_writer attribute(n, 14);
    attribute.add_bytes(1, name.data(), name.size());
    attribute.add_bytes(2, value.data(), value.size());
  }
  if (node.digest)
    n.add_bytes(15, reinterpret_cast<const char*>(node.digest->raw.data()), node.digest->raw.size());
  protozero::pbf_writer(to).add_bytes(2, buffer.data(), buffer.size());
}

Bytes encode_tree(const Tree& tree) {
  std::string text;
  put_tree_packs(text, tree.packs);
  for (const TreeNode& node : tree.nodes) put_tree_node(text, node);
  return to_bytes(as_bytes(text));
}

Result<TreeNode> decode_tree_node(ByteView message) {
  try {
    return parse_node({reinterpret_cast<const char*>(message.data()), message.size()});
  } catch (const std::exception& error) {
    return fail(ErrorKind::kDamaged, fmt::format("a tree's node cannot be read: {}", error.what()));
  }
}

Result<Tree> decode_tree(ByteView bytes) {
  TRY_ASSIGN(Tree tree, parse(bytes));
  TRY(check_nodes(tree, EntryType::kSymlink));
  TRY(check_shape(tree));
  return tree;
}

Result<Tree> decode_segment(ByteView bytes) {
  TRY_ASSIGN(Tree tree, parse(bytes));
  TRY(check_nodes(tree, EntryType::kBlockDevice));
  for (const TreeNode& node : tree.nodes) {
    const TreeEntry& e = node.entry;
    const bool has_digest = e.content == ContentKind::kBytes;
    if (e.content == ContentKind::kPages || has_digest != node.digest.has_value())
      return fail(ErrorKind::kDamaged,
                  fmt::format("the snapshot's tree contradicts itself about {}", e.path));
    if (e.type == EntryType::kHardLink) TRY(check_path(e.link));
  }
  return tree;
}

Bytes encode_root(const TreeRoot& root) {
  std::string text;
  put_tree_packs(text, root.packs);
  protozero::pbf_writer w(text);
  std::vector<uint32_t> numbers;
  numbers.reserve(2 * root.segments.size());
  for (const TreeRoot::Segment& segment : root.segments)
    numbers.insert(numbers.end(), {segment.pack, segment.frame});
  w.add_packed_uint32(18, numbers.begin(), numbers.end());
  w.add_uint64(19, root.entries);
  return to_bytes(as_bytes(text));
}

Result<TreeRoot> decode_root(ByteView bytes) {
  TreeRoot root;
  try {
    protozero::pbf_reader r(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          root.packs.push_back(r.get_string());
          break;
        case 18: {
          auto numbers = r.get_packed_uint32();
          for (auto it = numbers.begin(); it != numbers.end();) {
            TreeRoot::Segment& segment = root.segments.emplace_back();
            segment.pack = *it++;
            if (it == numbers.end()) throw protozero::end_of_buffer_exception();
            segment.frame = *it++;
          }
          break;
        }
        case 19:
          root.entries = r.get_uint64();
          break;
        default:
          r.skip();
      }
    }
  } catch (const std::exception& error) {
    return fail(ErrorKind::kDamaged, fmt::format("the snapshot's tree cannot be read: {}", error.what()));
  }
  for (const TreeRoot::Segment& segment : root.segments) {
    if (segment.pack >= root.packs.size())
      return fail(ErrorKind::kDamaged, "the snapshot's tree names a pack it does not list");
  }
  return root;
}

Result<void> TreeOrder::see(const TreeEntry& entry) {
  const std::string& path = entry.path;
  if (any_ && !tree_order(last_, path)) {
    return fail(ErrorKind::kDamaged, fmt::format("the snapshot's tree holds {} after {}", path, last_));
  }
  any_ = true;
  // The open folders that it does not lie in are over.
  while (!folders_.empty()) {
    const size_t size = folders_.back();
    if (path.size() > size && path[size] == '/' && path.compare(0, size, last_, 0, size) == 0) break;
    folders_.pop_back();
  }
  const size_t slash = path.rfind('/');
  const size_t above = slash == std::string::npos ? 0 : slash;
  if ((folders_.empty() ? 0 : folders_.back()) != above) {
    return fail(ErrorKind::kDamaged,
                fmt::format("the snapshot's tree holds {}, and no folder above it", path));
  }
  if (entry.type == EntryType::kDirectory) folders_.push_back(path.size());
  last_ = path;
  return {};
}

void ContentDigest::add(uint32_t bytes, const Digest& of_bytes) {
  append_le(message_, bytes);
  message_.push_back(0);
  append(message_, of_bytes.raw);
}

void ContentDigest::add_hole(uint32_t bytes) {
  append_le(message_, bytes);
  message_.push_back(1);
}

Digest ContentDigest::finish() const {
  return sha256(message_);
}

}  // namespace kuramori
