// What only a probe (engine/probe.h) asks of a store. Found by dynamic_cast, not through the Store interface:
// no wrapper has to pass it on, and where one stands between, there is nothing to try.
#pragma once
#include <string_view>

#include "base/error.h"

namespace kuramori {

class Trials {
 public:
  virtual ~Trials() = default;
  // Sends a body under the checksum of another. True: the store refused it, and nothing stands at `name`.
  virtual Result<bool> refuses_wrong_body(std::string_view name) = 0;
};

}  // namespace kuramori
