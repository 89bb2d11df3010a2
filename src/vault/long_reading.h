// Reading that takes days: a session that is renewed, so that no collection takes it for dead.
#pragma once
#include <chrono>
#include <optional>

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

}  // namespace kuramori
