#include "source/redis/save.h"

#include <fmt/core.h>

#include <optional>

namespace kuramori::redis {
namespace {

constexpr Duration kPollStep = std::chrono::milliseconds(100);
constexpr Duration kSayAgain = std::chrono::seconds(30);

// Which file a path names, and which writing of it: a save replaces the file by another one.
struct Identity {
  uint64_t device = 0, inode = 0, size = 0;
  Time changed;
  bool operator==(const Identity&) const = default;
};

Identity identity_of(const FileStatus& status) {
  return {status.device, status.inode, status.size, status.changed};
}

// Waiting for a save is not waiting for LASTSAVE to differ from itself (S16): its clock has whole seconds,
// and it stands still when a save fails. What counts: no save is at work, the last one went well, the counter
// of saves (Redis 7) moved, and the file in the folder is another than before.
class Save {
 public:
  Save(Connection& connection, std::string path, Reporter& reporter, std::stop_token stop, Duration limit)
      : connection_(connection),
        path_(std::move(path)),
        reporter_(reporter),
        stop_(std::move(stop)),
        deadline_(system_clock().steady() + limit) {}

  Result<Fd> run() {
    TRY_ASSIGN(before_, identity());
    // A save that is at work began before we asked: what it holds is older than this snapshot says it is.
    TRY(await_idle("a save that began before ours"));
    for (;;) {
      TRY_ASSIGN(const Info info, read_info(connection_, "persistence"));
      saves_before_ = counter(info);
      TRY_ASSIGN(const bool begun, begin());
      if (!begun) {
        TRY(await_idle("the rewrite of its append-only file, or another save"));
        continue;
      }
      TRY(await_idle("its save"));
      TRY_ASSIGN(const bool saved, look());
      if (saved) break;
    }
    return open_new_file();
  }

 private:
  // False: something else has the server's one child, so ours comes later.
  Result<bool> begin() {
    // With SCHEDULE a rewrite of the append-only file at work is no error: the save comes right after it.
    const Arguments command{"BGSAVE", "SCHEDULE"};
    TRY_ASSIGN(const Reply reply, connection_.ask(command));
    if (!reply.is_error()) return reply.text.find("scheduled") == std::string::npos;
    if (reply.text.find("already in progress") != std::string::npos || reply.error_code() == "LOADING")
      return false;
    return connection_.error_of(reply, command);
  }

  Result<void> await_idle(std::string_view what) {
    const Duration begun = system_clock().steady();
    Duration said = begun;
    for (;;) {
      TRY_ASSIGN(const Info info, read_info(connection_, "persistence"));
      if (number_in(info, "rdb_bgsave_in_progress") == 0 && number_in(info, "aof_rewrite_in_progress") == 0 &&
          number_in(info, "loading") == 0)
        return {};
      const Duration now = system_clock().steady();
      if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
      if (now > deadline_) {
        return fail(ErrorKind::kUnknown,
                    fmt::format("{} did not save in time", connection_.endpoint().describe()),
                    fmt::format("it is still at work on {}", what));
      }
      if (now - said > kSayAgain) {
        said = now;
        reporter_.note(fmt::format("waiting for {} to end {}", connection_.endpoint().describe(), what));
      }
      system_clock().sleep(kPollStep);
    }
  }

  // After a save ended: true when it was one after our asking and went well.
  Result<bool> look() {
    TRY_ASSIGN(const Info info, read_info(connection_, "persistence"));
    if (text_in(info, "rdb_last_bgsave_status") != "ok") {
      return fail(ErrorKind::kFailed, fmt::format("{} could not save", connection_.endpoint().describe()),
                  "rdb_last_bgsave_status is err",
                  "its log says why: often memory for the fork (vm.overcommit_memory = 1) or a full disk");
    }
    const std::optional<int64_t> saves = counter(info);
    return !saves || !saves_before_ || *saves > *saves_before_;
  }

  Result<Fd> open_new_file() {
    TRY_ASSIGN(Fd fd, open_file(path_));
    TRY_ASSIGN(const FileStatus status, status_of(fd, path_));
    if (before_ && identity_of(status) == *before_) {
      return fail(ErrorKind::kFailed, fmt::format("{} did not change, though the server saved", path_),
                  "data_dir is not the folder of this server", "ask it: CONFIG GET dir");
    }
    return fd;
  }

  Result<std::optional<Identity>> identity() const {
    TRY_ASSIGN(const std::optional<FileStatus> status, status_if_there(path_));
    if (!status) return std::optional<Identity>();
    return std::optional(identity_of(*status));
  }

  static std::optional<int64_t> counter(const Info& info) {
    if (!info.contains("rdb_saves")) return std::nullopt;
    return number_in(info, "rdb_saves");
  }

  Connection& connection_;
  const std::string path_;
  Reporter& reporter_;
  std::stop_token stop_;
  const Duration deadline_;
  std::optional<Identity> before_;
  std::optional<int64_t> saves_before_;
};

}  // namespace

std::string setting_of(Connection& connection, const std::string& name) {
  const Result<Reply> reply = connection.ask({"CONFIG", "GET", name});
  if (!reply || reply->elements.size() != 2) return {};
  return reply->elements[1].text;
}

Result<Fd> save_and_open(Connection& connection, const std::string& data_dir, Reporter& reporter,
                         std::stop_token stop, Duration limit) {
  std::string name = setting_of(connection, "dbfilename");
  if (name.empty()) name = "dump.rdb";
  return Save(connection, join_path(data_dir, name), reporter, std::move(stop), limit).run();
}

}  // namespace kuramori::redis
