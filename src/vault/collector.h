// Collection: removes what no visible snapshot needs, while writers and readers go on.
//
//   plan    names what nothing visible and no open session refers to. From here on no new session refers to
//   it. wait    until every session that may not have seen the plan is decided: nobody sits and waits, the
//   run ends and
//           the next one goes on with the same plan. A session that is plainly dead is fenced.
//   sweep   all commits are listed again and what they refer to is rescued; what is left is stored as the
//   sweep. delete  exactly what the *stored* sweep says, whoever stored it.
// Each step is a record put if absent; a collector that dies anywhere is followed by any other. A name that
// was swept is never used again.
//
// Deletion needs positive proof: an object is planned only if the session in its name is decided. Whatever
// cannot be read stops the run; names that nobody knows are left and reported.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "vault/ledger.h"

namespace kuramori {

// A share of the vault's bytes a sweep may remove before the breaker gives the plan up.
constexpr double kSweepShareMaxDefault = 0.5;

struct OpenSession {
  ListedSession session;
  // When it was last seen to do something: its own object or its newest upload, by the store's clock.
  std::optional<Time> last_seen;
};
// Whether a session that is not decided is plainly dead. Decides when a fence is tried, never whether it is
// safe.
using DeadSessionPolicy = std::function<bool(const OpenSession&)>;
// Dead when it was not seen for `silence`; a session of which the store has no times is never dead.
DeadSessionPolicy dead_after(Duration silence, Time now);

struct CollectOptions {
  enum class Mode { kCollect, kDryRun } mode = Mode::kCollect;
  double sweep_share_max = kSweepShareMaxDefault;  // 1: no breaker
  DeadSessionPolicy is_dead;                       // none: nobody is fenced
};

struct Amount {
  uint64_t objects = 0;
  uint64_t bytes = 0;
};

struct CollectReport {
  enum class Outcome {
    kNothingToDo,
    kWaiting,   // for `waiting_for`; the next run goes on
    kSwept,     // done
    kGivenUp,   // the breaker tripped; `given_up` says why
    kWouldPlan  // dry run
  } outcome = Outcome::kNothingToDo;
  uint64_t number = 0;  // of the collection
  bool resumed = false;
  Amount planned, rescued, deleted;
  Amount retained;           // swept, and the store does not let go yet (a lock)
  std::string retained_why;  // of the first of them, in the store's words
  Amount left;               // swept, and not deleted for another reason; the next run tries again
  std::vector<OpenSession> waiting_for;
  std::vector<std::string> fenced;   // session ids
  std::vector<std::string> unknown;  // names nobody knows: left alone
  std::vector<std::string> disowned;
  std::vector<std::string> planned_names;  // dry run
  uint64_t sessions_removed = 0;
  std::string given_up;
  std::vector<std::string> warnings;
};

class Collector {
 public:
  explicit Collector(const Protocol& protocol) : ledger_(protocol) {}
  // One run, as far as it gets without waiting. kDamaged: something cannot be verified; nothing was deleted.
  // kDenied: this key may not put a plan.
  Result<CollectReport> run(const CollectOptions& options);

 private:
  struct Stored {  // what can be collected, by name
    std::map<std::string, ObjectInfo, std::less<>> objects;
  };
  // What may not go, whoever planned it.
  struct Needed {
    std::set<std::string, std::less<>> names;
    std::set<SessionId> owners;  // everything of these sessions
    std::map<ResourceId, uint64_t>
        wal_floors;  // no WAL that ends after it goes; a resource not here keeps all
    bool contains(const std::string& name) const;
  };
  enum class Settled { kYes, kWaiting };

  Result<Stored> list_stored(CollectReport& report);
  Result<Needed> find_needed(const CommitListing& commits, const SessionListing& sessions);
  Result<void> fence_dead(SessionListing& sessions, const Stored& stored, const CollectOptions& options,
                          CollectReport& report);
  bool is_decided(const CommitListing& commits, const SessionId& sid) const;
  Result<std::vector<std::string>> find_garbage(const Stored& stored, const CommitListing& commits,
                                                const Needed& needed) const;
  Result<Settled> settle(uint64_t n, const Stored& stored, const CollectOptions& options,
                         SessionListing& sessions, CollectReport& report);
  Result<void> sweep(uint64_t n, const std::vector<std::string>& plan, const SessionListing& sessions,
                     const std::optional<CommitListing>& commits_read_early, const Stored& stored,
                     const CollectOptions& options, CollectReport& report);
  Result<void> delete_swept(const std::vector<std::string>& names, const Stored& stored,
                            CollectReport& report);
  Result<void> remove_decided(CollectReport& report);
  Result<void> remove_rounds(const std::vector<GcRound>& rounds, uint64_t n);  // a planted bug

  Ledger ledger_;
  std::vector<std::string> swept_;  // sorted: dead for ever, by the sweeps that stood when the run began
  std::vector<std::string> waits_;  // of this run's collection: sessions it waited for
  std::set<SessionId> seen_open_;   // of this run, after the plan stood
};

}  // namespace kuramori
