#include "source/tree/write_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "os/file.h"
#include "source/files/attributes.h"
#include "source/files/file_sink.h"

namespace kuramori {
Result<SourceRestoreOutcome> write_file(const CapturedTree& tree, std::string_view entry,
                                        const std::string& path, mode_t mode, const std::stop_token& stop) {
  if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
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
    files::FileSink sink(*file, path, silent_reporter(), stop);
    TRY(tree.read(entry, sink));
    TRY_ASSIGN(outcome.bytes, sink.end());
    if (::fchmod(file->get(), mode) != 0)
      return system_error(fmt::format("set the mode of \"{}\"", path), errno);
    TRY(sync_file(*file, path));
    outcome.entries = 1;
    return {};
  }();
  if (!filled) {
    if (has_name) ::unlink(path.c_str());
    return filled.error();
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
