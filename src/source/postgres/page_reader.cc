#include "source/postgres/page_reader.h"

#include <fcntl.h>

#include <algorithm>

#include "base/cpu_limit.h"

namespace kuramori::postgres {
namespace {

constexpr uint32_t kPagesAtOnce = kReadBytes / kPageBytes;
constexpr size_t kLookBytes = 512;  // a page's header lies in them
constexpr size_t kRunsAhead = 32;   // of listed pages that are told to the kernel before they are read

bool is_right(ByteView page, uint32_t block, bool checksums) {
  const PageState state = verify_page(page, block, checksums);
  return state == PageState::kGood || state == PageState::kNew;
}

std::string fault_of(ByteView page, uint32_t block, bool checksums) {
  const PageState state = verify_page(page, block, checksums);
  if (state != PageState::kBadChecksum) return std::string(name_of(state));
  return fmt::format("its checksum is {:04x} and should be {:04x}", stored_checksum(page),
                     page_checksum(page, block));
}

}  // namespace

Result<bool> PageReader::settle(const Fd& file, const std::string& path, uint32_t page,
                                const PageRules& rules, MutableByteView bytes) {
  const uint32_t block = block_in_relation(rules.segment, page);
  Bytes previous = to_bytes(bytes);
  Duration pause = kPagePauseFirst;
  unsigned changes = 0;
  for (unsigned reads = 1; reads < kPageReadsMax; ++reads) {
    clock_.sleep(pause);
    pause = std::min(pause * 2, kPagePauseMax);
    TRY_ASSIGN(const size_t got, pread_some(file, page * uint64_t{kPageBytes}, bytes, path));
    ++counts_.pages_read_again;
    if (got < kPageBytes) return false;
    if (is_right(bytes, block, rules.checksums)) return true;
    if (!equal(previous, bytes)) ++changes;
    previous = to_bytes(bytes);
  }
  // Written again and again while we looked, after the capture began: redo has the whole page
  // (full_page_writes are forced during a backup), so whatever we caught of it will be replaced.
  if (changes > 0 && page_lsn(bytes) > rules.start_lsn) return true;
  counts_.broken.push_back({path, page, fault_of(bytes, block, rules.checksums)});
  return true;
}

Result<uint32_t> PageReader::read(const Fd& file, const std::string& path, uint32_t first, uint32_t count,
                                  const PageRules& rules, const PageRun& run) {
  uint32_t done = 0;
  ReadAhead::Stretch stretch(ahead_, file, path, uint64_t{first} * kPageBytes, uint64_t{count} * kPageBytes);
  while (done < count) {
    TRY_ASSIGN(const MutableByteView block, stretch.next());
    counts_.bytes_read += block.size();
    uint32_t pages = static_cast<uint32_t>(block.size() / kPageBytes);
    bool at_end = block.size() < std::min<size_t>(kReadBytes, size_t{count - done} * kPageBytes);

    uint32_t run_start = 0;  // of the pages to be kept that were not given yet
    const auto give = [&](uint32_t end) -> Result<void> {
      if (end == run_start) return {};
      counts_.pages_given += end - run_start;
      return run(first + done + run_start,
                 block.subspan(size_t{run_start} * kPageBytes, size_t{end - run_start} * kPageBytes));
    };
    for (uint32_t index = 0; index < pages; ++index) {
      const uint32_t page = first + done + index;
      const MutableByteView bytes = block.subspan(size_t{index} * kPageBytes, kPageBytes);
      const size_t broken_before = counts_.broken.size();
      if (!is_right(bytes, block_in_relation(rules.segment, page), rules.checksums)) {
        TRY_ASSIGN(const bool there, settle(file, path, page, rules, bytes));
        if (!there) {  // the file was cut short meanwhile (P5)
          pages = index;
          at_end = true;
          break;
        }
      }
      const bool unchanged = rules.skip.unchanged_before > 0 && page < rules.skip.base_pages &&
                             page_lsn(bytes) < rules.skip.unchanged_before && !is_zero(bytes) &&
                             counts_.broken.size() == broken_before;
      if (!unchanged) continue;
      TRY(give(index));
      run_start = index + 1;
      ++counts_.pages_skipped;
    }
    TRY(give(pages));
    done += pages;
    if (at_end) break;
  }
  return done;
}

Result<void> PageReader::read_run(const Fd& file, const std::string& path, uint32_t first, uint32_t count,
                                  const PageRules& rules, const PageRun& run) {
  const MutableByteView bytes = buffer_.view().first(size_t{count} * kPageBytes);
  throttle_.take(bytes.size());
  pause_for_cpu();
  size_t got = 0;
  while (got < bytes.size()) {
    TRY_ASSIGN(const size_t more,
               pread_some(file, uint64_t{first} * kPageBytes + got, bytes.subspan(got), path));
    if (more == 0) break;
    got += more;
  }
  counts_.bytes_read += got;
  uint32_t there = static_cast<uint32_t>(got / kPageBytes);
  for (uint32_t index = 0; index < there; ++index) {
    const MutableByteView page = bytes.subspan(size_t{index} * kPageBytes, kPageBytes);
    if (is_right(page, block_in_relation(rules.segment, first + index), rules.checksums)) continue;
    TRY_ASSIGN(const bool still_there, settle(file, path, first + index, rules, page));
    if (!still_there) there = index;
  }
  const auto gone = bytes.subspan(size_t{there} * kPageBytes);
  std::ranges::fill(gone, uint8_t{0});
  counts_.pages_given += count;
  return run(first, bytes);
}

Result<void> PageReader::read_listed(const Fd& file, const std::string& path, std::span<const uint32_t> pages,
                                     const PageRules& rules, const PageRun& run) {
  struct Run {
    uint32_t first = 0, count = 0;
  };
  std::vector<Run> runs;
  for (const uint32_t page : pages) {
    if (!runs.empty() && runs.back().first + runs.back().count == page) {
      ++runs.back().count;
    } else {
      runs.push_back({page, 1});
    }
  }
  // Nothing between them is wanted; what is wanted next is on its way while one is judged.
  ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM);
  size_t announced = 0;
  for (size_t at = 0; at < runs.size(); ++at) {
    for (; announced < std::min(runs.size(), at + kRunsAhead); ++announced) {
      ::posix_fadvise(
          file.get(), static_cast<off_t>(runs[announced].first) * static_cast<off_t>(kPageBytes),
          static_cast<off_t>(std::min(runs[announced].count, kPagesAtOnce)) * static_cast<off_t>(kPageBytes),
          POSIX_FADV_WILLNEED);
    }
    const auto [first, count] = runs[at];
    for (uint32_t done = 0; done < count; done += kPagesAtOnce)
      TRY(read_run(file, path, first + done, std::min(kPagesAtOnce, count - done), rules, run));
  }
  return {};
}

Result<PageLook> PageReader::look(const Fd& file, const std::string& path, uint32_t page) {
  PageLook seen;
  for (const size_t wanted : {kLookBytes, size_t{kPageBytes}}) {
    const MutableByteView bytes = buffer_.view().first(wanted);
    throttle_.take(wanted);
    TRY_ASSIGN(const size_t got, pread_some(file, page * uint64_t{kPageBytes}, bytes, path));
    counts_.bytes_read += got;
    if (got < wanted) return PageLook{};
    seen = {.there = true, .zero = is_zero(bytes), .lsn = page_lsn(bytes)};
    if (!seen.zero) break;
  }
  return seen;
}

}  // namespace kuramori::postgres
