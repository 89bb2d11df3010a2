#include "source/postgres/read_ahead.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "base/cpu_limit.h"
#include "os/direct_read.h"

namespace kuramori::postgres {
ReadAhead::ReadAhead(Throttle& throttle) : throttle_(throttle), blocks_(kBlocksAhead + 1) {
  for (size_t i = 0; i < blocks_.size(); ++i) free_.push_back(i);
  thread_ = std::thread([this] { read_blocks(); });
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard hold(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void ReadAhead::begin(const Fd& file, const std::string& path, uint64_t offset, uint64_t length) {
  CHECK(offset % kDirectIoAlignment == 0);
  {
    const std::lock_guard hold(mutex_);
    CHECK(file_ == nullptr);
    file_ = &file;
    path_ = path;
    direct_ = length >= kDirectBytesMin ? open_direct(file) : std::nullopt;
    // Buffered reads beside direct ones are of what is cached already: they must not draw in what follows.
    if (length >= kDirectBytesMin)
      ::posix_fadvise(file.get(), 0, 0, direct_ ? POSIX_FADV_RANDOM : POSIX_FADV_SEQUENTIAL);
    offset_ = offset;
    left_ = length;
  }
  wake_.notify_all();
}

Result<MutableByteView> ReadAhead::next() {
  std::unique_lock hold(mutex_);
  if (handed_out_) {
    free_.push_back(*handed_out_);
    handed_out_.reset();
    wake_.notify_all();
  }
  done_.wait(hold, [&] { return !filled_.empty() || error_ || (left_ == 0 && !reading_); });
  if (!filled_.empty()) {
    handed_out_ = filled_.front();
    filled_.pop_front();
    Block& block = blocks_[*handed_out_];
    return block.buffer.view().first(block.bytes);
  }
  if (error_) return *error_;
  return MutableByteView{};
}

void ReadAhead::end() {
  std::unique_lock hold(mutex_);
  left_ = 0;
  done_.wait(hold, [&] { return !reading_; });
  if (handed_out_) free_.push_back(*handed_out_);
  handed_out_.reset();
  free_.insert(free_.end(), filled_.begin(), filled_.end());
  filled_.clear();
  error_.reset();
  direct_.reset();
  file_ = nullptr;
}

void ReadAhead::read_blocks() {
  std::unique_lock hold(mutex_);
  for (;;) {
    wake_.wait(hold, [&] { return ending_ || (left_ > 0 && !free_.empty()); });
    if (ending_) return;
    const size_t index = free_.back();
    free_.pop_back();
    const uint64_t offset = offset_;
    const size_t wanted = std::min<uint64_t>(left_, kReadBytes);
    offset_ += wanted;
    left_ -= wanted;
    reading_ = true;
    hold.unlock();
    auto got = read_block(offset, blocks_[index].buffer.view().first(wanted));
    hold.lock();
    reading_ = false;
    blocks_[index].bytes = got ? *got : 0;
    if (!got) {
      error_ = std::move(got).error();
    }
    if (blocks_[index].bytes < wanted) left_ = 0;  // the end of the file, or of what can be read
    if (blocks_[index].bytes > 0) {
      filled_.push_back(index);
    } else {
      free_.push_back(index);
    }
    done_.notify_all();
  }
}

Result<size_t> ReadAhead::read_block(uint64_t offset, MutableByteView out) {
  throttle_.take(out.size());
  pause_for_cpu();
  const bool direct = direct_ && !is_cached(*file_, offset, out.size());
  size_t got = 0;
  // A short read is not yet the end.
  while (got < out.size()) {
    // Direct reads go on from whole blocks only; what is behind a file's odd end the buffered one says.
    const bool aligned = got % kDirectIoAlignment == 0 && out.size() % kDirectIoAlignment == 0;
    const Fd& from = direct && direct_ && aligned ? *direct_ : *file_;
    auto more = pread_some(from, offset + got, out.subspan(got), path_);
    if (!more && &from != file_) {  // a filesystem that takes the flag and then refuses the reads
      direct_.reset();
      continue;
    }
    TRY(more);
    if (*more == 0) break;
    got += *more;
  }
  return got;
}

}  // namespace kuramori::postgres
