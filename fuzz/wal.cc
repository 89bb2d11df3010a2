// WAL: any pages are read to an end or refused, whatever sizes their records claim. Checksums of records are
// made right where a record lies within one page, so that what is behind them is reached.
#include "codec/crc32c.h"
#include "source/postgres/wal_facts.h"

namespace {

using namespace kuramori;
using namespace kuramori::postgres;

constexpr Lsn kFrom = 0x1000000;  // the seeds come from many places: pages are moved here

void make_believable(Bytes& pages) {
  for (size_t page = 0; page + kWalPageBytes <= pages.size(); page += kWalPageBytes) {
    store_le<uint64_t>(&pages[page + 8], kFrom + page);
    uint16_t& info = reinterpret_cast<uint16_t&>(pages[page + 2]);
    info = static_cast<uint16_t>((info & 0xd) | (page == 0 ? 2 : 0));
    if (page == 0) {
      store_le<uint32_t>(&pages[32], kSegmentBytesDefault);
      store_le<uint32_t>(&pages[36], kWalPageBytes);
    }
    size_t at = page + (page == 0 ? 40 : 24);
    if (info & 1) at += (load_le<uint32_t>(&pages[page + 16]) + 7) & ~7u;
    Lsn previous = load_le<uint64_t>(&pages[std::min(at + 8, pages.size() - 8)]);
    while (at + 24 <= page + kWalPageBytes) {
      const size_t length = load_le<uint32_t>(&pages[at]);
      if (length < 24 || length > page + kWalPageBytes - at) break;
      store_le<uint64_t>(&pages[at + 8], page == 0 && at == 40 ? 8 : previous);
      const ByteView record(&pages[at], length);
      store_le(&pages[at + 20], crc32c(record.first(20), crc32c(record.subspan(24))));
      previous = kFrom + at;
      at += (length + 7) & ~size_t{7};
    }
  }
}

void read_all(const Bytes& pages, const WalReaderOptions& options) {
  WalReader reader(options);
  TargetFinder finder({.at = time_of_postgres(0), .xid = 7, .name = "x"});
  if (!reader.add(kFrom, pages)) return;
  Lsn before = 0;
  for (;;) {
    auto next = reader.next();
    if (!next || *next != WalReader::Next::kRecord) return;
    const auto& record = reader.record();
    if (record.lsn < before || record.end <= record.lsn || record.end % 8 != 0) __builtin_trap();
    before = record.end;
    (void)finder.see(record);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes pages(data, data + size);
  pages.resize((size + kWalPageBytes - 1) / kWalPageBytes * kWalPageBytes);
  if (pages.empty()) return 0;
  read_all(pages, {.from = kFrom});
  make_believable(pages);
  read_all(pages, {.from = kFrom});
  read_all(pages, {.from = kFrom + 40, .timeline = 1, .valid_until = kFrom + pages.size()});
  return 0;
}
