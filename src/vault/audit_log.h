// Who did what in a vault: a chain of signed records for each key, so that none of them can be changed, moved
// or taken out of the middle unnoticed. docs/vault-format.md, "The audit log"; ADR 20 says why it is as it
// is.
//
// A chain's end proves nothing about itself. What proves it are heads: of other chains, in the records of
// keepers, readers and owners, and those that a machine remembers of what it saw.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "vault/vault.h"

namespace kuramori {

// Puts the next record of this key's chain; any number of processes may do so at once. `known`: the newest
// that this machine has seen of the chain; then nothing before it is listed or read. `heads`: of other
// chains, which this record is to bind. `when`: the act's. kDamaged: the vault does not know this key, or
// took its grant back; nothing is put.
Result<AuditHead> append_act(Vault& vault, const AuditAct& act, Time when,
                             const std::optional<AuditHead>& known = {},
                             const std::vector<AuditHead>& heads = {});

struct AuditEntry {
  std::string name;               // of the record, also of one that stands in an archive
  std::string object;             // what holds it: the same, or the archive
  std::optional<SignerId> chain;  // none: what the owner did about keys
  SignerId signer;
  std::string key_name;
  Role role = Role::kOwner;
  uint64_t number = 0;
  Time at;
  std::optional<AuditAct> act;  // nothing: this key may not read it
  Digest digest, previous;
  std::vector<AuditHead> heads, expired;
  std::optional<Time> stored_at;  // by the store's clock
};

// What does not hold, about one object.
struct AuditFinding {
  std::string object;
  std::string what;
};

struct AuditReading {
  std::vector<AuditEntry> entries;     // by time, then by chain and number
  std::vector<AuditFinding> findings;  // none: every chain holds, as far as anything can prove
  std::vector<AuditHead> heads;        // the newest authentic record of each chain
  std::vector<std::string> doubled;    // records that stand by themselves and in an archive
  size_t archives = 0;
};
// Reads and verifies all of it. `remembered`: heads that this machine saw before. What is damaged, missing,
// replayed or not authentic is a finding; only a store that cannot be read is an error.
Result<AuditReading> read_audit(Vault& vault, const std::vector<AuditHead>& remembered = {});

// The newest act of the owner about keys that has this name (kAuditKitMade); nothing: there is none. Any key
// may ask, for what such acts are is sealed to nobody. A listing, and reads from the newest on; what is not
// an authentic record of the owner's is passed over.
Result<std::optional<AuditEntry>> newest_key_act(Vault& vault, std::string_view action);

// Heads alone: a listing, and one read a chain.
Result<std::vector<AuditHead>> newest_heads(Vault& vault);

struct AuditKeeping {
  Period online{.seconds = 90 * 86400};  // at hand: each record an object of its own
  Period archive{.months = 36};          // and so long in all
};
struct AuditTidied {
  size_t archived = 0;  // records that an archive now holds
  size_t removed = 0;   // objects whose records an archive holds, or whose time is over
  size_t left = 0;      // those that the store would not let go
  size_t expired = 0;   // records whose time was over
};
constexpr size_t kAuditArchiveMin = 100;     // records; fewer are not worth an object
constexpr size_t kAuditArchiveMax = 10'000;  // records in one archive

// Archives what has been at hand for long enough, and lets go what has been kept for long enough: never by a
// record's own time alone, where the store says when it got it. For keepers and owners. Refuses where the log
// does not hold: then nothing of it may be moved. `now` must be within an hour of the store's clock before
// anything goes for good.
Result<AuditTidied> tidy_audit(Vault& vault, const AuditKeeping& keeping, const AuditAct& act,
                               size_t at_least = kAuditArchiveMin);

}  // namespace kuramori
