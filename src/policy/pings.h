// What other people's scripts said of themselves, and what follows from it. Pure: who called when goes in,
// how it stands comes out.
//
// A script calls when it is done, and may call when it begins and when it fails. What it does not say counts:
// it is late when it has not been done by its moment and its grace.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/ping_config.h"

namespace kuramori {

enum class PingCall { kDone, kStart, kFail };
std::string_view name_of(PingCall call);  // "done"

// What a call's path says behind "/ping/": "NAME", "NAME/start", "NAME/fail".
struct PingAddress {
  std::string name;              // up to the first '/'
  std::optional<PingCall> call;  // nothing: no such call
};
PingAddress ping_address(std::string_view path);

// When it last called. To be done undoes what was said before, so that what is there was said since, whatever
// a clock did in between.
struct PingCalls {
  Time watched_from;  // nothing was due before
  std::optional<Time> started, done, failed;
};

enum class PingState {
  kWaiting,  // nobody has called yet, and it need not have
  kGood,
  kRunning,  // it has begun, and is not late yet
  kLate,
  kFailed,  // the last thing it said; it may be late as well
};
std::string_view name_of(PingState state);  // "waiting"

struct PingFacts {
  std::string name, resource, criticality;
  When when;
  Duration grace{0};
  PingCalls calls;
};

// Whether that is what it said last, of those two.
bool has_begun(const PingCalls& calls);
bool has_failed(const PingCalls& calls);
// The first moment by which it must be done that its last word does not answer, without the grace.
std::optional<Time> due_of(const PingFacts& ping);
bool is_late(const PingFacts& ping, Time now);
PingState state_of(const PingFacts& ping, Time now);

}  // namespace kuramori
