// Keeps a bucket equal to another one, all the time, at whatever stores they stand: a pass lists both by
// pages in key order and copies what differs. Nothing is remembered that a pass could not find out again, so
// a kill at any moment, and two of them at once, do no harm beyond a version too many.
//
// How a copy is known for what it is: by ETag and size; where these mislead (parts, encryption) by the
// original's version, ETag and time in the copy's metadata, read once and remembered.
//
// Deletions are followed only where the source says that the object is not there, only of what this made, and
// only up to a budget a day: a source that was emptied, or lost more than that, is not followed at all.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/json_writer.h"
#include "source/bucket/bucket_source.h"

namespace kuramori::bucket {

struct ReplicateSettings {
  Place from, to;
  bool mirror = true;          // deletions are followed, within the budget
  double delete_share = 0.01;  // of the target's objects, in 24 hours
  // That many in any case: of few objects a share is none. An emptied source is not followed even then.
  uint64_t delete_least = 10;
  std::optional<uint64_t> delete_once;            // instead of the budget, and although the source is empty
  Duration every = std::chrono::seconds(1);       // from the end of a pass to the next
  Duration tell_every = std::chrono::seconds(2);  // a status
  unsigned workers = 8;
  std::string state_file;  // the last status, and what was deleted when; "": none
  S3Limits limits = {.give_up_after = std::chrono::seconds(20)};
};

// As it stands at one moment.
struct ReplicateStatus {
  uint64_t passes = 0;                       // completed
  uint64_t objects = 0, target_objects = 0;  // by the last whole list
  uint64_t waiting = 0;                      // versions known to be missing at the target
  uint64_t copied = 0, bytes = 0;            // since the start
  uint64_t deleted = 0;
  uint64_t held_deletes = 0;  // are not followed: see why_held
  uint64_t unreadable = 0;    // of the last pass
  uint64_t requests = 0;      // at both stores
  // Age of the oldest version at the source that is not at the target, by the source's clock; while a pass
  // cannot be made, how long ago all was there. 0: what was listed last is all there.
  double lag_seconds = 0;
  std::optional<Time> in_sync_at;  // everything put before that is at the target
  std::string why_held, trouble;   // in words; "": none
};
void write_status(JsonWriter& json, const ReplicateStatus& status);

// Until asked to stop, or for one pass. `tell` is called every few seconds, by a thread of its own, and at
// the end. An error of one pass is no end of it: it is told, and tried again.
Result<ReplicateStatus> replicate(const ReplicateSettings& settings, bool once,
                                  const std::function<void(const ReplicateStatus&)>& tell,
                                  const std::stop_token& stop);

}  // namespace kuramori::bucket
