#include "policy/limits.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>

#include "base/units.h"

namespace kuramori {
namespace {

constexpr double kCpuPercentMin = 1, kCpuPercentMax = 25'600;
constexpr int kNiceMax = 19;
constexpr int kLevelMax = 7;
constexpr std::string_view kBestEffort = "best-effort";

std::string_view shown(std::string_view text) {
  return text.substr(0, 40);
}

std::optional<int> number_in(std::string_view text, int most) {
  int number = -1;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 0 || number > most)
    return std::nullopt;
  return number;
}

}  // namespace

Limits Limits::overridden_by(const Limits& over) const {
  Limits out = *this;
  if (over.read) out.read = over.read;
  if (over.network) out.network = over.network;
  if (over.cpu) out.cpu = over.cpu;
  if (over.nice) out.nice = over.nice;
  if (over.io) out.io = over.io;
  return out;
}

Result<uint64_t> parse_network_rate(std::string_view text) {
  TRY_ASSIGN(const uint64_t rate, parse_rate(text));
  if (rate >= kNetworkRateMin) return rate;
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is too slow for the network", shown(text)),
              fmt::format("below {}/s uploads take longer than stores wait", format_size(kNetworkRateMin)),
              "write a rate as 20MiB/s");
}

Result<double> parse_cpu_share(std::string_view text) {
  double percent = 0;
  const std::string_view number = text.ends_with('%') ? text.substr(0, text.size() - 1) : std::string_view();
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), percent);
  if (error == std::errc{} && !number.empty() && end == number.data() + number.size() &&
      percent >= kCpuPercentMin && percent <= kCpuPercentMax)
    return percent / 100;
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no share of a processor", shown(text)),
              fmt::format("100% is one whole core; from {:.0f}% to {:.0f}%", kCpuPercentMin, kCpuPercentMax),
              "write 50%, or 250% for two cores and a half");
}

Result<int> parse_nice(std::string_view text) {
  if (const auto nice = number_in(text, kNiceMax)) return *nice;
  return fail(ErrorKind::kUsage, fmt::format("nice cannot be \"{}\"", shown(text)),
              fmt::format("it is a whole number from 0 to {}, which is the most modest", kNiceMax),
              "write 10");
}

Result<IoPriority> parse_io_priority(std::string_view text) {
  if (text == "idle") return IoPriority{.idle = true};
  if (text == kBestEffort) return IoPriority{};
  if (text.starts_with(kBestEffort) && text.substr(kBestEffort.size()).starts_with(':')) {
    if (const auto level = number_in(text.substr(kBestEffort.size() + 1), kLevelMax))
      return IoPriority{.level = *level};
  }
  return fail(ErrorKind::kUsage, fmt::format("io cannot be \"{}\"", shown(text)),
              fmt::format("it is idle, best-effort, or best-effort:N with N from 0 to {} (last)", kLevelMax),
              "write idle, or best-effort:7");
}

std::string format_cpu_share(double cores) {
  return fmt::format("{:g}%", std::round(cores * 10'000) / 100);
}

std::string format_io_priority(IoPriority io) {
  return io.idle ? "idle" : fmt::format("{}:{}", kBestEffort, io.level);
}

}  // namespace kuramori
