// One thing of a captured tree: the words that sources and the vault share.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kuramori {

enum class EntryType : uint8_t {
  kDirectory = 1,
  kFile = 2,
  kSymlink = 3,
  kHardLink = 4,  // another name of a file that stands before it in the tree: `link` is that one's path
  kFifo = 5,
  kSocket = 6,
  kCharDevice = 7,
  kBlockDevice = 8,
};
// Bytes: a stream, kept whole. Pages: a file of native pages (PostgreSQL: 8 KiB), kept page by page.
enum class ContentKind : uint8_t { kNone = 0, kBytes = 1, kPages = 2 };

// One thing of a tree as it was captured. Paths are relative, '/' between parts, any bytes but NUL; no empty,
// "." or ".." part (the reader of a vault checks that again).
struct TreeEntry {
  std::string path;
  EntryType type = EntryType::kFile;
  ContentKind content = ContentKind::kNone;
  uint32_t mode = 0;  // permission bits, with setuid, setgid, sticky
  uint32_t uid = 0, gid = 0;
  int64_t mtime_ns = 0;
  uint64_t size = 0;        // bytes as captured (a page file: pages × page size)
  std::string link;         // symlink: where it points; hard link: the path of the first name
  uint64_t rdev = 0;        // of a device node, as in st_rdev
  std::string user, group;  // the names of uid and gid where it was captured, if they had any
  // Extended attributes as listxattr(2) names them, sorted by name; ACLs are among them
  // ("system.posix_acl_access").
  std::vector<std::pair<std::string, std::string>> attributes;
  bool operator==(const TreeEntry&) const = default;
};

// Whether `a` stands before `b` in a tree: part by part, so that "a/b" stands before "a.b".
inline bool tree_order(std::string_view a, std::string_view b) {
  for (size_t at = 0; at < a.size() && at < b.size(); ++at) {
    if (a[at] == b[at]) continue;
    if (a[at] == '/' || b[at] == '/') return a[at] == '/';
    return static_cast<unsigned char>(a[at]) < static_cast<unsigned char>(b[at]);
  }
  return a.size() < b.size();
}

}  // namespace kuramori
