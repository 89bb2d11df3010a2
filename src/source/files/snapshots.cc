#include "source/files/snapshots.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/time_text.h"

namespace kuramori::files {
namespace {

Error no_btrfs(const Place& place) {
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not on btrfs", place.absolute),
              "its filesystem has no snapshots that we make",
              "snapshot: auto takes one where there can be one");
}

// What is mounted in a place, which shows the folder `path`, is in no snapshot of it.
void leave_out_mounts(const Places& places, const Place& place, const std::string& path,
                      const std::vector<Mount>& mounted) {
  const std::string above = path == "/" ? path : path + "/";
  for (const Mount& mount : mounted)
    if (mount.folder.starts_with(above) && mount.folder != "/")
      places.leave_out_of_snapshot(join_path(place.path, mount.folder.substr(above.size())));
}

}  // namespace

Result<void> why_no_snapshot(const Place& place, const std::vector<Mount>& mounted) {
  TRY_ASSIGN(const std::optional<InSubvolume> found, find_subvolume(place.fd));
  if (!found) return no_btrfs(place);
  if (found->read_only) return {};
  return may_snapshot(*found, mounted);
}

Result<void> Snapshots::take_for(size_t number, Places& places, const std::vector<Mount>& mounted,
                                 const std::stop_token& stop) {
  const Place& place = places.all()[number];
  TRY_ASSIGN(const std::optional<InSubvolume> found, find_subvolume(place.fd));
  if (!found) return no_btrfs(place);
  if (found->read_only) return {};
  const auto taken = std::ranges::find(taken_, found->device, &Taken::device);
  std::optional<SubvolumeSnapshot> made;
  if (taken == taken_.end()) {
    TRY(may_snapshot(*found, mounted));
    TRY_ASSIGN(SubvolumeSnapshot snapshot, SubvolumeSnapshot::make(*found, stop));
    made.emplace(std::move(snapshot));
  }
  const Fd& root = made ? made->root() : taken->snapshot.root();
  TRY_ASSIGN(Fd folder, open_beneath(root, found->below.empty() ? "." : found->below, O_PATH | O_DIRECTORY));
  // The same path may lead elsewhere there: through what is mounted, or since it was renamed a moment ago.
  TRY_ASSIGN(const FileStatus status, status_of(folder, place.absolute));
  if (status.inode != found->inode) {
    return fail(ErrorKind::kRefused, fmt::format("\"{}\" is not found in its snapshot", place.absolute),
                "it was mounted from elsewhere in the same filesystem, or renamed at that moment",
                "name in `paths` the folder that is mounted there");
  }
  if (made) taken_.push_back({found->device, found->path, std::move(*made)});
  places.read_from_snapshot(number, std::move(folder));
  leave_out_mounts(places, place, found->below.empty() ? found->path : join_path(found->path, found->below),
                   mounted);
  return {};
}

Result<void> Snapshots::take(Snapshot wanted, Places& places, const std::vector<Mount>& mounted,
                             Reporter& reporter, const std::stop_token& stop) {
  std::set<std::string> told;
  for (size_t i = 0; i < places.all().size(); ++i) {
    const Place& place = places.all()[i];
    if (!place.top) continue;
    if (wanted == Snapshot::kOff) {
      ++live_places_;
      continue;
    }
    auto taken = take_for(i, places, mounted, stop);
    if (taken) continue;
    Error& error = taken.error();
    if (wanted == Snapshot::kBtrfs || error.kind == ErrorKind::kInterrupted) return taken;
    ++live_places_;
    if (error.kind == ErrorKind::kUsage) continue;  // it is as it is on most filesystems
    const std::string why = error.why.empty() ? error.what : fmt::format("{} ({})", error.what, error.why);
    if (told.insert(why).second) {
      reporter.note(
          fmt::format("\"{}\" is captured as it is read, without a snapshot: {}", place.absolute, why));
    }
  }
  return {};
}

std::optional<Time> Snapshots::not_before() const {
  std::optional<Time> first;
  for (const Taken& taken : taken_)
    first = std::min(first.value_or(taken.snapshot.not_before()), taken.snapshot.not_before());
  return first;
}

std::string Snapshots::describe() const {
  std::string text;
  for (const Taken& taken : taken_) {
    text += fmt::format("{}a btrfs snapshot of {}, made at {}", text.empty() ? "" : "; ", taken.path,
                        format_utc(taken.snapshot.not_before()));
  }
  return text;
}

void Snapshots::remove(Reporter& reporter) {
  for (Taken& taken : taken_) {
    if (auto removed = taken.snapshot.remove(); !removed) {
      const Error& error = removed.error();
      reporter.warning(fmt::format("{}: {}; remove it: {}", error.what, error.why, error.next));
    }
  }
}

}  // namespace kuramori::files
