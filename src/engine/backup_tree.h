// One snapshot of a resource that is kept as a tree: files, and whatever writes itself as some.
//
// What did not change since the last snapshot is neither read nor sent: this machine remembers the tree
// (vault/tree_cache.h). What it does not remember is read, and found in the vault by its chunks.
#pragma once
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "engine/new_snapshot.h"
#include "source/source.h"
#include "vault/vault.h"

namespace kuramori {

// A tree's entries stand below one folder, and what we say of the snapshot below another.
constexpr std::string_view kContentFolder = "content";
constexpr std::string_view kAboutFolder = "kuramori";

struct TreeBackupRequest : SnapshotWishes {
  std::string kind;    // "files"
  std::string origin;  // what was captured and where, lines of name=value: for the reader alone
  unsigned workers = 2;
  uint64_t read_bytes_per_second = 0;
};

struct TreeBackupOutcome {
  std::string commit_name;
  CommitRecord commit;
  std::string base;      // snapshot id built on, "" for a first one
  std::string why_full;  // when a base could not be used, in words
  std::string keep_reason;
  uint64_t entries = 0, files = 0;
  uint64_t bytes = 0;            // of the files: what the snapshot restores to
  uint64_t files_as_before = 0;  // neither read nor sent
  uint64_t bytes_read = 0;       // of content
  uint64_t bytes_known = 0;      // of them, that the vault had already
  Duration read_waited{};        // for the limit on reading
  std::vector<Defect> defects;   // what is not in the snapshot as it should be: it is partial
  double seconds = 0;
};

// The snapshot exists when this returns a value.
Result<TreeBackupOutcome> backup_tree(Vault& vault, Source& source, const TreeBackupRequest& request,
                                      Reporter& reporter, std::stop_token stop);

}  // namespace kuramori
