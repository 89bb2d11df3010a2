// What a dead server left in pg_wal and the archive may still lack: the commits since the last archived
// segment. Each byte that is offered was read as valid, contiguous records of this cluster; recycled files,
// other clusters' files and the torn end are told apart and left.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

struct SalvagedSegment {
  std::string path;
  std::string name;  // of the segment file
  Timeline timeline = 0;
  Lsn start = 0;
  Lsn to = 0;  // valid up to here; less than the segment's end: the last, torn or still open one
  bool whole = false;
  bool follows_previous = false;  // its records continue those of the segment before it in this list
};

struct SalvageReport {
  uint64_t system_id = 0;
  uint32_t segment_bytes = 0;
  std::vector<SalvagedSegment> segments;  // by timeline, then position
  std::vector<std::string> histories;     // paths of .history files that can be read
  struct Left {
    std::string name, why;
  };
  std::vector<Left> left;  // what is not offered, and why
};

// `data_directory`: the old server's. kRefused while a server runs there, and for another cluster than
// `expected_system_id` (0: any).
Result<SalvageReport> find_salvage(const std::string& data_directory, uint64_t expected_system_id);
// The bytes from the segment's start to `to`.
Result<Bytes> read_salvaged(const SalvagedSegment& segment);

}  // namespace kuramori::postgres
