// The controls an auditor asks about, judged over measured facts. Pure: what was demanded, what was found and
// a moment in; a verdict with its evidence for each control and each resource (or vault) out.
//
// A control that nobody demands is never red: it is "not measured", with what was found. RPO, RTO and a plan
// are demanded by naming the resource and its objectives, the rest by `compliance:`.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "policy/duties_config.h"

namespace kuramori {

// One snapshot that stands in some vault.
struct SnapshotFact {
  std::string id, vault;
  Time made;
  Time keep_until;
  bool is_held = false;
};
struct ProofFact {
  std::string vault, snapshot;
  Time at;
  bool passed = false;
  double seconds = 0;  // until it was open
};

struct ResourceFacts {
  std::string resource;
  bool is_planned = false;
  std::vector<std::string> plans;
  std::optional<Period> rpo, rto;
  std::string site;                   // where the original stands, as far as it is known
  std::optional<Time> restorable_to;  // the best of all places
  std::string restorable_from;        // that place
  std::vector<SnapshotFact> snapshots;
  std::vector<ProofFact> proofs;
  // Of the vaults that hold its newest snapshot: up to when all of that snapshot is certainly locked, by the
  // store's word; no entry: not locked.
  struct Locked {
    std::string vault;
    Time until;
  };
  std::vector<Locked> locked;
  std::vector<std::string> not_locked;  // "tokyo: a folder locks nothing"
  // Who signed the newest snapshot of each vault.
  struct MadeBy {
    std::string vault, key;
    bool is_owner = false;
  };
  std::vector<MadeBy> made_by;
};

struct VaultFacts {
  std::string vault, site;
  std::string trouble;  // it could not be looked at
  Time created;
  std::optional<Time> kit_made;                 // the last recovery kit, by its own word
  bool has_writer = false, has_keeper = false;  // keys that are granted and not revoked
  size_t audit_records = 0;
  std::vector<std::string> audit_findings;  // none: every chain holds
  std::optional<Time> audit_oldest;
  std::string audit_evidence;  // the digest of the newest records
  std::string family;          // of its keys: a kit of one vault is a kit of all of its family
};

// A rehearsal that was found: all that a scenario brings back, restored and checked from its vault within a
// week.
struct ExerciseFact {
  std::string scenario;
  std::optional<Time> last;  // when the last such week ended
  std::string evidence;
};

struct ComplianceFacts {
  std::vector<ResourceFacts> resources;
  std::vector<VaultFacts> vaults;
  std::vector<ExerciseFact> exercises;
  std::vector<ComplianceConfig> demands;
  Period audit_online{.seconds = 90 * 86400}, audit_archive{.months = 36};  // as configured, or by default
};

enum class Verdict { kPass, kFail, kNotMeasured };
std::string_view name_of(Verdict verdict);

struct Control {
  std::string id;     // "rpo"
  std::string title;  // for people
  std::string about;  // a resource, a vault or a scenario
  Verdict verdict = Verdict::kNotMeasured;
  std::string demanded;  // "1h", "" when nobody demands it
  std::string measured;  // what was found, a sentence
  std::string evidence;  // what shows it: ids, digests, times
};

// The ids of all controls, in their order.
std::vector<std::string> control_ids();
// By control, then in the order of the facts.
std::vector<Control> judge_compliance(const ComplianceFacts& facts, Time now);

// Of a scenario's resources the last week in which each was proven from `vault`; nothing where one never was.
ExerciseFact find_exercise(const std::string& scenario, const std::string& vault,
                           const std::vector<const ResourceFacts*>& resources);

}  // namespace kuramori
