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
// Of a pack that stands whole and thin (vault/thin_pack.h) the larger one may go although it is needed: when
// every frame that anything needs is in the thin one, which no collection has condemned. Found out when the
// plan is made, and once more, with every byte of the thin one read, before the sweep; both records say which
// stands in for which, so that a writer who finds a pack condemned knows what of it is left.
//
// Deletion needs positive proof: an object is planned only if the session in its name is decided. Whatever
// cannot be read stops the run; names that nobody knows are left and reported.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "vault/needed.h"
#include "vault/thin_packs.h"

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
  bool more = false;         // what thin packs stand in for was not looked at: garbage goes before it
  Amount replaced;           // of `deleted`: a thin pack stands in for them
  uint64_t standing_in = 0;  // bytes of those thin packs
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
  // `thin`: without it no pack is given up for a thin one.
  explicit Collector(const Protocol& protocol, ThinPacks* thin = nullptr)
      : Collector(std::make_shared<Ledger>(protocol, Detail::kNeeds), thin) {}
  // With a ledger that others read by too: nobody reads a record twice.
  explicit Collector(std::shared_ptr<Ledger> ledger, ThinPacks* thin = nullptr)
      : shared_(std::move(ledger)), ledger_(*shared_), thin_(thin) {}
  // One run, as far as it gets without waiting. kDamaged: something cannot be verified; nothing was deleted.
  // kDenied: this key may not put a plan.
  Result<CollectReport> run(const CollectOptions& options);

 private:
  struct Stored {  // what can be collected, by name
    std::map<std::string, ObjectInfo, std::less<>> objects;
  };
  enum class Settled { kYes, kWaiting };

  Result<Stored> list_stored(CollectReport& report);
  // Of packs that stand more than once, one of them thin: what may go because another holds all that is
  // needed.
  Result<std::vector<ReplacedObject>> find_replaced(const Stored& stored, const CommitListing& commits,
                                                    const Needed& needed, const CollectOptions& options);
  Result<bool> is_replaced(const ReplacedObject& one, const GcRecord& plan, const Stored& stored,
                           const Needed& needed);
  WhichPacks standing_twice(const Stored& stored) const;
  // Whether some pack stands more than once and one of them may be thin, by their sizes.
  static bool stands_thin_too(const Stored& stored, const Needed& needed);
  bool holds(const FrameRanges& kept, const FrameRanges& wanted) const;
  Result<void> fence_dead(SessionListing& sessions, const Stored& stored, const CollectOptions& options,
                          CollectReport& report);
  bool is_decided(const CommitListing& commits, const SessionId& sid) const;
  Result<std::vector<std::string>> find_garbage(const Stored& stored, const CommitListing& commits,
                                                const Needed& needed) const;
  Result<Settled> settle(uint64_t n, const Stored& stored, const CollectOptions& options,
                         SessionListing& sessions, CollectReport& report);
  Result<void> sweep(uint64_t n, const GcRecord& plan, const SessionListing& sessions,
                     const std::optional<CommitListing>& commits_read_early, const Stored& stored,
                     const CollectOptions& options, CollectReport& report);
  Result<void> delete_swept(const GcRecord& sweep, const Stored& stored, CollectReport& report);
  Result<void> remove_decided(CollectReport& report);
  Result<void> remove_rounds(const std::vector<GcRound>& rounds, uint64_t n);  // a planted bug

  std::shared_ptr<Ledger> shared_;
  Ledger& ledger_;
  ThinPacks* thin_;
  std::vector<std::string> swept_;  // sorted: dead for ever, by the sweeps that stood when the run began
  std::vector<std::string> waits_;  // of this run's collection: sessions it waited for
  std::set<SessionId> seen_open_;   // of this run, after the plan stood
};

}  // namespace kuramori
