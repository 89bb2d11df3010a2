#include "base/world.h"

#include <sys/random.h>

#include <cerrno>
#include <thread>

#include "base/check.h"

namespace kuramori {
namespace {

class SystemClock final : public Clock {
 public:
  Time now() override { return std::chrono::system_clock::now(); }
  Duration steady() override { return std::chrono::steady_clock::now().time_since_epoch(); }
  void sleep(Duration duration) override { std::this_thread::sleep_for(duration); }
};

class SystemRandom final : public Random {
 public:
  void fill(MutableByteView out) override {
    while (!out.empty()) {
      ssize_t got = getrandom(out.data(), out.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      CHECK(got > 0);
      out = out.subspan(static_cast<size_t>(got));
    }
  }
};

}  // namespace

Clock& system_clock() {
  static SystemClock clock;
  return clock;
}

Random& system_random() {
  static SystemRandom random;
  return random;
}

}  // namespace kuramori
