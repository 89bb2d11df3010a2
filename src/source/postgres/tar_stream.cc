#include "source/postgres/tar_stream.h"

#include <algorithm>

#include "base/check.h"
#include "codec/page_checksum.h"

namespace kuramori::postgres {
namespace {

// Fields of a ustar header (POSIX.1-2017, pax).
struct Field {
  size_t at, bytes;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12},
    kChecksum{148, 8}, kLink{157, 100}, kMagic{257, 6}, kPrefix{345, 155};
constexpr size_t kTypeAt = 156;

Error damaged(std::string why) {
  return fail(ErrorKind::kDamaged, "the server sent an archive that is none", std::move(why),
              "run the backup again");
}

std::string_view field(ByteView block, Field place) {
  return as_text(block.subspan(place.at, place.bytes));
}

std::string text(ByteView block, Field place) {
  const std::string_view raw = field(block, place);
  return std::string(raw.substr(0, raw.find('\0')));
}

// Octal digits that end with a blank or a zero byte; or, the first bit being set, base 256.
Result<uint64_t> number(ByteView block, Field place) {
  const std::string_view raw = field(block, place);
  if ((static_cast<uint8_t>(raw.front()) & 0x80) != 0) {
    uint64_t value = static_cast<uint8_t>(raw.front()) & 0x7f;
    for (const char c : raw.substr(1)) {
      if (value >> 56 != 0) return damaged("a number does not fit");
      value = value << 8 | static_cast<uint8_t>(c);
    }
    return value;
  }
  uint64_t value = 0;
  size_t digits = 0;
  for (; digits < raw.size() && raw[digits] >= '0' && raw[digits] <= '7'; ++digits)
    value = value << 3 | static_cast<uint64_t>(raw[digits] - '0');
  const bool ends = std::ranges::all_of(raw.substr(digits), [](char c) { return c == ' ' || c == '\0'; });
  if (digits == 0 || !ends) return damaged("a number is none");
  return value;
}

// The sum of all bytes, those of the checksum counted as blanks.
uint64_t sum_of(ByteView block) {
  uint64_t sum = 0;
  for (size_t at = 0; at < block.size(); ++at) {
    const bool own = at >= kChecksum.at && at < kChecksum.at + kChecksum.bytes;
    sum += own ? uint64_t{' '} : block[at];
  }
  return sum;
}

}  // namespace

Result<std::optional<TarEntry>> parse_tar_header(ByteView block) {
  CHECK(block.size() == kTarBlockBytes);
  if (is_zero(block)) return std::optional<TarEntry>();
  TRY_ASSIGN(const uint64_t sum, number(block, kChecksum));
  if (sum != sum_of(block)) return damaged("the checksum of a header is wrong");
  if (field(block, kMagic).substr(0, 5) != "ustar") return damaged("a header is not ustar");
  if (block[kPrefix.at] != 0) return damaged("a name has a prefix, which PostgreSQL never writes");
  TarEntry entry;
  entry.name = text(block, kName);
  while (entry.name.ends_with('/')) entry.name.pop_back();
  if (entry.name.empty()) return damaged("a name is empty");
  TRY_ASSIGN(const uint64_t mode, number(block, kMode));
  TRY_ASSIGN(const uint64_t uid, number(block, kUid));
  TRY_ASSIGN(const uint64_t gid, number(block, kGid));
  TRY_ASSIGN(const uint64_t mtime, number(block, kMtime));
  TRY_ASSIGN(entry.size, number(block, kSize));
  if (entry.size > kTarFileBytesMax || uid > UINT32_MAX || gid > UINT32_MAX || mtime > INT64_MAX / 1000000000)
    return damaged(fmt::format("numbers of {} are impossible", entry.name));
  entry.mode = static_cast<uint32_t>(mode & 07777);
  entry.uid = static_cast<uint32_t>(uid);
  entry.gid = static_cast<uint32_t>(gid);
  entry.mtime_s = static_cast<int64_t>(mtime);
  switch (block[kTypeAt]) {
    case '0':
      entry.type = EntryType::kFile;
      break;
    case '2':
      entry.type = EntryType::kSymlink;
      entry.link = text(block, kLink);
      break;
    case '5':
      entry.type = EntryType::kDirectory;
      break;
    default:
      return damaged(fmt::format("{} is of the unknown type {}", entry.name, block[kTypeAt]));
  }
  if (entry.type != EntryType::kFile && entry.size != 0)
    return damaged(fmt::format("{} is no file and has content", entry.name));
  return std::optional(std::move(entry));
}

Result<void> TarStream::header(TarReceiver& receiver) {
  TRY_ASSIGN(const std::optional<TarEntry> entry, parse_tar_header(header_));
  header_.clear();
  if (!entry) {
    at_end_ = true;
    return {};
  }
  if (at_end_) return damaged(fmt::format("{} stands behind its end", entry->name));
  left_ = entry->size;
  padding_ = (kTarBlockBytes - entry->size % kTarBlockBytes) % kTarBlockBytes;
  TRY(receiver.entry(*entry));
  if (left_ == 0) return receiver.end();
  in_entry_ = true;
  return {};
}

Result<void> TarStream::feed(ByteView bytes, TarReceiver& receiver) {
  while (!bytes.empty()) {
    if (left_ > 0) {
      const ByteView part = bytes.first(std::min<uint64_t>(left_, bytes.size()));
      TRY(receiver.data(part));
      left_ -= part.size();
      bytes = bytes.subspan(part.size());
      continue;
    }
    if (in_entry_) {
      in_entry_ = false;
      TRY(receiver.end());
    }
    if (padding_ > 0) {
      const size_t part = std::min(padding_, bytes.size());
      padding_ -= part;
      bytes = bytes.subspan(part);
      continue;
    }
    const size_t part = std::min(kTarBlockBytes - header_.size(), bytes.size());
    append(header_, bytes.first(part));
    bytes = bytes.subspan(part);
    if (header_.size() == kTarBlockBytes) TRY(header(receiver));
  }
  if (in_entry_ && left_ == 0) {
    in_entry_ = false;
    return receiver.end();
  }
  return {};
}

Result<void> TarStream::finish() const {
  if (left_ > 0 || padding_ > 0 || !header_.empty()) return damaged("it ends in the middle of a file");
  return {};
}

}  // namespace kuramori::postgres
