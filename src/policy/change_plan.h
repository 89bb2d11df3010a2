// What becomes of the vaults and of what was promised when a changed configuration is applied. Pure: the
// configuration as it was applied, the one that stands in the file, and what was found in the vaults go in;
// what changes, and what follows from it, comes out. What goes is decided by the very functions that prune
// (policy/retention.h).
//
// A shorter `keep` takes nothing that is there: how long a snapshot is kept was decided when it was made, and
// could be locked since. What a change can let go at once is what stayed for the sake of a promise: the base
// of a window, the last so many.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config.h"
#include "policy/retention.h"

namespace kuramori {

// A vault of the configuration, as somebody just found it.
struct VaultLook {
  std::string vault;
  enum class State : uint8_t { kThere, kMissing, kUnknown } state = State::kThere;
  Error trouble = {};                    // of kUnknown: it did not answer, or its key does not open it
  std::vector<PruneQuestion> held = {};  // a resource each; what is promised of it is not asked here
};

// One snapshot that prune would let go as soon as it runs.
struct Going {
  std::string vault, resource;
  PruneLine line;
  bool by_change = false;  // under what was applied before it would stay
};

struct Consequence {
  std::string id;     // "made", "goes", "unprotected", …: docs/plan.md has a line on each
  std::string about;  // resource "orders-db", vault "osaka"
  std::string what;
  bool loses = false;          // something is given up: it is done only when somebody says so
  bool promises_less = false;  // of what is made from now on less is kept
};

struct PlanTarget {
  std::string resource, kind, criticality, stage;
  std::vector<std::string> plans;
  std::vector<std::string> vaults;  // where it is kept: those of the plans, then of their copies
};

struct NextRun {
  std::string plan;
  std::string what;        // "backup", "drill"
  std::optional<Time> at;  // nothing: see `instead`
  std::string zone;        // of the plan
  std::string instead;     // "whenever something changed", "when somebody asks for it"
};

struct ChangePlan {
  std::vector<PlanTarget> targets;  // the most critical first
  std::vector<Consequence> consequences;
  std::vector<Going> going;
  std::vector<NextRun> next;

  bool loses() const;
  bool promises_less() const;  // or loses
};

// `before`: what was applied last; null when nothing was. Every vault of `after` has a look, in its order.
ChangePlan judge_change(const Config* before, const Config& after, const std::vector<VaultLook>& looks,
                        Time now);

}  // namespace kuramori
