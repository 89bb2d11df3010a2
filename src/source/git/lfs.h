// Git LFS: which objects the history points to, whether they are here, and getting them.
//
// Which they are is read from the objects of the repository, pack by pack, each once: every blob that is a
// pointer counts, also one that no ref leads to any more.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "source/git/git.h"

namespace kuramori::git {

struct LfsPointer {
  std::string oid;  // SHA-256, hexadecimal
  uint64_t size = 0;
  bool operator==(const LfsPointer&) const = default;
};

constexpr size_t kPointerBytesMax = 1024;  // as the specification has it
constexpr size_t kPointerBytesMin = 100;

// Of a blob's content; nothing: it is no pointer.
std::optional<LfsPointer> parse_pointer(std::string_view blob);

// The settings that make git-lfs speak to the repository's server, and to no other that its content names.
// Nothing: such a remote has none.
std::optional<std::vector<std::pair<std::string, std::string>>> lfs_settings(const Remote& remote,
                                                                             const std::string& lfs_url);

// What a repository on this machine has and needs of LFS.
class Lfs {
 public:
  std::map<std::string, uint64_t> pointers;  // oid, size
  std::set<std::string> scanned;             // names of packs whose blobs were looked at

  // Looks at the packs that were not looked at; `true`: something was added. An object's id has `oid_bytes`.
  Result<bool> scan(const Git& git, const std::string& repository, size_t oid_bytes);
  // Those whose object is not there, or has another size (that one is removed).
  Result<std::vector<LfsPointer>> missing(const std::string& repository) const;

  std::string text() const;  // lines, for a file
  static Result<Lfs> parse(std::string_view text);
};

// Whether the file is what its name says.
Result<bool> is_lfs_object(const std::string& path, std::string_view oid, const std::stop_token& stop);

}  // namespace kuramori::git
