// Reads from archived segments what a restore target can be found by: the ends of transactions, checkpoints
// and restore points, with their times.
#pragma once
#include <functional>

#include "base/bytes.h"
#include "source/postgres/target.h"
#include "source/postgres/wal_reader.h"

namespace kuramori::postgres {

// The bytes of a segment file, whole: what is archived of it, then zeros.
using FetchSegment = std::function<Result<Bytes>(const SegmentSource&)>;

// `fetch` is asked for a segment at most once in a row; two are kept. `system_id` 0: any.
ScanSegment scan_fetched(FetchSegment fetch, uint32_t segment_bytes, uint64_t system_id);

// The moment a record tells, if it is one.
Result<std::optional<Moment>> moment_of(const WalRecord& record);

}  // namespace kuramori::postgres
