// Scrub: reads a whole vault again and names everything that is not as it was written.
//
// Structure is checked by checksum and authenticity, packs and WAL by the checksums of their stripes (no
// content key is needed), and every visible snapshot by what its signed commit binds: each object is there,
// and is the one bound. What was lost is found by what still speaks of it: commits by their chain, by holds,
// proofs and prunes, and by the heads that a caller remembers.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "vault/vault.h"

namespace kuramori {

enum class ScrubSeverity : uint8_t {
  kNote = 1,        // worth knowing: unknown objects, holes in WAL
  kUnreadable = 2,  // the store did not give it; says nothing about the bytes
  kDamage = 3,      // lost, changed, forged or put in another's place
};

struct ScrubFinding {
  std::string object;
  std::string what;
  std::vector<SnapshotId> snapshots;  // visible ones that cannot be fully restored because of it; sorted
  ScrubSeverity severity = ScrubSeverity::kDamage;
  bool superseded = false;  // a note: damaged, and whole as another incarnation, which readers take
};

// The newest commit of a resource that a caller has seen: proof that it was there.
struct RememberedHead {
  std::string commit;
  Digest digest;  // of the commit object
};

struct ScrubOptions {
  std::vector<RememberedHead> heads;
  // When each pack and WAL object was last found whole (Unix ns); those not named come first, then the
  // longest ago.
  const std::map<std::string, int64_t>* last_verified = nullptr;
  // Only packs and WAL that were last found whole before this moment (Unix ns), or never.
  std::optional<int64_t> verified_before_ns;
  // Of time for packs and WAL; the small objects are always all checked. Nothing: no limit.
  std::optional<Duration> budget;
  // Told now and then of packs and WAL objects just found whole, so that a run that is killed was not in
  // vain.
  std::function<void(const std::vector<std::string>&)> remember;
  // Packs and WAL objects that are read at the same time, each in a thread: far away, each read is a round
  // trip.
  size_t read_at_once = 1;
  std::stop_token stop;
};

struct ScrubResult {
  std::vector<ScrubFinding> findings;  // by object
  std::vector<std::string> verified;   // packs and WAL objects found whole in this run, for `last_verified`
  std::vector<std::string> gone;       // named by `last_verified`, and no longer here or no longer whole
  uint64_t objects = 0;                // checked
  uint64_t bytes = 0;                  // read
  uint64_t objects_left = 0;           // due, and not reached within the budget
  uint64_t objects_cold = 0;           // due, there, and not to be read before they are thawed
  // Of all packs and WAL objects, after this run:
  uint64_t never_verified = 0;
  std::optional<int64_t> oldest_verified_ns;  // of the others
  uint64_t snapshots = 0;                     // visible
  bool damaged() const;                       // the caller exits 4
  bool unreadable() const;
};

// Fails only when the vault cannot be listed, or is asked to stop (kInterrupted).
Result<ScrubResult> scrub(Vault& vault, const ScrubOptions& options, Reporter& reporter);

}  // namespace kuramori
