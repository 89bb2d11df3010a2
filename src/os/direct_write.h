// Writes past the page cache: through it, the kernel's copying and its writing back take longer than the disk
// itself would.
#pragma once
#include <string_view>

#include "os/file.h"

namespace kuramori {

// Writes a file from its beginning on. Whole buffers go past the page cache, where the filesystem has that;
// what is no whole block goes through it. Nothing is durable before an fsync. After an error it is not known
// what stands in the file: nothing more may be written.
class DirectWriter {
 public:
  enum class Room {
    kAsNeeded,   // each write finds its own place on the disk; what is left out stays a hole
    kInAdvance,  // taken by kReserveBytes, which keeps the file in few pieces
  };
  // `fd`, `name` (for messages) and `buffer` must outlive it; the buffer's size is what one write has.
  DirectWriter(const Fd& fd, std::string_view name, AlignedBuffer& buffer, Room room)
      : fd_(fd), name_(name), buffer_(buffer), takes_room_(room == Room::kInAdvance) {}

  Result<void> append(ByteView bytes);
  Result<void> leave_out(uint64_t bytes);  // they read as zeros
  Result<void> finish();                   // the file has its size then

 private:
  static constexpr off_t kReserveBytes = off_t{64} << 20;

  Result<void> flush();
  void take_room();
  void set_direct(bool wanted);

  const Fd& fd_;
  std::string_view name_;
  AlignedBuffer& buffer_;
  size_t filled_ = 0;
  uint64_t at_ = 0;        // where the buffer's first byte belongs
  uint64_t size_ = 0;      // up to where something was written
  uint64_t reserved_ = 0;  // up to where room was taken
  bool takes_room_;
  bool direct_ = false;
  bool may_be_direct_ = true;
};

}  // namespace kuramori
