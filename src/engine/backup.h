// One snapshot of one PostgreSQL cluster, from the running server into a vault.
#pragma once
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "engine/new_snapshot.h"
#include "policy/config.h"
#include "source/postgres/capture.h"
#include "source/postgres/counts.h"
#include "vault/vault.h"

namespace kuramori {

struct BackupRequest : SnapshotWishes {
  std::string connect;
  unsigned workers = 2;
  uint64_t read_bytes_per_second = 0;
  postgres::CaptureWay way = postgres::CaptureWay::kAuto;
  postgres::CountsOptions counts;
  std::vector<std::string> unchanged_queries;  // of the plan's drill: their answers now are kept for it
};

struct BackupOutcome {
  std::string commit_name;
  CommitRecord commit;
  std::string base;      // snapshot id built on, "" for a full one
  std::string why_full;  // when a base could not be used, in words
  std::string keep_reason;
  bool over_replication = false;      // and not on the server's host
  std::string sent;                   // then: "changes", or "everything: why"; else empty
  std::string changes;                // what told which pages changed: "wal", "page LSNs: why", "whole: why"
  bool changes_contradicted = false;  // a page had changed of which the WAL's records did not tell
  uint64_t pages_sampled = 0;         // looked at for that
  uint64_t bytes_read = 0;
  uint64_t relation_bytes_read = 0;  // of them, of relation files
  Duration read_waited{};            // for the limit on reading
  uint64_t pages_stored = 0;         // of relation files
  uint64_t pages_unchanged = 0;
  std::vector<postgres::BrokenPage> broken_pages;
  std::vector<std::string> held;    // snapshots kept alive because this one found damage
  uint64_t wal_segments_added = 0;  // that the archiver had not delivered yet
  double seconds = 0;
};

// As the configuration says.
postgres::CaptureWay capture_way(const ResourceConfig& resource);

// The restore point at which a snapshot's rows were counted.
std::string restore_point_name(const SnapshotId& snapshot);

// The snapshot exists when this returns a value. Broken pages do not fail it: they are in the outcome, the
// commit and the caller's exit status (3), and the previous snapshot is put on hold.
Result<BackupOutcome> backup_postgres(Vault& vault, const BackupRequest& request, Reporter& reporter,
                                      std::stop_token stop);

}  // namespace kuramori
