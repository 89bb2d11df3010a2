// Whether this is built under a sanitizer, which makes it ten times slower. For tests that search for long in
// one thread: all of it without, a part with.
#pragma once

namespace kuramori {

#if defined(KURAMORI_SANITIZED)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

}  // namespace kuramori
