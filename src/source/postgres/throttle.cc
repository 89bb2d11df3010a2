#include "source/postgres/throttle.h"

namespace kuramori::postgres {

void Throttle::take(uint64_t bytes) {
  if (rate_ == 0) return;
  Duration wait;
  {
    const std::lock_guard lock(mutex_);
    const Duration now = clock_.steady();
    if (free_at_ < now) free_at_ = now;
    wait = free_at_ - now;
    free_at_ += Duration(static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate_)));
  }
  if (wait > Duration::zero()) clock_.sleep(wait);
}

}  // namespace kuramori::postgres
