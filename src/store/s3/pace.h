// How many requests at once, and when to ask a second time: learned from how the store answers.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "base/world.h"

namespace kuramori {

// Additive increase, multiplicative decrease: each good answer widens the window a little, each "slow down"
// halves it, once for all the requests that were on their way together.
class RequestWindow {
 public:
  static constexpr double kFirst = 16, kMost = 64, kLeast = 1;  // requests

  // Waits until one more may go.
  void enter();
  enum class Outcome { kGood, kSlowDown, kOther };
  void leave(Outcome outcome, Duration now);
  double width();

 private:
  std::mutex mutex_;
  std::condition_variable room_;
  double width_ = kFirst;
  size_t inside_ = 0;
  Duration last_cut_{};
};

// The time to the first byte of the last reads. Tells when one is late enough to be asked again: later than
// 95 of 100 of what was seen, and at most one in ten reads, so that a slow store is not asked twice as much.
class ReadLatency {
 public:
  void add(Duration first_byte);
  // nullopt: too little is known, or too many were hedged.
  std::optional<Duration> hedge_after();
  void hedged();  // one was

 private:
  static constexpr size_t kKept = 128, kEnough = 32;
  static constexpr double kShare = 0.1, kSavedMax = 10;
  static constexpr Duration kLeast = std::chrono::milliseconds(5);
  std::mutex mutex_;
  std::vector<Duration> recent_;
  size_t next_ = 0, since_ = 0;
  Duration late_{};
  double budget_ = 0;  // hedges that may be sent
};

// The pause before attempt `attempt` (from 1): between half and all of a doubling length, and at least what
// the store asked for.
Duration back_off(int attempt, std::optional<Duration> asked, Random& random);

}  // namespace kuramori
