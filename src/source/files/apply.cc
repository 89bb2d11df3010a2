#include "source/files/apply.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "os/user.h"
#include "source/files/attributes.h"

namespace kuramori::files {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

timespec to_timespec(int64_t ns) {
  int64_t seconds = ns / kNsPerSecond, rest = ns % kNsPerSecond;
  if (rest < 0) --seconds, rest += kNsPerSecond;  // before 1970
  return {.tv_sec = seconds, .tv_nsec = rest};
}

mode_t kind_of(EntryType type) {
  switch (type) {
    case EntryType::kDirectory:
      return S_IFDIR;
    case EntryType::kSymlink:
      return S_IFLNK;
    case EntryType::kFifo:
      return S_IFIFO;
    case EntryType::kSocket:
      return S_IFSOCK;
    case EntryType::kCharDevice:
      return S_IFCHR;
    case EntryType::kBlockDevice:
      return S_IFBLK;
    case EntryType::kFile:
    case EntryType::kHardLink:
      return S_IFREG;
  }
  return S_IFREG;
}

// One name, not a path: what comes from a snapshot is not to be trusted with more.
Result<void> check_name(const std::string& name) {
  if (!name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
      name.find('\0') == std::string::npos) {
    return {};
  }
  return fail(ErrorKind::kRefused, fmt::format("\"{}\" cannot be the name of an entry", name));
}

// Another user's, another namespace's (EINVAL: a number that does not exist in it), or a filesystem without
// owners.
bool is_not_allowed(int code) {
  return code == EPERM || code == EACCES || code == EINVAL || code == EOPNOTSUPP || code == EROFS;
}

template <class LookUp>
uint32_t number_of(std::map<std::string, std::optional<uint32_t>>& known, const std::string& name,
                   uint32_t otherwise, LookUp&& look_up) {
  if (name.empty()) return otherwise;
  auto found = known.find(name);
  if (found == known.end()) found = known.emplace(name, look_up()).first;
  return found->second.value_or(otherwise);
}

}  // namespace

Result<SplitPath> split_tree_path(std::string_view path) {
  for (std::string_view rest = path;;) {
    size_t slash = rest.find('/');
    if (!check_name(std::string(rest.substr(0, slash)))) {
      return fail(ErrorKind::kRefused, fmt::format("the snapshot holds the impossible path \"{}\"", path),
                  "it could lead out of the target", "kuramori vault scrub");
    }
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  size_t last = path.rfind('/');
  if (last == std::string_view::npos) return SplitPath{.name = std::string(path)};
  return SplitPath{.folder = std::string(path.substr(0, last)), .name = std::string(path.substr(last + 1))};
}

Result<bool> Applier::make_special(const Fd& folder, const std::string& name, const TreeEntry& entry) {
  TRY(check_name(name));
  const mode_t kind = kind_of(entry.type);
  const bool device = kind == S_IFCHR || kind == S_IFBLK;
  int made;
  if (kind == S_IFLNK) {
    made = ::symlinkat(entry.link.c_str(), folder.get(), name.c_str());
  } else if (kind == S_IFIFO || kind == S_IFSOCK || device) {
    made = ::mknodat(folder.get(), name.c_str(), kind | 0600, device ? entry.rdev : 0);
  } else {
    return fail(ErrorKind::kFailed, fmt::format("make \"{}\"", entry.path), "it is a file or a folder");
  }
  if (made == 0) return true;
  const int code = errno;
  if (device && code == EPERM) {
    std::lock_guard hold(mutex_);
    ++devices_left_;
    return false;
  }
  return system_error(fmt::format("make \"{}\"", entry.path), code);
}

Result<void> Applier::make_hard_link(const Fd& root, const TreeEntry& entry, const Fd& folder,
                                     const std::string& name) {
  TRY(check_name(name));
  TRY(split_tree_path(entry.link));
  TRY_ASSIGN(Fd first, open_beneath(root, entry.link, O_PATH | O_NOFOLLOW));
  // AT_EMPTY_PATH would need a privilege; the way over /proc does not.
  if (::linkat(AT_FDCWD, path_of(first).c_str(), folder.get(), name.c_str(), AT_SYMLINK_FOLLOW) == 0)
    return {};
  return system_error(fmt::format("give \"{}\" the name \"{}\"", entry.link, entry.path), errno);
}

Result<void> Applier::apply(const Fd& folder, const std::string& name, const TreeEntry& entry) {
  TRY(check_name(name));
  TRY_ASSIGN(Fd opened, open_at(folder, name, O_PATH | O_NOFOLLOW));
  return apply(opened, entry);
}

Applier::Owner Applier::owner_of(const TreeEntry& entry) {
  if (!options_.owners_by_name) return {entry.uid, entry.gid};
  std::lock_guard hold(mutex_);
  return {number_of(users_, entry.user, entry.uid,
                    [&]() -> std::optional<uint32_t> {
                      Result<User> user = user_of_name(entry.user);
                      return user ? std::optional<uint32_t>(user->uid) : std::nullopt;
                    }),
          number_of(groups_, entry.group, entry.gid, [&]() -> std::optional<uint32_t> {
            Result<gid_t> group = gid_of_name(entry.group);
            return group ? std::optional<uint32_t>(*group) : std::nullopt;
          })};
}

Result<void> Applier::apply(const Fd& opened, const TreeEntry& entry) {
  struct stat status;
  if (::fstat(opened.get(), &status) != 0)
    return system_error(fmt::format("look at \"{}\"", entry.path), errno);
  if ((status.st_mode & S_IFMT) != kind_of(entry.type)) {
    return fail(ErrorKind::kRefused, fmt::format("\"{}\" is something else than was restored", entry.path),
                "something was put in its place meanwhile");
  }
  const std::string path = path_of(opened);
  uint64_t attributes_left = 0;
  bool owner_kept = false, group_kept = false;

  // The owner first: a change of it takes setuid bits and capabilities away.
  const Owner owner = owner_of(entry);
  if (status.st_uid != owner.uid || status.st_gid != owner.gid) {
    if (::fchownat(opened.get(), "", owner.uid, owner.gid, AT_EMPTY_PATH) != 0) {
      if (!is_not_allowed(errno))
        return system_error(fmt::format("set the owner of \"{}\"", entry.path), errno);
      owner_kept = status.st_uid != owner.uid;
      // A group that we are in is ours to give.
      group_kept = status.st_gid != owner.gid &&
                   ::fchownat(opened.get(), "", static_cast<uid_t>(-1), owner.gid, AT_EMPTY_PATH) != 0;
    }
  }
  // Then attributes, while the mode still lets us write; the mode after them is the ACL's mask as well.
  TRY(write_attributes(opened, entry.path, entry.attributes, attributes_left));
  bool set_id_dropped = false;
  if (entry.type != EntryType::kSymlink) {
    mode_t mode = entry.mode & 07777;
    if (entry.type != EntryType::kDirectory) {
      // A file that would run as its owner must not run as another.
      mode_t dropped = (owner_kept ? mode & S_ISUID : 0) | (owner_kept || group_kept ? mode & S_ISGID : 0);
      set_id_dropped = dropped != 0;
      mode &= ~dropped;
    }
    constexpr mode_t kSetIds = S_ISUID | S_ISGID;
    int failed = ::chmod(path.c_str(), mode) == 0 ? 0 : errno;
    // A sandbox may forbid these two bits (RestrictSUIDSGID= of systemd) and no others.
    if (failed == EPERM && (mode & kSetIds) != 0) {
      set_id_dropped = true;
      failed = ::chmod(path.c_str(), mode & ~kSetIds) == 0 ? 0 : errno;
    }
    if (failed != 0) return system_error(fmt::format("set the mode of \"{}\"", entry.path), failed);
  }
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, to_timespec(entry.mtime_ns)};
  if (::utimensat(AT_FDCWD, path.c_str(), times, 0) != 0)
    return system_error(fmt::format("set the time of \"{}\"", entry.path), errno);

  if (owner_kept || group_kept || set_id_dropped || attributes_left > 0) {
    std::lock_guard hold(mutex_);
    owners_kept_ += owner_kept || group_kept ? 1 : 0;
    set_ids_dropped_ += set_id_dropped ? 1 : 0;
    attributes_left_ += attributes_left;
  }
  return {};
}

std::vector<std::string> Applier::notes() const {
  std::lock_guard hold(mutex_);
  std::vector<std::string> notes;
  if (owners_kept_ > 0) {
    notes.push_back(fmt::format("{} entries belong to who restored them: only root may give files to others",
                                owners_kept_));
  }
  if (set_ids_dropped_ > 0) {
    notes.push_back(
        fmt::format("{} entries lost their set-user-ID and set-group-ID bits, which may not be set here",
                    set_ids_dropped_));
  }
  if (attributes_left_ > 0) {
    notes.push_back(fmt::format(
        "{} extended attributes were left out: this user or filesystem may not have them", attributes_left_));
  }
  if (devices_left_ > 0) {
    notes.push_back(fmt::format("{} device nodes were left out: only root may make them", devices_left_));
  }
  return notes;
}

}  // namespace kuramori::files
