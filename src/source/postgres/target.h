// Before a restore writes a byte: which snapshot it begins with, which WAL it replays, and the exact record
// it stops at — or a refusal that names what can be restored and what is missing (P49, P50, S5). Every target
// becomes the LSN of a record: the server is never told a time, so it can neither misread it nor run past it.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/world.h"
#include "source/postgres/archive.h"
#include "source/postgres/archive_get.h"

namespace kuramori::postgres {

// A record of the WAL that carries a time, a transaction's end or a name.
enum class MomentKind : uint8_t { kCommit, kAbort, kCheckpoint, kRestorePoint };
struct Moment {
  MomentKind kind = MomentKind::kCommit;
  Lsn lsn = 0;          // where the record begins
  Lsn end = 0;          // where it ends
  int64_t time_ns = 0;  // since 1970; 0: it carries none
  uint32_t xid = 0;     // kCommit, kAbort: of the transaction (of the prepared one)
  std::string name;     // kRestorePoint
};

// What one segment file holds: the records that begin in it, in order.
struct SegmentScan {
  std::vector<Moment> moments;
  Lsn first_record = 0;  // where the first and the last record begin; 0: none does
  Lsn last_record = 0;
  Lsn end = 0;  // where the last whole record ends
};

// Reads segment `index` of `run` (and those after it, for a record that goes on there).
using ScanSegment = std::function<Result<SegmentScan>(const std::vector<SegmentSource>& run, size_t index)>;

enum class TargetKind : uint8_t { kSnapshot, kTime, kLsn, kXid, kName, kLatest };
struct TargetRequest {
  TargetKind kind = TargetKind::kSnapshot;
  int64_t time_ns = 0;
  Lsn lsn = 0;
  uint32_t xid = 0;
  std::string name;
  bool exclusive = false;            // stop just before it
  std::optional<Timeline> timeline;  // default: the newest one (of the snapshot's lineage, if one is given)
  std::optional<size_t> base;        // the snapshot the user named; default: the newest that fits
};

struct RecoveryPlan {
  size_t base = 0;  // index into the bases given
  Timeline timeline = 0;
  Lineage lineage;
  std::vector<SegmentSource> segments;  // exactly those recovery needs, in order
  bool immediate = false;               // stop as soon as the base is consistent
  std::optional<Lsn> target_lsn;        // neither: to the end of the archive
  bool inclusive = true;
  std::optional<Moment> last_commit;  // the newest commit that will be there, if one follows the base
  Lsn reached = 0;                    // recovery replays at least up to here (an exclusive target: nearly)
  std::string explanation;            // one line for people: what will be reached, and why that
  RecoveryPromise promise;            // for the restore_command
};

// What could be restored, for the refusals and for `kuramori window`.
struct TimeWindow {
  Timeline timeline = 0;
  size_t base = 0;  // the oldest snapshot it begins with
  Lsn from = 0, to = 0;
  int64_t from_ns = 0, to_ns = 0;  // of the last moment that the archived WAL proves
  std::optional<Gap> gap;          // what ends it, if it is not the end of the archive
};

class RestorePlanner {
 public:
  // All three outlive it. `format_time` writes moments for people; `known_until_ns`: WAL is known to be
  // complete to this time although nothing happened (a stream's heartbeat), 0 if nothing is known.
  RestorePlanner(const Archive& archive, const std::vector<Base>& bases, ScanSegment scan,
                 std::function<std::string(int64_t)> format_time, int64_t known_until_ns = 0)
      : archive_(archive),
        bases_(bases),
        scan_(std::move(scan)),
        format_time_(std::move(format_time)),
        known_until_ns_(known_until_ns) {}

  Result<RecoveryPlan> find(const TargetRequest& request);
  // What `timeline` can be restored to, oldest first.
  Result<std::vector<TimeWindow>> windows(Timeline timeline);
  uint64_t segments_read() const { return segments_read_; }

 private:
  struct Run {  // what one base reaches
    size_t base = 0;
    Reach reach;
    size_t first = 0;  // the segment its stop is in
  };
  Result<Timeline> choose_timeline(const TargetRequest& request) const;
  std::vector<size_t> bases_on(const Lineage& lineage, const TargetRequest& request) const;  // newest first
  Run run_of(const Lineage& lineage, size_t base) const;
  Result<const SegmentScan*> scan(const Run& run, size_t index);

  Result<RecoveryPlan> find_snapshot(const TargetRequest& request, const Lineage& lineage);
  Result<RecoveryPlan> find_time(const TargetRequest& request, const Lineage& lineage);
  Result<RecoveryPlan> find_lsn(const TargetRequest& request, const Lineage& lineage);
  Result<RecoveryPlan> find_named(const TargetRequest& request, const Lineage& lineage);
  Result<RecoveryPlan> find_latest(const TargetRequest& request, const Lineage& lineage);

  // The first segment of the run that holds a moment later than `time_ns`; run.reach.segments.size() if none
  // does.
  Result<size_t> first_after(const Run& run, int64_t time_ns, bool exclusive);
  // The newest commit before `before` and not before the base's stop, looking backward from segment `from`.
  Result<std::optional<Moment>> commit_before(const Run& run, size_t from, Lsn before);
  // The latest time any record of the run proves, looking backward from its end; the base's stop at least.
  Result<int64_t> proven_until(const Run& run);

  Result<RecoveryPlan> make_plan(const Lineage& lineage, const Run& run, Lsn until) const;
  Error refuse(std::string what, std::string why_first, Timeline timeline);

  const Archive& archive_;
  const std::vector<Base>& bases_;
  ScanSegment scan_;
  std::function<std::string(int64_t)> format_time_;
  int64_t known_until_ns_ = 0;
  std::map<std::pair<Timeline, Lsn>, SegmentScan> scanned_;
  uint64_t segments_read_ = 0;
};

}  // namespace kuramori::postgres
