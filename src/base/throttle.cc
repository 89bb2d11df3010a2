#include "base/throttle.h"

#include <algorithm>

namespace kuramori {

Duration Throttle::enter(uint64_t bytes, Duration now) {
  bytes_ += bytes;
  const uint64_t rate = rate_;
  if (rate == 0) return now;
  const std::lock_guard lock(mutex_);
  const Duration allowed = std::max(free_at_, now);
  free_at_ =
      allowed + Duration(static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate)));
  return allowed;
}

void Throttle::take(uint64_t bytes) {
  const Duration now = clock_.steady();
  const Duration allowed = enter(bytes, now);
  if (allowed <= now) return;
  {
    const std::lock_guard lock(mutex_);
    const Duration from = std::max(now, waiting_to_);
    if (allowed > from) waited_ += allowed - from;
    waiting_to_ = std::max(waiting_to_, allowed);
  }
  clock_.sleep(allowed - now);
}

void Throttle::spend(uint64_t bytes) {
  enter(bytes, clock_.steady());
}

Duration Throttle::waited() const {
  const std::lock_guard lock(mutex_);
  return waited_;
}

Throttle& network_throttle() {
  static Throttle throttle(0, system_clock());
  return throttle;
}

Throttle& vault_read_throttle() {
  static Throttle throttle(0, system_clock());
  return throttle;
}

}  // namespace kuramori
