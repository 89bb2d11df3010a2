// What the plans promise of a resource in one vault: the base of which window stays there, how many are kept
// whatever their age, and how long copies are kept. One reading of the configuration for whoever prunes,
// copies, or simulates both. Pure.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config.h"
#include "policy/delete_budget.h"
#include "policy/retention.h"

namespace kuramori {

struct Promise {
  std::optional<Period> window;        // the longest of any plan
  int keep_last = 0;                   // the largest `last` of any plan
  std::optional<DeleteBudget> budget;  // of the resource's `limits:`
};
// By the resource's name; what no plan and no limit speaks of is not here.
using Promises = std::map<std::string, Promise>;

// In the vault of this name. In one that a plan copies to, what it promises of copies holds; anywhere else
// what it promises of the first. `now` decides which of two windows is the longer.
Promises promises_in(const Config& config, std::string_view vault, Time now);

// How long copies of a resource are kept in the second vault. A snapshot that would not be kept is not
// copied.
struct CopyRule {
  KeepRules keep;                // none: as long as in the first
  std::optional<Period> window;  // the base of the window stays too
  std::string timezone;
  // Weekly, monthly or yearly points alone: nothing else is brought, not even the newest snapshot or the WAL
  // that follows. Every other rule is of a vault that is to stay close to the first.
  bool is_archive() const {
    return (keep.weekly || keep.monthly || keep.yearly) && !keep.all && !keep.hourly && !keep.daily &&
           keep.last == 0 && !window;
  }
};
// By the resource's name; the first plan that copies it there decides.
using CopyRules = std::map<std::string, CopyRule>;
CopyRules copy_rules_of(const Config& config, std::string_view to);

// Until when the second vault would keep a snapshot; nothing: it would not. `all_started_ns`: when each of
// the first vault's began.
std::optional<int64_t> copy_kept_until(const CopyRule& rule, int64_t started_ns, int64_t source_until_ns,
                                       const std::vector<int64_t>& all_started_ns,
                                       const std::vector<ExistingSnapshot>& existing, Time now);

}  // namespace kuramori
