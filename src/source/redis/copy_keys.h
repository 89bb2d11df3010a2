// Every key of one server into another, with what is left of its time, and the function libraries.
//
// By DUMP and RESTORE, which a managed service allows too. To let the target replicate from the private
// server would be exact as well, but it must be able to reach that one and would need its configuration
// changed (masterauth). What does not come along: when a key was last used, and how often.
#pragma once
#include <stop_token>

#include "base/reporter.h"
#include "source/redis/private_server.h"

namespace kuramori::redis {

struct CopiedKeys {
  uint64_t keys = 0, databases = 0;
  uint64_t expired = 0;  // between being listed and being copied
  uint64_t bytes = 0;    // as dumped
};

enum class What : uint8_t {
  kFill,     // the target is empty
  kReplace,  // what it holds goes first, when it is sure that it can take the rest
};

// kRefused: it is too old for what the source dumps, before a key is copied.
// kBrokenPromise: afterwards it does not hold as many keys.
Result<CopiedKeys> copy_keys(PrivateServer& source, Connection& target, What what, Reporter& reporter,
                             std::stop_token stop);

}  // namespace kuramori::redis
