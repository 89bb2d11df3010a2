// Reads the content of a file that others may be writing.
#pragma once
#include <functional>
#include <stop_token>

#include "os/file.h"
#include "source/source.h"

namespace kuramori::files {

constexpr size_t kReadStepBytes = size_t{1} << 20;
constexpr int kReadsMax = 3;  // of a file that changes while it is read
// A change within a tick of the filesystem's clock leaves ctime as it was. A file whose ctime is younger than
// this when it was read may change again unseen, so its ctime is not to be relied on.
constexpr int64_t kYoungNs = 2'000'000'000;

struct ContentRead {
  bool changed = false;  // it changed during every read; what was read last is a mixture perhaps
};

// `open` opens the file anew for each read. Gives its bytes and holes to `sink` and puts what it was when it
// was read into `item`. Errors: as TreeCapture::read().
Result<ContentRead> read_content(const std::function<Result<Fd>(int flags)>& open, CaptureItem& item,
                                 ContentSink& sink, const std::stop_token& stop);

// Whether `ctime_ns` is too young to be relied on. By the machine's clock, which decides here only whether a
// file is read once more than needed; a server whose clock is behind by more than kYoungNs is not noticed.
bool is_young(int64_t ctime_ns);

}  // namespace kuramori::files
