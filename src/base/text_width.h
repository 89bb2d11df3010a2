// How many columns of a terminal text takes, and how it is cut to fit.
#pragma once
#include <string>
#include <string_view>

namespace kuramori {

// East Asian characters take two columns, combining marks none.
size_t shown_width(std::string_view text);

// At most `columns` wide; what is cut off is told by "…". Control characters, which would move the cursor or
// worse, become "?".
std::string fitted(std::string_view text, size_t columns);

// The same, filled with blanks to be exactly as wide.
std::string padded(std::string_view text, size_t columns);

}  // namespace kuramori
