// What every backup does around the content, whatever the kind: what it may build on, how long it is kept,
// which commit came before, and what becomes of a session that fails.
#pragma once
#include <map>
#include <optional>
#include <string>

#include "engine/snapshots.h"
#include "policy/retention.h"
#include "vault/leases.h"
#include "vault/session.h"

namespace kuramori {

// What the person or the plan says of a snapshot that is to be made.
struct SnapshotWishes {
  std::string resource;  // its name
  std::string plan, label;
  bool until_reviewed = false;  // whatever else is said, kept until it is reviewed at the next of its label
  std::map<std::string, std::string> tags;
  std::optional<Period> keep;  // --keep; overrides the plan's rules
  KeepRules rules;
  std::string timezone;
  bool full = false;               // read everything, build on nothing
  std::optional<LeaseMark> lease;  // of the daemon that runs it: another may take it over meanwhile
  std::optional<Period> lock;      // of the vault: what is built on must be locked long enough
};

// The newest snapshot that this key may build on: its own and the owner's. Another writer's may say of
// content what is not so, and nobody would notice before a restore (V16). Null: there is none.
const Snapshot* newest_to_build_on(const Vault& vault, const SnapshotList& list);

// Fills in plan, label, tags, how long it is kept and what came before; returns why it is kept so long.
std::string complete_commit(CommitRecord& commit, const SnapshotWishes& wishes, const SnapshotList& list,
                            Time now);

// Before the commit. kFailed: another daemon does this run by now, and would make a second snapshot.
Result<void> still_wanted(const Protocol& protocol, const SnapshotWishes& wishes);

// Before the commit, so that there is no moment at which the snapshot exists and could be pruned: the hold of
// its label, where it is kept until it is reviewed. A hold on what never comes to exist holds nothing.
Result<void> hold_until_reviewed(const Protocol& protocol, const SnapshotId& snapshot,
                                 const SnapshotWishes& wishes);

// Gives a session up in so many words unless it was committed, so that no collector has to wait for it.
// Should even that fail, the session is found dead later; it never becomes a snapshot.
class GiveUp {
 public:
  explicit GiveUp(WriterSession& session) : session_(&session) {}
  ~GiveUp() {
    if (session_ != nullptr) (void)session_->abandon("the backup failed or was interrupted");
  }
  GiveUp(const GiveUp&) = delete;
  void committed() { session_ = nullptr; }

 private:
  WriterSession* session_;
};

}  // namespace kuramori
