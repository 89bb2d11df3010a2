#include "vault/long_reading.h"

#include "conc/wait_out.h"

namespace kuramori {

LongReading::LongReading(const Protocol& protocol, ReaderOptions options, ReaderSession session)
    : protocol_(&protocol),
      options_(std::move(options)),
      now_(std::move(session)),
      renewed_(protocol.clock.now()) {}

Result<LongReading> LongReading::begin(const Protocol& protocol, ReaderOptions options) {
  TRY_ASSIGN(ReaderSession session, ReaderSession::open(protocol, options));
  return LongReading(protocol, std::move(options), std::move(session));
}

Result<void> LongReading::renew_if_due() {
  const Time now = protocol_->clock.now();
  if (!now_.is_protected() || now - renewed_ < kRenewEvery) return {};
  auto next = now_.renew();
  if (!next && next.error().kind == ErrorKind::kRefused) {
    // Taken for dead, as after a machine slept for days. What is still visible can be protected again.
    TRY_ASSIGN(now_, ReaderSession::open(*protocol_, options_));
    before_.reset();
    renewed_ = now;
    return {};
  }
  if (!next) return std::move(next).error();
  std::optional<ReaderSession> oldest = std::exchange(before_, std::move(now_));
  now_ = std::move(*next);
  renewed_ = now;
  return oldest ? oldest->end() : Result<void>{};
}

Result<void> LongReading::end() {
  Result<void> ended;
  if (before_) ended = before_->end();
  if (auto last = now_.end(); !last) ended = std::move(last);
  return ended;
}

Result<RenewedReading> RenewedReading::begin(const Protocol& protocol, ReaderOptions options, Told told,
                                             Duration look_every) {
  TRY_ASSIGN(LongReading reading, LongReading::begin(protocol, std::move(options)));
  return RenewedReading(std::unique_ptr<State>(new State{std::move(reading), std::move(told)}), look_every);
}

RenewedReading::RenewedReading(std::unique_ptr<State> state, Duration look_every)
    : is_protected_(state->reading.is_protected()),
      state_(std::move(state)),
      thread_([state = state_.get(), look_every](const std::stop_token& stop) {
        while (wait_out(look_every, stop))
          if (auto renewed = state->reading.renew_if_due(); !renewed) state->told(renewed.error());
      }) {}

Result<void> RenewedReading::end() {
  thread_.request_stop();
  thread_.join();
  return state_->reading.end();
}

}  // namespace kuramori
