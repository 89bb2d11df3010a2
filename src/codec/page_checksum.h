// PostgreSQL's page header and data page checksum (FNV-1a in 32 lanes, the server's checksum_impl.h in our
// words).
#pragma once
#include <string_view>

#include "base/bytes.h"

namespace kuramori {

constexpr size_t kPageBytes = 8192;
constexpr uint32_t kPagesPerRelationFile = 131072;  // 1 GiB: "16384.2" begins with block 2 × this

// The number a page is checksummed with: its place in the whole relation, not in its file (P2).
inline uint32_t block_in_relation(uint32_t file_segment, uint32_t page_in_file) {
  return file_segment * kPagesPerRelationFile + page_in_file;
}

// The checksum the page should carry; never 0. What its checksum field holds does not matter. `page`: 8,192
// bytes.
uint16_t page_checksum(ByteView page, uint32_t block);
// The checksum it does carry.
inline uint16_t stored_checksum(ByteView page) {
  return load_le<uint16_t>(page.data() + 8);
}
// The end of the last WAL record that changed the page; 0 on a page that was only extended (P2).
inline uint64_t page_lsn(ByteView page) {
  return uint64_t{load_le<uint32_t>(page.data())} << 32 | load_le<uint32_t>(page.data() + 4);
}
bool is_zero(ByteView bytes);  // every byte

enum class PageState : uint8_t {
  kGood,
  kNew,          // all zero: extended, not yet written; legal (P2)
  kBadHeader,    // bounds that no server writes: not a page, or torn
  kBadChecksum,  // damaged, torn, or of another block
};
std::string_view name_of(PageState state);
// `block`: block_in_relation(). Without checksums in the cluster only the header is looked at.
PageState verify_page(ByteView page, uint32_t block, bool has_checksums = true);
// True if the header can be one: known page size, lower <= upper <= special <= page size.
bool has_sane_header(ByteView page);

}  // namespace kuramori
