// One string of kuramori.yaml. It may stand there (`connect: "host=…"`), in a file (`connect_file: path`) or
// be what a command prints (`connect_command: "pass show orders"`); it is fetched when it is needed, not when
// the configuration is read. Any of them may be a secret, so a Setting cannot be printed.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

// What reading a configuration asks of the machine: objects, so that tests and fuzzing touch nothing.
struct ConfigWorld {
  std::function<std::optional<std::string>(const std::string& name)> environment;
  std::function<Result<std::string>(const std::string& path)> read_file;       // at most kConfigBytesMax
  std::function<Result<std::string>(const std::string& command)> run_command;  // its standard output
};
ConfigWorld machine_world();

constexpr size_t kConfigBytesMax = 1 << 20;  // of a configuration, and of what a _file or _command yields

class Setting {
 public:
  // kVariable: the text stands in the file with a variable of the environment, which is in it by now.
  enum class From { kNowhere, kText, kFile, kCommand, kVariable };

  Setting() = default;
  Setting(From from, std::string text, int line = 0) : from_(from), text_(std::move(text)), line_(line) {}

  bool is_set() const { return from_ != From::kNowhere; }
  From from() const { return from_; }
  int line() const { return line_; }  // of the configuration; 0: it does not come from there
  // The value; one trailing line break of a file or a command is not part of it. "" when not set.
  Result<std::string> fetch(const ConfigWorld& world) const;
  // The path of what stands in a file; "" for any other.
  std::string file() const { return from_ == From::kFile ? text_ : ""; }
  // Where it comes from, for messages: "the file /etc/…", "a command", never the value.
  std::string origin() const;

 private:
  From from_ = From::kNowhere;
  std::string text_;  // the value, the path or the command
  int line_ = 0;
};

}  // namespace kuramori
