// Bytes a second, shared by all workers of a capture.
#pragma once
#include <cstdint>
#include <mutex>

#include "base/world.h"

namespace kuramori::postgres {

class Throttle {
 public:
  Throttle(uint64_t bytes_per_second, Clock& clock) : rate_(bytes_per_second), clock_(clock) {}
  void take(uint64_t bytes);  // sleeps until they are allowed

 private:
  const uint64_t rate_;  // 0: no limit
  Clock& clock_;
  std::mutex mutex_;
  Duration free_at_ = Duration::zero();  // steady time at which the next bytes are allowed
};

}  // namespace kuramori::postgres
