#include "testing/simulation.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "testing/fiber.h"
#include "testing/plain_codec.h"
#include "vault/collector.h"
#include "vault/compactor.h"
#include "vault/copier.h"
#include "vault/epochs.h"
#include "vault/healer.h"
#include "vault/holds.h"
#include "vault/pruner.h"
#include "vault/session.h"

namespace kuramori::testing {
namespace {

constexpr uint64_t kStepsMax = 6000;  // of one schedule; a run that needs more does not end by itself
constexpr int kSoloCollections = 3;   // I12: runs of a lone collector that remove all garbage
constexpr uint64_t kSegment = 16;     // bytes of a simulated WAL segment

// Chances in percent unless said otherwise.
struct Faults {
  uint32_t unknown = 0;   // a put or delete answers kUnknown: it happened, did not, or will
  uint32_t late = 0;      // … and of those, lands later
  uint32_t repeat = 0;    // what landed late lands once more
  uint32_t garbled = 0;   // per thousand reads: wrong bytes
  uint32_t retained = 0;  // of the content objects cannot be deleted
  uint32_t crash = 0;     // of the actors stop at a random call
  uint32_t page = 1000;   // names a page of a listing
};

struct Cast {
  int writers = 1, attempts = 1, collectors = 1, collections = 1, pruners = 0, prunes = 1, holders = 0,
      provers = 0, readers = 0, archivers = 0, owners = 0, newcomers = 0, copiers = 0, healers = 0,
      compactors = 0;
  bool two_places = false;
  bool clones = false;
  uint32_t closed = 50;  // percent of the writers' sessions
  uint32_t dead = 30;    // percent: a collector takes an open session for dead
  bool give_up = false;  // the first collector's breaker always trips
  const WorldState* start = nullptr;
};

class SimulatedClock : public Clock {
 public:
  Time now() override { return from_unix_ns(1'700'000'000'000'000'000 + (ns_ += 1000)); }
  Duration steady() override { return Duration(ns_ += 1000); }
  void sleep(Duration duration) override { ns_ += duration.count(); }

 private:
  int64_t ns_ = 0;
};

class SimulatedRandom : public Random {
 public:
  explicit SimulatedRandom(uint64_t seed) : dice_(seed) {}
  void fill(MutableByteView out) override {
    for (size_t at = 0; at < out.size(); at += 8) {
      uint64_t word = dice_.next();
      std::memcpy(out.data() + at, &word, std::min<size_t>(8, out.size() - at));
    }
  }

 private:
  Dice dice_;
};

bool is_keeper(const SignerId& signer) {
  return signer.raw[15] == 1;
}

}  // namespace

struct Simulation::Run {
  struct Actor;

  // The store as one actor sees it: each call is a scheduling point, and may fail.
  class ActorStore : public Store {
   public:
    ActorStore(Run& run, Actor& actor, Place place = Place::kObjects)
        : run_(run), actor_(actor), place_(place) {}
    std::string location() const override { return "simulated"; }
    Result<void> put_if_absent(std::string_view name, ByteView bytes) override {
      return run_.put(actor_, place_, name, bytes);
    }
    Result<Bytes> get(std::string_view name) override { return run_.get(actor_, place_, name); }
    Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
      return run_.list(actor_, place_, prefix, after, limit);
    }
    Result<void> remove(std::string_view name) override { return run_.remove(actor_, place_, name); }
    Result<std::unique_ptr<ObjectWriter>> create(std::string_view) override { return unused(); }
    Result<std::unique_ptr<ObjectReader>> open(std::string_view) override { return unused(); }
    Result<ObjectInfo> head(std::string_view) override { return unused(); }

   private:
    static Error unused() { return fail(ErrorKind::kFailed, "the protocol makes no such call"); }
    Run& run_;
    Actor& actor_;
    Place place_;
  };

  struct Actor {
    Run& run;
    std::string name;
    Dice dice, frame_dice;
    SimulatedClock clock;
    SimulatedRandom random;
    PlainCodec plain;
    ActorStore store;
    std::unique_ptr<ActorStore> ledger;
    std::unique_ptr<Epoch> epoch;
    Protocol protocol;
    std::unique_ptr<Fiber> fiber;
    bool dead = false;   // every further call fails; its code runs out
    bool alone = false;  // no scheduling, no faults
    int crash_at = -1;   // call
    int restarts = 0;
    int calls = 0;
    int64_t priority = 0;                                        // of the PCT strategy
    std::vector<std::pair<std::string, uint64_t>> put_contents;  // I8, of this life

    Actor(Run& r, std::string n, SignerId signer, uint64_t seed, uint64_t random_seed)
        : run(r),
          name(std::move(n)),
          dice(seed),
          frame_dice(seed ^ 0x5eed),
          random(random_seed),
          plain(signer, seed << 20),
          store(r, *this),
          protocol{store,
                   r.options.codec ? *r.options.codec : plain,
                   clock,
                   random,
                   r.options.codec ? r.options.signer : signer,
                   keeper_test(r.options),
                   {},
                   {r.options.bug}} {}
    static std::function<bool(const SignerId&)> keeper_test(const SimulationOptions& options) {
      if (options.codec == nullptr) return is_keeper;
      return [owner = options.signer](const SignerId& signer) { return signer == owner; };
    }
    // Whether it may go on with something new: a crashed one may start again.
    bool goes_on() {
      if (!dead) {
        put_contents.clear();
        return true;
      }
      if (restarts == 0 || run.stopping) return false;
      --restarts;
      dead = false;
      crash_at = -1;
      put_contents.clear();
      return true;
    }
  };

  struct Pending {
    uint64_t due;
    bool is_put;
    Place place;
    std::string name;
    Bytes bytes;
    bool repeats;
  };

  explicit Run(SimulationOptions o)
      : options(std::move(o)), world(options.codec ? *options.codec : peek, options.muted) {}

  // ---- the store's calls
  // -------------------------------------------------------------------------------------

  // True: the call takes place now. False: the actor is dead.
  bool step(Actor& actor) {
    if (actor.alone) return true;
    if (actor.dead || stopping) return false;
    schedule(actor);
    if (stopping) {
      actor.dead = true;
      return false;
    }
    ++steps;
    if (!pending.empty()) land_due();
    if (++actor.calls == actor.crash_at) actor.dead = true;  // this call is its last; what it does is open
    return true;
  }
  Error gone() { return fail(ErrorKind::kInterrupted, "stopped"); }
  Error unknown() { return fail(ErrorKind::kUnknown, "timed out"); }
  void trace(const Actor& actor, std::string_view what, std::string_view name, std::string_view outcome) {
    if (options.trace) {
      fmt::print(stderr, "{:5} {:<12} {:<6} {:<90} {}\n", steps, actor.name, what, name, outcome);
    }
  }

  void note_content(Actor& actor, std::string_view name, uint64_t hash) {
    for (const auto& [earlier, content] : actor.put_contents) {
      if (earlier == name && content != hash)
        world.violate("I8", fmt::format("{} is put with two contents", name));
    }
    if (actor.put_contents.empty() || actor.put_contents.back().first != name)
      actor.put_contents.emplace_back(name, hash);
  }

  Result<void> put(Actor& actor, Place place, std::string_view name, ByteView bytes) {
    if (!step(actor)) return gone();
    // What another collector's put decided is mirrored under the name that was lost to it.
    const bool mirrors = place == Place::kObjects && names::parse_in_epoch(name);
    if (!mirrors) note_content(actor, name, quick_hash(bytes));
    if (!actor.alone && (actor.dead || dice.percent(faults.unknown))) {
      uint32_t fate = actor.dead ? dice.below(3) : dice.percent(faults.late) ? 2 : dice.below(2);
      if (fate == 1) land_put(place, name, bytes);
      if (fate == 2) {
        pending.push_back({steps + late_by(), true, place, std::string(name), to_bytes(bytes),
                           dice.percent(faults.repeat)});
      }
      // What landed may land again: a proxy that repeats a request it had no answer to.
      if (fate == 1 && dice.percent(faults.repeat)) {
        pending.push_back({steps + late_by(), true, place, std::string(name), to_bytes(bytes), false});
      }
      trace(actor, "put", name, fate == 0 ? "unknown, lost" : fate == 1 ? "unknown, done" : "unknown, later");
      return actor.dead ? gone() : unknown();
    }
    bool landed = land_put(place, name, bytes);
    trace(actor, "put", name, landed ? "" : "exists");
    if (!landed) return fail(ErrorKind::kExists, "exists");
    return {};
  }
  bool land_put(Place place, std::string_view name, ByteView bytes) {
    bool landed = world.land_put(place, name, bytes);
    if (landed && name.ends_with("/sweep")) ++result.sweeps;
    if (landed && name.ends_with("/final")) ++result.prunes;
    return landed;
  }

  Result<void> remove(Actor& actor, Place place, std::string_view name) {
    if (!step(actor)) return gone();
    world.remove_issued(name);
    if (faults.retained != 0 && quick_hash(as_bytes(name)) % 100 < faults.retained) {
      trace(actor, "remove", name, "denied");
      return fail(ErrorKind::kDenied, "retained");
    }
    if (!actor.alone && (actor.dead || dice.percent(faults.unknown))) {
      uint32_t fate = actor.dead ? dice.below(3) : dice.percent(faults.late) ? 2 : dice.below(2);
      if (fate == 1) world.land_remove(place, name);
      if (fate == 2)
        pending.push_back(
            {steps + late_by(), false, place, std::string(name), {}, dice.percent(faults.repeat)});
      trace(actor, "remove", name,
            fate == 0   ? "unknown, lost"
            : fate == 1 ? "unknown, done"
                        : "unknown, later");
      return actor.dead ? gone() : unknown();
    }
    world.land_remove(place, name);
    ++result.deletes;
    trace(actor, "remove", name, "");
    return {};
  }

  Result<Bytes> get(Actor& actor, Place place, std::string_view name) {
    if (!step(actor)) return gone();
    const auto& objects = world.state().at(place);
    auto at = objects.find(name);
    trace(actor, "get", name, at == objects.end() ? "not found" : "");
    if (at == objects.end()) return fail(ErrorKind::kNotFound, "not found");
    if (!actor.alone && faults.garbled != 0 && dice.below(1000) < faults.garbled) {
      Bytes wrong = at->second;
      if (dice.one_in(2)) {
        wrong.resize(dice.below(static_cast<uint32_t>(wrong.size())));  // a short read
      } else {
        wrong[dice.below(static_cast<uint32_t>(wrong.size()))] ^= 0x40;
      }
      return wrong;
    }
    if (!actor.alone && faults.unknown != 0 && dice.one_in(200)) return unknown();
    return at->second;
  }

  Result<ListPage> list(Actor& actor, Place place, std::string_view prefix, std::string_view after,
                        size_t limit) {
    if (!step(actor)) return gone();
    if (!actor.alone) limit = std::min<size_t>(limit, faults.page);
    const auto& objects = world.state().at(place);
    ListPage page;
    for (auto at = after.empty() ? objects.lower_bound(prefix) : objects.upper_bound(after);
         at != objects.end() && at->first.starts_with(prefix); ++at) {
      if (page.objects.size() == limit) {
        page.more = true;
        break;
      }
      page.objects.push_back({at->first, at->second.size(), {}});
    }
    trace(actor, "list", prefix, page.more ? "more" : "");
    return page;
  }

  // ---- late effects
  // ------------------------------------------------------------------------------------------

  uint64_t late_by() { return 1ull << dice.below(8); }
  void land(Pending& effect) {
    if (options.trace)
      fmt::print(stderr, "{:5} late         {:<6} {}\n", steps, effect.is_put ? "put" : "remove",
                 effect.name);
    if (effect.is_put) {
      land_put(effect.place, effect.name, effect.bytes);
    } else {
      world.land_remove(effect.place, effect.name);
    }
  }
  void land_due() {
    for (size_t i = 0; i < pending.size();) {
      if (pending[i].due > steps) {
        ++i;
        continue;
      }
      land(pending[i]);
      if (pending[i].repeats) {
        pending[i].repeats = false;
        pending[i].due = steps + late_by();
      } else {
        pending[i] = std::move(pending.back());
        pending.pop_back();
      }
    }
  }

  // ---- the scheduler
  // -----------------------------------------------------------------------------------------

  enum class Strategy { kWalk, kSticky, kPriorities, kScripted };

  // Called by the running actor before its call: who goes on?
  void schedule(Actor& self) {
    if (world.violation() || steps >= kStepsMax) {
      stopping = true;
      return;
    }
    Actor* chosen = choose(&self);
    if (chosen == &self) return;
    next = chosen;
    Fiber::pause();
  }

  Actor* choose(Actor* running) {
    auto any = [&] { return runnable[dice.below(static_cast<uint32_t>(runnable.size()))]; };
    switch (strategy) {
      case Strategy::kWalk:
        return any();
      case Strategy::kSticky:
        return running && !dice.one_in(switch_one_in) ? running : any();
      case Strategy::kPriorities: {
        if (running && !change_at.empty() && steps >= change_at.back()) {
          change_at.pop_back();
          running->priority = -static_cast<int64_t>(steps) - 1;  // below all others
        }
        return *std::ranges::max_element(runnable, {}, [](Actor* a) { return a->priority; });
      }
      case Strategy::kScripted:
        if (!script.empty() && steps >= script.front().step) {
          Preemption forced = script.front();
          script.erase(script.begin());
          return runnable[forced.actor % runnable.size()];
        }
        return running ? running : at_end == AtEnd::kFirst ? runnable.front() : runnable.back();
    }
    return running;
  }

  void run_fibers() {
    runnable.clear();
    for (auto& actor : actors) runnable.push_back(actor.get());
    next = nullptr;
    while (!runnable.empty()) {
      Actor* actor = next ? next : stopping ? runnable.front() : choose(nullptr);
      next = nullptr;
      actor->fiber->resume();
      if (actor->fiber->done()) {
        std::erase(runnable, actor);
        if (next == actor) next = nullptr;
      }
    }
  }

  // ---- the actors
  // --------------------------------------------------------------------------------------------

  Actor& add(std::string name, uint8_t number, bool keeper, uint64_t dice_seed, uint64_t random_seed,
             std::function<void(Actor&)> program) {
    SignerId signer;
    signer.raw[0] = number;
    signer.raw[1] = 0xaa;
    signer.raw[15] = keeper ? 1 : 0;
    auto actor = std::make_unique<Actor>(*this, std::move(name), signer, dice_seed, random_seed);
    Actor* self = actor.get();
    if (dice.percent(faults.crash)) {
      actor->crash_at = 1 + static_cast<int>(dice.below(60));
      actor->restarts = dice.one_in(2) ? 1 : 0;
    }
    actor->priority = static_cast<int64_t>(dice.below(1 << 20));
    actor->fiber = std::make_unique<Fiber>([self, program = std::move(program)] { program(*self); });
    actors.push_back(std::move(actor));
    return *self;
  }

  static ResourceId resource() {
    ResourceId id;
    id.raw[0] = 0x5e;
    return id;
  }

  std::string any_commit(Dice& d, bool visible_only) {
    std::vector<const std::string*> names;
    for (const auto& [name, commit] : world.state().commits) {
      if (commit.visible || (!visible_only && d.one_in(4))) names.push_back(&name);
    }
    return names.empty() ? "" : *names[d.below(static_cast<uint32_t>(names.size()))];
  }

  // Draws a session, uploads, refers to parents' packs, commits; starts over when it was fenced.
  void write(Actor& a, int attempts, uint32_t closed, bool wal) {
    std::string previous;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      if (!a.goes_on()) return;
      WriterOptions w{
          .resource = resource(), .snapshot = a.random.id<SnapshotId>(), .closed = a.dice.percent(closed)};
      for (int i = a.dice.below(3); i > 0; --i) {
        std::string parent = any_commit(a.dice, false);
        if (!parent.empty() && !std::ranges::count(w.parents, parent)) w.parents.push_back(parent);
      }
      if (wal) {
        w.wal_timeline = 1;
        w.wal_floor = world.state().wal_position;
      }
      auto session = WriterSession::open(a.protocol, w);
      if (!session) continue;
      LiveRecord live;
      bool uploaded = true;
      for (int i = 1 + a.dice.below(2); i > 0 && uploaded; --i) {
        Bytes content(kWholePackBytes);
        store_le(content.data(), a.dice.next());
        LivePack pack{
            .name = (*session)->next_pack_name(), .size = content.size(), .frames = {{0, kPackFrames}}};
        store_le(pack.trailer_digest.raw.data(), quick_hash(content));
        uploaded = (*session)->put_object(pack.name, content).has_value();
        live.packs.push_back(std::move(pack));
      }
      if (!uploaded) continue;
      for (const Parent& parent : (*session)->parents()) {
        for (const LivePack& pack : parent.live->packs) {
          bool there =
              std::ranges::any_of(live.packs, [&](const LivePack& p) { return p.name == pack.name; });
          // Condemned, yet perhaps held by a thin one: whether it may refer to that is for commit() to say.
          const bool tries = has_compactors && a.frame_dice.one_in(2);
          if (there || (!tries && !(*session)->may_refer_to(pack.name)) || a.dice.one_in(5)) continue;
          const uint32_t mask = mask_of(pack.frames);
          const uint32_t fewer = mask & a.frame_dice.below(1u << kPackFrames);
          live.packs.push_back(pack);
          if (fewer != 0) live.packs.back().frames = ranges_of(fewer);
        }
      }
      if (a.dice.one_in(16)) {
        (void)(*session)->abandon("changed its mind");
        continue;
      }
      CommitRecord record{.kind = "simulated", .started_ns = 1, .finished_ns = static_cast<int64_t>(steps)};
      if (wal) record.wal = WalSpan{1, w.wal_floor, world.state().wal_position};
      if (a.dice.one_in(2)) record.previous = previous;
      auto committed = (*session)->commit(std::move(record), live);
      if (a.dead || !committed) continue;
      ++result.commits;
      world.success_reported(committed->name, committed->digest);
      previous = committed->name;
      if (a.alone) return;
    }
  }

  void collect(Actor& a, int collections, uint32_t dead, bool give_up) {
    for (int i = 0; i < collections; ++i) {
      if (!a.goes_on()) return;
      CollectOptions c{.sweep_share_max = give_up ? 0.0 : 1.0};
      if (dead != 0) c.is_dead = [&a, dead](const OpenSession&) { return a.dice.percent(dead); };
      SimulatedThinPacks thin(a.protocol);
      Collector collector(a.protocol, &thin);
      auto report = collector.run(c);
      if (report) result.fences += report->fenced.size();
    }
  }

  class SimulatedThinPacks : public ThinPacks {
   public:
    explicit SimulatedThinPacks(const Protocol& protocol) : log_(protocol) {}
    Result<Shape> measure(const LivePack& pack, const std::string& object) override {
      TRY_ASSIGN(Bytes bytes, log_.read_bytes(object));
      TRY(holds(bytes, pack));
      return Shape{std::vector<uint32_t>(kPackFrames, 4), make_thin(0, 0).size()};
    }
    Result<FrameRanges> kept(const LivePack& pack, const std::string& object, Look) override {
      TRY_ASSIGN(Bytes bytes, log_.read_bytes(object));
      auto thin = parse_thin(bytes);
      if (thin && thin->whole == hash_of(pack)) return ranges_of(thin->frames);
      return fail(ErrorKind::kDamaged, object + " is no thin pack");
    }
    Result<void> verify_whole(const LivePack& pack, const std::string& object) override {
      TRY_ASSIGN(Bytes bytes, log_.read_bytes(object));
      if (quick_hash(bytes) == hash_of(pack)) return {};
      return fail(ErrorKind::kDamaged, object + " is damaged");
    }
    Result<void> make(const LivePack& pack, const std::string& from, const FrameRanges& frames,
                      const std::string& to) override {
      TRY_ASSIGN(Bytes bytes, log_.read_bytes(from));
      TRY(holds(bytes, pack));
      TRY(log_.put_bytes(to, make_thin(hash_of(pack), mask_of(frames))));
      TRY_ASSIGN(FrameRanges there, kept(pack, to, Look::kEveryByte));
      if (there == frames) return {};
      return fail(ErrorKind::kDamaged, to + " does not read back");
    }
    Result<bool> is_locked(const std::string&) override { return false; }
    static Result<void> holds(ByteView bytes, const LivePack& pack) {
      auto thin = parse_thin(bytes);
      const bool whole = quick_hash(bytes) == hash_of(pack);
      if (whole || (thin && thin->whole == hash_of(pack) && (mask_of(pack.frames) & ~thin->frames) == 0))
        return {};
      return fail(ErrorKind::kDamaged, pack.name + " is damaged");
    }

   private:
    static uint64_t hash_of(const LivePack& pack) {
      return load_le<uint64_t>(pack.trailer_digest.raw.data());
    }
    RecordLog log_;
  };

  // Thins whatever it may, then collects, as `vault collect` does.
  void compact(Actor& a, int rounds, uint32_t dead) {
    for (int i = 0; i < rounds; ++i) {
      if (!a.goes_on()) return;
      if (a.dice.one_in(2)) collect(a, 1, dead, false);
      SimulatedThinPacks thin(a.protocol);
      auto report = Compactor(a.protocol, thin).run({.live_share_max = 0.95});
      if (report && !a.dead) result.thinned += report->packs;
      if (!a.goes_on()) return;
      collect(a, 1 + static_cast<int>(a.dice.below(2)), dead, false);
    }
  }

  void prune(Actor& a, int prunes) {
    for (int i = 0; i < prunes; ++i) {
      if (!a.goes_on()) return;
      uint32_t share = 30 + a.dice.below(70);
      (void)Pruner(a.protocol).run([&](const CommitListing& commits) -> Result<std::vector<PruneProposal>> {
        std::vector<PruneProposal> proposals;
        for (const VisibleCommit* commit : commits.visible) {
          if (a.dice.percent(share)) proposals.push_back({commit->name, "simulated"});
        }
        return proposals;
      });
    }
  }

  void hold(Actor& a) {
    if (!a.goes_on()) return;
    std::string commit = any_commit(a.dice, true);
    if (commit.empty()) return;
    SnapshotId snapshot = names::parse_commit(commit)->snapshot;
    auto held = place_hold(a.protocol, snapshot, "simulated", "");
    if (a.dead) return;
    if (held || (held.error().kind == ErrorKind::kPartial && confirm_hold(a.protocol, snapshot) && !a.dead)) {
      ++result.holds;
      world.hold_confirmed(snapshot);
    }
    if (!held || !a.dice.one_in(4)) return;
    world.state().held.erase(snapshot);
    (void)release_hold(a.protocol, snapshot, *held, "");
  }

  void prove(Actor& a) {
    for (int i = 0; i < 2; ++i) {
      if (!a.goes_on()) return;
      std::string commit = any_commit(a.dice, true);
      if (commit.empty()) return;
      SnapshotId snapshot = names::parse_commit(commit)->snapshot;
      ProofRecord proof{.snapshot = snapshot,
                        .resource = resource(),
                        .passed = !a.dice.one_in(4),
                        .started_ns = static_cast<int64_t>(steps)};
      auto proven = put_proof(a.protocol, proof, fmt::format("p{}", i));
      if (proven && !a.dead && proof.passed) world.proof_confirmed(snapshot);
    }
  }

  void read(Actor& a) {
    for (int i = 0; i < 2; ++i) {
      if (!a.goes_on()) return;
      std::string commit = any_commit(a.dice, false);
      if (commit.empty()) return;
      auto session = ReaderSession::open(a.protocol, {.resource = resource(), .commits = {commit}});
      if (a.dead || !session) continue;
      ++result.reads;
      world.reader_confirmed(session->id(), commit);
      for (int k = a.dice.below(4); k > 0; --k) (void)a.store.get(commit);  // time passes
      if (a.dead) continue;
      world.state().readers.erase(session->id());
      (void)session->end();
    }
  }

  void archive(Actor& a, int segments) {
    for (int i = 0; i < segments; ++i) {
      if (!a.goes_on()) return;
      uint64_t from = world.state().wal_position;
      names::WalName wal{resource(), 1, from, from + kSegment, names::WalKind::kSegment, "00000000000000aa"};
      (void)RecordLog(a.protocol).put_bytes(names::wal(wal), as_bytes("wal"));
    }
  }

  // ---- two places

  // Opens the ledger, as every process does when it starts.
  bool join(Actor& a, Place place, int tries = 1) {
    a.ledger = std::make_unique<ActorStore>(*this, a, place);
    a.protocol.epoch = nullptr;
    for (int i = 0; i < tries && (a.alone || !a.dead); ++i) {
      auto epoch = open_epoch(a.protocol, a.ledger.get(), a.protocol.may_delete);
      if (!epoch) continue;
      a.epoch = std::move(*epoch);
      a.protocol.epoch = a.epoch.get();
      return true;
    }
    return false;
  }

  bool found(Actor& a, Place place) {
    a.ledger = std::make_unique<ActorStore>(*this, a, place);
    a.protocol.epoch = nullptr;
    auto epoch = found_epoch(a.protocol, *a.ledger, a.protocol.may_delete);
    if (!epoch || (a.dead && !a.alone)) return false;
    a.epoch = std::move(*epoch);
    a.protocol.epoch = a.epoch.get();
    ++result.epochs;
    return true;
  }

  // The old ledger is lost to its owner, though not to everybody.
  void rebuild(Actor& a) {
    for (int k = a.dice.below(60); k > 0 && !a.dead; --k) (void)a.store.get("nothing");  // time passes
    for (int tries = 0; tries < 2; ++tries) {
      if (!a.goes_on()) return;
      if (!found(a, Place::kNewLedger)) continue;
      collect(a, 1, 40, false);
      if (a.dice.one_in(2)) prune(a, 1);
      collect(a, 1, 40, false);
      return;
    }
  }

  std::set<std::string> visible_to(const Protocol& protocol) {
    Ledger ledger(protocol);
    auto commits = ledger.read_commits();
    std::set<std::string> names;
    if (!commits) {
      world.violate("I13", "the commits cannot be read: " + commits.error().what);
    } else {
      for (const VisibleCommit* commit : commits->visible) names.insert(commit->name);
    }
    return names;
  }

  // I13: ledger, objects and model agree on what is visible, once somebody has mirrored what was decided.
  void check_views(Actor& a) {
    Epoch objects_alone{a.epoch->number, nullptr, a.epoch->seal};
    Protocol reader{a.protocol};
    reader.epoch = &objects_alone;
    std::set<std::string> by_ledger = visible_to(a.protocol), by_objects = visible_to(reader), by_model;
    for (const auto& [name, commit] : world.state().commits) {
      if (commit.visible) by_model.insert(name);
    }
    if (by_ledger != by_model || by_objects != by_model) {
      world.violate("I13",
                    fmt::format("{} snapshots are visible by the ledger, {} by the objects, {} should be",
                                by_ledger.size(), by_objects.size(), by_model.size()));
    }
  }

  // ---- copies

  // The vault that is copied from: nobody works there, and reading it takes no steps.
  class SourceStore : public Store {
   public:
    explicit SourceStore(const WorldState& state) : objects_(state.objects) {}
    std::string location() const override { return "source"; }
    Result<void> put_if_absent(std::string_view, ByteView) override { return unused(); }
    Result<Bytes> get(std::string_view name) override {
      auto at = objects_.find(name);
      if (at == objects_.end()) return fail(ErrorKind::kNotFound, "not found");
      return at->second;
    }
    Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) override {
      ListPage page;
      for (auto at = objects_.lower_bound(prefix); at != objects_.end() && at->first.starts_with(prefix);
           ++at) {
        if (at->first <= after) continue;
        if (page.objects.size() == limit) {
          page.more = true;
          break;
        }
        page.objects.push_back({at->first, at->second.size(), {}});
      }
      return page;
    }
    Result<void> remove(std::string_view) override { return unused(); }
    Result<std::unique_ptr<ObjectWriter>> create(std::string_view) override { return unused(); }
    Result<std::unique_ptr<ObjectReader>> open(std::string_view) override { return unused(); }
    Result<ObjectInfo> head(std::string_view) override { return unused(); }

   private:
    static Error unused() { return fail(ErrorKind::kFailed, "nobody writes there"); }
    const WorldState::Objects& objects_;
  };

  class Transfer : public CopyTransfer {
   public:
    Transfer(const Protocol& replica, Store& source) : log_(replica), source_(source) {}
    Result<uint64_t> send(const LivePack& pack, const std::string& to) override {
      TRY_ASSIGN(Bytes bytes, source_.get(pack.name));
      TRY(log_.put_bytes(to, bytes));
      return bytes.size();
    }
    Result<void> check(const LivePack& pack, const std::string& at) override {
      TRY_ASSIGN(Bytes bytes, log_.read_bytes(at));
      return SimulatedThinPacks::holds(bytes, pack);
    }
    bool fits(const ObjectRef& ref, ByteView bytes) override {
      auto opened = log_.protocol().codec.decode(ref.name, bytes);
      return opened && opened->digest == ref.digest;
    }

   private:
    RecordLog log_;
    Store& source_;
  };

  // Copies whatever the replica neither shows nor has pruned. Whether all of it could be done.
  bool copy(Actor& a, int rounds) {
    SourceStore source_store(*source);
    Protocol source_protocol{source_store, a.protocol.codec, a.clock,
                             a.random,     a.protocol.self,  a.protocol.may_delete};
    Ledger from(source_protocol);
    auto there = from.read_commits();
    CHECK(there);
    for (int round = 0; round < rounds; ++round) {
      if (!a.alone && !a.goes_on()) return false;
      Ledger replica(a.protocol);
      auto here = replica.read_commits();
      if (!here) continue;
      Transfer transfer(a.protocol, source_store);
      Copier copier(a.protocol, from, transfer);
      size_t left = 0;
      for (const VisibleCommit* commit : there->visible) {
        const SnapshotId& id = commit->key.snapshot;
        bool shown = std::ranges::any_of(here->visible, [&](auto* c) { return c->key.snapshot == id; });
        bool pruned = std::ranges::any_of(
            here->pruned, [&](const std::string& name) { return names::parse_commit(name)->snapshot == id; });
        if (shown || pruned || (!a.alone && a.dice.one_in(4))) continue;
        ++left;
        auto copied = copier.copy(*commit, {});
        if (!copied || (a.dead && !a.alone)) continue;
        --left;
        ++result.copies;
        auto model = world.state().commits.find(copied->commit);
        if (model == world.state().commits.end())
          world.violate("I4", fmt::format("a copy was reported, and {} does not stand", copied->commit));
      }
      if (a.alone && left == 0) return true;
    }
    return !a.alone;
  }

  // ---- healing

  // The other vault, over a line that spoils some packs on their way.
  class HealTransfer : public HealSource {
   public:
    HealTransfer(const Protocol& protocol, Store& source, Dice* spoils)
        : copy_(protocol, source), log_(protocol), source_(source), spoils_(spoils) {}
    std::string name() const override { return "simulated"; }
    Result<uint64_t> send(const LivePack& pack, const std::string& to) override {
      TRY_ASSIGN(Bytes bytes, source_.get(pack.name));
      if (spoils_ && spoils_->one_in(3)) bytes[spoils_->below(static_cast<uint32_t>(bytes.size()))] ^= 1;
      TRY(log_.put_bytes(to, bytes));
      return bytes.size();
    }
    Result<void> check(const LivePack& pack, const std::string& at) override { return copy_.check(pack, at); }
    bool fits(const ObjectRef& ref, ByteView bytes) override { return copy_.fits(ref, bytes); }
    Result<Bytes> fetch(const ObjectRef& ref) override { return source_.get(ref.name); }

   private:
    Transfer copy_;
    RecordLog log_;
    Store& source_;
    Dice* spoils_;
  };

  void heal(Actor& a, int rounds) {
    SourceStore source_store(*source);
    HealTransfer other(a.protocol, source_store, a.alone ? nullptr : &a.dice);
    for (int i = 0; i < rounds; ++i) {
      if (!a.alone && !a.goes_on()) return;
      Healer healer(a.protocol, {&other, &other}, "simulated");
      if (!healer.look()) continue;
      const auto rotten = world.state().rotten;
      for (const std::string& origin : rotten) {
        if (!a.alone && a.dice.one_in(5)) continue;
        auto healed = healer.heal(origin);
        if (healed && healed->sent_bytes > 0 && !a.dead) ++result.heals;
      }
      (void)healer.finish();
    }
  }

  // Something of what visible snapshots need, packs above all.
  void spoil_some() {
    std::set<std::string> needed;
    for (const auto& [name, commit] : world.state().commits) {
      for (const ModelNeed& need : commit.needs) needed.insert(need.object);
    }
    for (const std::string& name : needed) {
      if (dice.one_in(name.starts_with(names::kPacks) ? 2 : 6)) world.rot(name);
    }
  }

  // ---- scenarios
  // ---------------------------------------------------------------------------------------------

  void stage(const Cast& cast, bool wal) {
    uint8_t number = 1;
    // With two places an actor begins by opening the ledger that its configuration names.
    auto on_ledger = [&](std::function<void(Actor&)> program, Place place = Place::kLedger, int tries = 1) {
      if (!cast.two_places) return program;
      return std::function<void(Actor&)>([this, place, tries, program = std::move(program)](Actor& a) {
        if (join(a, place, tries)) program(a);
      });
    };
    for (int i = 0; i < cast.writers; ++i) {
      uint64_t random_seed = cast.clones ? seed : seed + 100 + i;
      add(fmt::format("writer {}", i), cast.clones ? 1 : number, false, seed * 7 + i, random_seed,
          on_ledger([=, this](Actor& a) { write(a, cast.attempts, cast.closed, wal); }));
      ++number;
    }
    for (int i = 0; i < cast.collectors; ++i) {
      add(fmt::format("collector {}", i), 100 + i, true, seed * 11 + i, seed + 200 + i,
          on_ledger(
              [=, this](Actor& a) { collect(a, cast.collections, cast.dead, cast.give_up && i == 0); }));
    }
    for (int i = 0; i < cast.pruners; ++i) {
      add(fmt::format("pruner {}", i), 110 + i, true, seed * 13 + i, seed + 300 + i,
          on_ledger([=, this](Actor& a) { prune(a, cast.prunes); }));
    }
    for (int i = 0; i < cast.holders; ++i) {
      add(fmt::format("holder {}", i), 120 + i, false, seed * 17 + i, seed + 400 + i,
          on_ledger([this](Actor& a) { hold(a); }));
    }
    for (int i = 0; i < cast.provers; ++i) {
      add(fmt::format("prover {}", i), 130 + i, false, seed * 19 + i, seed + 500 + i,
          on_ledger([this](Actor& a) { prove(a); }));
    }
    for (int i = 0; i < cast.readers; ++i) {
      add(fmt::format("reader {}", i), 140 + i, false, seed * 23 + i, seed + 600 + i,
          on_ledger([this](Actor& a) { read(a); }));
    }
    for (int i = 0; i < cast.archivers; ++i) {
      add("archiver", 150, false, seed * 29 + i, seed + 700 + i, [this](Actor& a) { archive(a, 4); });
    }
    for (int i = 0; i < cast.owners; ++i) {
      add("owner", 160, true, seed * 31 + i, seed + 800 + i, [this](Actor& a) { rebuild(a); });
    }
    constexpr int kNewcomerTries = 30;
    for (int i = 0; i < cast.newcomers; ++i) {
      add(fmt::format("newcomer {}", i), 170 + i, i % 2 == 1, seed * 37 + i, seed + 900 + i,
          on_ledger(
              [=, this](Actor& a) {
                if (i % 2 == 1) {
                  collect(a, 1, cast.dead, false);
                } else {
                  write(a, 1, cast.closed, false);
                }
              },
              Place::kNewLedger, kNewcomerTries));
    }
    for (int i = 0; i < cast.copiers; ++i) {
      add(fmt::format("copier {}", i), 180 + i, true, seed * 41 + i, seed + 1000 + i,
          [=, this](Actor& a) { copy(a, cast.attempts); });
    }
    for (int i = 0; i < cast.healers; ++i) {
      add(fmt::format("healer {}", i), 190 + i, true, seed * 43 + i, seed + 1100 + i,
          [=, this](Actor& a) { heal(a, cast.attempts); });
    }
  }

  void stage_compactors(const Cast& cast) {
    for (int i = 0; i < cast.compactors; ++i) {
      add(fmt::format("compactor {}", i), 200 + i, true, seed * 47 + i, seed + 1200 + i, [=, this](Actor& a) {
        if (cast.two_places && !join(a, Place::kLedger)) return;
        compact(a, 1 + static_cast<int>(a.dice.below(2)), cast.dead);
      });
    }
  }

  std::unique_ptr<Actor> soloist(uint8_t number, bool keeper, uint64_t random_seed) {
    SignerId signer;
    signer.raw[0] = number;
    signer.raw[1] = 0xaa;
    signer.raw[15] = keeper ? 1 : 0;
    auto actor = std::make_unique<Actor>(*this, "alone", signer, random_seed, random_seed);
    actor->alone = true;
    actor->protocol.bugs = {};
    return actor;
  }

  // States to start from, made by the product's own code with nobody else about.
  const WorldState& start_with(bool wal) {
    std::unique_ptr<WorldState>& made = wal ? with_wal : with_commits;
    if (made) return *made;
    world.reset(nullptr);
    for (int i = 0; i < 3; ++i) {
      if (wal) {
        auto archiver = soloist(90, false, 10 + i);
        archive(*archiver, 2);
      }
      auto writer = soloist(80 + i, false, 40 + i);
      write(*writer, 8, 0, wal);
    }
    CHECK(world.state().commits.size() == 3);
    return *(made = std::make_unique<WorldState>(world.state()));
  }

  // A vault of two places with two snapshots.
  const WorldState& start_two_places() {
    if (with_ledger) return *with_ledger;
    WorldState empty;
    empty.two_places = true;
    world.reset(&empty);
    auto owner = soloist(160, true, 70);
    CHECK(found(*owner, Place::kLedger));
    for (int i = 0; i < 2; ++i) {
      auto writer = soloist(80 + i, false, 60 + i);
      CHECK(join(*writer, Place::kLedger));
      write(*writer, 8, 0, false);
    }
    CHECK(world.state().commits.size() == 2 && !world.violation());
    return *(with_ledger = std::make_unique<WorldState>(world.state()));
  }

  // Some of the source's snapshots are copied; of one, a plan has condemned what a dead copier had put.
  const WorldState& start_replica(bool thin) {
    std::unique_ptr<WorldState>& known = thin ? with_thin_copies : with_copies;
    source = thin ? &start_thin() : &start_with(false);
    if (known) return *known;
    world.reset(nullptr);
    auto dead = soloist(180, true, 71);
    SourceStore source_store(*source);
    Protocol source_protocol{source_store, dead->protocol.codec, dead->clock,
                             dead->random, dead->protocol.self,  dead->protocol.may_delete};
    Ledger from(source_protocol);
    auto there = from.read_commits();
    CHECK(there && there->visible.size() >= 2);
    Transfer transfer(dead->protocol, source_store);
    Copier copier(dead->protocol, from, transfer);
    CHECK(copier.copy(*there->visible[0], {}));
    // It fails before its commit, and says so; then a collection begins and is left.
    auto failed = copier.copy(*there->visible[1], {.before_commit = [](const WriterSession&) -> Result<void> {
      return fail(ErrorKind::kInterrupted, "stopped");
    }});
    CHECK(!failed && !world.violation());
    return *(known = std::make_unique<WorldState>(world.state()));
  }

  void prune_below(int64_t started_ns, bool two_places = false) {
    auto pruner = soloist(110, true, static_cast<uint64_t>(150 + started_ns));
    if (two_places) CHECK(join(*pruner, Place::kLedger));
    CHECK(
        Pruner(pruner->protocol).run([&](const CommitListing& commits) -> Result<std::vector<PruneProposal>> {
          std::vector<PruneProposal> proposals;
          for (const VisibleCommit* commit : commits.visible) {
            if (commit->record.started_ns < started_ns) proposals.push_back({commit->name, "simulated"});
          }
          return proposals;
        }));
  }

  // Thin packs that were made while a session was open which then referred to other frames; what they were
  // made for is pruned.
  const WorldState& start_moved() {
    if (with_moved) return *with_moved;
    world.reset(&start_thin());
    auto writer = soloist(84, false, 160);
    WriterOptions w{.resource = resource(), .snapshot = writer->random.id<SnapshotId>()};
    for (const auto& [name, commit] : world.state().commits) {
      if (commit.visible) w.parents.push_back(name);
    }
    auto session = WriterSession::open(writer->protocol, w);
    CHECK(session && (*session)->parents().size() == 2);
    const bool first_is_older = (*session)->parents()[0].commit->record.started_ns <
                                (*session)->parents()[1].commit->record.started_ns;
    const LiveRecord& older = *(*session)->parents()[first_is_older ? 0 : 1].live;
    const LiveRecord& newer = *(*session)->parents()[first_is_older ? 1 : 0].live;
    LiveRecord live;
    for (const LivePack& pack : older.packs) {
      auto also = std::ranges::find(newer.packs, pack.name, &LivePack::name);
      const uint32_t only = mask_of(pack.frames) & ~(also == newer.packs.end() ? 0 : mask_of(also->frames));
      if (also == newer.packs.end() || only == 0) continue;
      live.packs.push_back(pack);
      live.packs.back().frames = ranges_of(only & (~only + 1));
    }
    CHECK(!live.packs.empty());
    prune_below(4);
    auto keeper = soloist(210, true, 161);
    SimulatedThinPacks thin(keeper->protocol);
    auto report = Compactor(keeper->protocol, thin).run({.live_share_max = 0.95});
    CHECK(report && report->packs > 0);
    CHECK((*session)->commit({.kind = "simulated", .started_ns = 9, .finished_ns = 9}, live));
    prune_below(9);
    CHECK(!world.violation());
    return *(with_moved = std::make_unique<WorldState>(world.state()));
  }

  // The first two of four snapshots are pruned; of some of their packs the others need a frame or two.
  const WorldState& start_thin(bool two_places = false) {
    std::unique_ptr<WorldState>& known = two_places ? with_thin_ledger : with_thin;
    if (known) return *known;
    WorldState empty;
    empty.two_places = two_places;
    world.reset(&empty);
    if (two_places) {
      auto owner = soloist(160, true, 70);
      CHECK(found(*owner, Place::kLedger));
    }
    for (int i = 0; i < 4; ++i) {
      auto writer = soloist(static_cast<uint8_t>(80 + i), false, 140 + static_cast<uint64_t>(i));
      if (two_places) CHECK(join(*writer, Place::kLedger));
      WriterOptions w{.resource = resource(), .snapshot = writer->random.id<SnapshotId>()};
      for (const auto& [name, commit] : world.state().commits) w.parents.push_back(name);
      auto session = WriterSession::open(writer->protocol, w);
      CHECK(session);
      LiveRecord live;
      for (int k = 0; k < 2; ++k) {
        Bytes content(kWholePackBytes);
        store_le(content.data(), writer->dice.next());
        LivePack pack{
            .name = (*session)->next_pack_name(), .size = content.size(), .frames = {{0, kPackFrames}}};
        store_le(pack.trailer_digest.raw.data(), quick_hash(content));
        CHECK((*session)->put_object(pack.name, content));
        live.packs.push_back(std::move(pack));
      }
      for (const Parent& parent : (*session)->parents()) {
        for (const LivePack& pack : parent.live->packs) {
          const bool there =
              std::ranges::any_of(live.packs, [&](const LivePack& p) { return p.name == pack.name; });
          const uint32_t fewer = mask_of(pack.frames) & (1 + writer->dice.below((1u << kPackFrames) - 1));
          if (there || fewer == 0) continue;
          live.packs.push_back(pack);
          live.packs.back().frames = ranges_of(fewer);
        }
      }
      CHECK((*session)->commit({.kind = "simulated", .started_ns = i + 1, .finished_ns = i + 1}, live));
    }
    prune_below(3, two_places);
    CHECK(!world.violation());
    return *(known = std::make_unique<WorldState>(world.state()));
  }

  // A plan condemns what a pruned snapshot needed; a session it waits for commits a reference to it.
  const WorldState& start_rescue() {
    if (with_rescue) return *with_rescue;
    world.reset(&start_with(false));
    auto pruner = soloist(110, true, 50);
    auto collector = soloist(100, true, 51);
    auto writer = soloist(60, false, 52);
    std::string parent = world.state().commits.begin()->first;
    WriterOptions w{.resource = resource(), .snapshot = writer->random.id<SnapshotId>(), .parents = {parent}};
    auto session = WriterSession::open(writer->protocol, w);
    CHECK(session && (*session)->parents().size() == 1);
    CHECK(Pruner(pruner->protocol).run([&](const CommitListing&) -> Result<std::vector<PruneProposal>> {
      return std::vector<PruneProposal>{{parent, "simulated"}};
    }));
    auto report = Collector(collector->protocol).run({.sweep_share_max = 1});
    CHECK(report && report->outcome == CollectReport::Outcome::kWaiting);
    LiveRecord live{.packs = (*session)->parents()[0].live->packs};
    CHECK((*session)->commit({.kind = "simulated", .started_ns = 1}, live));
    CHECK(!world.violation());
    return *(with_rescue = std::make_unique<WorldState>(world.state()));
  }

  Scenario choose_scenario() {
    if (options.only) return *options.only;
    constexpr Scenario kOften[] = {
        Scenario::kPair,     Scenario::kPair,    Scenario::kPair,   Scenario::kPair,      Scenario::kPair,
        Scenario::kCrowd,    Scenario::kCrowd,   Scenario::kCrowd,  Scenario::kPeople,    Scenario::kPeople,
        Scenario::kReaders,  Scenario::kReaders, Scenario::kWal,    Scenario::kClones,    Scenario::kGarbled,
        Scenario::kRetained, Scenario::kRescue,  Scenario::kRescue, Scenario::kTwoPlaces, Scenario::kReplica};
    const Scenario drawn = kOften[dice.below(std::size(kOften))];
    if (drawn == Scenario::kReaders && seed % 2 == 1) return Scenario::kThin;
    return drawn == Scenario::kReplica && dice.one_in(2) ? Scenario::kRot : drawn;
  }

  void set_stage(Scenario scenario) {
    faults = {};
    if (dice.one_in(2)) {
      faults = {.unknown = 2 + dice.below(12), .late = 50, .repeat = 40};
      faults.crash = dice.one_in(2) ? 25 : 0;
    }
    if (dice.one_in(3)) faults.page = 1 + dice.below(4);
    // Made before anything else is drawn, so that a start state that is made just now changes no draw.
    PlantedBug bug = std::exchange(options.bug, PlantedBug::kNone);
    Faults drawn = std::exchange(faults, {});
    bool traced = std::exchange(options.trace, false);
    bool wal = scenario == Scenario::kWal;
    // In a vault with a ledger, a copy or a damaged one, thin packs are made now and then.
    const bool thins = seed % 3 == 0;
    const WorldState* start = scenario == Scenario::kRescue ? &start_rescue()
                              : scenario == Scenario::kTwoPlaces
                                  ? (thins ? &start_thin(true) : &start_two_places())
                              : scenario == Scenario::kReplica      ? &start_replica(thins)
                              : scenario == Scenario::kRot && thins ? &start_thin()
                              : scenario == Scenario::kThin ? (seed % 4 == 0 ? &start_moved() : &start_thin())
                                                            : &start_with(wal);
    options.bug = bug;
    options.trace = traced;
    faults = drawn;
    result = {};
    Cast cast{.dead = dice.one_in(3) ? 0u : 40u};
    const bool own_start = scenario == Scenario::kThin || scenario == Scenario::kRescue ||
                           scenario == Scenario::kTwoPlaces || scenario == Scenario::kRot;
    if (!own_start && dice.one_in(6) && !wal) start = nullptr;
    switch (scenario) {
      case Scenario::kPair:
      case Scenario::kScenarios:
        cast.attempts = 1 + dice.below(2);
        cast.pruners = 1;
        cast.collections = 1 + dice.below(2);
        break;
      case Scenario::kCrowd:
        cast.writers = 2;
        cast.attempts = 1 + dice.below(2);
        cast.collectors = 2;
        cast.pruners = 1;
        cast.prunes = 1 + dice.below(2);
        cast.give_up = dice.one_in(4);
        break;
      case Scenario::kPeople:
        cast.pruners = 2;
        cast.holders = 1;
        cast.provers = dice.below(2);
        cast.collectors = dice.below(2);
        cast.writers = dice.below(2);
        break;
      case Scenario::kReaders:
        cast.writers = dice.below(2);
        cast.readers = 1 + dice.below(2);
        cast.collectors = 1 + dice.below(2);
        cast.collections = 2;
        cast.pruners = 1;
        break;
      case Scenario::kWal:
        cast.writers = 2;
        cast.closed = 70;
        cast.archivers = 1;
        cast.pruners = 1;
        cast.prunes = 2;
        break;
      case Scenario::kClones:
        cast.writers = 2;
        cast.clones = true;
        cast.collectors = dice.below(2);
        break;
      case Scenario::kGarbled:
        faults.garbled = 5 + dice.below(60);
        cast.pruners = 1;
        cast.collections = 2;
        break;
      case Scenario::kRetained:
        faults.retained = 40;
        cast.pruners = 1;
        cast.collections = 2;
        break;
      case Scenario::kRescue:
        cast.writers = 1 + dice.below(2);
        cast.closed = 20;
        cast.collectors = 2;
        cast.collections = 1 + dice.below(2);
        cast.pruners = 1;
        cast.give_up = dice.one_in(3);
        break;
      case Scenario::kTwoPlaces:
        cast.two_places = true;
        cast.writers = 1 + dice.below(2);
        cast.pruners = dice.one_in(2) ? 1 : 0;
        cast.holders = dice.one_in(4) ? 1 : 0;
        cast.readers = dice.one_in(4) ? 1 : 0;
        cast.owners = dice.one_in(8) ? 0 : 1;
        cast.newcomers = dice.below(3);
        cast.compactors = thins ? 1 : 0;
        break;
      case Scenario::kReplica:
        cast.writers = dice.one_in(4) ? 1 : 0;
        cast.copiers = 1 + dice.below(2);
        cast.attempts = 1 + dice.below(2);
        cast.collectors = 1 + dice.below(2);
        cast.collections = 2;
        cast.pruners = dice.one_in(3) ? 1 : 0;
        if (thins) cast.compactors = 1 + dice.below(2), cast.writers = cast.pruners = 1;
        break;
      case Scenario::kRot:
        source = start;
        faults.garbled = dice.one_in(3) ? 10 + dice.below(60) : 0;
        cast.writers = dice.below(2);
        cast.healers = 1 + dice.below(2);
        cast.attempts = 1 + dice.below(2);
        cast.readers = dice.one_in(3) ? 1 : 0;
        cast.collectors = dice.below(3);
        cast.pruners = dice.one_in(2) ? 1 : 0;
        cast.compactors = thins ? 1 : 0;
        break;
      case Scenario::kThin:
        cast.writers = 1 + dice.below(2);
        cast.attempts = 1 + dice.below(2);
        cast.compactors = 1 + dice.below(2);
        cast.collectors = dice.below(2);
        cast.collections = 2;
        cast.pruners = 1;
        cast.prunes = 1 + dice.below(2);
        cast.readers = dice.one_in(3) ? 1 : 0;
        if (dice.one_in(8)) faults.retained = 30;
        break;
    }
    world.reset(start);
    has_copiers = cast.copiers != 0;
    has_healers = cast.healers != 0;
    has_compactors = cast.compactors != 0;
    if (has_healers) spoil_some();
    stage(cast, wal);
    stage_compactors(cast);
    uint32_t way = dice.below(10);
    strategy = way < 2 ? Strategy::kWalk : way < 6 ? Strategy::kSticky : Strategy::kPriorities;
    constexpr uint32_t kSwitch[] = {2, 4, 8, 16, 32, 64};
    switch_one_in = kSwitch[dice.below(std::size(kSwitch))];
    change_at.clear();
    for (int d = 1 + dice.below(6); d > 0; --d) change_at.push_back(dice.below(50u << dice.below(4)));
    std::ranges::sort(change_at, std::greater<>());
  }

  ScheduleResult play() {
    steps = 0;
    stopping = false;
    pending.clear();
    run_fibers();
    result.endless = steps >= kStepsMax;
    actors.clear();
    for (Pending& effect : pending) land(effect);
    // I12, now and then: it costs as much as the schedule.
    bool at_rest = !world.violation() && !result.endless && faults.retained == 0 && dice.one_in(6);
    if (at_rest) {
      faults = {};
      const bool two_places = world.state().two_places;
      if (two_places && (world.state().begun > world.state().sealed || dice.one_in(3))) {
        auto owner = soloist(161, true, seed ^ 78);
        if (!found(*owner, Place::kNewLedger)) world.violate("I12", "a lone owner cannot found a ledger");
      }
      if (has_healers) {
        // Before the collector: it stops at a live record that it cannot read.
        auto healer = soloist(191, true, seed ^ 81);
        healer->protocol.bugs = {options.bug};
        heal(*healer, 2);
        world.check_all_whole();
      }
      auto collector = soloist(101, true, seed ^ 77);
      if (two_places && !join(*collector, world.state().in_force))
        world.violate("I12", "a lone collector cannot open the ledger");
      for (int i = 0; i < kSoloCollections && !world.violation(); ++i) {
        CollectOptions c{.sweep_share_max = 1, .is_dead = [](const OpenSession&) { return true; }};
        SimulatedThinPacks thin(collector->protocol);
        auto report = Collector(collector->protocol, &thin).run(c);
        if (!report) world.violate("I12", "a lone collector fails: " + report.error().what);
      }
      if (!world.violation()) world.check_nothing_left();
      if (!world.violation() && two_places) {
        auto viewer = soloist(162, true, seed ^ 80);
        viewer->protocol.bugs = {options.bug};
        if (join(*viewer, world.state().in_force)) check_views(*viewer);
      }
      if (!world.violation() && has_copiers) {
        auto copier = soloist(182, true, seed ^ 79);
        copier->protocol.bugs = {options.bug};
        if (!copy(*copier, 2)) world.violate("C5", "a lone copier cannot copy what is left");
      }
    }
    result.steps = steps;
    result.violation = world.violation();
    return result;
  }

  ScheduleResult run(uint64_t new_seed) {
    seed = new_seed;
    dice = Dice(seed);
    result = {};
    steps = 0;
    script.clear();
    set_stage(choose_scenario());
    return play();
  }

  ScheduleResult run_scripted(uint64_t new_seed, const std::vector<Preemption>& preemptions, AtEnd end) {
    seed = new_seed;
    at_end = end;
    dice = Dice(seed);
    steps = 0;
    faults = {};
    PlantedBug bug = std::exchange(options.bug, PlantedBug::kNone);
    const WorldState* start = &start_with(false);
    options.bug = bug;
    result = {};
    world.reset(start);
    stage({.pruners = 1, .closed = 0, .dead = 0}, false);
    strategy = Strategy::kScripted;
    script = preemptions;
    return play();
  }

  SimulationOptions options;
  PlainCodec peek{SignerId{}};
  World world;
  std::unique_ptr<WorldState> with_commits, with_wal, with_rescue, with_ledger, with_copies, with_thin,
      with_moved, with_thin_ledger, with_thin_copies;
  const WorldState* source = nullptr;  // of copies
  bool has_copiers = false, has_healers = false, has_compactors = false;
  uint64_t seed = 0;
  Dice dice;
  Faults faults;
  std::vector<std::unique_ptr<Actor>> actors;
  std::vector<Actor*> runnable;
  Actor* next = nullptr;
  std::vector<Pending> pending;
  Strategy strategy = Strategy::kWalk;
  uint32_t switch_one_in = 4;
  std::vector<uint64_t> change_at;  // descending
  std::vector<Preemption> script;
  AtEnd at_end = AtEnd::kFirst;
  uint64_t steps = 0;
  bool stopping = false;
  ScheduleResult result;
};

Simulation::Simulation(SimulationOptions options) : run_(std::make_unique<Run>(std::move(options))) {}
Simulation::~Simulation() = default;
ScheduleResult Simulation::run(uint64_t seed) {
  return run_->run(seed);
}
ScheduleResult Simulation::run_scripted(uint64_t seed, const std::vector<Preemption>& preemptions,
                                        AtEnd at_end) {
  return run_->run_scripted(seed, preemptions, at_end);
}

ExhaustiveResult run_preemptions(const SimulationOptions& options, uint64_t seed, int preemptions_max,
                                 uint64_t stride) {
  constexpr uint32_t kActors = 3;  // of kPair
  Simulation simulation(options);
  ExhaustiveResult all;
  auto at_end = Simulation::AtEnd::kFirst;
  auto try_one = [&](const std::vector<Preemption>& preemptions) {
    ScheduleResult result = simulation.run_scripted(seed, preemptions, at_end);
    ++all.schedules;
    if (result.violation && !all.violation) {
      all.violation = result.violation;
      all.preemptions = preemptions;
    }
    return result.steps;
  };
  for (uint32_t way = 0; way < 2 * kActors && !all.violation; ++way) {
    const uint32_t first = way % kActors;
    at_end = way < kActors ? Simulation::AtEnd::kFirst : Simulation::AtEnd::kLast;
    uint64_t steps = try_one({{0, first}});
    for (uint64_t at = 1; at < steps && !all.violation; ++at) {
      for (uint32_t to = 0; to < kActors && !all.violation; ++to) {
        uint64_t steps_then = try_one({{0, first}, {at, to}});
        if (preemptions_max < 2) continue;
        for (uint64_t again = at + 1 + (at % stride); again < steps_then && !all.violation; again += stride) {
          for (uint32_t then = 0; then < kActors && !all.violation; ++then) {
            try_one({{0, first}, {at, to}, {again, then}});
          }
        }
      }
    }
  }
  return all;
}

}  // namespace kuramori::testing
