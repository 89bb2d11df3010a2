#include "store/rclone/rclone_location.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori {
namespace {
constexpr std::string_view kScheme = "rclone:";
constexpr size_t kLocationBytesMax = 2048;
}  // namespace

bool is_rclone_location(std::string_view location) {
  return location.starts_with(kScheme);
}

Result<std::string> parse_rclone_location(std::string_view location) {
  auto refuse = [&](const char* why) -> Result<std::string> {
    return fail(ErrorKind::kUsage,
                fmt::format("\"{}\" is no place that rclone reaches", location.substr(0, 100)), why,
                "write rclone:REMOTE:PATH; `rclone listremotes` shows the remotes");
  };
  std::string place(location.substr(std::min(location.size(), kScheme.size())));
  while (place.size() > 1 && place.back() == '/') place.pop_back();
  if (place.size() > kLocationBytesMax) return refuse("it is too long");
  // A remote on the fly begins with a colon of its own.
  if (place.find(':', 1) == place.npos || place.front() == '-') return refuse("it names no remote");
  // The place stands between brackets in the path of a request, where "//" would be made one.
  bool plain = std::ranges::all_of(
      place, [](char c) { return static_cast<unsigned char>(c) >= ' ' && c != '[' && c != ']'; });
  if (!plain) return refuse("it holds a bracket or a control character");
  if (place.find("//") != place.npos) return refuse("it holds two slashes in a row");
  return place;
}

}  // namespace kuramori
