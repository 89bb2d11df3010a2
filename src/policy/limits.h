// `limits:` of a resource, and the same on the command line: what a run may take from the machine and the
// network it shares with others.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

struct IoPriority {
  bool idle = false;
  int level = 4;  // of best effort: 0 first, 7 last
  bool operator==(const IoPriority&) const = default;
};

struct Limits {
  std::optional<uint64_t> read;     // bytes a second
  std::optional<uint64_t> network;  // bytes a second, both ways together
  std::optional<double> cpu;        // cores
  std::optional<int> nice;
  std::optional<IoPriority> io;

  // Each of `over` that is set instead of ours.
  Limits overridden_by(const Limits& over) const;
};

// Slower, and a part of an upload would take longer than stores wait.
constexpr uint64_t kNetworkRateMin = 64 << 10;  // bytes a second

Result<uint64_t> parse_network_rate(std::string_view text);
Result<double> parse_cpu_share(std::string_view text);  // "50%" of one core, "250%" of several; in cores
Result<int> parse_nice(std::string_view text);          // 0 to 19
Result<IoPriority> parse_io_priority(std::string_view text);  // "idle", "best-effort", "best-effort:7"
std::string format_cpu_share(double cores);                   // "50%"
std::string format_io_priority(IoPriority io);

}  // namespace kuramori
