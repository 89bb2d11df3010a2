// Page filter 1: a reversible rewriting of PostgreSQL pages that makes them compress better.
#pragma once
#include "base/bytes.h"

namespace kuramori {

// In place, over any number of whole 8 KiB pages; any bytes whatever come back exactly from unfilter_pages().
void filter_pages(MutableByteView pages);
void unfilter_pages(MutableByteView pages);

}  // namespace kuramori
