// A WAL segment over the replication protocol, without a slot of its own.
#pragma once
#include <stop_token>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/world.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

// kSoFar: what the server has flushed of it; zeros behind.
enum class WalWanted : uint8_t { kWhole, kSoFar };

// kPartial: not all of it is there yet. kNotFound: the server has removed it.
Result<Bytes> fetch_wal_segment(const std::string& connect, const SegmentName& segment,
                                uint32_t segment_bytes, WalWanted wanted, Clock& clock, std::stop_token stop);

}  // namespace kuramori::postgres
