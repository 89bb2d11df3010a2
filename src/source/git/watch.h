// Tells when a remote's refs move, by asking for their list now and then: git has no way to be told.
#pragma once
#include <memory>

#include "source/git/git_source.h"

namespace kuramori::git {

constexpr Duration kAskEvery = std::chrono::seconds(10);

// From the list as it is now; where the remote does not answer now, its first answer is a change. One that
// stops answering is a change, once: the capture that follows says why.
Result<std::unique_ptr<Watch>> watch_git(const GitSettings& settings, Duration every = kAskEvery);

}  // namespace kuramori::git
