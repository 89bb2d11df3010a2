// A bucket's snapshot as folders and files: what a restore into a folder writes.
#pragma once
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "source/source.h"

namespace kuramori::bucket {

struct FolderViewRequest {
  std::vector<std::string> only;
  std::optional<Time> at;  // as it stood then; nothing: as it stood when it was captured
  // Every so manieth object alone, for a drill of what is too large to restore whole.
  uint64_t every = 1;
};

// Borrows the tree. read() knows the entry that visit() gave last, and no other.
class FolderView final : public CapturedTree {
 public:
  FolderView(const CapturedTree& tree, FolderViewRequest request, std::stop_token stop)
      : tree_(tree), request_(std::move(request)), stop_(std::move(stop)) {}

  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override;
  Result<void> read(std::string_view path, ContentSink& sink) const override;
  const std::map<std::string, std::string>& facts() const override { return tree_.facts(); }

  // After visit(): of the snapshot, and of them files that were given.
  uint64_t entries() const { return entries_; }
  uint64_t files() const { return files_; }

 private:
  struct Chosen {
    TreeEntry entry;
    std::string path;  // as a file
  };
  Result<void> give(Chosen&& chosen, bool is_folder_too,
                    const std::function<Result<void>(const TreeEntry&)>& visit) const;

  const CapturedTree& tree_;
  const FolderViewRequest request_;
  const std::stop_token stop_;
  mutable uint64_t entries_ = 0, files_ = 0, met_ = 0;
  mutable std::string last_path_;                        // given
  mutable std::pair<std::string, std::string> reading_;  // path here, path in the tree
};

}  // namespace kuramori::bucket
