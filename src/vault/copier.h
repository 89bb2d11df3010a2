// Copies one snapshot into another vault of the same key family, without opening it.
//
// The copier is a writer there: it has a session, so that the collector of that vault waits for it. Bytes
// travel verbatim, under names of their own (an *incarnation*: origin and copier session), since a name that
// was condemned there must never be used again. Any incarnation that stands and is not condemned serves: so a
// copy that was killed goes on where it was, by listing both sides. The commit key holds the copier's
// session: a fence ends this attempt, never the snapshot; two attempts that both succeed are one snapshot.
//
// Order: session, condemned names, packs and maps, live record, commit. What the copy does not see to: the
// WAL (engine/copy), and which snapshots to copy.
#pragma once
#include <map>
#include <set>
#include <string>

#include "vault/session.h"

namespace kuramori {

// How bytes get from one vault to the other, and are believed.
class CopyTransfer {
 public:
  virtual ~CopyTransfer() = default;
  // Puts the source's pack at `to`, verbatim. Returns its bytes. kExists: something stands there.
  virtual Result<uint64_t> send(const LivePack& pack, const std::string& to) = 0;
  // Reads the whole pack back from the replica: kDamaged when it is not the one that is bound.
  virtual Result<void> check(const LivePack& pack, const std::string& at) = 0;
  // Whether these are the bytes of a small object that a record binds.
  virtual bool fits(const ObjectRef& ref, ByteView bytes) = 0;
  // Told of each object, before it is copied or found to stand already.
  virtual Result<void> go_on() { return {}; }
};

struct CopyResult {
  std::string commit;  // its name in the replica
  uint64_t sent_objects = 0, sent_bytes = 0;
  uint64_t found_objects = 0, found_bytes = 0;  // stood there already
};

// Several snapshots, one after the other. Borrows everything.
class Copier {
 public:
  Copier(const Protocol& replica, Ledger& source, CopyTransfer& transfer)
      : replica_(replica), source_(source), transfer_(transfer) {}

  struct Options {
    int64_t keep_until_ns = kKeepForever;  // in the replica
    std::string from;                      // the source vault's id, for the record
    std::string host;
    // Done while the session stands and before the commit: what else the snapshot needs (its WAL).
    std::function<Result<void>(const WriterSession&)> before_commit;
  };
  // kRefused: fenced by the replica's collector; copy again. kDamaged: the source's objects are not what the
  // commit binds; nothing of it becomes visible.
  Result<CopyResult> copy(const VisibleCommit& commit, const Options& options);

 private:
  Result<void> list_standing();
  Result<void> copy_pack(const WriterSession& session, const LivePack& pack, CopyResult& result);
  Result<void> copy_small(WriterSession& session, const ObjectRef& ref, CopyResult& result);
  // Where the bytes of `origin` stand in the replica and may be referred to; "" when nowhere.
  std::string find_standing(const WriterSession& session, const std::string& origin) const;
  std::string new_name(const WriterSession& session, const std::string& origin) const;

  const Protocol& replica_;
  Ledger& source_;
  CopyTransfer& transfer_;
  bool listed_ = false;
  std::map<std::string, std::set<std::string>, std::less<>> standing_;  // origin → its incarnations
  // Objects known to be whole, as far as these frames go.
  std::map<std::string, std::vector<FrameRange>, std::less<>> checked_;
};

}  // namespace kuramori
