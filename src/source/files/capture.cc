#include "source/files/capture.h"

#include <fmt/core.h>

#include <limits>
#include <optional>

#include "os/user.h"
#include "source/files/attributes.h"
#include "source/files/content.h"
#include "source/files/mounts.h"
#include "source/files/snapshots.h"

namespace kuramori::files {
namespace {

constexpr size_t kDefectsMax = 100'000;  // named; more are counted

// A folder that something should be mounted on and is not looks like one from which all was deleted.
Result<void> check_mounts(const FilesSettings& settings, const MountFiles& files) {
  const std::vector<Mount> expected = read_mounts(files.expected), mounted = read_mounts(files.mounted);
  for (const std::string& path : settings.paths) {
    TRY_ASSIGN(std::string plain, plain_path(path));
    std::optional<Mount> missing = missing_mount(plain, expected, mounted);
    if (!missing) continue;
    return fail(
        ErrorKind::kFailed, fmt::format("\"{}\" is not mounted", missing->folder),
        fmt::format(
            "{} says that {} belongs there; what is there now would be kept as if all had been deleted",
            files.expected, missing->device),
        fmt::format("mount {}", missing->folder));
  }
  return {};
}

// Below what is captured: paths in the tree.
std::set<std::string> unmounted(const Places& places, const MountFiles& files) {
  const std::vector<Mount> expected = read_mounts(files.expected), mounted = read_mounts(files.mounted);
  std::set<std::string> paths;
  for (const Place& place : places.all()) {
    if (!place.top || !place.folder) continue;
    for (const Mount& mount : missing_mounts_below(place.absolute, expected, mounted)) {
      const size_t above = place.absolute == "/" ? 1 : place.absolute.size() + 1;
      paths.insert(join_path(place.path, mount.folder.substr(above)));
    }
  }
  return paths;
}

class FilesCapture : public TreeCapture {
 public:
  FilesCapture(const FilesSettings& settings, Hooks hooks, Reporter& reporter, std::stop_token stop)
      : settings_(settings), hooks_(std::move(hooks)), reporter_(reporter), stop_(std::move(stop)) {}
  FilesCapture(const FilesCapture&) = delete;
  FilesCapture& operator=(const FilesCapture&) = delete;
  ~FilesCapture() override {
    walk_.reset();
    places_ = Places();
    snapshots_.remove(reporter_);
    hooks_.run_after(reporter_);
  }

  Result<void> begin(const MountFiles& mounts) {
    TRY(hooks_.run_before(stop_));  // first: a hook may be what mounts the paths
    TRY(check_mounts(settings_, mounts));
    TRY_ASSIGN(places_, Places::open(settings_.paths, defects_));
    TRY(snapshots_.take(settings_.snapshot, places_, read_mounts(mounts.mounted), reporter_, stop_));
    // A file may have changed again after the snapshot without its time telling: the clock of files has
    // ticks.
    if (const auto taken = snapshots_.not_before()) trusted_before_ns_ = to_unix_ns(*taken) - kYoungNs;
    walk_.emplace(
        settings_, places_, unmounted(places_, mounts), [this](Defect defect) { add(std::move(defect)); },
        stop_);
    return {};
  }

  Result<std::optional<CaptureItem>> next() override { return walk_->next(); }

  Result<void> complete(CaptureItem& item) override {
    TreeEntry& entry = item.entry;
    TRY(take_attributes(entry));
    entry.user = names_.user(entry.uid);
    entry.group = names_.group(entry.gid);
    if (is_young(item.ctime_ns) || item.ctime_ns >= trusted_before_ns_) item.ctime_ns = 0;
    return {};
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    auto open = [&](int flags) { return places_.open_entry(item.entry.path, flags); };
    const uint32_t uid = item.entry.uid, gid = item.entry.gid;
    TRY_ASSIGN(ContentRead read, read_content(open, item, sink, stop_));
    if (item.entry.uid != uid) item.entry.user = names_.user(item.entry.uid);
    if (item.entry.gid != gid) item.entry.group = names_.group(item.entry.gid);
    if (read.changed) add({item.entry.path, "changed while it was read"});
    return {};
  }

  Result<void> finish() override {
    if (!walk_->at_end()) {
      return fail(ErrorKind::kFailed, "the capture ended before its walk did");
    }
    places_ = Places();  // what is open could not be unmounted
    snapshots_.remove(reporter_);
    hooks_.run_after(reporter_);
    if (snapshots_.count() > 0) reporter_.note("read from " + snapshots_.describe());
    tell_what_was_live();
    const WalkCounts& counts = walk_->counts();
    if (counts.kernel_filesystems > 0) {
      reporter_.note(
          fmt::format("{} folder(s) are the kernel's own (as /proc) and were kept without what they show",
                      counts.kernel_filesystems));
    }
    if (counts.links_forgotten > 0) {
      reporter_.warning(
          fmt::format("{} names of files with several are kept as files of their own: more than {} "
                      "such files were open at once",
                      counts.links_forgotten, kLinksMax));
    }
    return {};
  }

  std::vector<Defect> defects() const override {
    std::lock_guard hold(mutex_);
    std::vector<Defect> all = defects_;
    if (unnamed_ > 0) all.push_back({"", fmt::format("{} more entries could not be kept", unnamed_)});
    return all;
  }

  std::map<std::string, std::string> facts() const override {
    const WalkCounts& c = walk_->counts();
    std::map<std::string, std::string> facts;
    for (const auto& [name, count] : {std::pair<const char*, uint64_t>{"folders", c.folders},
                                      {"files", c.files},
                                      {"links", c.links},
                                      {"hard_links", c.hard_links},
                                      {"others", c.others},
                                      {"excluded", c.excluded},
                                      {"other_filesystems", c.other_filesystems},
                                      {"kernel_filesystems", c.kernel_filesystems},
                                      {"filesystem_snapshots", snapshots_.count()},
                                      {"outside_snapshots", c.outside_snapshots}}) {
      facts[name] = std::to_string(count);
    }
    facts["captured_from"] = snapshots_.count() == 0 ? "live files"
                             : snapshots_.are_all() && c.outside_snapshots == 0
                                 ? "btrfs snapshot"
                                 : "btrfs snapshot and live files";
    return facts;
  }

 private:
  Result<void> take_attributes(TreeEntry& entry) {
    for (int reads = 1;; ++reads) {
      Result<Fd> opened = places_.open_entry(entry.path, O_PATH);
      if (!opened && opened.error().kind == ErrorKind::kNotFound) return std::move(opened).error();
      if (!opened) {
        add({entry.path, fmt::format("its attributes could not be read: {}", opened.error().why)});
        return {};
      }
      std::vector<std::pair<std::string, std::string>> unreadable;
      Result<Attributes> attributes = read_attributes(*opened, entry.path, unreadable);
      // As its content (read_content): its name may lead to another file by now.
      if (!attributes && attributes.error().kind == ErrorKind::kNotFound && reads < kReadsMax) continue;
      if (attributes) {
        entry.attributes = std::move(*attributes);
      } else {
        add({entry.path, fmt::format("its attributes could not be read: {}", attributes.error().why)});
      }
      for (const auto& [name, why] : unreadable)
        add({entry.path, fmt::format("its attribute {} could not be read: {}", name, why)});
      return {};
    }
  }

  // Subvolumes and mounts in what was captured: consistent in themselves at best.
  void tell_what_was_live() {
    const uint64_t count = walk_->counts().outside_snapshots;
    if (count == 0) return;
    std::string names;
    for (const std::string& name : walk_->live_folders())
      names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", name);
    const std::string text = fmt::format(
        "captured as they were read, since no snapshot holds what is mounted or a subvolume of its own: {}{}",
        names, count > walk_->live_folders().size() ? " …" : "");
    if (settings_.snapshot == Snapshot::kBtrfs) {
      reporter_.warning(text);
    } else {
      reporter_.note(text);
    }
  }

  void add(Defect defect) {
    std::lock_guard hold(mutex_);
    if (defects_.size() < kDefectsMax) {
      defects_.push_back(std::move(defect));
    } else {
      ++unnamed_;
    }
  }

  const FilesSettings settings_;
  Hooks hooks_;
  Reporter& reporter_;
  const std::stop_token stop_;
  mutable std::mutex mutex_;
  std::vector<Defect> defects_;
  uint64_t unnamed_ = 0;  // defects beyond kDefectsMax
  Snapshots snapshots_;
  int64_t trusted_before_ns_ = std::numeric_limits<int64_t>::max();  // of change times
  Places places_;
  std::optional<Walk> walk_;
  OwnerNames names_;
};

template <class LookUp>
std::string name_in(std::map<uint32_t, std::string>& known, uint32_t number, LookUp&& look_up) {
  auto found = known.find(number);
  if (found == known.end()) found = known.emplace(number, look_up()).first;
  return found->second;
}

}  // namespace

std::string OwnerNames::user(uint32_t uid) {
  std::lock_guard hold(mutex_);
  return name_in(users_, uid, [&] {
    Result<User> user = user_of_uid(uid);
    return user ? user->name : std::string();  // the number is kept: a name is a help, no more
  });
}

std::string OwnerNames::group(uint32_t gid) {
  std::lock_guard hold(mutex_);
  return name_in(groups_, gid, [&] {
    Result<std::string> group = group_name_of(gid);
    return group ? *group : std::string();
  });
}

Result<std::unique_ptr<TreeCapture>> begin_capture(const FilesSettings& settings, const MountFiles& mounts,
                                                   Reporter& reporter, std::stop_token stop) {
  auto capture = std::make_unique<FilesCapture>(
      settings, Hooks(settings.hooks_before, settings.hooks_after, settings.hook_timeout), reporter,
      std::move(stop));
  TRY(capture->begin(mounts));
  return std::unique_ptr<TreeCapture>(std::move(capture));
}

}  // namespace kuramori::files
