#include "os/user.h"

#include <fmt/core.h>
#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <vector>

namespace kuramori {
namespace {

constexpr size_t kEntryBytesMax = 1 << 20;

// The getXXX_r calls share one shape: a record, a buffer to grow on ERANGE, a pointer that stays null when
// absent.
template <class Record, class Call>
Result<void> look_up(const std::string& what, Record& record, std::vector<char>& buffer, Call&& call) {
  for (size_t size = 4096; size <= kEntryBytesMax; size *= 2) {
    buffer.resize(size);
    Record* found = nullptr;
    int code = call(&record, buffer.data(), buffer.size(), &found);
    if (code == ERANGE || code == EINTR) continue;
    if (code != 0 && code != ENOENT && code != ESRCH)
      return system_error(fmt::format("look up {}", what), code);
    if (found == nullptr) return fail(ErrorKind::kNotFound, fmt::format("there is no {}", what));
    return {};
  }
  return system_error(fmt::format("look up {}", what), ERANGE);
}

User user_from(const passwd& entry) {
  return User{.name = entry.pw_name, .uid = entry.pw_uid, .gid = entry.pw_gid, .home = entry.pw_dir};
}

}  // namespace

Result<User> user_of_name(const std::string& name) {
  passwd entry;
  std::vector<char> buffer;
  TRY(look_up(fmt::format("user \"{}\"", name), entry, buffer,
              [&](passwd* to, char* text, size_t size, passwd** found) {
                return ::getpwnam_r(name.c_str(), to, text, size, found);
              }));
  return user_from(entry);
}

Result<User> user_of_uid(uid_t uid) {
  passwd entry;
  std::vector<char> buffer;
  TRY(look_up(fmt::format("user number {}", uid), entry, buffer,
              [&](passwd* to, char* text, size_t size, passwd** found) {
                return ::getpwuid_r(uid, to, text, size, found);
              }));
  return user_from(entry);
}

Result<gid_t> gid_of_name(const std::string& name) {
  group entry;
  std::vector<char> buffer;
  TRY(look_up(fmt::format("group \"{}\"", name), entry, buffer,
              [&](group* to, char* text, size_t size, group** found) {
                return ::getgrnam_r(name.c_str(), to, text, size, found);
              }));
  return entry.gr_gid;
}

Result<std::string> group_name_of(gid_t gid) {
  group entry;
  std::vector<char> buffer;
  TRY(look_up(fmt::format("group number {}", gid), entry, buffer,
              [&](group* to, char* text, size_t size, group** found) {
                return ::getgrgid_r(gid, to, text, size, found);
              }));
  return std::string(entry.gr_name);
}

}  // namespace kuramori
