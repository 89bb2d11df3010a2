#include "store/s3/pace.h"

#include <algorithm>

namespace kuramori {
namespace {
constexpr Duration kCutPause =
    std::chrono::milliseconds(200);  // what was on its way together answers in this time
constexpr Duration kBackOffFirst = std::chrono::milliseconds(50);
constexpr Duration kBackOffMost = std::chrono::seconds(5);
constexpr Duration kAskedMost = std::chrono::seconds(30);  // a store that asks for more gets this
}  // namespace

void RequestWindow::enter() {
  std::unique_lock hold(mutex_);
  room_.wait(hold, [&] { return static_cast<double>(inside_) < std::max(kLeast, width_); });
  ++inside_;
}

void RequestWindow::leave(Outcome outcome, Duration now) {
  {
    std::lock_guard hold(mutex_);
    --inside_;
    if (outcome == Outcome::kGood) {
      width_ = std::min(kMost, width_ + 1 / width_);
    } else if (outcome == Outcome::kSlowDown && now - last_cut_ > kCutPause) {
      width_ = std::max(kLeast, width_ / 2);
      last_cut_ = now;
    }
  }
  room_.notify_all();
}

double RequestWindow::width() {
  std::lock_guard hold(mutex_);
  return width_;
}

void ReadLatency::add(Duration first_byte) {
  std::lock_guard hold(mutex_);
  if (recent_.size() < kKept) {
    recent_.push_back(first_byte);
  } else {
    recent_[next_] = first_byte;
    next_ = (next_ + 1) % kKept;
  }
  budget_ = std::min(kSavedMax, budget_ + kShare);
  // Looked up now and then only: the percentile moves slowly.
  if (recent_.size() >= kEnough && (++since_ % 16 == 0 || late_ == Duration{})) {
    std::vector<Duration> sorted = recent_;
    auto at = sorted.begin() + static_cast<ptrdiff_t>(sorted.size() * 95 / 100);
    std::nth_element(sorted.begin(), at, sorted.end());
    late_ = std::max(*at, kLeast);
  }
}

std::optional<Duration> ReadLatency::hedge_after() {
  std::lock_guard hold(mutex_);
  if (late_ == Duration{} || budget_ < 1) return std::nullopt;
  return late_;
}

void ReadLatency::hedged() {
  std::lock_guard hold(mutex_);
  budget_ = std::max(0.0, budget_ - 1);
}

Duration back_off(int attempt, std::optional<Duration> asked, Random& random) {
  Duration length = std::min(kBackOffMost, kBackOffFirst * (int64_t{1} << std::clamp(attempt - 1, 0, 16)));
  uint8_t raw[4];
  random.fill(raw);
  double share = 0.5 + 0.5 * (load_le<uint32_t>(raw) / 4294967296.0);
  auto jittered = std::chrono::duration_cast<Duration>(length * share);
  if (asked) jittered = std::max(jittered, std::min(*asked, kAskedMost));
  return jittered;
}

}  // namespace kuramori
