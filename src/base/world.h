// The effects a program has, as objects made in `main` and passed down: the same code runs on the real
// clock and random source and on simulated ones.
#pragma once
#include <chrono>
#include <cstdint>

#include "base/bytes.h"

namespace kuramori {

// A moment as nanoseconds since 1970-01-01T00:00:00Z. Decides when something is tried, never whether it is
// safe.
using Time = std::chrono::sys_time<std::chrono::nanoseconds>;
using Duration = std::chrono::nanoseconds;

inline int64_t to_unix_ns(Time time) {
  return time.time_since_epoch().count();
}
inline Time from_unix_ns(int64_t ns) {
  return Time(Duration(ns));
}

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time now() = 0;
  virtual Duration steady() = 0;  // never goes back; for measuring
  virtual void sleep(Duration duration) = 0;
};

class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(MutableByteView out) = 0;  // unpredictable bytes

  template <class IdType>
  IdType id() {
    IdType id;
    fill(id.raw);
    return id;
  }
};

Clock& system_clock();    // the machine's
Random& system_random();  // getrandom(2)

}  // namespace kuramori
