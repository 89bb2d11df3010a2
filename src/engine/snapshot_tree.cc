#include "engine/snapshot_tree.h"

#include <fmt/core.h>

#include "engine/backup_tree.h"

namespace kuramori {

std::optional<std::string> content_path(std::string_view path) {
  if (!path.starts_with(kContentFolder)) return std::nullopt;
  path.remove_prefix(kContentFolder.size());
  if (path.empty()) return std::string();
  if (path.front() != '/') return std::nullopt;
  return std::string(path.substr(1));
}

Result<void> read_content(const SnapshotReader& snapshot, const TreeNode& node,
                          SnapshotReader::Context& context, ContentSink& sink) {
  Bytes bytes;
  for (const Extent& extent : node.extents) {
    if (extent.pack == kHolePack) {
      TRY(sink.add_hole(extent.bytes));
      continue;
    }
    bytes.clear();
    if (bytes.capacity() < extent.bytes) bytes = Bytes();  // or both would be there while it grows
    TRY(snapshot.read_extent(extent, context, bytes));
    TRY(sink.add(bytes));
  }
  return {};
}

Result<void> SnapshotTree::visit(const std::function<Result<void>(const TreeEntry&)>& visit) const {
  return snapshot_.visit([&](TreeNode&& node) -> Result<void> {
    auto path = content_path(node.entry.path);
    if (!path) return {};
    node.entry.path = std::move(*path);
    if (node.entry.type == EntryType::kHardLink) {
      auto link = content_path(node.entry.link);
      if (!link)
        return fail(ErrorKind::kDamaged,
                    fmt::format("{} is a name of what is not in the tree", node.entry.path));
      node.entry.link = std::move(*link);
    }
    return visit(node.entry);
  });
}

Result<void> SnapshotTree::read(std::string_view path, ContentSink& sink) const {
  const std::string kept =
      path.empty() ? std::string(kContentFolder) : fmt::format("{}/{}", kContentFolder, path);
  TRY_ASSIGN(const std::optional<TreeNode> node, snapshot_.find(kept));
  if (!node || node->entry.content != ContentKind::kBytes)
    return fail(ErrorKind::kNotFound, fmt::format("the snapshot has no file {}", path));
  SnapshotReader::Context context;
  return read_content(snapshot_, *node, context, sink);
}

}  // namespace kuramori
