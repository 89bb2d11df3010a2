#include "policy/setting.h"

#include <fmt/core.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace kuramori {
namespace {

// Reads to the end; more than the limit is an error, not a shorter value.
Result<std::string> drain(std::FILE* from, const std::string& name) {
  std::string out;
  char buffer[4096];
  for (;;) {
    size_t got = std::fread(buffer, 1, sizeof buffer, from);
    out.append(buffer, got);
    if (out.size() > kConfigBytesMax)
      return fail(ErrorKind::kUsage, fmt::format("{} yields more than {} bytes", name, kConfigBytesMax));
    if (got < sizeof buffer) break;
  }
  if (std::ferror(from)) return system_error(fmt::format("cannot read {}", name), errno);
  return out;
}

Result<std::string> read_whole_file(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (!file) return system_error(fmt::format("cannot open {}", path), errno);
  return drain(file.get(), path);
}

Result<std::string> run_shell(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "re");
  if (!pipe) return system_error("cannot start a shell", errno);
  auto out = drain(pipe, "a configured command");
  int status = pclose(pipe);
  if (!out) return out;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return fail(ErrorKind::kUsage, "a configured command failed",
                WIFEXITED(status) ? fmt::format("exit status {}", WEXITSTATUS(status)) : "ended by a signal");
  return out;
}

}  // namespace

ConfigWorld machine_world() {
  return {
      .environment = [](const std::string& name) -> std::optional<std::string> {
        const char* value = std::getenv(name.c_str());
        return value ? std::optional<std::string>(value) : std::nullopt;
      },
      .read_file = read_whole_file,
      .run_command = run_shell,
  };
}

Result<std::string> Setting::fetch(const ConfigWorld& world) const {
  if (from_ != From::kFile && from_ != From::kCommand) return text_;
  TRY_ASSIGN(std::string value, from_ == From::kFile ? world.read_file(text_) : world.run_command(text_));
  if (value.ends_with('\n')) value.pop_back();
  if (value.ends_with('\r')) value.pop_back();
  return value;
}

std::string Setting::origin() const {
  switch (from_) {
    case From::kNowhere:
      return "nowhere";
    case From::kText:
    case From::kVariable:
      return "the configuration";
    case From::kFile:
      return fmt::format("the file {}", text_);
    case From::kCommand:
      return "a command";
  }
  return "nowhere";
}

}  // namespace kuramori
