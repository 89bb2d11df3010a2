// Reads a stretch of a file block after block, the next ones while the last is being worked on, past the page
// cache where it can.
//
// A copy of a whole database through the page cache throws out what the server keeps there, and the copying
// alone takes a quarter of a snapshot's CPU time. So a block comes from the cache only if all of it is there
// already (then nothing is evicted and the disk is spared), and straight from the disk otherwise; a direct
// read has no read-ahead by the kernel, hence the thread of ours. Where a filesystem has no direct reads,
// buffered ones do.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/throttle.h"
#include "os/file.h"

namespace kuramori::postgres {

constexpr size_t kReadBytes = size_t{1} << 20;           // a block
constexpr size_t kBlocksAhead = 3;                       // read or being read while one is worked on
constexpr uint64_t kDirectBytesMin = uint64_t{4} << 20;  // shorter stretches are not worth a second open

class ReadAhead {
 public:
  explicit ReadAhead(Throttle& throttle);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;

  // The bytes [offset, offset + length) of an open file, of which `offset` is a multiple of
  // kDirectIoAlignment. One at a time; file and ReadAhead must outlive it.
  class Stretch {
   public:
    Stretch(ReadAhead& ahead, const Fd& file, const std::string& path, uint64_t offset, uint64_t length)
        : ahead_(ahead) {
      ahead_.begin(file, path, offset, length);
    }
    ~Stretch() { ahead_.end(); }
    Stretch(const Stretch&) = delete;
    // The next block, valid until the next call: kReadBytes, less only where the file or the stretch ends;
    // then nothing.
    Result<MutableByteView> next() { return ahead_.next(); }

   private:
    ReadAhead& ahead_;
  };

 private:
  struct Block {
    AlignedBuffer buffer{kReadBytes};
    size_t bytes = 0;
  };
  void begin(const Fd& file, const std::string& path, uint64_t offset, uint64_t length);
  Result<MutableByteView> next();
  void end();  // waits for the read that is under way; what was not asked for is forgotten
  void read_blocks();
  // One block of the stretch; it is shorter than `wanted` only at the end of the file.
  Result<size_t> read_block(uint64_t offset, MutableByteView out);

  Throttle& throttle_;
  std::vector<Block> blocks_;

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const Fd* file_ = nullptr;
  std::string path_;
  std::optional<Fd> direct_;        // a second descriptor of the same file
  uint64_t offset_ = 0, left_ = 0;  // of the stretch: what was not begun to be read
  bool reading_ = false, ending_ = false;
  std::vector<size_t> free_;
  std::deque<size_t> filled_;
  std::optional<size_t> handed_out_;
  std::optional<Error> error_;
  std::thread thread_;
};

}  // namespace kuramori::postgres
