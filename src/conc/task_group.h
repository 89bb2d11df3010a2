// Threads that end together: the first that fails asks the others to stop, and its error is the group's.
#pragma once
#include <functional>
#include <memory>
#include <stop_token>

#include "base/error.h"

namespace kuramori {

class TaskGroup {
 public:
  // When `parent` is asked to stop, so is the group; wait() then returns kInterrupted unless a task failed
  // for a reason of its own.
  explicit TaskGroup(std::stop_token parent = {});
  // Asks to stop and joins.
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts a thread at once. The task polls the token in long work and returns soon after it is asked. An
  // exception that leaves a task is an error of the group.
  void start(std::function<Result<void>(std::stop_token)> task);
  // Joins all. The first error in time; tasks may be started again afterwards only if there was none.
  Result<void> wait();
  void request_stop();
  std::stop_token token() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Runs `work(i, token)` for i in [0, count) on at most `threads` threads; the first error stops the rest.
Result<void> parallel_for(size_t count, size_t threads, std::stop_token parent,
                          const std::function<Result<void>(size_t, std::stop_token)>& work);

}  // namespace kuramori
