#include "engine/line_diff.h"

#include <algorithm>
#include <dtl/dtl.hpp>
#include <sstream>
#include <vector>

namespace kuramori {
namespace {

std::optional<std::vector<std::string>> lines_of(ByteView bytes) {
  if (bytes.size() > kLineDiffBytesMax || std::ranges::count(bytes, 0) != 0) return std::nullopt;
  std::vector<std::string> lines;
  std::string_view text = as_text(bytes);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (lines.size() > kLineDiffLinesMax) return std::nullopt;
  }
  return lines;
}

}  // namespace

std::optional<std::string> line_diff(ByteView before, ByteView after) {
  const auto old_lines = lines_of(before), new_lines = lines_of(after);
  if (!old_lines || !new_lines) return std::nullopt;
  dtl::Diff<std::string> diff(*old_lines, *new_lines);
  diff.onHuge();
  diff.compose();
  diff.composeUnifiedHunks();
  std::ostringstream out;
  diff.printUnifiedFormat(out);
  return out.str();
}

}  // namespace kuramori
