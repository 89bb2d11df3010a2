// What a WAL archive holds, told from its listing and its .history files alone: which stretches are there,
// where they have holes, where two histories claim the same WAL, how far recovery can go from a base, and
// what restore_command must answer. Pure: no store, no server, no clock.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

// Whole segment; a stretch of one, from a stream; what a promoted server left of its parent's last segment; a
// timeline's history file; a backup label in the archive.
enum class PieceKind : uint8_t { kSegment, kPart, kPartial, kHistory, kLabel };

// One object of the archive. Two objects with the same place and kind and another digest are two contents.
struct Piece {
  Timeline timeline = 0;
  Lsn from = 0, to = 0;  // [from, to); histories: both 0
  PieceKind kind = PieceKind::kSegment;
  std::string object;  // opaque: whoever fetches knows
  std::string digest;  // of the content, as text; empty: unknown
  uint64_t bytes = 0;
};

// [from, to) of one timeline.
struct Stretch {
  Timeline timeline = 0;
  Lsn from = 0, to = 0;
  auto operator<=>(const Stretch&) const = default;
};

constexpr size_t kGapNamesMax = 16;  // segment names told of one gap; the count says the rest
struct Gap {
  Stretch where;
  uint64_t segment_count = 0;         // segments it touches
  std::vector<std::string> segments;  // the first of them, by file name
};
std::string describe(const Gap& gap);

// The same place of the same timeline with different content: two servers wrote one history (P31).
struct Conflict {
  Stretch where;
  PieceKind kind = PieceKind::kSegment;
  std::vector<std::string> objects;
};

// One leg of the way to a timeline's end: WAL of `timeline` from `begin` to `end` (the switch to the next
// leg).
struct Leg {
  Timeline timeline = 0;
  Lsn begin = 0, end = kLsnMax;
};
// Oldest first; the last leg is the timeline itself.
using Lineage = std::vector<Leg>;

// The bytes of one segment file, and where they come from.
struct SegmentSource {
  Timeline timeline = 0;       // whose file it is
  Lsn start = 0;               // of the segment
  Lsn covered_to = 0;          // the bytes from `start` to here are archived; the rest is zeros
  bool whole = false;          // one whole segment object
  bool from_partial = false;   // what a promoted server left
  std::vector<size_t> pieces;  // indices into Archive::pieces(), in the order of their bytes (later ones win)
};

// Why WAL cannot be followed any further.
enum class ReachEnd : uint8_t {
  kEndOfArchive,  // nothing later is archived on this lineage
  kGap,           // something later is
  kConflict,      // two contents
};
struct Reach {
  Lsn to = 0;  // WAL is there up to here (the last segment may be padded: the last record may end before)
  ReachEnd why = ReachEnd::kEndOfArchive;
  std::optional<Gap> gap;               // kGap
  std::vector<SegmentSource> segments;  // in order; complete up to `to`
};

// A snapshot recovery can begin with.
struct Base {
  std::string id;  // opaque
  Timeline timeline = 0;
  Lsn start_lsn = 0;  // the redo position: WAL is needed from here
  Lsn stop_lsn = 0;   // consistent from here
  int64_t stop_ns = 0;
  bool has_own_wal = true;  // false: a cold, cleanly stopped copy that needs none (P54)
};

// What can be reached from one base on one timeline.
struct Window {
  size_t base = 0;  // index into the bases given
  Timeline timeline = 0;
  Lsn from = 0;  // the base's stop
  Lsn to = 0;    // exclusive end of archived WAL
  ReachEnd why = ReachEnd::kEndOfArchive;
  std::optional<Gap> gap;
};

// A base that cannot be restored to any point of any timeline, and why.
struct StrandedBase {
  size_t base = 0;
  std::string why;
};
struct Windows {
  std::vector<Window> windows;  // by base, then timeline
  std::vector<StrandedBase> stranded;
};

class Archive {
 public:
  // `histories`: the content of every .history file that is archived, by its timeline. A file that does not
  // parse is damage (kDamaged), an unaligned or impossible piece likewise.
  static Result<Archive> make(std::vector<Piece> pieces, uint32_t segment_bytes,
                              const std::map<Timeline, std::string>& histories);

  const std::vector<Piece>& pieces() const { return pieces_; }
  uint32_t segment_bytes() const { return segment_bytes_; }
  // Every timeline that has WAL or a history file, ascending.
  std::vector<Timeline> timelines() const;
  bool has_history(Timeline timeline) const { return parents_.contains(timeline); }
  // Timelines above 1 that have WAL or are someone's ancestor, but no .history: nothing can follow them
  // (P33).
  std::vector<Timeline> missing_histories() const;

  // The way to the end of `timeline`; kRefused, naming the .history file that is missing.
  Result<Lineage> lineage(Timeline timeline) const;

  // What is there of one timeline, merged; and the holes between.
  std::vector<Stretch> stretches(Timeline timeline) const;
  std::vector<Gap> gaps(Timeline timeline) const;
  std::vector<Conflict> conflicts() const;

  // The bytes of the segment that starts at `start` on `timeline` itself; nullopt if not even its first byte
  // is archived. kRefused if two contents claim it.
  Result<std::optional<SegmentSource>> segment(Timeline timeline, Lsn start) const;
  // Where PostgreSQL will take the segment from when it recovers along `lineage`: the newest timeline that
  // has begun by then (P52: the segment of a switch is the child's), never a timeline past its switch.
  Result<std::optional<SegmentSource>> segment_on(const Lineage& lineage, Lsn start) const;
  // Follows `lineage` from the segment of `from` as far as WAL goes, at most to `until`.
  Reach reach(const Lineage& lineage, Lsn from, Lsn until = kLsnMax) const;

  // True if anything of `timeline` (or any lineage timeline, within its leg) ends after `lsn`.
  bool holds_after(Timeline timeline, Lsn lsn) const;

  Windows windows(const std::vector<Base>& bases) const;

 private:
  struct Parent {
    Timeline timeline = 0;
    Lsn switch_lsn = 0;
  };
  std::vector<Piece> pieces_;  // by timeline, from, kind, to
  uint32_t segment_bytes_ = 0;
  std::map<Timeline, std::vector<Parent>> parents_;      // from .history: oldest first
  std::map<Timeline, std::pair<size_t, size_t>> spans_;  // timeline → [first, last) in pieces_

  Lsn segment_start(Lsn lsn) const { return lsn - lsn % segment_bytes_; }
  Lsn end_of(Timeline timeline) const;
  Gap make_gap(Timeline timeline, Lsn from, Lsn to) const;
};

// True if `base` lies on `lineage`: its whole WAL is before the switch away from its timeline (P50).
bool is_on(const Lineage& lineage, const Base& base);

}  // namespace kuramori::postgres
