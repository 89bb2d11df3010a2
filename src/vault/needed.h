// What may not go, whoever planned it: what visible snapshots need, held ones, those that are being read, and
// whatever open sessions put or declared.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "vault/frame_ranges.h"
#include "vault/ledger.h"

namespace kuramori {

// A pack, and every frame of it that some snapshot needs.
struct PackNeed {
  LivePack pack;
  ResourceId resource;
  bool contradicted = false;  // two snapshots bind different bytes of it
};

struct Needed {
  std::set<std::string, std::less<>> names;   // by origin
  std::set<SessionId> owners;                 // everything of these sessions
  std::map<ResourceId, uint64_t> wal_floors;  // no WAL that ends after it goes; a resource not here keeps all
  std::set<std::string, std::less<>> declared;  // of `names`, what open sessions may refer to any frame of
  std::map<std::string, PackNeed, std::less<>> packs;  // by origin, of the packs that were asked about
  bool contains(const std::string& name) const;
};

using WhichPacks = std::function<bool(const std::string& origin)>;
// `swept`: sorted, dead for ever. `which`: the packs whose frames are asked for; none: of no pack.
Result<Needed> find_needed(Ledger& ledger, const CommitListing& commits, const SessionListing& sessions,
                           const std::vector<std::string>& swept, const WhichPacks& which = {});

}  // namespace kuramori
