// Bringing a tree back: into a new folder, or in place, writing only what differs.
#pragma once
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "engine/snapshots.h"
#include "source/source.h"
#include "vault/vault.h"

namespace kuramori {

struct TreeRestoreRequest : SourceRestoreRequest {
  std::string resource;
  std::string snapshot;   // "", "latest" or a prefix of an id
  bool estimate = false;  // only say what it would be
  // Asked before what stands at `to` is replaced, or may be; nothing: nobody is.
  std::function<Result<void>(const Snapshot& base)> may_replace;
};

struct TreeRestoreOutcome {
  Snapshot base;
  std::string target;
  std::string moved_aside;  // where the old target went
  uint64_t entries = 0, files = 0;
  uint64_t bytes = 0;           // of the files
  uint64_t bytes_written = 0;   // to the target
  uint64_t bytes_compared = 0;  // read from the target (delta, or an interrupted restore that goes on)
  uint64_t bytes_fetched = 0;   // out of the vault
  uint64_t removed = 0;         // of the target, that are not in the snapshot (delta)
  uint64_t estimated_bytes = 0, estimated_requests = 0;
  std::vector<std::string> notes;
  double seconds = 0;
};

// Everything is written beneath the target and nothing through a link in it (V27). Refuses a target that is
// there and not empty unless it is told to change it (delta) or to move it aside (overwrite). Interrupted, it
// leaves a file beside the target that says so; the same again goes on, and reads what is there instead of
// believing it.
// What is not files is brought back by its source.
Result<TreeRestoreOutcome> restore_tree(Vault& vault, Source& source, const TreeRestoreRequest& request,
                                        Reporter& reporter, std::stop_token stop);

// The same for one that is read already, by whoever keeps it from being collected.
class SnapshotReader;
Result<void> write_tree(const SnapshotReader& snapshot, const TreeRestoreRequest& request, Reporter& reporter,
                        std::stop_token stop, TreeRestoreOutcome& outcome);

}  // namespace kuramori
