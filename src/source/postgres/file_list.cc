// The walk over a data directory. PostgreSQL's own base backup is the model for what is left out: files that
// a server makes anew, that belong to one run of it, or that would harm a restored one.
#include "source/postgres/file_list.h"

#include <charconv>
#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "codec/page_checksum.h"
#include "os/file.h"

namespace kuramori::postgres {
namespace {

// Folders of the data directory whose files one run of a server makes and the next one throws away. The
// folders themselves must be there when a restored server starts.
constexpr std::string_view kEmptiedFolders[] = {
    "pg_dynshmem", "pg_notify",   "pg_replslot",           "pg_serial",        "pg_snapshots",
    "pg_stat_tmp", "pg_subtrans", "pg_wal/archive_status", "pg_wal/summaries",
};
// What stands at the top and does not go with a copy.
constexpr std::string_view kLeftOutTopFiles[] = {
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "current_logfiles",
    "current_logfiles.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.done",
    "recovery.signal",
    "standby.signal",
    "tablespace_map",
    "tablespace_map.old",
    "postgresql.auto.conf.tmp",
};
// A folder that the server's settings name for logs or statistics is believed only if it is none of these.
constexpr std::string_view kOwnFolders[] = {
    "base",      "global",      "pg_commit_ts", "pg_dynshmem",  "pg_logical", "pg_multixact",
    "pg_notify", "pg_replslot", "pg_serial",    "pg_snapshots", "pg_stat",    "pg_subtrans",
    "pg_tblspc", "pg_twophase", "pg_wal",       "pg_xact",
};

template <size_t kCount>
bool contains(const std::string_view (&names)[kCount], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

uint32_t number_of(std::string_view text) {
  uint32_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// "base/5/16384", "global/1262", "pg_tblspc/16400/PG_15_202209061/5/16384"
RelationFile relation_in(std::string_view path, std::string_view number) {
  constexpr uint32_t kDefaultTablespace = 1663, kGlobalTablespace = 1664;  // pg_tablespace.dat
  RelationFile file{.number = number_of(number)};
  if (path.starts_with("global/")) {
    file.tablespace = kGlobalTablespace;
    return file;
  }
  const std::string_view folder = path.substr(0, path.rfind('/'));
  file.database = number_of(folder.substr(folder.rfind('/') + 1));
  file.tablespace = kDefaultTablespace;
  if (path.starts_with("pg_tblspc/")) file.tablespace = number_of(path.substr(path.find('/') + 1));
  return file;
}

// How the files right inside a folder are kept.
enum class Place { kOther, kRelations };

Place place_of(std::string_view path) {
  if (path == "global") return Place::kRelations;
  if (path.starts_with("base/")) return is_number(path.substr(5)) ? Place::kRelations : Place::kOther;
  if (!path.starts_with("pg_tblspc/")) return Place::kOther;
  // pg_tblspc/<oid>/PG_…/<database>
  size_t slashes = 0;
  for (const char c : path) slashes += c == '/';
  const bool database = slashes == 3 && is_number(path.substr(path.rfind('/') + 1));
  return database ? Place::kRelations : Place::kOther;
}

bool is_left_out(std::string_view folder, std::string_view name, Place place,
                 const std::set<std::string, std::less<>>& unlogged) {
  if (name.starts_with("pgsql_tmp") || name.starts_with("pg_internal.init")) return true;
  if (folder.empty() && (contains(kLeftOutTopFiles, name) || name == "lost+found")) return true;
  if (folder == "global" && (name == "pg_control" || name.starts_with("pg_control."))) return true;  // last
  if (place != Place::kRelations) return false;
  const auto relation = parse_relation_name(name);
  if (!relation) return false;
  if (relation->temporary) return true;
  return relation->fork != RelationFork::kInit && unlogged.contains(relation->number);
}

// A file by what cannot be renamed.
using Identity = std::pair<uint64_t, uint64_t>;  // device, inode
Identity identity_of(const FileStatus& status) {
  return {status.device, status.inode};
}

// Of what a symbolic link leads to.
Result<FileStatus> status_through(const std::string& path) {
  TRY_ASSIGN(const Fd fd, open_file(path, O_PATH));
  return status_of(fd, path);
}

class Walk {
 public:
  explicit Walk(const FileListOptions& options) : options_(options) {}

  Result<FileList> run() {
    TRY(find_left_out());
    TRY(find_tablespaces());
    TRY(folder("", options_.data_directory, 0));
    TRY(outside_config());
    return std::move(list_);
  }

 private:
  Result<void> find_left_out() {
    for (const std::string& name : options_.left_out_folders) {
      if (name.empty()) continue;
      const std::string path = name.starts_with('/') ? name : join_path(options_.data_directory, name);
      auto status = status_through(path);
      if (!status) continue;  // not made yet
      if (status->type == FileType::kFolder) left_out_.insert(identity_of(*status));
    }
    // A log folder set to "." or "base" must not cost the database.
    TRY_ASSIGN(const FileStatus top, status_through(options_.data_directory));
    left_out_.erase(identity_of(top));
    for (const std::string_view own : kOwnFolders) {
      auto status = status_through(join_path(options_.data_directory, own));
      if (status) left_out_.erase(identity_of(*status));
    }
    return {};
  }

  // A tablespace may lie inside the data directory, where the walk must not meet it a second time (P16).
  Result<void> find_tablespaces() {
    const std::string folder = join_path(options_.data_directory, "pg_tblspc");
    TRY_ASSIGN(const std::vector<FolderEntry> entries, list_folder(folder));
    for (const FolderEntry& entry : entries) {
      if (entry.type != FileType::kSymlink) continue;
      auto status = status_through(join_path(join_path(folder, entry.name), options_.tablespace_folder));
      if (status) tablespaces_.insert(identity_of(*status));
    }
    return {};
  }

  Result<void> folder(const std::string& path, const std::string& source, size_t links) {
    auto listed = list_folder(source);
    if (!listed) return absent_is_fine(std::move(listed).error(), source);
    const Place place = place_of(path);
    std::set<std::string, std::less<>> unlogged;
    if (place == Place::kRelations) {
      for (const FolderEntry& entry : *listed) {
        const auto relation = parse_relation_name(entry.name);
        if (relation && relation->fork == RelationFork::kInit) unlogged.insert(relation->number);
      }
    }
    for (const FolderEntry& entry : *listed) {
      const std::string child = path.empty() ? entry.name : path + "/" + entry.name;
      if (is_left_out(path, entry.name, place, unlogged)) continue;
      TRY(thing(child, join_path(source, entry.name), place, links));
    }
    return {};
  }

  Result<void> thing(const std::string& path, const std::string& source, Place place, size_t links) {
    auto status = status_of(source);
    if (!status) return absent_is_fine(std::move(status).error(), source);
    if (status->type == FileType::kSymlink) {
      if (path.starts_with("pg_tblspc/") && is_number(std::string_view(path).substr(10)))
        return tablespace(path, source, *status, links);
      // Anything else that is a link becomes what it leads to: the restored copy stands on its own (P17).
      if (links >= kLinkDepthMax) {
        return fail(ErrorKind::kRefused, fmt::format("symbolic links go in a circle at {}", source), "",
                    fmt::format("ls -l {}", source));
      }
      ++links;
      auto target = status_through(source);
      if (!target && target.error().kind == ErrorKind::kNotFound) {
        list_.notes.push_back(fmt::format("{} points to nothing and is left out", source));
        return {};
      }
      if (!target) return unreadable(std::move(target).error(), source);
      if (path != "pg_wal")
        list_.notes.push_back(fmt::format("{} is a symbolic link: kept as what it leads to", source));
      status = std::move(target);
    }
    if (status->type == FileType::kFolder) return enter(path, source, *status, links);
    if (status->type == FileType::kFile) return file(path, source, place, *status);
    return {};  // sockets and the like belong to a running process
  }

  Result<void> enter(const std::string& path, const std::string& source, const FileStatus& status,
                     size_t links) {
    if (tablespaces_.contains(identity_of(status)) && !path.starts_with("pg_tblspc/")) return {};
    // Through links a folder may hold itself.
    if (std::find(above_.begin(), above_.end(), identity_of(status)) != above_.end()) {
      return fail(ErrorKind::kRefused, fmt::format("symbolic links go in a circle at {}", source), "",
                  fmt::format("ls -l {}", source));
    }
    add(path, source, status, EntryType::kDirectory);
    if (path == "pg_wal") return wal_folder(path, source);
    if (contains(kEmptiedFolders, path) || left_out_.contains(identity_of(status))) return {};
    above_.push_back(identity_of(status));
    TRY(folder(path, source, links));
    above_.pop_back();
    return {};
  }

  // WAL has its own way into the vault; a server wants to find the folders.
  Result<void> wal_folder(const std::string& path, const std::string& source) {
    for (const std::string_view name : {"archive_status", "summaries"}) {
      const std::string inside = join_path(source, name);
      auto status = status_of(inside);
      if (status && status->type == FileType::kFolder)
        add(path + "/" + std::string(name), inside, *status, EntryType::kDirectory);
    }
    return {};
  }

  Result<void> tablespace(const std::string& path, const std::string& source, const FileStatus& status,
                          size_t links) {
    TRY_ASSIGN(std::string target, read_link(source));
    add(path, source, status, EntryType::kSymlink);
    list_.files.back().entry.link = target;
    auto there = status_through(source);
    if (!there) {
      return fail(there.error().kind == ErrorKind::kDenied ? ErrorKind::kDenied : ErrorKind::kFailed,
                  fmt::format("tablespace {} cannot be entered: it points to {}", path, target),
                  there.error().why, fmt::format("ls -ld {}", target));
    }
    // Other majors may share the place (pg_upgrade); only this cluster's folder is ours.
    const std::string own = join_path(source, options_.tablespace_folder);
    auto inside = status_of(own);
    if (!inside) {
      TRY(absent_is_fine(std::move(inside).error(), own));
      list_.notes.push_back(
          fmt::format("tablespace {} holds no folder {}", path, options_.tablespace_folder));
      return {};
    }
    return enter(path + "/" + options_.tablespace_folder, own, *inside, links);
  }

  Result<void> file(const std::string& path, const std::string& source, Place place,
                    const FileStatus& status) {
    add(path, source, status, EntryType::kFile);
    CaptureFile& added = list_.files.back();
    added.entry.content = ContentKind::kBytes;
    added.entry.size = status.size;
    if (place == Place::kRelations) describe_relation_file(added, options_.page_bytes);
    list_.bytes += added.entry.size;
    return {};
  }

  void add(const std::string& path, const std::string& source, const FileStatus& status, EntryType type) {
    CaptureFile file;
    file.entry.path = path;
    file.entry.type = type;
    file.entry.mode = status.mode;
    file.entry.uid = status.uid;
    file.entry.gid = status.gid;
    file.entry.mtime_ns = to_unix_ns(status.modified);
    file.inode = status.inode;
    file.birth_ns = status.born ? to_unix_ns(*status.born) : 0;
    list_.files.push_back(std::move(file));
    // Of a million files nearly all are where they are called.
    const std::string& top = options_.data_directory;
    const bool is_its_own = source.size() == top.size() + 1 + path.size() && source.starts_with(top) &&
                            source[top.size()] == '/' && source.ends_with(path);
    list_.sources.push_back(is_its_own ? std::string() : source);
  }

  // The folders above a configuration file are made once each.
  Result<void> outside_config() {
    std::set<std::string> made;
    for (const std::string& source :
         outside_config_files(options_.config_files, options_.data_directory, list_.notes)) {
      auto status = status_through(source);
      if (!status) continue;
      const std::string path = std::string(kConfigPrefix) + source;
      for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
        const std::string above = path.substr(0, slash);
        if (!made.insert(above).second) continue;
        FileStatus plain = *status;
        plain.mode = 0700;
        add(above, source, plain, EntryType::kDirectory);
        list_.files.back().inode = 0;
      }
      TRY(file(path, source, Place::kOther, *status));
    }
    return {};
  }

  Result<void> absent_is_fine(Error error, const std::string& source) {
    if (error.kind == ErrorKind::kNotFound) return {};
    return unreadable(std::move(error), source);
  }

  Error unreadable(Error error, const std::string& source) {
    if (error.kind == ErrorKind::kDenied) {
      error.what = fmt::format("may not read {}", source);
      error.why = "the data directory belongs to the server's user";
      error.next =
          "run this as the user the server runs as (usually: sudo -u postgres), or let its group read it "
          "(initdb --allow-group-access; see docs/postgres.md, \"Permissions\")";
    }
    return error;
  }

  const FileListOptions& options_;
  FileList list_;
  std::set<Identity> left_out_, tablespaces_;
  std::vector<Identity> above_;  // the folders we are in
};

}  // namespace

std::optional<RelationName> parse_relation_name(std::string_view name) {
  RelationName relation;
  if (name.starts_with('t')) {
    const size_t end = name.find('_');
    if (end == std::string_view::npos || !is_number(name.substr(1, end - 1))) return std::nullopt;
    relation.temporary = true;
    name.remove_prefix(end + 1);
  }
  if (const size_t dot = name.find('.'); dot != std::string_view::npos) {
    const std::string_view digits = name.substr(dot + 1);
    const auto [end, failed] =
        std::from_chars(digits.data(), digits.data() + digits.size(), relation.segment);
    if (!is_number(digits) || failed != std::errc() || end != digits.data() + digits.size())
      return std::nullopt;
    name = name.substr(0, dot);
  }
  if (const size_t mark = name.find('_'); mark != std::string_view::npos) {
    const std::string_view fork = name.substr(mark + 1);
    if (fork == "fsm") {
      relation.fork = RelationFork::kFreeSpace;
    } else if (fork == "vm") {
      relation.fork = RelationFork::kVisibility;
    } else if (fork == "init") {
      relation.fork = RelationFork::kInit;
    } else {
      return std::nullopt;
    }
    name = name.substr(0, mark);
  }
  if (!is_number(name)) return std::nullopt;
  relation.number = name;
  return relation;
}

void describe_relation_file(CaptureFile& file, uint32_t page_bytes) {
  const std::string_view path = file.entry.path;
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || place_of(path.substr(0, slash)) != Place::kRelations) return;
  const auto relation = parse_relation_name(path.substr(slash + 1));
  if (!relation) return;
  file.entry.content = ContentKind::kPages;
  // A page that is only half there is being made right now: the server itself does not count it (P5).
  file.entry.size -= file.entry.size % page_bytes;
  file.segment = relation->segment;
  file.first_block = block_in_relation(relation->segment, 0);
  file.relation = relation_in(path, relation->number);
  file.always_whole = relation->fork != RelationFork::kMain;
}

bool is_left_out(std::string_view path) {
  for (size_t slash = 0;; ++slash) {
    slash = std::min(path.find('/', slash), path.size());
    const std::string_view whole = path.substr(0, slash);
    const size_t before = whole.rfind('/');
    const std::string_view folder = before == std::string_view::npos ? "" : whole.substr(0, before);
    const std::string_view name = before == std::string_view::npos ? whole : whole.substr(before + 1);
    if (is_left_out(folder, name, place_of(folder), {})) return true;
    const bool emptied = folder == "pg_wal" ? name != "archive_status" && name != "summaries"
                                            : contains(kEmptiedFolders, folder);
    if (emptied) return true;
    if (slash == path.size()) return false;
  }
}

Result<FileList> list_files(const FileListOptions& options) {
  CHECK(options.page_bytes > 0);
  return Walk(options).run();
}

}  // namespace kuramori::postgres
