#include "source/redis/aof.h"

#include <fmt/core.h>

#include <charconv>
#include <optional>

namespace kuramori::redis {
namespace {

constexpr int kTriesMax = 50;
constexpr Duration kPause = std::chrono::milliseconds(100);
constexpr size_t kManifestBytesMax = 1 << 20;
constexpr size_t kReadStepBytes = 256 << 10;
constexpr uint64_t kStringsMax = uint64_t{1} << 31;
constexpr uint64_t kStringBytesMax = uint64_t{1} << 40;
constexpr size_t kNameBytesMax = 8;  // of "MULTI" and "EXEC"

Error no_manifest(std::string_view line) {
  return fail(ErrorKind::kDamaged, "the manifest of the append-only files cannot be read",
              fmt::format("\"{}\" is no line of one", line.substr(0, 80)));
}

// Takes the next word off `line`.
std::string_view word_of(std::string_view& line) {
  while (line.starts_with(' ')) line.remove_prefix(1);
  std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

Result<AofFile> parse_line(std::string_view line) {
  const std::string_view whole = line;
  AofFile file;
  std::string_view type;
  while (!line.empty()) {
    const std::string_view key = word_of(line), value = word_of(line);
    if (key == "file") {
      file.name = value;
    } else if (key == "seq") {
      auto [end, failed] = std::from_chars(value.data(), value.data() + value.size(), file.sequence);
      if (failed != std::errc() || end != value.data() + value.size()) return no_manifest(whole);
    } else if (key == "type") {
      type = value;
    }  // others (startoffset, endoffset) are the server's own
  }
  if (file.name.empty() || file.name.find('/') != std::string::npos || file.name == "." || file.name == "..")
    return no_manifest(whole);
  if (type != "b" && type != "i" && type != "h") return no_manifest(whole);
  file.part = type == "b" ? AofPart::kBase : type == "i" ? AofPart::kIncrement : AofPart::kHistory;
  return file;
}

}  // namespace

Result<std::vector<AofFile>> parse_manifest(std::string_view text) {
  std::vector<AofFile> files;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    TRY_ASSIGN(AofFile file, parse_line(line));
    files.push_back(std::move(file));
    if (files.size() > kManifestFilesMax) return no_manifest("too many files");
  }
  if (files.empty()) return no_manifest("");
  return files;
}

std::string write_manifest(const std::vector<AofFile>& files) {
  std::string text;
  for (const AofFile& file : files) {
    if (file.part == AofPart::kHistory) continue;
    text += fmt::format("file {} seq {} type {}\n", file.name, file.sequence,
                        file.part == AofPart::kBase ? 'b' : 'i');
  }
  return text;
}

// --- commands ------------------------------------------------------------------------------------------

Error CommandReader::damaged(std::string_view why) const {
  return fail(ErrorKind::kDamaged, fmt::format("the append-only file is damaged at byte {}", at_),
              std::string(why), "redis-check-aof says more");
}

Result<void> CommandReader::push(ByteView bytes) {
  while (!bytes.empty()) {
    if (state_ == State::kString && bytes_left_ > 0) {
      const size_t here = static_cast<size_t>(std::min<uint64_t>(bytes_left_, bytes.size()));
      if (first_ && name_.size() < kNameBytesMax)
        name_.append(as_text(bytes.first(std::min(here, kNameBytesMax - name_.size()))));
      bytes = bytes.subspan(here);
      bytes_left_ -= here;
      at_ += here;
      continue;
    }
    TRY(take(bytes.front()));
    bytes = bytes.subspan(1);
    ++at_;
    if (state_ == State::kBegin && !in_transaction_) whole_ = at_;
  }
  return {};
}

// One byte of what stands around the strings.
Result<void> CommandReader::take(uint8_t byte) {
  switch (state_) {
    case State::kBegin:
      if (byte == '#') {
        state_ = State::kNote;  // a time stamp (aof-timestamp-enabled)
        return {};
      }
      if (byte != '*') return damaged("a command begins with *");
      number_ = 0;
      digits_ = false;
      state_ = State::kCount;
      return {};
    case State::kNote:
      if (byte == '\n') state_ = State::kBegin;
      return {};
    case State::kCount:
    case State::kLength: {
      const bool is_count = state_ == State::kCount;
      if (byte >= '0' && byte <= '9' && number_ <= kStringBytesMax) {
        number_ = number_ * 10 + (byte - '0');
        digits_ = true;
        return {};
      }
      if (byte != '\r' || !digits_ || number_ > (is_count ? kStringsMax : kStringBytesMax) ||
          (is_count && number_ == 0))
        return damaged("a length is no number");
      after_line_ = is_count ? State::kStringMark : State::kString;
      if (is_count) {
        strings_left_ = number_;
        first_ = true;
        name_.clear();
      } else {
        bytes_left_ = number_;
      }
      state_ = State::kLineFeed;
      return {};
    }
    case State::kStringMark:
      if (byte != '$') return damaged("an argument begins with $");
      number_ = 0;
      digits_ = false;
      state_ = State::kLength;
      return {};
    case State::kString:  // all of it has passed
    case State::kCarriage:
      if (byte != '\r') return damaged("an argument is longer than it says");
      --strings_left_;
      first_ = false;
      after_line_ = strings_left_ > 0 ? State::kStringMark : State::kBegin;
      state_ = State::kLineFeed;
      return {};
    case State::kLineFeed:
      if (byte != '\n') return damaged("a line has no end");
      state_ = after_line_;
      if (state_ == State::kBegin) end_command();
      return {};
  }
  return {};
}

void CommandReader::end_command() {
  ++commands_;
  for (char& c : name_) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  if (name_ == "MULTI") in_transaction_ = true;
  if (name_ == "EXEC") in_transaction_ = false;
}

// --- a consistent set ----------------------------------------------------------------------------------

namespace {

// Where the last whole command of a file's first `size` bytes ends.
Result<uint64_t> whole_part(const Fd& fd, uint64_t size, const std::string& name) {
  CommandReader reader;
  Bytes buffer(kReadStepBytes);
  for (uint64_t at = 0; at < size;) {
    const size_t step = static_cast<size_t>(std::min<uint64_t>(buffer.size(), size - at));
    TRY(pread_full(fd, at, MutableByteView(buffer).first(step), name));
    TRY(reader.push(ByteView(buffer).first(step)));
    at += step;
  }
  return reader.whole();
}

Result<std::optional<OpenAof>> try_to_open(const std::string& folder, const std::string& manifest_path) {
  TRY_ASSIGN(const Bytes before, read_file(manifest_path, kManifestBytesMax));
  TRY_ASSIGN(const std::vector<AofFile> files, parse_manifest(as_text(before)));
  OpenAof open;
  for (const AofFile& file : files) {
    if (file.part == AofPart::kHistory) continue;
    Result<Fd> fd = open_file(join_path(folder, file.name));
    if (!fd && fd.error().kind == ErrorKind::kNotFound) return std::optional<OpenAof>();
    if (!fd) return std::move(fd).error();
    TRY_ASSIGN(const FileStatus status, status_of(*fd, file.name));
    open.files.push_back({file, std::move(*fd), status.size});
  }
  TRY_ASSIGN(const Bytes after, read_file(manifest_path, kManifestBytesMax));
  if (before != after) return std::optional<OpenAof>();
  return std::optional<OpenAof>(std::move(open));
}

}  // namespace

Result<OpenAof> open_aof(const std::string& folder, const std::string& appendfilename) {
  const std::string manifest_name = appendfilename + ".manifest";
  const std::string path = join_path(folder, manifest_name);
  for (int tries = 0; tries < kTriesMax; ++tries) {
    TRY_ASSIGN(std::optional<OpenAof> open, try_to_open(folder, path));
    if (!open) {
      system_clock().sleep(kPause);
      continue;
    }
    open->manifest_name = manifest_name;
    if (!open->files.empty() && open->files.back().file.part == AofPart::kIncrement) {
      OpenAofFile& last = open->files.back();
      TRY_ASSIGN(last.size, whole_part(last.fd, last.size, last.file.name));
    }
    return std::move(*open);
  }
  return fail(ErrorKind::kFailed,
              fmt::format("the append-only files in {} kept changing or are not all there", folder),
              fmt::format("{} was read {} times", manifest_name, kTriesMax), "redis-check-aof " + path);
}

}  // namespace kuramori::redis
