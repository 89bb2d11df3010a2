#include "os/direct_write.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace kuramori {

Result<void> DirectWriter::append(ByteView bytes) {
  while (!bytes.empty()) {
    const size_t take = std::min(bytes.size(), buffer_.size() - filled_);
    std::memcpy(buffer_.data() + filled_, bytes.data(), take);
    filled_ += take;
    bytes = bytes.subspan(take);
    if (filled_ == buffer_.size()) TRY(flush());
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
  set_direct(false);
  if (size_ == at_ && reserved_ <= size_) return {};
  // Ends in a hole, or gives back what was taken in advance and not used.
  if (::ftruncate(fd_.get(), static_cast<off_t>(at_)) != 0)
    return system_error(fmt::format("cut \"{}\" to its size", name_), errno);
  return {};
}

Result<void> DirectWriter::flush() {
  if (filled_ == 0) return {};
  const bool is_whole = filled_ == buffer_.size() && at_ % kDirectIoAlignment == 0;
  set_direct(is_whole);
  if (is_whole && takes_room_ && at_ + filled_ > reserved_) take_room();
  ByteView rest = buffer_.view().first(filled_);
  uint64_t at = at_;
  if (direct_) {
    ssize_t put = ::pwrite(fd_.get(), rest.data(), rest.size(), static_cast<off_t>(at));
    if (put < 0 && errno == EINVAL) may_be_direct_ = false;  // takes the flag, and then refuses the writes
    if (put < 0 && errno != EINVAL && errno != EINTR)
      return system_error(fmt::format("write \"{}\" at {}", name_, at), errno);
    rest = rest.subspan(static_cast<size_t>(std::max<ssize_t>(put, 0)));
    at += static_cast<uint64_t>(std::max<ssize_t>(put, 0));
    if (!rest.empty()) set_direct(false);  // what is left of it may be no whole block
  }
  TRY(pwrite_full(fd_, at, rest, name_));
  at_ += filled_;
  size_ = at_;
  filled_ = 0;
  return {};
}

void DirectWriter::take_room() {
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
