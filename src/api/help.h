// The table of operations as text for people: --help, man pages and docs/commands.md.
#pragma once
#include <string>
#include <string_view>

#include "api/operations.h"

namespace kuramori {

std::string overview();                           // kuramori --help
std::string group_help(std::string_view group);   // kuramori vault --help
std::string help_of(const Operation& operation);  // kuramori vault init --help
// "kuramori restore RESOURCE[@SNAPSHOT] --to PATH [--at TIME] …"
std::string usage_of(const Operation& operation);

std::string man_page(std::string_view version);  // kuramori(1), roff
std::string markdown_reference();                // docs/commands.md

// `text` broken into lines of at most `width` characters, each after the first indented by `indent`.
std::string wrapped(std::string_view text, size_t width, size_t indent);

}  // namespace kuramori
