#include "source/files/attributes.h"

#include <fmt/core.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>

namespace kuramori::files {
namespace {

constexpr size_t kFirstRoomBytes = 1024;           // enough for nearly all lists and values
constexpr size_t kRoomBytesMax = size_t{1} << 20;  // the kernel's own limit is 64 KiB each

bool has_none(int code) {
  return code == EOPNOTSUPP || code == ENOSYS;
}

// A call that wants room and says ERANGE when it is too small. Returns errno.
template <class Call>
int fill(std::string& out, Call&& call) {
  for (size_t room = kFirstRoomBytes; room <= kRoomBytesMax; room *= 4) {
    out.resize(room);
    ssize_t got = call(out.data(), out.size());
    if (got >= 0) {
      out.resize(static_cast<size_t>(got));
      return 0;
    }
    if (errno != ERANGE) return errno;
  }
  return ERANGE;
}

Result<std::vector<std::string>> names_of(const std::string& path, std::string_view name) {
  std::string list;
  int code = fill(list, [&](char* to, size_t room) { return ::listxattr(path.c_str(), to, room); });
  std::vector<std::string> names;
  if (has_none(code)) return names;
  if (code != 0) return system_error(fmt::format("list the attributes of \"{}\"", name), code);
  for (size_t at = 0; at < list.size(); at += names.back().size() + 1) names.emplace_back(list.c_str() + at);
  std::ranges::sort(names);
  return names;
}

bool is_ours_to_remove(std::string_view attribute) {
  return attribute.starts_with("user.") || attribute.starts_with("system.posix_acl_");
}

// What says "not here" or "not you", not "it broke".
bool is_not_allowed(int code) {
  return code == EPERM || code == EACCES || code == ENOSPC || code == E2BIG || code == EINVAL ||
         has_none(code);
}

}  // namespace

std::string path_of(const Fd& opened) {
  return fmt::format("/proc/self/fd/{}", opened.get());
}

Result<Attributes> read_attributes(const Fd& opened, std::string_view name,
                                   std::vector<std::pair<std::string, std::string>>& unreadable) {
  const std::string path = path_of(opened);
  TRY_ASSIGN(std::vector<std::string> names, names_of(path, name));
  Attributes attributes;
  for (std::string& attribute : names) {
    std::string value;
    int code = fill(
        value, [&](char* to, size_t room) { return ::getxattr(path.c_str(), attribute.c_str(), to, room); });
    if (code == ENODATA) continue;  // removed since it was listed
    if (code != 0) {
      unreadable.emplace_back(std::move(attribute), system_error("", code).why);
      continue;
    }
    attributes.emplace_back(std::move(attribute), std::move(value));
  }
  return attributes;
}

Result<void> write_attributes(const Fd& opened, std::string_view name, const Attributes& attributes,
                              uint64_t& not_allowed) {
  const std::string path = path_of(opened);
  TRY_ASSIGN(std::vector<std::string> there, names_of(path, name));
  for (const std::string& attribute : there) {
    const bool wanted =
        std::ranges::find(attributes, attribute, &Attributes::value_type::first) != attributes.end();
    if (wanted || !is_ours_to_remove(attribute)) continue;
    if (::removexattr(path.c_str(), attribute.c_str()) != 0 && errno != ENODATA) {
      if (!is_not_allowed(errno))
        return system_error(fmt::format("remove the attribute {} of \"{}\"", attribute, name), errno);
      ++not_allowed;
    }
  }
  for (const auto& [attribute, value] : attributes) {
    if (::setxattr(path.c_str(), attribute.c_str(), value.data(), value.size(), 0) == 0) continue;
    if (!is_not_allowed(errno))
      return system_error(fmt::format("set the attribute {} of \"{}\"", attribute, name), errno);
    ++not_allowed;
  }
  return {};
}

}  // namespace kuramori::files
