// Writes past the page cache: through it, the kernel's copying and its writing back take longer than the disk
// itself would.
#pragma once
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>

#include "os/file.h"

namespace kuramori {

// Writes a file from its beginning on. Whole pieces go past the page cache, where the filesystem has that,
// each while the next one is filled; what is no whole block goes through it. Nothing is durable before an
// fsync. After an error it is not known what stands in the file: nothing more may be written.
class DirectWriter {
 public:
  enum class Room {
    kAsNeeded,   // each write finds its own place on the disk; what is left out stays a hole
    kInAdvance,  // taken by kReserveBytes where there is plenty, which keeps the file in few pieces
  };
  static constexpr size_t kBufferBytes = size_t{2} << 20;  // one that serves well

  // `fd`, `name` (for messages) and `buffer` must outlive it. The buffer has two pieces, of whole blocks
  // each.
  DirectWriter(const Fd& fd, std::string_view name, AlignedBuffer& buffer, Room room)
      : fd_(fd),
        name_(name),
        buffer_(buffer),
        piece_bytes_(buffer.size() / 2),
        takes_room_(room == Room::kInAdvance) {}

  Result<void> append(ByteView bytes);
  Result<void> leave_out(uint64_t bytes);  // they read as zeros
  Result<void> finish();                   // the file has its size then

 private:
  static constexpr off_t kReserveBytes = off_t{64} << 20;
  static constexpr uint64_t kPlentyBytes = uint64_t{1} << 30;  // free on the disk

  struct Write {
    ByteView bytes;
    uint64_t at = 0;
  };

  uint8_t* piece() { return buffer_.data() + (second_ ? piece_bytes_ : 0); }
  Result<void> flush();
  Result<void> write(Write what);
  void take_room();
  void set_direct(bool wanted);

  void begin(Write what);
  Result<void> end();  // what came of the write that was begun last
  void write_what_is_begun(const std::stop_token& stop);

  const Fd& fd_;
  std::string_view name_;
  AlignedBuffer& buffer_;
  const size_t piece_bytes_;
  bool second_ = false;    // which piece is being filled
  size_t filled_ = 0;      // bytes of it
  uint64_t at_ = 0;        // where its first byte belongs
  uint64_t size_ = 0;      // up to where something was written
  uint64_t reserved_ = 0;  // up to where room was taken
  bool takes_room_;
  bool direct_ = false;  // these two belong to the write that is begun, until it has ended
  bool may_be_direct_ = true;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<Write> begun_;
  Result<void> outcome_;
  std::jthread writer_;  // begins with the first whole piece
};

}  // namespace kuramori
