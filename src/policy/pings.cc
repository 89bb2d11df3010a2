#include "policy/pings.h"

#include <algorithm>

namespace kuramori {

std::string_view name_of(PingCall call) {
  switch (call) {
    case PingCall::kDone:
      return "done";
    case PingCall::kStart:
      return "start";
    case PingCall::kFail:
      return "fail";
  }
  return "";
}

PingAddress ping_address(std::string_view path) {
  const size_t slash = path.find('/');
  PingAddress address{.name = std::string(path.substr(0, slash)), .call = {}};
  if (slash == path.npos)
    address.call = PingCall::kDone;
  else if (path.substr(slash + 1) == name_of(PingCall::kStart))
    address.call = PingCall::kStart;
  else if (path.substr(slash + 1) == name_of(PingCall::kFail))
    address.call = PingCall::kFail;
  return address;
}

std::string_view name_of(PingState state) {
  switch (state) {
    case PingState::kWaiting:
      return "waiting";
    case PingState::kGood:
      return "good";
    case PingState::kRunning:
      return "running";
    case PingState::kLate:
      return "late";
    case PingState::kFailed:
      return "failed";
  }
  return "";
}

namespace {

// What was said at the very moment it was done counts, too: to be done takes back what was said before.
bool is_since_done(const std::optional<Time>& said, const PingCalls& calls) {
  return said && (!calls.done || *said >= *calls.done);
}

}  // namespace

bool has_begun(const PingCalls& calls) {
  return is_since_done(calls.started, calls);
}

bool has_failed(const PingCalls& calls) {
  return is_since_done(calls.failed, calls);
}

std::optional<Time> due_of(const PingFacts& ping) {
  Time from = ping.calls.watched_from;
  for (const auto& end : {ping.calls.done, ping.calls.failed})
    if (end) from = std::max(from, *end);
  // So long after the last time, unlike a job's: we do not say when it begins.
  if (ping.when.every) return later(from, *ping.when.every);
  return next_run(ping.when, from);
}

bool is_late(const PingFacts& ping, Time now) {
  const auto due = due_of(ping);
  return due && now - *due > ping.grace;
}

PingState state_of(const PingFacts& ping, Time now) {
  const PingCalls& calls = ping.calls;
  if (has_failed(calls)) return PingState::kFailed;
  if (is_late(ping, now)) return PingState::kLate;
  if (has_begun(calls)) return PingState::kRunning;
  return calls.done ? PingState::kGood : PingState::kWaiting;
}

}  // namespace kuramori
