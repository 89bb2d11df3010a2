// The proof: a snapshot is restored into a sandbox, started, asked, and the result signed and kept beside it.
#pragma once
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/restore.h"
#include "source/postgres/checks.h"

namespace kuramori {

struct DrillRequest {
  std::string resource;
  std::string snapshot;  // "", "latest" or a prefix
  std::optional<postgres::TargetRequest>
      target;               // nothing: where the rows were counted, or the snapshot's own end
  std::string target_text;  // as the person wrote it, for the proof
  std::vector<postgres::SqlCheck> sql;
  bool with_amcheck = true;
  Duration count_budget = postgres::kCountBudget;
  std::string state_folder;  // where the sandbox stands; "": $TMPDIR or /var/tmp
  std::string vault_text;    // how the proof names the vault
  std::string program;       // this program's path
  unsigned workers = 2;
};

struct DrillOutcome {
  ProofRecord proof;
  std::string proof_name;
  Snapshot base;
  std::string partial;  // not empty: nothing failed, and too little was compared to call it proven (exit 3)
  std::vector<std::string> swept;  // what killed drills had left, now gone
};

// An outcome whose proof did not pass is still an outcome: the proof says so, is kept, and the caller
// exits 4. The sandbox is gone when this returns, whatever it returns.
Result<DrillOutcome> drill_postgres(Vault& vault, const DrillRequest& request, Reporter& reporter,
                                    std::stop_token stop);

}  // namespace kuramori
