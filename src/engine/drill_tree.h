// The proof of a tree: it is restored into a folder of its own, compared with what the snapshot says of every
// file, started where there is something to start, and the result signed and kept beside it.
#pragma once
#include <stop_token>
#include <string>

#include "base/reporter.h"
#include "engine/snapshots.h"
#include "source/source.h"
#include "vault/vault.h"

namespace kuramori {

struct TreeDrillRequest {
  std::string resource;
  std::string snapshot;      // "", "latest" or a prefix
  std::string state_folder;  // where the sandbox stands; "": $TMPDIR or /var/tmp
  std::string vault_text;    // how the proof names the vault
  unsigned workers = 2;
};

struct TreeDrillOutcome {
  ProofRecord proof;
  std::string proof_name;
  Snapshot base;
};

// An outcome whose proof did not pass is still an outcome: the proof says so, is kept, and the caller
// exits 4.
Result<TreeDrillOutcome> drill_tree(Vault& vault, Source& source, const TreeDrillRequest& request,
                                    Reporter& reporter, std::stop_token stop);

}  // namespace kuramori
