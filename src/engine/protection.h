// How well each resource is protected at this moment: what was promised beside what the vaults hold. Pure,
// apart from what_vault_holds(): facts and a moment in, findings in words out.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "engine/survival.h"
#include "policy/schedule.h"

namespace kuramori {

// What the configuration promises for one resource.
struct ProtectionPromise {
  std::string resource, kind, owner, criticality;
  std::optional<Period> rpo, rto;
  bool is_planned = true;           // some plan names it
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
    std::map<std::string, std::pair<Time, bool>> keeps;  // by snapshot: keep_until, and whether it is held
    std::vector<LastProof> proofs;
  };
  std::map<std::string, Resource> resources;
  std::optional<Error> trouble;  // it could not be looked at: then the rest is empty
};
Result<VaultHoldings> what_vault_holds(Vault& vault, const std::string& name, const std::string& site);

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
    std::optional<Time> oldest, newest;  // when its snapshots were finished
    std::optional<Time> restorable_to;   // with the WAL that follows it without a gap
    std::string trouble;                 // why it could not be looked at
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
  std::optional<Going> next_to_go;  // may be pruned first; nothing of it is held
  std::vector<std::string> broken;  // promises that do not hold, a sentence each
};

// Of what is promised, in that order, then of what vaults hold and nothing speaks of. `now`: what ages are
// counted to.
std::vector<Protection> judge_protection(const std::vector<ProtectionPromise>& promises,
                                         const std::vector<VaultHoldings>& vaults, Time now);

}  // namespace kuramori
