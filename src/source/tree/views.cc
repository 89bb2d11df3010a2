#include "source/tree/views.h"

#include <unistd.h>

#include <algorithm>

namespace kuramori {
namespace {

bool is_below(std::string_view path, std::string_view folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

}  // namespace

Result<void> TreeBelow::visit(const std::function<Result<void>(const TreeEntry&)>& visit) const {
  return tree_.visit([&](const TreeEntry& entry) -> Result<void> {
    if (entry.path != folder_ && !is_below(entry.path, folder_)) return {};
    TreeEntry seen = entry;
    seen.path = entry.path == folder_ ? "" : entry.path.substr(folder_.size() + 1);
    // Of a hard link from elsewhere the first name is not part of this: it leads nowhere, and is refused.
    if (entry.type == EntryType::kHardLink && is_below(entry.link, folder_))
      seen.link = entry.link.substr(folder_.size() + 1);
    return visit(seen);
  });
}

Result<void> TreeBelow::read(std::string_view path, ContentSink& sink) const {
  return tree_.read(folder_ + "/" + std::string(path), sink);
}

Result<void> PrivateTree::visit(const std::function<Result<void>(const TreeEntry&)>& visit) const {
  return tree_.visit([&](const TreeEntry& entry) {
    TreeEntry seen = entry;
    seen.mode = entry.type == EntryType::kDirectory ? 0700 : 0600;
    seen.uid = ::geteuid();
    seen.gid = ::getegid();
    seen.user = seen.group = "";
    seen.attributes.clear();
    return visit(seen);
  });
}

bool is_wanted(const std::vector<std::string>& only, std::string_view path) {
  if (only.empty()) return true;
  return std::ranges::any_of(
      only, [&](const std::string& one) { return one.empty() || path == one || is_below(path, one); });
}

}  // namespace kuramori
