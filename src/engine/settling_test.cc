#include "engine/settling.h"

#include <gtest/gtest.h>

#include <deque>

namespace kuramori {
namespace {

using namespace std::chrono_literals;

// Moves by being slept on.
class ManualClock final : public Clock {
 public:
  Time now() override { return from_unix_ns(now_.count()); }
  Duration steady() override { return now_; }
  void sleep(Duration duration) override { now_ += duration; }

 private:
  Duration now_{};
};

// Changes at given moments of a clock that moves only by waiting.
class PlannedWatch final : public Watch {
 public:
  PlannedWatch(ManualClock& clock, std::deque<Duration> changes)
      : clock_(clock), changes_(std::move(changes)) {}
  Result<bool> wait(Duration longest, std::stop_token) override {
    const Duration until = clock_.steady() + longest;
    if (changes_.empty() || changes_.front() > until) {
      clock_.sleep(longest);
      return false;
    }
    clock_.sleep(std::max(Duration::zero(), changes_.front() - clock_.steady()));
    changes_.pop_front();
    return true;
  }
  std::string how() const override { return "as planned"; }

 private:
  ManualClock& clock_;
  std::deque<Duration> changes_;
};

Duration waited(std::deque<Duration> changes) {
  ManualClock clock;
  const Duration began = clock.steady();
  for (Duration& change : changes) change += began;
  PlannedWatch watch(clock, std::move(changes));
  EXPECT_TRUE(*wait_for_change(watch, {.quiet = 2s, .longest = 10s}, clock, {}));
  return clock.steady() - began;
}

TEST(Settling, WaitsUntilNothingChanges) {
  EXPECT_EQ(waited({5s}), 7s);
  EXPECT_EQ(waited({5s, 6s, 7500ms}), 9500ms);
  EXPECT_EQ(waited({5h}), 5h + 2s);
}

TEST(Settling, WhatNeverRestsIsCapturedAnyway) {
  std::deque<Duration> busy;
  for (int i = 0; i < 100; ++i) busy.push_back(1s + i * 500ms);
  EXPECT_EQ(waited(busy), 11s);
}

TEST(Settling, AStopIsNoChange) {
  ManualClock clock;
  PlannedWatch watch(clock, {});
  std::stop_source stop;
  stop.request_stop();
  EXPECT_FALSE(*wait_for_change(watch, {}, clock, stop.get_token()));
}

}  // namespace
}  // namespace kuramori
