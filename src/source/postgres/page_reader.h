// Reads pages of a relation file that a server is writing to, and judges each by its checksum (or, where
// there are none, by its header). A page caught in the middle of a write is read again; a hot one is never a
// failure (P1), a wrong one that stays as it is is broken (P3).
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/world.h"
#include "codec/page_checksum.h"
#include "os/file.h"
#include "source/postgres/capture.h"
#include "source/postgres/read_ahead.h"

namespace kuramori::postgres {

constexpr unsigned kPageReadsMax = 12;                              // of one page that looks wrong
constexpr Duration kPagePauseFirst = std::chrono::milliseconds(1);  // between them; doubles
constexpr Duration kPagePauseMax = std::chrono::milliseconds(100);

struct PageRules {
  bool checksums = true;
  uint32_t segment = 0;  // of the file: blocks are numbered through the whole relation (P2)
  Lsn start_lsn = 0;     // of the capture: redo repairs what is newer
  Skip skip;             // unchanged_before 0: none; `changed` is for read_listed()
};

using PageRun = std::function<Result<void>(uint32_t first_page, ByteView pages)>;

struct PageCounts {
  uint64_t bytes_read = 0;
  uint64_t pages_given = 0;
  uint64_t pages_skipped = 0;
  uint64_t pages_read_again = 0;
  std::vector<BrokenPage> broken;
};

class PageReader {
 public:
  PageReader(Clock& clock, Throttle& throttle) : clock_(clock), throttle_(throttle), ahead_(throttle) {}
  // Pages [first, first + count) of the open file, as far as it has them; neighbours to be kept go to `run`
  // together. Returns how many pages were there. A partial page at the end is none.
  Result<uint32_t> read(const Fd& file, const std::string& path, uint32_t first, uint32_t count,
                        const PageRules& rules, const PageRun& run);
  // The pages of `pages` (of this file, ascending) and no others. One that is no longer there is given as
  // zeros: the file was cut after the capture began, and redo does so again.
  Result<void> read_listed(const Fd& file, const std::string& path, std::span<const uint32_t> pages,
                           const PageRules& rules, const PageRun& run);
  // LSN and all-zero of one page; reads its first 512 bytes, and the rest if they are zero.
  Result<PageLook> look(const Fd& file, const std::string& path, uint32_t page);
  const PageCounts& counts() const { return counts_; }
  // That many of the pages that were given out were not needed after all.
  void not_needed(uint32_t pages) {
    counts_.pages_given -= pages;
    counts_.pages_skipped += pages;
  }

 private:
  // A run of neighbours, by itself.
  Result<void> read_run(const Fd& file, const std::string& path, uint32_t first, uint32_t count,
                        const PageRules& rules, const PageRun& run);
  // Reads the page until it is right or plainly broken; false if it is no longer there.
  Result<bool> settle(const Fd& file, const std::string& path, uint32_t page, const PageRules& rules,
                      MutableByteView bytes);

  Clock& clock_;
  Throttle& throttle_;
  ReadAhead ahead_;
  AlignedBuffer buffer_{kReadBytes};
  PageCounts counts_;
};

}  // namespace kuramori::postgres
