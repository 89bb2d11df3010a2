// What retention will keep and drop over the years. The plans are played by their schedules on days to come,
// and every decision is made by the functions that make it in earnest: decide_keep_until for a snapshot,
// copy_kept_until for its copy, decide_prune for what goes. There is no second reading of the rules here that
// could differ. Pure: no vault, no clock.
//
// What it takes for granted, and says: every run succeeds at its moment and takes no time, each copy follows
// its snapshot and each drill passes.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "policy/config.h"
#include "policy/promises.h"
#include "policy/retention.h"

namespace kuramori {

// One resource in one vault, as backups, copies, drills and prunes leave it. Every moment is what this
// machine's clock says, and beside it what the store's does.
class KeptHistory {
 public:
  KeptHistory(std::string resource, Promise promise);

  // What is there before anything happens.
  void start_with(SnapshotFacts snapshot);
  // `kuramori backup`: how long the new one is kept, and by which rule. It is the newest from here on.
  KeepDecision back_up(const SnapshotId& id, const KeepRules& rules, std::string_view zone, Time now,
                       Time store_now);
  // `kuramori copy`: everything of the first vault that this one lacks and would keep, and what was proven or
  // held there of what is here. `first` stays where it is.
  struct Copied {
    SnapshotId id;
    Time time, keep_until;
  };
  std::vector<Copied> copy_from(const KeptHistory& first, const CopyRule& rule, Time now, Time store_now);
  // `kuramori drill` of the newest, which passes. Nothing where there is none.
  std::optional<SnapshotId> prove_newest(Time now);
  void hold(const SnapshotId& id, std::string name);
  // It was made with `--label`: kept until it is reviewed at the next of its label.
  void label(const SnapshotId& id, const std::string& label);
  // `kuramori prune`: a line for each that went. kRefused as prune refuses: clocks that cannot be believed, a
  // budget that would be exceeded; then nothing went.
  Result<std::vector<PruneLine>> prune(Time now, std::optional<Time> store_now);
  // Why each one that is there stays, or would go at the next prune.
  Result<std::vector<PruneLine>> explain(Time now) const;

  const std::vector<SnapshotFacts>& snapshots() const { return question_.snapshots; }
  // False: no prune could drop anything, since nothing is due. Spares asking.
  bool anything_due(Time now) const { return first_due_ <= now; }

 private:
  void add(SnapshotFacts snapshot);
  void take_words(const KeptHistory& first, const SnapshotId& id);
  void apply_words(SnapshotFacts& snapshot);

  PruneQuestion question_;
  std::optional<DeleteBudget> budget_;
  std::vector<ExistingSnapshot> existing_;  // beside question_.snapshots
  Time first_due_ = kForever;               // no later than the earliest keep_until
  std::set<SnapshotId> gone_;               // pruned here: never copied again
  std::unordered_set<SnapshotId> here_;
  // The last copy from another. What it did not want then it would not want later, unless something went on
  // either side, or the clock went back.
  struct Look {
    size_t looked_at = 0;  // snapshots of the other
    size_t drops_there = 0, drops_here = 0, words = 0;
    Time at{};
  };
  std::map<const KeptHistory*, Look> looks_;
  size_t drops_ = 0;  // prunes that dropped something
  // What was said of snapshots, also of those that have gone: such words stay in the vault, and copies take
  // them.
  struct Words {
    std::optional<Time> proven_at;
    std::set<std::string> holds, released;
  };
  std::map<SnapshotId, Words> said_;
  size_t words_ = 0;  // how often something was said
};

struct SimulationRequest {
  Time from, until;
  // Instead of what the vaults' `prune:` say, the first one so long after `from`. Where neither says
  // anything, once a day.
  std::optional<Duration> prune_every = {};
  Duration change_every = std::chrono::hours(24);  // how often what is captured `every: change` changes
  std::string plan, resource;                      // "" — all
  // What exists at `from`: by vault and resource.
  std::map<std::pair<std::string, std::string>, std::vector<SnapshotFacts>> existing = {};
};

// A snapshot from its making to its end.
struct SimulatedSnapshot {
  SnapshotId id;
  Time time;
  Time keep_until;
  std::string rule;  // that keeps it: "monthly", "all", "last", "forever"; "copy" as the first vault; "there"
  std::string reason;  // at its making: "first of 2026-02: monthly 7y"
  std::optional<Time> dropped_at;
  std::string end_reason;  // why it stays at the end, or why it went
};

struct Span {
  Time from, to;
  Duration length() const { return to - from; }
};

// How many there were at one moment, by the rule that keeps them.
struct CountAt {
  Time at;
  size_t count = 0;
  std::map<std::string, size_t> by_rule;
};

struct SimulatedPlace {
  std::string resource, vault;
  bool is_copy = false;            // it gets copies alone
  std::vector<std::string> plans;  // that put snapshots there
  size_t made = 0, dropped = 0;
  size_t peak = 0;
  Time peak_at{};
  std::optional<Time> first_made, last_made, first_drop, last_drop;
  // The longest time without a new snapshot, and at the end the longest between two that are kept.
  std::optional<Span> longest_wait, widest_gap;
  // Prunes that were refused: how many, the first, and why.
  size_t refused = 0;
  std::optional<Time> first_refused;
  std::string refused_why;
  std::vector<CountAt> over_time;            // at the end of each year
  std::vector<SimulatedSnapshot> snapshots;  // all that ever were, in the order of their making
};

struct Simulation {
  Time from, until;
  std::vector<SimulatedPlace> places;  // in the order of plans: the vault, then its copies
  std::vector<std::string> notes;      // what is not played, a sentence each
};

constexpr int kSimulatedYearsMax = 100;
constexpr size_t kSimulatedRunsMax = 1'000'000;  // of all plans together; more is refused

// kUsage when it is more than a machine plays in reasonable time. `config` was read without error.
Result<Simulation> simulate(const Config& config, const SimulationRequest& request);

}  // namespace kuramori
