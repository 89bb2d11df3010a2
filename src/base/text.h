// Words put together, and text made safe for where it goes.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace kuramori {

std::string joined(const std::vector<std::string>& words, std::string_view separator = ", ");

// For the content and the attributes of XML and HTML.
std::string markup_escaped(std::string_view text);

// A cell of a Markdown table: a bar or a line break would end it.
std::string markdown_cell(std::string_view text);

}  // namespace kuramori
