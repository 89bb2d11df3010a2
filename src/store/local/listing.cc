// Problem: a store lists full names in byte order, but a folder keeps the parts of names, in no order.
//
// Within one folder each file stands for its name and each subfolder for its name followed by '/'. Sorted
// by these keys, files and subfolders come out in the order of the full names below them: of "a-b", "a/x"
// and "a.b" the second lies between the others because '-' < '/' < '.' is decided by the byte after "a",
// which for the folder is its '/'. ('-' is 0x2d, '.' 0x2e, '/' 0x2f, '0' 0x30.)
//
// Each level keeps at most kLevelKeysMax keys, the smallest ones after where it stands, and reads the
// folder again when they are used up: memory does not grow with the folder. The next page goes on with what
// the last one had read of the folder it ended in (ListingMark). Folders that cannot hold anything wanted are
// not opened. A name that is put while we list may be seen or not; one that was there all the time is seen.
#include "store/local/listing.h"

#include <dirent.h>
#include <fmt/core.h>

#include <cerrno>

namespace kuramori {
namespace {

constexpr size_t kLevelKeysMax = 32'768;  // keys in memory per level: 4 MiB of a vault's names

// Calls `visit(name, type)` for every entry of the folder, in the order the filesystem has them.
template <class Visit>
Result<void> for_each_entry(const Fd& folder, const std::string& path, Visit&& visit) {
  TRY_ASSIGN(Fd own, open_at(folder, ".", O_RDONLY | O_DIRECTORY));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(own.get()), ::closedir);
  if (stream == nullptr) return system_error(fmt::format("list \"{}\"", path), errno);
  own.release();
  for (;;) {
    errno = 0;
    dirent* entry = ::readdir(stream.get());
    if (entry == nullptr && errno != 0) return system_error(fmt::format("list \"{}\"", path), errno);
    if (entry == nullptr) return {};
    // Dots, `.tmp`, and whatever cannot be part of an object's name.
    if (!check_object_name(entry->d_name)) continue;
    TRY(visit(entry->d_name, entry->d_type));
  }
}

class Lister {
 public:
  Lister(std::string_view prefix, std::string_view after, size_t limit, std::optional<ListingMark> mark)
      : prefix_(prefix), after_(after), limit_(limit), mark_(std::move(mark)) {}

  // `base` is "" or ends in '/'.
  Result<void> walk(const Fd& folder, const std::string& base) {
    std::string bound;  // the greatest key done so far
    for (;;) {
      bool all = false;
      std::vector<std::string> keys;
      if (mark_ && mark_->base == base && bound.empty()) {
        keys = std::move(mark_->keys);
        all = mark_->all;
        mark_.reset();
      } else {
        TRY_ASSIGN(keys, smallest_keys(folder, base, bound));
        all = keys.size() < kLevelKeysMax;
      }
      for (size_t i = 0; i < keys.size(); ++i) {
        const std::string& key = keys[i];
        TRY(key.back() == '/' ? enter(folder, base, key) : take(folder, base, key));
        if (!page_.more) continue;
        // The innermost folder with files alone is the one worth remembering.
        if (!next_ && key.back() != '/') {
          next_ = {
              .prefix = prefix_, .last = page_.objects.back().name, .base = base, .keys = {}, .all = all};
          next_->keys.assign(std::make_move_iterator(keys.begin() + static_cast<ptrdiff_t>(i)),
                             std::make_move_iterator(keys.end()));
        }
        return {};
      }
      if (all) return {};
      bound = keys.empty() ? bound : keys.back();
    }
  }

  ListPage page() && { return std::move(page_); }
  std::optional<ListingMark> next() && { return std::move(next_); }

 private:
  bool wanted(const std::string& name) const { return name > after_ && name.starts_with(prefix_); }
  // Could any name that starts with `base` be wanted?
  bool may_hold_wanted(const std::string& base) const {
    bool prefix_fits = base.starts_with(prefix_) || prefix_.starts_with(base);
    // If `after` does not lie below `base` itself, it lies before all or after all of it.
    return prefix_fits && (base > after_ || after_.starts_with(base));
  }

  Result<std::vector<std::string>> smallest_keys(const Fd& folder, const std::string& base,
                                                 const std::string& bound) {
    std::vector<std::string> keys;
    auto keep_smallest = [&] {
      if (keys.size() <= kLevelKeysMax) return;
      std::nth_element(keys.begin(), keys.begin() + kLevelKeysMax, keys.end());
      keys.resize(kLevelKeysMax);
    };
    TRY(for_each_entry(folder, base, [&](std::string_view name, unsigned char type) -> Result<void> {
      std::string key(name);
      TRY_ASSIGN(bool is_folder, is_folder_entry(folder, base, key, type));
      if (is_folder) key += '/';
      if (key <= bound || !(is_folder ? may_hold_wanted(base + key) : wanted(base + key))) return {};
      keys.push_back(std::move(key));
      if (keys.size() >= 2 * kLevelKeysMax) keep_smallest();
      return {};
    }));
    keep_smallest();
    std::sort(keys.begin(), keys.end());
    return keys;
  }

  Result<bool> is_folder_entry(const Fd& folder, const std::string& base, const std::string& name,
                               unsigned char type) {
    if (type == DT_REG) return false;
    if (type == DT_DIR) return true;
    if (type == DT_UNKNOWN) {
      Result<FileStatus> status = status_at(folder, name);
      if (!status && status.error().kind == ErrorKind::kNotFound) return false;  // take() will look again
      if (!status) return std::move(status).error();
      if (status->type == FileType::kFile) return false;
      if (status->type == FileType::kFolder) return true;
    }
    // Skipping it could hide objects from a collector, following it could show foreign ones.
    return fail(ErrorKind::kRefused,
                fmt::format("list the vault: \"{}{}\" is neither a file nor a folder", base, name),
                "somebody put it there; a vault has only files and folders");
  }

  Result<void> enter(const Fd& folder, const std::string& base, const std::string& key) {
    Result<std::optional<Fd>> child = open_beneath_if_there(folder, key, O_RDONLY | O_DIRECTORY);
    if (!child) return std::move(child).error().within("list the vault");
    if (!*child) return {};  // removed meanwhile, with all that was in it
    return walk(**child, base + key);
  }

  Result<void> take(const Fd& folder, const std::string& base, const std::string& key) {
    Result<FileStatus> status = status_at(folder, key);
    if (!status && status.error().kind == ErrorKind::kNotFound) return {};  // removed meanwhile
    if (!status) return std::move(status).error().within("list the vault");
    if (page_.objects.size() == limit_) {
      page_.more = true;
      return {};
    }
    page_.objects.push_back({.name = base + key, .size = status->size, .stored_at = status->changed});
    return {};
  }

  const std::string prefix_, after_;
  const size_t limit_;
  std::optional<ListingMark> mark_;  // where the page before ended
  std::optional<ListingMark> next_;  // where this one does
  ListPage page_;
};

}  // namespace

Result<ListPage> list_objects(VaultFolder& folder, std::string_view prefix, std::string_view after,
                              size_t limit, std::optional<ListingMark>& mark) {
  std::optional<ListingMark> from = std::exchange(mark, std::nullopt);
  if (from && (from->prefix != prefix || from->last != after)) from.reset();
  // A folder that is gone would list as empty, and a collector would believe it.
  TRY(folder.check_present());
  // Straight to the deepest folder that the prefix names.
  size_t slash = prefix.rfind('/');
  std::string base(slash == std::string_view::npos ? "" : prefix.substr(0, slash + 1));
  Result<std::optional<Fd>> start =
      open_beneath_if_there(folder.root(), base.empty() ? "." : base, O_RDONLY | O_DIRECTORY);
  if (!start) return std::move(start).error().within("list the vault");
  if (!*start) return ListPage{};
  Lister lister(prefix, after, limit, std::move(from));
  TRY(lister.walk(**start, base));
  mark = std::move(lister).next();
  return std::move(lister).page();
}

}  // namespace kuramori
