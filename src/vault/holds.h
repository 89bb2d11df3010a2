// Holds: a person's (or a drill's) word that a snapshot must not be pruned, and its taking back.
//
// Placed in an order that leaves no gap: the hold stands first, then the prunes are read. A pruner reads the
// holds after its intent stands; so either it sees the hold, or the holder sees the intent and is told to try
// again.
#pragma once
#include <string>
#include <string_view>

#include "vault/ledger.h"

namespace kuramori {

// Returns the hold's id when it is certain that no prune will take the snapshot while the hold stands.
// kRefused: the snapshot is pruned already; kPartial: a prune of it is under way, the hold stands, and only
// confirm_hold will tell who was first.
Result<std::string> place_hold(const Protocol& protocol, const SnapshotId& snapshot, std::string name,
                               std::string reason);
// The second half of place_hold, again: for a hold that met a pending prune. Same errors.
Result<void> confirm_hold(const Protocol& protocol, const SnapshotId& snapshot);
// The hold no longer counts if the signer placed it, or is a keeper. The hold itself stays.
Result<void> release_hold(const Protocol& protocol, const SnapshotId& snapshot, std::string_view hold_id,
                          std::string reason);
// Keeps a snapshot until a later moment than its commit says; the same certainty and errors as place_hold.
Result<void> retain_until(const Protocol& protocol, const SnapshotId& snapshot, Time keep_until);

// Puts a proof, under the id the prover chose. With the same certainty: once it returns, no prune that has
// not yet been decided takes the last proven snapshot of a resource for one that is not. Same errors; on
// kPartial the proof stands, and the snapshot may go all the same.
Result<void> put_proof(const Protocol& protocol, const ProofRecord& proof, std::string_view proof_id);

}  // namespace kuramori
