#include "policy/delete_budget.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace kuramori {
namespace {

constexpr size_t kCountMax = 1'000'000;  // snapshots

}  // namespace

size_t DeleteBudget::of(size_t existing) const {
  return std::max(count, static_cast<size_t>(std::floor(share * static_cast<double>(existing))));
}

Result<DeleteBudget> parse_delete_budget(std::string_view text) {
  const bool is_share = text.ends_with('%');
  const std::string_view number = text.substr(0, text.size() - (is_share ? 1 : 0));
  size_t count = 0;
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), count);
  if (!number.empty() && error == std::errc{} && end == number.data() + number.size() && count >= 1) {
    if (is_share && count <= 100) return DeleteBudget{.share = static_cast<double>(count) / 100, .count = 1};
    if (!is_share && count <= kCountMax) return DeleteBudget{.share = 0, .count = count};
  }
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no budget for deleting", text.substr(0, 40)),
              fmt::format("it is 1% to 100% of a resource's snapshots, or 1 to {} of them", kCountMax),
              "write delete: 20%, or delete: 50");
}

std::string format_delete_budget(const DeleteBudget& budget) {
  if (budget.share > 0) return fmt::format("{:g}%", std::round(budget.share * 100));
  return std::to_string(budget.count);
}

std::optional<Error> over_budget(const std::optional<DeleteBudget>& budget, std::string_view resource,
                                 size_t dropped, size_t existing) {
  if (!budget || dropped <= budget->of(existing)) return std::nullopt;
  return fail(ErrorKind::kRefused, fmt::format("nothing of {} is pruned: it would be too much", resource),
              fmt::format("{} of its {} snapshots would go, and limits: delete: {} allows {} at once",
                          dropped, existing, format_delete_budget(*budget), budget->of(existing)),
              "look at kuramori prune --dry-run; if that is what you want: kuramori prune --yes");
}

}  // namespace kuramori
