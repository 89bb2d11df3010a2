// The lines in which two texts differ, as people read them.
#pragma once
#include <optional>
#include <string>

#include "base/bytes.h"

namespace kuramori {

constexpr size_t kLineDiffBytesMax = size_t{1} << 20;  // of each text
constexpr size_t kLineDiffLinesMax = 20'000;  // of each; two that have nothing in common take the square

// In the unified format (diff -u without its first two lines), three lines around each change. Nothing: one
// of them is no text, or too large.
std::optional<std::string> line_diff(ByteView before, ByteView after);

}  // namespace kuramori
