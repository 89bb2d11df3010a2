#include "store/local/vault_folder.h"

#include <fmt/core.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "os/lock.h"

namespace kuramori {
namespace {

constexpr Duration kUnfinishedUploadAgeMin = std::chrono::hours(24);

std::string_view parent_of(std::string_view name) {
  size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : name.substr(0, slash);
}

std::string leaf_of(std::string_view name) {
  size_t slash = name.rfind('/');
  return std::string(slash == std::string_view::npos ? name : name.substr(slash + 1));
}

Error no_such_object(std::string_view name, const std::string& place) {
  return fail(ErrorKind::kNotFound, fmt::format("there is no object \"{}\" in {}", name, place));
}

}  // namespace

PendingFile::PendingFile(PendingFile&& other) noexcept
    : folder_(other.folder_), name_(std::exchange(other.name_, {})), fd_(std::move(other.fd_)) {}

PendingFile::~PendingFile() {
  if (!name_.empty()) ::unlinkat(folder_->get(), name_.c_str(), 0);
}

VaultFolder::VaultFolder(VaultFolder&& other) noexcept
    : path_(std::move(other.path_)),
      root_(std::move(other.root_)),
      options_(other.options_),
      pending_(std::move(other.pending_)),
      durable_(std::move(other.durable_)) {}

Result<VaultFolder> VaultFolder::open(const std::string& root, LocalStoreOptions options) {
  Result<Fd> folder = open_folder(root);
  if (!folder) return std::move(folder).error().within("open the vault's folder");
  return VaultFolder(root, std::move(*folder), options);
}

Result<void> VaultFolder::check_present() {
  TRY_ASSIGN(FileStatus status, status_of(root_, path_));
  if (status.links > 0) return {};
  return fail(ErrorKind::kFailed, fmt::format("the vault's folder {} was removed while it was open", path_));
}

// --- folders -----------------------------------------------------------------------------------------

Result<std::optional<Fd>> VaultFolder::open_parent_if_there(std::string_view name) {
  std::string_view parent = parent_of(name);
  return open_beneath_if_there(root_, parent.empty() ? "." : std::string(parent), O_RDONLY | O_DIRECTORY);
}

bool VaultFolder::is_durable(std::string_view folder) {
  std::lock_guard hold(mutex_);
  return durable_.contains(folder);
}

Result<Fd> VaultFolder::make_parent(std::string_view name) {
  std::string parent(parent_of(name));
  if (parent.empty() || is_durable(parent)) {
    TRY_ASSIGN(std::optional<Fd> opened, open_parent_if_there(name));
    if (opened) return std::move(*opened);
    std::lock_guard hold(mutex_);
    durable_.clear();  // somebody removed folders: what we knew no longer holds
  }
  // From the top: make each missing folder in the one before, and sync the one before.
  TRY_ASSIGN(Fd current, open_beneath(root_, ".", O_RDONLY | O_DIRECTORY));
  size_t begin = 0;
  while (begin < parent.size()) {
    size_t end = std::min(parent.find('/', begin), parent.size());
    std::string part = parent.substr(begin, end - begin);
    bool made = ::mkdirat(current.get(), part.c_str(), options_.folder_mode) == 0;
    if (!made && errno != EEXIST) {
      return system_error(fmt::format("make the folder \"{}\" in {}", parent.substr(0, end), path_), errno);
    }
    Result<Fd> next = open_beneath(current, part, O_RDONLY | O_DIRECTORY);
    if (!next && !made && next.error().kind != ErrorKind::kRefused) {
      return fail(ErrorKind::kRefused, fmt::format("\"{}\" cannot be stored in {}", name, path_),
                  fmt::format("\"{}\" is an object there, not a folder", parent.substr(0, end)));
    }
    if (!next) return next;
    // The mode asked for, whatever the umask took from it.
    if (made && ::fchmod(next->get(), options_.folder_mode) != 0) {
      return system_error(fmt::format("set the mode of \"{}\"", parent.substr(0, end)), errno);
    }
    if (made || !is_durable(parent.substr(0, end))) {
      TRY(sync_file(current, path_));
      std::lock_guard hold(mutex_);
      durable_.insert(parent.substr(0, end));
    }
    current = std::move(*next);
    begin = end + 1;
  }
  return current;
}

Result<const Fd*> VaultFolder::pending_folder() {
  std::lock_guard hold(mutex_);
  if (pending_.valid()) {
    TRY_ASSIGN(FileStatus status, status_of(pending_, kPendingFolder));
    if (status.links > 0) return &pending_;
    return fail(ErrorKind::kFailed,
                fmt::format("{}/{} was removed while the vault was open", path_, kPendingFolder));
  }
  std::string name(kPendingFolder);
  if (::mkdirat(root_.get(), name.c_str(), options_.folder_mode) != 0 && errno != EEXIST) {
    return system_error(fmt::format("make the folder {}/{}", path_, name), errno);
  }
  TRY_ASSIGN(pending_, open_beneath(root_, name, O_RDONLY | O_DIRECTORY));
  return &pending_;
}

// --- an object comes ---------------------------------------------------------------------------------

Result<PendingFile> VaultFolder::make_pending() {
  TRY_ASSIGN(const Fd* folder, pending_folder());
  std::array<uint8_t, 16> raw;
  system_random().fill(raw);
  std::string name = to_hex(raw);
  TRY_ASSIGN(Fd fd, open_at(*folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  PendingFile pending(*folder, name, std::move(fd));
  // Held until the file is closed: tells clean_unfinished_uploads that its writer lives.
  TRY(try_flock(pending.fd_, name));
  if (::fchmod(pending.fd_.get(), options_.file_mode) != 0) {
    return system_error(fmt::format("set the mode of a new file in {}", path_), errno);
  }
  return pending;
}

Result<void> VaultFolder::link_without_replace(const PendingFile& pending, const Fd& parent,
                                               const std::string& leaf) {
  if (::renameat2(pending.folder_->get(), pending.name_.c_str(), parent.get(), leaf.c_str(),
                  RENAME_NOREPLACE) == 0) {
    return {};
  }
  int code = errno;
  if (code == EINVAL || code == ENOSYS) {
    // This filesystem cannot rename without replacing; link() never replaces. Over NFS a repeated request
    // may say EEXIST of its own success: the link count tells.
    bool linked = ::linkat(pending.folder_->get(), pending.name_.c_str(), parent.get(), leaf.c_str(), 0) == 0;
    code = errno;
    if (!linked && code == EEXIST) {
      TRY_ASSIGN(FileStatus mine, status_of(pending.fd_, leaf));
      linked = mine.links > 1;
    }
    if (linked) {
      ::unlinkat(pending.folder_->get(), pending.name_.c_str(), 0);
      return {};
    }
  }
  return system_error(fmt::format("put \"{}\" in place in {}", leaf, path_), code);
}

Result<void> VaultFolder::publish(PendingFile& pending, std::string_view name) {
  CHECK(!pending.name_.empty());
  // First the bytes, then the name, then the folder: after a power cut a name without its bytes is
  // impossible.
  TRY(sync_file(pending.fd_, name));
  TRY_ASSIGN(Fd parent, make_parent(name));
  std::string leaf = leaf_of(name);
  Result<void> linked = link_without_replace(pending, parent, leaf);
  if (linked) {
    pending.name_.clear();
    Result<void> synced = sync_file(parent, name);
    if (synced) return {};
    return fail(ErrorKind::kUnknown,
                fmt::format("\"{}\" is in place in {} but may not survive a power cut", name, path_),
                std::move(synced).error().why);
  }
  if (linked.error().kind != ErrorKind::kExists) return linked;
  TRY_ASSIGN(FileStatus there, status_at(parent, leaf));
  if (there.type != FileType::kFile) {
    return fail(ErrorKind::kRefused, fmt::format("\"{}\" cannot be stored in {}", name, path_),
                "a folder or a link has that name there");
  }
  // "It exists" is a confirmation too: the winner may not have synced the folder yet.
  TRY(sync_file(parent, name));
  return fail(ErrorKind::kExists, fmt::format("\"{}\" exists in {}", name, path_));
}

// --- an object is read, and goes ---------------------------------------------------------------------

Result<Fd> VaultFolder::open_object(std::string_view name) {
  // O_NONBLOCK: a FIFO put there by mistake must not hang us.
  Result<std::optional<Fd>> fd =
      open_beneath_if_there(root_, std::string(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!fd) return std::move(fd).error().within(path_);
  if (!*fd) {
    TRY(check_present());
    return no_such_object(name, path_);
  }
  TRY_ASSIGN(FileStatus status, status_of(**fd, name));
  if (status.type == FileType::kFolder) return no_such_object(name, path_);
  if (status.type != FileType::kFile) {
    return fail(ErrorKind::kRefused, fmt::format("\"{}\" in {} is not a plain file", name, path_));
  }
  return std::move(**fd);
}

Result<FileStatus> VaultFolder::object_status(std::string_view name) {
  TRY_ASSIGN(Fd fd, open_object(name));
  return status_of(fd, name);
}

Result<void> VaultFolder::remove(std::string_view name) {
  Result<std::optional<Fd>> parent = open_parent_if_there(name);
  if (!parent) return std::move(parent).error().within(path_);
  if (!*parent) return check_present();
  if (::unlinkat((*parent)->get(), leaf_of(name).c_str(), 0) != 0 && errno != ENOENT && errno != EISDIR) {
    return system_error(fmt::format("remove \"{}\" from {}", name, path_), errno);
  }
  // Also when it was absent: an earlier removal may not have become durable.
  Result<void> synced = sync_file(**parent, name);
  if (synced) return {};
  return fail(ErrorKind::kUnknown,
              fmt::format("\"{}\" is removed from {} but may come back after a power cut", name, path_),
              std::move(synced).error().why);
}

// --- what was left behind ----------------------------------------------------------------------------

Result<size_t> clean_unfinished_uploads(const std::string& root) {
  TRY_ASSIGN(Fd folder, open_folder(root));
  Result<Fd> pending = open_beneath(folder, std::string(kPendingFolder), O_RDONLY | O_DIRECTORY);
  if (!pending && pending.error().kind == ErrorKind::kNotFound) return size_t{0};
  if (!pending) return std::move(pending).error();
  TRY_ASSIGN(std::vector<FolderEntry> entries, list_folder(*pending, root));
  Time old = system_clock().now() - kUnfinishedUploadAgeMin;
  size_t removed = 0;
  for (const FolderEntry& entry : entries) {
    if (entry.type != FileType::kFile) continue;
    Result<FileStatus> status = status_at(*pending, entry.name);
    if (!status || status->modified > old) continue;
    // The lock decides; the age only keeps us away from a file whose writer has not locked it yet.
    Result<Fd> fd = open_at(*pending, entry.name, O_RDONLY | O_NOFOLLOW);
    if (!fd) continue;
    Result<bool> free = try_flock(*fd, entry.name);
    if (free && *free && ::unlinkat(pending->get(), entry.name.c_str(), 0) == 0) ++removed;
  }
  return removed;
}

}  // namespace kuramori
