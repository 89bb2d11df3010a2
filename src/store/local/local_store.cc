#include "store/local/local_store.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <mutex>

#include "os/direct_read.h"
#include "os/direct_write.h"
#include "os/filesystem.h"
#include "store/local/listing.h"
#include "store/local/vault_folder.h"

namespace kuramori {
namespace {

constexpr uint64_t kGetBytesMax = uint64_t{1} << 30;  // what get() reads whole at most

class LocalWriter final : public ObjectWriter {
 public:
  LocalWriter(VaultFolder& folder, PendingFile pending, std::string name)
      : folder_(folder),
        pending_(std::move(pending)),
        name_(std::move(name)),
        buffer_(DirectWriter::kBufferBytes) {}

  // A failed write ends it: what it left is not known, so the object is given up, not patched.
  Result<void> append(ByteView bytes) override {
    TRY(must_go_on());
    ended_ = true;
    TRY(file_.append(bytes));
    ended_ = false;
    return {};
  }

  // The fsync before publishing makes durable what was written past the page cache and what was not.
  Result<void> commit() override {
    TRY(must_go_on());
    ended_ = true;
    TRY(file_.finish());
    return folder_.publish(pending_, name_);
  }

 private:
  Result<void> must_go_on() const {
    if (ended_) return fail(ErrorKind::kUsage, fmt::format("\"{}\" was committed or has failed", name_));
    return {};
  }

  VaultFolder& folder_;
  PendingFile pending_;
  std::string name_;
  AlignedBuffer buffer_;
  // Past the page cache: through it, the kernel's copying costs a third of a backup's time
  // (docs/benchmarks.md).
  DirectWriter file_{pending_.fd(), name_, buffer_, DirectWriter::Room::kInAdvance};
  bool ended_ = false;
};

// Large reads go past the page cache, unless it has what is asked for: packs were written past it, are read
// once, and reading them through fresh pages of it took more of a restore's time than opening and writing
// what is in them.
class LocalReader final : public ObjectReader {
 public:
  LocalReader(Fd fd, uint64_t size, std::string name)
      : fd_(std::move(fd)), size_(size), name_(std::move(name)) {}
  uint64_t size() const override { return size_; }
  Result<void> read(uint64_t offset, MutableByteView out) override {
    if (out.size() >= kDirectReadBytesMin && read_direct(offset, out)) return {};
    return pread_full(fd_, offset, out, name_);
  }

 private:
  // False when it cannot be done so, or failed: the buffered read, which comes then, knows the words for it.
  bool read_direct(uint64_t offset, MutableByteView out) {
    const uint64_t end = offset + out.size();
    uint64_t at = offset / kDirectIoAlignment * kDirectIoAlignment;
    if (end > size_ || refused_ || was_read(offset, end) || is_cached(fd_, at, end - at)) return false;
    std::call_once(once_, [&] {
      // Over a network each read would be a round trip; its client reads ahead.
      if (!is_remote(fd_.get())) direct_ = open_direct(fd_);
    });
    if (!direct_) refused_ = true;
    if (refused_) return false;
    thread_local AlignedBuffer buffer(kDirectPieceBytes);
    while (at < end) {
      const uint64_t last = (end + kDirectIoAlignment - 1) / kDirectIoAlignment * kDirectIoAlignment;
      const size_t wanted = std::min<uint64_t>(last - at, kDirectPieceBytes);
      auto got = pread_some(*direct_, at, buffer.view().first(wanted), name_);
      if (!got || at + *got < std::min(end, at + wanted)) {
        refused_ = true;  // a filesystem that takes the flag and then refuses the reads
        return false;
      }
      const uint64_t from = std::max(at, offset), to = std::min(end, at + *got);
      std::memcpy(out.data() + (from - offset), buffer.data() + (from - at), to - from);
      at += wanted;
    }
    return true;
  }

  // Notes that it is being read. A read is known by the multiples of kDirectReadBytesMin in it, of which each
  // of these has one at least and no two that follow each other the same.
  bool was_read(uint64_t offset, uint64_t end) {
    const std::lock_guard hold(mutex_);
    read_.resize(size_ / kDirectReadBytesMin + 1);
    bool was = false;
    for (uint64_t i = (offset + kDirectReadBytesMin - 1) / kDirectReadBytesMin; i * kDirectReadBytesMin < end;
         ++i) {
      was = was || read_[i];
      read_[i] = true;
    }
    return was;
  }

  static constexpr size_t kDirectReadBytesMin = size_t{256} << 10;
  static constexpr size_t kDirectPieceBytes = size_t{1} << 20;

  Fd fd_;
  uint64_t size_;
  std::string name_;
  std::mutex mutex_;
  std::vector<bool> read_;
  std::once_flag once_;
  std::optional<Fd> direct_;
  std::atomic<bool> refused_ = false;
};

class LocalStore final : public Store {
 public:
  explicit LocalStore(VaultFolder folder) : folder_(std::move(folder)) {}

  std::string location() const override { return folder_.path(); }

  Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
    TRY(check_object_name(name));
    TRY_ASSIGN(PendingFile pending, folder_.make_pending());
    TRY(pwrite_full(pending.fd(), 0, bytes, name));
    return folder_.publish(pending, name);
  }

  Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) override {
    TRY(check_object_name(name));
    TRY_ASSIGN(PendingFile pending, folder_.make_pending());
    return std::unique_ptr<ObjectWriter>(new LocalWriter(folder_, std::move(pending), std::string(name)));
  }

  Result<std::unique_ptr<ObjectReader>> open(std::string_view name) override {
    TRY(check_object_name(name));
    TRY_ASSIGN(Fd fd, folder_.open_object(name));
    TRY_ASSIGN(FileStatus status, status_of(fd, name));
    return std::unique_ptr<ObjectReader>(new LocalReader(std::move(fd), status.size, std::string(name)));
  }

  Result<Bytes> get(std::string_view name) override {
    TRY(check_object_name(name));
    TRY_ASSIGN(Fd fd, folder_.open_object(name));
    TRY_ASSIGN(FileStatus status, status_of(fd, name));
    if (status.size > kGetBytesMax) {
      return fail(ErrorKind::kRefused,
                  fmt::format("\"{}\" has {} bytes: too large to read whole", name, status.size));
    }
    Bytes bytes(status.size);
    TRY(pread_full(fd, 0, bytes, name));
    return bytes;
  }

  Result<ObjectInfo> head(std::string_view name) override {
    TRY(check_object_name(name));
    TRY_ASSIGN(FileStatus status, folder_.object_status(name));
    return ObjectInfo{.name = std::string(name), .size = status.size, .stored_at = status.changed};
  }

  Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
    TRY(check_list_request(prefix, limit));
    std::optional<ListingMark> mark;
    uint64_t read = 0;
    {
      std::lock_guard hold(mutex_);
      // Of several listings at once one goes on by it. What begins anew is a reading of its own.
      if (mark_ && mark_->prefix == prefix && mark_->last == after) mark.swap(mark_);
      read = mark ? mark_read_ : ++reads_;
    }
    Result<ListPage> page = list_objects(folder_, prefix, after, limit, mark);
    std::lock_guard hold(mutex_);
    // Never one of an older reading in place of a newer: whoever began in between may have been told of names
    // that it lacks.
    if (mark && read >= mark_read_) {
      mark_ = std::move(mark);
      mark_read_ = read;
    }
    return page;
  }

  Result<void> remove(std::string_view name) override {
    TRY(check_object_name(name));
    return folder_.remove(name);
  }

 private:
  VaultFolder folder_;
  std::mutex mutex_;
  std::optional<ListingMark> mark_;  // where the last page of a listing ended
  uint64_t reads_ = 0;               // begun so far
  uint64_t mark_read_ = 0;           // which of them the newest mark is of
};

}  // namespace

Result<std::unique_ptr<Store>> open_local_store(const std::string& root, LocalStoreOptions options) {
  TRY_ASSIGN(VaultFolder folder, VaultFolder::open(root, options));
  // Left-overs cost space, not safety: that they cannot be removed (a read-only vault) is no reason to fail.
  (void)clean_unfinished_uploads(root);
  return std::unique_ptr<Store>(new LocalStore(std::move(folder)));
}

Result<std::unique_ptr<Store>> create_local_store(const std::string& root, LocalStoreOptions options) {
  TRY(make_folders(root, options.folder_mode));
  return open_local_store(root, options);
}

}  // namespace kuramori
