// Brings damaged and missing content of a vault back, from somewhere that has it whole.
//
// What must stand is decided by this vault alone: by what its visible commits bind. The whole bytes come
// under a name of their own (an incarnation), since a name is never put twice; they are read back; and only
// then does the damaged object go. That is the one removal that no sweep decides. Why it loses nothing:
//
//   - A damaged object goes only where a whole incarnation of it stands that nobody has condemned. Collectors
//     keep every incarnation of what something visible needs, and readers take any.
//   - Two healers that each misread what the other put cannot remove both: a healer removes only what it saw
//     *before* it put its own, and so nobody removes the one that was put last. Where somebody else's stands
//     whole, only the original goes, never an incarnation.
//   - A removal that lands late hits a name that never stands for anything else.
//
// Killed before the removal, both stand: readers that find the damaged one go on to the whole one, and the
// next run removes it. Where the store retains it, it stays, and does no harm. The session is there so that a
// collector can tell what became of the name; should it be fenced meanwhile, what was put stays all the same.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vault/copier.h"

namespace kuramori {

// Where whole bytes come from: another vault of the family.
class HealSource : public CopyTransfer {
 public:
  // A small object's bytes, whatever they are. kNotFound, kDamaged: not here; the next source is asked.
  virtual Result<Bytes> fetch(const ObjectRef& ref) = 0;
  // In messages: "osaka".
  virtual std::string name() const = 0;
};

struct HealedObject {
  uint64_t sent_bytes = 0;            // 0: a whole incarnation stood already
  std::vector<std::string> removed;   // damaged ones
  std::vector<std::string> retained;  // damaged ones that the store does not let go yet
  std::string retained_why;
};

// One run. Borrows everything; one thread.
class Healer {
 public:
  // `sources`: the likeliest first.
  Healer(const Protocol& vault, std::vector<HealSource*> sources, std::string host);
  ~Healer();

  // Reads what visible snapshots need; again after a live record was healed.
  Result<void> look();
  // Resources with a visible snapshot, and the lowest LSN that any of them needs.
  const std::map<ResourceId, uint64_t>& wal_floors() const { return wal_floors_; }
  const std::vector<const VisibleCommit*>& visible() const { return visible_; }

  // Sees to it that what was put under `origin` stands whole. kRefused: there is nothing to heal, or nothing
  // visible needs it. kNotFound: no source has it whole.
  Result<HealedObject> heal(const std::string& origin);
  // Ends the sessions. What was put stays because something visible needs it.
  Result<void> finish();

 private:
  // What a commit binds.
  struct Need {
    std::optional<LivePack> pack;
    std::optional<ObjectRef> small;
    ResourceId resource;
    bool contradicted = false;  // two snapshots bind different bytes
  };
  struct Standing {
    std::vector<std::string> whole, damaged;
    bool any_thin = false;  // of `whole`: holds only what is needed (vault/thin_pack.h)
  };
  void need(const std::string& origin, Need need);
  Result<const LiveRecord*> live_of(const VisibleCommit& commit);
  Result<WriterSession*> session_for(const ResourceId& resource);
  Result<void> check(const Need& need, const std::string& object);
  Result<Standing> look_at(const std::string& origin, const Need& need, const WriterSession& session);
  Result<uint64_t> put_again(const std::string& origin, const Need& need, HealSource& source);
  Result<void> remove(const std::vector<std::string>& damaged, HealedObject& healed);

  const Protocol& protocol_;
  std::vector<HealSource*> sources_;
  std::string host_;
  std::unique_ptr<Ledger> ledger_;
  std::vector<const VisibleCommit*> visible_;
  std::map<std::string, LiveRecord, std::less<>> fetched_lives_;  // by the live record's name
  std::map<std::string, Need, std::less<>> needs_;                // by origin
  std::map<ResourceId, uint64_t> wal_floors_;
  std::map<ResourceId, std::unique_ptr<WriterSession>> sessions_;
};

}  // namespace kuramori
