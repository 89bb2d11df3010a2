// `limits: { delete: 20% }` of a resource: how many of its snapshots one prune may let go. A rule that was
// mistyped, a clock that jumped, a plan that lost its keep: each would empty a vault in one night; the budget
// makes it stop and ask.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

struct DeleteBudget {
  double share = 0;  // of those that are there; 0: only the count says
  size_t count = 1;  // at least so many, whatever the share

  size_t of(size_t existing) const;  // how many may go
  bool operator==(const DeleteBudget&) const = default;
};

// "20%", "50": a share of what is there, of which one is always allowed, or a number of snapshots.
Result<DeleteBudget> parse_delete_budget(std::string_view text);
std::string format_delete_budget(const DeleteBudget& budget);

// Nothing when it is kept to; else the refusal, in words. `dropped` of `existing` snapshots of the resource.
std::optional<Error> over_budget(const std::optional<DeleteBudget>& budget, std::string_view resource,
                                 size_t dropped, size_t existing);

}  // namespace kuramori
