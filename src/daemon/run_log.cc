#include "daemon/run_log.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <stdio.h>

#include <cerrno>

#include "base/json_writer.h"
#include "base/time_text.h"

namespace kuramori {
namespace {

std::string line_of(const Run& run, Time now) {
  JsonWriter json;
  json.begin_object().field("schema", "kuramori/run/1").field("time", format_utc(now)).field("run", run.id);
  json.field("job", run.job).field("state", name_of(run.state)).field("due", format_utc(run.due));
  if (!run.vault.empty()) json.field("vault", run.vault);
  if (run.attempt > 0) json.field("attempt", run.attempt);
  if (run.started && run.ended)
    json.field("seconds", std::chrono::duration<double>(*run.ended - *run.started).count());
  if (!run.why.empty()) json.field("why", run.why);
  json.end_object();
  return json.take() + "\n";
}

}  // namespace

// Whoever has the old file open goes on reading it: it is renamed, never cut.
Result<void> RunLog::make_room(uint64_t bytes) {
  TRY_ASSIGN(const auto there, status_if_there(path_));
  if (!there || there->size == 0 || there->size + bytes <= bytes_max_) return {};
  for (int number = kRunLogsKept; number > 0; --number) {
    const std::string from = number == 1 ? path_ : fmt::format("{}.{}", path_, number - 1);
    const std::string to = fmt::format("{}.{}", path_, number);
    if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT)
      return system_error(fmt::format("rename {}", from), errno);
  }
  return {};
}

Result<void> RunLog::write(std::span<const Run> changed, Time now) {
  if (changed.empty()) return {};
  std::string lines;
  for (const Run& run : changed) lines += line_of(run, now);
  TRY(make_room(lines.size()));
  TRY_ASSIGN(const Fd file, open_file(path_, O_WRONLY | O_CREAT | O_APPEND, 0640));
  return write_full(file, as_bytes(lines), path_);
}

}  // namespace kuramori
