// Bytes a second, shared by all threads that take from it. Whoever takes waits until what was taken before
// has been paid for: over any stretch no more than rate × time and the last taking passes.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>

#include "base/world.h"

namespace kuramori {

class Throttle {
 public:
  Throttle(uint64_t bytes_per_second, Clock& clock) : rate_(bytes_per_second), clock_(clock) {}
  Throttle(const Throttle&) = delete;
  Throttle& operator=(const Throttle&) = delete;

  void take(uint64_t bytes);  // sleeps until they are allowed
  // The same after the fact: nobody waits now, the next one to take does.
  void spend(uint64_t bytes);

  void set_rate(uint64_t bytes_per_second) { rate_ = bytes_per_second; }
  uint64_t rate() const { return rate_; }  // 0: no limit
  uint64_t bytes() const { return bytes_; }
  // How far the clock had to be waited for: of several threads that waited side by side, the one that waited
  // longest.
  Duration waited() const;

 private:
  Duration enter(uint64_t bytes, Duration now);  // when they are allowed

  std::atomic<uint64_t> rate_;
  std::atomic<uint64_t> bytes_ = 0;
  Clock& clock_;
  mutable std::mutex mutex_;
  Duration free_at_ = Duration::zero();     // steady time at which the next bytes are allowed
  Duration waiting_to_ = Duration::zero();  // up to where waits were counted
  Duration waited_ = Duration::zero();
};

// Of this process, whatever it speaks to; no limit until one is set. A process has one line to the network,
// and the limit is on that.
Throttle& network_throttle();     // to and from stores that are not folders
Throttle& vault_read_throttle();  // out of vaults, wherever they stand

}  // namespace kuramori
