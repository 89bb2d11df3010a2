// What is wrong at this moment: from how jobs ended, what the vaults hold and what is promised. Pure: facts
// in, troubles out; alerts.h decides who is told. What a plan's `thresholds` do not say has the default
// below.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "policy/alerts.h"
#include "policy/config.h"
#include "policy/pings.h"
#include "policy/scheduling.h"

namespace kuramori {

constexpr Duration kLateLeast = std::chrono::minutes(5), kLateMost = std::chrono::hours(1);
constexpr Duration kDrillLateAfter = std::chrono::hours(6);
constexpr Duration kCopyLagLeast = std::chrono::hours(1), kCopyLagUnsaid = std::chrono::hours(24);
constexpr int kTriesUntilTold = 2;   // of a run that is still tried: once may be chance
constexpr size_t kEarlierLeast = 3;  // runs that an anomaly is judged by, at least …
constexpr size_t kEarlierMost = 10;  // … and at most
constexpr double kFullShare = 0.9;   // of a vault's capacity
constexpr Duration kVaultAwayMax = std::chrono::minutes(15);
constexpr Duration kDriftAfter = std::chrono::minutes(15);
constexpr Duration kMeasuredSettles = std::chrono::minutes(1);  // of what is measured and may sway
constexpr Duration kTookMoreLeast = std::chrono::minutes(1);    // longer than usual: less is no anomaly

// Of one job, what its journal says.
struct JobFacts {
  Job job;
  std::string criticality;
  Thresholds thresholds;
  std::vector<Run> ended;   // newest first; those that somebody cancelled are left out
  std::optional<Run> open;  // waits or runs
  Time watched_from;        // nothing was due before
};

// Of one resource, what was seen in the vaults at `as_of`.
struct SeenResource {
  std::string resource, criticality;
  std::optional<Period> age_max, wal_gap_max, unproven_max;
  std::vector<When> drills;
  Time as_of, watched_from;
  std::optional<Time> restorable_to, oldest, last_proof, last_passed;
  bool last_proof_failed = false;
  bool is_seen = true;  // false: not all vaults that it is in could be looked at
  struct Copy {
    std::string vault;
    std::optional<Period> lag_max;
    std::optional<Time> behind_since;  // the oldest snapshot that is not there and newer than all that are
  };
  std::vector<Copy> copies;
  double size_max = 0;        // the threshold; 0: not watched
  std::vector<double> sizes;  // of its snapshots, newest first
};

struct SeenVault {
  std::string name, criticality;  // of the most critical thing that plans keep in it
  std::string trouble;            // why it cannot be looked at …
  std::optional<Time> trouble_since;
  std::optional<uint64_t> used, capacity;
  std::optional<double> full;
  uint64_t snapshots = 0;
  std::optional<int> snapshots_max;
  bool is_seen = true;
  std::string origin;  // by the configuration: what it is a copy of, else itself
  // Of its owner's key, by the vault's own word (policy/escrow.h).
  bool is_kit_known = false;
  std::string family;
  std::optional<Time> created, kit_made;
};

// A labelled snapshot that is kept until somebody looks at it, and of whose label a newer one stands that is
// not proven: now is the time to look.
struct SeenReview {
  std::string vault, resource, criticality, id, label;
  Time taken;
};

struct AlertFacts {
  std::vector<JobFacts> jobs;
  std::vector<SeenResource> resources;
  std::vector<SeenVault> vaults;
  std::vector<PingFacts> pings;
  std::vector<SeenReview> reviews;
  bool reviews_are_seen = false;
  Time began{};                                                  // since when somebody is there to be called
  std::vector<std::pair<std::string, std::string>> undelivered;  // labels that cannot be told, and why
  std::optional<Time> config_changed_at;                         // the file is not what the daemon runs by
};

// A clock that was ahead and put right leaves no moment that is still to come: nothing would be late, or away
// for long, until then.
void forget_what_is_ahead(AlertFacts& facts, Time now);
// `is_open`: whether a trouble of this key stands already: some begin by one measure and end by another.
std::vector<Trouble> find_troubles(const AlertFacts& facts,
                                   const std::function<bool(const std::string&)>& is_open, Time now);
// False where nobody could look: such a trouble is not over because it is not found.
bool was_looked_at(const AlertFacts& facts, const Trouble& trouble);
// Of a run that just ended; nothing if it was no success.
std::optional<Happening> success_of(const JobFacts& job, const Run& run);
// What a daily report says: a line a resource and a line a job, what went wrong first (M1).
std::string daily_report(const AlertFacts& facts, const std::vector<Trouble>& troubles, Time now);

}  // namespace kuramori
