// The changed blocks of one archived segment: of every record that ends in it.
#pragma once
#include <functional>
#include <optional>

#include "source/postgres/changed_blocks.h"

namespace kuramori::postgres {

// Reads WAL that lies before the segment, whole pages of one segment: false where it is not there (any more).
using ReadEarlierWal = std::function<bool(Lsn position, MutableByteView pages)>;

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

// The WAL just before a segment, from the last page on which a record begins.
struct Tail {
  Lsn from = 0;
  Bytes bytes;       // empty: not found
  Bytes first_page;  // of the segment in which it begins: says whose it is
};
Tail find_tail(const SegmentPlace& place, const ReadEarlierWal& read);

}  // namespace kuramori::postgres
