// One object from one store to another.
#pragma once
#include <string>

#include "base/reporter.h"
#include "store/store.h"

namespace kuramori {

// Verbatim, whole or not at all. Something that stands at `target` already, or an answer that was lost, is no
// error: whoever sends reads back what stands there. Returns the bytes.
Result<uint64_t> send_object(Store& from, const std::string& name, Store& to, const std::string& target,
                             Reporter& reporter);

}  // namespace kuramori
