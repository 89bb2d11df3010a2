// Tells when a remote's refs move, by asking for their list now and then: git has no way to be told. Servers
// of git have: with a webhook the list is asked for when one calls, and more rarely besides.
#pragma once
#include <memory>
#include <optional>

#include "source/git/git_source.h"

namespace kuramori::git {

constexpr Duration kAskEvery = std::chrono::seconds(10);
constexpr Duration kAskEveryBesideHook = std::chrono::minutes(1);    // a call may be lost
constexpr Duration kAskAgainAfter = std::chrono::milliseconds(500);  // however many calls come

// From the list as it is now; where the remote does not answer now, its first answer is a change. One that
// stops answering is a change, once: the capture that follows says why.
// `every`: by default as above. kFailed, kUsage: the webhook cannot listen.
Result<std::unique_ptr<Watch>> watch_git(const GitSettings& settings, std::optional<Duration> every = {});

}  // namespace kuramori::git
