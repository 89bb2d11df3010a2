#include "source/files/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "source/files/subvolume.h"

namespace kuramori::files {
namespace {

int64_t to_ns(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

EntryType type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return EntryType::kDirectory;
    case S_IFLNK:
      return EntryType::kSymlink;
    case S_IFIFO:
      return EntryType::kFifo;
    case S_IFSOCK:
      return EntryType::kSocket;
    case S_IFCHR:
      return EntryType::kCharDevice;
    case S_IFBLK:
      return EntryType::kBlockDevice;
    default:
      return EntryType::kFile;
  }
}

constexpr int kListingsAgain = 3;  // where the kernel cannot tell what came
constexpr auto kClockStep = std::chrono::nanoseconds(std::chrono::milliseconds(20));  // at least the kernel's

// Whether a folder may have changed between two looks at it: its times move in steps of the kernel's clock,
// so what changed a moment ago may have changed since without a trace.
bool may_have_changed(const struct stat& before, const struct stat& after) {
  const auto nanoseconds = [](const timespec& time) {
    return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
  };
  if (nanoseconds(before.st_mtim) != nanoseconds(after.st_mtim) ||
      nanoseconds(before.st_ctim) != nanoseconds(after.st_ctim))
    return true;
  timespec now{};
  return ::clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0 &&
         std::abs(nanoseconds(now) - nanoseconds(after.st_mtim)) < kClockStep.count();
}

// What came into a folder since this began: new names and replaced ones, of things that may be gone again.
class Arrivals {
 public:
  explicit Arrivals(int folder) : fd_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    told_ = fd_.valid() && ::inotify_add_watch(fd_.get(), fmt::format("/proc/self/fd/{}", folder).c_str(),
                                               IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) >= 0;
  }
  std::vector<std::pair<std::string, uint8_t>> take() {
    std::vector<std::pair<std::string, uint8_t>> names;
    alignas(inotify_event) std::array<char, 16 << 10> buffer;
    for (ssize_t got; told_ && (got = ::read(fd_.get(), buffer.data(), buffer.size())) > 0;) {
      for (ssize_t at = 0; at < got;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
        at += static_cast<ssize_t>(sizeof *event + event->len);
        if (event->mask & IN_Q_OVERFLOW) told_ = false;
        if (event->len > 0) names.emplace_back(event->name, (event->mask & IN_ISDIR) ? DT_DIR : DT_UNKNOWN);
      }
    }
    return names;
  }
  // Not where the user may watch no more folders, nor when more came than the kernel keeps.
  bool all_were_told() const { return told_; }

 private:
  Fd fd_;
  bool told_ = false;
};

// O_NOATIME is the owner's right; who reads others' files leaves his trace.
int open_folder_quietly(int above, const char* name) {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  for (int flags : {kFlags | O_NOATIME, kFlags}) {
    int raw;
    do {
      raw = ::openat(above, name, flags);
    } while (raw < 0 && errno == EINTR);
    if (raw >= 0 || errno != EPERM) return raw;
  }
  return -1;
}

// What the kernel shows of itself: no files of anybody, some of them without end.
bool is_of_the_kernel(int folder) {
  struct statfs status;
  if (::fstatfs(folder, &status) != 0) return false;
  constexpr std::array<unsigned long, 11> kTypes = {
      PROC_SUPER_MAGIC,   SYSFS_MAGIC,         DEBUGFS_MAGIC, TRACEFS_MAGIC,
      CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, BPF_FS_MAGIC,  SECURITYFS_MAGIC,
      SELINUX_MAGIC,      DEVPTS_SUPER_MAGIC,  BINFMTFS_MAGIC};
  return std::ranges::find(kTypes, static_cast<unsigned long>(status.f_type)) != kTypes.end();
}

bool is_nfs(int folder) {
  struct statfs status;
  return ::fstatfs(folder, &status) == 0 && static_cast<unsigned long>(status.f_type) == NFS_SUPER_MAGIC;
}

// Where a link points; -errno.
int read_link_at(int folder, const char* name, size_t size, std::string& target) {
  for (size_t room = size + 1;; room *= 2) {  // the size is a hint: some filesystems say 0
    target.resize(std::max<size_t>(room, 64));
    ssize_t got = ::readlinkat(folder, name, target.data(), target.size());
    if (got < 0) return -errno;
    if (static_cast<size_t>(got) == target.size()) continue;
    target.resize(static_cast<size_t>(got));
    return 0;
  }
}

}  // namespace

CaptureItem item_of(const struct stat& status, std::string path) {
  CaptureItem item;
  TreeEntry& entry = item.entry;
  entry.path = std::move(path);
  entry.type = type_of(status.st_mode);
  entry.mode = status.st_mode & 07777;
  entry.uid = status.st_uid;
  entry.gid = status.st_gid;
  entry.mtime_ns = to_ns(status.st_mtim);
  if (entry.type == EntryType::kFile) {
    entry.content = ContentKind::kBytes;
    entry.size = static_cast<uint64_t>(status.st_size);
  }
  if (entry.type == EntryType::kCharDevice || entry.type == EntryType::kBlockDevice)
    entry.rdev = status.st_rdev;
  item.device = status.st_dev;
  item.inode = status.st_ino;
  item.ctime_ns = to_ns(status.st_ctim);
  return item;
}

Walk::Walk(const FilesSettings& settings, const Places& places, std::set<std::string> unmounted,
           std::function<void(Defect)> on_defect, std::stop_token stop)
    : settings_(settings),
      places_(places),
      unmounted_(std::move(unmounted)),
      defect_(std::move(on_defect)),
      stop_(std::move(stop)),
      include_(settings.include),
      exclude_(settings.exclude),
      buffer_(kListBufferBytes) {}

Result<std::optional<CaptureItem>> Walk::next() {
  for (;;) {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the walk was stopped");
    if (!ready_.empty()) {
      std::optional<CaptureItem> item = std::move(ready_.front());
      ready_.pop_front();
      return item;
    }
    if (folders_.empty()) {
      if (place_ == places_.all().size()) {
        at_end_ = true;
        return std::optional<CaptureItem>();
      }
      begin(places_.all()[place_++]);
      continue;
    }
    Folder& folder = folders_.back();
    if (folder.at == folder.names.size()) {
      folders_.pop_back();
      continue;
    }
    if (!folder.fd.valid() && !opened_again(folder)) {
      folder.at = folder.names.size();
      continue;
    }
    visit(folder, folder.names[folder.at++]);
  }
}

void Walk::begin(const Place& place) {
  if (place.top && place.folder) {
    int raw = open_folder_quietly(place.fd.get(), ".");
    if (raw >= 0) {
      enter(Fd(raw), place.path, place.path.empty() ? 0 : place.path.size() + 1, nullptr, include_.empty(),
            false);
      return;
    }
    defect(place.path, errno);  // and its own entry follows
  }
  struct stat status;
  // Where it is remembered from earlier, as NFS does for up to a minute, it is asked for anew.
  struct statx asked;
  (void)::statx(place.fd.get(), place.name.c_str(), AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC,
                STATX_BASIC_STATS, &asked);
  if (::fstatat(place.fd.get(), place.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno != ENOENT || place.folder) defect(place.path, errno);
    return;
  }
  give(item_of(status, place.path));
}

bool Walk::excluded(const Folder& folder, std::string_view path, bool is_folder) const {
  return !exclude_.empty() &&
         exclude_.look(path.substr(folder.below), is_folder) == Patterns::Answer::kMatched;
}

bool Walk::included(const Folder& folder, std::string_view path, bool is_folder) const {
  return folder.included || include_.look(path.substr(folder.below), is_folder) == Patterns::Answer::kMatched;
}

void Walk::visit(Folder& folder, const Name& name) {
  std::string text = folder.bytes.substr(name.at, name.length);
  if (folder.inode == kSubvolumeInode && text == kSnapshotsFolder) return;  // of captures, ours or another's
  std::string path = folder.path.empty() ? text : folder.path + "/" + text;
  // Where the listing tells what it is, patterns are asked before the disk is.
  if (name.type != DT_UNKNOWN && (excluded(folder, path, name.type == DT_DIR) ||
                                  (name.type != DT_DIR && !included(folder, path, false)))) {
    ++counts_.excluded;
    return;
  }
  if (name.type == DT_DIR) {
    visit_folder(folder, text, std::move(path), 0);
  } else {
    visit_other(folder, text, std::move(path), 0);
  }
}

void Walk::visit_folder(Folder& above, const std::string& name, std::string path, int look) {
  int raw = open_folder_quietly(above.fd.get(), name.c_str());
  if (raw >= 0) {
    bool in = included(above, path, true);
    // `above` may move: entering makes a folder more.
    enter(Fd(raw), std::move(path), above.below, &above, in, true);
    return;
  }
  int code = errno;
  if (code == ENOENT) return;
  if ((code == ENOTDIR || code == ELOOP) && look < kLooksMax) {
    visit_other(above, name, std::move(path), look + 1);
    return;
  }
  defect(path, code);
  struct stat status;
  if (::fstatat(above.fd.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode))
    give(item_of(status, std::move(path)));
}

void Walk::visit_other(Folder& folder, const std::string& name, std::string path, int look) {
  struct stat status;
  Fd mounted;  // a file on which another is mounted: no snapshot has that one
  if (places_.is_left_out_of_snapshot(path)) {
    if (Result<Fd> live = places_.open_entry(path, O_PATH); live) mounted = std::move(*live);
  }
  const int looked = mounted.valid() ? ::fstatat(mounted.get(), "", &status, AT_EMPTY_PATH)
                                     : ::fstatat(folder.fd.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW);
  if (looked != 0) {
    if (errno != ENOENT) defect(std::move(path), errno);
    return;
  }
  bool is_folder = S_ISDIR(status.st_mode);
  if (excluded(folder, path, is_folder) || (!is_folder && !included(folder, path, false))) {
    ++counts_.excluded;  // the listing did not tell what it is, or it is something else by now
    return;
  }
  if (is_folder) {
    if (look >= kLooksMax) return defect(std::move(path), ELOOP);
    return visit_folder(folder, name, std::move(path), look + 1);
  }
  CaptureItem item = item_of(status, std::move(path));
  TreeEntry& entry = item.entry;
  if (entry.type == EntryType::kSymlink) {
    int code = -read_link_at(folder.fd.get(), name.c_str(), static_cast<size_t>(status.st_size), entry.link);
    if (code == ENOENT) return;
    if (code == EINVAL && look < kLooksMax) return visit_other(folder, name, std::move(entry.path), look + 1);
    if (code != 0) return defect(std::move(entry.path), code);
  }
  if (status.st_nlink > 1) {
    auto known = first_names_.find({item.device, item.inode});
    if (known != first_names_.end()) {
      entry.type = EntryType::kHardLink;
      entry.content = ContentKind::kNone;
      entry.size = 0;
      entry.rdev = 0;
      entry.link = known->second.path;
      if (--known->second.left == 0) first_names_.erase(known);
    } else if (first_names_.size() < kLinksMax) {
      first_names_.emplace(FileKey{item.device, item.inode}, FirstName{entry.path, status.st_nlink - 1});
    } else {
      ++counts_.links_forgotten;
    }
  }
  give(std::move(item));
}

void Walk::enter(Fd fd, std::string path, size_t below, const Folder* above, bool in, bool may_wait) {
  struct stat status;
  if (::fstat(fd.get(), &status) != 0) return defect(std::move(path), errno);
  const bool was_in_snapshot = above != nullptr && places_.is_in_snapshot(above->path);
  if (was_in_snapshot && status.st_ino == kNestedSubvolumeInode) places_.leave_out_of_snapshot(path);
  const bool is_outside = was_in_snapshot && places_.is_left_out_of_snapshot(path);
  if (is_outside && !look_outside_snapshot(path, fd, status)) return;
  CaptureItem item = item_of(status, path);
  const uint64_t top_device = above == nullptr ? item.device : above->top_device;
  const bool crosses = above != nullptr && item.device != above->device;
  bool stays_out = false;
  if (crosses && is_of_the_kernel(fd.get())) {
    ++counts_.kernel_filesystems;
    stays_out = true;
  } else if (settings_.one_filesystem && item.device != top_device) {
    ++counts_.other_filesystems;
    stays_out = true;
  }
  if (is_outside && !stays_out && counts_.outside_snapshots++ < kLiveNamedMax) live_folders_.push_back(path);
  if (!settings_.one_filesystem && unmounted_.contains(path))
    defect_({path, "what belongs there is not mounted"});
  const bool nfs = above != nullptr && !crosses ? above->nfs : is_nfs(fd.get());
  Folder folder{.fd = std::move(fd),
                .path = std::move(path),
                .below = below,
                .device = item.device,
                .inode = item.inode,
                .top_device = top_device,
                .nfs = nfs,
                .included = in};
  if (in || !may_wait) {
    give(std::move(item));
  } else {
    folder.waiting = std::move(item);
  }
  if (stays_out) return;
  if (!list(folder) && folder.waiting) {
    give(*std::move(folder.waiting));  // nobody knows whether something in it was asked for
    folder.waiting.reset();
  }
  folders_.push_back(std::move(folder));
  if (folders_.size() > kOpenFoldersMax) (void)folders_[folders_.size() - 1 - kOpenFoldersMax].fd.close();
}

bool Walk::look_outside_snapshot(const std::string& path, Fd& fd, struct stat& status) {
  Result<Fd> live = places_.open_entry(path, O_RDONLY | O_DIRECTORY);
  if (live && ::fstat(live->get(), &status) == 0) {
    fd = std::move(*live);
    return true;
  }
  // Deleted or unmounted since.
  if (live || live.error().kind != ErrorKind::kNotFound)
    defect_({path, live ? "it went away" : live.error().why});
  return false;
}

// Its names, sorted; false: not all could be read, which is a defect by now. A listing may miss what is there
// at every moment: btrfs gives a file that another is renamed over a new place in its folder, behind where a
// listing ends that has begun, and of a folder of ten thousand files that takes long enough to miss it each
// time (F2). So one that changed meanwhile is listed again, and what comes into it by then is told by the
// kernel.
bool Walk::list(Folder& folder) {
  struct stat before{}, after{};
  const bool known = ::fstat(folder.fd.get(), &before) == 0;
  if (!list_once(folder)) return false;
  if (!known || ::fstat(folder.fd.get(), &after) != 0 || !may_have_changed(before, after)) return true;
  for (int time = 0; time < kListingsAgain; ++time) {
    Arrivals arrivals(folder.fd.get());
    if (::lseek(folder.fd.get(), 0, SEEK_SET) != 0 || !list_once(folder)) return false;
    for (const auto& [name, type] : arrivals.take()) add_name(folder, name, type);
    sort_names(folder);
    if (arrivals.all_were_told()) break;
  }
  return true;
}

void Walk::add_name(Folder& folder, std::string_view name, uint8_t type) {
  folder.names.push_back({folder.bytes.size(), static_cast<uint16_t>(name.size()), type});
  folder.bytes += name;
}

// Each once: a folder that changes while it is listed may show a name twice, and is listed twice.
void Walk::sort_names(Folder& folder) {
  const auto text_of = [&folder](const Name& name) {
    return std::string_view(folder.bytes).substr(name.at, name.length);
  };
  std::ranges::sort(folder.names, {}, text_of);
  auto same = std::ranges::unique(folder.names, {}, text_of);
  folder.names.erase(same.begin(), same.end());
}

// Adds its names as they are listed now.
bool Walk::list_once(Folder& folder) {
  // NFS remembers a listing, and what each entry is for 3 to 60 seconds: what another machine changed would
  // not be seen, and each entry that is remembered no longer is asked for alone. A listing that is
  // forgotten is fetched anew, some hundreds of entries a call, each with what it is.
  if (folder.nfs) (void)::posix_fadvise(folder.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  bool whole = true;
  for (;;) {
    ssize_t got = ::getdents64(folder.fd.get(), buffer_.data(), buffer_.size());
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != ENOENT) {  // ENOENT: it was deleted, and so were those it held
        defect(folder.path, errno);
        whole = false;
      }
      break;
    }
    if (got == 0) break;
    for (ssize_t at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer_.data() + at);
      at += entry->d_reclen;
      std::string_view name = entry->d_name;
      if (name != "." && name != "..") add_name(folder, name, static_cast<uint8_t>(entry->d_type));
    }
  }
  sort_names(folder);
  return whole;
}

// A folder so far up that it was closed.
bool Walk::opened_again(Folder& folder) {
  Result<Fd> fd = places_.open_entry(folder.path, O_RDONLY | O_DIRECTORY);
  struct stat status;
  if (fd && ::fstat(fd->get(), &status) == 0 && status.st_dev == folder.device &&
      status.st_ino == folder.inode) {
    folder.fd = std::move(*fd);
    return true;
  }
  defect_({folder.path, fd ? "it was replaced by another folder while it was walked" : fd.error().why});
  return false;
}

void Walk::give(CaptureItem item) {
  auto count = [&](const CaptureItem& given) {
    switch (given.entry.type) {
      case EntryType::kDirectory:
        ++counts_.folders;
        break;
      case EntryType::kFile:
        ++counts_.files;
        counts_.bytes += given.entry.size;
        break;
      case EntryType::kSymlink:
        ++counts_.links;
        break;
      case EntryType::kHardLink:
        ++counts_.hard_links;
        break;
      default:
        ++counts_.others;
    }
  };
  const auto push = [&](CaptureItem given) {
    count(given);
    // A snapshot of a filesystem has another device number each time, and so has an NFS mount: the number
    // says nothing of the file.
    given.device = 0;
    ready_.push_back(std::move(given));
  };
  for (Folder& folder : folders_) {
    if (!folder.waiting) continue;
    push(*std::move(folder.waiting));
    folder.waiting.reset();
  }
  push(std::move(item));
}

void Walk::defect(std::string path, int code) {
  defect_({std::move(path), system_error("", code).why});
}

}  // namespace kuramori::files
