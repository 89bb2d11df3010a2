#include "store/s3/part_pool.h"

namespace kuramori {

PartPool::~PartPool() {
  {
    std::lock_guard hold(mutex_);
    ending_ = true;
  }
  filled_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void PartPool::submit(std::function<void()> job) {
  std::unique_lock hold(mutex_);
  room_.wait(hold, [&] { return under_way_ < in_flight_; });
  ++under_way_;
  queue_.push_back(std::move(job));
  if (idle_ < queue_.size() && threads_.size() < in_flight_) threads_.emplace_back([this] { work(); });
  hold.unlock();
  filled_.notify_one();
}

void PartPool::work() {
  std::unique_lock hold(mutex_);
  for (;;) {
    ++idle_;
    filled_.wait(hold, [&] { return ending_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    std::function<void()> job = std::move(queue_.front());
    queue_.pop_front();
    hold.unlock();
    job();
    job = nullptr;  // its bytes go before the next one may come
    hold.lock();
    --under_way_;
    room_.notify_one();
  }
}

}  // namespace kuramori
