// The .history file of a timeline: through which ancestors it came, and where each was left.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "source/postgres/lsn.h"

namespace kuramori::postgres {

constexpr size_t kTimelineHistoryBytesMax = 4u << 20;
constexpr size_t kTimelineHistoryEntriesMax = 65536;

struct TimelineHistoryEntry {
  Timeline timeline = 0;  // an ancestor
  Lsn switch_lsn = 0;     // the first byte that is not of this ancestor any more
  std::string reason;
};

struct TimelineHistory {
  Timeline timeline = 0;  // whose history it is
  std::vector<TimelineHistoryEntry>
      entries;  // oldest ancestor first; timelines ascend, positions never go back

  // True for the timeline itself and each of its ancestors.
  bool descends_from(Timeline ancestor) const;
  // Where `ancestor` was left; kLsnMax for the timeline itself; nothing if it is no ancestor.
  std::optional<Lsn> switch_point(Timeline ancestor) const;
  // Where `member` of the lineage begins; 0 for the oldest; nothing if it is no ancestor.
  std::optional<Lsn> begin_of(Timeline member) const;
  // Which timeline of the lineage the byte at `lsn` belongs to.
  Timeline timeline_at(Lsn lsn) const;
};

// `text` as PostgreSQL writes and reads it: comments (#) and empty lines count for nothing. Anything that
// does not ascend to `timeline` is kDamaged.
Result<TimelineHistory> parse_timeline_history(std::string_view text, Timeline timeline);
std::string format_timeline_history(const TimelineHistory& history);

}  // namespace kuramori::postgres
