// Page filters 1 and 2: a reversible rewriting of PostgreSQL pages that makes them compress better.
//
// What repeats on a page differs a little from tuple to tuple: line pointers walk down the page, a heap tuple
// points to itself, neighbours in an index point to neighbours in the table. Written as differences to what
// is expected they become runs of the same bytes. Nothing is added or dropped: 8,192 bytes in, 8,192 bytes
// out.
//
// The format, exactly (also docs/vault-format.md, "Page filter 1"). Integers are little-endian; all sums and
// differences wrap around in their width. Of the page header, which is never changed, four u16 are read:
//   lower = [12]  upper = [14]  special = [16]  version = [18]
// A page is left alone unless version = 0x2004, 24 < lower <= upper <= special, (lower - 24) divides by 4,
// and special is 8192 (layout heap), 8184 (layout other) or 8176 (layout B-tree if the u16 in the last two
// bytes of the page is at most 0xFF7F, otherwise layout other: GiST and hash, whose tuples point all over the
// table). count = (lower - 24) / 4 line pointers stand from byte 24, u32 each: offset = bits 0..14, flags =
// bits 15..16, length = bits 17..31. A pointer is *normal* if flags = 1. It is *usable* if normal, offset >=
// lower and offset + reach <= special, where reach = 18 (heap) or 8 (B-tree). In layout other none is usable.
// Filtering, in this order:
//   1. For the usable pointers from the last to the first, with t its offset, i its number (from 0), and p
//   the
//      offset of the usable pointer before it (if there is one):
//      heap:   if p exists and |t - p| >= 6: u16[t+12] -= u16[p+12], u16[t+14] -= u16[p+14];
//              then, always, u16[t+16] -= i + 1.
//      B-tree: if p exists and |t - p| >= 16: if both lengths are 16 and both t + 16 <= special and
//              p + 16 <= special: u64[t+8] -= u64[p+8]; then u16[t] -= u16[p], u16[t+2] -= u16[p+2],
//              u16[t+4] -= u16[p+4].
//   2. For the pointers from the first to the last, with before_offset = special and before_length = 0 at the
//      start: a normal one is replaced by flags 1, offset' = before_offset - up8(length) - offset and
//      length' = length - before_length (both modulo 2^15), where up8 rounds up to a multiple of 8; then
//      before_offset = offset, before_length = length. Others stay as they are.
// Unfiltering undoes 2 (first to last: the offsets and lengths known so far are all it needs), then 1 from
// the first usable pointer to the last, adding where filtering subtracted, the steps of one pointer in
// reverse order.
//
// Filter 2 is filter 1 and, besides, the first 32 bytes of the tuples turned into columns
// (codec/page_columns.h), between the two steps; the lowest byte of a heap tuple's values less that of the
// tuple before; and the rows of a B-tree tuple that leads to many as differences (docs/vault-format.md, "Page
// filter 2"). It is what frames are written with; filter 1 is read.
//
// Why it is exact for any bytes whatever, overlapping and wild pointers too: which steps are taken follows
// from the header, which stays, and from the line pointers, which are restored first and lie below every byte
// that step 1 writes; each step changes one place by a value read from another, disjoint one, and is undone
// in reverse order.
#pragma once
#include "base/bytes.h"

namespace kuramori {

constexpr size_t kFilteredPageBytes = 8192;

enum class PageFilter : uint8_t { kNone = 0, kTuples = 1, kColumns = 2 };  // as in a frame's codec

// In place, over any number of whole 8 KiB pages; any bytes whatever come back exactly from unfilter_pages()
// with the same filter.
void filter_pages(MutableByteView pages, PageFilter filter);
void unfilter_pages(MutableByteView pages, PageFilter filter);

}  // namespace kuramori
