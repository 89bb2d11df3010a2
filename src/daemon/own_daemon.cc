#include "daemon/own_daemon.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/file.h"

namespace kuramori {
namespace {

constexpr std::string_view kSegmentFolder = "/pg_wal";
constexpr const char* kSocketFile = "kuramori.get";
constexpr size_t kSocketPathBytesMax = 100;  // an address has 108, with ".new" behind it
constexpr const char* kIdleSeconds = "KURAMORI_SERVE_IDLE";

// The whole program, which stands beside this one.
std::string whole_program() {
  char path[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  if (size <= 0) return {};
  const std::string self(path, static_cast<size_t>(size));
  return self.substr(0, self.rfind('/') + 1) + "kuramori";
}

}  // namespace

std::string own_daemon_socket(const DaemonWords& words, const std::string& path) {
  if (!words.socket.empty() || ::getenv("KURAMORI_SOCKET") != nullptr) return {};
  std::string folder = real_path(folder_of(path));
  if (!folder.ends_with(kSegmentFolder)) return {};
  std::string socket = join_path(folder, kSocketFile);
  return socket.size() <= kSocketPathBytesMax ? socket : std::string();
}

void start_own_daemon(const DaemonWords& words, const std::string& socket) {
  const std::string program = whole_program();
  if (program.empty() || ::access(program.c_str(), X_OK) != 0) return;
  std::vector<std::string> line{program};
  auto option = [&](const char* name, const std::string& value) {
    if (!value.empty()) line.insert(line.end(), {name, value});
  };
  option("--config", words.config);
  option("--vault", words.vault);
  option("--key-file", words.key_file);
  line.emplace_back("serve");
  option("--socket", socket);
  std::vector<char*> raw;
  for (std::string& word : line) raw.push_back(word.data());
  raw.push_back(nullptr);
  // Before the fork: nothing is allocated after it. Who set it already knows better.
  ::setenv(kIdleSeconds, std::to_string(kOwnDaemonIdleMax.count()).c_str(), 0);
  if (::fork() != 0) return;
  // Of the server's it keeps nothing: not its log, its terminal, its process group, or its folder.
  ::setsid();
  const int nowhere = ::open("/dev/null", O_RDWR);
  for (int stream = 0; stream < 3; ++stream) ::dup2(nowhere, stream);
  ::syscall(SYS_close_range, 3U, ~0U, 0U);
  if (::chdir("/") == 0) ::execv(raw[0], raw.data());
  ::_exit(127);
}

std::optional<Duration> own_daemon_idle() {
  const char* seconds = ::getenv(kIdleSeconds);
  if (seconds == nullptr || std::atoi(seconds) <= 0) return std::nullopt;
  return std::chrono::seconds(std::atoi(seconds));
}

}  // namespace kuramori
