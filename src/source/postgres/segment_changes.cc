// Why a record belongs to the segment in which it ends: only there is it whole, and its blocks may stand in
// its second half (a commit names the files it drops at its very end). So the ranges of neighbours meet where
// the record begins that spans them, and a segment can be scanned knowing the one before, which lies beside
// it when PostgreSQL hands it over, never the one after, which is not written yet.
#include "source/postgres/segment_changes.h"

#include <algorithm>

namespace kuramori::postgres {
namespace {

// Page header: see wal_reader.cc, which checks all of it.
constexpr uint32_t kShortHeaderBytes = 24, kLongHeaderBytes = 40;
constexpr uint16_t kPageContinues = 0x1, kPageOverwrites = 0x8;

struct PageHeader {
  uint16_t info = 0;
  Lsn address = 0;
  uint32_t rest = 0;  // of a record that began before
};
PageHeader header_of(const uint8_t* page) {
  return {load_le<uint16_t>(page + 2), load_le<uint64_t>(page + 8), load_le<uint32_t>(page + 16)};
}

// Does a record begin on this page?
bool begins_record(const PageHeader& header, bool is_long) {
  if (!(header.info & kPageContinues)) return true;
  const uint64_t room = kWalPageBytes - (is_long ? kLongHeaderBytes : kShortHeaderBytes);
  return ((uint64_t{header.rest} + 7) & ~uint64_t{7}) < room;
}

bool is_segment_of(const SegmentPlace& place, ByteView page) {
  return load_le<uint64_t>(page.data() + 24) == place.system_id &&
         load_le<uint32_t>(page.data() + 32) == place.bytes;
}

}  // namespace

Tail find_tail(const SegmentPlace& place, const ReadEarlierWal& read) {
  Bytes found;
  while (found.size() < kLookBackBytesMax && found.size() < place.start) {
    const Lsn have = place.start - found.size();
    const Lsn segment = (have - 1) / place.bytes * place.bytes;
    // Twice as far each time; less where that much is not there.
    uint64_t step = std::min<uint64_t>(std::max<uint64_t>(kWalPageBytes, found.size()), have - segment);
    Bytes more(step);
    while (!read(have - step, more)) {
      if (step == kWalPageBytes) return {};
      step = step / 2 / kWalPageBytes * kWalPageBytes;
      more.resize(step);
    }
    append(more, found);
    found = std::move(more);
    for (Lsn page = have; page > have - step;) {
      page -= kWalPageBytes;
      const uint64_t at = page - (have - step);
      const PageHeader header = header_of(found.data() + at);
      if (header.address != page) return {};
      if (!begins_record(header, page == segment)) continue;
      // The reader checks the pages that it reads; whose segment this is stands on its first page.
      Bytes first(kWalPageBytes);
      if (!read(segment, first) || header_of(first.data()).address != segment || !is_segment_of(place, first))
        return {};
      found.erase(found.begin(), found.begin() + static_cast<ptrdiff_t>(at));
      return {page, std::move(found), std::move(first)};
    }
  }
  return {};
}

namespace {

// To the end of `pages`. Nothing: it cannot be read that far. `see` may refuse a record.
template <class See>
bool read_all(WalReader& reader, Lsn position, ByteView pages, See&& see) {
  if (!reader.add(position, pages)) return false;
  for (;;) {
    const auto next = reader.next();
    if (!next || *next == WalReader::Next::kEnd) return false;
    if (*next == WalReader::Next::kNeedMore) return true;
    if (!see(reader.record())) return false;
  }
}

}  // namespace

std::optional<ChangedBlocks> scan_segment(const SegmentPlace& place, ByteView segment,
                                          const ReadEarlierWal& earlier) {
  if (!is_segment_size(place.bytes) || segment.size() != place.bytes || place.start % place.bytes != 0 ||
      header_of(segment.data()).address != place.start || !is_segment_of(place, segment))
    return std::nullopt;
  const Lsn end = place.start + place.bytes;
  WalReaderOptions options{.from = place.start,
                           .segment_bytes = place.bytes,
                           .timeline = place.timeline,
                           .system_id = place.system_id};
  auto take = [&](ChangedBlocksCollector& collector, Lsn to) -> std::optional<ChangedBlocks> {
    ChangedBlocks changed = collector.take(to);
    changed.timeline = place.timeline;
    return changed;
  };

  // A page that gives a record up continues none, but the record began before all the same.
  const bool reaches_in = header_of(segment.data()).info & (kPageContinues | kPageOverwrites);
  if (reaches_in && earlier) {
    const Tail before = find_tail(place, earlier);
    options.from = before.from;
    if (WalReader reader(options);
        !before.bytes.empty() &&
        read_all(reader, before.from, before.bytes, [](const WalRecord&) { return true; }) &&
        reader.next_position() == place.start && reader.inside_record()) {
      ChangedBlocksCollector collector(place.system_id, reader.position());
      if (read_all(reader, place.start, segment,
                   [&](const WalRecord& record) { return collector.see(record).has_value(); }))
        return take(collector, reader.position());
      // What lies before may be another history's: try without.
    }
  }
  options.from = place.start;
  WalReader reader(options);
  std::optional<ChangedBlocksCollector> collector;
  if (!reaches_in) collector.emplace(place.system_id, place.start);
  auto see = [&](const WalRecord& record) {
    if (!collector) collector.emplace(place.system_id, record.lsn);
    return collector->see(record).has_value();
  };
  if (!read_all(reader, place.start, segment, see) || reader.next_position() < end || !collector)
    return std::nullopt;
  return take(*collector, reader.position());
}

}  // namespace kuramori::postgres
