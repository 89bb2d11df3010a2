// A pg_dump that runs before anybody reads what it writes: it has its locks then, and waits at its pipe.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "source/program/program.h"

namespace kuramori::dump {

class DumpProgram {
 public:
  using Give = std::function<Result<void>(ByteView)>;
  // Starts it. `request` without an output; `stop` ends it.
  DumpProgram(ProgramRequest request, const std::stop_token& stop);
  ~DumpProgram();  // ends it
  DumpProgram(const DumpProgram&) = delete;
  DumpProgram& operator=(const DumpProgram&) = delete;

  // How it ended, if it has.
  std::optional<Result<void>> ended() const;
  // Hands on all that it writes, and waits for its end. Once.
  Result<void> read(const Give& give);
  std::string said() const;  // on its standard error, when it has ended

 private:
  void run();
  Result<void> hand_on(ByteView bytes);

  ProgramRequest request_;
  std::string said_;
  std::stop_source stop_;
  struct Forward {
    std::stop_source to;
    void operator()() const { std::stop_source(to).request_stop(); }
  };
  std::stop_callback<Forward> forward_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  const Give* give_ = nullptr;          // guarded, as what follows
  std::optional<Result<void>> result_;  // when it has ended
  std::jthread thread_;                 // last: it works on all of the above
};

}  // namespace kuramori::dump
