#include "engine/settling.h"

#include <algorithm>

namespace kuramori {
namespace {

constexpr Duration kAtOnce = std::chrono::hours(1);  // waited for in one call of the watch

}  // namespace

Result<bool> wait_for_change(Watch& watch, const Settling& settling, Clock& clock, std::stop_token stop) {
  for (bool changed = false; !changed;) {
    if (stop.stop_requested()) return false;
    TRY_ASSIGN(changed, watch.wait(kAtOnce, stop));
  }
  const Duration first = clock.steady();
  for (;;) {
    if (stop.stop_requested()) return false;
    const Duration left = first + settling.longest - clock.steady();
    if (left <= Duration::zero()) return true;
    TRY_ASSIGN(const bool goes_on, watch.wait(std::min(settling.quiet, left), stop));
    if (!goes_on) return !stop.stop_requested();
  }
}

}  // namespace kuramori
