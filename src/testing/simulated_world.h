// The world of a simulation: one store in memory, the model of what must hold of it, and the faults it makes.
//
// Every change of the store is held against the protocol's invariants the moment it happens (I1 … I11; I12 is
// checked at the end of a schedule, by src/testing/simulation.cc). The model is kept apart from the product's
// code: it reads the records as they land and never asks the product what it thinks.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vault/names.h"
#include "vault/record_codec.h"

namespace kuramori::testing {

// splitmix64: seeded, fast, and good enough to choose schedules.
class Dice {
 public:
  explicit Dice(uint64_t seed = 0) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((next() >> 32) * n >> 32); }
  bool one_in(uint32_t n) { return n != 0 && below(n) == 0; }
  bool percent(uint32_t p) { return below(100) < p; }

 private:
  uint64_t state_;
};

struct Violation {
  std::string invariant;  // "I1"
  std::string text;
};

// A snapshot as the model sees it.
struct ModelNeed {
  std::string object;
  uint64_t hash = 0;    // of its content
  uint32_t frames = 0;  // of a pack: a bit for each frame that is needed
};

// A simulated thin pack: magic:8 hash of the whole pack:8 frames:4 filler, a byte a frame: so fewer frames
// are fewer bytes. The last 8 bytes are the hash of what is before them.
constexpr uint32_t kPackFrames = 4;
constexpr size_t kWholePackBytes = 64;
Bytes make_thin(uint64_t whole, uint32_t frames);
struct Thin {
  uint64_t whole;
  uint32_t frames;
};
std::optional<Thin> parse_thin(ByteView bytes);
uint32_t mask_of(const std::vector<FrameRange>& frames);
std::vector<FrameRange> ranges_of(uint32_t mask);

struct ModelCommit {
  SnapshotId snapshot;
  ResourceId resource;
  std::vector<ModelNeed> needs;
  std::optional<WalSpan> wal;
  uint64_t object_hash = 0;
  bool visible = true;
  uint64_t epoch = 0;
};

// Where an object stands. With one place everything is in the objects.
enum class Place : uint8_t { kObjects, kLedger, kNewLedger };

struct WorldState {
  using Objects = std::map<std::string, Bytes, std::less<>>;
  Objects objects;
  // Two places: the objects ignore conditions; a ledger may be replaced while its users go on.
  bool two_places = false;
  Objects ledgers[2];
  uint64_t begun = 0, sealed = 0;  // newest epochs; 0 with one place
  Place in_force = Place::kLedger;
  std::set<std::string, std::less<>>
      mirrored;  // commits that the objects held before a newer epoch was begun
  std::set<std::string, std::less<>> promised;   // … whose writer was told of success
  std::set<std::string, std::less<>> deletable;  // swept, and the objects held the sweep before …
  Objects& at(Place place) {
    return place == Place::kObjects ? objects : ledgers[place == Place::kLedger ? 0 : 1];
  }
  std::map<std::string, ModelCommit, std::less<>> commits;
  std::map<std::string, ModelCommit, std::less<>> void_commits;  // landed in a ledger no longer in force
  std::set<std::string, std::less<>> decided;                    // commit keys that were ever occupied
  std::map<std::string, SessionRecord, std::less<>> sessions;
  struct Gc {
    std::vector<std::string> plan;
    std::vector<std::string> must_be_decided;  // sessions that stood when the plan landed: their commit keys
    bool swept = false;
  };
  std::map<uint64_t, Gc> gc;
  std::set<std::string, std::less<>> swept;
  struct Prune {
    std::vector<std::string> intent;
    bool finished = false;
  };
  std::map<uint64_t, Prune> prunes;
  std::set<SnapshotId> held;             // holds that were confirmed and not given up
  std::set<SnapshotId> proven;           // with a passed proof that is stored
  std::set<SnapshotId> proof_confirmed;  // whose prover was told that it counts
  std::set<SnapshotId> pruned;
  std::map<SessionId, std::string> readers;  // confirmed and not over: what they read
  std::set<std::string, std::less<>>
      rotten;  // origins whose bytes the world spoilt: what stands may be wrong
  std::vector<names::WalName> wal_removed;
  uint64_t wal_position = 0;  // all WAL before it was put
};

class World {
 public:
  explicit World(RecordCodec& codec, std::vector<std::string> muted = {})
      : codec_(codec), muted_(std::move(muted)) {}
  void reset(const WorldState* state);
  WorldState& state() { return state_; }

  // Effects, as they land. A put lands only where nothing is, or where nothing asks.
  bool land_put(Place place, std::string_view name, ByteView bytes);
  void land_remove(Place place, std::string_view name);
  // What actors claim, and what they ask for.
  void remove_issued(std::string_view name);
  void success_reported(std::string_view commit, const Digest& digest);
  void hold_confirmed(const SnapshotId& snapshot);
  void proof_confirmed(const SnapshotId& snapshot);
  void reader_confirmed(const SessionId& reader, const std::string& commit);
  // Every stored object but what visible snapshots need, when everything is at rest (I12).
  void check_nothing_left();
  // Flips a bit of what stands at `name`.
  void rot(const std::string& name);
  // I14: of everything visible snapshots need a whole incarnation stands.
  void check_all_whole();

  void violate(std::string invariant, std::string text);
  const std::optional<Violation>& violation() const { return violation_; }

 private:
  // `full`: the name that the bytes are bound to; `name`: without its epoch.
  struct Landed {
    std::string full, name;
    uint64_t epoch = 0;
    ByteView bytes;
  };
  void record_landed(const Landed& landed);
  void commit_landed(const Landed& landed);
  std::optional<ModelCommit> model_of(const Landed& landed, std::string& trouble);
  void gc_landed(const Landed& landed);
  void prune_landed(const Landed& landed);
  void mirror_landed(const Landed& landed);
  void seal_landed(Place place, const std::string& name, ByteView bytes);
  // Whether some incarnation of `need` stands with these bytes and may stay; "" or what is wrong.
  std::string trouble_of(const ModelNeed& need) const;
  void must_not_be_needed(std::string_view name, const char* invariant);
  // Whether an incarnation of what `name` holds stands besides it, whole, and was never swept.
  bool has_another(std::string_view name, const ModelNeed& need) const;
  bool is_known(std::string_view origin) const;  // to some commit
  bool is_alone(std::string_view name) const;    // something visible or being read needs what only it holds
  void wal_must_not_be_needed(const names::WalName& wal);

  RecordCodec& codec_;
  std::vector<std::string> muted_;
  WorldState state_;
  std::optional<Violation> violation_;
};

}  // namespace kuramori::testing
