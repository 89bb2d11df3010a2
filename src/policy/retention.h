// How long a snapshot is kept, and what may go. Pure: facts and a moment in, decisions and their reasons out.
//
// keep_until is decided once, when the snapshot is made, so that it can be locked from the first second.
// Pruning then only asks whether that moment has passed, and whether something else still needs the snapshot.
// Whatever is in doubt stays: time decides when pruning is tried, never whether it is safe.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/id.h"
#include "base/units.h"
#include "base/world.h"

namespace kuramori {

// `keep: { all: 14d, monthly: 7y, last: 3 }`. A calendar rule keeps the first snapshot of each hour, day,
// week (from Monday), month or year in the plan's zone for its period; `last` keeps the newest N whatever
// their age.
struct KeepRules {
  std::optional<Period> all, hourly, daily, weekly, monthly, yearly;
  int last = 0;

  bool empty() const { return !all && !hourly && !daily && !weekly && !monthly && !yearly && last == 0; }
};

struct ExistingSnapshot {
  Time time;
  Time keep_until;
};

struct KeepDecision {
  Time until;             // kForever: never pruned
  std::string reason;     // "first of 2026-02: monthly 7y"
  std::string_view rule;  // that decided: "monthly", "all", "last"; "forever" without any
};

// For a snapshot made at `now`. `existing` are the visible snapshots of the same resource in the same vault,
// in any order. One already counts as the first of its month only if it is itself kept as long as the rule
// says, and one dated after `now` counts for nothing: neither a short-lived nor a forged snapshot takes the
// place of a real one.
KeepDecision decide_keep_until(const KeepRules& rules, std::string_view zone,
                               std::span<const ExistingSnapshot> existing, Time now);

// Which history a snapshot belongs to: a system and a timeline. A new timeline forked from a parent.
struct Lineage {
  std::string id;
  std::optional<std::string> parent;
  std::optional<Time> forked_at;      // when it left the parent; unknown counts as "at any time"
  std::optional<Time> covered_until;  // the last moment its WAL reaches; unknown counts as "now"
};

// A labelled snapshot ("pre-release") that somebody made by hand stays until it is reviewed at the next one
// of its label: it carries this hold from before it exists. The hold counts no longer once a newer snapshot
// with the same hold is proven, or somebody took it back (`kuramori review`).
std::string label_hold(std::string_view label);
// The label of such a hold; nothing for any other.
std::optional<std::string_view> label_of_hold(std::string_view hold);

struct SnapshotFacts {
  SnapshotId id;
  std::string lineage;
  Time time;                      // what the snapshot says: when it began
  Time stop;                      // from when on it is consistent: the base of a window starts here
  std::optional<Time> stored_at;  // what the store says about its commit
  Time keep_until;
  std::vector<std::string> holds;
  std::string label = {};
  bool proven = false;
  std::optional<Time> proven_at = {};  // when the proof began, where that is known
  bool readable = true;  // false: its records could not be read; then nothing is decided against it
};

// One resource in one vault.
struct PruneQuestion {
  std::string resource;
  std::vector<SnapshotFacts> snapshots;
  std::vector<Lineage> lineages;  // those that are not listed have no parent and reach until now
  std::optional<Period> window;   // the longest window any plan promises for it
  int keep_last = 0;              // the largest `last` of its plans
  Time now;                       // this machine's clock
  std::optional<Time> store_now;  // the store's, where it tells
  // A line for each, or only for those that go: the reasons of a hundred thousand that stay take a while.
  enum class Tell { kEverything, kDropsAlone } tell = Tell::kEverything;
};

constexpr Duration kClockSkewMax = std::chrono::hours(1);  // more than this apart: no clock is believed

struct PruneLine {
  SnapshotId id;
  Time time;
  Time keep_until;
  bool drop = false;
  std::string reason;  // why, in words
  // Of one that goes: its label's hold, which has to be taken back first; "" where there is none.
  std::string reviewed_hold = {};
};

// Every snapshot gets a line (see `tell`), oldest first by what the store observed (never by name, P59).
// kRefused when the clocks cannot be believed (P61): then nothing may be dropped.
Result<std::vector<PruneLine>> decide_prune(const PruneQuestion& question);

// What the first prune that drops anything drops first, and from when on: now, or at a later moment if
// nothing is added, proven or held until then. Nothing: none ever does.
struct NextDrop {
  SnapshotId id;
  Time at;
};
// kRefused when this machine's clock cannot be believed; the store's is not asked.
Result<std::optional<NextDrop>> next_drop(const PruneQuestion& question);

}  // namespace kuramori
