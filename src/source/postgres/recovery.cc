#include "source/postgres/recovery.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "os/file.h"

namespace kuramori::postgres {
namespace {

constexpr std::string_view kAutoConf = "postgresql.auto.conf";
constexpr std::string_view kMainConf = "postgresql.conf";

// Of an earlier recovery, of another server's place in a cluster, of the original machine.
constexpr std::array kNeverInherited = std::to_array<std::string_view>(
    {"restore_command", "recovery_target", "recovery_target_name", "recovery_target_time",
     "recovery_target_xid", "recovery_target_lsn", "recovery_target_inclusive", "recovery_target_timeline",
     "recovery_target_action", "recovery_end_command", "archive_cleanup_command", "recovery_min_apply_delay",
     "promote_trigger_file", "primary_conninfo", "primary_slot_name", "synchronous_standby_names",
     "sync_replication_slots", "synchronized_standby_slots",
     // Started with these, the restored copy would open the original's directory instead of its own (P48).
     "data_directory", "hba_file", "ident_file", "external_pid_file"});
constexpr std::array kArchiving =
    std::to_array<std::string_view>({"archive_mode", "archive_command", "archive_library"});

bool is_name_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$';
}

// One line as guc-file.l reads it: name, optional '=', value quoted or bare, comment.
std::optional<ConfigLine> parse_line(std::string_view text) {
  size_t at = 0;
  auto skip_blank = [&] {
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
  };
  skip_blank();
  ConfigLine line;
  while (at < text.size() && is_name_char(text[at])) {
    line.name += static_cast<char>(std::tolower(static_cast<unsigned char>(text[at++])));
  }
  if (line.name.empty()) return {};
  skip_blank();
  if (at < text.size() && text[at] == '=') ++at;
  skip_blank();
  if (at < text.size() && text[at] == '\'') {
    for (++at; at < text.size(); ++at) {
      if (text[at] == '\'') {
        if (at + 1 >= text.size() || text[at + 1] != '\'') break;
        ++at;  // '' is a quote
      } else if (text[at] == '\\' && at + 1 < text.size()) {
        ++at;
      }
      line.value += text[at];
    }
  } else {
    while (at < text.size() && text[at] != '#' && !std::isspace(static_cast<unsigned char>(text[at]))) {
      line.value += text[at++];
    }
  }
  return line;
}

template <class Visit>
void each_line(std::string_view text, Visit visit) {
  for (size_t number = 0; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    visit(number, text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
}

Result<std::string> read_if_there(const std::string& path) {
  auto bytes = read_file(path);
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return std::string();
  if (!bytes) return std::move(bytes).error();
  return std::string(as_text(*bytes));
}

bool is_inherited(std::string_view name, bool keep_archiving) {
  if (std::ranges::count(kNeverInherited, name) > 0) return true;
  return !keep_archiving && std::ranges::count(kArchiving, name) > 0;
}

constexpr std::string_view kMinimalConf =
    "# Written by kuramori restore: the restored server kept its configuration outside its data directory.\n"
    "# Bring that configuration back, or go on from here.\n"
    "listen_addresses = 'localhost'\n"
    "password_encryption = 'scram-sha-256'\n";
constexpr std::string_view kMinimalHba =
    "# Written by kuramori restore: the restored server kept its pg_hba.conf outside its data directory.\n"
    "local all all peer\n"
    "host all all 127.0.0.1/32 scram-sha-256\n"
    "host all all ::1/128 scram-sha-256\n";

}  // namespace

std::string_view name_of(AtTarget action) {
  switch (action) {
    case AtTarget::kPromote:
      return "promote";
    case AtTarget::kPause:
      return "pause";
    case AtTarget::kShutdown:
      return "shutdown";
  }
  return "promote";
}

std::vector<ConfigLine> parse_config(std::string_view text) {
  std::vector<ConfigLine> lines;
  each_line(text, [&](size_t number, std::string_view raw) {
    if (auto line = parse_line(raw)) {
      line->line = number;
      lines.push_back(std::move(*line));
    }
  });
  return lines;
}

std::string quote_value(std::string_view value) {
  std::string quoted = "'";
  for (char c : value) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + "'";
}

std::string spool_restore_command(const std::string& folder) {
  std::string quoted = "'";
  for (char c : folder) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      if (c == '%') quoted += '%';  // the server replaces %f and %p, and %% by %
      quoted += c;
    }
  }
  quoted += "'";
  // A file that is there but cannot be copied stops the server; only an absent one is the end (P44).
  return fmt::format("test -d {0} || exit 200; test -e {0}/%f || exit 1; cp {0}/%f %p || exit 200", quoted);
}

std::string without_inherited(std::string_view text, bool keep_archiving) {
  std::string kept;
  each_line(text, [&](size_t, std::string_view raw) {
    auto line = parse_line(raw);
    if (line && is_inherited(line->name, keep_archiving)) kept += "# disabled by kuramori restore: ";
    kept += raw;
    kept += '\n';
  });
  return kept;
}

std::vector<std::pair<std::string, std::string>> recovery_settings(const RecoveryConfig& settings) {
  std::vector<std::pair<std::string, std::string>> list;
  auto set = [&](std::string name, std::string value) {
    std::erase_if(list, [&](const auto& item) { return item.first == name; });
    list.emplace_back(std::move(name), std::move(value));
  };
  const bool from_archive =
      settings.mode == RecoveryMode::kArchive || settings.mode == RecoveryMode::kStandby;
  if (from_archive) {
    set("restore_command", settings.restore_command);
    if (settings.immediate) {
      set("recovery_target", "immediate");
    } else if (settings.target_lsn) {
      set("recovery_target_lsn", format_lsn(*settings.target_lsn));
      set("recovery_target_inclusive", settings.inclusive ? "on" : "off");
    }
    set("recovery_target_timeline", std::to_string(settings.timeline));
    if (settings.immediate || settings.target_lsn) {
      set("recovery_target_action", std::string(name_of(settings.action)));
    }
    if (settings.mode == RecoveryMode::kStandby && !settings.primary_conninfo.empty()) {
      set("primary_conninfo", settings.primary_conninfo);
    }
    if (settings.mode == RecoveryMode::kStandby || settings.action == AtTarget::kPause)
      set("hot_standby", "on");
  }
  if (settings.limits) {
    const RecoverySettings& limits = *settings.limits;
    auto at_least = [&](const char* name, uint32_t value) {
      if (value > 0) set(name, std::to_string(value));
    };
    at_least("max_connections", limits.max_connections);
    at_least("max_worker_processes", limits.max_worker_processes);
    at_least("max_wal_senders", limits.max_wal_senders);
    at_least("max_prepared_transactions", limits.max_prepared_transactions);
    at_least("max_locks_per_transaction", limits.max_locks_per_transaction);
    if (limits.track_commit_timestamp) set("track_commit_timestamp", "on");
  }
  if (settings.continue_archiving) {
    set("archive_mode", "on");
    if (!settings.archive_command.empty()) set("archive_command", settings.archive_command);
  } else {
    set("archive_mode", "off");
  }
  for (const auto& [name, value] : settings.extra) set(name, value);
  return list;
}

Result<ConfigureReport> configure_recovery(const std::string& data_directory,
                                           const RecoveryConfig& settings) {
  ConfigureReport report;
  auto in_it = [&](std::string_view name) { return join_path(data_directory, name); };
  const bool from_archive =
      settings.mode == RecoveryMode::kArchive || settings.mode == RecoveryMode::kStandby;
  if (from_archive && (settings.restore_command.empty() || settings.timeline == 0)) {
    return fail(ErrorKind::kUsage, "a recovery from the archive needs a restore_command and a timeline");
  }
  // What the source left of an earlier life. backup_label stays: without it recovery would begin too late.
  for (std::string_view name : {"recovery.conf", "recovery.signal", "standby.signal", "postmaster.pid",
                                "postmaster.opts", "postgresql.auto.conf.tmp"}) {
    TRY_ASSIGN(auto there, status_if_there(in_it(name)));
    if (!there) continue;
    TRY(remove_file(in_it(name)));
    report.notes.push_back(fmt::format("removed the {} that came with the snapshot", name));
  }

  TRY_ASSIGN(auto main_there, status_if_there(in_it(kMainConf)));
  if (!main_there) {
    TRY(write_file_durably(in_it(kMainConf), as_bytes(kMinimalConf)));
    report.notes.push_back("postgresql.conf was not in the data directory: a minimal one was written (P56)");
  } else {
    TRY_ASSIGN(std::string text, read_if_there(in_it(kMainConf)));
    const std::string cleaned = without_inherited(text, settings.continue_archiving);
    if (cleaned != text && cleaned != text + "\n") {
      TRY(write_file_durably(in_it(kMainConf), as_bytes(cleaned)));
      for (const auto& line : parse_config(text)) {
        if (is_inherited(line.name, settings.continue_archiving)) {
          report.notes.push_back(fmt::format("postgresql.conf: {} = {} is disabled", line.name, line.value));
        }
      }
    }
    for (const auto& line : parse_config(text)) {
      if (line.name.starts_with("include") && line.value.starts_with("/")) {
        report.notes.push_back(
            fmt::format("postgresql.conf includes {}, which was not looked into", line.value));
      }
    }
  }
  for (std::string_view name : {"pg_hba.conf", "pg_ident.conf"}) {
    TRY_ASSIGN(auto there, status_if_there(in_it(name)));
    if (there) continue;
    TRY(write_file_durably(in_it(name), as_bytes(name == "pg_hba.conf" ? kMinimalHba : std::string_view())));
    report.notes.push_back(
        fmt::format("{} was not in the data directory: a minimal one was written (P56)", name));
  }

  // postgresql.auto.conf is read last, so what is written here is in force. Old lines of the same names go.
  const auto list = recovery_settings(settings);
  TRY_ASSIGN(std::string old_auto, read_if_there(in_it(kAutoConf)));
  std::string text;
  each_line(old_auto, [&](size_t, std::string_view raw) {
    if (auto line = parse_line(raw)) {
      if (is_inherited(line->name, false)) return;
      if (std::ranges::count(list, line->name, [](const auto& item) { return std::string_view(item.first); }))
        return;
    }
    text += raw;
    text += '\n';
  });
  for (const auto& [name, value] : list) text += fmt::format("{} = {}\n", name, quote_value(value));
  TRY(write_file_durably(in_it(kAutoConf), as_bytes(text)));

  // The signal file comes last: until it stands, a server started by mistake would not recover at all — so
  // the order matters to nobody but a crash here, after which configure_recovery is simply run again.
  if (from_archive) {
    const bool standby = settings.mode == RecoveryMode::kStandby;
    TRY(write_file_durably(in_it(standby ? "standby.signal" : "recovery.signal"), {}));
  }
  return report;
}

std::optional<std::string> configured_value(const std::string& data_directory, std::string_view name) {
  std::optional<std::string> value;
  for (std::string_view file : {kMainConf, kAutoConf}) {
    auto text = read_if_there(join_path(data_directory, file));
    if (!text) continue;
    for (const auto& line : parse_config(*text)) {
      if (line.name == name) value = line.value;
    }
  }
  return value;
}

std::vector<std::string> library_folders_of(const std::string& bin_folder) {
  const std::string root = folder_of(bin_folder);
  return {join_path(root, "lib"), join_path(root, "lib/postgresql"), join_path(root, "lib64/postgresql"),
          join_path(root, "lib64"), join_path(root, "lib/x86_64-linux-gnu/postgresql")};
}

std::vector<std::string> missing_libraries(std::string_view list, const std::vector<std::string>& folders) {
  std::vector<std::string> missing;
  while (!list.empty()) {
    const size_t comma = list.find(',');
    std::string name(list.substr(0, comma));
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
    std::erase_if(name, [](char c) { return std::isspace(static_cast<unsigned char>(c)) || c == '"'; });
    if (name.empty()) continue;
    std::string file = name;
    if (file.starts_with("$libdir/")) file = file.substr(8);
    if (!file.ends_with(".so")) file += ".so";
    const bool found = file.starts_with("/") ? ::access(file.c_str(), R_OK) == 0
                                             : std::ranges::any_of(folders, [&](const std::string& folder) {
                                                 return ::access(join_path(folder, file).c_str(), R_OK) == 0;
                                               });
    if (!found) missing.push_back(name);
  }
  return missing;
}

}  // namespace kuramori::postgres
