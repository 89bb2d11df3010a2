#include "store/store.h"

#include <fmt/core.h>

namespace kuramori {

constexpr size_t kObjectNameBytesMax = 512;
constexpr size_t kObjectNamePartBytesMax = 255;  // what common filesystems take

Result<void> check_object_name(std::string_view name) {
  auto refuse = [&](const char* why) -> Result<void> {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no object name: {}", name, why));
  };
  if (name.empty() || name.size() > kObjectNameBytesMax) return refuse("it must have 1 to 512 bytes");
  bool part_begins = true;
  size_t part_bytes = 0;
  for (char c : name) {
    part_bytes = c == '/' ? 0 : part_bytes + 1;
    if (part_bytes > kObjectNamePartBytesMax) return refuse("a part is longer than 255 bytes");
    bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                   c == '_' || c == '=' || c == '@' || c == '-' || c == '/';
    if (!allowed) return refuse("only letters, digits and ._=@-/ are allowed");
    if (part_begins && (c == '/' || c == '.')) return refuse("a part is empty or starts with a dot");
    part_begins = c == '/';
  }
  if (part_begins) return refuse("it ends in a slash");
  return {};
}

Result<void> check_list_request(std::string_view prefix, size_t limit) {
  if (limit < 1 || limit > kListPageMax) {
    return fail(ErrorKind::kUsage,
                fmt::format("a page of {} names: 1 to {} are possible", limit, kListPageMax));
  }
  // "packs/" or "" are no names; with a letter behind they are, if anything can start with them.
  if (prefix.empty()) return {};
  std::string completed = std::string(prefix);
  if (prefix.size() < kObjectNameBytesMax && prefix.back() == '/') completed += 'x';
  return check_object_name(completed);
}

bool is_read_at_once(std::string_view storage_class) {
  constexpr std::string_view kReadAtOnce[] = {
      "", "STANDARD", "STANDARD_IA", "ONEZONE_IA", "REDUCED_REDUNDANCY", "INTELLIGENT_TIERING", "GLACIER_IR"};
  return std::ranges::count(kReadAtOnce, storage_class) > 0;
}

}  // namespace kuramori
