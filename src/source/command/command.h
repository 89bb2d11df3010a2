// The kind `command`: a program whose output, or what it leaves in a folder, is the backup.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/world.h"
#include "source/source.h"

namespace kuramori::command {

// What a resource of this kind says of itself in kuramori.yaml.
struct CommandSettings {
  // The program and its arguments; no shell between. A shell line becomes shell_argv() (source/program).
  std::vector<std::string> run;
  // Absolute: what the program leaves there is the backup, and its output is not. It is told the folder as
  // KURAMORI_FOLDER. Nothing: its output is the backup.
  std::string folder;
  // The mirrored program, for a restore to "command:". It gets the output on its stdin, or a copy of the
  // folder as KURAMORI_FOLDER.
  std::vector<std::string> restore;
  // How much smaller than the last time, as a share, is still in order.
  double shrink_max = 0.5;
  std::vector<std::pair<std::string, std::string>> environment;
  std::optional<Duration> timeout;
  // The bytes of the newest snapshot, given by the engine; nothing: there is none.
  std::optional<uint64_t> bytes_before;
};

constexpr std::string_view kToCommand = "command:";  // as SourceRestoreRequest::to: into `restore`

std::unique_ptr<Source> make_source(CommandSettings settings);

}  // namespace kuramori::command
