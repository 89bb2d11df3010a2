#include "source/bucket/key_path.h"

#include <fmt/core.h>

#include <array>

namespace kuramori::bucket {
namespace {

constexpr size_t kPieceBytesMax = 200;  // names of files end at 255
constexpr std::string_view kEmpty = "%-", kGoesOn = "%+";
constexpr std::array<std::string_view, 7> kCodes = {"-", "+", "=", "v", "2E", "25", "00"};

bool looks_escaped(std::string_view after_percent) {
  for (const std::string_view code : kCodes)
    if (after_percent.starts_with(code)) return true;
  return false;
}

void append_part(std::string& path, std::string_view part) {
  if (part.empty()) {
    path += kEmpty;
    return;
  }
  size_t piece = 0;
  for (size_t at = 0; at < part.size(); ++at) {
    if (piece >= kPieceBytesMax) {
      path += kGoesOn;
      path += '/';
      piece = 0;
    }
    const size_t before = path.size();
    // Of the whole part, or of the last piece of a long one.
    const std::string_view rest = part.substr(at);
    const bool is_dots = piece == 0 && (rest == "." || rest == "..");
    if (is_dots)
      path += "%2E";
    else if (part[at] == '\0')
      path += "%00";
    else if (part[at] == '%' && looks_escaped(part.substr(at + 1)))
      path += "%25";
    else
      path += part[at];
    piece += path.size() - before;
  }
}

Error no_key(std::string_view path) {
  return fail(ErrorKind::kDamaged, fmt::format("\"{}\" is the path of no key", path),
              "the snapshot is damaged, or a newer program made it", "kuramori vault scrub");
}

}  // namespace

std::string path_of_key(std::string_view key) {
  std::string path;
  for (;;) {
    const size_t slash = key.find('/');
    append_part(path, key.substr(0, slash));
    if (slash == key.npos) return path;
    path += '/';
    key.remove_prefix(slash + 1);
  }
}

Result<std::string> key_of_path(std::string_view path) {
  std::string key;
  const std::string_view whole = path;
  if (path == kSelf) return no_key(whole);
  if (path.ends_with(std::string("/") + std::string(kSelf))) path.remove_suffix(kSelf.size() + 1);
  for (;;) {
    const size_t slash = path.find('/');
    std::string_view part = path.substr(0, slash);
    if (part.empty()) return no_key(whole);
    const bool goes_on = part.ends_with(kGoesOn);
    if (goes_on) part.remove_suffix(kGoesOn.size());
    if (part == kEmpty) part = {};
    for (size_t at = 0; at < part.size(); ++at) {
      if (part[at] != '%') {
        key += part[at];
        continue;
      }
      const std::string_view code = part.substr(at + 1, 2);
      if (code == "25")
        key += '%';
      else if (code == "2E")
        key += '.';
      else if (code == "00")
        key += '\0';
      else if (looks_escaped(part.substr(at + 1)))
        return no_key(whole);
      else {
        key += '%';
        continue;
      }
      at += 2;
    }
    if (slash == path.npos) return goes_on ? Result<std::string>(no_key(whole)) : Result<std::string>(key);
    if (!goes_on) key += '/';
    path.remove_prefix(slash + 1);
  }
}

}  // namespace kuramori::bucket
