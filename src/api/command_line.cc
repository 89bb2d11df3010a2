#include "api/command_line.h"

#include <fmt/core.h>

#include <algorithm>

#include "policy/config.h"

namespace kuramori {
namespace {

const Option* find_option(std::span<const Option> options, std::string_view name) {
  for (const Option& option : options)
    if (option.name == name) return &option;
  return nullptr;
}

bool is_in_group(const Operation& operation, std::string_view group) {
  return operation.verb.size() > group.size() && operation.verb.starts_with(group) &&
         operation.verb[group.size()] == ' ';
}

std::string help_hint(const Invocation& so_far) {
  if (so_far.operation) return fmt::format("kuramori {} --help", so_far.operation->verb);
  return so_far.group.empty() ? "kuramori --help" : fmt::format("kuramori {} --help", so_far.group);
}

Error unknown_verb(const Invocation& so_far, std::string_view word) {
  std::vector<std::string_view> next_words;
  for (const Operation* operation : operations()) {
    std::string_view rest = operation->verb;
    if (!so_far.group.empty()) {
      if (!is_in_group(*operation, so_far.group)) continue;
      rest.remove_prefix(so_far.group.size() + 1);
    }
    std::string_view first = rest.substr(0, rest.find(' '));
    if (std::ranges::find(next_words, first) == next_words.end()) next_words.push_back(first);
  }
  std::string path = so_far.group.empty() ? "" : so_far.group + " ";
  std::string list;
  for (std::string_view known : next_words) list += (list.empty() ? "" : ", ") + std::string(known);
  std::string_view meant = nearest(word, next_words);
  return fail(ErrorKind::kUsage, fmt::format("there is no command \"{}{}\"", path, word.substr(0, 40)),
              "known: " + list,
              meant.empty() ? help_hint(so_far) : fmt::format("kuramori {}{}", path, meant));
}

Error unknown_option(const Invocation& so_far, std::string_view name) {
  std::vector<std::string_view> known;
  if (so_far.operation)
    for (const Option& option : so_far.operation->options) known.push_back(option.name);
  for (const Option& option : global_options()) known.push_back(option.name);
  std::string_view meant = nearest(name, known);
  std::string where = so_far.operation ? fmt::format(" of {}", so_far.operation->verb) : std::string();
  return fail(ErrorKind::kUsage, fmt::format("there is no option --{}{}", name.substr(0, 40), where),
              so_far.operation ? "" : "options of a command stand after it",
              meant.empty() ? help_hint(so_far) : fmt::format("did you mean --{}?", meant));
}

// A word before the verb is complete: part of it, or unknown.
Result<void> take_verb_word(Invocation& out, std::string_view word) {
  std::string path = out.group.empty() ? std::string(word) : out.group + " " + std::string(word);
  if (const Operation* found = find_operation(path)) {
    out.operation = found;
    out.group.clear();
    return {};
  }
  if (operations_in(path).empty()) return unknown_verb(out, word);
  out.group = std::move(path);
  return {};
}

Result<void> check_value(const Invocation& out, const Option& option, std::string_view value) {
  if (value.empty())
    return fail(ErrorKind::kUsage, fmt::format("--{} is empty", option.name), "",
                fmt::format("write --{} {}", option.name, option.metavar));
  if (option.completes != Completes::kWord) return {};
  std::string_view rest = option.words;
  std::vector<std::string_view> words;
  while (!rest.empty()) {
    size_t end = std::min(rest.find(' '), rest.size());
    words.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (std::ranges::find(words, value) != words.end()) return {};
  return fail(ErrorKind::kUsage, fmt::format("--{} cannot be \"{}\"", option.name, value.substr(0, 40)),
              fmt::format("it is one of: {}", option.words), help_hint(out));
}

// What must be there is there, and nothing more.
Result<void> check_complete(const Invocation& out) {
  const Operation& operation = *out.operation;
  size_t least = 0, most = 0;
  for (const Argument& argument : operation.arguments) {
    least += argument.count == Argument::Count::kOne;
    most = argument.count == Argument::Count::kAny ? SIZE_MAX : most + (most != SIZE_MAX);
  }
  if (out.arguments.size() < least)
    return fail(ErrorKind::kUsage,
                fmt::format("{} needs {}", operation.verb, operation.arguments[out.arguments.size()].name),
                std::string(operation.arguments[out.arguments.size()].help), help_hint(out));
  if (out.arguments.size() > most)
    return fail(ErrorKind::kUsage,
                fmt::format("{} takes no \"{}\"", operation.verb,
                            std::string_view(out.arguments[most]).substr(0, 40)),
                most == 0 ? "it takes no arguments"
                          : fmt::format("it takes at most {} argument{}", most, most == 1 ? "" : "s"),
                help_hint(out));
  for (const Option& option : operation.options)
    if (option.required && !out.has(option.name))
      return fail(ErrorKind::kUsage,
                  fmt::format("{} needs --{} {}", operation.verb, option.name, option.metavar),
                  std::string(option.help), help_hint(out));
  return {};
}

}  // namespace

std::string Invocation::value(std::string_view option) const {
  auto found = options.find(option);
  return found == options.end() || found->second.empty() ? std::string() : found->second.back();
}

std::vector<std::string> Invocation::values(std::string_view option) const {
  auto found = options.find(option);
  return found == options.end() ? std::vector<std::string>() : found->second;
}

std::vector<const Operation*> operations_in(std::string_view group) {
  std::vector<const Operation*> out;
  for (const Operation* operation : operations())
    if (is_in_group(*operation, group)) out.push_back(operation);
  return out;
}

Result<Invocation> parse_command_line(std::span<const std::string_view> arguments) {
  Invocation out;
  bool only_arguments = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string_view word = arguments[i];
    if (!only_arguments && word == "--") {
      only_arguments = true;
      continue;
    }
    if (only_arguments || !word.starts_with('-') || word == "-") {
      if (out.operation)
        out.arguments.emplace_back(word);
      else
        TRY(take_verb_word(out, word));
      continue;
    }
    if (word == "-h") word = "--help";
    if (word == "--version" && !out.operation && out.group.empty()) {
      TRY(take_verb_word(out, "version"));
      continue;
    }
    if (!word.starts_with("--")) return unknown_option(out, word.substr(1));
    size_t equals = word.find('=');
    std::string_view name = word.substr(2, equals == word.npos ? word.npos : equals - 2);
    const Option* option = out.operation ? find_option(out.operation->options, name) : nullptr;
    if (!option) option = find_option(global_options(), name);
    if (!option) return unknown_option(out, name);
    std::string_view value;
    if (option->metavar.empty()) {
      if (equals != word.npos)
        return fail(ErrorKind::kUsage, fmt::format("--{} takes no value", option->name), "",
                    fmt::format("write --{}", option->name));
    } else {
      if (equals == word.npos && i + 1 == arguments.size())
        return fail(ErrorKind::kUsage, fmt::format("--{} needs {}", option->name, option->metavar),
                    std::string(option->help), help_hint(out));
      value = equals == word.npos ? arguments[++i] : word.substr(equals + 1);
      TRY(check_value(out, *option, value));
    }
    auto& given = out.options[std::string(option->name)];
    if (!given.empty() && !option->repeats && !option->metavar.empty())
      return fail(ErrorKind::kUsage, fmt::format("--{} is given twice", option->name), "", help_hint(out));
    given.emplace_back(value);
  }
  out.wants_help = out.has("help") || arguments.empty();
  if (out.wants_help) return out;
  if (out.operation) {
    TRY(check_complete(out));
    return out;
  }
  if (out.group.empty()) return fail(ErrorKind::kUsage, "no command is given", "", "kuramori --help");
  std::string list;
  for (const Operation* operation : operations_in(out.group))
    list += (list.empty() ? "" : ", ") + std::string(operation->verb);
  return fail(ErrorKind::kUsage, fmt::format("{} is not a whole command", out.group), "known: " + list,
              help_hint(out));
}

}  // namespace kuramori
