// Copying to a vault of another key family: what is copied is opened with a key that reads the first vault
// and sealed anew for the second, whose writer this is. A snapshot keeps its id, times, label, tags and
// facts; its page frames, tree, maps, commit and WAL are made anew and signed by the second vault's key.
// Pages that did not change since a snapshot that is there already are not sent again.
//
// What was sent is read back before the commit. Holds are placed anew; proofs stay with the first vault: they
// are its drills' word about its bytes.
#pragma once
#include "engine/copy.h"

namespace kuramori {

// `lock`: of the second vault. kRefused: one of the keys may not. A snapshot of the same id there, pruned or
// not, is the same snapshot: what was pruned does not come again.
Result<CopyOutcome> reseal_vault(Vault& source, Vault& replica, const CopyRequest& request,
                                 const std::optional<Period>& lock, Reporter& reporter, std::stop_token stop);

}  // namespace kuramori
