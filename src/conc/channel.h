// A bounded queue between threads.
//
// close(): no more comes; what is in it is still handed out. cancel(): stop now; what is in it is dropped and
// everyone waiting returns. A pipeline whose stage fails cancels the channels on both sides of it.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

#include "base/check.h"

namespace kuramori {

template <class T>
class Channel {
 public:
  explicit Channel(size_t capacity) : capacity_(capacity) { CHECK(capacity > 0); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Waits for room. False: closed or cancelled, the value is gone.
  bool push(T value) {
    std::unique_lock hold(mutex_);
    room_.wait(hold, [&] { return closed_ || queue_.size() < capacity_; });
    if (closed_) return false;
    queue_.push_back(std::move(value));
    hold.unlock();
    filled_.notify_one();
    return true;
  }

  // Waits for a value. nullopt: closed and drained, or cancelled.
  std::optional<T> pop() {
    std::unique_lock hold(mutex_);
    filled_.wait(hold, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return std::nullopt;
    std::optional<T> value(std::move(queue_.front()));
    queue_.pop_front();
    hold.unlock();
    room_.notify_one();
    return value;
  }

  void close() {
    std::lock_guard hold(mutex_);
    closed_ = true;
    room_.notify_all();
    filled_.notify_all();
  }

  void cancel() {
    std::deque<T> dropped;  // destroyed after the lock is let go
    std::lock_guard hold(mutex_);
    closed_ = true;
    dropped.swap(queue_);
    room_.notify_all();
    filled_.notify_all();
  }

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable room_, filled_;
  std::deque<T> queue_;
  bool closed_ = false;
};

// Cancels a channel when `token` is asked to stop: `CancelOnStop<T> cancel(token, channel);`
template <class T>
class CancelOnStop {
 public:
  CancelOnStop(std::stop_token token, Channel<T>& channel) : callback_(std::move(token), Cancel{&channel}) {}

 private:
  struct Cancel {
    Channel<T>* channel;
    void operator()() const { channel->cancel(); }
  };
  std::stop_callback<Cancel> callback_;
};

}  // namespace kuramori
