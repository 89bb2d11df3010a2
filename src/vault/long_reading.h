// Reading that takes days: a session that is renewed, so that no collection takes it for dead.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "vault/session.h"

namespace kuramori {

class LongReading {
 public:
  // Collections take a session for dead after six times as long (72 h).
  static constexpr Duration kRenewEvery = std::chrono::hours(12);

  // As ReaderSession::open(). `protocol` outlives it.
  static Result<LongReading> begin(const Protocol& protocol, ReaderOptions options);
  bool is_protected() const { return now_.is_protected(); }
  // To be called now and then; one thread. The session before the newest stays until there is another, so
  // that a collection that was listing sessions meanwhile finds one of them. After an error it is tried again
  // at the next call. kRefused: it was broken as dead, and the snapshot is pruned since.
  Result<void> renew_if_due();
  Result<void> end();

 private:
  LongReading(const Protocol& protocol, ReaderOptions options, ReaderSession session);
  const Protocol* protocol_;
  ReaderOptions options_;
  ReaderSession now_;
  std::optional<ReaderSession> before_;
  Time renewed_;
};

// The same for who is busy reading: a thread of its own looks whether a renewal is due.
class RenewedReading {
 public:
  static constexpr Duration kLookEvery = std::chrono::minutes(10);
  using Told = std::function<void(const Error&)>;  // of a renewal that failed, on that thread

  // `protocol` outlives it, and may be used by two threads at once.
  static Result<RenewedReading> begin(const Protocol& protocol, ReaderOptions options, Told told,
                                      Duration look_every = kLookEvery);
  bool is_protected() const { return is_protected_; }
  // Once; nothing is renewed any more.
  Result<void> end();

 private:
  struct State {
    LongReading reading;
    Told told;
  };
  RenewedReading(std::unique_ptr<State> state, Duration look_every);
  bool is_protected_ = false;
  std::unique_ptr<State> state_;
  std::jthread thread_;  // ends before what it works on
};

}  // namespace kuramori
