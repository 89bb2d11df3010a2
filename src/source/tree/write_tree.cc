#include "source/tree/write_tree.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "os/file.h"
#include "source/files/attributes.h"

namespace kuramori {
namespace {

// Content into a new file, at its own pace: holes stay holes.
class FileSink final : public ContentSink {
 public:
  FileSink(const Fd& file, std::string_view name, std::stop_token stop)
      : file_(file), name_(name), stop_(std::move(stop)) {}
  Result<void> add(ByteView bytes) override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
    TRY(pwrite_full(file_, at_, bytes, name_));
    at_ += bytes.size();
    return {};
  }
  Result<void> add_hole(uint64_t bytes) override {
    at_ += bytes;
    return {};
  }
  Result<void> restart() override {
    at_ = 0;
    return cut();
  }
  // What ends with a hole is as long as it says.
  Result<void> cut() {
    if (::ftruncate(file_.get(), static_cast<off_t>(at_)) != 0)
      return system_error(fmt::format("set the length of \"{}\"", name_), errno);
    return {};
  }
  uint64_t bytes() const { return at_; }

 private:
  const Fd& file_;
  const std::string_view name_;
  const std::stop_token stop_;
  uint64_t at_ = 0;
};

timespec time_of(int64_t ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  const int64_t rest = (ns % kSecond + kSecond) % kSecond;
  return {.tv_sec = (ns - rest) / kSecond, .tv_nsec = rest};
}

Result<void> must_be_new_or_empty(const std::string& folder) {
  TRY_ASSIGN(const auto status, status_if_there(folder));
  if (!status) return {};
  if (status->type == FileType::kFolder) {
    TRY_ASSIGN(const auto entries, list_folder(folder));
    if (entries.empty()) return {};
  }
  return fail(ErrorKind::kRefused, fmt::format("\"{}\" is there already", folder),
              "a restore never writes over what is there", "name a path that does not exist");
}

// A path of the tree within what is written: nothing if it is not part of it.
std::optional<std::string> path_below(std::string_view below, std::string_view path) {
  if (below.empty()) return std::string(path);
  if (path == below) return std::string();
  if (!path.starts_with(below) || path[below.size()] != '/') return std::nullopt;
  return std::string(path.substr(below.size() + 1));
}

class TreeWriter {
 public:
  TreeWriter(const CapturedTree& tree, const WriteTreeOptions& options) : tree_(tree), options_(options) {}

  Result<SourceRestoreOutcome> write(const std::string& folder) {
    TRY(must_be_new_or_empty(folder));
    TRY(make_folders(folder, 0700));
    TRY_ASSIGN(root_, open_folder(folder));
    outcome_.target = folder;
    TRY(tree_.visit([&](const TreeEntry& entry) -> Result<void> {
      if (options_.stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
      const auto path = path_below(options_.below, entry.path);
      if (!path || !is_wanted(options_.only, entry.path)) return {};
      return add(entry, *path);
    }));
    // Last, and from the innermost out: a folder without write permission can be filled, and its time stays.
    for (auto it = folders_.rbegin(); it != folders_.rend(); ++it) {
      TRY_ASSIGN(const Fd opened, open_folder_at(it->second));
      TRY(finish(opened, it->first));
      TRY(sync_file(opened, it->first.path));
    }
    if (not_allowed_ > 0)
      outcome_.notes.push_back(fmt::format("{} attribute(s) could not be set here", not_allowed_));
    if (owners_left_ > 0) {
      outcome_.notes.push_back(fmt::format(
          "{} entries belong to who ran this: only root can give them their owners", owners_left_));
    }
    return std::move(outcome_);
  }

 private:
  Result<Fd> open_folder_at(const std::string& path) const {
    return open_beneath(root_, path.empty() ? "." : path, O_RDONLY | O_DIRECTORY);
  }

  // The folder that holds `path`, made if the tree does not list it.
  Result<Fd> parent_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return open_folder_at("");
    const std::string parent = path.substr(0, slash);
    TRY_ASSIGN(std::optional<Fd> there, open_beneath_if_there(root_, parent, O_RDONLY | O_DIRECTORY));
    if (there) return std::move(*there);
    TRY_ASSIGN(const Fd above, parent_of(parent));
    TRY(make_folder(above, name_in(parent)));
    return open_folder_at(parent);
  }
  static std::string name_in(const std::string& path) { return path.substr(path.rfind('/') + 1); }
  static Result<void> make_folder(const Fd& parent, const std::string& name) {
    if (::mkdirat(parent.get(), name.c_str(), 0700) == 0) return {};
    return system_error(fmt::format("make the folder \"{}\"", name), errno);
  }

  Result<void> add(const TreeEntry& entry, const std::string& path) {
    if (path.empty()) {
      if (entry.type == EntryType::kDirectory) folders_.emplace_back(entry, path);
      return {};
    }
    TRY_ASSIGN(const Fd parent, parent_of(path));
    const std::string name = name_in(path);
    switch (entry.type) {
      case EntryType::kDirectory:
        TRY(make_folder(parent, name));
        folders_.emplace_back(entry, path);
        break;
      case EntryType::kFile:
        TRY(add_file(parent, name, entry));
        break;
      case EntryType::kSymlink:
        if (::symlinkat(entry.link.c_str(), parent.get(), name.c_str()) != 0)
          return system_error(fmt::format("make the link \"{}\"", entry.path), errno);
        break;
      case EntryType::kHardLink:
        TRY(add_hard_link(parent, name, entry));
        break;
      default:
        outcome_.notes.push_back(
            fmt::format("\"{}\" is a device, pipe or socket: it was left out", entry.path));
        return {};
    }
    ++outcome_.entries;
    return {};
  }

  Result<void> add_file(const Fd& parent, const std::string& name, const TreeEntry& entry) {
    TRY_ASSIGN(const Fd file, open_at(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    FileSink sink(file, entry.path, options_.stop);
    if (entry.content != ContentKind::kNone) TRY(tree_.read(entry.path, sink));
    TRY(sink.cut());
    if (sink.bytes() != entry.size) {
      return fail(ErrorKind::kDamaged, fmt::format("\"{}\" came with {} bytes, its entry says {}", entry.path,
                                                   sink.bytes(), entry.size));
    }
    outcome_.bytes += sink.bytes();
    TRY(finish(file, entry));
    return sync_file(file, entry.path);
  }

  Result<void> add_hard_link(const Fd& parent, const std::string& name, const TreeEntry& entry) {
    const auto first = path_below(options_.below, entry.link);
    if (!first || !is_wanted(options_.only, entry.link)) {
      outcome_.notes.push_back(
          fmt::format("\"{}\" is another name of \"{}\", which was not asked for", entry.path, entry.link));
      return {};
    }
    TRY_ASSIGN(const Fd file, open_beneath(root_, *first, O_PATH | O_NOFOLLOW));
    if (::linkat(AT_FDCWD, files::path_of(file).c_str(), parent.get(), name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return system_error(fmt::format("make \"{}\" another name of \"{}\"", entry.path, entry.link), errno);
    return {};
  }

  // Owner first: a change of it takes setuid bits away.
  Result<void> finish(const Fd& opened, const TreeEntry& entry) {
    if (options_.modes == Modes::kPrivate) return {};
    if (entry.uid != ::geteuid() || entry.gid != ::getegid()) {
      if (::fchown(opened.get(), entry.uid, entry.gid) != 0) ++owners_left_;
    }
    TRY(files::write_attributes(opened, entry.path, entry.attributes, not_allowed_));
    if (::fchmod(opened.get(), entry.mode) != 0)
      return system_error(fmt::format("set the mode of \"{}\"", entry.path), errno);
    const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, time_of(entry.mtime_ns)};
    if (::futimens(opened.get(), times) != 0)
      return system_error(fmt::format("set the time of \"{}\"", entry.path), errno);
    return {};
  }

  const CapturedTree& tree_;
  const WriteTreeOptions& options_;
  Fd root_;
  std::vector<std::pair<TreeEntry, std::string>> folders_;
  uint64_t not_allowed_ = 0, owners_left_ = 0;
  SourceRestoreOutcome outcome_;
};

}  // namespace

bool is_wanted(const std::vector<std::string>& only, std::string_view path) {
  if (only.empty()) return true;
  return std::ranges::any_of(only, [&](const std::string& one) {
    return one.empty() || path == one || (path.starts_with(one) && path[one.size()] == '/');
  });
}

Result<SourceRestoreOutcome> write_tree(const CapturedTree& tree, const std::string& folder,
                                        const WriteTreeOptions& options) {
  return TreeWriter(tree, options).write(folder);
}

Result<SourceRestoreOutcome> write_file(const CapturedTree& tree, std::string_view entry,
                                        const std::string& path, mode_t mode) {
  TRY_ASSIGN(const auto status, status_if_there(path));
  const auto taken = [&] {
    return fail(ErrorKind::kRefused, fmt::format("\"{}\" is there already", path),
                "a restore never writes over what is there", "name a path that does not exist");
  };
  if (status) return taken();
  const std::string folder = folder_of(path);
  TRY(make_folders(folder, 0700));
  // Without a name until it is whole. Where the filesystem has no such files, under its own name and private.
  auto file = open_file(folder, O_WRONLY | O_TMPFILE, 0600);
  const bool has_name = !file;
  if (has_name) file = open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file) return file.error().kind == ErrorKind::kExists ? taken() : std::move(file).error();
  SourceRestoreOutcome outcome{.target = path};
  const auto filled = [&]() -> Result<void> {
    FileSink sink(*file, path, {});
    TRY(tree.read(entry, sink));
    TRY(sink.cut());
    if (::fchmod(file->get(), mode) != 0)
      return system_error(fmt::format("set the mode of \"{}\"", path), errno);
    TRY(sync_file(*file, path));
    outcome.entries = 1;
    outcome.bytes = sink.bytes();
    return {};
  }();
  if (!filled) {
    if (has_name) ::unlink(path.c_str());
    return std::move(filled).error();
  }
  if (!has_name &&
      ::linkat(AT_FDCWD, files::path_of(*file).c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return errno == EEXIST ? Result<SourceRestoreOutcome>(taken())
                           : system_error(fmt::format("put \"{}\" in place", path), errno);
  }
  TRY(sync_folder(folder));
  return outcome;
}

}  // namespace kuramori
