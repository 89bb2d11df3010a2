#include "source/files/watch.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "crypto/digest.h"
#include "os/file.h"
#include "os/filesystem.h"
#include "source/files/patterns.h"
#include "source/files/places.h"
#include "source/files/subvolume.h"
#include "source/files/walk.h"

namespace kuramori::files {
namespace {

constexpr uint32_t kInFolder = IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO |
                               IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;
// A folder of these came or went: what is watched is no longer what there is.
constexpr uint32_t kOfFolders = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
constexpr int kBlindShare = 20;  // looks take at most one part in so many of the time
constexpr size_t kEventBytes = size_t{64} << 10;

class FilesWatch final : public Watch {
 public:
  FilesWatch(FilesSettings settings, WatchPace pace) : settings_(std::move(settings)), pace_(pace) {
    // The walk comes by every folder: one that holds nothing included today may tomorrow.
    everywhere_ = settings_;
    everywhere_.include.clear();
    include_ = Patterns(settings_.include);
    exclude_ = Patterns(settings_.exclude);
  }

  Result<void> begin() {
    wake_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!wake_.valid()) return system_error("no eventfd", errno);
    events_ = Fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    return look({});
  }

  Result<bool> wait(Duration longest, std::stop_token stop) override {
    const Duration until = system_clock().steady() + longest;
    uint64_t earlier = 0;  // of a stop that another call was asked for
    (void)!::read(wake_.get(), &earlier, sizeof earlier);
    const std::stop_callback wake(stop, [this] {
      const uint64_t one = 1;
      (void)!::write(wake_.get(), &one, sizeof one);
    });
    while (!stop.stop_requested()) {
      if (is_stale_ && system_clock().steady() >= next_look_) {
        const auto looked = look(stop);
        if (stop.stop_requested()) return false;
        is_stale_ = !looked;
        if (looked || !std::exchange(is_missing_told_, true)) {
          if (looked) is_missing_told_ = false;
          return true;
        }
      }
      const Duration now = system_clock().steady();
      if (!is_stale_ && now >= next_look_) {
        const Digest before = seen_;
        is_stale_ = !look(stop);
        if (!is_stale_ && seen_ != before) return true;
        continue;
      }
      if (now >= until) return false;
      TRY_ASSIGN(const bool changed, wait_for_events(std::min(until, next_look_) - now));
      if (changed && !is_stale_) return true;
      if (changed && !is_missing_told_) next_look_ = {};  // at once
    }
    return false;
  }

  std::string how() const override {
    if (!is_blind()) return fmt::format("{} folder(s) are watched", folders_.size());
    return fmt::format("all is looked at every {}: {}", format_seconds(pace_.blind), why_blind_);
  }

 private:
  static std::string format_seconds(Duration duration) {
    return fmt::format("{} s", std::chrono::duration_cast<std::chrono::seconds>(duration).count());
  }
  static std::string error_text(int code) { return system_error("", code).why; }
  bool is_blind() const { return !why_blind_.empty(); }

  // Walks all there is: watches every folder of it, and remembers how it looks.
  Result<void> look(std::stop_token stop) {
    const Duration began = system_clock().steady();
    next_look_ = began + pace_.blind;  // should it fail
    std::vector<Defect> missing;
    TRY_ASSIGN(const Places places, Places::open(everywhere_.paths, missing));
    why_blind_.clear();
    if (!events_.valid())
      why_blind_ = "the kernel watches for nobody more (sysctl fs.inotify.max_user_instances)";
    if (!missing.empty()) why_blind_ = "a path is not there";
    Sha256 digest;
    for (const Defect& defect : missing) digest.add(as_bytes(defect.path));
    std::unordered_map<int, Folder> folders;
    folders.swap(folders_);
    devices_.clear();
    for (const Place& place : places.all())
      if (place.top && !place.folder) watch_file(place);
    Walk walk(
        everywhere_, places, {},
        [&](const Defect& defect) { digest.add(as_bytes(defect.path + "\n" + defect.why)); }, stop);
    for (;;) {
      TRY_ASSIGN(std::optional<CaptureItem> item, walk.next());
      if (!item) break;
      const TreeEntry& entry = item->entry;
      const Place* place = place_of(places, entry.path);
      const size_t below = place == nullptr || place->path.empty() ? 0 : place->path.size() + 1;
      if (entry.type == EntryType::kDirectory) {
        if (place == nullptr) continue;  // only above what was asked for
        auto folder = places.open_entry(entry.path, O_PATH | O_DIRECTORY);
        if (folder)
          watch(fmt::format("/proc/self/fd/{}", folder->get()), {.path = entry.path, .below = below},
                folder->get(), item->device);
      }
      const bool is_place = place != nullptr && !place->folder;
      if (!is_place && !is_included(entry.path, below, entry.type == EntryType::kDirectory)) continue;
      add_to(digest, *item);
    }
    // What is watched and no longer there: a folder that was moved elsewhere.
    for (const auto& [id, folder] : folders)
      if (!folders_.contains(id)) (void)::inotify_rm_watch(events_.get(), id);
    seen_ = digest.finish();
    const Duration took = system_clock().steady() - began;
    next_look_ = began + took + (is_blind() ? std::max(pace_.blind, took * kBlindShare) : pace_.look);
    return {};
  }

  struct Folder {
    std::string path;               // in the tree
    size_t below = 0;               // where in a path below it the part begins that patterns see
    std::vector<std::string> only;  // the names in it that count; none: all
  };

  static void add_to(Sha256& digest, const CaptureItem& item) {
    Bytes line;
    append(line, as_bytes(item.entry.path));
    line.push_back(0);
    for (const uint64_t number :
         {item.device, item.inode, static_cast<uint64_t>(item.ctime_ns), item.entry.size}) {
      std::array<uint8_t, 8> raw;
      store_le(raw.data(), number);
      append(line, raw);
    }
    digest.add(line);
  }

  static const Place* place_of(const Places& places, std::string_view path) {
    for (const Place& place : places.all()) {
      if (!place.top) continue;
      if (place.path.empty() || path == place.path ||
          (path.starts_with(place.path) && path[place.path.size()] == '/'))
        return &place;
    }
    return nullptr;
  }

  // Through the folders it stands in: editors replace a file by another. One that is a link changes when what
  // it leads through does, which may be any name there.
  void watch_file(const Place& place) {
    watch(fmt::format("/proc/self/fd/{}", place.fd.get()), {.only = {place.name}}, place.fd.get());
    const std::string above = folder_of(place.absolute);
    struct stat typed, real;
    const bool is_as_typed = place.absolute == join_path(above, place.name) &&
                             ::stat(above.c_str(), &typed) == 0 && ::fstat(place.fd.get(), &real) == 0 &&
                             typed.st_dev == real.st_dev && typed.st_ino == real.st_ino;
    if (!is_as_typed) watch(above, {});
  }

  void watch(const std::string& path, Folder folder, int open = -1, uint64_t device = 0) {
    if (open >= 0 && devices_.emplace(device).second && is_remote(open))
      why_blind_ = "a filesystem is one that other machines change too, or that tells nobody";
    if (!events_.valid()) return;
    if (folders_.size() >= pace_.folders_max) return no_room();
    const int id = ::inotify_add_watch(events_.get(), path.c_str(), kInFolder);
    if (id >= 0) {
      const auto [known, is_new] = folders_.try_emplace(id, folder);
      if (is_new) return;
      if (folder.only.empty()) {
        known->second = std::move(folder);
      } else if (!known->second.only.empty()) {  // another file of the same folder
        known->second.only.insert(known->second.only.end(), folder.only.begin(), folder.only.end());
      }
    } else if (errno == ENOSPC || errno == ENOMEM) {
      no_room();
    } else if (errno != ENOENT && errno != ENOTDIR) {
      why_blind_ = fmt::format("a folder cannot be watched ({})", error_text(errno));
    }
  }
  void no_room() { why_blind_ = "the kernel watches no more folders (sysctl fs.inotify.max_user_watches)"; }

  // Whether the patterns let a path of the tree in.
  bool is_included(std::string_view path, size_t below, bool is_folder) const {
    if (include_.empty()) return true;
    return is_matched(include_, path, below, is_folder);
  }
  // It or a folder above it.
  static bool is_matched(const Patterns& patterns, std::string_view path, size_t below, bool is_folder) {
    if (path.size() <= below) return false;
    const std::string_view rest = path.substr(below);
    for (size_t slash = rest.find('/'); slash != rest.npos; slash = rest.find('/', slash + 1))
      if (patterns.look(rest.substr(0, slash), true) == Patterns::Answer::kMatched) return true;
    return patterns.look(rest, is_folder) == Patterns::Answer::kMatched;
  }

  // Whether any of what came in the meantime counts.
  Result<bool> wait_for_events(Duration longest) {
    std::array<pollfd, 2> ready{{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                 {.fd = events_.get(), .events = POLLIN, .revents = 0}}};
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(longest).count();
    const int got = ::poll(ready.data(), events_.valid() ? 2 : 1,
                           static_cast<int>(std::min<int64_t>(ms, std::numeric_limits<int>::max())));
    if (got < 0 && errno != EINTR) return system_error("cannot wait for changes", errno);
    if (got <= 0 || (ready[1].revents & POLLIN) == 0) return false;
    bool changed = false;
    for (;;) {
      alignas(inotify_event) std::array<char, kEventBytes> buffer;
      const ssize_t bytes = ::read(events_.get(), buffer.data(), buffer.size());
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes <= 0) return changed;
      for (ssize_t at = 0; at < bytes;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
        at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
        changed |= take(*event);
      }
    }
  }

  bool take(const inotify_event& event) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) return is_stale_ = true;
    if ((event.mask & IN_IGNORED) != 0) {
      folders_.erase(event.wd);
      return false;
    }
    const auto found = folders_.find(event.wd);
    if (found == folders_.end()) return false;
    const Folder& folder = found->second;
    const std::string_view name = event.len > 0 ? std::string_view(event.name) : std::string_view();
    if (!folder.only.empty()) {
      if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) != 0) return is_stale_ = true;
      return std::ranges::find(folder.only, name) != folder.only.end();
    }
    if (name == kSnapshotsFolder) return false;  // of captures
    if (name.empty()) {
      // The folder itself: its attributes, or it was moved, or is gone.
      if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) != 0) is_stale_ = true;
      return true;
    }
    const bool is_folder = (event.mask & IN_ISDIR) != 0;
    const std::string path =
        folder.path.empty() ? std::string(name) : fmt::format("{}/{}", folder.path, name);
    if (is_matched(exclude_, path, folder.below, is_folder)) return false;
    if (is_folder && (event.mask & kOfFolders) != 0) return is_stale_ = true;
    return is_included(path, folder.below, is_folder);
  }

  const FilesSettings settings_;
  const WatchPace pace_;
  FilesSettings everywhere_;
  Patterns include_, exclude_;
  Fd wake_, events_;
  std::unordered_map<int, Folder> folders_;
  std::set<uint64_t> devices_;  // whose filesystem was asked about
  std::string why_blind_;
  Digest seen_{};
  Duration next_look_{};
  bool is_stale_ = false;         // what is watched is not what there is
  bool is_missing_told_ = false;  // of paths that could not be looked at: once, the capture says why
};

}  // namespace

Result<std::unique_ptr<Watch>> watch_files(FilesSettings settings, WatchPace pace) {
  auto watch = std::make_unique<FilesWatch>(std::move(settings), pace);
  TRY(watch->begin());
  return std::unique_ptr<Watch>(std::move(watch));
}

}  // namespace kuramori::files
