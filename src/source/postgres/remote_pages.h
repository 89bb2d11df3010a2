// What happens to the bytes of a base backup once they are taken out of its archive: workers judge the pages,
// leave out those that the base has, and give the rest to their lanes.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "conc/channel.h"
#include "source/postgres/capture.h"

namespace kuramori::postgres {

constexpr size_t kRemoteBlockBytes = size_t{1} << 20;  // of a file, handed on at once
constexpr size_t kRemoteBlocksQueued = 4;              // a worker

// One file, as its workers see it.
struct RemoteFile {
  uint32_t index = 0;  // into files()
  std::string path;
  bool has_pages = false;
  bool compared = false;  // comes in one block: may be as the base has it
  uint32_t segment = 0, first_block = 0;
  Skip skip;
};

struct RemoteBlock {
  std::shared_ptr<const RemoteFile> file;  // shared by its blocks, which several workers have
  uint32_t first_page = 0;
  Bytes bytes;
};

class RemotePages {
 public:
  RemotePages(const CaptureStart& start, unsigned workers);

  // By the one who receives. Pages of a slice, and bytes of a file, go to the same worker, in order. False:
  // the workers have stopped.
  bool hand_over(RemoteBlock block);
  void close();  // no more comes
  // A worker, until close() or `stop`.
  Result<void> work(unsigned worker, CaptureLane& lane, std::stop_token stop);

  // After all have ended.
  uint64_t given() const { return given_; }
  uint64_t skipped() const { return skipped_; }
  uint64_t looked_at() const { return looked_at_; }  // pages held to be unchanged: by their LSN they are
  bool contradicted() const { return contradicted_; }
  const std::optional<Error>& failure() const { return failure_; }  // of the worker that failed first
  // Pages that are wrong, but for those that redo between the start and `stop` replaces whole.
  std::vector<BrokenPage> broken(Lsn stop) const;

 private:
  struct Doubt {
    BrokenPage page;
    Lsn lsn = 0;
  };
  Result<void> take(const RemoteBlock& block, CaptureLane& lane);
  // True: the base has this page as it is.
  Result<bool> is_unchanged(const RemoteFile& file, uint32_t page, ByteView bytes);

  const CaptureStart& start_;
  std::vector<std::unique_ptr<Channel<RemoteBlock>>> queues_;
  std::atomic<uint64_t> given_ = 0, skipped_ = 0, looked_at_ = 0;
  std::atomic<bool> contradicted_ = false;
  mutable std::mutex mutex_;  // doubts_, failure_
  std::optional<Error> failure_;
  std::vector<Doubt> doubts_;
};

}  // namespace kuramori::postgres
