#include "base/throttle.h"

#include <gtest/gtest.h>

#include "base/cpu_limit.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

// Passes only by sleeping.
class SleptClock final : public Clock {
 public:
  Time now() override { return Time(slept_); }
  Duration steady() override { return slept_; }
  void sleep(Duration duration) override { slept_ += duration; }

 private:
  Duration slept_ = 1h;
};

TEST(Throttle, WhoeverTakesWaitsForWhatWasTakenBefore) {
  SleptClock clock;
  Throttle throttle(1000, clock);
  const Duration begun = clock.steady();
  for (int i = 0; i < 11; ++i) throttle.take(500);
  EXPECT_EQ(clock.steady() - begun, 5s);  // ten of eleven are paid for
  EXPECT_EQ(throttle.waited(), 5s);
  EXPECT_EQ(throttle.bytes(), 5500u);
}

TEST(Throttle, WhatIsSpentIsPaidByTheNext) {
  SleptClock clock;
  Throttle throttle(1000, clock);
  const Duration begun = clock.steady();
  throttle.spend(3000);
  EXPECT_EQ(clock.steady() - begun, 0s);
  throttle.take(1);
  EXPECT_EQ(clock.steady() - begun, 3s);
}

TEST(Throttle, TimeThatWasNotUsedIsNotSaved) {
  SleptClock clock;
  Throttle throttle(1000, clock);
  throttle.take(1000);
  clock.sleep(1h);
  const Duration begun = clock.steady();
  throttle.take(1000);
  throttle.take(1000);
  EXPECT_EQ(clock.steady() - begun, 1s);
}

TEST(Throttle, WithoutARateItCountsAndNobodyWaits) {
  SleptClock clock;
  Throttle throttle(0, clock);
  throttle.take(1u << 30);
  throttle.take(1u << 30);
  EXPECT_EQ(clock.steady(), 1h);
  EXPECT_EQ(throttle.bytes(), 2u << 30);
}

TEST(CpuLimit, CpuTimeStaysBelowItsShareOfTheTimeThatPasses) {
  constexpr double kShare = 0.05;  // less than what a loaded machine leaves to one of many
  const Duration wall = system_clock().steady(), before = cpu_use().used;
  limit_cpu(kShare);
  volatile uint64_t work = 0;
  while (system_clock().steady() - wall < 1s) {
    for (int i = 0; i < 100'000; ++i) work = work + 1;
    pause_for_cpu();
  }
  limit_cpu(0);
  const double used = std::chrono::duration<double>(cpu_use().used - before).count();
  const double passed = std::chrono::duration<double>(system_clock().steady() - wall).count();
  EXPECT_LE(used, passed * kShare * 1.1 + 0.03);
  EXPECT_GT(cpu_use().waited, 0s);
}

}  // namespace
}  // namespace kuramori
