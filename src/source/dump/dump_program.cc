#include "source/dump/dump_program.h"

namespace kuramori::dump {

DumpProgram::DumpProgram(ProgramRequest request, const std::stop_token& stop)
    : request_(std::move(request)), forward_(stop, Forward{stop_}) {
  request_.stop = stop_.get_token();
  request_.said = &said_;
  request_.on_output = [this](ByteView bytes) { return hand_on(bytes); };
  thread_ = std::jthread([this] { run(); });
}

DumpProgram::~DumpProgram() {
  stop_.request_stop();
}

void DumpProgram::run() {
  Result<void> done = run_program(request_);
  const std::lock_guard hold(mutex_);
  result_ = std::move(done);
  changed_.notify_all();
}

Result<void> DumpProgram::hand_on(ByteView bytes) {
  const Give* give = nullptr;
  {
    std::unique_lock hold(mutex_);
    if (!changed_.wait(hold, stop_.get_token(), [&] { return give_ != nullptr; }))
      return fail(ErrorKind::kInterrupted, "the dump was stopped");
    give = give_;
  }
  return (*give)(bytes);
}

std::optional<Result<void>> DumpProgram::ended() const {
  const std::lock_guard hold(mutex_);
  return result_;
}

Result<void> DumpProgram::read(const Give& give) {
  std::unique_lock hold(mutex_);
  if (give_ != nullptr) return fail(ErrorKind::kFailed, "a dump can be read once");
  give_ = &give;
  changed_.notify_all();
  // It ends by itself, by `stop`, or at its time limit.
  changed_.wait(hold, [&] { return result_.has_value(); });
  return *result_;
}

std::string DumpProgram::said() const {
  const std::lock_guard hold(mutex_);
  return result_ ? said_ : std::string();
}

}  // namespace kuramori::dump
