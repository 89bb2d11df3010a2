#include "source/postgres/earlier_wal.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "os/lock.h"
#include "source/postgres/timeline_history.h"

namespace kuramori::postgres {
namespace {

// The file: the first page of the segment in which the tail begins, then the tail. Every page says where it
// lies, and records carry checksums: what a crash left half written is found out by whoever reads it.
struct KeptTail {
  Lsn segment = 0, from = 0;
  Bytes bytes;
  Lsn to() const { return from + bytes.size() - kWalPageBytes; }

  bool read(Lsn position, MutableByteView pages) const {
    if (position == segment && pages.size() == kWalPageBytes) {
      std::copy_n(bytes.begin(), kWalPageBytes, pages.begin());
      return true;
    }
    if (position < from || position + pages.size() > to()) return false;
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(position - from + kWalPageBytes), pages.size(),
                pages.begin());
    return true;
  }
};
std::optional<KeptTail> read_tail(const Fd& file) {
  auto status = status_of(file, kTailFile);
  if (!status || status->type != FileType::kFile || status->size < 2 * kWalPageBytes ||
      status->size > kTailBytesMax + kWalPageBytes || status->size % kWalPageBytes != 0)
    return std::nullopt;
  Bytes bytes(status->size);
  if (!pread_full(file, 0, bytes, kTailFile)) return std::nullopt;
  const auto address = [&](size_t page) {
    return load_le<uint64_t>(bytes.data() + page * kWalPageBytes + 8);
  };
  return KeptTail{.segment = address(0), .from = address(1), .bytes = std::move(bytes)};
}
std::optional<KeptTail> read_tail(const std::string& path) {
  auto file = open_file(path);
  return file ? read_tail(*file) : std::nullopt;
}

}  // namespace

std::optional<ReadEarlierWal> read_tail_file(const Fd& file) {
  auto tail = read_tail(file);
  if (!tail) return std::nullopt;
  return [kept = std::make_shared<const KeptTail>(std::move(*tail))](Lsn position, MutableByteView pages) {
    return kept->read(position, pages);
  };
}

ReadEarlierWal earlier_in_folder(std::string folder, Timeline timeline, uint32_t segment_bytes) {
  struct Found {
    std::string path;  // of `file`
    Fd file;
    std::optional<std::optional<KeptTail>> tail;  // once it was looked for
  };
  // shared_ptr: a std::function is copied.
  return [found = std::make_shared<Found>(), folder = std::move(folder), timeline, segment_bytes](
             Lsn position, MutableByteView pages) {
    auto read_from = [&](Timeline of) {
      const std::string path = join_path(folder, segment_name(of, position, segment_bytes));
      if (found->path != path) {
        auto file = open_file(path);
        if (!file) return false;
        found->path = path;
        found->file = std::move(*file);
      }
      return pread_full(found->file, position % segment_bytes, pages, path).has_value();
    };
    auto read_kept = [&] {
      if (!found->tail) found->tail = read_tail(join_path(folder, kTailFile));
      return *found->tail && (*found->tail)->read(position, pages);
    };
    if (read_from(timeline)) return true;
    if (auto text = read_file(join_path(folder, history_name(timeline)), kTimelineHistoryBytesMax)) {
      // A segment in which one timeline follows another is whole under the later one's name.
      const Lsn last_byte = position - position % segment_bytes + segment_bytes - 1;
      const auto history = parse_timeline_history(as_text(*text), timeline);
      if (history && read_from(history->timeline_at(last_byte))) return true;
    }
    return read_kept();
  };
}

void keep_tail(const std::string& folder, const SegmentPlace& place) {
  struct stat status;  // another user's file would be in the server's way
  if (::stat(folder.c_str(), &status) != 0 || status.st_uid != ::geteuid()) return;
  SegmentPlace next = place;
  next.start += place.bytes;
  const Tail tail = find_tail(next, earlier_in_folder(folder, place.timeline, place.bytes));
  if (tail.bytes.empty() || tail.bytes.size() > kTailBytesMax) return;
  const std::string path = join_path(folder, kTailFile);
  if (const auto kept = read_tail(path); kept && kept->to() > next.start) return;
  Bytes bytes = tail.first_page;
  append(bytes, tail.bytes);
  // Not flushed: what a power cut takes is a hole that shows. One name for all, so that what a killed push
  // left is the next one's to write over; the lock keeps two from writing one file, and the second goes
  // without.
  const std::string temporary = path + ".new";
  auto fd = open_file(temporary, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (!fd) return;
  const auto is_alone = try_flock(*fd, temporary);
  if (!is_alone || !*is_alone) return;
  // Whoever had it before may have given it its name since it was opened.
  const auto mine = status_of(*fd, temporary), there = status_of(temporary);
  if (!mine || !there || mine->inode != there->inode || ::ftruncate(fd->get(), 0) != 0) return;
  if (!write_full(*fd, bytes, temporary) || ::rename(temporary.c_str(), path.c_str()) != 0)
    ::unlink(temporary.c_str());
}

}  // namespace kuramori::postgres
