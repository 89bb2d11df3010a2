#include "source/postgres/backup_label.h"

#include <charconv>

namespace kuramori::postgres {
namespace {

Error damaged(std::string_view file, std::string_view line, std::string why) {
  return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: \"{}\"", file, line.substr(0, 80)),
              std::move(why), "take another snapshot: kuramori backup");
}

template <class T>
std::optional<T> parse_decimal(std::string_view text) {
  T value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_segment_name(std::string_view name) {
  return name.size() == kSegmentNameChars &&
         name.find_first_not_of("0123456789ABCDEF") == std::string_view::npos;
}

// "0/6400028 (file 000000010000000000000019)"
bool read_place(std::string_view value, Lsn& lsn, std::string& file) {
  const size_t space = value.find(' ');
  if (space == std::string_view::npos) return false;
  const auto place = parse_lsn(value.substr(0, space));
  std::string_view name = value.substr(space + 1);
  if (!place || !name.starts_with("(file ") || !name.ends_with(')')) return false;
  name = name.substr(6, name.size() - 7);
  if (!is_segment_name(name)) return false;
  lsn = *place;
  file = name;
  return true;
}

bool read_timeline(std::string_view value, Timeline& timeline) {
  const auto parsed = parse_decimal<Timeline>(value);
  timeline = parsed.value_or(0);
  return timeline != 0;
}

bool read_lsn(std::string_view value, Lsn& lsn) {
  const auto parsed = parse_lsn(value);
  if (parsed) lsn = *parsed;
  return parsed.has_value();
}

bool read_text(std::string_view value, std::string& text) {
  text = value;
  return true;
}

// One line that both files may hold; false: its value is wrong. `known` says whether the key was one.
bool read_label_line(std::string_view key, std::string_view value, BackupLabel& label, bool& known) {
  known = true;
  if (key == "START WAL LOCATION") return read_place(value, label.start, label.start_file);
  if (key == "CHECKPOINT LOCATION") return read_lsn(value, label.checkpoint);
  if (key == "BACKUP METHOD") return read_text(value, label.method) && !value.empty();
  if (key == "BACKUP FROM") {
    label.from_standby = value == "standby";
    return label.from_standby || value == "primary" || value == "master";
  }
  if (key == "START TIME") return read_text(value, label.start_time);
  if (key == "LABEL") return read_text(value, label.label);
  if (key == "START TIMELINE") return read_timeline(value, label.timeline);
  if (key == "INCREMENTAL FROM LSN") {
    label.incremental_from.emplace();
    return read_lsn(value, *label.incremental_from);
  }
  if (key == "INCREMENTAL FROM TLI") return read_timeline(value, label.incremental_from_timeline);
  known = false;
  return false;
}

bool read_history_line(std::string_view key, std::string_view value, BackupHistory& history, bool& known) {
  known = true;
  if (key == "STOP WAL LOCATION") return read_place(value, history.stop, history.stop_file);
  if (key == "STOP TIME") return read_text(value, history.stop_time);
  if (key == "STOP TIMELINE") return read_timeline(value, history.stop_timeline);
  return read_label_line(key, value, history.label, known);
}

// Hands each line's key and value to `read`; every line must be known, right, and there once.
template <class Read>
Result<void> read_lines(std::string_view file, std::string_view text, Read read) {
  if (text.size() > kBackupLabelBytesMax) return damaged(file, "", "it is too long");
  std::set<std::string_view> seen;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.ends_with('\r'))
      return damaged(file, line, "it has been edited on another system: lines end in \\r");
    const size_t colon = line.find(": ");
    if (colon == std::string_view::npos) return damaged(file, line, "a line is \"NAME: VALUE\"");
    const std::string_view key = line.substr(0, colon);
    bool known = false;
    if (!read(key, line.substr(colon + 2), known)) {
      return damaged(file, line,
                     known ? "the value cannot be" : "no PostgreSQL of 13 to 18 writes this line");
    }
    if (!seen.insert(key).second) return damaged(file, line, "the line stands there twice");
  }
  for (std::string_view key : {"START WAL LOCATION", "CHECKPOINT LOCATION", "START TIMELINE"}) {
    if (!seen.contains(key)) return damaged(file, key, "this line is missing");
  }
  return {};
}

Result<void> check_incremental(std::string_view file, const BackupLabel& label) {
  if (label.incremental_from.has_value() != (label.incremental_from_timeline != 0)) {
    return damaged(file, "INCREMENTAL FROM", "position and timeline come together");
  }
  return {};
}

}  // namespace

Result<BackupLabel> parse_backup_label(std::string_view text) {
  BackupLabel label;
  TRY(read_lines("backup_label", text, [&](std::string_view key, std::string_view value, bool& known) {
    return read_label_line(key, value, label, known);
  }));
  TRY(check_incremental("backup_label", label));
  return label;
}

std::string compose_backup_label(const BackupLabel& label) {
  std::string text = fmt::format(
      "START WAL LOCATION: {} (file {})\n"
      "CHECKPOINT LOCATION: {}\n"
      "BACKUP METHOD: {}\n"
      "BACKUP FROM: {}\n"
      "START TIME: {}\n"
      "LABEL: {}\n"
      "START TIMELINE: {}\n",
      format_lsn(label.start), label.start_file, format_lsn(label.checkpoint), label.method,
      label.from_standby ? "standby" : "primary", label.start_time, label.label, label.timeline);
  if (label.incremental_from) {
    text += fmt::format("INCREMENTAL FROM LSN: {}\nINCREMENTAL FROM TLI: {}\n",
                        format_lsn(*label.incremental_from), label.incremental_from_timeline);
  }
  return text;
}

Result<BackupHistory> parse_backup_history(std::string_view text) {
  BackupHistory history;
  TRY(read_lines("the backup history file", text,
                 [&](std::string_view key, std::string_view value, bool& known) {
                   return read_history_line(key, value, history, known);
                 }));
  TRY(check_incremental("the backup history file", history.label));
  if (history.stop < history.label.start || history.stop_file.empty()) {
    return damaged("the backup history file", "STOP WAL LOCATION", "a backup ends behind its start");
  }
  return history;
}

Result<std::vector<TablespaceLink>> parse_tablespace_map(std::string_view text) {
  constexpr std::string_view kFile = "tablespace_map";
  if (text.size() > kTablespaceMapBytesMax) return damaged(kFile, "", "it is too long");
  if (text.find('\0') != std::string_view::npos) return damaged(kFile, "", "a path holds no NUL");
  std::vector<TablespaceLink> links;
  std::string line;
  auto take_line = [&]() -> Result<void> {
    const size_t space = line.find(' ');
    const auto oid = parse_decimal<uint32_t>(std::string_view(line).substr(0, space));
    if (space == std::string::npos || !oid || *oid == 0 || space + 1 == line.size()) {
      return damaged(kFile, line, "a line is \"OID PATH\"");
    }
    for (const auto& link : links) {
      if (link.oid == *oid) return damaged(kFile, line, "the tablespace stands there twice");
    }
    links.push_back({*oid, line.substr(space + 1)});
    line.clear();
    return {};
  };
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\\') {
      if (++at == text.size()) return damaged(kFile, line, "it ends in a backslash");
      // Servers before 15 escape newlines alone and leave a path's own backslashes as they are.
      const char next = text[at];
      if (next != '\\' && next != '\n' && next != '\r') line += c;
      line += next;
    } else if (c == '\n' || c == '\r') {
      if (!line.empty()) TRY(take_line());
    } else {
      line += c;
    }
  }
  if (!line.empty()) return damaged(kFile, line, "the last line does not end");
  return links;
}

std::string compose_tablespace_map(const std::vector<TablespaceLink>& links) {
  std::string text;
  for (const auto& link : links) {
    text += fmt::format("{} ", link.oid);
    for (char c : link.path) {
      if (c == '\n' || c == '\r' || c == '\\') text += '\\';
      text += c;
    }
    text += '\n';
  }
  return text;
}

}  // namespace kuramori::postgres
