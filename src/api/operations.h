// The one table of what the program can do. The command line, --help, man pages, shell completion and
// docs/commands.md are all read from it; the daemon's API will be too. A verb stands in the table when it
// works.
//
// The table is constant data: nothing is built at start-up, which `wal push` would pay for on every segment.
#pragma once
#include <span>
#include <string_view>

namespace kuramori {

// What a shell may offer in this place.
enum class Completes { kNothing, kFile, kFolder, kVault, kResource, kVerb, kWord };

struct Option {
  std::string_view name;     // "at": written --at
  std::string_view metavar;  // "TIME"; empty for a flag
  std::string_view help;
  bool repeats = false;
  bool required = false;
  Completes completes = Completes::kNothing;
  std::string_view words = {};  // for kWord: the values allowed, separated by spaces
};

struct Argument {
  enum class Count { kOne, kOptional, kAny };
  std::string_view name;  // "RESOURCE[@SNAPSHOT]"
  std::string_view help;
  Count count = Count::kOne;
  Completes completes = Completes::kNothing;
  std::string_view words = {};
};

struct Example {
  std::string_view command;  // as typed after the prompt
  std::string_view meaning;
};

struct ExitMeaning {
  int code;
  std::string_view meaning;
};

// What a verb works on. A vault and a key can always be named by --vault and --key-file instead of a
// configuration.
enum class Needs {
  kNothing,
  kConfig,  // the configuration itself
  kVault,   // a vault, without a key
  kVaultAndKey,
};

struct Operation {
  std::string_view verb;     // "wal push"
  std::string_view summary;  // one line, lower case, no full stop
  std::string_view about;    // paragraphs, separated by an empty line
  std::span<const Example> examples;
  std::span<const Argument> arguments = {};
  std::span<const Option> options = {};
  Needs needs = Needs::kNothing;
  std::string_view schema = {};             // of its --json document: "kuramori/snapshots/1"
  std::span<const ExitMeaning> exits = {};  // instead of the usual ones
};

// Those that work, in the order of --help.
std::span<const Operation* const> operations();
// Null if there is none.
const Operation* find_operation(std::string_view verb);
// What every command takes: --config --vault --key-file --json --quiet --verbose --yes --help.
std::span<const Option> global_options();
// The usual exit codes.
std::span<const ExitMeaning> exit_meanings();

}  // namespace kuramori
