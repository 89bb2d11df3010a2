#include "source/postgres/recovery_place.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>

#include "os/file.h"
#include "source/postgres/backup_label.h"
#include "source/postgres/control_file.h"

namespace kuramori::postgres {
namespace {

constexpr int kAsidesASecondMax = 100;  // old copies kept of one second

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

// `path` is `folder` or below it.
bool is_within(std::string_view path, std::string_view folder) {
  if (folder.empty() || !path.starts_with(folder)) return false;
  return path.size() == folder.size() || folder.ends_with('/') || path[folder.size()] == '/';
}

// With what exists of it resolved; what does not exist yet is appended as it stands.
std::string real_path(const std::string& path) {
  std::string head = without_slash(path), tail;
  while (true) {
    char resolved[PATH_MAX];
    if (::realpath(head.c_str(), resolved)) {
      std::string base = resolved;
      return tail.empty() ? base : join_path(base, tail);
    }
    if (head == "/" || head == ".") return path;
    const size_t slash = head.rfind('/');
    const std::string name = slash == std::string::npos ? head : head.substr(slash + 1);
    tail = tail.empty() ? name : join_path(name, tail);
    head = folder_of(head);
  }
}

Result<bool> is_mount_point(const std::string& path) {
  TRY_ASSIGN(FileStatus self, status_of(path));
  TRY_ASSIGN(FileStatus parent, status_of(join_path(path, "..")));
  return self.device != parent.device || self.inode == parent.inode;
}

Result<bool> is_empty(const std::string& path) {
  TRY_ASSIGN(auto entries, list_folder(path));
  // What mkfs puts at the root of a new filesystem is nobody's data.
  return std::ranges::all_of(entries, [](const FolderEntry& entry) { return entry.name == "lost+found"; });
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> found;
  auto entries = list_folder(std::string("/proc"));
  if (!entries) return found;
  for (const auto& entry : *entries) {
    pid_t pid = 0;
    auto [end, error] = std::from_chars(entry.name.data(), entry.name.data() + entry.name.size(), pid);
    if (error == std::errc() && end == entry.name.data() + entry.name.size()) found.push_back(pid);
  }
  return found;
}

bool is_postgres(pid_t pid) {
  auto name = read_file(fmt::format("/proc/{}/comm", pid), 64);
  if (!name) return false;
  return as_text(*name).starts_with("postgres") || as_text(*name).starts_with("postmaster");
}

}  // namespace

Result<std::optional<pid_t>> running_server(const std::string& data_directory) {
  struct stat here;
  if (::stat(data_directory.c_str(), &here) != 0) return std::optional<pid_t>();
  // Every postgres process works in its data directory, whatever has become of postmaster.pid.
  for (pid_t pid : all_processes()) {
    struct stat there;
    if (::stat(fmt::format("/proc/{}/cwd", pid).c_str(), &there) != 0) continue;
    if (there.st_dev == here.st_dev && there.st_ino == here.st_ino && is_postgres(pid) && is_alive(pid)) {
      return std::optional(pid);
    }
  }
  auto bytes = read_file(join_path(data_directory, "postmaster.pid"), 4096);
  if (!bytes) {
    if (bytes.error().kind == ErrorKind::kNotFound) return std::optional<pid_t>();
    return std::move(bytes).error();
  }
  // Line 1: the postmaster's pid; line 7: shared memory key and id.
  std::vector<std::string> lines;
  for (std::string_view rest = as_text(*bytes); !rest.empty();) {
    const size_t end = rest.find('\n');
    lines.emplace_back(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  if (lines.empty()) return std::optional<pid_t>();
  const auto pid = static_cast<pid_t>(std::strtol(lines[0].c_str(), nullptr, 10));
  if (pid > 1 && is_alive(pid)) {
    // Its folder could not be seen (another user's process): trust the file. Seen and elsewhere: a reused
    // number.
    struct stat there;
    const bool can_see = ::stat(fmt::format("/proc/{}/cwd", pid).c_str(), &there) == 0;
    if (!can_see) return std::optional(pid);
  }
  if (lines.size() >= 7) {
    unsigned long key = 0;
    int id = -1;
    if (std::sscanf(lines[6].c_str(), "%lu %d", &key, &id) == 2 && id >= 0) {
      struct shmid_ds memory;
      if (::shmctl(id, IPC_STAT, &memory) == 0 && memory.shm_nattch > 0 &&
          static_cast<unsigned long>(memory.shm_perm.__key) == key) {
        return std::optional(memory.shm_cpid);  // backends that outlived their postmaster
      }
    }
  }
  return std::optional<pid_t>();
}

Result<TargetState> check_target(const std::string& given, uint64_t system_id, TargetUse use) {
  const std::string path = without_slash(given);
  const std::string elsewhere = "choose a new folder with --to";
  if (path.empty() || path == "/") {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" cannot be restored into", given), "", elsewhere);
  }
  TRY_ASSIGN(auto status, status_if_there(path));
  if (!status) return TargetState::kAbsent;
  // A link to a folder is that folder.
  struct stat seen;
  if (::stat(path.c_str(), &seen) != 0 || !S_ISDIR(seen.st_mode)) {
    return fail(ErrorKind::kRefused, fmt::format("{} is not a folder", path), "", elsewhere);
  }
  TRY_ASSIGN(bool empty, is_empty(path));
  if (empty) return TargetState::kEmpty;

  TRY_ASSIGN(auto pid, running_server(path));
  if (pid) {
    return fail(ErrorKind::kRefused,
                fmt::format("a PostgreSQL server is running in {} (process {})", path, *pid),
                "a restore never writes into a running server's directory",
                "stop it first: pg_ctl stop -D " + path + ", or " + elsewhere);
  }
  if (use == TargetUse::kNew) {
    return fail(
        ErrorKind::kRefused, fmt::format("{} is not empty", path),
        "a restore goes into a new place unless told otherwise",
        elsewhere + ", or give --overwrite (keeps what is there as .old-…) or --delta (changes it in place)");
  }
  auto control = read_file(join_path(path, "global/pg_control"), size_t{1} << 16);
  if (!control) {
    return fail(ErrorKind::kRefused, fmt::format("{} is not empty and no PostgreSQL data directory", path),
                control.error().what + (control.error().why.empty() ? "" : ": " + control.error().why),
                elsewhere);
  }
  auto parsed = parse_control_file(*control);
  if (!parsed) {
    return fail(ErrorKind::kRefused, fmt::format("{} holds a control file that cannot be read", path),
                parsed.error().what, "move the folder away yourself, or " + elsewhere);
  }
  if (parsed->system_id != system_id) {
    return fail(ErrorKind::kRefused, fmt::format("{} holds another cluster", path),
                fmt::format("its system id is {}, the snapshot's is {}", parsed->system_id, system_id),
                elsewhere);
  }
  if (use == TargetUse::kOverwrite) {
    TRY_ASSIGN(bool mounted, is_mount_point(path));
    if (mounted) {
      return fail(ErrorKind::kRefused, fmt::format("{} is a mount point and cannot be moved aside", path),
                  "--overwrite keeps what is there beside it, and a mount point has no beside",
                  "restore into a folder below it, change it in place with --delta, or empty it yourself");
    }
  }
  return TargetState::kStoppedCluster;
}

Result<std::string> move_aside(const std::string& given, Time now) {
  const std::string path = without_slash(given);
  TRY_ASSIGN(bool mounted, is_mount_point(path));
  if (mounted)
    return fail(ErrorKind::kRefused, fmt::format("{} is a mount point and cannot be moved aside", path));
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count();
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
  const std::string wanted = path + ".old-" + stamp;
  std::string aside = wanted;
  // Twice within a second: both are kept.
  for (int next = 2; ::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, aside.c_str(), RENAME_NOREPLACE) != 0;
       ++next) {
    if (errno != EEXIST || next > kAsidesASecondMax)
      return system_error(fmt::format("cannot move {} to {}", path, aside), errno);
    aside = fmt::format("{}-{}", wanted, next);
  }
  TRY(sync_folder(folder_of(path)));
  return aside;
}

Result<std::vector<Tablespace>> place_tablespaces(
    std::string_view map, const std::string& target,
    const std::vector<std::pair<std::string, std::string>>& mapping,
    const std::string& original_data_directory, LinkedPlace linked) {
  TRY_ASSIGN(auto links, parse_tablespace_map(map));
  std::vector<Tablespace> list;
  for (auto& link : links) {
    const bool in_place = !link.path.starts_with('/');
    list.push_back({.oid = link.oid, .original = std::move(link.path), .in_place = in_place});
  }

  const std::string root = without_slash(target);
  std::vector<bool> used(mapping.size(), false);
  for (auto& space : list) {
    if (space.in_place) {
      space.place = space.original;
      continue;
    }
    for (size_t i = 0; i < mapping.size(); ++i) {
      const auto& [old_name, new_place] = mapping[i];
      if (without_slash(old_name) != without_slash(space.original) && old_name != std::to_string(space.oid))
        continue;
      if (!space.place.empty()) {
        return fail(ErrorKind::kUsage, fmt::format("tablespace {} is mapped twice", space.original), "",
                    "give --tablespace OLD=NEW once for each");
      }
      used[i] = true;
      space.place = without_slash(new_place);
    }
    if (space.place.empty()) space.place = fmt::format("{}.tablespaces/{}", real_path(root), space.oid);
    if (!space.place.starts_with('/')) {
      return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no place for a tablespace", space.place),
                  "it must be an absolute path", "--tablespace " + space.original + "=/new/place");
    }
  }
  for (size_t i = 0; i < mapping.size(); ++i) {
    if (used[i]) continue;
    std::string known;
    for (const auto& space : list)
      known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", space.original, space.oid);
    return fail(ErrorKind::kUsage, fmt::format("there is no tablespace \"{}\"", mapping[i].first),
                known.empty() ? "the snapshot has none" : "the snapshot has " + known,
                "--tablespace takes the original path or the oid before the =");
  }
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i].in_place) continue;
    const std::string place = real_path(list[i].place);
    for (size_t k = 0; k < i; ++k) {
      if (list[k].in_place) continue;
      const std::string other = real_path(list[k].place);
      if (is_within(place, other) || is_within(other, place)) {
        return fail(
            ErrorKind::kUsage,
            fmt::format("tablespaces {} and {} would share {}", list[k].original, list[i].original, place),
            "", "give each a folder of its own with --tablespace OLD=NEW");
      }
    }
    if (is_within(place, real_path(root))) {
      return fail(ErrorKind::kUsage, fmt::format("{} is inside the restored data directory", place),
                  "a tablespace there would be copied and dropped with it", "choose a place outside " + root);
    }
    // The original server's own directory, or a tablespace of it that is in use: never written to (P48).
    if (!original_data_directory.empty() && is_within(place, real_path(original_data_directory)) &&
        real_path(original_data_directory) != real_path(root)) {
      return fail(ErrorKind::kRefused, fmt::format("{} is inside the original data directory", place), "",
                  "choose another place with --tablespace OLD=NEW");
    }
    TRY_ASSIGN(auto status, status_if_there(place));
    if (!status) continue;
    const std::string link = join_path(join_path(root, "pg_tblspc"), std::to_string(list[i].oid));
    if (linked == LinkedPlace::kMayHoldData && real_path(link) == place) continue;
    TRY_ASSIGN(bool empty, status->type == FileType::kFolder ? is_empty(place) : Result<bool>(false));
    if (!empty) {
      return fail(ErrorKind::kRefused, fmt::format("{} is not empty", place),
                  fmt::format("tablespace {} ({}) would be restored there", list[i].oid, list[i].original),
                  fmt::format("choose another place: --tablespace {}=/new/place", list[i].original));
    }
  }
  return list;
}

Result<void> link_tablespaces(const std::string& data_directory, const std::vector<Tablespace>& tablespaces) {
  const std::string folder = join_path(data_directory, "pg_tblspc");
  TRY(make_folders(folder));
  TRY_ASSIGN(auto entries, list_folder(folder));
  for (const FolderEntry& entry : entries) {
    if (entry.type == FileType::kSymlink) TRY(remove_file(join_path(folder, entry.name)));
  }
  bool any = false;
  for (const auto& space : tablespaces) {
    if (space.in_place) continue;
    any = true;
    // The server's user, who owns the place, must pass through what is made above it.
    TRY(make_folders(folder_of(space.place), 0711));
    TRY(make_folders(space.place));
    const std::string link = join_path(folder, std::to_string(space.oid));
    if (::symlink(space.place.c_str(), link.c_str()) != 0) {
      return system_error(fmt::format("cannot link {} to {}", link, space.place), errno);
    }
  }
  TRY(sync_folder(folder));
  if (!any) return remove_file(join_path(data_directory, "tablespace_map"));
  std::vector<TablespaceLink> links;
  for (const auto& space : tablespaces) {
    if (!space.in_place) links.push_back({space.oid, space.place});
  }
  return write_file_durably(join_path(data_directory, "tablespace_map"),
                            as_bytes(compose_tablespace_map(links)));
}

Result<void> check_no_way_out(const std::string& data_directory, const std::vector<std::string>& allowed) {
  const std::string root = real_path(data_directory);
  std::vector<std::string> fine{root};
  for (const auto& path : allowed) fine.push_back(real_path(path));
  std::vector<std::string> folders{root};
  while (!folders.empty()) {
    const std::string folder = std::move(folders.back());
    folders.pop_back();
    TRY_ASSIGN(auto entries, list_folder(folder));
    for (const auto& entry : entries) {
      const std::string path = join_path(folder, entry.name);
      if (entry.type == FileType::kFolder) folders.push_back(path);
      if (entry.type != FileType::kSymlink) continue;
      const std::string end = real_path(path);
      if (std::ranges::none_of(fine, [&](const std::string& inside) { return is_within(end, inside); })) {
        return fail(ErrorKind::kRefused, fmt::format("{} leads to {}, outside the restored copy", path, end),
                    "a server started on it could change the original's files",
                    "restore again with --tablespace OLD=NEW for it");
      }
    }
  }
  // tablespace_map makes links when recovery begins.
  auto map = read_file(join_path(root, "tablespace_map"));
  if (!map) {
    if (map.error().kind == ErrorKind::kNotFound) return {};
    return std::move(map).error();
  }
  TRY_ASSIGN(auto links, parse_tablespace_map(as_text(*map)));
  for (const auto& link : links) {
    const std::string end = real_path(link.path.starts_with('/') ? link.path : join_path(root, link.path));
    if (std::ranges::none_of(fine, [&](const std::string& inside) { return is_within(end, inside); })) {
      return fail(ErrorKind::kRefused,
                  fmt::format("tablespace_map leads to {}, outside the restored copy", end),
                  "recovery would make a link to it", "restore again with --tablespace OLD=NEW for it");
    }
  }
  return {};
}

Result<Account> server_account(std::string_view name) {
  if (::geteuid() != 0) return Account{::geteuid(), ::getegid()};
  char buffer[4096];
  passwd entry{}, *found = nullptr;
  const std::string text(name);
  ::getpwnam_r(text.c_str(), &entry, buffer, sizeof buffer, &found);
  if (!found || found->pw_uid == 0) {
    return fail(ErrorKind::kRefused,
                fmt::format("there is no user {} to own the restored data directory", name),
                "PostgreSQL refuses to run as root",
                "make one (adduser --system postgres), or restore as another user");
  }
  return Account{found->pw_uid, found->pw_gid};
}

Result<void> give_to(const std::string& path, Account account, bool group_access) {
  const bool may_chown = ::geteuid() == 0;
  std::vector<std::string> folders{path};
  while (may_chown && !folders.empty()) {
    const std::string folder = std::move(folders.back());
    folders.pop_back();
    if (::lchown(folder.c_str(), account.uid, account.gid) != 0)
      return system_error("cannot give away " + folder, errno);
    TRY_ASSIGN(auto entries, list_folder(folder));
    for (const auto& entry : entries) {
      const std::string below = join_path(folder, entry.name);
      if (entry.type == FileType::kFolder) {
        folders.push_back(below);
      } else if (::lchown(below.c_str(), account.uid, account.gid) != 0) {
        return system_error("cannot give away " + below, errno);
      }
    }
  }
  if (::chmod(path.c_str(), group_access ? 0750 : 0700) != 0)
    return system_error("cannot close " + path, errno);
  return {};
}

}  // namespace kuramori::postgres
