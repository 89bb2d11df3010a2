// Each script carries the whole table; only names of vaults and resources are asked of the program, and only
// where they may stand. bash and zsh share the words: zsh runs the bash function through bashcompinit.
#include "api/completion.h"

#include <fmt/core.h>

#include <set>
#include <vector>

#include "api/operations.h"

namespace kuramori {
namespace {

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    size_t end = std::min(text.find(' '), text.size());
    out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// The first words of commands that begin with `path`, each once: "" → backup drill … vault wal.
std::string next_words(std::string_view path) {
  std::string out;
  std::set<std::string_view> seen;
  for (const Operation* operation : operations()) {
    std::string_view rest = operation->verb;
    if (!path.empty()) {
      if (!rest.starts_with(path) || rest.size() <= path.size() || rest[path.size()] != ' ') continue;
      rest.remove_prefix(path.size() + 1);
    }
    std::string_view word = rest.substr(0, rest.find(' '));
    if (seen.insert(word).second) out += (out.empty() ? "" : " ") + std::string(word);
  }
  return out;
}

// "vault" and "vault key" of "vault key list".
std::set<std::string> groups() {
  std::set<std::string> out;
  for (const Operation* operation : operations())
    for (size_t at = operation->verb.find(' '); at != std::string_view::npos;
         at = operation->verb.find(' ', at + 1))
      out.emplace(operation->verb.substr(0, at));
  return out;
}

std::string bash_action(Completes completes, std::string_view words) {
  switch (completes) {
    case Completes::kFile:
      return "COMPREPLY=($(compgen -f -- \"$cur\"))";
    case Completes::kFolder:
      return "COMPREPLY=($(compgen -d -- \"$cur\"))";
    case Completes::kVault:
      return "COMPREPLY=($(compgen -W \"$(_kuramori_names vaults)\" -- \"$cur\") $(compgen -d -- \"$cur\"))";
    case Completes::kResource:
      return "COMPREPLY=($(compgen -W \"$(_kuramori_names resources)\" -- \"$cur\"))";
    case Completes::kVerb:
      return fmt::format("COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))", next_words(""));
    case Completes::kWord:
      return fmt::format("COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))", words);
    case Completes::kNothing:
      return "COMPREPLY=()";
  }
  return "COMPREPLY=()";
}

std::string bash_options(std::span<const Option> options) {
  std::string out;
  for (const Option& option : options) out += (out.empty() ? "--" : " --") + std::string(option.name);
  return out;
}

std::string bash_script() {
  std::string out =
      "# kuramori completion for bash\n"
      "_kuramori_names() {  # names of vaults or resources in the configuration, one a line\n"
      "  kuramori help --names \"$1\" 2>/dev/null\n"
      "}\n"
      "_kuramori() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= word i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    word=${COMP_WORDS[i]}\n"
      "    case \"$verb\" in\n";
  std::string open_groups = "''";
  for (const std::string& group : groups()) open_groups += fmt::format("|'{}'", group);
  out += fmt::format("      {}) [[ $word == -* ]] || verb=\"${{verb:+$verb }}$word\" ;;\n    esac\n  done\n",
                     open_groups);

  out += "  case \"$verb:$prev\" in\n";
  for (const Operation* operation : operations())
    for (const Option& option : operation->options)
      if (!option.metavar.empty())
        out += fmt::format("    '{}:--{}') {}; return ;;\n", operation->verb, option.name,
                           bash_action(option.completes, option.words));
  for (const Option& option : global_options())
    if (!option.metavar.empty())
      out += fmt::format("    *':--{}') {}; return ;;\n", option.name,
                         bash_action(option.completes, option.words));
  out += "  esac\n  case \"$verb\" in\n";
  for (const std::string& path : groups())
    out += fmt::format("    '{}') COMPREPLY=($(compgen -W \"{} {}\" -- \"$cur\")) ;;\n", path,
                       next_words(path), bash_options(global_options()));
  for (const Operation* operation : operations()) {
    std::string argument = "COMPREPLY=()";
    if (!operation->arguments.empty())
      argument = bash_action(operation->arguments[0].completes, operation->arguments[0].words);
    out += fmt::format(
        "    '{}') if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"{} {}\" -- \"$cur\")); else {}; fi "
        ";;\n",
        operation->verb, bash_options(operation->options), bash_options(global_options()), argument);
  }
  out += fmt::format("    *) COMPREPLY=($(compgen -W \"{} {}\" -- \"$cur\")) ;;\n  esac\n}}\n",
                     next_words(""), bash_options(global_options()));
  return out + "complete -F _kuramori kuramori\n";
}

// fish and its single quotes: backslash and quote are escaped.
std::string fish_quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string fish_option(std::string_view condition, const Option& option) {
  std::string out = fmt::format("complete -c kuramori -n {} -l {} -d {}", fish_quoted(condition), option.name,
                                fish_quoted(option.help));
  if (option.metavar.empty()) return out + "\n";
  switch (option.completes) {
    case Completes::kFile:
      return out + " -r -F\n";
    case Completes::kFolder:
      return out + " -x -a '(__fish_complete_directories)'\n";
    case Completes::kVault:
      return out + " -x -a '(kuramori help --names vaults 2>/dev/null)'\n";
    case Completes::kResource:
      return out + " -x -a '(kuramori help --names resources 2>/dev/null)'\n";
    case Completes::kWord:
      return out + fmt::format(" -x -a {}\n", fish_quoted(option.words));
    default:
      return out + " -x\n";
  }
}

std::string fish_script() {
  std::string out =
      "# kuramori completion for fish\n"
      "function __kuramori_verb  # the words before the cursor that are no options\n"
      "    set -l words (commandline -opc)\n"
      "    set -e words[1]\n"
      "    string match -v -- '-*' $words | string join ' '\n"
      "end\n"
      "function __kuramori_at  # the command line has exactly this path\n"
      "    test (__kuramori_verb) = \"$argv\"\n"
      "end\n"
      "function __kuramori_in  # the command line has this command\n"
      "    string match -q -- \"$argv\" (__kuramori_verb); or string match -q -- \"$argv *\" "
      "(__kuramori_verb)\n"
      "end\n"
      "complete -c kuramori -f\n";
  for (const Operation* operation : operations()) {
    std::vector<std::string_view> words = split_words(operation->verb);
    std::string path;
    for (size_t i = 0; i < words.size(); ++i) {
      bool last = i + 1 == words.size();
      out += fmt::format("complete -c kuramori -n {} -a {}{}\n", fish_quoted("__kuramori_at " + path),
                         words[i], last ? " -d " + fish_quoted(operation->summary) : "");
      path += (path.empty() ? "" : " ") + std::string(words[i]);
    }
    std::string here = "__kuramori_in " + std::string(operation->verb);
    for (const Option& option : operation->options) out += fish_option(here, option);
    if (operation->arguments.empty()) continue;
    const Argument& first = operation->arguments[0];
    if (first.completes == Completes::kResource)
      out += fmt::format("complete -c kuramori -n {} -a '(kuramori help --names resources 2>/dev/null)'\n",
                         fish_quoted(here));
    else if (first.completes == Completes::kVault)
      out += fmt::format("complete -c kuramori -n {} -a '(kuramori help --names vaults 2>/dev/null)'\n",
                         fish_quoted(here));
    else if (first.completes == Completes::kWord)
      out += fmt::format("complete -c kuramori -n {} -a {}\n", fish_quoted(here), fish_quoted(first.words));
    else if (first.completes == Completes::kFile)
      out += fmt::format("complete -c kuramori -n {} -F\n", fish_quoted(here));
  }
  for (const Option& option : global_options()) out += fish_option("true", option);
  return out;
}

}  // namespace

Result<std::string> completion_script(std::string_view shell) {
  if (shell == "bash") return bash_script();
  if (shell == "zsh")
    return "#compdef kuramori\nautoload -U +X bashcompinit && bashcompinit\n" + bash_script();
  if (shell == "fish") return fish_script();
  return fail(ErrorKind::kUsage, fmt::format("there is no completion for \"{}\"", shell),
              "known: bash, zsh, fish", "kuramori completion bash");
}

}  // namespace kuramori
