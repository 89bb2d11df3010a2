#include "source/git/layout.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "os/file.h"
#include "source/files/write_tree.h"

namespace kuramori::git {
namespace {

bool is_hex(std::string_view text, size_t size) {
  return text.size() == size &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    parts.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash + 1);
  }
  return parts;
}

bool is_pack_file(std::string_view name) {
  if (!name.starts_with("pack-")) return false;
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || !is_oid(name.substr(5, dot - 5))) return false;
  const std::string_view suffix = name.substr(dot);
  return suffix == ".pack" || suffix == ".idx" || suffix == ".rev";
}

class TextSink final : public ContentSink {
 public:
  Result<void> add(ByteView bytes) override {
    if (text.size() + bytes.size() > kSmallFileBytesMax)
      return fail(ErrorKind::kDamaged, "a small file of the snapshot is not small");
    text += as_text(bytes);
    return {};
  }
  Result<void> add_hole(uint64_t bytes) override {
    if (bytes > kSmallFileBytesMax)
      return fail(ErrorKind::kDamaged, "a small file of the snapshot is not small");
    const std::string zeros(bytes, '\0');
    return add(as_bytes(zeros));
  }
  Result<void> restart() override {
    text.clear();
    return {};
  }
  std::string text;
};

}  // namespace

bool is_folder_of_repository(std::string_view path) {
  static const std::set<std::string_view> kPlain = {"",    "refs",        "objects", "objects/pack",
                                                    "lfs", "lfs/objects", "kuramori"};
  if (kPlain.contains(path)) return true;
  const auto parts = parts_of(path);
  if (parts[0] == "objects") return parts.size() == 2 && is_hex(parts[1], 2);
  if (path.starts_with(kLfsObjects))
    return (parts.size() == 3 || parts.size() == 4) && is_hex(parts[2], 2) &&
           (parts.size() == 3 || is_hex(parts[3], 2));
  return false;
}

bool is_file_of_repository(std::string_view path) {
  if (path == "HEAD" || path == "config" || path == "packed-refs" || path == kAboutPath) return true;
  const auto parts = parts_of(path);
  if (parts.size() == 3 && parts[0] == "objects") {
    if (parts[1] == "pack") return is_pack_file(parts[2]);
    return is_hex(parts[1], 2) && (is_hex(parts[2], 38) || is_hex(parts[2], 62));
  }
  return parts.size() == 5 && path.starts_with(kLfsObjects) && is_hex(parts[4], 64) &&
         path == lfs_path(parts[4]);
}

std::string config_text(std::string_view format) {
  if (format == "sha256")
    return "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = "
           "true\n[extensions]\n\tobjectformat = sha256\n";
  return "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
}

std::string format_of(const CapturedTree& tree) {
  const auto found = tree.facts().find("object_format");
  return found != tree.facts().end() && found->second == "sha256" ? "sha256" : "sha1";
}

std::string lfs_path(std::string_view oid) {
  return fmt::format("{}/{}/{}/{}", kLfsObjects, oid.substr(0, 2), oid.substr(2, 2), oid);
}

Result<void> RepositoryTree::visit(const std::function<Result<void>(const TreeEntry&)>& visit) const {
  return tree_.visit([&](const TreeEntry& entry) -> Result<void> {
    const bool known = (entry.type == EntryType::kDirectory && is_folder_of_repository(entry.path)) ||
                       (entry.type == EntryType::kFile && is_file_of_repository(entry.path));
    if (!known) {
      return fail(ErrorKind::kDamaged,
                  fmt::format("the snapshot holds \"{}\", which is no part of a repository", entry.path),
                  "it might act where it is restored",
                  "restore another snapshot: kuramori snapshots lists them");
    }
    TreeEntry seen = entry;
    seen.mode = entry.type == EntryType::kDirectory ? 0700 : 0600;
    seen.uid = ::geteuid();
    seen.gid = ::getegid();
    seen.user = seen.group = "";
    seen.attributes.clear();
    if (entry.path == "config") seen.size = config_text(format_of(tree_)).size();
    return visit(seen);
  });
}

Result<void> RepositoryTree::read(std::string_view path, ContentSink& sink) const {
  if (path == "config") return sink.add(as_bytes(config_text(format_of(tree_))));
  return tree_.read(path, sink);
}

Result<std::string> text_of(const CapturedTree& tree, std::string_view path) {
  TextSink sink;
  TRY(tree.read(path, sink));
  return std::move(sink.text);
}

Result<SourceRestoreOutcome> write_repository(const CapturedTree& tree, const std::string& to,
                                              Reporter& reporter, const std::stop_token& stop) {
  // Looked at before anything is written.
  std::set<std::string> parts;
  TRY(RepositoryTree(tree).visit([&](const TreeEntry& entry) -> Result<void> {
    if (entry.path == "HEAD" || entry.path == "packed-refs" || entry.path == "refs" ||
        entry.path == "objects" || entry.path == "config")
      parts.insert(entry.path);
    return {};
  }));
  if (parts.size() < 5) {
    return fail(ErrorKind::kDamaged, "the snapshot is no repository",
                "HEAD, packed-refs or objects are not in it",
                "restore another snapshot: kuramori snapshots lists them");
  }
  return files::write_tree(RepositoryTree(tree), {.to = to}, {}, reporter, stop);
}

}  // namespace kuramori::git
