// Content into a new file, at its own pace: holes stay holes.
#pragma once
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <stop_token>
#include <string>

#include "base/reporter.h"
#include "os/file.h"
#include "source/source.h"

namespace kuramori::files {

// Borrows all but the name, which is for messages.
class FileSink final : public ContentSink {
 public:
  FileSink(const Fd& file, std::string name, Reporter& reporter, const std::stop_token& stop)
      : file_(file), name_(std::move(name)), reporter_(reporter), stop_(stop) {}
  Result<void> add(ByteView bytes) override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the restore was stopped");
    TRY(pwrite_full(file_, at_, bytes, name_));
    reporter_.advance(bytes.size());
    at_ += bytes.size();
    return {};
  }
  Result<void> add_hole(uint64_t bytes) override {
    at_ += bytes;
    return {};
  }
  Result<void> restart() override {
    at_ = 0;
    return cut();
  }
  // How long it is. A hole at the end is only a length.
  Result<uint64_t> end() {
    TRY(cut());
    return at_;
  }

 private:
  Result<void> cut() {
    if (::ftruncate(file_.get(), static_cast<off_t>(at_)) != 0)
      return system_error(fmt::format("set the length of \"{}\"", name_), errno);
    return {};
  }

  const Fd& file_;
  const std::string name_;
  Reporter& reporter_;
  const std::stop_token& stop_;
  uint64_t at_ = 0;
};

}  // namespace kuramori::files
