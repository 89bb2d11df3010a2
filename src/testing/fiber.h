// A function with a stack of its own that can pause in the middle: how the simulation interleaves unchanged,
// synchronous product code in one thread. Known to the address and thread sanitizers.
#pragma once
#include <functional>
#include <memory>

namespace kuramori::testing {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  // A fiber must have run to its end: what it holds on its stack is released by returning, not by force.
  ~Fiber();
  Fiber(const Fiber&) = delete;

  // Runs the body until it pauses or ends. Called outside of any fiber.
  void resume();
  // Called inside: back to whoever resumed.
  static void pause();
  bool done() const { return done_; }

  struct Stack;

 private:
  static void enter();
  void switch_in();
  void switch_out(bool for_ever);

  std::function<void()> body_;
  std::unique_ptr<Stack> stack_;
  void* own_ = nullptr;  // where to go on: a stack pointer, or an ucontext_t where there is no assembly
  void* caller_ = nullptr;
  bool done_ = false;
  // The sanitizers' books.
  void* fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_stack_size_ = 0;
  void* tsan_own_ = nullptr;
  void* tsan_caller_ = nullptr;
};

}  // namespace kuramori::testing
