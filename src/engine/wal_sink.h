// WAL that arrives, made durable in a vault: cut into parts and segments, stored by several threads, and
// acknowledged in order only. docs/adr/0009-wal-stream.md says why it is cut this way.
#pragma once
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "base/reporter.h"
#include "source/postgres/lsn.h"
#include "vault/wal_object.h"

namespace kuramori {

constexpr uint32_t kSinkUploadsMax = 4;          // objects on their way at once
constexpr uint64_t kSinkBytesMax = 64ull << 20;  // of WAL received and not durable; more is not read
// A segment larger than this is never held whole: its parts are what is stored of it.
constexpr uint32_t kWholeSegmentMax = 32u << 20;
constexpr uint32_t kLargePartBytes = 16u << 20;  // of larger segments: where a part ends at the latest

struct SinkTarget {
  ResourceId resource;
  uint64_t system_id = 0;
  uint32_t segment_bytes = 0;
};

struct SinkCounts {
  uint64_t parts = 0, segments = 0;  // objects stored
  Duration slowest{0};               // of any byte: from its arrival to its being durable
};

class WalSink {
 public:
  // `wake` (an eventfd) is written whenever something became durable or failed.
  WalSink(Vault& vault, const SinkTarget& target, Duration flush, Reporter& reporter, int wake);
  // Gives up what is not stored yet.
  ~WalSink();
  WalSink(const WalSink&) = delete;
  WalSink& operator=(const WalSink&) = delete;

  // WAL comes from `from`, a segment's begin; up to `durable` it is archived already, in the objects `known`
  // among others: what comes again must be what they hold. Only while is_idle().
  void begin(postgres::Timeline timeline, postgres::Lsn from, postgres::Lsn durable,
             std::vector<WalObject> known);
  // kRefused: not what is archived; kDamaged: not the byte that comes next.
  Result<void> take(postgres::Lsn from, ByteView bytes);
  bool has_room() const;

  // Sends what has waited long enough. `commits_wait`: as soon as nothing else is on its way.
  void cut(bool commits_wait);
  // Everything, now.
  void cut_all();
  // When cut() has something to do by itself; nothing: not before more arrives or a store ends.
  std::optional<Duration> next_cut() const;

  postgres::Timeline timeline() const { return timeline_; }
  postgres::Lsn received() const { return received_; }
  postgres::Lsn durable() const;
  bool is_idle() const;  // all that was received is durable, and no object is on its way
  bool all_durable() const { return durable() >= received_; }
  Result<void> trouble() const;  // what ended it: another server's bytes under the same name, a denied store
  SinkCounts counts() const;
  // The arrival of the oldest byte that is not durable; nothing: there is none.
  std::optional<Duration> oldest_waiting() const;

 private:
  struct Block;
  struct Upload;
  struct Shared;

  uint32_t block_bytes() const;
  void open_block(postgres::Lsn begin);
  void end_block();
  void send(postgres::Lsn from, postgres::Lsn to, names::WalKind kind, bool acknowledges);
  Result<void> compare_known();
  void work(std::stop_token stop);
  Result<void> store(const Upload& upload);

  Vault& vault_;
  const SinkTarget target_;
  const Duration flush_;
  Reporter& reporter_;
  const int wake_;
  postgres::Timeline timeline_ = 0;
  postgres::Lsn received_ = 0;
  postgres::Lsn cut_to_ = 0;       // everything before was sent on its way
  std::optional<Duration> waits_;  // since when there is something behind cut_to_
  bool commits_wait_ = false;
  std::vector<WalObject> known_;  // still to be compared, by their end
  // Shared with the objects on their way: each needs the bytes for as long as it is being stored.
  std::shared_ptr<Block> block_, before_;
  std::unique_ptr<Shared> shared_;
  std::vector<std::jthread> threads_;  // last: joined before what they use goes
};

}  // namespace kuramori
