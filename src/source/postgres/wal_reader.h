// Reads WAL of PostgreSQL 13 to 18 record by record: whole pages in, checked records out. Pure and streaming:
// memory is one record. Every record's CRC-32C is checked, its place against the record before it.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

constexpr uint32_t kWalPageBytes = 8192;
constexpr uint32_t kWalRecordBytesMax = 1020u << 20;  // PostgreSQL's own limit since 16
constexpr size_t kBlockRefsMax = 33;

// Resource managers this program looks into; the others are numbers.
enum Rmgr : uint8_t {
  kRmXlog = 0,
  kRmXact = 1,
  kRmSmgr = 2,
  kRmClog = 3,
  kRmDatabase = 4,
  kRmTablespace = 5,
  kRmMultiXact = 6,
  kRmRelMap = 7,
  kRmStandby = 8,
  kRmHeap2 = 9,
  kRmHeap = 10
};

enum class Fork : uint8_t { kMain = 0, kFsm = 1, kVm = 2, kInit = 3 };

struct RelationFile {
  uint32_t tablespace = 0, database = 0, number = 0;
  auto operator<=>(const RelationFile&) const = default;
};

struct BlockRef {
  RelationFile file;
  Fork fork = Fork::kMain;
  uint32_t block = 0;
  bool has_image = false;
  bool will_init = false;  // the record makes the page anew
  ByteView data;
};

// Views are valid until the reader's next call.
struct WalRecord {
  Lsn lsn = 0;  // where it begins: what recovery_target_lsn names
  Lsn end = 0;  // where the next one begins at the earliest: what a client saw as its commit's position
  Lsn prev = 0;
  uint32_t total_bytes = 0;
  uint32_t xid = 0;
  uint8_t rmgr = 0;
  uint8_t info = 0;       // whole byte; the resource manager's part is info & 0xF0
  Timeline timeline = 0;  // of the page it begins on
  int major = 0;          // of the server that wrote it
  std::span<const BlockRef> blocks;
  ByteView main_data;
};

// Why no further record can be read.
enum class WalStopReason : uint8_t {
  kZeros,           // never written: the ordinary end
  kRecycledPage,    // a page of an older round: the ordinary end in a recycled segment
  kWrongPrevious,   // a record that does not follow the one before: likewise
  kBadLength,       // no record has this length
  kBadCrc,          // a record half written, or damage
  kNoContinuation,  // the rest of a record is not on the next page: half written, or damage
  kBadPage,         // the page header is none
  kBadRecord,       // right CRC, but its parts do not add up
  kOtherTimeline,   // the page is of a timeline that was not asked for
};
std::string_view name_of(WalStopReason reason);

struct WalStop {
  Lsn lsn = 0;  // everything before is valid; here the next record would begin
  WalStopReason reason = WalStopReason::kZeros;
};

struct WalReaderOptions {
  // Where to begin: a record (a redo or checkpoint position), or a page: then with the first record that
  // begins on it.
  Lsn from = 0;
  uint32_t segment_bytes = kSegmentBytesDefault;
  Timeline timeline = 0;   // the newest timeline whose pages are taken; 0: any, never going back
  uint64_t system_id = 0;  // 0: any; another cluster's WAL is kRefused (P40)
  // WAL is promised up to here (whole archived segments): a stop before it is kDamaged, not an end.
  Lsn valid_until = 0;
};

class WalReader {
 public:
  explicit WalReader(const WalReaderOptions& options);

  // More WAL: whole pages, in order, without holes, the first at or before the page of `from`. `pages` must
  // stay valid until next() wants more. What lies before next_position() is skipped.
  Result<void> add(Lsn position, ByteView pages);
  Lsn next_position() const;  // of the page it wants next: a segment switch jumps over the rest of a segment

  enum class Next : uint8_t { kRecord, kNeedMore, kEnd };
  Result<Next> next();
  const WalRecord& record() const { return record_; }
  const WalStop& stop() const { return stop_; }  // after kEnd
  // True where a record has begun and not ended: a segment range that ends so is not complete by itself.
  bool inside_record() const { return state_ == State::kInRecord; }
  // Where the next record will begin, as far as it is known.
  Lsn position() const { return state_ == State::kInRecord ? record_lsn_ : cursor_; }

 private:
  enum class State : uint8_t { kSkipRest, kAtRecord, kInRecord, kEnded };
  WalReaderOptions options_;
  State state_ = State::kSkipRest;
  Lsn cursor_ = 0;     // the next byte to read
  Lsn chunk_lsn_ = 0;  // of chunk_[0]
  ByteView chunk_;
  bool has_begun_ = false;
  Timeline page_timeline_ = 0;
  Timeline record_timeline_ = 0;
  uint16_t magic_ = 0;
  int major_ = 0;
  uint32_t skip_left_ = 0;
  Lsn record_lsn_ = 0, previous_lsn_ = 0;
  uint32_t record_bytes_ = 0;
  Bytes assembled_;  // a record that spans pages
  std::array<BlockRef, kBlockRefsMax> blocks_;
  WalRecord record_;
  WalStop stop_;

  using Step = Result<std::optional<Next>>;  // nothing: go on
  const uint8_t* at(Lsn lsn) const { return chunk_.data() + (lsn - chunk_lsn_); }
  Step begin();
  Step enter_page();
  Step start_record();
  Step continue_record();
  Step deliver(ByteView record);
  std::optional<WalStopReason> check_header(const uint8_t* header, size_t available) const;
  bool parse(ByteView record);
  Step end(Lsn lsn, WalStopReason reason, std::string why = {});
};

// The whole of a range, segment by segment: `segment(number)` gives the bytes of a segment (nothing: there
// are no more); `see` returns false to stop. Says where it stopped.
using SegmentBytes = std::function<Result<std::optional<ByteView>>(uint64_t number)>;
using SeeRecord = std::function<bool(const WalRecord&)>;
struct WalScan {
  Lsn to = 0;  // everything before was read
  std::optional<WalStop>
      stop;  // WAL ended inside the last segment; otherwise segments ran out or `see` had enough
  bool inside_record = false;  // segments ran out in the middle of a record
};
Result<WalScan> scan_wal(const WalReaderOptions& options, const SegmentBytes& segment, const SeeRecord& see);

}  // namespace kuramori::postgres
