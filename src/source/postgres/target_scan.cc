#include "source/postgres/target_scan.h"

#include <fmt/format.h>

#include <memory>
#include <variant>

#include "source/postgres/wal_facts.h"

namespace kuramori::postgres {
namespace {

// The reader keeps views of at most this many segments: the one a record begins in and the one it goes on in.
constexpr size_t kSegmentsKept = 2;

}  // namespace

Result<std::optional<Moment>> moment_of(const WalRecord& record) {
  if (record.rmgr != kRmXact && record.rmgr != kRmXlog) return std::optional<Moment>();
  TRY_ASSIGN(auto fact, fact_of(record));
  if (!fact) return std::optional<Moment>();
  Moment moment{.kind = MomentKind::kCheckpoint, .lsn = record.lsn, .end = record.end};
  if (const auto* end = std::get_if<TransactionEnd>(&*fact)) {
    moment.kind = end->is_commit ? MomentKind::kCommit : MomentKind::kAbort;
    moment.time_ns = to_unix_ns(end->at);
    moment.xid = end->xid;
  } else if (const auto* point = std::get_if<RestorePoint>(&*fact)) {
    moment.kind = MomentKind::kRestorePoint;
    moment.time_ns = to_unix_ns(point->at);
    moment.name = point->name;
  } else if (const auto* checkpoint = std::get_if<Checkpoint>(&*fact)) {
    moment.time_ns = to_unix_ns(checkpoint->at);
  } else if (const auto* recovered = std::get_if<EndOfRecovery>(&*fact)) {
    moment.time_ns = to_unix_ns(recovered->at);
  } else {
    return std::optional<Moment>();
  }
  return std::optional(std::move(moment));
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
    if (kept->size() >= kSegmentsKept) kept->erase(kept->begin());
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
      TRY_ASSIGN(auto moment, moment_of(record));
      if (moment) found.moments.push_back(std::move(*moment));
    }
    return found;
  };
}

}  // namespace kuramori::postgres
