#include "source/files/write_tree.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include "source/files/file_sink.h"

namespace kuramori::files {
namespace {

bool is_at_or_below(std::string_view path, std::string_view folder) {
  return folder.empty() || path == folder ||
         (path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/');
}

class Writer {
 public:
  Writer(const CapturedTree& tree, const SourceRestoreRequest& request, const ApplyOptions& options,
         Reporter& reporter, const std::stop_token& stop)
      : tree_(tree), request_(request), applier_(options), reporter_(reporter), stop_(stop) {}

  Result<SourceRestoreOutcome> run() {
    TRY(prepare());
    TRY(tree_.visit([this](const TreeEntry& entry) { return visit(entry); }));
    TRY(leave_until(nullptr));
    if (root_entry_) TRY(applier_.apply(root_, *root_entry_));
    if (::syncfs(root_.get()) != 0)
      return system_error(fmt::format("write \"{}\" to disk", request_.to), errno);
    outcome_.target = request_.to;
    outcome_.notes = applier_.notes();
    return std::move(outcome_);
  }

 private:
  Result<void> prepare() {
    if (request_.overwrite || request_.delta) {
      return fail(ErrorKind::kRefused, "this restore writes into a new folder only", "",
                  "name a new one with --to");
    }
    TRY(make_folders(request_.to));
    TRY_ASSIGN(std::vector<FolderEntry> there, list_folder(request_.to));
    if (!there.empty()) {
      return fail(ErrorKind::kRefused, fmt::format("\"{}\" is not empty", request_.to),
                  fmt::format("it holds \"{}\"", there.front().name), "name a new folder with --to");
    }
    TRY_ASSIGN(root_, open_folder(request_.to));
    return {};
  }

  bool wanted(const TreeEntry& entry) const {
    if (request_.only.empty() || entry.path.empty()) return true;
    return std::ranges::any_of(request_.only, [&](const std::string& only) {
      return is_at_or_below(entry.path, only) ||
             (entry.type == EntryType::kDirectory && is_at_or_below(only, entry.path));
    });
  }

  Result<void> visit(const TreeEntry& entry) {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
    if (!wanted(entry)) return {};
    ++outcome_.entries;
    if (entry.path.empty()) {
      root_entry_ = entry;
      return {};
    }
    TRY_ASSIGN(SplitPath split, split_tree_path(entry.path));
    TRY(leave_until(&entry.path));
    TRY_ASSIGN(Fd folder, split.folder.empty() ? open_beneath(root_, ".", O_PATH | O_DIRECTORY)
                                               : open_beneath(root_, split.folder, O_PATH | O_DIRECTORY));
    switch (entry.type) {
      case EntryType::kDirectory:
        if (::mkdirat(folder.get(), split.name.c_str(), 0700) != 0)
          return system_error(fmt::format("make the folder \"{}\"", entry.path), errno);
        open_.push_back(entry);
        return {};
      case EntryType::kFile:
        return write_file(folder, split.name, entry, entry.path);
      case EntryType::kHardLink:
        // Where its first name is not restored it becomes a file.
        if (std::ranges::none_of(request_.only,
                                 [&](const std::string& only) { return is_at_or_below(entry.link, only); }) &&
            !request_.only.empty()) {
          return write_file(folder, split.name, entry, entry.link);
        }
        return applier_.make_hard_link(root_, entry, folder, split.name);
      default: {
        TRY_ASSIGN(bool made, applier_.make_special(folder, split.name, entry));
        if (!made) return {};
        return applier_.apply(folder, split.name, entry);
      }
    }
  }

  Result<void> write_file(const Fd& folder, const std::string& name, const TreeEntry& entry,
                          const std::string& content_of) {
    TRY_ASSIGN(Fd fd, open_at(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW));
    FileSink sink(fd, entry.path, reporter_, stop_);
    TRY(tree_.read(content_of, sink));
    TRY_ASSIGN(uint64_t bytes, sink.end());
    outcome_.bytes += bytes;
    return applier_.apply(fd, entry);
  }

  // What is complete by now: the folders that do not hold `path` (all, without one).
  Result<void> leave_until(const std::string* path) {
    while (!open_.empty() && (path == nullptr || !is_at_or_below(*path, open_.back().path))) {
      const TreeEntry entry = std::move(open_.back());
      open_.pop_back();
      TRY_ASSIGN(Fd fd, open_beneath(root_, entry.path, O_PATH | O_DIRECTORY));
      TRY(applier_.apply(fd, entry));
    }
    return {};
  }

  const CapturedTree& tree_;
  const SourceRestoreRequest& request_;
  Applier applier_;
  Reporter& reporter_;
  const std::stop_token& stop_;
  Fd root_;
  std::optional<TreeEntry> root_entry_;
  std::vector<TreeEntry> open_;  // folders that more may come for, from the top down
  SourceRestoreOutcome outcome_;
};

}  // namespace

Result<SourceRestoreOutcome> write_tree(const CapturedTree& tree, const SourceRestoreRequest& request,
                                        const ApplyOptions& options, Reporter& reporter,
                                        const std::stop_token& stop) {
  return Writer(tree, request, options, reporter, stop).run();
}

}  // namespace kuramori::files
