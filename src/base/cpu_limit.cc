#include "base/cpu_limit.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace kuramori {
namespace {

// What was not used is not kept for later, beyond this: a burst after a wait for the network would be felt.
constexpr Duration kSavedMax = std::chrono::milliseconds(100);  // of wall time
constexpr Duration kAheadMax = std::chrono::milliseconds(20);   // of CPU time: sleeps are not worth less
constexpr Duration kSleepMax = std::chrono::seconds(1);         // then it is looked again

Duration process_cpu() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + Duration(time.tv_nsec);
}

struct Account {
  std::atomic<double> cores = 0;
  std::mutex mutex;              // all below
  Duration wall_at{}, cpu_at{};  // from here the share is counted
  Duration waited{}, waiting_to{};
};

Account& account() {
  static Account one;
  return one;
}

// How long from now until the share allows more; zero: go on.
Duration to_wait(Account& all, double cores) {
  const std::lock_guard lock(all.mutex);
  const Duration now = system_clock().steady(), cpu = process_cpu();
  const auto allowed =
      Duration(static_cast<int64_t>(static_cast<double>((now - all.wall_at).count()) * cores));
  const Duration ahead = cpu - all.cpu_at - allowed;
  const auto as_wall = Duration(static_cast<int64_t>(static_cast<double>(ahead.count()) / cores));
  if (as_wall < -kSavedMax) {
    all.wall_at = now - kSavedMax;
    all.cpu_at = cpu;
  }
  if (ahead <= kAheadMax) return Duration::zero();
  const Duration wait = std::min(as_wall, kSleepMax);
  const Duration from = std::max(now, all.waiting_to);
  if (now + wait > from) all.waited += now + wait - from;
  all.waiting_to = std::max(all.waiting_to, now + wait);
  return wait;
}

}  // namespace

void limit_cpu(double cores) {
  Account& all = account();
  {
    const std::lock_guard lock(all.mutex);
    all.wall_at = system_clock().steady();
    all.cpu_at = process_cpu();
  }
  all.cores = cores;
}

void pause_for_cpu() {
  Account& all = account();
  const double cores = all.cores.load(std::memory_order_relaxed);
  if (cores <= 0) return;
  for (Duration wait; (wait = to_wait(all, cores)) > Duration::zero();) system_clock().sleep(wait);
}

CpuUse cpu_use() {
  Account& all = account();
  const std::lock_guard lock(all.mutex);
  return {all.cores, process_cpu(), all.waited};
}

}  // namespace kuramori
