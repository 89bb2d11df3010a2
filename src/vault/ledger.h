// What the small records of a vault say, read together: which snapshots are visible, which sessions are open,
// which objects are condemned, what is held.
//
// Nothing is inferred from what cannot be read. A record that is there and cannot be verified is an error, or
// is listed as unverifiable where a caller shows it; only the owner's word (`disowned/<digest>`) lets work go
// on past it. Records that can never change again are remembered by name, listings never are. One thread at a
// time. Pointers handed out stay valid as long as the Ledger.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "vault/names.h"
#include "vault/record_log.h"

namespace kuramori {

// One collection: its plan, and its sweep once that stands.
struct GcRound {
  uint64_t number = 0;
  bool swept = false;
  std::vector<std::string> objects;           // sorted: of the sweep if it stands, else of the plan
  std::vector<ReplacedObject> replaced = {};  // of these, what another incarnation stands in for
};
// Names that may not be referred to any more, sorted: of every round the sweep, or the plan while there is
// none.
std::vector<std::string> condemned_by(const std::vector<GcRound>& rounds);

struct PruneRound {
  uint64_t number = 0;
  bool finished = false;
  std::vector<std::string> commits;  // sorted: of the final if it stands, else of the intent
};

struct VisibleCommit {
  std::string name;
  names::CommitName key;
  CommitRecord record;  // of a copy: with this vault's own keep_until_ns
  SignerId signer;      // who made the snapshot; of a copy, not who copied it
  Digest digest;        // of the object
  // A copy: what the commit is called where it was made, which is what its bytes are bound to.
  std::string origin;
  bool is_copy() const { return !origin.empty(); }
};

struct Unverifiable {
  std::string name;
  Digest digest;  // what `vault disown` wants
  Error error;
};

// All commit keys at one reading.
struct CommitListing {
  std::vector<const VisibleCommit*> visible;  // by name
  std::vector<std::string> pruned;            // by name: in a prune's final
  std::vector<std::string> fenced;            // by name
  std::vector<std::string> disowned;          // by name
  std::vector<Unverifiable> unverifiable;
  std::vector<std::string> missing;       // named by other records, and not listed: the listing is not whole
  std::unordered_set<SessionId> decided;  // sessions whose commit key is occupied
  // The error that stops whoever wants to delete, if something is unverifiable or missing.
  Result<void> must_be_whole() const;
};

// For a look at very many commits.
struct CommitVisit {
  Detail detail = Detail::kWhole;
  std::function<void(size_t)> count;  // of the listed, once, before the first
  std::function<void(VisibleCommit&&)> take;
};

struct ListedSession {
  std::string name;
  SessionId id;
  SessionRecord record;
  SignerId signer;
  std::optional<Time> stored_at;  // by the store's clock
  bool decided = false;           // its commit key (a reader's end) is occupied
};

struct SessionListing {
  std::vector<ListedSession> sessions;  // by name
  std::vector<SessionId> vanished;      // listed, then gone: a keeper removed them, being decided
  std::vector<std::string> disowned;
  std::vector<std::string> stale_ends;  // ends of sessions that are gone
  std::vector<std::string> unknown;
};

struct ProofListing {
  std::map<SnapshotId, int64_t> passed;  // when its newest passed proof began, by the prover's clock
  std::set<SnapshotId> unreadable;  // has a proof that cannot be read: kept, as if it were the last proven
};

class Ledger {
 public:
  // `remembered`: of each commit that read_commits() and read_commit() hand out.
  explicit Ledger(const Protocol& protocol, Detail remembered = Detail::kWhole)
      : log_(protocol), remembered_(remembered) {}
  Ledger(const Ledger&) = delete;

  const RecordLog& log() const { return log_; }
  const Protocol& protocol() const { return log_.protocol(); }

  Result<std::vector<GcRound>> read_gc();
  Result<GcRecord> read_plan(uint64_t n);
  Result<std::optional<std::vector<std::string>>> read_waits(uint64_t n);
  Result<GcRecord> read_sweep(uint64_t n);
  Result<std::vector<PruneRound>> read_prunes();
  // Reads the prunes first, then the commits.
  Result<CommitListing> read_commits();
  Result<CommitListing> read_commits(const std::vector<PruneRound>& prunes);
  // The same for a look at very many: each visible one is handed over once, in the order of names, and is not
  // remembered; `visible` and `decided` of what is returned stay empty.
  Result<CommitListing> visit_commits(const CommitVisit& visit);
  // Two places: writes to the objects what this epoch's ledger decided and they lack: commits, finals,
  // sweeps. Whoever decides upon any of these does this before it counts on its own decision.
  Result<void> mirror_decided();
  // Whether the session belongs to a ledger that is no longer in force: then whatever it left is decided.
  bool is_of_older_epoch(const SessionId& sid) const;
  // One COMMIT, pruned or not; kNotFound: nothing stands there, kRefused: FENCED stands there.
  Result<const VisibleCommit*> read_commit(std::string_view name);
  // Every object a snapshot needs, sorted; WAL apart. By the names they were made under: where such a name
  // has incarnations, any of them will do.
  Result<const std::vector<std::string>*> references(const VisibleCommit& commit);
  Result<const LiveRecord*> live_of(const VisibleCommit& commit);
  // Lists the sessions, then looks at each one's commit key.
  Result<SessionListing> read_sessions();
  // Puts FENCED (for a reader: its end). Afterwards the session is decided, whoever was first.
  Result<void> fence(const ListedSession& session, std::string reason);
  // Snapshots with a hold that was not released. A hold that cannot be read holds.
  Result<std::set<SnapshotId>> read_held();
  Result<ProofListing> read_proofs();
  // Of these snapshots: the latest moment any retain record names. One that cannot be read keeps for ever.
  Result<std::map<SnapshotId, int64_t>> read_retained();

 private:
  struct References {
    LiveRecord live;
    std::vector<std::string> names;
  };
  // Sees to it that `signer` may have written a record of its kind at `name`.
  Result<void> must_be_keeper(const SignerId& signer, std::string_view name) const;
  Result<CommitListing> list_commits(const std::vector<PruneRound>& prunes, const CommitVisit* visit);
  Result<VisibleCommit> open_commit(std::string_view name, Detail detail);
  Result<VisibleCommit> open_copy(std::string_view name, const names::CommitName& key,
                                  const OpenedRecord& opened, Detail detail);
  Result<OpenedRecord> open_copied(std::string_view name, const CopyRecord& copy);
  Result<GcRecord> read_gc_record(const std::string& name, RecordType type, uint64_t n);
  Result<std::vector<std::string>> read_prune_record(const std::string& name, RecordType type, uint64_t n);
  // Whether the owner disowned the object that stands at `name`; its digest in `digest`.
  Result<bool> is_disowned(std::string_view name, Digest& digest);

  RecordLog log_;
  Detail remembered_;
  std::map<std::string, VisibleCommit, std::less<>> commits_;
  std::set<std::string, std::less<>> fenced_;
  std::map<std::string, References, std::less<>> references_;  // by commit name
  std::map<std::string, ListedSession, std::less<>> sessions_;
  std::set<std::string, std::less<>> mirrored_;
};

}  // namespace kuramori
