#include "source/files/content.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "source/files/walk.h"

namespace kuramori::files {
namespace {

// One try's failure, told apart from the sink's: that one ends the capture.
Error unreadable(const CaptureItem& item, Error error) {
  if (error.kind == ErrorKind::kNotFound) return error;
  return fail(ErrorKind::kPartial, fmt::format("\"{}\" could not be read", item.entry.path),
              std::move(error.why));
}

Result<Fd> open_to_read(const std::function<Result<Fd>(int)>& open) {
  // O_NONBLOCK: a pipe put in the file's place would hold us for ever.
  constexpr int kFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
  Result<Fd> fd = open(kFlags | O_NOATIME);
  if (!fd && fd.error().kind == ErrorKind::kDenied) return open(kFlags);  // O_NOATIME is the owner's right
  return fd;
}

bool same(const struct stat& a, const struct stat& b) {
  return a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec && a.st_ctim.tv_sec == b.st_ctim.tv_sec &&
         a.st_ctim.tv_nsec == b.st_ctim.tv_nsec && a.st_ino == b.st_ino;
}

class Reading {
 public:
  Reading(const Fd& fd, ContentSink& sink, const std::stop_token& stop) : fd_(fd), sink_(sink), stop_(stop) {}

  // Gives `size` bytes, or fewer if the file ends before or cannot be read on; tells how many. Errors are the
  // sink's, or that it was stopped.
  Result<uint64_t> run(uint64_t size, bool sparse) {
    (void)::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    // NFS before 4.2 says how little a file takes, and not where its holes are.
    zeros_are_holes_ = sparse && ::lseek(fd_.get(), 0, SEEK_HOLE) == static_cast<off_t>(size);
    while (at_ < size && !ended_) {
      uint64_t data = at_, end = size;
      if (sparse) find_data(size, data, end);
      if (data > at_) {
        TRY(sink_.add_hole(data - at_));
        at_ = data;
      }
      TRY(give_until(end));
    }
    return at_;
  }
  // Why it could not be read on, an errno value; 0: it could.
  int failure() const { return failure_; }

 private:
  // The next stretch that is no hole. A filesystem that does not tell has none.
  void find_data(uint64_t size, uint64_t& data, uint64_t& end) {
    off_t found = ::lseek(fd_.get(), static_cast<off_t>(at_), SEEK_DATA);
    if (found < 0) {
      if (errno == ENXIO) data = size;  // nothing but a hole follows
      return;
    }
    data = std::min(static_cast<uint64_t>(found), size);
    off_t hole = ::lseek(fd_.get(), found, SEEK_HOLE);
    if (hole > found) end = std::min(static_cast<uint64_t>(hole), size);
  }

  Result<void> give_until(uint64_t end) {
    thread_local std::vector<uint8_t> buffer;
    while (at_ < end && !ended_) {
      if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
      size_t step = static_cast<size_t>(std::min<uint64_t>(end - at_, kReadStepBytes));
      if (buffer.size() < step) buffer.resize(step);
      const size_t got = read_some({buffer.data(), step});
      if (got == step && zeros_are_holes_ && is_zero({buffer.data(), got})) {
        TRY(sink_.add_hole(got));
      } else if (got > 0) {
        TRY(sink_.add({buffer.data(), got}));
      }
      at_ += got;
      ended_ = got < step;  // it was truncated meanwhile, or failed
    }
    return {};
  }

  static bool is_zero(ByteView bytes) {
    return bytes.front() == 0 && std::equal(bytes.begin() + 1, bytes.end(), bytes.begin());
  }

  size_t read_some(MutableByteView out) {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t got =
          ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(at_ + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) failure_ = errno;
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  const Fd& fd_;
  ContentSink& sink_;
  const std::stop_token& stop_;
  uint64_t at_ = 0;
  bool ended_ = false;
  bool zeros_are_holes_ = false;  // those that fill a whole step
  int failure_ = 0;
};

void take_over(CaptureItem& item, const struct stat& status, uint64_t bytes) {
  const bool distrusted = item.ctime_ns == 0;
  CaptureItem now = item_of(status, {});
  TreeEntry& entry = item.entry;
  // An owner's name was looked up for the number as it was.
  if (entry.uid != now.entry.uid) entry.user.clear();
  if (entry.gid != now.entry.gid) entry.group.clear();
  entry.mode = now.entry.mode;
  entry.uid = now.entry.uid;
  entry.gid = now.entry.gid;
  entry.mtime_ns = now.entry.mtime_ns;
  entry.size = bytes;
  item.inode = now.inode;
  item.ctime_ns = distrusted || is_young(now.ctime_ns) ? 0 : now.ctime_ns;
}

}  // namespace

bool is_young(int64_t ctime_ns) {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec - ctime_ns < kYoungNs;
}

Result<ContentRead> read_content(const std::function<Result<Fd>(int flags)>& open, CaptureItem& item,
                                 ContentSink& sink, const std::stop_token& stop) {
  for (int reads = 1;; ++reads) {
    Result<Fd> fd = open_to_read(open);
    if (!fd) return unreadable(item, std::move(fd).error());
    struct stat before, after;
    if (::fstat(fd->get(), &before) != 0) return unreadable(item, system_error("", errno));
    if (!S_ISREG(before.st_mode)) {
      return unreadable(item, fail(ErrorKind::kFailed, "", "something that is no file was put in its place"));
    }
    const uint64_t size = static_cast<uint64_t>(before.st_size);
    const bool sparse = static_cast<uint64_t>(before.st_blocks) * 512 < size;
    Reading reading(*fd, sink, stop);
    TRY_ASSIGN(const uint64_t bytes, reading.run(size, sparse));
    int failure = reading.failure();
    if (failure == 0 && ::fstat(fd->get(), &after) != 0) failure = errno;
    if (failure == ESTALE && reads < kReadsMax) {
      // On a network filesystem: another machine removed it. Its name may lead to another file by now.
      TRY(sink.restart());
      continue;
    }
    if (failure != 0) return unreadable(item, system_error("", failure));
    const bool whole = bytes == size && same(before, after);
    if (whole || reads == kReadsMax) {
      take_over(item, after, bytes);
      return ContentRead{.changed = !whole};
    }
    TRY(sink.restart());
  }
}

}  // namespace kuramori::files
