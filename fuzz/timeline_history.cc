// Timeline histories and WAL file names: what is accepted is written as it was read, and answers stay
// consistent.
#include "source/postgres/timeline_history.h"

#include "base/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori::postgres;
  const std::string_view text = kuramori::as_text({data, size});
  for (uint32_t segment_bytes = kSegmentBytesMin; segment_bytes <= kSegmentBytesMax; segment_bytes *= 2) {
    if (auto name = parse_segment_name(text, segment_bytes)) {
      if (segment_name(name->timeline, name->start, segment_bytes) != text) __builtin_trap();
    }
    (void)parse_wal_file_name(text, segment_bytes);
  }
  if (auto lsn = parse_lsn(text)) {
    if (*parse_lsn(format_lsn(*lsn)) != *lsn) __builtin_trap();
  }
  if (auto history = parse_timeline_history(text, 1000)) {
    auto again = parse_timeline_history(format_timeline_history(*history), 1000);
    if (!again || again->entries.size() != history->entries.size()) __builtin_trap();
    for (const auto& entry : history->entries) {
      if (!history->descends_from(entry.timeline) || !history->begin_of(entry.timeline)) __builtin_trap();
    }
    if (history->timeline_at(kLsnMax) != 1000) __builtin_trap();
  }
  return 0;
}
