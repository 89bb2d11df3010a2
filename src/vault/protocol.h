// What every actor of the safety protocol works with, and the mistakes the simulation can plant in it.
//
// The protocol (docs/vault-format.md, "Sessions, prune and collection") lets writers, readers, pruners and
// collectors work on one vault at once, each of them able to stop for ever at any step, without a clock that
// anybody trusts. Its code is synchronous and has no threads: every effect goes through the four objects
// below, so that the simulation runs it unchanged (src/testing/simulation.h).
#pragma once
#include <cstdint>
#include <functional>

#include "base/world.h"
#include "store/store.h"
#include "vault/record_codec.h"

namespace kuramori {

// Mistakes one makes again, numbered as in the list the protocol was checked against. The simulation switches
// on one at a time and must catch it: that proves it is not blind. Products never set any.
enum class PlantedBug : uint8_t {
  kNone = 0,
  kChecksBeforeSession = 1,    // condemned names and parents are read before the session stands
  kNoRescue = 2,               // the sweep is the plan
  kNeitherWaitNorFence = 3,    // undecided sessions are ignored
  kCommitsBeforeSessions = 4,  // the rescue lists commits before it lists sessions
  kRescueOpenOnly = 5,         // only commits of sessions that were seen open are rescued
  kDeleteBeforeSweep = 6,      // deletes before the sweep is stored
  kLoserDeletesOwnList = 7,    // deletes what it computed, not what is stored
  kAbandonRemovesPlan = 8,     // gives up a plan by removing it
  kPruneRemovesCommit = 9,     // prunes by removing the commit key
  kFenceRemoved = 10,          // cleans up FENCED
  kGcRemoved = 11,             // removes gc/<n> when it is done
  kIndexCachedBefore = 12,    // what it may refer to it knew before its session stood (and gc/<n> is removed)
  kParentsNotRead = 13,       // does not read its parents again (and gc/<n> is removed)
  kOpenSessionExempt = 14,    // does not wait for sessions that declared nothing
  kAnyRefusalIsSuccess = 15,  // takes every "exists" at its commit key as its own commit
  kTimeoutIsSuccess = 16,     // takes an unknown outcome of an upload as done
  kCopyWithoutSession = 17,   // a copier puts packs and commits without a session of its own
  kCopyKeepsNames = 18,       // … under the names they have at home
  kCopyFencedForEver = 19,    // … at one commit key for all attempts at a snapshot
  kAckBeforeMirror = 20,      // success is told before the objects hold the commit
  kWriterSkipsEpoch = 21,     // a writer does not look whether its ledger is still in force
  kTombstoneNotMirrored = 22,  // a prune stands in the ledger alone
  kSweepNotMirrored = 23,      // so does a sweep, and deletes are done by it
  kRebuildListsFirst = 24,     // a rebuild lists the objects before it announces itself
  kNoSeal = 25,                // a rebuilt ledger believes whatever an older one left, whenever it comes
  kPruneUnnumbered = 26,       // two prunes may run at once
  kHoldsReadFirst = 27,        // reads the holds before the intent stands
  kCondemnedCounts = 28,       // what a collection condemned counts as a place that holds frames
  kFramesOnlyCounted = 29,     // … that holds enough frames, whichever they are
  kReaderChecksFirst = 30,     // a reader announces itself after it looked for prunes
  kWalIgnoresSessions = 31,    // the WAL floor does not count open sessions
  kClonesNotCompared = 32,     // takes every "exists" at its session or pack as its own
  kUnreadableIsAbsent = 33,    // skips commits that it cannot read
  kListTruncated = 34,         // believes the first page of a listing to be all
  kRetryDiffers = 35,          // retries a put with other bytes
  kHealRemovesFirst = 36,      // healing removes what is damaged before a whole one stands
  kHealTrustsSent = 37,        // … relies on what it sent without reading it back
  kGcRemovedCarefully = 111,   // removes gc/<n> when done, not the newest, and no session is open
  kCollectorSkipsEpoch = 121,  // nor does a collector
};

struct ProtocolBugs {
  PlantedBug planted = PlantedBug::kNone;
  bool has(PlantedBug bug) const { return planted == bug; }
};

// Two places: what must be put exactly once — sessions, commits, prunes, collections — stands in a ledger,
// everything else and a mirror of what the ledger decided in the objects (vault/epochs.h).
struct Epoch {
  uint64_t number = 0;
  Store* ledger = nullptr;  // none: the objects alone are at hand; that is enough to read, not to decide
  EpochRecord seal;         // what the epoch began with
};

// One actor's means. Borrowed by the sessions, pruners and collectors made with it: it must outlive them.
struct Protocol {
  Store& store;  // the objects; with one place, everything
  RecordCodec& codec;
  Clock& clock;
  Random& random;
  SignerId self;  // whose signature the codec makes; the first 4 bytes begin each session id it draws
  // Keepers and owners. Plans, sweeps, prunes and fences of anybody else are not believed.
  std::function<bool(const SignerId&)> may_delete;
  // Writers and owners. A commit of anybody else is unverifiable. None: the codec's word is enough.
  std::function<bool(const SignerId&)> may_commit = {};
  ProtocolBugs bugs = {};         // for the simulation
  const Epoch* epoch = nullptr;   // set when there are two places
  KnownRecords* known = nullptr;  // for a look alone (vault/overview.h); whoever decides reads what stands
};

}  // namespace kuramori
