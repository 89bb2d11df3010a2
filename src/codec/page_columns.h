// The columns of page filter 2: the first 32 bytes of a page's tuples, turned so that what stands at the same
// place in every tuple stands together.
//
// Neighbouring tuples agree in most of their first bytes — transaction ids, flags, the high bytes of keys and
// times — and differ at random in a few. Side by side within a tuple, the few break up every match of the
// many; a column each, the many become long runs and the few stand by themselves.
//
// The bytes only change places, within [upper, special). Which go where follows from the page's header and
// line pointers alone, which stay as they are: any page whatever comes back exactly. The format:
// docs/vault-format.md, "Page filter 2".
#pragma once
#include "codec/page_layout.h"

namespace kuramori {

// Both read the page's line pointers as they are on a page that is not filtered.
void gather_columns(uint8_t* page, const PageLayout& layout);
void scatter_columns(uint8_t* page, const PageLayout& layout);

}  // namespace kuramori
