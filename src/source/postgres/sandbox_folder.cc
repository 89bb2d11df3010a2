#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "os/file.h"
#include "source/postgres/sandbox.h"

namespace kuramori::postgres {
namespace {

constexpr std::string_view kPrefix = "kuramori-sandbox-";
constexpr std::string_view kSocketPrefix = "/tmp/kmr-";
constexpr size_t kMarkerBytesMax = 1 << 16;
constexpr Duration kSweepPatience = std::chrono::seconds(10);

std::string default_parent() {
  const char* chosen = ::getenv("TMPDIR");
  return chosen && *chosen ? chosen : "/tmp";
}

Result<std::string> make_folder(const std::string& start, mode_t mode) {
  std::string path = start + "XXXXXX";
  if (!::mkdtemp(path.data())) return system_error("cannot make a folder " + path, errno);
  if (::chmod(path.c_str(), mode) != 0) return system_error("cannot open up " + path, errno);
  return path;
}

struct Marker {
  pid_t owner = 0, server = 0;
  uint64_t owner_ticks = 0, server_ticks = 0;
  std::vector<std::string> removals;
};

std::optional<Marker> parse_marker(std::string_view text) {
  Marker marker;
  bool complete = false;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    const std::string line(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (line.starts_with("owner ")) {
      if (std::sscanf(line.c_str(), "owner %d %lu", &marker.owner, &marker.owner_ticks) != 2) return {};
    } else if (line.starts_with("server ")) {
      if (std::sscanf(line.c_str(), "server %d %lu", &marker.server, &marker.server_ticks) != 2) return {};
    } else if (line.starts_with("remove /")) {
      marker.removals.push_back(line.substr(7));
    } else if (line == "end") {
      complete = true;
    }
  }
  if (!complete || marker.owner <= 0) return {};
  return marker;
}

// A marker is an order to delete: only our own, in a folder only we could have written, is obeyed.
bool is_ours(const std::string& path) {
  auto status = status_of(path);
  return status && status->uid == ::geteuid() && (status->mode & 022) == 0 &&
         status->type != FileType::kSymlink;
}

}  // namespace

SandboxFolder::SandboxFolder(SandboxFolder&& other) noexcept
    : path_(std::move(other.path_)),
      socket_folder_(std::move(other.socket_folder_)),
      account_(other.account_),
      server_(other.server_),
      removals_(std::move(other.removals_)) {
  other.path_.clear();
}

Result<SandboxFolder> SandboxFolder::make(const std::string& parent, Account account) {
  SandboxFolder made;
  made.account_ = account;
  const std::string where = parent.empty() ? default_parent() : parent;
  // 0711: the server's user must pass through; the marker and the copy's own 0700 keep others out.
  TRY_ASSIGN(made.path_, make_folder(join_path(where, kPrefix), 0711));
  made.socket_folder_ = made.path_ + "/s";
  if (made.socket_folder_.size() > kSandboxSocketPathMax) {
    TRY_ASSIGN(made.socket_folder_, make_folder(std::string(kSocketPrefix), 0700));
    made.removals_.push_back(made.socket_folder_);
  } else {
    TRY(make_folders(made.socket_folder_));
  }
  if (::geteuid() == 0 && ::chown(made.socket_folder_.c_str(), account.uid, account.gid) != 0) {
    return system_error("cannot give away " + made.socket_folder_, errno);
  }
  TRY(made.write_marker());
  return made;
}

SandboxFolder::~SandboxFolder() {
  if (path_.empty()) return;
  for (const auto& path : removals_) (void)remove_tree(path);
  (void)remove_tree(path_);
}

Result<void> SandboxFolder::also_remove(const std::string& path) {
  if (!path.starts_with('/') || path == "/" || path.find('\n') != std::string::npos) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" cannot be part of a sandbox", path),
                "an absolute path is needed");
  }
  removals_.push_back(path);
  return write_marker();
}

Result<void> SandboxFolder::note_server(pid_t pid) {
  server_ = pid;
  return write_marker();
}

Result<void> SandboxFolder::write_marker() const {
  std::string text = fmt::format("kuramori sandbox 1\nowner {} {}\n", ::getpid(), start_ticks_of(::getpid()));
  if (server_ > 0) text += fmt::format("server {} {}\n", server_, start_ticks_of(server_));
  for (const auto& path : removals_) text += "remove " + path + "\n";
  text += "end\n";
  return write_file_durably(join_path(path_, "marker"), as_bytes(text));
}

Result<std::vector<std::string>> sweep_sandboxes(const std::string& parent) {
  std::vector<std::string> cleaned;
  const std::string where = parent.empty() ? default_parent() : parent;
  auto entries = list_folder(where);
  if (!entries) {
    if (entries.error().kind == ErrorKind::kNotFound) return cleaned;
    return std::move(entries).error();
  }
  for (const auto& entry : *entries) {
    if (entry.type != FileType::kFolder || !entry.name.starts_with(kPrefix)) continue;
    const std::string path = join_path(where, entry.name);
    const std::string marker_path = join_path(path, "marker");
    if (!is_ours(path) || !is_ours(marker_path)) continue;
    auto bytes = read_file(marker_path, kMarkerBytesMax);
    if (!bytes) continue;
    auto marker = parse_marker(as_text(*bytes));
    if (!marker || is_alive(marker->owner, marker->owner_ticks)) continue;
    if (marker->server > 0 && marker->server_ticks != 0) {
      const Duration deadline = system_clock().steady() + kSweepPatience;
      bool asked = false;
      while (is_alive(marker->server, marker->server_ticks)) {
        const bool late = system_clock().steady() > deadline;
        if (!asked || late) ::kill(marker->server, late ? SIGKILL : SIGQUIT);
        asked = true;
        system_clock().sleep(std::chrono::milliseconds(20));
      }
    }
    // Backends end a moment after their postmaster; a file that appears meanwhile only needs a second look.
    for (const auto& removal : marker->removals) TRY(remove_tree(removal));
    for (int attempt = 0; attempt < 3; ++attempt) {
      auto removed = remove_tree(path);
      if (removed) break;
      if (attempt == 2) return std::move(removed).error();
      system_clock().sleep(std::chrono::milliseconds(200));
    }
    cleaned.push_back(fmt::format("{} was left by process {}, which is gone: removed", path, marker->owner));
  }
  return cleaned;
}

}  // namespace kuramori::postgres
