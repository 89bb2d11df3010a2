// Files and folders: descriptors that close themselves, whole reads and writes, and writes that survive
// a power cut. Every descriptor made here is close-on-exec. Errors name the path and keep errno's kind:
// only ENOENT is ever kNotFound.
#pragma once
#include <fcntl.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/world.h"

namespace kuramori {

// A descriptor that is closed when it goes out of scope.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int raw) : raw_(raw) {}
  Fd(Fd&& other) noexcept : raw_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  int get() const { return raw_; }
  bool valid() const { return raw_ >= 0; }
  int release();         // the caller closes it
  Result<void> close();  // tells what close(2) said; the descriptor is gone either way

 private:
  int raw_ = -1;
};

// --- opening -----------------------------------------------------------------------------------------
// `flags` as of open(2); O_CLOEXEC is added. Relative to the working folder, or to an open folder.
Result<Fd> open_file(const std::string& path, int flags = O_RDONLY, mode_t mode = 0600);
Result<Fd> open_at(const Fd& folder, const std::string& name, int flags, mode_t mode = 0600);
Result<Fd> open_folder(const std::string& path);
// Opens `path` inside `folder`; refuses (kRefused) every symbolic link on the way and anything outside. The
// path may be longer than the kernel takes at once.
Result<Fd> open_beneath(const Fd& folder, const std::string& path, int flags, mode_t mode = 0600);
// The same; nullopt if nothing has that path, also because a part of it is a file.
Result<std::optional<Fd>> open_beneath_if_there(const Fd& folder, const std::string& path, int flags);

// --- reading and writing -----------------------------------------------------------------------------
// `name` is for messages. All of `out` is filled, or it is an error: a file that ends before is kDamaged.
Result<void> pread_full(const Fd& fd, uint64_t offset, MutableByteView out, std::string_view name);
// As much of `out` as the file has from `offset`; 0 at its end.
Result<size_t> pread_some(const Fd& fd, uint64_t offset, MutableByteView out, std::string_view name);
Result<void> pwrite_full(const Fd& fd, uint64_t offset, ByteView bytes, std::string_view name);
// At the descriptor's own position (pipes, sockets, appending).
Result<void> write_full(const Fd& fd, ByteView bytes, std::string_view name);

constexpr size_t kReadFileBytesMax = size_t{64} << 20;
// The whole file; one larger than `max` bytes is kRefused. Works on /proc files too.
Result<Bytes> read_file(const std::string& path, size_t max = kReadFileBytesMax);

Result<void> sync_file(const Fd& fd, std::string_view name);  // fsync
// Takes `bytes` of disk for the file now, without changing its size; a filesystem that cannot is fine.
Result<void> preallocate(const Fd& fd, uint64_t bytes, std::string_view name);

// Replaces `path`: temporary file beside it, fsync, rename, fsync of the folder. After a crash there is
// the old content or the new one, whole.
Result<void> write_file_durably(const std::string& path, ByteView bytes, mode_t mode = 0600);
// Makes `path`, which must not exist (kExists), and fsyncs it and its folder.
Result<void> write_new_file(const std::string& path, ByteView bytes, mode_t mode = 0600);

// --- folders -----------------------------------------------------------------------------------------
Result<void> sync_folder(const std::string& path);
// Makes `path` and what is missing above it; fsyncs the parent of each folder made.
Result<void> make_folders(const std::string& path, mode_t mode = 0700);
// Removes `path` with all it holds, or does nothing if it is absent. Never follows a symbolic link
// (a link is removed, not what it points to) and never crosses into another filesystem.
Result<void> remove_tree(const std::string& path);
// The same of what `folder` has under one name.
Result<void> remove_tree_at(const Fd& folder, const std::string& name);
Result<void> remove_file(const std::string& path);  // absent is fine; fsyncs the folder

enum class FileType { kFile, kFolder, kSymlink, kOther };

struct FolderEntry {
  std::string name;
  FileType type = FileType::kOther;
};
// All entries but "." and "..", in byte order of their names.
Result<std::vector<FolderEntry>> list_folder(const std::string& path);
Result<std::vector<FolderEntry>> list_folder(const Fd& folder, std::string_view name);

struct FileStatus {
  FileType type = FileType::kOther;
  uint64_t device = 0;  // of the filesystem it is on
  uint64_t inode = 0;
  uint64_t size = 0;       // bytes
  uint64_t allocated = 0;  // bytes on disk
  uint32_t mode = 0;       // permission bits, with setuid, setgid, sticky
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t links = 0;
  uint64_t rdev = 0;  // of a device node
  Time modified;
  Time changed;
  std::optional<Time> born;  // where the filesystem keeps it
};
// Of the thing itself: a symbolic link is not followed.
Result<FileStatus> status_of(const std::string& path);
Result<FileStatus> status_of(const Fd& fd, std::string_view name);
Result<FileStatus> status_at(const Fd& folder, const std::string& name);
// kNotFound becomes nullopt; every other error stays one.
Result<std::optional<FileStatus>> status_if_there(const std::string& path);

Result<std::string> read_link(const std::string& path);
// The folder a path stands in: "a/b" → "a", "b" → ".", "/b" → "/".
std::string folder_of(std::string_view path);
std::string join_path(std::string_view folder, std::string_view name);

// The free and the whole space of the filesystem `path` is on, in bytes, as an ordinary user sees it.
struct FreeSpace {
  uint64_t free = 0;
  uint64_t total = 0;
};
Result<FreeSpace> free_space(const std::string& path);

// A folder of its own under `parent` (by default $TMPDIR or /tmp), removed with all it holds.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> make(std::string_view prefix, std::string parent = {});
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return join_path(path_, name); }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// --- memory for O_DIRECT -----------------------------------------------------------------------------
constexpr size_t kDirectIoAlignment = 4096;  // bytes; satisfies every disk with ≤4 KiB sectors

// Zeroed memory whose address is a multiple of kDirectIoAlignment; its size is rounded up to one.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size);
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();
  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  MutableByteView view() { return {data_, size_}; }
  ByteView view() const { return {data_, size_}; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace kuramori
