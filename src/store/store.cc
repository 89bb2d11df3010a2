#include "store/store.h"

#include <fmt/core.h>

namespace kuramori {

constexpr size_t kObjectNameBytesMax = 512;

Result<void> check_object_name(std::string_view name) {
  auto refuse = [&](const char* why) -> Result<void> {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no object name: {}", name, why));
  };
  if (name.empty() || name.size() > kObjectNameBytesMax) return refuse("it must have 1 to 512 bytes");
  bool part_begins = true;
  for (char c : name) {
    bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                   c == '_' || c == '=' || c == '@' || c == '-' || c == '/';
    if (!allowed) return refuse("only letters, digits and ._=@-/ are allowed");
    if (part_begins && (c == '/' || c == '.')) return refuse("a part is empty or starts with a dot");
    part_begins = c == '/';
  }
  if (part_begins) return refuse("it ends in a slash");
  return {};
}

}  // namespace kuramori
