// A value that can be touched only while its mutex is held.
#pragma once
#include <condition_variable>
#include <mutex>
#include <utility>

namespace kuramori {

template <class T>
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(T value) : value_(std::move(value)) {}
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  // The value while this lives: `auto locked = guarded.lock(); locked->push_back(1);`
  class Locked {
   public:
    T& operator*() const { return *value_; }
    T* operator->() const { return value_; }

   private:
    friend Guarded;
    Locked(std::mutex& mutex, T& value) : lock_(mutex), value_(&value) {}
    std::unique_lock<std::mutex> lock_;
    T* value_;
  };
  Locked lock() { return Locked(mutex_, value_); }

  // Runs `use(T&)` under the lock and returns what it returns: by value, so that no reference escapes.
  template <class Use>
  auto with(Use&& use) {
    std::lock_guard hold(mutex_);
    return std::forward<Use>(use)(value_);
  }
  // Waits until `ready(T&)`; whoever makes it so calls notify().
  template <class Ready>
  Locked wait_until(Ready&& ready) {
    Locked locked = lock();
    changed_.wait(locked.lock_, [&] { return ready(value_); });
    return locked;
  }
  void notify() { changed_.notify_all(); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  T value_{};
};

}  // namespace kuramori
