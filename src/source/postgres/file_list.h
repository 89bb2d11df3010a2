// What of a data directory belongs into a backup, and how each file is kept (docs/postgres.md lists what is
// left out and why). The walk sees a directory that is being written: what vanishes on the way was dropped,
// and is no error.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "source/postgres/capture.h"

namespace kuramori::postgres {

// Where configuration from outside the data directory stands in the tree: this, then its absolute path (P56).
constexpr std::string_view kConfigPrefix = ".kuramori/config";
constexpr size_t kLinkDepthMax = 16;      // folders entered through symbolic links, one inside another
constexpr size_t kConfigFilesMax = 1000;  // configuration files followed by include directives
constexpr size_t kConfigFileBytesMax = 4u << 20;

enum class RelationFork : uint8_t { kMain, kFreeSpace, kVisibility, kInit };

// "16384", "16384.1", "16384_fsm", "t3_16384_vm.2"
struct RelationName {
  std::string number;  // relfilenode, as written
  RelationFork fork = RelationFork::kMain;
  uint32_t segment = 0;
  bool temporary = false;
};
std::optional<RelationName> parse_relation_name(std::string_view name);

struct FileListOptions {
  std::string data_directory;     // without symbolic links
  std::string tablespace_folder;  // of this cluster inside a tablespace: "PG_15_202209061"
  uint32_t page_bytes = 8192;
  // Folders whose files are left out although they may lie inside: absolute, or relative to the data
  // directory.
  std::vector<std::string> left_out_folders;
  std::vector<std::string> config_files;  // config_file, hba_file, ident_file; those inside are found anyway
};

struct FileList {
  std::vector<CaptureFile> files;  // a folder before what it holds; names in byte order
  // Of each: the absolute path it is read from; "": it is its own path below the data directory.
  std::vector<std::string> sources;
  std::vector<std::string> notes;  // what was found odd, in words
  uint64_t bytes = 0;              // of all files, as listed
};

// kDenied when something that must be read cannot be; nothing is left out because it could not be read (V13).
Result<FileList> list_files(const FileListOptions& options);

// The two judgements that need no walk, for a listing that somebody else made: the server's own base backup.
// Is `path` left out by its name or by those above it? (Which relations are unlogged, names do not tell.)
bool is_left_out(std::string_view path);
// If the path is a relation file's: what that says, and its size cut to whole pages.
void describe_relation_file(CaptureFile& file, uint32_t page_bytes);

// The files of `config_files` and all they include that lie outside `data_directory`. Unreadable ones go to
// `notes`.
std::vector<std::string> outside_config_files(const std::vector<std::string>& config_files,
                                              const std::string& data_directory,
                                              std::vector<std::string>& notes);

}  // namespace kuramori::postgres
