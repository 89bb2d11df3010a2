// Writes a captured tree as files.
#pragma once
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/throttle.h"
#include "source/source.h"

namespace kuramori {

// As captured: modes, times, attributes and, as root, owners. Private: files 0600, folders 0700, ours.
enum class Modes : uint8_t { kAsCaptured, kPrivate };

struct WriteTreeOptions {
  std::string below;  // only what is below this folder of the tree, which becomes the target; "": all
  std::vector<std::string> only;  // paths of the tree, with all they hold; empty: all
  Modes modes = Modes::kAsCaptured;
  std::stop_token stop;
};

// Into `folder`, which is new or empty (else kRefused). After an error what was written stays.
Result<SourceRestoreOutcome> write_tree(const CapturedTree& tree, const std::string& folder,
                                        const WriteTreeOptions& options);
// One file's content as the new file `path` (kRefused: it exists). It appears whole, or not at all.
Result<SourceRestoreOutcome> write_file(const CapturedTree& tree, std::string_view entry,
                                        const std::string& path, mode_t mode);

// Whether `only` wants this path: it is one of them, or below one of them.
bool is_wanted(const std::vector<std::string>& only, std::string_view path);

}  // namespace kuramori
