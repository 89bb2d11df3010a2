#include "base/text_width.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace kuramori {
namespace {

using Range = std::pair<uint32_t, uint32_t>;

// The wide and full-width ranges of Unicode's UAX #11, and what combines with the character before it.
constexpr Range kWide[] = {{0x1100, 0x115F}, {0x2E80, 0xA4CF},   {0xAC00, 0xD7A3},
                           {0xF900, 0xFAFF}, {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},
                           {0xFFE0, 0xFFE6}, {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD}};
constexpr Range kNoWidth[] = {{0x0300, 0x036F}, {0x200B, 0x200F}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}};

template <size_t N>
bool is_in(const Range (&ranges)[N], uint32_t c) {
  return std::ranges::any_of(ranges, [&](Range range) { return c >= range.first && c <= range.second; });
}

struct Character {
  uint32_t code = 0;
  size_t bytes = 1;
  size_t width() const { return is_in(kNoWidth, code) ? 0 : is_in(kWide, code) ? 2 : 1; }
  // Those of ASCII, and those of Latin-1 that some terminals obey.
  bool is_control() const { return code < 0x20 || (code >= 0x7F && code < 0xA0); }
};

Character first_of(std::string_view text) {
  const auto first = static_cast<uint8_t>(text.front());
  Character one{.code = first < 0x80   ? first
                        : first < 0xE0 ? first & 0x1Fu
                        : first < 0xF0 ? first & 0x0Fu
                                       : first & 0x07u};
  while (one.bytes < text.size() && first >= 0xC0 && (static_cast<uint8_t>(text[one.bytes]) & 0xC0) == 0x80)
    one.code = one.code << 6 | (static_cast<uint8_t>(text[one.bytes++]) & 0x3Fu);
  return one;
}

}  // namespace

size_t shown_width(std::string_view text) {
  size_t width = 0;
  while (!text.empty()) {
    const Character one = first_of(text);
    width += one.width();
    text.remove_prefix(one.bytes);
  }
  return width;
}

std::string fitted(std::string_view text, size_t columns) {
  constexpr std::string_view kCut = "…";
  const bool fits = shown_width(text) <= columns;
  std::string out;
  size_t width = 0;
  while (!text.empty()) {
    const Character one = first_of(text);
    if (!fits && width + one.width() + 1 > columns) return columns == 0 ? out : out + std::string(kCut);
    if (one.is_control())
      out += '?';
    else
      out += text.substr(0, one.bytes);
    width += one.width();
    text.remove_prefix(one.bytes);
  }
  return out;
}

std::string padded(std::string_view text, size_t columns) {
  std::string out = fitted(text, columns);
  const size_t width = shown_width(out);
  return width < columns ? out + std::string(columns - width, ' ') : out;
}

}  // namespace kuramori
