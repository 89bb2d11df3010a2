// Where a WAL stream begins, from what is archived and what the server says: never past a hole, and never on
// a history that does not contain what is archived. Pure: no server, no vault.
#pragma once
#include <optional>
#include <vector>

#include "base/error.h"
#include "source/postgres/archive.h"
#include "source/postgres/timeline_history.h"

namespace kuramori::postgres {

struct StreamFacts {
  std::string resource;  // for messages
  uint32_t segment_bytes = kSegmentBytesDefault;
  // Of segments and parts, merged, by timeline and position. What a promoted server left (.partial) does not
  // count: it may hold bytes that never became part of any history.
  std::vector<Stretch> archived;
  Timeline timeline = 0;    // the server's
  Lsn flushed = 0;          // by the server
  TimelineHistory history;  // of the server's timeline; of timeline 1: no entries
  bool in_recovery = false;
  Lsn slot_lsn = 0;        // the slot holds WAL from here; 0: unknown
  bool from_here = false;  // told to leave a hole, or an abandoned branch, behind
  // A commit up to here may have been acknowledged because the vault has it; behind, the vault promised
  // nothing.
  Lsn promised = kLsnMax;
};

struct StreamStart {
  Timeline timeline = 0;
  Lsn from = 0;     // a segment's begin
  Lsn durable = 0;  // in [from, from + segment]: what is before is archived
  bool leaves_hole = false;
  // What the vault holds of the old timeline behind the place where the new one left it: on no server.
  std::optional<Stretch> abandoned;
};

// More than this is no tail that a standby had not received yet when its primary died, but an older copy.
constexpr Lsn kAbandonedMax = 16u << 20;

// kRefused, with what to type; kUnknown when a standby only is not there yet.
Result<StreamStart> decide_stream_start(const StreamFacts& facts);

// The stretches of `pieces` as StreamFacts wants them.
std::vector<Stretch> archived_stretches(std::vector<Stretch> pieces);

}  // namespace kuramori::postgres
