// The archive is followed from its end: on the server's own timeline if anything of it is archived, else on
// the newest ancestor that has something, up to where the next timeline leaves it. The server is always asked
// for exactly the byte behind what is archived — it answers with that byte or with "removed", so contiguity
// does not rest on what a slot says of itself (P38): a slot made anew holds WAL from some later point on, and
// everything in between may be gone.
#include "source/postgres/stream_start.h"

#include <fmt/format.h>

#include <algorithm>

namespace kuramori::postgres {
namespace {

class Decision {
 public:
  explicit Decision(const StreamFacts& facts) : facts_(facts) {}

  Result<StreamStart> run() {
    if (facts_.archived.empty()) return begin_anew(false);
    const Timeline newest = facts_.archived.back().timeline;
    if (!facts_.history.descends_from(newest) && newest > facts_.timeline) return server_is_behind(newest);
    // The newest timeline of the server's lineage that has anything.
    const Stretch* last = nullptr;
    for (const Stretch& stretch : facts_.archived)
      if (facts_.history.descends_from(stretch.timeline)) last = &stretch;
    if (!last) return unrelated(newest);
    const Timeline timeline = last->timeline;
    const Lsn switch_lsn = facts_.history.switch_point(timeline).value_or(kLsnMax);
    const Lsn end = end_of(timeline, switch_lsn);
    if (end > switch_lsn) return diverged(timeline, end, switch_lsn);
    if (end == switch_lsn) return at_begin_of(child_of(timeline), switch_lsn);
    if (timeline == facts_.timeline && end > facts_.flushed) return set_back(end);
    if (facts_.from_here && facts_.slot_lsn > end) return begin_anew(true);
    return StreamStart{.timeline = timeline, .from = segment_start(end), .durable = end};
  }

 private:
  Lsn segment_start(Lsn lsn) const { return lsn - lsn % facts_.segment_bytes; }

  // The end of the first stretch behind which the slot still holds WAL, so that a hole which can be filled is
  // filled; else the end of the last.
  Lsn end_of(Timeline timeline, Lsn switch_lsn) const {
    Lsn end = 0;
    for (const Stretch& stretch : facts_.archived) {
      if (stretch.timeline != timeline) continue;
      end = stretch.to;
      if (facts_.slot_lsn != 0 && end >= segment_start(facts_.slot_lsn) && end <= switch_lsn) break;
    }
    return end;
  }

  Timeline child_of(Timeline timeline) const {
    const auto& entries = facts_.history.entries;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].timeline == timeline)
        return i + 1 < entries.size() ? entries[i + 1].timeline : facts_.timeline;
    }
    return facts_.timeline;
  }

  // A new timeline is followed from the begin of the segment in which it leaves its parent: its file holds
  // the parent's bytes up to there, and recovery takes that file (P52).
  StreamStart at_begin_of(Timeline timeline, Lsn switch_lsn) const {
    const Lsn from = segment_start(switch_lsn);
    return {.timeline = timeline, .from = from, .durable = from};
  }

  StreamStart begin_anew(bool leaves_hole) const {
    const Lsn from = segment_start(facts_.slot_lsn != 0 ? facts_.slot_lsn : facts_.flushed);
    return {.timeline = facts_.history.timeline_at(from),
            .from = from,
            .durable = from,
            .leaves_hole = leaves_hole};
  }

  std::string begin_here() const {
    return fmt::format(
        "if this server is the right one: kuramori wal stream {0} --from-here, and then kuramori backup {0} "
        "--full",
        facts_.resource);
  }

  // A primary that dies at work has often sent its last WAL to us and not to the standby that is promoted.
  // Where nobody relied on the vault for those commits, they were lost when that standby was chosen, and a
  // stream that stopped for them would lose what the new primary writes as well. Where it was a synchronous
  // standby, they may be acknowledged and nowhere else: somebody must decide.
  Result<StreamStart> diverged(Timeline timeline, Lsn end, Lsn switch_lsn) const {
    const bool may_follow = facts_.promised <= switch_lsn && end - switch_lsn <= kAbandonedMax;
    if (facts_.from_here || may_follow) {
      StreamStart start = at_begin_of(child_of(timeline), switch_lsn);
      start.abandoned = Stretch{timeline, switch_lsn, end};
      return start;
    }
    return fail(
        ErrorKind::kRefused,
        fmt::format("the server's history does not contain what is archived: it left timeline {} at {}, the "
                    "vault holds it up to {}",
                    timeline, format_lsn(switch_lsn), format_lsn(end)),
        fmt::format("the server that was promoted had not received the last {} bytes; commits in them, "
                    "acknowledged or not, are in the vault and not on this server",
                    end - switch_lsn),
        fmt::format(
            "to look at them: kuramori restore {0} --timeline {1} --latest --to FOLDER; to go on with "
            "timeline {2}: kuramori wal stream {0} --from-here",
            facts_.resource, timeline, child_of(timeline)));
  }

  Result<StreamStart> set_back(Lsn end) const {
    std::string what = fmt::format("the server's WAL ends at {}, the vault holds timeline {} up to {}",
                                   format_lsn(facts_.flushed), facts_.timeline, format_lsn(end));
    if (facts_.in_recovery)
      return fail(ErrorKind::kUnknown, std::move(what), "the standby has not received it yet");
    // Whatever it writes from here on would be a second content of the same place.
    return fail(ErrorKind::kRefused, std::move(what),
                "it lost WAL that it had flushed, or was restored from an older copy without a new timeline",
                fmt::format("what it lacks is in the vault: kuramori restore {} --latest --to FOLDER",
                            facts_.resource));
  }

  Result<StreamStart> server_is_behind(Timeline newest) const {
    if (facts_.from_here) return begin_anew(true);
    std::string what = fmt::format("the vault follows timeline {} already, this server is on timeline {}",
                                   newest, facts_.timeline);
    if (facts_.in_recovery)
      return fail(ErrorKind::kUnknown, std::move(what), "the standby has not followed yet");
    return fail(
        ErrorKind::kRefused, std::move(what),
        "it looks like an old primary that came back after another was promoted",
        "name all hosts and target_session_attrs=read-write in the resource's connect:; " + begin_here());
  }

  Result<StreamStart> unrelated(Timeline newest) const {
    if (facts_.from_here) return begin_anew(true);
    return fail(ErrorKind::kRefused,
                fmt::format("timeline {} of the server does not come from timeline {}, which is archived",
                            facts_.timeline, newest),
                "its history names no timeline that the vault holds", begin_here());
  }

  const StreamFacts& facts_;
};

}  // namespace

Result<StreamStart> decide_stream_start(const StreamFacts& facts) {
  return Decision(facts).run();
}

std::vector<Stretch> archived_stretches(std::vector<Stretch> pieces) {
  std::sort(pieces.begin(), pieces.end());
  std::vector<Stretch> merged;
  for (const Stretch& piece : pieces) {
    if (!merged.empty() && merged.back().timeline == piece.timeline && piece.from <= merged.back().to)
      merged.back().to = std::max(merged.back().to, piece.to);
    else
      merged.push_back(piece);
  }
  return merged;
}

}  // namespace kuramori::postgres
