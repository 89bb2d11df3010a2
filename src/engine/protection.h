// How well each resource is protected at this moment: what was promised beside what the vaults hold. Pure,
// apart from what_vault_holds(): facts and a moment in, findings in words out.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "engine/survival.h"
#include "policy/promises.h"
#include "policy/schedule.h"

namespace kuramori {

// What the configuration promises for one resource.
struct ProtectionPromise {
  std::string resource, kind, owner, criticality;
  std::optional<Period> rpo, rto;
  bool is_planned = true;           // some plan names it
  std::vector<When> runs;           // when its plans take a snapshot of it
  std::vector<When> drills;         // when its plans prove it
  std::vector<std::string> vaults;  // where its snapshots are to be: its plans' own first, then their copies
};

struct LastProof {
  std::string vault;  // whose snapshot it is about
  SnapshotId snapshot;
  Time at;
  bool passed = false;
  double seconds_to_open = 0, seconds_total = 0;
};

// What one vault holds, as far as this question needs it.
struct VaultHoldings {
  Holdings held;
  struct Resource {
    std::string kind;
    std::optional<std::pair<std::string, Time>>
        next_to_go;  // the snapshot a prune drops first, and from when on
    std::vector<LastProof> proofs;
    uint64_t added_bytes = 0;  // by all that stand
  };
  std::map<std::string, Resource> resources;
  // Of its owner's key (policy/escrow.h): what the vault itself says, which every key may read.
  std::string family;
  Time created;
  bool is_kit_known = false;     // it could be looked at
  std::optional<Time> kit_made;  // the last recovery kit
  std::optional<Error> trouble;  // it could not be looked at: then the rest is empty
};
// `promises`: what the plans say of retention there; they decide what goes next.
Result<VaultHoldings> what_vault_holds(Vault& vault, const std::string& name, const std::string& site,
                                       const Promises& promises = {});

struct Protection {
  ProtectionPromise promise;
  enum class State {
    kProtected,    // every promise holds
    kAtRisk,       // something can be restored, and a promise is broken
    kUnprotected,  // nothing can be restored
  } state = State::kUnprotected;
  struct Place {
    std::string vault, site;
    size_t snapshots = 0;
    uint64_t added_bytes = 0;            // by these snapshots; WAL is not counted
    std::optional<Time> oldest, newest;  // when its snapshots were finished
    std::optional<Time> restorable_to;   // with the WAL that follows it without a gap
    // Of a copy: when the oldest snapshot that stands in the plans' own vault, is newer than all of these,
    // and is not here yet was finished. Since then it is behind.
    std::optional<Time> behind_since;
    std::optional<Time> newest_wal;  // when the newest WAL was stored here
    size_t wal_gaps = 0;             // within what follows the oldest snapshot
    std::string trouble;             // why it could not be looked at
  };
  std::vector<Place> places;
  std::optional<Time> restorable_to;  // the best of all places
  std::string best;                   // its vault
  std::optional<LastProof> proof;     // the newest that tells of a snapshot of it
  std::optional<LastProof> passed;    // the newest that passed
  struct Going {
    std::string vault, snapshot;
    Time at;
  };
  std::optional<Going> next_to_go;  // what the next prune that drops anything drops first
  std::optional<Time> next_run;     // of its plans
  std::optional<Time> proof_due;    // when the next drill is due, after the last proof
  std::vector<std::string> broken;  // promises that do not hold, a sentence each
};

// Of what is promised, in that order, then of what vaults hold and nothing speaks of. `now`: what ages are
// counted to.
std::vector<Protection> judge_protection(const std::vector<ProtectionPromise>& promises,
                                         const std::vector<VaultHoldings>& vaults, Time now);

}  // namespace kuramori
