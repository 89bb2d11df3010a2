// Which configuration files lie outside the data directory: Debian keeps them in /etc/postgresql. Their
// include directives are followed as the server follows them (guc-file.l, and hba.c from 16 on).
#include <filesystem>

#include "os/file.h"
#include "source/postgres/file_list.h"

namespace kuramori::postgres {
namespace {

// Debian's own files beside postgresql.conf, which pg_ctlcluster wants.
constexpr std::string_view kCompanions[] = {"environment", "pg_ctl.conf", "start.conf"};

std::string_view trimmed(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

struct Include {
  bool folder = false;
  std::string target;
};

// "include 'x'", "include_if_exists = 'x'", "include_dir 'x'", "include \"x\"" (pg_hba.conf)
std::optional<Include> parse_include(std::string_view line) {
  line = trimmed(line);
  if (!line.starts_with("include")) return std::nullopt;
  line.remove_prefix(7);
  Include include;
  if (line.starts_with("_dir")) {
    include.folder = true;
    line.remove_prefix(4);
  } else if (line.starts_with("_if_exists")) {
    line.remove_prefix(10);
  }
  if (line.empty() || (line.front() != ' ' && line.front() != '\t' && line.front() != '='))
    return std::nullopt;
  line = trimmed(line);
  if (line.starts_with('=')) line = trimmed(line.substr(1));
  if (line.empty()) return std::nullopt;
  const char quote = line.front();
  if (quote == '\'' || quote == '"') {
    for (size_t at = 1; at < line.size(); ++at) {
      if (line[at] == quote) {
        if (at + 1 == line.size() || line[at + 1] != quote) return include;
        ++at;  // doubled: one of it
      }
      include.target += line[at];
    }
    return std::nullopt;  // unterminated
  }
  include.target = line.substr(0, line.find_first_of(" \t#"));
  return include;
}

class Follower {
 public:
  Follower(const std::string& data_directory, std::vector<std::string>& notes)
      : data_directory_(data_directory), notes_(notes) {}

  void follow(const std::string& named) {
    // A path in the tree has no ".." in it.
    const std::string path = std::filesystem::path(named).lexically_normal().string();
    if (!path.starts_with('/') || seen_.size() >= kConfigFilesMax || !seen_.insert(path).second) return;
    auto text = read_file(path, kConfigFileBytesMax);
    if (!text) {
      if (text.error().kind != ErrorKind::kNotFound)
        notes_.push_back(fmt::format("configuration {} is not in the snapshot: {}", path, text.error().why));
      return;
    }
    if (!lies_inside(path)) found_.push_back(path);
    std::string_view rest = as_text(*text);
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      if (const auto include = parse_include(rest.substr(0, end))) follow(*include, folder_of(path));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }

  std::vector<std::string> found() {
    std::sort(found_.begin(), found_.end());
    return std::move(found_);
  }

 private:
  void follow(const Include& include, const std::string& beside) {
    const std::string target =
        include.target.starts_with('/') ? include.target : join_path(beside, include.target);
    if (!include.folder) return follow(target);
    auto entries = list_folder(target);
    if (!entries) {
      if (entries.error().kind != ErrorKind::kNotFound)
        notes_.push_back(
            fmt::format("configuration {} is not in the snapshot: {}", target, entries.error().why));
      return;
    }
    for (const FolderEntry& entry : *entries) {
      if (entry.name.ends_with(".conf") && !entry.name.starts_with('.'))
        follow(join_path(target, entry.name));
    }
  }

  // The server may have been started through a symbolic link to its directory (P17).
  bool lies_inside(const std::string& path) const {
    std::error_code failed;
    const std::string real = std::filesystem::canonical(path, failed).string();
    return (failed ? path : real).starts_with(data_directory_ + "/");
  }

  const std::string& data_directory_;
  std::vector<std::string>& notes_;
  std::set<std::string> seen_;
  std::vector<std::string> found_;
};

}  // namespace

std::vector<std::string> outside_config_files(const std::vector<std::string>& config_files,
                                              const std::string& data_directory,
                                              std::vector<std::string>& notes) {
  Follower follower(data_directory, notes);
  for (const std::string& file : config_files) follower.follow(file);
  if (!config_files.empty()) {
    const std::string beside = folder_of(config_files.front());
    for (const std::string_view name : kCompanions) follower.follow(join_path(beside, name));
  }
  return follower.found();
}

}  // namespace kuramori::postgres
