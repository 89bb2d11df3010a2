// The changed blocks of one archived segment: of every record that ends in it.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "source/postgres/changed_blocks.h"

namespace kuramori::postgres {

// Reads WAL that lies before the segment, whole pages of one segment: false where it is not there (any more).
using ReadEarlierWal = std::function<bool(Lsn position, MutableByteView pages)>;
// From the files of a server's pg_wal. Before a timeline's first segment lie its ancestors', as its history
// there says.
ReadEarlierWal earlier_in_folder(std::string folder, Timeline timeline, uint32_t segment_bytes);

// A record that began further back is given up: its range is a hole.
constexpr uint64_t kLookBackBytesMax = 64u << 20;

struct SegmentPlace {
  uint64_t system_id = 0;
  Timeline timeline = 0;  // as its name says
  Lsn start = 0;
  uint32_t bytes = kSegmentBytesDefault;
};

// `earlier` is asked only when a record reaches into the segment. Where what came before is gone or does not
// fit, the range begins with the first record that begins in the segment: whoever joins ranges sees a hole.
// Nothing: there is no such record, the segment cannot be read to its end, or it changes more than one record
// may hold. Never a guess.
std::optional<ChangedBlocks> scan_segment(const SegmentPlace& place, ByteView segment,
                                          const ReadEarlierWal& earlier);

}  // namespace kuramori::postgres
