#include "source/bucket/folder_view.h"

#include <fmt/core.h>
#include <unistd.h>

#include "source/bucket/key_path.h"
#include "source/bucket/layout.h"

namespace kuramori::bucket {
namespace {

constexpr uint32_t kFileMode = 0644, kFolderMode = 0755;

TreeEntry folder_of_ours(std::string path) {
  return {.path = std::move(path),
          .type = EntryType::kDirectory,
          .mode = kFolderMode,
          .uid = ::geteuid(),
          .gid = ::getegid()};
}

}  // namespace

Result<void> FolderView::give(Chosen&& chosen, bool is_folder_too,
                              const std::function<Result<void>(const TreeEntry&)>& visit) const {
  std::string path = std::move(chosen.path);
  if (is_folder_too) path += "/" + std::string(kSelf);
  for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (last_path_ == folder || last_path_.starts_with(folder + "/")) continue;
    last_path_ = folder;
    TRY(visit(folder_of_ours(folder)));
  }
  // The empty object by which consoles make a folder is that folder.
  if (chosen.entry.size == 0 && path.ends_with("/%-")) return {};
  last_path_ = path;
  reading_ = {path, chosen.entry.path};
  TreeEntry entry = std::move(chosen.entry);
  entry.path = std::move(path);
  entry.mode = kFileMode;
  entry.uid = ::geteuid();
  entry.gid = ::getegid();
  ++files_;
  return visit(entry);
}

Result<void> FolderView::visit(const std::function<Result<void>(const TreeEntry&)>& visit) const {
  entries_ = files_ = met_ = 0;
  last_path_.clear();
  TRY(visit(folder_of_ours("")));
  // One is held back: whether it is also a folder, the next one says.
  std::optional<Chosen> held;
  TRY_ASSIGN(entries_, visit_histories(tree_, {.only = request_.only, .older = request_.at.has_value()},
                                       stop_, [&](KeyHistory&& history) -> Result<void> {
                                         const TreeEntry* entry = history.at(request_.at);
                                         if (entry == nullptr || met_++ % request_.every != 0) return {};
                                         Chosen next{.entry = *entry, .path = path_of_key(history.key)};
                                         if (held) {
                                           const bool is_folder_too =
                                               next.path.starts_with(held->path + "/") ||
                                               last_path_.starts_with(held->path + "/");
                                           TRY(give(std::move(*held), is_folder_too, visit));
                                         }
                                         held = std::move(next);
                                         return {};
                                       }));
  if (!held) return {};
  const bool is_folder_too = last_path_.starts_with(held->path + "/");
  return give(std::move(*held), is_folder_too, visit);
}

Result<void> FolderView::read(std::string_view path, ContentSink& sink) const {
  if (path != reading_.first)
    return fail(ErrorKind::kNotFound, fmt::format("\"{}\" is not the file at hand", path));
  return tree_.read(reading_.second, sink);
}

}  // namespace kuramori::bucket
