#include "cli/limiting.h"

#include <fmt/core.h>

#include "base/cpu_limit.h"
#include "base/throttle.h"
#include "base/units.h"
#include "os/priority.h"

namespace kuramori {
namespace {

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

ReadUse use_of(const Throttle& throttle) {
  return {throttle.bytes(), throttle.waited()};
}

template <class T>
Result<void> take_option(const Invocation& line, std::string_view name, Result<T> (*parse)(std::string_view),
                         std::optional<T>& into) {
  if (!line.has(name)) return {};
  auto read = parse(line.value(name));
  if (!read) {
    Error error = std::move(read).error();
    error.what = fmt::format("--{}: {}", name, error.what);
    return error;
  }
  into = *read;
  return {};
}

void write_rate(JsonWriter& json, std::string_view name, uint64_t rate, const ReadUse& use) {
  json.key(name).begin_object().field("bytes_per_second", rate).field("bytes", use.bytes);
  json.field("waited_seconds", seconds(use.waited)).end_object();
}

std::string shown_rate(std::string_view name, uint64_t rate, const ReadUse& use) {
  return fmt::format("{} {} (waited {})", name, format_rate(static_cast<double>(rate)),
                     format_duration(use.waited));
}

}  // namespace

Result<Limits> limits_given(const Context& context, const Limits& configured) {
  const Invocation& line = context.line();
  Limits over;
  TRY(take_option(line, "limit-read", parse_rate, over.read));
  TRY(take_option(line, "limit-network", parse_network_rate, over.network));
  TRY(take_option(line, "limit-cpu", parse_cpu_share, over.cpu));
  TRY(take_option(line, "nice", parse_nice, over.nice));
  TRY(take_option(line, "io", parse_io_priority, over.io));
  return configured.overridden_by(over);
}

Result<void> keep_to(const Limits& limits, Reads reads) {
  if (limits.nice) TRY(be_nice(*limits.nice));
  if (limits.io) TRY(limits.io->idle ? be_idle_on_disks() : be_modest_on_disks(limits.io->level));
  if (limits.cpu) limit_cpu(*limits.cpu);
  if (limits.network) network_throttle().set_rate(*limits.network);
  if (limits.read && reads == Reads::kVault) vault_read_throttle().set_rate(*limits.read);
  return {};
}

void write_limits(JsonWriter& json, const Limits& limits, std::optional<ReadUse> source) {
  if (!limits.read && !limits.network && !limits.cpu && !limits.nice && !limits.io) return;
  json.key("limits").begin_object();
  if (limits.read) write_rate(json, "read", *limits.read, source ? *source : use_of(vault_read_throttle()));
  if (limits.network) write_rate(json, "network", *limits.network, use_of(network_throttle()));
  if (limits.cpu) {
    const CpuUse use = cpu_use();
    json.key("cpu").begin_object().field("cores", *limits.cpu).field("used_seconds", seconds(use.used));
    json.field("waited_seconds", seconds(use.waited)).end_object();
  }
  if (limits.nice) json.field("nice", *limits.nice);
  if (limits.io) json.field("io", format_io_priority(*limits.io));
  json.end_object();
}

std::string shown_limits(const Limits& limits, std::optional<ReadUse> source) {
  std::string out;
  const auto add = [&](const std::string& part) { out += (out.empty() ? "  limited to: " : ", ") + part; };
  if (limits.read) add(shown_rate("read", *limits.read, source ? *source : use_of(vault_read_throttle())));
  if (limits.network) add(shown_rate("network", *limits.network, use_of(network_throttle())));
  if (limits.cpu)
    add(fmt::format("cpu {} (waited {})", format_cpu_share(*limits.cpu), format_duration(cpu_use().waited)));
  if (limits.nice) add(fmt::format("nice {}", *limits.nice));
  if (limits.io) add(fmt::format("io {}", format_io_priority(*limits.io)));
  return out.empty() ? out : out + "\n";
}

}  // namespace kuramori
