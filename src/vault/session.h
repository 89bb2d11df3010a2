// Sessions: how a writer makes a snapshot, and how a reader keeps one from being collected under it.
//
// The order is what makes it safe. A writer's session stands *before* it looks at what is condemned: a
// collector whose plan it did not see lists the sessions after that plan stood, and so sees the session. What
// the writer refers to was visible *after* its session stood. And its commit is put if absent at a key that a
// collector may fence: exactly one of the two puts wins, whenever they land.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vault/ledger.h"

namespace kuramori {

struct WriterOptions {
  SessionKind kind = SessionKind::kWrite;
  ResourceId resource;
  SnapshotId snapshot;
  std::vector<std::string> parents;  // commit names to build on
  // Closed: everything of other sessions that it may refer to belongs to its parents and is declared in the
  // session object; then no collector waits for it. Open: collectors wait until it is decided.
  bool closed = false;
  uint32_t wal_timeline =
      0;  // no WAL from `wal_floor` on is collected while the session is open; 0: needs none
  uint64_t wal_floor = 0;
  std::string host;
};

struct Parent {
  const VisibleCommit* commit;
  const LiveRecord* live;
};

struct CommittedSnapshot {
  std::string name;
  CommitRecord record;
  Digest digest;  // of the commit object
};

// One attempt at one snapshot. A writer never deletes anything.
class WriterSession {
 public:
  // kRefused: the WAL it starts from is condemned (open again, with a later floor), or another machine works
  // under the same session id (a clone; open again). kDamaged: a record of the vault cannot be verified.
  static Result<std::unique_ptr<WriterSession>> open(const Protocol& protocol, WriterOptions options);

  const SessionId& id() const { return id_; }
  const std::string& commit_key() const { return record_.commit_key; }
  uint64_t newest_gc() const { return newest_gc_; }
  // Of the parents asked for, those that were visible after this session stood.
  const std::vector<Parent>& parents() const { return parents_; }
  // Whether nothing may refer to `name` any more.
  bool is_condemned(std::string_view name) const;
  // Whether the commit may refer to `name`: its own, or a parent's that is not condemned.
  bool may_refer_to(std::string_view name) const;

  std::string next_pack_name() { return names::pack(id_, packs_++); }
  std::string next_map_name() { return names::map(id_, maps_++); }
  // Puts a small object under one of the names above, until confirmed.
  Result<void> put_object(std::string_view name, ByteView bytes) { return log().put_bytes(name, bytes); }

  // Puts the live record, then the commit. Fills in what the session knows: ids, parents, newest_gc, live.
  // Success is returned only when the commit stands. Afterwards the session is over.
  // kRefused: fenced by a collector, or the session was cloned; nothing of it will ever be visible: open a
  // new one. kUnknown: no answer; the snapshot may exist, `vault` commands will show it.
  Result<CommittedSnapshot> commit(CommitRecord record, const LiveRecord& live);
  // For a session of kind kCopy: the snapshot exists here too. The caller has seen to it that everything the
  // snapshot needs is here, in objects that are not condemned.
  Result<CommittedSnapshot> commit_copy(const CopyRecord& copy);
  // Gives up: fences its own key, so that collectors need not wait and may remove what was uploaded.
  Result<void> abandon(std::string reason);

 private:
  WriterSession(const Protocol& protocol) : ledger_(protocol) {}
  const RecordLog& log() const { return ledger_.log(); }
  Result<void> stand(WriterOptions& options);           // W1, W2
  Result<void> read_condemned();                        // W3
  Result<void> read_parents(std::vector<std::string>);  // W4
  Result<bool> has_incarnation(const std::string& name, const LivePack* pack) const;
  bool is_held_elsewhere(const std::string& object, const LivePack& pack) const;
  bool may_hold_less(const LivePack& pack) const;
  Result<bool> stands_for(const LivePack& pack) const;
  Result<Digest> decide(RecordType type, ByteView body);                // W8
  Result<void> make_certain(const std::vector<std::string>& built_on);  // W9

  Ledger ledger_;
  SessionId id_;
  SnapshotId snapshot_;
  SessionRecord record_;
  std::vector<std::string> condemned_;                           // sorted
  std::map<std::string, ReplacedObject, std::less<>> replaced_;  // of these, by object
  std::vector<std::string> usable_;                              // sorted: the parents', condemned or not
  std::vector<Parent> parents_;
  uint64_t newest_gc_ = 0;
  uint32_t packs_ = 0, maps_ = 0;
  bool over_ = false;
};

struct ReaderOptions {
  ResourceId resource;
  std::vector<std::string> commits;  // what it reads
  std::string host;
  // With a key that may put nothing (read only) the reader goes on unprotected, and says so.
  enum class WithoutRight { kFail, kReadUnprotected } without_right = WithoutRight::kFail;
};

// While it is open, no collector removes what these snapshots need, pruned or not, unless a keeper breaks it
// as dead; then reads fail as "not found", never with wrong bytes.
class ReaderSession {
 public:
  // kRefused: a snapshot is pruned, or being pruned.
  static Result<ReaderSession> open(const Protocol& protocol, ReaderOptions options);
  bool is_protected() const { return protected_; }
  const SessionId& id() const { return id_; }
  // Says that it is over, so that a collector may clean up. Without it the session stays until a keeper
  // breaks it.
  Result<void> end();
  // A younger session for the same, so that no keeper takes a long reading for dead. What was pruned
  // meanwhile stays protected: this one was open until the other stood. This one is to be ended no sooner
  // than a listing of all sessions takes that began before: a collector that lists page by page must find one
  // of them open. kRefused: a keeper broke this one; open() finds out what is still there.
  Result<ReaderSession> renew() const;

 private:
  explicit ReaderSession(const Protocol& protocol) : protocol_(&protocol) {}
  Result<void> stand();
  const Protocol* protocol_;
  SessionId id_;
  ReaderOptions options_;
  bool protected_ = false;
};

// Why reading one of `commits` failed: kRefused when it was pruned meanwhile, which is no damage; else
// `error` itself.
Error explain_read(const Protocol& protocol, const std::vector<std::string>& commits, Error error);

// The first 4 bytes are the signer's, so that a store's policy can name a writer's prefix; the rest is
// random.
SessionId draw_session_id(const Protocol& protocol);

}  // namespace kuramori
