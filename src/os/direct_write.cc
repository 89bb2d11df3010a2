#include "os/direct_write.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

namespace kuramori {

Result<void> DirectWriter::append(ByteView bytes) {
  while (!bytes.empty()) {
    const size_t take = std::min(bytes.size(), piece_bytes_ - filled_);
    std::memcpy(piece() + filled_, bytes.data(), take);
    filled_ += take;
    bytes = bytes.subspan(take);
    if (filled_ == piece_bytes_) TRY(flush());
  }
  return {};
}

Result<void> DirectWriter::leave_out(uint64_t bytes) {
  TRY(flush());
  at_ += bytes;
  return {};
}

Result<void> DirectWriter::finish() {
  TRY(flush());
  TRY(end());
  set_direct(false);
  if (size_ == at_ && reserved_ <= size_) return {};
  // Ends in a hole, or gives back what was taken in advance and not used.
  if (::ftruncate(fd_.get(), static_cast<off_t>(at_)) != 0)
    return system_error(fmt::format("cut \"{}\" to its size", name_), errno);
  return {};
}

Result<void> DirectWriter::flush() {
  if (filled_ == 0) return {};
  TRY(end());
  const bool is_whole = filled_ == piece_bytes_ && at_ % kDirectIoAlignment == 0;
  set_direct(is_whole);
  if (is_whole && takes_room_ && at_ + filled_ > reserved_) take_room();
  const Write what{.bytes = {piece(), filled_}, .at = at_};
  if (is_whole) {
    begin(what);
    second_ = !second_;
  } else {
    TRY(write(what));
  }
  at_ += filled_;
  size_ = at_;
  filled_ = 0;
  return {};
}

Result<void> DirectWriter::write(Write what) {
  if (direct_) {
    ssize_t put = ::pwrite(fd_.get(), what.bytes.data(), what.bytes.size(), static_cast<off_t>(what.at));
    if (put < 0 && errno == EINVAL) may_be_direct_ = false;  // takes the flag, and then refuses the writes
    if (put < 0 && errno != EINVAL && errno != EINTR)
      return system_error(fmt::format("write \"{}\" at {}", name_, what.at), errno);
    what.bytes = what.bytes.subspan(static_cast<size_t>(std::max<ssize_t>(put, 0)));
    what.at += static_cast<uint64_t>(std::max<ssize_t>(put, 0));
    if (!what.bytes.empty()) set_direct(false);  // what is left of it may be no whole block
  }
  return pwrite_full(fd_, what.at, what.bytes, name_);
}

void DirectWriter::begin(Write what) {
  const std::lock_guard hold(mutex_);
  if (!writer_.joinable()) {
    try {
      writer_ = std::jthread([this](std::stop_token stop) { write_what_is_begun(stop); });
    } catch (const std::system_error&) {
      outcome_ = write(what);  // as many threads as there may be: then it is written here
      return;
    }
  }
  begun_ = what;
  changed_.notify_all();
}

Result<void> DirectWriter::end() {
  std::unique_lock hold(mutex_);
  changed_.wait(hold, [this] { return !begun_; });
  return std::exchange(outcome_, {});
}

void DirectWriter::write_what_is_begun(const std::stop_token& stop) {
  std::unique_lock hold(mutex_);
  while (changed_.wait(hold, stop, [this] { return begun_.has_value(); })) {
    const Write what = *begun_;
    hold.unlock();
    Result<void> written = write(what);
    hold.lock();
    outcome_ = std::move(written);
    begun_.reset();
    changed_.notify_all();
  }
}

// Not of a disk that is nearly full: what one file takes in advance, be it for a moment, another's writes
// lack.
void DirectWriter::take_room() {
  struct statvfs disk;
  takes_room_ = ::fstatvfs(fd_.get(), &disk) == 0 && disk.f_bavail * disk.f_frsize >= kPlentyBytes;
  if (!takes_room_) return;
  if (::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at_), kReserveBytes) == 0)
    reserved_ = at_ + static_cast<uint64_t>(kReserveBytes);
  else
    takes_room_ = false;  // this filesystem takes nothing in advance: do not ask again
}

// Best effort: a filesystem without O_DIRECT says no, and nothing changes.
void DirectWriter::set_direct(bool wanted) {
  if (wanted == direct_ || (wanted && !may_be_direct_)) return;
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0) return;
  const bool is_set = ::fcntl(fd_.get(), F_SETFL, wanted ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
  if (is_set) direct_ = wanted;
  if (wanted && !is_set) may_be_direct_ = false;
}

}  // namespace kuramori
