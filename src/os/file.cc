#include "os/file.h"

#include <sys/mman.h>

#include <fmt/core.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/check.h"

namespace kuramori {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (raw_ >= 0) ::close(raw_);
    raw_ = other.release();
  }
  return *this;
}

Fd::~Fd() {
  if (raw_ >= 0) ::close(raw_);
}

int Fd::release() {
  return std::exchange(raw_, -1);
}

Result<void> Fd::close() {
  int raw = release();
  // Linux frees the descriptor even when close() says EINTR: closing again could hit another thread's file.
  if (raw >= 0 && ::close(raw) != 0 && errno != EINTR) return system_error("close a file", errno);
  return {};
}

namespace {

Result<Fd> open_raw(int folder, const std::string& path, int flags, mode_t mode) {
  for (;;) {
    int raw = ::openat(folder, path.c_str(), flags | O_CLOEXEC, mode);
    if (raw >= 0) return Fd(raw);
    if (errno != EINTR) return system_error(fmt::format("open \"{}\"", path), errno);
  }
}

// For kernels and sandboxes without openat2: one part after the other, none of them followed. Returns errno;
// ELOOP for a link on the way, EXDEV for a way out.
int open_beneath_by_parts(const Fd& folder, const std::string& path, int flags, mode_t mode, Fd& out) {
  Fd current;
  int at = folder.get();
  size_t begin = 0;
  for (;;) {
    size_t end = path.find('/', begin);
    bool last = end == std::string::npos;
    std::string part = path.substr(begin, last ? std::string::npos : end - begin);
    if (part == ".." || (part.empty() && begin == 0)) return EXDEV;
    if (part.empty()) part = ".";
    int part_flags = last ? flags | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW;
    int raw = ::openat(at, part.c_str(), part_flags | O_CLOEXEC, mode);
    if (raw < 0) {
      int code = errno;
      if (code == EINTR) continue;
      struct stat info;
      // A link opened as a folder says ENOTDIR, not ELOOP.
      bool is_link = ::fstatat(at, part.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode);
      return is_link ? ELOOP : code;
    }
    current = Fd(raw);
    if (last) {
      out = std::move(current);
      return 0;
    }
    at = raw;
    begin = end + 1;
  }
}

// Returns errno, 0 when `out` is open.
int open_beneath_at_once(const Fd& folder, const std::string& path, int flags, mode_t mode, Fd& out) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (;;) {
    long raw = ::syscall(SYS_openat2, folder.get(), path.c_str(), &how, sizeof how);
    if (raw >= 0) {
      out = Fd(static_cast<int>(raw));
      return 0;
    }
    if (errno == EINTR || errno == EAGAIN) continue;  // EAGAIN: a rename raced with the walk
    // EPERM: a sandbox's filter; if it was the file's own doing, the other way says so again.
    if (errno != ENOSYS && errno != EPERM) return errno;
    return open_beneath_by_parts(folder, path, flags, mode, out);
  }
}

// The kernel takes 4095 bytes of a path at once, and a tree may be deeper.
constexpr size_t kPathBytesAtOnce = 2048;

int open_beneath_code(const Fd& folder, const std::string& path, int flags, mode_t mode, Fd& out) {
  Fd reached;
  const Fd* at = &folder;
  size_t begin = 0;
  while (path.size() - begin > kPathBytesAtOnce) {
    size_t slash = path.rfind('/', begin + kPathBytesAtOnce);
    if (slash == std::string::npos || slash <= begin) break;  // no name is as long: the kernel will say so
    Fd next;
    int code = open_beneath_at_once(*at, path.substr(begin, slash - begin), O_PATH | O_DIRECTORY, 0, next);
    if (code != 0) return code;
    reached = std::move(next);
    at = &reached;
    begin = slash + 1;
  }
  return open_beneath_at_once(*at, begin == 0 ? path : path.substr(begin), flags, mode, out);
}

Error beneath_error(const std::string& path, int code) {
  if (code != ELOOP && code != EXDEV) return system_error(fmt::format("open \"{}\"", path), code);
  return fail(ErrorKind::kRefused, fmt::format("open \"{}\"", path),
              "a symbolic link is on the way, or the path leads outside");
}

}  // namespace

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
  return open_raw(AT_FDCWD, path, flags, mode);
}

Result<Fd> open_at(const Fd& folder, const std::string& name, int flags, mode_t mode) {
  return open_raw(folder.get(), name, flags, mode);
}

Result<Fd> open_folder(const std::string& path) {
  return open_raw(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
}

Result<Fd> open_beneath(const Fd& folder, const std::string& path, int flags, mode_t mode) {
  Fd fd;
  int code = open_beneath_code(folder, path, flags, mode, fd);
  if (code != 0) return beneath_error(path, code);
  return fd;
}

Result<std::optional<Fd>> open_beneath_if_there(const Fd& folder, const std::string& path, int flags) {
  Fd fd;
  int code = open_beneath_code(folder, path, flags, 0, fd);
  if (code == ENOENT || code == ENOTDIR) return std::optional<Fd>();
  if (code != 0) return beneath_error(path, code);
  return std::optional<Fd>(std::move(fd));
}

Result<size_t> pread_some(const Fd& fd, uint64_t offset, MutableByteView out, std::string_view name) {
  size_t done = 0;
  while (done < out.size()) {
    ssize_t got = ::pread(fd.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(fmt::format("read \"{}\" at {}", name, offset + done), errno);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

Result<void> pread_full(const Fd& fd, uint64_t offset, MutableByteView out, std::string_view name) {
  TRY_ASSIGN(size_t got, pread_some(fd, offset, out, name));
  if (got == out.size()) return {};
  return fail(ErrorKind::kDamaged, fmt::format("\"{}\" is too short: need {} bytes at {}, have {}", name,
                                               out.size(), offset, got));
}

Result<void> pwrite_full(const Fd& fd, uint64_t offset, ByteView bytes, std::string_view name) {
  while (!bytes.empty()) {
    ssize_t put = ::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(fmt::format("write \"{}\" at {}", name, offset), errno);
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return {};
}

Result<void> write_full(const Fd& fd, ByteView bytes, std::string_view name) {
  while (!bytes.empty()) {
    ssize_t put = ::write(fd.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(fmt::format("write \"{}\"", name), errno);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

namespace {

// Large memory that is about to be filled for the first time: pages of 2 MiB where the kernel has them make
// it eight faults instead of 4,096 for 16 MiB, which else take longer than reading the file.
void expect_first_touch(const Bytes& reserved) {
  constexpr uintptr_t kWorthBytes = uintptr_t{4} << 20, kPageBytes = 4096;
  if (reserved.capacity() < kWorthBytes) return;
  const auto begin = reinterpret_cast<uintptr_t>(reserved.data());
  const uintptr_t from = (begin + kPageBytes - 1) / kPageBytes * kPageBytes;
  const uintptr_t to = (begin + reserved.capacity()) / kPageBytes * kPageBytes;
  (void)::madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);  // advice: it may be refused
}

}  // namespace

Result<Bytes> read_file(const std::string& path, size_t max) {
  constexpr size_t kStepBytes = 64 << 10;
  TRY_ASSIGN(Fd fd, open_file(path));
  TRY_ASSIGN(FileStatus status, status_of(fd, path));
  if (status.type == FileType::kFolder) return system_error(fmt::format("read \"{}\"", path), EISDIR);
  // The size is a hint only (/proc says 0, a file may grow): read until the end says so.
  Bytes bytes;
  size_t used = 0;
  for (;;) {
    size_t hint = status.size > used ? static_cast<size_t>(status.size) - used + 1 : kStepBytes;
    size_t room = std::min(hint, max - used + 1);
    if (used == 0) {
      bytes.reserve(room);
      expect_first_touch(bytes);
    }
    bytes.resize(used + room);
    ssize_t got = ::read(fd.get(), bytes.data() + used, room);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(fmt::format("read \"{}\"", path), errno);
    used += static_cast<size_t>(got);
    if (used > max) {
      return fail(ErrorKind::kRefused, fmt::format("\"{}\" is larger than {} bytes", path, max));
    }
    if (got == 0) break;
  }
  bytes.resize(used);
  return bytes;
}

Result<void> sync_file(const Fd& fd, std::string_view name) {
  // Not retried on any error: after a failed fsync the kernel may have dropped the dirty pages.
  if (::fsync(fd.get()) != 0) return system_error(fmt::format("make \"{}\" durable", name), errno);
  return {};
}

Result<void> preallocate(const Fd& fd, uint64_t bytes, std::string_view name) {
  if (bytes == 0) return {};
  for (;;) {
    if (::fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes)) == 0) return {};
    if (errno == EINTR) continue;
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) return {};
    return system_error(fmt::format("take {} bytes of disk for \"{}\"", bytes, name), errno);
  }
}

namespace {

Result<void> write_and_sync(Fd fd, const std::string& path, ByteView bytes, mode_t mode) {
  if (::fchmod(fd.get(), mode) != 0) return system_error(fmt::format("set the mode of \"{}\"", path), errno);
  TRY(write_full(fd, bytes, path));
  TRY(sync_file(fd, path));
  return fd.close();
}

std::string temporary_beside(const std::string& path) {
  std::array<uint8_t, 8> raw;
  system_random().fill(raw);
  return fmt::format("{}.{}.tmp", path, to_hex(raw));
}

}  // namespace

Result<void> write_file_durably(const std::string& path, ByteView bytes, mode_t mode) {
  std::string temporary = temporary_beside(path);
  TRY_ASSIGN(Fd fd, open_file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  Result<void> written = write_and_sync(std::move(fd), temporary, bytes, mode);
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) {
    written = system_error(fmt::format("put \"{}\" in place", path), errno);
  }
  if (!written) {
    ::unlink(temporary.c_str());
    return written;
  }
  return sync_folder(folder_of(path));
}

Result<void> write_new_file(const std::string& path, ByteView bytes, mode_t mode) {
  TRY_ASSIGN(Fd fd, open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  Result<void> written = write_and_sync(std::move(fd), path, bytes, mode);
  if (!written) {
    ::unlink(path.c_str());
    return written;
  }
  return sync_folder(folder_of(path));
}

Result<FreeSpace> free_space(const std::string& path) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) {
    return system_error(fmt::format("ask for the free space of \"{}\"", path), errno);
  }
  return FreeSpace{.free = uint64_t{info.f_bavail} * info.f_frsize,
                   .total = uint64_t{info.f_blocks} * info.f_frsize};
}

namespace {
// From here on memory comes straight from the kernel, in huge pages where it has them: a fault for every 4
// KiB of a WAL segment costs a tenth of pushing it.
constexpr size_t kHugeFromBytes = size_t{2} << 20;
}  // namespace

AlignedBuffer::AlignedBuffer(size_t size) {
  size_ = (size + kDirectIoAlignment - 1) / kDirectIoAlignment * kDirectIoAlignment;
  if (size_ == 0) return;
  if (size_ >= kHugeFromBytes) {
    void* memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    (void)::madvise(memory, size_, MADV_HUGEPAGE);  // a hint
    data_ = static_cast<uint8_t*>(memory);
    return;
  }
  data_ = static_cast<uint8_t*>(std::aligned_alloc(kDirectIoAlignment, size_));
  CHECK(data_ != nullptr);
  std::memset(data_, 0, size_);
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr && size_ >= kHugeFromBytes) {
    (void)::munmap(data_, size_);
  } else {
    std::free(data_);
  }
}

}  // namespace kuramori
