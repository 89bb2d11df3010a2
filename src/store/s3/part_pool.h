// Threads that carry parts to the store while their writers go on: every writer of a store shares them, and
// how many parts are under way together bounds the memory they hold.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace kuramori {

class PartPool {
 public:
  explicit PartPool(size_t in_flight) : in_flight_(in_flight) {}
  // Waits for what was submitted.
  ~PartPool();
  // Waits until there is room. Started threads stay until the pool goes.
  void submit(std::function<void()> job);

 private:
  void work();

  const size_t in_flight_;
  std::mutex mutex_;
  std::condition_variable room_, filled_;
  std::deque<std::function<void()>> queue_;
  size_t under_way_ = 0;  // queued and running
  size_t idle_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace kuramori
