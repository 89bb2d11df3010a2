// A place in the write-ahead log, a timeline, and the file names PostgreSQL makes of them, for every WAL
// segment size from 1 MiB to 1 GiB (P35) and timelines written in hex (P34).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori::postgres {

using Lsn = uint64_t;       // byte position in the WAL of a cluster; 0 means none
using Timeline = uint32_t;  // from 1; written in decimal to people, in hex in file names
constexpr Lsn kLsnMax = UINT64_MAX;

std::string format_lsn(Lsn lsn);               // "16/B374D848"
Result<Lsn> parse_lsn(std::string_view text);  // kUsage

constexpr uint32_t kSegmentBytesMin = 1u << 20;
constexpr uint32_t kSegmentBytesMax = 1u << 30;
constexpr uint32_t kSegmentBytesDefault = 16u << 20;
bool is_segment_size(uint64_t bytes);  // a power of two between the two

inline uint64_t segment_number(Lsn lsn, uint32_t segment_bytes) {
  return lsn / segment_bytes;
}
// The segment a record that ends at `end` (exclusive) was written to: at an exact boundary the one before.
inline uint64_t segment_number_before(Lsn end, uint32_t segment_bytes) {
  return (end - 1) / segment_bytes;
}

constexpr size_t kSegmentNameChars = 24;
// The file that holds `lsn` ("0000000A00000016000000B3"); any position inside the segment will do.
std::string segment_name(Timeline timeline, Lsn lsn, uint32_t segment_bytes);
std::string history_name(Timeline timeline);  // "0000000A.history"

// A whole segment; what a promoted server left of its parent's last one; a timeline's history; a backup's
// label.
enum class WalFileKind : uint8_t { kSegment, kPartial, kHistory, kBackup };
struct WalFileName {
  WalFileKind kind = WalFileKind::kSegment;
  Timeline timeline = 0;
  Lsn start = 0;  // of the segment; a backup label: where the backup starts; a history: 0
};
// kUsage for anything that is no name of pg_wal or of an archive under this segment size.
Result<WalFileName> parse_wal_file_name(std::string_view name, uint32_t segment_bytes);

struct SegmentName {
  Timeline timeline = 0;
  Lsn start = 0;
};
Result<SegmentName> parse_segment_name(std::string_view name, uint32_t segment_bytes);  // kSegment alone

}  // namespace kuramori::postgres
