// The same table as the man page and the reference in docs/.
#include <fmt/core.h>

#include "api/command_line.h"
#include "api/help.h"
#include "base/text.h"

namespace kuramori {
namespace {

// roff takes a dot or quote at the start of a line, and every backslash and hyphen, for itself.
std::string roff(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    bool line_starts = i == 0 || text[i - 1] == '\n';
    if (line_starts && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if (c == '\n' && i + 1 < text.size() && text[i + 1] == '\n')
      out += "\n.PP", ++i, out += '\n';
    else
      out += c;
  }
  return out;
}

std::string roff_options(std::span<const Option> options) {
  std::string out;
  for (const Option& option : options) {
    out += fmt::format(".TP\n\\fB\\-\\-{}\\fR", roff(option.name));
    if (!option.metavar.empty()) out += fmt::format(" \\fI{}\\fR", roff(option.metavar));
    out += fmt::format("\n{}{}\n", roff(option.help), option.required ? " (required)" : "");
  }
  return out;
}

std::string roff_operation(const Operation& operation) {
  std::string out = fmt::format(".SS {}\n{}\n.PP\n.nf\n{}\n.fi\n.PP\n{}\n", roff(operation.verb),
                                roff(operation.summary), roff(usage_of(operation)), roff(operation.about));
  for (const Argument& argument : operation.arguments)
    out += fmt::format(".TP\n\\fI{}\\fR\n{}\n", roff(argument.name), roff(argument.help));
  out += roff_options(operation.options);
  out += ".PP\nExamples:\n";
  for (const Example& example : operation.examples)
    out += fmt::format(".PP\n.nf\n.RS\n# {}\n{}\n.RE\n.fi\n", roff(example.meaning), roff(example.command));
  if (!operation.exits.empty()) {
    out += ".PP\nExit status:\n";
    for (const ExitMeaning& exit : operation.exits)
      out += fmt::format(".TP\n{}\n{}\n", exit.code, roff(exit.meaning));
  }
  return out;
}

std::string markdown_options(std::span<const Option> options) {
  std::string out = "| option | |\n|---|---|\n";
  for (const Option& option : options)
    out += fmt::format("| `--{}{}{}` | {}{} |\n", option.name, option.metavar.empty() ? "" : " ",
                       option.metavar, markdown_cell(option.help), option.required ? " (required)" : "");
  return out;
}

std::string markdown_exits(std::span<const ExitMeaning> exits) {
  std::string out = "| exit status | |\n|---|---|\n";
  for (const ExitMeaning& exit : exits)
    out += fmt::format("| {} | {} |\n", exit.code, markdown_cell(exit.meaning));
  return out;
}

std::string markdown_operation(const Operation& operation) {
  std::string out = fmt::format("## {}\n\n*{}*\n\n```\n", operation.verb, operation.summary);
  for (const Example& example : operation.examples)
    out += fmt::format("# {}\n{}\n", example.meaning, example.command);
  out += fmt::format("```\n\n`{}`\n\n{}\n", usage_of(operation), operation.about);
  if (!operation.arguments.empty()) {
    out += "\n| argument | |\n|---|---|\n";
    for (const Argument& argument : operation.arguments)
      out += fmt::format("| `{}` | {} |\n", argument.name, markdown_cell(argument.help));
  }
  if (!operation.options.empty()) out += "\n" + markdown_options(operation.options);
  if (!operation.exits.empty()) out += "\n" + markdown_exits(operation.exits);
  if (!operation.schema.empty()) out += fmt::format("\n`--json`: schema `{}`.\n", operation.schema);
  return out + "\n";
}

}  // namespace

std::string man_page(std::string_view version) {
  std::string out = fmt::format(
      ".TH KURAMORI 1 \"\" \"kuramori {}\" \"Kuramori\"\n.SH NAME\nkuramori \\- backup that is proven by "
      "restoring\n"
      ".SH SYNOPSIS\n\\fBkuramori\\fR \\fICOMMAND\\fR [\\fIargument\\fR]... [\\fB\\-\\-option\\fR]...\n"
      ".SH DESCRIPTION\nProtects what a product is made of, and proves by restoring that it can be brought "
      "back.\n"
      ".SH OPTIONS OF EVERY COMMAND\n",
      roff(version));
  out += roff_options(global_options()) + ".SH COMMANDS\n";
  for (const Operation* operation : operations()) out += roff_operation(*operation);
  out += ".SH EXIT STATUS\n";
  for (const ExitMeaning& exit : exit_meanings())
    out += fmt::format(".TP\n{}\n{}\n", exit.code, roff(exit.meaning));
  out +=
      ".SH FILES\n.TP\n./kuramori.yaml, /etc/kuramori/kuramori.yaml\nthe configuration, in this order\n"
      ".SH ENVIRONMENT\n.TP\nKURAMORI_KEY_FILE\nthe vault's key, when \\-\\-key\\-file is not given\n"
      ".TP\nNO_COLOR\nno colour, whatever its value\n";
  return out;
}

std::string markdown_reference() {
  std::string out =
      "# Commands\n\nMade from the same table as `--help`: `kuramori help --format markdown`. Do not "
      "edit.\n\n"
      "Every command takes:\n\n";
  out += markdown_options(global_options()) + "\n" + markdown_exits(exit_meanings()) + "\n";
  for (const Operation* operation : operations()) out += markdown_operation(*operation);
  out.pop_back();
  return out;
}

}  // namespace kuramori
