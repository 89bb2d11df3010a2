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

Error gone_stale(std::string_view name) {
  return fail(ErrorKind::kNotFound, fmt::format("read the attributes of \"{}\"", name),
              system_error("", ESTALE).why);
}

Result<std::vector<std::string>> names_of(const std::string& path, std::string_view name) {
  std::string list;
  int code = fill(list, [&](char* to, size_t room) { return ::listxattr(path.c_str(), to, room); });
  std::vector<std::string> names;
  if (has_none(code)) return names;
  if (code == ESTALE) return gone_stale(name);
  if (code != 0) return system_error(fmt::format("list the attributes of \"{}\"", name), code);
  for (size_t at = 0; at < list.size(); at += names.back().size() + 1) names.emplace_back(list.c_str() + at);
  std::ranges::sort(names);
  return names;
}

bool is_ours_to_remove(std::string_view attribute) {
  return attribute.starts_with("user.") || attribute.starts_with("system.posix_acl_");
}

uint32_t be32(std::string_view from) {
  uint32_t number = 0;
  for (size_t i = 0; i < sizeof number; ++i) number = number << 8 | static_cast<uint8_t>(from[i]);
  return number;
}

// What says "not here" or "not you", not "it broke".
bool is_not_allowed(int code) {
  return code == EPERM || code == EACCES || code == ENOSPC || code == E2BIG || code == EINVAL ||
         has_none(code);
}

}  // namespace

// RFC 7530, section 6: a count, then of each entry type, flags, rights and for whom, as XDR has them.
bool is_mode_as_nfs4_acl(std::string_view acl) {
  constexpr uint32_t kAllowOrDeny = 1;  // beyond: audit, alarm
  constexpr uint32_t kInherited = 0x0f;
  constexpr size_t kFixedBytes = 16;
  if (acl.size() < sizeof(uint32_t)) return false;
  uint32_t left = be32(acl);
  acl.remove_prefix(sizeof(uint32_t));
  for (; left > 0; --left) {
    if (acl.size() < kFixedBytes) return false;
    const uint32_t type = be32(acl), flags = be32(acl.substr(4));
    const size_t length = be32(acl.substr(12)), padded = (length + 3) / 4 * 4;
    acl.remove_prefix(kFixedBytes);
    if (padded > acl.size()) return false;
    const std::string_view who = acl.substr(0, length);
    if (type > kAllowOrDeny || (flags & kInherited) != 0) return false;
    if (who != "OWNER@" && who != "GROUP@" && who != "EVERYONE@") return false;
    acl.remove_prefix(padded);
  }
  return acl.empty();
}

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
    if (code == ESTALE) return gone_stale(name);
    // NFS 4 has it for every entry, and a local filesystem would not take it.
    if (code == 0 && attribute == "system.nfs4_acl" && is_mode_as_nfs4_acl(value)) continue;
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
