// The page filters give back any page whatever; the input's first bytes are laid over a header that passes
// for one.
#include "codec/page_filter.h"

namespace {

void check_round_trip(const kuramori::Bytes& pages) {
  using kuramori::PageFilter;
  for (PageFilter filter : {PageFilter::kTuples, PageFilter::kColumns}) {
    kuramori::Bytes work = pages;
    kuramori::filter_pages(work, filter);
    kuramori::unfilter_pages(work, filter);
    if (work != pages) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  Bytes page(kFilteredPageBytes);
  for (size_t at = 0; size != 0 && at < page.size(); ++at) page[at] = data[at % size];
  check_round_trip(page);
  const uint16_t specials[] = {8192, 8184, 8176};
  for (uint16_t special : specials) {
    store_le<uint16_t>(&page[12], static_cast<uint16_t>(24 + (load_le<uint16_t>(&page[12]) & 0x1ffc) % 8148));
    // Half of the time nearly all of the page may hold tuples that move.
    store_le<uint16_t>(&page[14], page[20] % 2 == 0 ? special : load_le<uint16_t>(&page[12]));
    store_le<uint16_t>(&page[16], special);
    store_le<uint16_t>(&page[18], 0x2004);
    check_round_trip(page);
  }
  return 0;
}
