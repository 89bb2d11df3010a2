// What our own documents say (docs/schema), read back: by /metrics, by what is noticed, and by whoever shows
// a daemon's answers.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/world.h"

namespace kuramori {

// kuramori/alerts/1, without those that are over
struct ShownAlerts {
  struct Alert {
    int64_t id = 0;
    std::string event, resource, criticality, what;
    std::string acknowledged_by;  // "": nobody has
    std::optional<Time> opened;
    size_t told = 0;  // how many it was told to
  };
  std::vector<Alert> alerts;
  std::vector<std::string> undelivered;  // who cannot be told
};
// kDamaged: it is no such document.
Result<ShownAlerts> read_alerts(std::string_view document);

// kuramori/status/1
struct ShownStatus {
  Time at{};
  struct Proof {
    Time at{};
    bool passed = false;
    std::string vault;
  };
  struct Place {
    std::string vault, site, trouble;
    uint64_t snapshots = 0, added_bytes = 0, wal_gaps = 0;
    std::optional<Time> newest, oldest, restorable_to, behind_since, newest_wal;
  };
  struct Resource {
    std::string name, kind, owner, criticality, state;
    std::string rpo, rto;  // as promised: "1h"; "" when nothing is
    std::optional<double> rto_seconds;
    std::optional<Time> restorable_to, next_run, proof_due;
    std::optional<Proof> proof, passed;
    std::vector<Place> places;
    std::vector<std::string> broken;
  };
  struct Ping {
    std::string name, state;
    bool late = false;
    std::optional<Time> done;
  };
  std::vector<Resource> resources;
  struct Vault {
    std::string name, family;
    std::optional<Time> created, kit_made;
    bool is_kit_known = false;
  };
  std::vector<Vault> vaults;
  ShownAlerts alerts;
  std::vector<Ping> pings;  // other people's scripts
};
// kDamaged: it is no such document, or does not say of when.
Result<ShownStatus> read_status(std::string_view document);

// kuramori/jobs/1
struct ShownJob {
  int64_t run = 0;
  std::string job, state, why, progress;
  std::optional<Time> due, started, ended;
};
Result<std::vector<ShownJob>> read_jobs(std::string_view document);

// kuramori/error/1; nullopt for any other document.
std::optional<Error> read_error(std::string_view document);

// What is asked of the daemon's jobs: {"start": "backup orders/orders-db"}, or {"cancel": 4711}.
struct JobWish {
  std::string start;
  std::optional<int64_t> cancel;
};
// kUsage for anything else.
Result<JobWish> read_job_wish(std::string_view document);

}  // namespace kuramori
