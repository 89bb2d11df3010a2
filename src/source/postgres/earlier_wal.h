// Where the WAL before a segment is found when the segment is archived: in the server's pg_wal, as a segment
// or as what was kept of it.
//
// The server removes a segment as soon as it is archived and lies before the last checkpoint; on a quiet
// server that is before the next one is full. So whoever archives a segment leaves its tail, from the last
// page on which a record begins, in a file of its own beside it (kTailFile): some kilobytes of WAL where the
// WAL lay. Nothing depends on it: where it is missing, or is not what it should be, a range begins later.
#pragma once
#include <string>
#include <string_view>

#include "os/file.h"
#include "source/postgres/segment_changes.h"

namespace kuramori::postgres {

constexpr std::string_view kTailFile = "kuramori.tail";
constexpr uint64_t kTailBytesMax = 4u << 20;

// Before a timeline's first segment lie its ancestors', as its history there says.
ReadEarlierWal earlier_in_folder(std::string folder, Timeline timeline, uint32_t segment_bytes);
// Keeps the tail of a segment that lies in `folder`. One of WAL further on stays: segments may be archived
// side by side.
void keep_tail(const std::string& folder, const SegmentPlace& place);
// What such a file holds.
std::optional<ReadEarlierWal> read_tail_file(const Fd& file);

}  // namespace kuramori::postgres
