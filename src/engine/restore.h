// Bringing a PostgreSQL cluster back: which snapshot, which WAL, into which place — decided and checked
// before a byte is written — then the files, then what makes the server recover to exactly there.
#pragma once
#include <functional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/reporter.h"
#include "engine/restore_files.h"
#include "engine/snapshots.h"
#include "engine/wal.h"
#include "source/postgres/recovery.h"
#include "source/postgres/recovery_place.h"
#include "source/postgres/target.h"

namespace kuramori {

// What a vault offers for one resource.
struct Restorable {
  ResourceRecord resource;
  std::vector<Snapshot> snapshots;    // oldest first
  std::vector<postgres::Base> bases;  // one a snapshot, same order
  LoadedArchive loaded;
};
Result<Restorable> load_restorable(Vault& vault, std::string_view resource);
// Scans an archived segment for what recovery targets are made of.
postgres::ScanSegment segment_scanner(Vault& vault, const Restorable& restorable);
postgres::RestorePlanner restore_planner(Vault& vault, const Restorable& restorable);

struct RestoreRequest {
  std::string resource;
  std::string snapshot;  // "", "latest" or a prefix of an id
  postgres::TargetRequest target;
  std::string to;  // absolute
  postgres::TargetUse use = postgres::TargetUse::kNew;
  postgres::AtTarget action = postgres::AtTarget::kPromote;
  bool standby = false;
  bool continue_archiving = false;
  std::string archive_command;                                   // with continue_archiving
  std::vector<std::pair<std::string, std::string>> tablespaces;  // OLD=NEW
  std::string salvage;  // data directory of a dead server whose WAL is archived first
  bool start = false;
  int port = 0;           // with start; 0: as configured
  bool estimate = false;  // only say what it would be
  unsigned workers = 2;
  // Goes before "%f %p" in restore_command when recovery fetches from the vault itself, e.g.
  // "'/usr/bin/kuramori' wal get --vault … --resource …".
  std::string wal_get;
  // Fetch all WAL now, beside the target, so that recovery needs neither vault nor key; `spool_get` goes
  // before "%f %p".
  bool spool_wal = false;
  std::string program;  // this program's path, for the spool's restore_command
  // Asked before what stands at `to` is replaced; nothing: nobody is.
  std::function<Result<void>(const Snapshot& base)> may_replace;
};

struct RestoreOutcome {
  Snapshot base;
  postgres::RecoveryPlan plan;
  FileRestoreOutcome files;
  std::string target;
  std::string moved_aside;  // where the old target went
  std::vector<std::string> notes;
  std::vector<postgres::Tablespace> tablespaces;
  uint64_t segments_salvaged = 0;
  // With estimate: of the vault, requests where it is a store that counts them, and how long the files take
  // at the speed that a sample of them was read with; 0 where that cannot be said.
  uint64_t estimated_bytes = 0, estimated_requests = 0;
  double estimated_seconds = 0;
  bool far = false;  // the vault is a store where every read is a request
  double seconds_files = 0, seconds_to_open = 0;
  bool started = false;
  uint32_t new_timeline = 0;  // with start and promotion
};

Result<RestoreOutcome> restore_postgres(Vault& vault, const RestoreRequest& request, Reporter& reporter,
                                        std::stop_token stop);

// Values of ".kuramori/origin": data_directory, host …
std::map<std::string, std::string> read_origin(const SnapshotReader& snapshot);

}  // namespace kuramori
