// Of every page that is thought to be the base's, the LSN is looked at here: the whole cluster comes by
// anyway. So what the WAL says is checked on all pages and not on a sample; whatever it does not name and yet
// changed between the two starts makes the copy fail, and the snapshot is taken whole.
#include "source/postgres/remote_pages.h"

#include <algorithm>

#include "codec/page_checksum.h"

namespace kuramori::postgres {
namespace {

constexpr uint32_t kSlicePages = (64u << 20) / kPageBytes;  // of a file, for one worker

std::string fault_of(PageState state, ByteView page, uint32_t block) {
  if (state != PageState::kBadChecksum) return std::string(name_of(state));
  return fmt::format("its checksum is {:04x} and should be {:04x}", stored_checksum(page),
                     page_checksum(page, block));
}

}  // namespace

RemotePages::RemotePages(const CaptureStart& start, unsigned workers) : start_(start) {
  for (unsigned worker = 0; worker < workers; ++worker)
    queues_.push_back(std::make_unique<Channel<RemoteBlock>>(kRemoteBlocksQueued));
}

bool RemotePages::hand_over(RemoteBlock block) {
  const uint32_t slice = block.file->has_pages ? block.first_page / kSlicePages : 0;
  return queues_[(block.file->index + slice) % queues_.size()]->push(std::move(block));
}

void RemotePages::close() {
  for (const auto& queue : queues_) queue->close();
}

Result<void> RemotePages::work(unsigned worker, CaptureLane& lane, std::stop_token stop) {
  Channel<RemoteBlock>& queue = *queues_[worker];
  const CancelOnStop<RemoteBlock> cancel(stop, queue);
  while (auto block = queue.pop()) {
    auto taken = take(*block, lane);
    if (taken) continue;
    {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = taken.error();
    }
    // Nobody empties this queue any more: whoever fills it must not wait.
    for (const auto& each : queues_) each->cancel();
    return taken;
  }
  return {};
}

Result<bool> RemotePages::is_unchanged(const RemoteFile& file, uint32_t page, ByteView bytes) {
  const Skip& skip = file.skip;
  if (!skip.changed || page >= skip.base_pages || is_zero(bytes)) return false;
  if (std::ranges::binary_search(*skip.changed, file.first_block + page)) return false;
  const Lsn lsn = page_lsn(bytes);
  if (lsn < skip.unchanged_before) return true;
  // One that a record ending where the base begins changed is the base's; one past the start is redo's.
  if (lsn == skip.unchanged_before || lsn > start_.start_lsn) return false;
  contradicted_ = true;
  return fail(ErrorKind::kFailed, "the WAL does not tell all that changed",
              fmt::format("page {} of {} has LSN {}, between the last snapshot's start at {} and this one's "
                          "at {}, and no record of a change",
                          page, file.path, format_lsn(lsn), format_lsn(skip.unchanged_before),
                          format_lsn(start_.start_lsn)),
              "take a snapshot that builds on none: kuramori backup --full");
}

Result<void> RemotePages::take(const RemoteBlock& block, CaptureLane& lane) {
  const RemoteFile& file = *block.file;
  const ByteView bytes = block.bytes;
  if (!file.has_pages) return lane.add_bytes(file.index, bytes);
  const uint32_t pages = static_cast<uint32_t>(bytes.size() / kPageBytes);
  const auto page_at = [&](uint32_t index) { return bytes.subspan(size_t{index} * kPageBytes, kPageBytes); };

  uint32_t run_start = 0;  // of the pages to be kept that were not given yet
  const auto give = [&](uint32_t end) -> Result<void> {
    if (end == run_start) return {};
    given_ += end - run_start;
    return lane.add_pages(
        file.index, block.first_page + run_start,
        bytes.subspan(size_t{run_start} * kPageBytes, size_t{end - run_start} * kPageBytes));
  };
  for (uint32_t index = 0; index < pages; ++index) {
    const uint32_t page = block.first_page + index;
    const uint32_t number = block_in_relation(file.segment, page);
    const PageState state = verify_page(page_at(index), number, start_.checksum_version != 0);
    if (state != PageState::kGood && state != PageState::kNew) {
      const std::lock_guard lock(mutex_);
      doubts_.push_back(
          {{file.path, page, fault_of(state, page_at(index), number)}, page_lsn(page_at(index))});
      continue;
    }
    TRY_ASSIGN(const bool unchanged, is_unchanged(file, page, page_at(index)));
    if (!unchanged) continue;
    TRY(give(index));
    run_start = index + 1;
    ++skipped_;
    ++looked_at_;
  }
  if (file.compared && file.skip.is_as_before(bytes)) {
    skipped_ += pages;
    return {};
  }
  return give(pages);
}

// The server reads a page that looks torn once more before it sends it, unless the page was written after the
// backup began: of that one, redo has the whole (full_page_writes are forced meanwhile), whatever was caught
// of it (P1).
std::vector<BrokenPage> RemotePages::broken(Lsn stop) const {
  const std::lock_guard lock(mutex_);
  std::vector<BrokenPage> pages;
  for (const Doubt& doubt : doubts_) {
    if (doubt.lsn < start_.start_lsn || doubt.lsn > stop) pages.push_back(doubt.page);
  }
  std::ranges::sort(pages, {}, [](const BrokenPage& page) { return std::tie(page.path, page.page); });
  return pages;
}

}  // namespace kuramori::postgres
