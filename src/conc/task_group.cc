#include "conc/task_group.h"

#include <fmt/core.h>

#include <exception>
#include <optional>
#include <thread>
#include <vector>

#include "conc/guarded.h"

namespace kuramori {

struct TaskGroup::State {
  explicit State(std::stop_token outer)
      : parent(std::move(outer)), parent_stops(parent, RequestStop{&source}) {}

  struct RequestStop {
    std::stop_source* source;
    void operator()() const { source->request_stop(); }
  };

  std::stop_source source;
  std::stop_token parent;
  std::stop_callback<RequestStop> parent_stops;
  Guarded<std::optional<Error>> first_error;
  std::vector<std::thread> threads;

  void run(const std::function<Result<void>(std::stop_token)>& task) {
    Result<void> result = [&]() -> Result<void> {
      try {
        return task(source.get_token());
      } catch (const std::exception& thrown) {
        return fail(ErrorKind::kFailed, fmt::format("a task ended by an exception: {}", thrown.what()));
      }
    }();
    if (result) return;
    first_error.with([&](std::optional<Error>& first) {
      // Who stops because it was asked to says kInterrupted: the reason of the one that asked is worth more.
      if (!first) first = std::move(result).error();
    });
    source.request_stop();
  }

  void join() {
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
};

TaskGroup::TaskGroup(std::stop_token parent) : state_(std::make_unique<State>(std::move(parent))) {}

TaskGroup::~TaskGroup() {
  state_->source.request_stop();
  state_->join();
}

void TaskGroup::start(std::function<Result<void>(std::stop_token)> task) {
  state_->threads.emplace_back([state = state_.get(), task = std::move(task)] { state->run(task); });
}

Result<void> TaskGroup::wait() {
  state_->join();
  std::optional<Error> first = state_->first_error.with([](std::optional<Error>& error) { return error; });
  if (first) return std::move(*first);
  if (state_->parent.stop_requested()) return fail(ErrorKind::kInterrupted, "stopped");
  return {};
}

void TaskGroup::request_stop() {
  state_->source.request_stop();
}

std::stop_token TaskGroup::token() const {
  return state_->source.get_token();
}

Result<void> parallel_for(size_t count, size_t threads, std::stop_token parent,
                          const std::function<Result<void>(size_t, std::stop_token)>& work) {
  std::atomic<size_t> next = 0;
  TaskGroup group(std::move(parent));
  for (size_t i = 0; i < std::min(threads, count); ++i) {
    group.start([&](std::stop_token token) -> Result<void> {
      while (!token.stop_requested()) {
        size_t index = next.fetch_add(1);
        if (index >= count) break;
        TRY(work(index, token));
      }
      return {};
    });
  }
  return group.wait();
}

}  // namespace kuramori
