// A tree's snapshot as sources and restores see it: its content, without the folder it is kept under.
#pragma once
#include <map>
#include <string>

#include "source/source.h"
#include "vault/snapshot_reader.h"

namespace kuramori {

// The path within the content ("" for its root); nothing: the node is not of the content.
std::optional<std::string> content_path(std::string_view path);

// The bytes of one file, extent by extent.
Result<void> read_content(const SnapshotReader& snapshot, const TreeNode& node,
                          SnapshotReader::Context& context, ContentSink& sink);

class SnapshotTree final : public CapturedTree {
 public:
  explicit SnapshotTree(const SnapshotReader& snapshot) : snapshot_(snapshot) {}
  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override;
  Result<void> read(std::string_view path, ContentSink& sink) const override;
  const std::map<std::string, std::string>& facts() const override { return snapshot_.commit().facts; }

 private:
  const SnapshotReader& snapshot_;
};

}  // namespace kuramori
