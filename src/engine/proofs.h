// Keeping what a drill found, good or bad, beside the snapshot it is about.
#pragma once
#include <string>

#include "base/reporter.h"
#include "vault/vault.h"

namespace kuramori {

// Signs and puts the proof; returns its name.
Result<std::string> keep_proof(Vault& vault, const ProofRecord& proof, Reporter& reporter);

}  // namespace kuramori
