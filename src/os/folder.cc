// The part of os/file.h about folders and what stands in them.
#include <dirent.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "os/file.h"

namespace kuramori {
namespace {

FileType type_of_mode(uint32_t mode) {
  if (S_ISREG(mode)) return FileType::kFile;
  if (S_ISDIR(mode)) return FileType::kFolder;
  if (S_ISLNK(mode)) return FileType::kSymlink;
  return FileType::kOther;
}

Time time_of(const statx_timestamp& stamp) {
  return from_unix_ns(stamp.tv_sec * 1'000'000'000 + stamp.tv_nsec);
}

Result<FileStatus> status_raw(int folder, const char* path, int flags, std::string_view name) {
  struct statx raw;
  if (::statx(folder, path, flags | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS | STATX_BTIME, &raw) != 0) {
    return system_error(fmt::format("look at \"{}\"", name), errno);
  }
  FileStatus status;
  status.type = type_of_mode(raw.stx_mode);
  status.device = makedev(raw.stx_dev_major, raw.stx_dev_minor);
  status.inode = raw.stx_ino;
  status.size = raw.stx_size;
  status.allocated = raw.stx_blocks * 512;
  status.mode = raw.stx_mode & 07777;
  status.uid = raw.stx_uid;
  status.gid = raw.stx_gid;
  status.links = raw.stx_nlink;
  status.rdev = makedev(raw.stx_rdev_major, raw.stx_rdev_minor);
  status.modified = time_of(raw.stx_mtime);
  status.changed = time_of(raw.stx_ctime);
  if ((raw.stx_mask & STATX_BTIME) != 0) status.born = time_of(raw.stx_btime);
  return status;
}

Result<void> remove_children(Fd folder, uint64_t device, const std::string& path);

Result<void> remove_child(const Fd& folder, const FolderEntry& entry, uint64_t device,
                          const std::string& path) {
  if (entry.type == FileType::kFolder) {
    TRY_ASSIGN(Fd child, open_at(folder, entry.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY_ASSIGN(FileStatus status, status_of(child, path));
    if (status.device != device) {
      return fail(ErrorKind::kRefused, fmt::format("remove \"{}\"", path),
                  "another filesystem is mounted there");
    }
    TRY(remove_children(std::move(child), device, path));
  }
  int flags = entry.type == FileType::kFolder ? AT_REMOVEDIR : 0;
  if (::unlinkat(folder.get(), entry.name.c_str(), flags) != 0 && errno != ENOENT) {
    return system_error(fmt::format("remove \"{}\"", path), errno);
  }
  return {};
}

Result<void> remove_children(Fd folder, uint64_t device, const std::string& path) {
  TRY_ASSIGN(std::vector<FolderEntry> entries, list_folder(folder, path));
  for (const FolderEntry& entry : entries)
    TRY(remove_child(folder, entry, device, join_path(path, entry.name)));
  return {};
}

}  // namespace

Result<FileStatus> status_of(const std::string& path) {
  return status_raw(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, path);
}

Result<FileStatus> status_of(const Fd& fd, std::string_view name) {
  return status_raw(fd.get(), "", AT_EMPTY_PATH, name);
}

Result<FileStatus> status_at(const Fd& folder, const std::string& name) {
  return status_raw(folder.get(), name.c_str(), AT_SYMLINK_NOFOLLOW, name);
}

Result<std::optional<FileStatus>> status_if_there(const std::string& path) {
  Result<FileStatus> status = status_of(path);
  if (status) return std::optional<FileStatus>(*status);
  if (status.error().kind == ErrorKind::kNotFound) return std::optional<FileStatus>();
  return std::move(status).error();
}

Result<std::string> read_link(const std::string& path) {
  std::string target(4096, '\0');
  ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
  if (size < 0) return system_error(fmt::format("read the link \"{}\"", path), errno);
  target.resize(static_cast<size_t>(size));
  return target;
}

std::string folder_of(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  while (slash > 0 && path[slash - 1] == '/') --slash;
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

std::string join_path(std::string_view folder, std::string_view name) {
  if (folder.empty()) return std::string(name);
  if (folder.back() == '/') return fmt::format("{}{}", folder, name);
  return fmt::format("{}/{}", folder, name);
}

Result<void> sync_folder(const std::string& path) {
  TRY_ASSIGN(Fd fd, open_folder(path));
  return sync_file(fd, path);
}

Result<void> make_folders(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) return sync_folder(folder_of(path));
  int code = errno;
  if (code == ENOENT && folder_of(path) != path) {
    TRY(make_folders(folder_of(path), mode));
    if (::mkdir(path.c_str(), mode) == 0) return sync_folder(folder_of(path));
    code = errno;
  }
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
  if (code == EEXIST) code = ENOTDIR;
  return system_error(fmt::format("make the folder \"{}\"", path), code);
}

Result<void> remove_tree_at(const Fd& folder, const std::string& name) {
  auto status = status_at(folder, name);
  if (!status && status.error().kind == ErrorKind::kNotFound) return {};
  if (!status) return std::move(status).error();
  const bool is_folder = status->type == FileType::kFolder;
  if (is_folder) {
    TRY_ASSIGN(Fd opened, open_at(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY(remove_children(std::move(opened), status->device, name));
  }
  if (::unlinkat(folder.get(), name.c_str(), is_folder ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT)
    return system_error(fmt::format("remove \"{}\"", name), errno);
  return {};
}

Result<void> remove_tree(const std::string& path) {
  Result<FileStatus> status = status_of(path);
  if (!status && status.error().kind == ErrorKind::kNotFound) return {};
  if (!status) return std::move(status).error();
  bool is_folder = status->type == FileType::kFolder;
  if (is_folder) {
    TRY_ASSIGN(Fd folder, open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY(remove_children(std::move(folder), status->device, path));
  }
  if (::unlinkat(AT_FDCWD, path.c_str(), is_folder ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT) {
    return system_error(fmt::format("remove \"{}\"", path), errno);
  }
  return {};
}

Result<void> remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return system_error(fmt::format("remove \"{}\"", path), errno);
  }
  return sync_folder(folder_of(path));
}

Result<std::vector<FolderEntry>> list_folder(const Fd& folder, std::string_view name) {
  // A descriptor of its own: closedir() closes it, and the caller's position stays.
  TRY_ASSIGN(Fd own, open_at(folder, ".", O_RDONLY | O_DIRECTORY));
  DIR* stream = ::fdopendir(own.get());
  if (stream == nullptr) return system_error(fmt::format("list \"{}\"", name), errno);
  own.release();
  std::unique_ptr<DIR, int (*)(DIR*)> closer(stream, ::closedir);

  std::vector<FolderEntry> entries;
  for (;;) {
    errno = 0;
    dirent* raw = ::readdir(stream);
    if (raw == nullptr) {
      if (errno != 0) return system_error(fmt::format("list \"{}\"", name), errno);
      break;
    }
    std::string_view entry_name = raw->d_name;
    if (entry_name == "." || entry_name == "..") continue;
    FolderEntry entry{.name = std::string(entry_name)};
    if (raw->d_type == DT_UNKNOWN) {
      Result<FileStatus> status = status_at(folder, entry.name);
      if (!status && status.error().kind == ErrorKind::kNotFound) continue;  // removed meanwhile
      if (!status) return std::move(status).error();
      entry.type = status->type;
    } else {
      entry.type = type_of_mode(DTTOIF(raw->d_type));
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(),
            [](const FolderEntry& a, const FolderEntry& b) { return a.name < b.name; });
  return entries;
}

Result<std::vector<FolderEntry>> list_folder(const std::string& path) {
  TRY_ASSIGN(Fd folder, open_folder(path));
  return list_folder(folder, path);
}

Result<TemporaryFolder> TemporaryFolder::make(std::string_view prefix, std::string parent) {
  if (parent.empty()) {
    const char* from_environment = std::getenv("TMPDIR");
    parent = from_environment != nullptr && *from_environment != '\0' ? from_environment : "/tmp";
  }
  std::string path = join_path(parent, fmt::format("{}-XXXXXX", prefix));
  if (::mkdtemp(path.data()) == nullptr)
    return system_error(fmt::format("make a folder in \"{}\"", parent), errno);
  return TemporaryFolder(std::move(path));
}

TemporaryFolder::~TemporaryFolder() {
  if (!path_.empty()) (void)remove_tree(path_);
}

}  // namespace kuramori
