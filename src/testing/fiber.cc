#include "testing/fiber.h"

#include <sys/mman.h>

#include <vector>

#include "base/check.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(KURAMORI_SANITIZED_ADDRESS)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(KURAMORI_SANITIZED_THREAD)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)
// Saves what the System V ABI says a call preserves, changes stacks, and takes the same from the other one.
extern "C" void kuramori_switch_stack(void** save, void* load);
asm(R"(
.text
.globl kuramori_switch_stack
.type kuramori_switch_stack,@function
kuramori_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size kuramori_switch_stack,.-kuramori_switch_stack
)");
#endif

namespace kuramori::testing {
namespace {

#if defined(KURAMORI_SANITIZED)
constexpr size_t kStackBytes = 1 << 20;
#else
constexpr size_t kStackBytes = 256 << 10;
#endif
constexpr size_t kGuardBytes = 4096;

thread_local Fiber* current = nullptr;

}  // namespace

struct Fiber::Stack {
  char* base;
  Stack() {
    void* memory =
        mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(mprotect(memory, kGuardBytes, PROT_NONE) == 0);
    base = static_cast<char*>(memory) + kGuardBytes;
  }
  ~Stack() { munmap(base - kGuardBytes, kStackBytes + kGuardBytes); }
  char* top() const { return base + kStackBytes; }
};

namespace {
// Stacks are used again: a schedule has a handful of fibers, and there are millions of schedules.
thread_local std::vector<std::unique_ptr<Fiber::Stack>> spare_stacks;
}  // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)) {
  if (spare_stacks.empty()) {
    stack_ = std::make_unique<Stack>();
  } else {
    stack_ = std::move(spare_stacks.back());
    spare_stacks.pop_back();
  }
#if defined(__x86_64__)
  // As if enter() had been about to run when it was switched away from: its address, then six saved
  // registers. A function expects its stack pointer 8 below a multiple of 16.
  void** sp = reinterpret_cast<void**>(stack_->top()) - 2;
  *sp = reinterpret_cast<void*>(&Fiber::enter);
  sp -= 6;
  for (int i = 0; i < 6; ++i) sp[i] = nullptr;
  own_ = sp;
#else
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = stack_->base;
  context->uc_stack.ss_size = kStackBytes;
  context->uc_link = nullptr;
  makecontext(context, &Fiber::enter, 0);
  own_ = context;
  caller_ = new ucontext_t;
#endif
#if defined(KURAMORI_SANITIZED_THREAD)
  tsan_own_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
  CHECK(done_);
#if defined(KURAMORI_SANITIZED_THREAD)
  __tsan_destroy_fiber(tsan_own_);
#endif
#if !defined(__x86_64__)
  delete static_cast<ucontext_t*>(own_);
  delete static_cast<ucontext_t*>(caller_);
#endif
  spare_stacks.push_back(std::move(stack_));
}

void Fiber::switch_in() {
#if defined(KURAMORI_SANITIZED_ADDRESS)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_->base, kStackBytes);
#endif
#if defined(KURAMORI_SANITIZED_THREAD)
  tsan_caller_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_own_, 0);
#endif
#if defined(__x86_64__)
  kuramori_switch_stack(&caller_, own_);
#else
  swapcontext(static_cast<ucontext_t*>(caller_), static_cast<ucontext_t*>(own_));
#endif
#if defined(KURAMORI_SANITIZED_ADDRESS)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::switch_out([[maybe_unused]] bool for_ever) {
#if defined(KURAMORI_SANITIZED_ADDRESS)
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &fake_stack_, caller_stack_, caller_stack_size_);
#endif
#if defined(KURAMORI_SANITIZED_THREAD)
  __tsan_switch_to_fiber(tsan_caller_, 0);
#endif
#if defined(__x86_64__)
  kuramori_switch_stack(&own_, caller_);
#else
  swapcontext(static_cast<ucontext_t*>(own_), static_cast<ucontext_t*>(caller_));
#endif
#if defined(KURAMORI_SANITIZED_ADDRESS)
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_stack_size_);
#endif
}

void Fiber::enter() {
  Fiber* self = current;
#if defined(KURAMORI_SANITIZED_ADDRESS)
  __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_stack_size_);
#endif
  self->body_();
  self->body_ = nullptr;
  self->done_ = true;
  self->switch_out(true);
  CHECK(false);
}

void Fiber::resume() {
  CHECK(current == nullptr && !done_);
  current = this;
  switch_in();
  current = nullptr;
}

void Fiber::pause() {
  CHECK(current != nullptr);
  current->switch_out(false);
}

}  // namespace kuramori::testing
