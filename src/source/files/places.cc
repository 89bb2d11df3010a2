#include "source/files/places.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <utility>

namespace kuramori::files {
namespace {

bool is_below(std::string_view path, std::string_view folder) {
  if (folder.empty() || folder == "/") return path != folder;
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

// Opens what was asked for; links up to it are followed, since a person wrote the path.
Result<Place> open_place(const std::string& absolute) {
  struct stat status;
  if (::stat(absolute.c_str(), &status) != 0)
    return system_error(fmt::format("look at \"{}\"", absolute), errno);
  Place place{.absolute = absolute, .folder = S_ISDIR(status.st_mode), .name = "."};
  if (place.folder) {
    // Reading may be denied: that is for the walk to find, and to name.
    TRY_ASSIGN(place.fd, open_file(absolute, O_PATH | O_DIRECTORY));
    return place;
  }
  // A file that is replaced by another of its name is read as the new one: its folder is kept open, not it.
  std::unique_ptr<char, decltype(&::free)> real(::realpath(absolute.c_str(), nullptr), &::free);
  if (real == nullptr) return system_error(fmt::format("look at \"{}\"", absolute), errno);
  const std::string_view text = real.get();
  place.name = text.substr(text.rfind('/') + 1);
  TRY_ASSIGN(place.fd, open_file(folder_of(text), O_PATH | O_DIRECTORY));
  return place;
}

}  // namespace

Result<std::string> plain_path(std::string_view path) {
  if (!path.starts_with('/')) {
    return fail(ErrorKind::kUsage, fmt::format("the path \"{}\" is not absolute", path),
                "what it names would depend on where the program was started", "write it from / on");
  }
  std::string plain;
  while (!path.empty()) {
    path.remove_prefix(1);
    std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(part.size());
    if (part == "..") {
      return fail(ErrorKind::kUsage, "a path holds \"..\"", "what that means depends on links",
                  "write it out");
    }
    if (!part.empty() && part != ".") plain.append("/").append(part);
  }
  return plain.empty() ? "/" : plain;
}

Result<Places> Places::open(const std::vector<std::string>& paths, std::vector<Defect>& missing) {
  std::vector<std::string> asked;
  for (const std::string& path : paths) {
    TRY_ASSIGN(std::string plain, plain_path(path));
    asked.push_back(std::move(plain));
  }
  if (asked.empty()) {
    return fail(ErrorKind::kUsage, "the resource names no path", "", "give it `paths: [/srv/…]`");
  }
  std::ranges::sort(asked, [](const std::string& a, const std::string& b) { return tree_order(a, b); });
  std::vector<std::string> tops;  // without those that another holds anyway
  for (std::string& path : asked) {
    if (tops.empty() || (path != tops.back() && !is_below(path, tops.back())))
      tops.push_back(std::move(path));
  }

  Places places;
  Error last;
  for (const std::string& absolute : tops) {
    Result<Place> place = open_place(absolute);
    if (!place) {
      missing.push_back({absolute.substr(1), place.error().why});
      last = std::move(place).error();
      continue;
    }
    place->top = true;
    if (tops.size() > 1 || !place->folder) {
      for (size_t slash = 0; slash != std::string::npos; slash = absolute.find('/', slash + 1)) {
        const std::string above = slash == 0 ? "/" : absolute.substr(0, slash);
        const std::string in_tree = above.substr(1);
        if (std::ranges::find(places.places_, in_tree, &Place::path) != places.places_.end()) continue;
        TRY_ASSIGN(Place folder, open_place(above));
        folder.path = in_tree;
        places.places_.push_back(std::move(folder));
      }
      place->path = absolute.substr(1);
    }
    places.places_.push_back(std::move(*place));
  }
  if (missing.size() == tops.size()) {
    last.next = "correct `paths` of the resource, or mount what belongs there";
    return last;
  }
  std::ranges::sort(places.places_,
                    [](const Place& a, const Place& b) { return tree_order(a.path, b.path); });
  return places;
}

const Place* Places::place_of(std::string_view path) const {
  // The last place at or before it in tree order is the entry itself, or the top that holds it: tops hold no
  // other places.
  auto after = std::ranges::upper_bound(
      places_, path, [](std::string_view a, std::string_view b) { return tree_order(a, b); }, &Place::path);
  if (after == places_.begin()) return nullptr;
  const Place& place = *std::prev(after);
  return place.path == path || (place.folder && is_below(path, place.path)) ? &place : nullptr;
}

Result<Fd> Places::open_entry(std::string_view path, int flags) const {
  const Place* place = place_of(path);
  if (place == nullptr) return fail(ErrorKind::kNotFound, fmt::format("\"{}\" is not in the tree", path));
  const Fd& from = place->live.valid() && is_outside(path) ? place->live : place->fd;
  if (place->path == path) return open_beneath(from, place->name, flags | O_NOFOLLOW);
  return open_beneath(from, std::string(path.substr(place->path.empty() ? 0 : place->path.size() + 1)),
                      flags | O_NOFOLLOW);
}

void Places::read_from_snapshot(size_t place, Fd folder) {
  if (!outside_) outside_ = std::make_unique<Outside>();
  places_[place].live = std::exchange(places_[place].fd, std::move(folder));
}

void Places::leave_out_of_snapshot(std::string path) const {
  if (!outside_) return;
  const std::lock_guard hold(outside_->mutex);
  outside_->paths.insert(std::move(path));
}

bool Places::is_left_out_of_snapshot(std::string_view path) const {
  if (!outside_) return false;
  const std::lock_guard hold(outside_->mutex);
  return outside_->paths.contains(path);
}

bool Places::is_in_snapshot(std::string_view path) const {
  if (!outside_) return false;
  const Place* place = place_of(path);
  return place != nullptr && place->live.valid() && !is_outside(path);
}

bool Places::is_outside(std::string_view path) const {
  const std::lock_guard hold(outside_->mutex);
  if (outside_->paths.empty()) return false;
  for (size_t end = path.find('/'); end != std::string_view::npos; end = path.find('/', end + 1))
    if (outside_->paths.contains(path.substr(0, end))) return true;
  return outside_->paths.contains(path);
}

}  // namespace kuramori::files
