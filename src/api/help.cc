#include "api/help.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "api/command_line.h"

namespace kuramori {
namespace {

constexpr size_t kWidth = 100;     // characters a line of help
constexpr size_t kColumnMax = 30;  // characters before an explanation starts on the next line

std::string option_heading(const Option& option) {
  std::string text = fmt::format("--{}", option.name);
  if (!option.metavar.empty()) text += fmt::format(" {}", option.metavar);
  if (option.repeats) text += " …";
  return text;
}

struct Row {
  std::string heading;
  std::string text;
};

// Two columns; the first as wide as its widest short entry.
std::string rows(const std::vector<Row>& all) {
  size_t column = 0;
  for (const Row& row : all)
    if (row.heading.size() <= kColumnMax) column = std::max(column, row.heading.size());
  std::string out;
  for (const Row& row : all) {
    std::string explained = wrapped(row.text, kWidth - column - 4, column + 4);
    if (row.heading.size() <= column)
      out += fmt::format("  {:<{}}  {}\n", row.heading, column, explained);
    else
      out += fmt::format("  {}\n{}{}\n", row.heading, std::string(column + 4, ' '), explained);
  }
  return out;
}

std::vector<Row> option_rows(std::span<const Option> options) {
  std::vector<Row> out;
  for (const Option& option : options)
    out.push_back(
        {option_heading(option), std::string(option.help) + (option.required ? " (required)" : "")});
  return out;
}

std::string examples_of(const Operation& operation) {
  std::string out;
  for (const Example& example : operation.examples)
    out += fmt::format("  # {}\n  {}\n", example.meaning, example.command);
  return out;
}

std::vector<Row> verb_rows(std::span<const Operation* const> list) {
  std::vector<Row> out;
  for (const Operation* operation : list)
    out.push_back({std::string(operation->verb), std::string(operation->summary)});
  return out;
}

}  // namespace

std::string wrapped(std::string_view text, size_t width, size_t indent) {
  std::string out;
  size_t used = 0;
  while (!text.empty()) {
    size_t end = std::min(text.find_first_of(" \n"), text.size());
    std::string_view word = text.substr(0, end);
    // Count characters, not bytes: continuation bytes of UTF-8 take no place.
    auto length = static_cast<size_t>(
        std::ranges::count_if(word, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
    if (used > 0 && used + 1 + length > width) {
      out += "\n" + std::string(indent, ' ');
      used = 0;
    }
    if (used > 0) {
      out += ' ';
      ++used;
    }
    out += word;
    used += length;
    bool line_ends = end < text.size() && text[end] == '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line_ends) {
      out += "\n" + (text.starts_with('\n') ? std::string() : std::string(indent, ' '));
      used = 0;
    }
  }
  return out;
}

std::string usage_of(const Operation& operation) {
  std::string out = fmt::format("kuramori {}", operation.verb);
  for (const Argument& argument : operation.arguments) {
    switch (argument.count) {
      case Argument::Count::kOne:
        out += fmt::format(" {}", argument.name);
        break;
      case Argument::Count::kOptional:
        out += fmt::format(" [{}]", argument.name);
        break;
      case Argument::Count::kAny:
        out += fmt::format(" [{}]…", argument.name);
        break;
    }
  }
  for (const Option& option : operation.options)
    if (option.required) out += fmt::format(" --{} {}", option.name, option.metavar);
  for (const Option& option : operation.options) {
    if (option.required) continue;
    out += option.metavar.empty() ? fmt::format(" [--{}]", option.name)
                                  : fmt::format(" [--{} {}]", option.name, option.metavar);
    if (option.repeats) out += "…";
  }
  return out;
}

std::string help_of(const Operation& operation) {
  std::string out =
      fmt::format("kuramori {} — {}\n\n{}\nUsage\n  {}\n\n{}\n", operation.verb, operation.summary,
                  examples_of(operation), wrapped(usage_of(operation), kWidth - 2, 6),
                  wrapped(operation.about, kWidth, 0));
  if (!operation.arguments.empty()) {
    std::vector<Row> list;
    for (const Argument& argument : operation.arguments)
      list.push_back({std::string(argument.name), std::string(argument.help)});
    out += "\nArguments\n" + rows(list);
  }
  if (!operation.options.empty()) out += "\nOptions\n" + rows(option_rows(operation.options));
  out += "\nOptions of every command\n" + rows(option_rows(global_options()));
  std::vector<Row> exits;
  for (const ExitMeaning& exit : operation.exits.empty() ? exit_meanings() : operation.exits)
    exits.push_back({std::to_string(exit.code), std::string(exit.meaning)});
  out += "\nExit status\n" + rows(exits);
  if (!operation.schema.empty())
    out += fmt::format("\nWith --json it prints a document of schema {}.\n", operation.schema);
  return out;
}

std::string group_help(std::string_view group) {
  std::vector<const Operation*> list = operations_in(group);
  std::string out = fmt::format("kuramori {}\n\n", group);
  for (const Operation* operation : list)
    out += fmt::format("  # {}\n  {}\n", operation->examples.front().meaning,
                       operation->examples.front().command);
  return out + "\nCommands\n" + rows(verb_rows(list)) +
         fmt::format("\nkuramori {} COMMAND --help explains one.\n", group);
}

std::string overview() {
  std::string out =
      "kuramori — protects what a product is made of, and proves that it can be brought back\n\n";
  constexpr std::string_view kShownFirst[] = {"backup", "restore", "drill", "resources"};
  for (std::string_view verb : kShownFirst)
    if (const Operation* operation = find_operation(verb))
      out += fmt::format("  # {}\n  {}\n", operation->examples.front().meaning,
                         operation->examples.front().command);
  out += "\nCommands\n" + rows(verb_rows(operations()));
  out += "\nOptions of every command\n" + rows(option_rows(global_options()));
  return out + "\nkuramori COMMAND --help explains one and lists its options and exit status.\n";
}

}  // namespace kuramori
