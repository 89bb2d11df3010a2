// INCREMENTAL.<name>, which PostgreSQL 17 and newer send in an incremental base backup in place of a relation
// file of which only some blocks changed (basebackup_incremental.c, "incremental file format"): magic, how
// many blocks, how long the file is without them, their numbers, then the blocks, after a header that is
// padded to a page. Pure.
#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace kuramori::postgres {

constexpr std::string_view kIncrementalPrefix = "INCREMENTAL.";
constexpr uint32_t kIncrementalMagic = 0xd3ae1f0d;

// "base/5/INCREMENTAL.16384" → "base/5/16384"; nothing: not such a name.
std::optional<std::string> without_incremental_prefix(std::string_view path);

struct IncrementalHeader {
  // The file's length when the server opened it; more where the relation was cut since the older backup, and
  // then no less than it was cut to. ("truncation block length"; never more than a file may have, though some
  // servers say so.)
  uint32_t length = 0;
  std::vector<uint32_t> blocks;  // in this file, ascending; they follow in this order
  uint32_t file_pages() const { return blocks.empty() ? length : std::max(length, blocks.back() + 1); }
};

// The header as it arrives, of a file of `file_bytes`. kDamaged: it is none, or its numbers cannot be.
class IncrementalReader {
 public:
  explicit IncrementalReader(uint64_t file_bytes) : file_bytes_(file_bytes) {}
  // Takes what it needs from the front of `bytes`; the header is whole once header() holds.
  Result<void> feed(ByteView& bytes);
  const std::optional<IncrementalHeader>& header() const { return header_; }

 private:
  static constexpr size_t kFixedBytes = 3 * sizeof(uint32_t);
  Result<void> fixed_part();
  Result<void> numbers();

  const uint64_t file_bytes_;
  size_t wanted_ = kFixedBytes;  // of `raw_`
  Bytes raw_;
  uint32_t count_ = 0;
  std::optional<IncrementalHeader> header_;
};

}  // namespace kuramori::postgres
