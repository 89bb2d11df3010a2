#include "source/postgres/target_scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace kuramori::postgres {
namespace {

// access/xact.h
constexpr uint8_t kXactOpMask = 0x70;
constexpr uint8_t kXactCommit = 0x00, kXactAbort = 0x20, kXactCommitPrepared = 0x30,
                  kXactAbortPrepared = 0x40;
constexpr uint8_t kXactHasInfo = 0x80;
constexpr uint32_t kHasDatabase = 1 << 0, kHasSubxacts = 1 << 1, kHasRelations = 1 << 2, kHasInvals = 1 << 3,
                   kHasTwoPhase = 1 << 4, kHasDroppedStats = 1 << 8;
// catalog/pg_control.h
constexpr uint8_t kCheckpointShutdown = 0x00, kCheckpointOnline = 0x10, kRestorePoint = 0x70,
                  kEndOfRecovery = 0x90;
constexpr size_t kCheckpointTimeOffset = 64;  // of `time` in CheckPoint, 13 to 18
constexpr size_t kRestorePointNameMax = 64;

constexpr int64_t kUnixOfPostgresEpoch = 946684800;  // 2000-01-01, seconds
constexpr int64_t kNanosecondsOfMicro = 1000, kNanosecondsOfSecond = 1'000'000'000;

int64_t from_timestamp(int64_t micros) {
  return micros * kNanosecondsOfMicro + kUnixOfPostgresEpoch * kNanosecondsOfSecond;
}

// The xid of a prepared transaction stands after the optional parts of its commit record.
Result<uint32_t> prepared_xid(const WalRecord& record, bool is_commit) {
  ByteReader reader(record.main_data);
  TRY(reader.take(8));
  TRY_ASSIGN(uint32_t parts, reader.take_le<uint32_t>());
  if (parts & kHasDatabase) TRY(reader.take(8));
  auto skip_list = [&](uint64_t item_bytes) -> Result<void> {
    TRY_ASSIGN(uint32_t count, reader.take_le<uint32_t>());
    TRY(reader.take(count * item_bytes));
    return {};
  };
  if (parts & kHasSubxacts) TRY(skip_list(4));
  if (parts & kHasRelations) TRY(skip_list(12));
  if (parts & kHasDroppedStats) TRY(skip_list(record.major >= 18 ? 16 : 12));
  if (is_commit && (parts & kHasInvals)) TRY(skip_list(16));
  if (!(parts & kHasTwoPhase))
    return fail(ErrorKind::kDamaged, "a prepared transaction's end names no transaction");
  return reader.take_le<uint32_t>();
}

std::optional<Moment> transaction_end(const WalRecord& record) {
  const uint8_t op = record.info & kXactOpMask;
  const bool is_commit = op == kXactCommit || op == kXactCommitPrepared;
  const bool is_prepared = op == kXactCommitPrepared || op == kXactAbortPrepared;
  if (!is_commit && op != kXactAbort && op != kXactAbortPrepared) return {};
  auto time = ByteReader(record.main_data).take_le<int64_t>();
  if (!time) return {};
  Moment moment{.kind = is_commit ? MomentKind::kCommit : MomentKind::kAbort,
                .lsn = record.lsn,
                .end = record.end,
                .time_ns = from_timestamp(*time),
                .xid = record.xid};
  if (is_prepared && (record.info & kXactHasInfo)) {
    if (auto xid = prepared_xid(record, is_commit)) moment.xid = *xid;
  }
  return moment;
}

}  // namespace

std::optional<Moment> moment_of(const WalRecord& record) {
  if (record.rmgr == kRmXact) return transaction_end(record);
  if (record.rmgr != kRmXlog) return {};
  Moment moment{.kind = MomentKind::kCheckpoint, .lsn = record.lsn, .end = record.end};
  const ByteView data = record.main_data;
  switch (record.info & 0xF0) {
    case kCheckpointShutdown:
    case kCheckpointOnline:
      if (data.size() < kCheckpointTimeOffset + 8) return {};
      moment.time_ns = load_le<int64_t>(data.data() + kCheckpointTimeOffset) * kNanosecondsOfSecond;
      return moment;
    case kEndOfRecovery:
      if (data.size() < 8) return {};
      moment.time_ns = from_timestamp(load_le<int64_t>(data.data()));
      return moment;
    case kRestorePoint: {
      if (data.size() < 8) return {};
      moment.kind = MomentKind::kRestorePoint;
      moment.time_ns = from_timestamp(load_le<int64_t>(data.data()));
      std::string_view name = as_text(data.subspan(8)).substr(0, kRestorePointNameMax);
      moment.name = std::string(name.substr(0, name.find('\0')));
      return moment;
    }
    default:
      return {};
  }
}

ScanSegment scan_fetched(FetchSegment fetch, uint32_t segment_bytes, uint64_t system_id) {
  struct Kept {
    Timeline timeline = 0;
    Lsn start = 0;
    std::unique_ptr<Bytes> bytes;  // its address stays while the list changes
  };
  auto kept = std::make_shared<std::vector<Kept>>();  // shared: a std::function is copied
  auto bytes_of = [fetch = std::move(fetch), kept,
                   segment_bytes](const SegmentSource& source) -> Result<ByteView> {
    for (const auto& one : *kept) {
      if (one.timeline == source.timeline && one.start == source.start) return ByteView(*one.bytes);
    }
    TRY_ASSIGN(Bytes bytes, fetch(source));
    if (bytes.size() != segment_bytes) {
      return fail(ErrorKind::kDamaged, fmt::format("{} has {} bytes instead of {}",
                                                   segment_name(source.timeline, source.start, segment_bytes),
                                                   bytes.size(), segment_bytes));
    }
    if (kept->size() >= 2) kept->erase(kept->begin());
    kept->push_back({source.timeline, source.start, std::make_unique<Bytes>(std::move(bytes))});
    return ByteView(*kept->back().bytes);
  };
  return [bytes_of, segment_bytes, system_id](const std::vector<SegmentSource>& run,
                                              size_t index) -> Result<SegmentScan> {
    const SegmentSource& source = run[index];
    const Lsn end = source.start + segment_bytes;
    WalReaderOptions options{.from = source.start, .segment_bytes = segment_bytes, .system_id = system_id};
    // What has a successor was written to its end: anything else there is damage, not the end of the WAL.
    if (source.covered_to >= end && index + 1 < run.size()) options.valid_until = end;
    SegmentScan found;
    WalReader reader(options);
    for (size_t at = index;;) {
      TRY_ASSIGN(const auto next, reader.next());
      if (next == WalReader::Next::kEnd) break;
      if (next == WalReader::Next::kNeedMore) {
        // The next segment is only read for the rest of a record that begins in this one.
        if (reader.next_position() >= end && !reader.inside_record()) break;
        const uint64_t number = segment_number(reader.next_position(), segment_bytes);
        while (at < run.size() && segment_number(run[at].start, segment_bytes) < number) ++at;
        if (at >= run.size() || segment_number(run[at].start, segment_bytes) != number) break;
        // The reader is done with the segment before the one before: two kept are enough.
        TRY_ASSIGN(ByteView bytes, bytes_of(run[at]));
        TRY(reader.add(run[at].start, bytes));
        continue;
      }
      const WalRecord& record = reader.record();
      if (record.lsn >= end) break;
      if (found.first_record == 0) found.first_record = record.lsn;
      found.last_record = record.lsn;
      found.end = record.end;
      if (auto moment = moment_of(record)) found.moments.push_back(std::move(*moment));
    }
    return found;
  };
}

}  // namespace kuramori::postgres
