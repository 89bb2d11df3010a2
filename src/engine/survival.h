// What would be lost if a site burned: told from what each vault holds, by snapshots and WAL that stand
// nowhere else. Pure, apart from holdings_of().
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/snapshots.h"
#include "vault/vault.h"

namespace kuramori {

struct HeldSnapshot {
  std::string id;
  Time finished;
  uint64_t wal_end = 0;   // the LSN it is consistent at; 0: it needs no WAL
  uint32_t timeline = 0;  // of that LSN
  // The moment it is a picture of: what was written later may be missing. That is its end where WAL makes it
  // whole, and its beginning where it does not.
  Time as_of{};
};
// A stretch of WAL, the same wherever it stands.
struct HeldWal {
  uint32_t timeline = 0;
  uint64_t from = 0, to = 0;  // LSNs
  std::optional<Time> stored_at;
};
struct HeldResource {
  std::vector<HeldSnapshot> snapshots;
  std::vector<HeldWal> wal;  // by timeline and LSN
};
struct Holdings {
  std::string vault;
  std::string site;                               // where it stands; "" is a site of its own
  std::map<std::string, HeldResource> resources;  // by the resource's name
  std::string medium;                             // what it lies on
};
// `list`: all that the vault has.
Result<Holdings> holdings_of(Vault& vault, const SnapshotList& list, std::string name, std::string site);

struct Loss {
  std::string resource;
  enum class Kind {
    kNothing,
    kSnapshots,  // some that stand nowhere else; the newest state can be restored all the same
    kNewer,      // what is newer than `newer_than`
    kEverything,
  } kind = Kind::kNothing;
  std::optional<Time> newer_than;
  uint64_t snapshots = 0, wal_objects = 0;  // that stand nowhere else
};
struct SiteLoss {
  std::string site;
  std::vector<std::string> vaults;
  std::vector<Loss> losses;  // of each resource that these vaults hold, by name
};
// The rule of three copies (the original is one) on two media, one of them at another site.
struct Original {
  std::string resource, site, medium;
};
struct CopiesScore {
  static constexpr size_t kCopies = 3, kMedia = 2, kOffsite = 1;
  std::string resource;
  std::vector<std::string> vaults;   // that hold a snapshot of it
  std::vector<std::string> media;    // the original's first
  std::vector<std::string> offsite;  // of the vaults, those at another site
  size_t copies() const { return vaults.size() + 1; }
  bool is_kept() const { return copies() >= kCopies && media.size() >= kMedia && offsite.size() >= kOffsite; }
};
std::vector<CopiesScore> score_copies(const std::vector<Holdings>& vaults,
                                      const std::vector<Original>& originals);

// By site.
std::vector<SiteLoss> losses_by_site(const std::vector<Holdings>& vaults);

}  // namespace kuramori
