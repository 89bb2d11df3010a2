// Reads a command line by the table of operations. Errors are kUsage and name the nearest known word.
#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/operations.h"
#include "base/error.h"

namespace kuramori {

struct Invocation {
  const Operation* operation = nullptr;  // null: help for everything, or for a group ("vault")
  std::string group;
  bool wants_help = false;
  std::vector<std::string> arguments;
  std::map<std::string, std::vector<std::string>, std::less<>> options;  // flags hold one empty string

  bool has(std::string_view option) const { return options.contains(option); }
  std::string value(std::string_view option) const;  // the last one given, "" if none
  std::vector<std::string> values(std::string_view option) const;
  std::string argument(size_t index) const {
    return index < arguments.size() ? arguments[index] : std::string();
  }
};

// `arguments` without the program's name. Options may stand before or after the verb, as --name value or
// --name=value; after -- everything is an argument.
Result<Invocation> parse_command_line(std::span<const std::string_view> arguments);

// The operations of a group ("vault", "vault key"), in the table's order.
std::vector<const Operation*> operations_in(std::string_view group);

}  // namespace kuramori
