// simulation [--schedules N] [--seed S] [--workers W] [--bug B] [--scenario K] [--mute I9] [--trace]
//
// Runs N schedules of the safety protocol with the seeds S, S+1 …; a violation prints its seed and ends
// with 1.
// `--schedules 1 --seed S --trace` replays it step by step. `--bug B` plants a mistake
// (src/vault/protocol.h); then a violation is what must be found, and finding none ends with 1.
#include <fmt/core.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>

#include "testing/simulation.h"

using namespace kuramori;
using namespace kuramori::testing;

namespace {

uint64_t number(const char* text) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != 0) {
    fmt::print(stderr, "not a number: {}\n", text);
    std::exit(2);
  }
  return value;
}

struct Sum {
  uint64_t schedules = 0, steps = 0, endless = 0, commits = 0, sweeps = 0, deletes = 0, prunes = 0,
           fences = 0, holds = 0, reads = 0, copies = 0, epochs = 0, heals = 0, thinned = 0, violations = 0;
};

}  // namespace

int main(int argc, char** argv) {
  uint64_t schedules = 10'000, seed = 1, workers = 2;
  SimulationOptions options;
  for (int i = 1; i < argc; ++i) {
    std::string_view flag = argv[i];
    if (flag == "--trace") {
      options.trace = true;
      continue;
    }
    if (i + 1 == argc) {
      fmt::print(stderr, "{} needs a value\n", flag);
      return 2;
    }
    if (flag == "--mute") {
      options.muted.emplace_back(argv[++i]);
      continue;
    }
    const uint64_t value = number(argv[++i]);
    if (flag == "--schedules") {
      schedules = value;
    } else if (flag == "--seed") {
      seed = value;
    } else if (flag == "--workers") {
      workers = std::max<uint64_t>(1, value);
    } else if (flag == "--bug") {
      options.bug = static_cast<PlantedBug>(value);
    } else if (flag == "--scenario") {
      options.only = static_cast<Scenario>(value);
    } else {
      fmt::print(stderr, "unknown option {}\n", flag);
      return 2;
    }
  }

  std::mutex mutex;
  Sum sum;
  std::atomic<bool> found = false;
  auto began = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> threads;
    for (uint64_t worker = 0; worker < workers; ++worker) {
      threads.emplace_back([&, worker] {
        Simulation simulation(options);
        Sum own;
        for (uint64_t i = worker; i < schedules && !found; i += workers) {
          ScheduleResult result = simulation.run(seed + i);
          ++own.schedules;
          own.steps += result.steps;
          own.endless += result.endless;
          own.commits += result.commits;
          own.sweeps += result.sweeps;
          own.deletes += result.deletes;
          own.prunes += result.prunes;
          own.fences += result.fences;
          own.holds += result.holds;
          own.reads += result.reads;
          own.copies += result.copies;
          own.epochs += result.epochs;
          own.heals += result.heals;
          own.thinned += result.thinned;
          if (!result.violation) continue;
          ++own.violations;
          found = true;
          std::lock_guard lock(mutex);
          fmt::print(
              "seed {}: {} is violated: {}\n  replay: simulation --schedules 1 --seed {} --bug {}{} "
              "--trace\n",
              seed + i, result.violation->invariant, result.violation->text, seed + i,
              static_cast<int>(options.bug),
              options.only ? fmt::format(" --scenario {}", static_cast<int>(*options.only)) : "");
        }
        std::lock_guard lock(mutex);
        sum.schedules += own.schedules;
        sum.steps += own.steps;
        sum.endless += own.endless;
        sum.commits += own.commits;
        sum.sweeps += own.sweeps;
        sum.deletes += own.deletes;
        sum.prunes += own.prunes;
        sum.fences += own.fences;
        sum.holds += own.holds;
        sum.reads += own.reads;
        sum.copies += own.copies;
        sum.epochs += own.epochs;
        sum.heals += own.heals;
        sum.thinned += own.thinned;
        sum.violations += own.violations;
      });
    }
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  fmt::print(
      "{} schedules, {} store calls in {:.1f} s ({:.0f} µs of a core each); {} commits, {} sweeps, {} "
      "deletes, "
      "{} prunes, {} fences, {} holds, {} reads, {} copies, {} epochs, {} heals, {} thinned; {} cut off\n",
      sum.schedules, sum.steps, seconds,
      seconds * 1e6 * static_cast<double>(workers) / static_cast<double>(sum.schedules), sum.commits,
      sum.sweeps, sum.deletes, sum.prunes, sum.fences, sum.holds, sum.reads, sum.copies, sum.epochs,
      sum.heals, sum.thinned, sum.endless);
  if (options.bug != PlantedBug::kNone) return sum.violations != 0 ? 0 : 1;
  return sum.violations == 0 ? 0 : 1;
}
