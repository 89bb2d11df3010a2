// Writes a snapshot's tree into a folder: in parallel, resumable, or in place changing only what differs.
//
// Large writes go past the page cache (O_DIRECT into preallocated files): buffered ones make the kernel the
// bottleneck (docs/benchmarks.md). Durability comes from one syncfs at the end instead of an fsync a file.
#pragma once
#include <functional>
#include <stop_token>
#include <string>

#include "base/reporter.h"
#include "vault/snapshot_reader.h"

namespace kuramori {

struct FileRestoreOptions {
  std::string target;
  unsigned workers = 2;
  bool delta = false;  // the target holds an older or newer state: write only pages and files that differ
  // Where an entry goes: a path below `target`, an absolute path, or nothing (left out). Called once an
  // entry.
  std::function<std::optional<std::string>(const TreeEntry&)> place;
  // Written after everything else is durable ("global/pg_control"): until then the target cannot be started
  // (P47).
  std::function<bool(const TreeEntry&)> last;
  // Called when the journal stands, before anything is written.
  std::function<Result<void>()> before_first;
  // Called when all but those is durable.
  std::function<Result<void>()> before_last;
};

struct FileRestoreOutcome {
  uint64_t files = 0;
  uint64_t bytes = 0;           // of the tree
  uint64_t bytes_written = 0;   // to the target
  uint64_t bytes_compared = 0;  // read from the target (delta)
  uint64_t bytes_resumed = 0;   // found whole from an earlier, interrupted try
  uint64_t bytes_fetched = 0;   // plain bytes taken out of the vault
  uint64_t removed = 0;         // files that are not in the snapshot (delta)
};

// Plain bytes a second that one worker gets out of the vault now, from pieces of the snapshot's files read
// and thrown away; 0 when it has none to read.
Result<double> sampled_speed(const SnapshotReader& snapshot, Clock& clock);

// The target folder is made if it is absent. A journal in it (kJournalName) says what is done, so that the
// same restore interrupted can go on: what it claims is read back and checked, never believed.
constexpr std::string_view kJournalName = ".kuramori-restore";
// The id of the snapshot whose restore into `target` was interrupted; nothing when there is none.
std::optional<std::string> interrupted_restore(const std::string& target);

Result<FileRestoreOutcome> restore_files(const SnapshotReader& snapshot, const FileRestoreOptions& options,
                                         Reporter& reporter, std::stop_token stop);

}  // namespace kuramori
