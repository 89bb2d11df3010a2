// What a run may take of the machine and the network: from `limits:` and the command line to the process, and
// from what it took to what is told of it.
#pragma once
#include "base/json_writer.h"
#include "cli/context.h"
#include "policy/limits.h"

namespace kuramori {

// `configured`, with what the command line says instead.
Result<Limits> limits_given(const Context& context, const Limits& configured);

// Which reading --limit-read is of: a backup's of the server, which the capture counts itself, or the others'
// of the vault.
enum class Reads { kSource, kVault };

// From now on, for the whole process: before a vault is opened and before threads start.
Result<void> keep_to(const Limits& limits, Reads reads);

// What the reading was held back, where the process does not count it itself.
struct ReadUse {
  uint64_t bytes = 0;
  Duration waited{};
};
// "limits": {…} with those that were set, what went through and how long it was waited for them; nothing
// where none was set.
void write_limits(JsonWriter& json, const Limits& limits, std::optional<ReadUse> source = {});
std::string shown_limits(const Limits& limits, std::optional<ReadUse> source = {});  // a line, or ""

}  // namespace kuramori
