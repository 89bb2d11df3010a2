// CHECK: an invariant that must hold in every build. When it does not, going on could lose data: abort.
#pragma once

namespace kuramori {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

#define CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::kuramori::check_failed(#condition, __FILE__, __LINE__))
