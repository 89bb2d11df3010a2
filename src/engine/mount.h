// Snapshots of a resource as a filesystem: one of them, or all, each in a folder named by its time.
//
// What is shown is what a restore would write, with the same checks: bytes that are not those that were
// written are an EIO and a line on the terminal, never other bytes. Nothing is written to disk.
#pragma once
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "engine/snapshots.h"
#include "vault/vault.h"

namespace kuramori {

struct MountRequest {
  std::string resource;
  std::string snapshot;       // "latest" or a prefix of an id; "" with no `at`: all of them
  std::optional<int64_t> at;  // the newest not after this moment (ns since 1970)
  std::string path;           // absolute
  std::string vault_text;     // where it comes from, for people: a name or a location
  std::string vault_folder;   // of a vault that lies in a folder; else ""
  bool for_others = false;
  unsigned threads = 6;
};

struct MountOutcome {
  std::optional<Snapshot> snapshot;  // nothing: all of them
  size_t snapshots = 0;
  std::string removed_dead;  // a mount that a killed process had left
  bool is_protected = true;  // false: this key may not announce a reader
};

// Returns when it is unmounted. `is_there` is told once it can be used.
Result<void> mount_snapshots(Vault& vault, const MountRequest& request, Reporter& reporter,
                             std::stop_token stop, const std::function<void(const MountOutcome&)>& is_there);

// "2026-11-22T03-00-00Z": a snapshot's folder. Ids are added where several began in one second.
std::vector<std::string> folder_names(const std::vector<Snapshot>& snapshots);

}  // namespace kuramori
