// The append-only files of Redis 7 and newer: a folder with a base, what came after it, and a manifest that
// says which of them count and in what order.
//
// A copy is consistent when the manifest did not change while the files it names were opened: they only grow,
// and an open file stays whole when the server removes it. So nothing has to stand still, no rewrite has to
// be held off, and what is copied is each file up to its size at that moment. The last one may end in the
// middle of a command or of a transaction; it is cut where the last whole one ends.
//
// What the server has acknowledged and not written yet is not in it: with `appendfsync everysec` up to two
// seconds when its disk is slow, just as when its machine lost power.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "os/file.h"

namespace kuramori::redis {

constexpr size_t kManifestFilesMax = 1 << 12;

enum class AofPart : uint8_t { kBase, kIncrement, kHistory };

struct AofFile {
  std::string name;
  uint64_t sequence = 0;
  AofPart part = AofPart::kBase;
  bool is_rdb() const { return name.ends_with(".rdb"); }
};

// kDamaged for what is no manifest, or names a file outside its folder.
Result<std::vector<AofFile>> parse_manifest(std::string_view text);
// Without history: those files wait to be removed.
std::string write_manifest(const std::vector<AofFile>& files);

// Reads commands as they come, and says where the last whole one ended that is not inside a transaction.
class CommandReader {
 public:
  // kDamaged: these are no commands.
  Result<void> push(ByteView bytes);
  uint64_t whole() const { return whole_; }        // bytes up to the end of the last whole one
  uint64_t commands() const { return commands_; }  // whole ones

 private:
  enum class State : uint8_t { kBegin, kNote, kCount, kStringMark, kLength, kString, kCarriage, kLineFeed };
  Result<void> take(uint8_t byte);
  void end_command();
  Error damaged(std::string_view why) const;

  State state_ = State::kBegin;
  State after_line_ = State::kBegin;
  uint64_t at_ = 0, whole_ = 0, commands_ = 0;
  uint64_t number_ = 0;
  bool digits_ = false;
  uint64_t strings_left_ = 0, bytes_left_ = 0;
  std::string name_;  // the first string of the command, as far as it is of interest
  bool first_ = false, in_transaction_ = false;
};

struct OpenAofFile {
  AofFile file;
  Fd fd;
  uint64_t size = 0;  // bytes that belong to the copy
};

struct OpenAof {
  std::string manifest_name;  // "appendonly.aof.manifest"
  std::vector<OpenAofFile> files;
};

// Opens a consistent set below `folder` (the server's appendonlydir). kFailed: the manifest kept changing, or
// a file it names is missing.
Result<OpenAof> open_aof(const std::string& folder, const std::string& appendfilename);

}  // namespace kuramori::redis
