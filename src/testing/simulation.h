// The deterministic simulation of the safety protocol: writers, collectors, pruners, holders, readers and the
// archiver of WAL, all of them unchanged product code, interleaved at every store call by a seeded scheduler
// over one simulated store with faults. One seed is one schedule, and replays exactly.
//
// How a schedule is searched: the seed draws a scenario (who takes part, which faults, what stands at the
// start) and a strategy: a random walk, a walk that stays with one actor for a while (one that stalls at a
// bad moment is found), or priorities with few changes (PCT: finds an order of d steps with known
// probability). Apart from that, `run_preemptions` walks through *all* schedules of a small scenario with at
// most so many preemptions.
//
// Not thread-safe; several Simulations may run in several threads.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "testing/simulated_world.h"
#include "vault/protocol.h"

namespace kuramori::testing {

enum class Scenario : uint8_t {
  kPair,       // a writer, a collector, a pruner
  kCrowd,      // two writers that restart, two collectors, a pruner
  kPeople,     // two pruners, a holder, one who proves, a writer
  kReaders,    // readers, a pruner, two collectors
  kWal,        // archiver, writers in closed mode, pruner, collector
  kClones,     // two writers with one random source
  kGarbled,    // reads give wrong bytes now and then
  kRetained,   // the store refuses to delete some objects
  kRescue,     // starts where a plan stands whose objects a later commit refers to; two collectors, writer,
               // pruner
  kTwoPlaces,  // a ledger beside objects that ignore conditions; the owner founds a new one while the old
               // one's users go on
  kReplica,    // copiers bring the snapshots of another vault; collectors and a pruner work there
  kRot,        // some content is damaged; healers bring it back from another vault over a line that spoils
  kThin,       // little is needed of some packs; compactors thin them while everybody else goes on
  kScenarios   // how many there are
};

struct SimulationOptions {
  PlantedBug bug = PlantedBug::kNone;
  std::optional<Scenario> only;  // else the seed chooses
  // Violations of these are passed over: to see what follows from a mistake, not only the mistake.
  std::vector<std::string> muted;
  bool trace = false;  // print each step to standard error
  // A codec for every actor, in place of the one without cryptography (slower), and who signs with it.
  RecordCodec* codec = nullptr;
  SignerId signer;
};

struct ScheduleResult {
  std::optional<Violation> violation;
  uint64_t steps = 0;    // store calls
  bool endless = false;  // was cut off
  // What took place, so that a run can tell whether it looked at anything.
  uint32_t commits = 0, sweeps = 0, deletes = 0, prunes = 0, fences = 0, holds = 0, reads = 0, copies = 0,
           epochs = 0, heals = 0, thinned = 0;
};

// A forced change of actors: before store call `step`, go on with the `actor`-th of those that can.
struct Preemption {
  uint64_t step;
  uint32_t actor;
};

class Simulation {
 public:
  explicit Simulation(SimulationOptions options);
  ~Simulation();
  ScheduleResult run(uint64_t seed);
  // One schedule of a fault-free kPair without choices of the scheduler: actors run one after the other, but
  // for these preemptions (ascending steps). The seed says what the actors do.
  // `at_end`: who goes on when an actor is through, the first or the last of those left.
  enum class AtEnd { kFirst, kLast };
  ScheduleResult run_scripted(uint64_t seed, const std::vector<Preemption>& preemptions, AtEnd at_end);

 private:
  struct Run;
  std::unique_ptr<Run> run_;
};

// Walks through every schedule of kPair with at most `preemptions_max` (1 or 2) preemptions, `stride`-th
// second ones alone; stops at the first violation. Returns how many were run.
struct ExhaustiveResult {
  uint64_t schedules = 0;
  std::optional<Violation> violation;
  std::vector<Preemption> preemptions;  // of the violation
};
ExhaustiveResult run_preemptions(const SimulationOptions& options, uint64_t seed, int preemptions_max,
                                 uint64_t stride = 1);

}  // namespace kuramori::testing
