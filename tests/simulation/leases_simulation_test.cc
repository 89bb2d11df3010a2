// Daemons with the same plans on one vault, driven by the real scheduler and the real leases over a store in
// memory, on clocks of their own: killed, paused, cut off, with puts that are lost, late, repeated, and
// answered falsely.
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <deque>

#include "daemon/lease_book.h"
#include "policy/scheduling.h"
#include "store/fault.h"
#include "store/memory/memory_store.h"
#include "testing/plain_codec.h"
#include "testing/simulated_world.h"

namespace kuramori {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Duration kTick = milliseconds(500);
constexpr Duration kLease = seconds(20);
constexpr Duration kEvery = minutes(2);
constexpr Time kBegin = Time(seconds(1'800'000'000));
constexpr const char* kJob = "backup p/r";

// What every clock is a view of.
struct World {
  Duration passed{0};
  bool jobs_fail = true;  // now and then
  bool tells = false;     // what happens, line by line
  template <typename... Args>
  void tell(int node, fmt::format_string<Args...> text, Args&&... args) const {
    if (tells)
      fmt::print("{:9.1f} s  {}  {}\n", std::chrono::duration<double>(passed).count(), node,
                 fmt::format(text, std::forward<Args>(args)...));
  }
};

class SkewedClock final : public Clock {
 public:
  SkewedClock(World& world, Duration ahead, double rate) : world_(world), ahead_(ahead), rate_(rate) {}
  Time now() override { return kBegin + world_.passed + ahead_; }
  Duration steady() override {
    return seconds(1000) + Duration(static_cast<int64_t>(static_cast<double>(world_.passed.count()) * rate_));
  }
  void sleep(Duration duration) override { world_.passed += duration; }

 private:
  World& world_;
  Duration ahead_;
  double rate_;
};

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : dice_(seed) {}
  void fill(MutableByteView out) override {
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(dice_.next());
  }

 private:
  testing::Dice dice_;
};

// The one job's snapshots, as the vault would have them.
struct Snapshots {
  struct One {
    Time due;
    std::string run;
    int node;
  };
  std::vector<One> made;
  std::vector<std::string> false_claims;  // runs that counted as done when no snapshot served for them
  int jobs_at_once = 0, jobs_most = 0;
};

Job the_job() {
  Job job;
  job.id = kJob;
  job.plan = "p";
  job.resource = "r";
  job.vaults = {"v"};
  job.when.every = *parse_period("2m");
  job.lane = "source r";
  return job;
}

SignerId same_signer() {
  SignerId signer;
  signer.raw.fill(7);
  return signer;
}

// What one daemon's job loop does, a step at a time.
class Node {
 public:
  struct Options {
    int number = 0;
    Duration ahead{0};
    double rate = 1;
    uint64_t seed = 0;
    bool uses_leases = true;
  };
  Node(World& world, Store& store, Snapshots& snapshots, Options options)
      : options_(options),
        world_(world),
        clock_(world, options.ahead, options.rate),
        random_(options.seed),
        codec_(same_signer(), options.seed),
        protocol_{.store = store,
                  .codec = codec_,
                  .clock = clock_,
                  .random = random_,
                  .self = same_signer(),
                  .may_delete = {}},
        snapshots_(snapshots),
        dice_(options.seed) {
    begin();
  }

  bool is_up() const { return scheduler_.has_value(); }
  int working() const { return job_ ? 1 : 0; }

  void kill() {
    world_.tell(options_.number, "killed");
    if (job_) snapshots_.jobs_at_once -= 1;
    job_.reset();
    book_.reset();
    scheduler_.reset();
  }
  // With what the journal knows.
  void begin() {
    world_.tell(options_.number, "begins, {:+} s",
                std::chrono::duration_cast<seconds>(options_.ahead).count());
    scheduler_.emplace(next_run_);
    book_.emplace(protocol_, fmt::format("journal{}", options_.number),
                  fmt::format("host{}", options_.number), kLease);
    scheduler_->set_jobs({the_job()}, JobLimits{}, memory_, now());
    for (const auto& [id, run] : open_) scheduler_->take_up(run, now());
  }

  // The daemon's half of a tick; the job's is separate, for the daemon may be stopped while its job works.
  void tick() {
    if (!is_up()) return;
    if (options_.uses_leases) {
      for (const names::JobKey& job : book_->due_for_renewal()) {
        const auto renewed = book_->renew(job);
        if (!renewed || !*renewed)
          world_.tell(options_.number, "renewal: {}", renewed ? "gone to another" : renewed.error().what);
        if (renewed && !*renewed) stop_job();
      }
      if (book_->is_overdue(key())) stop_job();
    }
    if (job_ && job_->is_over) finish();
    if (job_ && job_->stopped) end_run({.code = 1, .why = "stopped"}, LeaseEnd::kReleased);
    const Step step = scheduler_->step(now());
    for (const auto& [id, memory] : step.remembered)
      memory_[id].watched_until = memory.watched_until, memory_[id].when = memory.when;
    for (const Run& run : step.changed) {
      next_run_ = std::max(next_run_, run.id + 1);
      if (is_over(run.state))
        open_.erase(run.id);
      else
        open_[run.id] = run;
      auto& had = memory_[run.job].had_run;
      if (std::ranges::find(had, run.due) == had.end()) had.push_back(run.due);
    }
    for (const Run& run : step.start) start(run);
  }

  void work() {
    if (!job_ || job_->is_over || job_->stopped) return;
    if (clock_.steady() < job_->ends_at) return;
    job_->is_over = true;
    if (job_->fails) return;
    // What is asked and what is done are one instant here: nothing closes the gap between them but its
    // shortness.
    if (job_->mark && !must_still_hold(protocol_, *job_->mark)) {
      job_->fails = true;
      world_.tell(options_.number, "{} no longer holds {}", job_->tag, job_->mark->number);
      return;
    }
    world_.tell(options_.number, "{} makes a snapshot for {}", job_->tag, moment(job_->run.due));
    snapshots_.made.push_back({job_->run.due, job_->tag, options_.number});
  }

 private:
  struct Working {
    Run run;
    std::string tag;
    std::optional<LeaseMark> mark;
    Duration ends_at{0};
    bool fails = false, is_over = false, stopped = false;
  };

  Now now() { return {clock_.now(), clock_.steady()}; }
  names::JobKey key() const {
    names::JobKey job;
    job.raw.fill(3);
    return job;
  }
  std::string tag_of(const Run& run) const { return fmt::format("journal{}-{}", options_.number, run.id); }
  bool stands(const std::string& tag) const {
    return std::ranges::any_of(snapshots_.made, [&](const Snapshots::One& one) { return one.run == tag; });
  }
  static int64_t moment(Time due) { return std::chrono::duration_cast<seconds>(due - kBegin).count(); }
  void stop_job() {
    if (job_) job_->stopped = true;
  }

  void start(const Run& run) {
    const std::string tag = tag_of(run);
    LeaseAnswer answer{.kind = LeaseAnswer::Kind::kMine};
    std::optional<LeaseMark> mark;
    if (options_.uses_leases) {
      auto asked = book_->ask({.job = key(), .due = run.due, .apart = {}}, tag);
      if (!asked) world_.tell(options_.number, "{} for {}: {}", tag, moment(run.due), asked.error().what);
      if (!asked) return scheduler_->ended(run.id, {.code = 1, .why = asked.error().what}, now());
      answer = *asked;
      mark = LeaseMark{key(), answer.number, tag};
      world_.tell(
          options_.number, "{} for {}: {} {} {} [{}]{}", tag, moment(run.due),
          answer.kind == LeaseAnswer::Kind::kMine   ? "mine"
          : answer.kind == LeaseAnswer::Kind::kHeld ? "held"
                                                    : "done",
          answer.number, answer.by, fmt::join(answer.tried, " "),
          answer.kind == LeaseAnswer::Kind::kDone ? fmt::format(" for {}", moment(answer.done_due)) : "");
    }
    if (answer.kind == LeaseAnswer::Kind::kHeld)
      return scheduler_->held_elsewhere(run.id, kLease / 3, answer.by, now());
    if (answer.kind == LeaseAnswer::Kind::kDone) {
      check_claim(tag, run.due);
      return scheduler_->done_elsewhere(run.id, answer.done_due, answer.by, now());
    }
    std::string stood;
    for (const std::string& tried : answer.tried)
      if (stands(tried)) stood = tried;
    if (run.attempt > 1 && stands(tag)) stood = tag;
    job_ =
        Working{.run = run, .tag = tag, .mark = mark, .ends_at = clock_.steady() + seconds(dice_.below(90))};
    job_->fails = world_.jobs_fail && dice_.one_in(8);
    snapshots_.jobs_at_once += 1;
    snapshots_.jobs_most = std::max(snapshots_.jobs_most, snapshots_.jobs_at_once);
    if (!stood.empty()) end_run({}, LeaseEnd::kDone, stood);
  }
  // Of a run that counts as done: its moment, or a later one, has its snapshot.
  void check_claim(const std::string& tag, Time due) {
    if (std::ranges::any_of(snapshots_.made, [&](const Snapshots::One& one) { return one.due >= due; }))
      return;
    snapshots_.false_claims.push_back(fmt::format("{} for {}", tag, moment(due)));
    world_.tell(options_.number, "{} for {} counts as done, and is not", tag, moment(due));
  }
  void finish() {
    if (job_->fails)
      end_run({.code = 1, .why = "it failed"}, LeaseEnd::kReleased);
    else
      end_run({}, LeaseEnd::kDone);
  }
  void end_run(const Ending& ending, LeaseEnd end, const std::string& stood = {}) {
    if (ending.code == 0) check_claim(job_->tag, job_->run.due);
    const int64_t run = job_->run.id;
    const std::string tag = job_->tag;
    job_.reset();
    snapshots_.jobs_at_once -= 1;
    scheduler_->ended(run, ending, now());
    if (!options_.uses_leases) return;
    const auto told = book_->end(key(), end, stood);
    world_.tell(options_.number, "{} {} {} {}", tag, ending.code == 0 ? "succeeds" : "fails", ending.why,
                told ? "" : told.error().what);
  }

  const Options options_;
  World& world_;
  SkewedClock clock_;
  SeededRandom random_;
  testing::PlainCodec codec_;
  Protocol protocol_;
  Snapshots& snapshots_;
  testing::Dice dice_;
  // The journal.
  std::map<std::string, JobMemory> memory_;
  std::map<int64_t, Run> open_;
  int64_t next_run_ = 1;
  // The process.
  std::optional<Scheduler> scheduler_;
  std::optional<LeaseBook> book_;
  std::optional<Working> job_;
};

struct Outcome {
  Snapshots snapshots;
  std::vector<Time> slots;  // all that were due while the world was quiet, at the end
  size_t leases_left = 0;
};

struct Scenario {
  uint64_t seed = 0;
  Duration skew_max = minutes(20);
  bool uses_leases = true;
  bool pauses = true;
  bool tells = false;
  double faults = 0.03;
};

Outcome play(const Scenario& scenario) {
  testing::Dice dice(scenario.seed);
  World world{.passed = {}, .tells = scenario.tells};
  SkewedClock store_clock(world, Duration(0), 1);
  const auto memory = make_memory_store(&store_clock);
  const auto faulty = make_faulty_store(*memory, {});
  auto trouble = [&] {
    FaultPlan plan =
        random_faults(scenario.seed, scenario.faults,
                      {Fault::kFail, Fault::kUnknownUndone, Fault::kUnknownDone, Fault::kDelay, Fault::kLie});
    plan.choose = [inner = plan.choose](uint64_t number, StoreCall call, std::string_view name) {
      // A store that lies about what it lists or holds is no store (probed before a vault is made).
      return call == StoreCall::kPut || call == StoreCall::kRemove ? inner(number, call, name) : Fault::kNone;
    };
    return plan;
  };
  if (scenario.faults > 0) faulty->set_plan(trouble());
  Outcome outcome;
  const int count = 2 + static_cast<int>(dice.below(2));
  std::deque<Node> nodes;
  const int64_t skew_seconds = std::chrono::ceil<seconds>(scenario.skew_max).count();
  for (int i = 0; i < count; ++i) {
    const auto ahead =
        seconds(static_cast<int64_t>(dice.below(static_cast<uint32_t>(2 * skew_seconds + 1))) - skew_seconds);
    nodes.emplace_back(world, *faulty, outcome.snapshots,
                       Node::Options{.number = i,
                                     .ahead = ahead,
                                     .rate = 1 + (static_cast<double>(dice.below(200)) - 100) * 1e-5,
                                     .seed = scenario.seed * 31 + static_cast<uint64_t>(i) + 1,
                                     .uses_leases = scenario.uses_leases});
  }
  std::vector<Duration> silent_until(static_cast<size_t>(count)), down_until(static_cast<size_t>(count));
  const Duration busy = minutes(60), whole = minutes(150);
  bool is_quiet = false;
  while (world.passed < whole) {
    world.passed += kTick;
    if (!is_quiet && world.passed >= busy) {
      is_quiet = true;
      world.jobs_fail = false;
      faulty->set_plan({});
      faulty->land_all_delayed();
    }
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (!is_quiet && dice.one_in(1200)) {
        nodes[i].kill();
        down_until[i] = world.passed + seconds(dice.below(400));
      }
      if (!is_quiet && scenario.pauses && dice.one_in(900)) {
        silent_until[i] = world.passed + seconds(dice.below(200));
        world.tell(static_cast<int>(i), "stands still until {}",
                   std::chrono::duration<double>(silent_until[i]).count());
      }
      if (!nodes[i].is_up() && (is_quiet || world.passed >= down_until[i])) nodes[i].begin();
      // Paused with its job, or without it: the job's own look before its commit is for that.
      const bool is_silent = !is_quiet && world.passed < silent_until[i];
      if (!is_silent || (scenario.seed + i) % 2 == 0) nodes[i].work();
      if (!is_silent) nodes[i].tick();
    }
  }
  // Of the quiet time, by every clock: from some minutes after it began until some before the end.
  const Time from = kBegin + busy + scenario.skew_max + minutes(6),
             to = kBegin + whole - scenario.skew_max - minutes(4);
  const int64_t step = std::chrono::ceil<seconds>(kEvery).count();
  for (int64_t at = to_unix_ns(from) / 1'000'000'000 / step * step + step;
       from_unix_ns(at * 1'000'000'000) < to; at += step)
    outcome.slots.push_back(from_unix_ns(at * 1'000'000'000));
  auto listed = memory->list(names::kLeases, "", kListPageMax);
  outcome.leases_left = listed ? listed->objects.size() : SIZE_MAX;
  return outcome;
}

size_t times(const Outcome& outcome, Time due) {
  return static_cast<size_t>(std::ranges::count(outcome.snapshots.made, due, &Snapshots::One::due));
}
size_t doubles(const Outcome& outcome) {
  std::map<Time, size_t> by_due;
  for (const Snapshots::One& one : outcome.snapshots.made) by_due[one.due] += 1;
  return static_cast<size_t>(std::ranges::count_if(by_due, [](const auto& one) { return one.second > 1; }));
}

// KURAMORI_SEED=33 plays that one alone and tells what happens; KURAMORI_SEEDS=5000 plays so many.
uint64_t of_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Leases, B11_P69_no_slot_is_done_twice_and_none_is_forgotten_whatever_dies_or_stands_still) {
  const uint64_t only = of_environment("KURAMORI_SEED", 0);
  const uint64_t first = only == 0 ? 1 : only,
                 last = only == 0 ? of_environment("KURAMORI_SEEDS", 120) : only;
  const uint64_t played = last - first + 1;
  size_t slots = 0, nodes_that_worked = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    const Outcome outcome = play({.seed = seed, .tells = only != 0});
    EXPECT_EQ(doubles(outcome), 0u) << "seed " << seed;
    std::set<int> workers;
    for (const auto& one : outcome.snapshots.made) workers.insert(one.node);
    nodes_that_worked += workers.size();
    // Nothing was lost on the way; and of the quiet time, when no job fails, each moment has its own
    // snapshot.
    EXPECT_EQ(outcome.snapshots.false_claims, std::vector<std::string>{}) << "seed " << seed;
    for (Time slot : outcome.slots) EXPECT_EQ(times(outcome, slot), 1u) << "seed " << seed;
    slots += outcome.slots.size();
    // Of one job little is left lying: what a late put brought back, until a collection.
    EXPECT_LT(outcome.leases_left, 60u) << "seed " << seed;
  }
  EXPECT_GT(slots, played * 3);
  EXPECT_TRUE(only != 0 || nodes_that_worked > played * 2 - played / 4);  // the work is shared, or taken over
}

TEST(Leases, B11_while_nobody_is_paused_or_killed_no_two_work_at_once) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const Outcome outcome = play({.seed = seed, .skew_max = minutes(1), .pauses = false, .faults = 0});
    EXPECT_EQ(outcome.snapshots.jobs_most, 1) << "seed " << seed;
    for (Time slot : outcome.slots) EXPECT_LE(times(outcome, slot), 1u) << "seed " << seed;
  }
}

// The test of the test: without leases each daemon runs every slot.
TEST(Leases, without_them_slots_are_done_twice) {
  size_t twice = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) twice += doubles(play({.seed = seed, .uses_leases = false})) > 5;
  EXPECT_EQ(twice, 5u);
}

// One that a holder far ahead of time did counts for nothing here, however often it says so.
TEST(Leases, P61_what_a_clock_far_ahead_did_is_not_believed) {
  World world;
  const auto store = make_memory_store();
  Snapshots snapshots;
  auto protocol_on = [&](Clock& clock, RecordCodec& codec, Random& random) {
    return Protocol{.store = *store,
                    .codec = codec,
                    .clock = clock,
                    .random = random,
                    .self = same_signer(),
                    .may_delete = {}};
  };
  SkewedClock right(world, Duration(0), 1), ahead(world, std::chrono::hours(24 * 365), 1),
      little(world, minutes(30), 1);
  SeededRandom random(1);
  testing::PlainCodec codecs[] = {testing::PlainCodec(same_signer(), 1),
                                  testing::PlainCodec(same_signer(), 2),
                                  testing::PlainCodec(same_signer(), 3)};
  const Protocol protocols[] = {protocol_on(right, codecs[0], random), protocol_on(ahead, codecs[1], random),
                                protocol_on(little, codecs[2], random)};
  LeaseBook mine(protocols[0], "mine", "here", kLease), wrong(protocols[1], "wrong", "there", kLease),
      near(protocols[2], "near", "there", kLease);
  names::JobKey job;
  ASSERT_EQ(wrong.ask({job, ahead.now(), {}}, "wrong-1")->kind, LeaseAnswer::Kind::kMine);
  ASSERT_TRUE(wrong.end(job, LeaseEnd::kDone));
  EXPECT_EQ(mine.ask({job, right.now(), {}}, "mine-1")->kind, LeaseAnswer::Kind::kMine);
  ASSERT_TRUE(mine.end(job, LeaseEnd::kReleased));
  ASSERT_EQ(near.ask({job, little.now(), {}}, "near-1")->kind, LeaseAnswer::Kind::kMine);
  ASSERT_TRUE(near.end(job, LeaseEnd::kDone));
  EXPECT_EQ(mine.ask({job, right.now(), {}}, "mine-2")->kind, LeaseAnswer::Kind::kDone);
}

// A run answers for its own moment and those before it, and for no later one; what it answers is its own
// moment.
TEST(Leases, P69_what_was_tried_says_for_which_moment) {
  World world;
  const auto store = make_memory_store();
  SkewedClock clock(world, Duration(0), 1);
  SeededRandom random(1);
  testing::PlainCodec codecs[] = {testing::PlainCodec(same_signer(), 1),
                                  testing::PlainCodec(same_signer(), 2)};
  auto protocol_with = [&](RecordCodec& codec) {
    return Protocol{.store = *store,
                    .codec = codec,
                    .clock = clock,
                    .random = random,
                    .self = same_signer(),
                    .may_delete = {}};
  };
  const Protocol first = protocol_with(codecs[0]), second = protocol_with(codecs[1]);
  LeaseBook one(first, "one", "here", kLease), other(second, "other", "there", kLease);
  names::JobKey job;
  const Time noon = clock.now(), later = noon + kEvery;
  using Kind = LeaseAnswer::Kind;
  using Tags = std::vector<std::string>;
  auto take_over = [&](Time due, const std::string& tag) {
    EXPECT_EQ(other.ask({job, due, {}}, tag)->kind, Kind::kHeld);
    world.passed += take_over_after(kLease);
    return other.ask({job, due, {}}, tag);
  };
  // Of a later moment: it serves, and is what was done.
  ASSERT_EQ(one.ask({job, later, {}}, "one-1")->kind, Kind::kMine);
  auto taken = take_over(noon, "other-1");
  EXPECT_EQ(taken->tried, Tags{"one-1"});
  ASSERT_TRUE(other.end(job, LeaseEnd::kDone, "one-1"));
  const auto known = other.ask({job, later, {}}, "other-2");
  EXPECT_EQ(known->kind, Kind::kDone);
  EXPECT_EQ(known->done_due, later);
  // Of an earlier one: it does not serve, and is handed on to whom it serves.
  world.passed += 4 * kEvery;
  const Time next = later + kEvery, last = next + kEvery;
  ASSERT_EQ(one.ask({job, next, {}}, "one-2")->kind, Kind::kMine);
  taken = take_over(last, "other-3");
  EXPECT_EQ(taken->tried, Tags{});
  ASSERT_TRUE(other.end(job, LeaseEnd::kReleased));
  testing::PlainCodec codec(same_signer(), 3);
  const Protocol third = protocol_with(codec);
  LeaseBook slow(third, "slow", "elsewhere", kLease);
  EXPECT_EQ(slow.ask({job, next, {}}, "slow-1")->tried, (Tags{"one-2", "other-3"}));
  // Until that moment is done.
  ASSERT_TRUE(slow.end(job, LeaseEnd::kDone));
  EXPECT_EQ(slow.ask({job, last, {}}, "slow-2")->tried, Tags{"other-3"});
  ASSERT_TRUE(slow.end(job, LeaseEnd::kDone));
  EXPECT_EQ(newest_lease(third, job)->record->tried.size(), 0u);
}

TEST(Leases, a_daemon_alone_makes_six_calls_a_run) {
  World world;
  const auto memory = make_memory_store();
  const auto store = make_faulty_store(*memory, {});
  size_t calls = 0;
  FaultPlan counting;
  counting.choose = [&](uint64_t, StoreCall, std::string_view) {
    ++calls;
    return Fault::kNone;
  };
  store->set_plan(counting);
  SkewedClock clock(world, Duration(0), 1);
  SeededRandom random(1);
  testing::PlainCodec codecs[] = {testing::PlainCodec(same_signer(), 1),
                                  testing::PlainCodec(same_signer(), 2)};
  auto protocol_with = [&](RecordCodec& codec) {
    return Protocol{.store = *store,
                    .codec = codec,
                    .clock = clock,
                    .random = random,
                    .self = same_signer(),
                    .may_delete = {}};
  };
  const Protocol first = protocol_with(codecs[0]), second = protocol_with(codecs[1]);
  LeaseBook alone(first, "alone", "here", kLease), guest(second, "guest", "there", kLease);
  names::JobKey job;
  for (int run = 0; run < 20; ++run) {
    const size_t before = calls;
    ASSERT_EQ(alone.ask({job, clock.now(), {}}, fmt::format("alone-{}", run))->kind,
              LeaseAnswer::Kind::kMine);
    ASSERT_TRUE(alone.end(job, LeaseEnd::kDone));
    if (run > 0) {
      EXPECT_EQ(calls - before, 6u) << run;
    }
    world.passed += kEvery;
  }
  // That it remembers its own last word makes it believe nothing that is no longer so.
  ASSERT_EQ(guest.ask({job, clock.now(), {}}, "guest-1")->kind, LeaseAnswer::Kind::kMine);
  EXPECT_EQ(alone.ask({job, clock.now(), {}}, "alone-20")->kind, LeaseAnswer::Kind::kHeld);
  ASSERT_TRUE(guest.end(job, LeaseEnd::kDone));
  EXPECT_EQ(alone.ask({job, clock.now(), {}}, "alone-20")->kind, LeaseAnswer::Kind::kDone);
  EXPECT_EQ(memory->list(names::kLeases, "", kListPageMax)->objects.size(), 1u);
}

TEST(Leases, one_that_was_taken_over_is_told_before_its_commit_and_stops) {
  World world;
  const auto store = make_memory_store();
  SkewedClock clock(world, Duration(0), 1);
  SeededRandom random(1);
  testing::PlainCodec a(same_signer(), 1), b(same_signer(), 2);
  const Protocol first{
      .store = *store, .codec = a, .clock = clock, .random = random, .self = same_signer(), .may_delete = {}};
  const Protocol second{
      .store = *store, .codec = b, .clock = clock, .random = random, .self = same_signer(), .may_delete = {}};
  LeaseBook one(first, "one", "here", kLease), other(second, "other", "there", kLease);
  names::JobKey job;
  const LeaseSlot slot{job, clock.now(), {}};
  const auto mine = one.ask(slot, "one-1");
  ASSERT_EQ(mine->kind, LeaseAnswer::Kind::kMine);
  const LeaseMark mark{job, mine->number, "one-1"};
  EXPECT_EQ(parse_lease_mark(text_of(mark)), mark);
  EXPECT_FALSE(parse_lease_mark("nonsense"));
  EXPECT_EQ(other.ask(slot, "other-1")->kind, LeaseAnswer::Kind::kHeld);
  world.passed += take_over_after(kLease) - seconds(1);
  EXPECT_EQ(other.ask(slot, "other-1")->kind, LeaseAnswer::Kind::kHeld);
  EXPECT_TRUE(one.is_overdue(job));  // it would have stopped by now
  EXPECT_TRUE(must_still_hold(first, mark));
  world.passed += seconds(2);
  const auto taken = other.ask(slot, "other-1");
  ASSERT_EQ(taken->kind, LeaseAnswer::Kind::kMine);
  EXPECT_EQ(taken->tried, std::vector<std::string>{"one-1"});  // it may have succeeded without a word
  EXPECT_FALSE(must_still_hold(first, mark));
  EXPECT_FALSE(*one.renew(job));
  ASSERT_TRUE(other.end(job, LeaseEnd::kDone));
  EXPECT_EQ(one.ask(slot, "one-1")->kind, LeaseAnswer::Kind::kDone);
  EXPECT_EQ(*remove_old_leases(first), 0u);  // nothing but the highest is left
}

}  // namespace
}  // namespace kuramori
