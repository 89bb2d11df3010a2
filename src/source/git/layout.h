// A snapshot of a repository as a tree: what it may hold, and nothing else.
//
//   HEAD config packed-refs refs/            a bare repository
//   objects/pack/…                           its objects, in packs that are never rewritten
//   lfs/objects/ab/cd/abcd…                  of Git LFS, as git-lfs has them
//   kuramori/repository.json                 what the capture saw: HEAD, counts, submodules, LFS
#pragma once
#include <set>
#include <string>

#include "source/git/refs.h"
#include "source/source.h"

namespace kuramori::git {

constexpr std::string_view kAboutPath = "kuramori/repository.json";
constexpr std::string_view kLfsObjects = "lfs/objects";
constexpr size_t kSmallFileBytesMax = size_t{64} << 20;  // of packed-refs, of HEAD

// The whole configuration of a mirror and of what is restored. `format`: "sha1", "sha256".
std::string config_text(std::string_view format);
std::string format_of(const CapturedTree& tree);
// Where git-lfs keeps the object of that SHA-256, below the repository.
std::string lfs_path(std::string_view oid);

// Whether a path is of a repository in this layout.
bool is_folder_of_repository(std::string_view path);
bool is_file_of_repository(std::string_view path);

// A tree as the repository it must be: what is not a part of one, and would act (a hook, an alternate, a line
// of configuration), is refused (kDamaged); its configuration is ours. Owners are ours. Borrows the tree.
class RepositoryTree final : public CapturedTree {
 public:
  explicit RepositoryTree(const CapturedTree& tree) : tree_(tree) {}
  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override;
  Result<void> read(std::string_view path, ContentSink& sink) const override;
  const std::map<std::string, std::string>& facts() const override { return tree_.facts(); }

 private:
  const CapturedTree& tree_;
};

// The whole of a small file of the tree.
Result<std::string> text_of(const CapturedTree& tree, std::string_view path);
// Writes the repository into the new or empty folder `to`. kDamaged: it is none.
Result<SourceRestoreOutcome> write_repository(const CapturedTree& tree, const std::string& to,
                                              Reporter& reporter, const std::stop_token& stop);

}  // namespace kuramori::git
