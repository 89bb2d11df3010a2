#include "source/postgres/sandbox.h"

#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "os/file.h"
#include "source/postgres/connection.h"
#include "source/postgres/recovery_place.h"

namespace kuramori::postgres {
namespace {

constexpr Duration kPollEvery = std::chrono::milliseconds(30);
constexpr Duration kProbeStatementLimit = std::chrono::seconds(5);
constexpr size_t kLogReadBytesMax = size_t{16} << 20;

// Libraries that act on their own when the server starts: a copy of production must not run production's
// jobs.
constexpr std::array kJobRunners =
    std::to_array<std::string_view>({"pg_cron", "pg_partman_bgw", "pg_timetable"});

constexpr std::string_view kTrustAll = "local all all trust\nlocal replication all reject\n";

std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> words;
  while (!list.empty()) {
    const size_t comma = list.find(',');
    std::string word(list.substr(0, comma));
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
    std::erase_if(word, [](char c) { return c == ' ' || c == '"' || c == '\t'; });
    if (!word.empty()) words.push_back(std::move(word));
  }
  return words;
}

std::string join_list(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

bool is_within(std::string_view path, std::string_view folder) {
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

std::string resolved(const std::string& path) {
  char real[PATH_MAX];
  return ::realpath(path.c_str(), real) ? std::string(real) : path;
}

}  // namespace

std::string Sandbox::connect(const std::string& database) const {
  return fmt::format("host='{}' user='{}' dbname='{}' connect_timeout=5 sslmode=disable",
                     folder_.socket_folder(), superuser_, database);
}

std::string Sandbox::log_tail() const {
  auto log = read_file(join_path(folder_.path(), "log"), kLogReadBytesMax);
  if (!log) return {};
  const std::string_view text = as_text(*log);
  return std::string(text.substr(text.size() - std::min(text.size(), kSandboxLogTailBytes)));
}

Result<std::unique_ptr<Sandbox>> Sandbox::start(SandboxFolder folder, const SandboxOptions& options,
                                                Clock& clock) {
  if (options.action == AtTarget::kShutdown) {
    return fail(ErrorKind::kUsage, "a sandbox cannot shut down at the target",
                "nothing could be asked of it");
  }
  std::unique_ptr<Sandbox> sandbox(new Sandbox(std::move(folder)));
  const SandboxFolder& place = sandbox->folder_;
  sandbox->superuser_ = options.superuser;
  const std::string data = resolved(options.data_directory);

  TRY(check_no_way_out(data, options.tablespaces));
  std::vector<std::string> hidden;
  for (const auto& original : options.originals) {
    const std::string there = resolved(original);
    std::vector<std::string> needed = options.tablespaces;
    needed.push_back(data);
    needed.push_back(place.path());
    for (const auto& own : needed) {
      if (is_within(resolved(own), there)) {
        return fail(ErrorKind::kRefused, fmt::format("the sandbox {} is inside {}", own, there),
                    "that is the original server's directory, which a sandbox must not reach",
                    "choose another place for it");
      }
    }
    auto status = status_if_there(there);
    if (status && *status && (*status)->type == FileType::kFolder) hidden.push_back(there);
  }

  const auto folders = library_folders_of(options.programs.folder);
  auto usable_libraries = [&](std::string_view name) {
    const std::string list = configured_value(data, name).value_or("");
    auto missing = kuramori::postgres::missing_libraries(list, folders);
    auto words = split_list(list);
    std::erase_if(words, [&](const std::string& word) {
      return std::ranges::count(missing, word) > 0 || std::ranges::count(kJobRunners, word) > 0;
    });
    std::ranges::move(missing, std::back_inserter(sandbox->missing_libraries_));
    return join_list(words);
  };

  std::map<std::string, std::string> settings = {
      {"listen_addresses", ""},
      {"unix_socket_directories", place.socket_folder()},
      {"unix_socket_permissions", "0700"},
      {"unix_socket_group", ""},
      {"port", "5432"},
      {"hba_file", join_path(place.path(), "hba.conf")},
      {"ident_file", join_path(place.path(), "ident.conf")},
      {"archive_mode", "off"},
      {"primary_conninfo", ""},
      {"synchronous_standby_names", ""},
      {"max_logical_replication_workers", "0"},
      {"cluster_name", "kuramori sandbox"},
      {"logging_collector", "off"},
      {"log_destination", "stderr"},
      {"lc_messages", "C"},
      {"ssl", "off"},
      {"autovacuum", "off"},
      {"huge_pages", "try"},
      {"dynamic_shared_memory_type", "mmap"},  // in the copy: /dev/shm is read-only like all else
      {"shared_buffers", "128MB"},
      {"shared_preload_libraries", usable_libraries("shared_preload_libraries")},
      {"session_preload_libraries", usable_libraries("session_preload_libraries")},
      {"local_preload_libraries", usable_libraries("local_preload_libraries")},
      // Hot standby needs settings at least as high as any the primary ever had on the way; who only promotes
      // has no use for it.
      {"hot_standby", options.action == AtTarget::kPromote ? "off" : "on"},
  };
  // Debian's configuration has it outside the data directory.
  if (options.programs.major <= 14) settings["stats_temp_directory"] = "pg_stat_tmp";
  if (options.throw_away) {
    settings["fsync"] = "off";
    settings["full_page_writes"] = "off";
  }
  for (const auto& [name, value] : options.settings) settings[name] = value;

  TRY(write_file_durably(join_path(place.path(), "hba.conf"), as_bytes(kTrustAll), 0644));
  TRY(write_file_durably(join_path(place.path(), "ident.conf"), {}, 0644));
  const std::string empty = join_path(place.path(), "empty");
  TRY(make_folders(empty));

  ChildOptions child;
  child.arguments = {options.programs.postgres(), "-D", data};
  for (const auto& [name, value] : settings) {
    child.arguments.push_back("-c");
    child.arguments.push_back(name + "=" + value);
  }
  for (char** entry = ::environ; *entry; ++entry) {
    const std::string_view variable = *entry;
    if (variable.starts_with("PATH=") || variable.starts_with("TZ=") || variable.starts_with("KURAMORI_") ||
        variable.starts_with("LD_LIBRARY_PATH=")) {
      child.environment.emplace_back(variable);
    }
  }
  child.environment.push_back("HOME=" + place.path());
  child.log_file = join_path(place.path(), "log");
  child.as_root = ::geteuid() == 0;
  child.account = place.account();
  child.hidden = hidden;
  child.empty_folder = empty;
  child.writable = {data, place.path(), place.socket_folder()};
  for (const auto& own : options.tablespaces) child.writable.push_back(resolved(own));

  auto& words = sandbox->isolation_;
  words.emplace_back("a network namespace of its own, without interfaces");
  words.push_back("listens on " + place.socket_folder() + " only");
  words.emplace_back("archiving off");
  for (const auto& path : hidden) words.push_back(path + " is hidden");
  words.emplace_back("everything but its own folders is read-only");

  auto started = start_child(child);
  if (!started) {
    Error error = std::move(started).error();
    if (error.next.empty()) {
      error.next = child.as_root
                       ? "a sandbox needs namespaces: see `man unshare`"
                       : "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)";
    }
    return error;
  }
  sandbox->pid_ = *started;
  TRY(sandbox->folder_.note_server(*started));
  const Duration begin = clock.steady();
  TRY(sandbox->wait_until_open(options, clock));
  sandbox->seconds_to_open_ = std::chrono::duration<double>(clock.steady() - begin).count();
  return sandbox;
}

bool Sandbox::has_ended() {
  if (pid_ <= 0) return true;
  int status = 0;
  const pid_t got = ::waitpid(pid_, &status, WNOHANG);
  if (got == pid_ || (got < 0 && errno == ECHILD)) {
    pid_ = -1;
    return true;
  }
  return false;
}

Result<void> Sandbox::wait_until_open(const SandboxOptions& options, Clock& clock) {
  const Duration deadline = clock.steady() + options.open_limit;
  std::string last_trouble;
  while (true) {
    if (has_ended()) {
      return fail(ErrorKind::kFailed,
                  fmt::format("the restored copy {} does not start", options.data_directory),
                  "its server said:\n" + log_tail());
    }
    if (auto open = Connection::open(connect(), {.statement_timeout = kProbeStatementLimit})) {
      auto in_recovery = open->value("select pg_is_in_recovery()");
      if (in_recovery && *in_recovery == "f") {
        if (options.action == AtTarget::kPromote) return {};
        return fail(ErrorKind::kFailed, "the restored copy did not pause at its target",
                    "its server said:\n" + log_tail());
      }
      if (in_recovery && options.action == AtTarget::kPause) {
        // Asking for a pause and being paused differ from 14 on; before there is only the request, which the
        // server makes itself when it has reached the target.
        auto paused = open->value(open->major() >= 14 ? "select pg_get_wal_replay_pause_state() = 'paused'"
                                                      : "select pg_is_wal_replay_paused()");
        if (paused && *paused == "t") return {};
      }
      if (!in_recovery) last_trouble = in_recovery.error().what;
    } else {
      last_trouble = open.error().what + (open.error().why.empty() ? "" : ": " + open.error().why);
    }
    if (clock.steady() > deadline) {
      return fail(ErrorKind::kFailed,
                  fmt::format("the restored copy {} did not open in time", options.data_directory),
                  last_trouble + "\nits server said:\n" + log_tail());
    }
    clock.sleep(kPollEvery);
  }
}

Result<void> Sandbox::stop() {
  if (has_ended()) return {};
  ::kill(pid_, SIGINT);  // fast
  Clock& clock = system_clock();
  const Duration deadline = clock.steady() + kSandboxStopLimit;
  while (!has_ended()) {
    if (clock.steady() > deadline) {
      end();
      return fail(ErrorKind::kFailed, "the sandbox did not stop in time and was ended",
                  "its server said:\n" + log_tail());
    }
    clock.sleep(kPollEvery);
  }
  return {};
}

void Sandbox::end() {
  if (has_ended()) return;
  ::kill(pid_, SIGQUIT);  // immediate
  Clock& clock = system_clock();
  const Duration deadline = clock.steady() + std::chrono::seconds(10);
  while (!has_ended()) {
    if (clock.steady() > deadline) ::kill(pid_, SIGKILL);
    clock.sleep(kPollEvery);
  }
}

Sandbox::~Sandbox() {
  end();
}

}  // namespace kuramori::postgres
